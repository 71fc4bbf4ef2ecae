"""The twin in a pause: no requests, and the load continues normally after it."""

from __future__ import annotations

import numpy as np
import pytest

from reports import finish
from tests.twin.test_sim_run import CALM, asked, predict

BUSY, PAUSE = "{for: 5 s, rate: 40/s}", "{for: 10 s, rate: 0/s}"


@pytest.mark.parametrize(
    ("stages", "busy"),
    [
        ((BUSY, PAUSE, BUSY), [(0, 5), (15, 20)]),
        ((PAUSE, BUSY), [(10, 15)]),
        ((BUSY, PAUSE), [(0, 5)]),
        (("{for: 5 s, rate: 0/s..80/s}", PAUSE, "{for: 5 s, rate: 80/s..0/s}"), [(0, 5), (15, 20)]),
    ],
    ids=["between", "first", "last", "between ramps"],
)
def test_a_stage_with_rate_zero_is_a_pause_in_the_twin(tmp_path, stages, busy):
    """Every operation succeeds, none is due in the pause, and the report is written."""
    scenario = asked(
        CALM,
        f"workload.stages=[{', '.join(stages)}]",
        "measure.warm_up=0",
        "objectives=[home p50 <= 250 ms steady, errors < 1 % whole]",
    )

    prediction = predict(scenario)
    rows = prediction.facts.history
    due_s = (rows.loc[rows["route"] != "null", "due_ns"].to_numpy() - prediction.facts.windows.start_ns) / 1e9
    run = finish.finish(tmp_path, prediction.facts)

    assert (
        sum(int(((due_s >= start) & (due_s <= end + 0.2)).sum()) for start, end in busy) == len(due_s) > 100
    )
    assert set(rows["outcome"]) == {"ok"}
    assert np.isfinite(due_s).all()
    assert run.document["validity"]["verdict"] == "VALID"
    assert {objective["verdict"] for objective in run.document["objectives"]} == {"pass"}
    assert (run.path / "report.html").stat().st_size > 10_000


def test_a_fault_past_the_end_of_the_load_does_not_happen_in_the_twin():
    """k6 #1346: a fault that never happens must not count as survived.

    The twin simulates past the end of the load.
    """
    scenario = asked("faults=[{at: 14 s, kind: cache_loss, target: redis}]")

    assert predict(scenario).facts.windows.faults == ()
