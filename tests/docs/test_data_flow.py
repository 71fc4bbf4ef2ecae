"""The table of docs/data-flow.md: every box of the data flow has a scenario, a test and a metric, and all of them exist.

That the metrics move is shown on real servers, by tests/acceptance/test_acceptance_data_flow.py with this table as its data.
"""

from __future__ import annotations

import pytest

from system.kernel.telemetry.metric_table import METRICS
from tests.helpers import data_flow

ROOT = data_flow.PAGE.parents[1]
ROWS = data_flow.rows()
SERVERS = ("tests/integration/", "tests/acceptance/", "tests/clients/", "tests/browser/", "tests/drills/",
           "tests/regions/")


def gaps(row):
    """Return what a row names and does not exist, and what it does not name."""
    files = {file: (ROOT / file).read_text() if (ROOT / file).exists() else "" for file, _ in row.tests}
    known = {"job", "node"}
    return [
        *(f"no {what}" for what in ("scenarios", "tests", "metrics") if not getattr(row, what)),
        *(f"scenario {name}" for name in row.scenarios if not (ROOT / "scenarios" / "catalog" / f"{name}.yaml").exists()),
        *(f"test {file}::{name}" for file, name in row.tests if f"def {name}(" not in files[file]),
        *(f"{file} has no real server" for file, text in files.items()
          if not file.startswith(SERVERS) or "mark.real" not in text),
        *(f"metric {each.name}" for each in row.metrics if each.name not in METRICS),
        *(f"label {label} of {each.name}" for each in row.metrics if each.name in METRICS
          for label in each.labels if label not in known | set(METRICS[each.name].labels)),
    ]


def test_every_box_of_the_data_flow_has_its_row():
    """1, 2, 3, 4A to 4F, 5, 6, 7 and 8, in this order."""
    assert tuple(ROWS) == data_flow.BOXES


@pytest.mark.parametrize("box", data_flow.BOXES)
def test_a_box_names_a_scenario_a_test_on_real_servers_and_a_metric_which_all_exist(box):
    """A name that leads nowhere would be a claim without proof."""
    assert gaps(ROWS[box]) == []


@pytest.mark.parametrize("box", data_flow.BOXES)
def test_a_box_has_a_section_with_a_command(box):
    """The walk shows what the table claims."""
    heads = data_flow.PAGE.read_text().split("\n## ")[1:]
    (section,) = [text for text in heads if text.startswith(f"{box} ")]

    assert "```sh\n" in section


def test_a_name_that_does_not_exist_is_found():
    """Each kind of gap is reported by name."""
    broken = ('| 1 | `no_such_run` | `tests/integration/test_alerts.py::test_nothing` | `tweetlab_moods_total{job="gateway"}` '
              '`tweetlab_shed_total{colour="red"}` |\n| 2 | | `tests/unit/test_kernel_ids.py::test_x` | `tweetlab_shed_total` |')
    first, second = data_flow.rows(broken).values()

    assert gaps(first) == ["scenario no_such_run", "test tests/integration/test_alerts.py::test_nothing",
                           "metric tweetlab_moods_total", "label colour of tweetlab_shed_total"]
    assert gaps(second) == ["no scenarios", "test tests/unit/test_kernel_ids.py::test_x",
                            "tests/unit/test_kernel_ids.py has no real server"]


def test_a_metric_moved_if_its_value_changed_or_its_process_restarted():
    """A value that did not change, or that belongs to another process or label, has not moved."""
    wanted = data_flow.Selector("tweetlab_consumed_total", {"job": "liker", "result": "done"})
    was = {data_flow.STARTED: 5.0, 'tweetlab_consumed_total{result="done"}': 3.0, 'tweetlab_consumed_total{result="dead"}': 0.0}

    def then(job="liker", **changed):
        names = {"started": data_flow.STARTED, "done": 'tweetlab_consumed_total{result="done"}',
                 "dead": 'tweetlab_consumed_total{result="dead"}'}
        now = was | {names[key]: value for key, value in changed.items()}
        return data_flow.moved(wanted, {f"{job}/{job}-1": was}, {f"{job}/{job}-1": now})

    assert [then(), then(done=4.0), then(dead=1.0), then(job="fanout", done=4.0)] == [False, True, False, False]
    assert [then(started=6.0), then(started=6.0, done=0.0)] == [True, False]
