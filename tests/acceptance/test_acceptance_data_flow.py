"""The metrics that docs/data-flow.md names for each box move under real traffic: `first_run` on the lab, then one more instance.

The page's table is the data of this test. What the box of monitoring does with a service that dies is read from Prometheus
by tests/integration/test_alerts.py, in a lab that has one.
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
READS = 40  # by two instances in turn: the added one gets about half


def still(box, before, after):
    """Return the metrics of a box that did not move."""
    wanted = [each for each in data_flow.rows()[box].metrics if (box, each.labels.get("job")) != ("7", "gateway")]
    return [each for each in wanted if not data_flow.moved(each, before, after)]


@pytest.mark.parametrize("box", [box for box in data_flow.BOXES if box != "8"])
def test_every_metric_of_a_box_moves_under_the_first_run(traffic, box):
    """One that stands still while its box works would tell nothing when the box does not."""
    assert still(box, traffic.before, traffic.after) == []


def test_an_instance_that_is_added_answers_and_its_metrics_move(traffic):
    """Box 8: nothing is told of it before, requests are counted after."""
    assert tweetlab("scale", "timelines", "2").code == 0
    try:
        before = metrics()
        read_home()
        assert still("8", before, metrics()) == []
    finally:
        assert tweetlab("scale", "timelines", "1").code == 0


def read_home():
    """Read a seeded user's home, as anybody may who signs in."""
    door = session.public_url(native.Lab(ROOT, int(os.environ["TWEETLAB_RANGE"])))
    asked = {"grant_type": "password", "username": seeding.username(1), "password": seeding.PASSWORD}
    with urllib.request.urlopen(f"{door}/2/oauth2/token", urllib.parse.urlencode(asked).encode(), timeout=10) as answer:
        bearer = {"authorization": f"Bearer {json.loads(answer.read())['access_token']}"}
    for _ in range(READS):
        home = urllib.request.Request(f"{door}/2/users/1/timelines/reverse_chronological", headers=bearer)
        with urllib.request.urlopen(home, timeout=10) as answer:
            assert answer.status == 200
