"""The metrics that docs/data-flow.md lists for each box change under real traffic: `first_run`, then one more instance.

The page's table is the data of this test. The reaction of the monitoring box to a dying service is tested
with a real Prometheus by tests/integration/test_alerts.py.
"""

import json
import os
import urllib.parse
import urllib.request

import pytest

from system.platform import native
from tests.acceptance.conftest import metrics
from tests.helpers import data_flow
from tests.helpers.command import ROOT, tweetlab
from tweetlab.lab import session
from tweetlab.run import seeding

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.usefixtures("lab")]
READS = 40  # load-balanced over two instances: the added one gets about half


def unchanged(box, before, after):
    """Return the metrics of a box that did not change."""
    wanted = [metric for metric in data_flow.rows()[box].metrics if (box, metric.labels.get("job")) != ("7", "gateway")]
    return [metric for metric in wanted if not data_flow.moved(metric, before, after)]


@pytest.mark.parametrize("box", [box for box in data_flow.BOXES if box != "8"])
def test_every_metric_of_a_box_changes_under_the_first_run(traffic, box):
    """A metric that does not change while its box works could not reveal that the box fails."""
    assert unchanged(box, traffic.before, traffic.after) == []


def test_an_added_instance_serves_requests_and_its_metrics_change(traffic):
    """Box 8: it has no metrics before, and counts requests after."""
    assert tweetlab("scale", "timelines", "2").code == 0
    try:
        before = metrics()
        read_home()
        assert unchanged("8", before, metrics()) == []
    finally:
        assert tweetlab("scale", "timelines", "1").code == 0


def read_home():
    """Read a seeded user's home timeline after a login."""
    url = session.public_url(native.Lab(ROOT, int(os.environ["TWEETLAB_RANGE"])))
    form = {"grant_type": "password", "username": seeding.username(1), "password": seeding.PASSWORD}
    with urllib.request.urlopen(f"{url}/2/oauth2/token", urllib.parse.urlencode(form).encode(), timeout=10) as answer:
        bearer = {"authorization": f"Bearer {json.loads(answer.read())['access_token']}"}
    for _ in range(READS):
        home = urllib.request.Request(f"{url}/2/users/1/timelines/reverse_chronological", headers=bearer)
        with urllib.request.urlopen(home, timeout=10) as answer:
            assert answer.status == 200
