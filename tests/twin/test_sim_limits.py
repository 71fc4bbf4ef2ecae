"""The twin uses the gateway's own policies: rate limits and standing queues refuse requests there too."""

from __future__ import annotations

from collections import Counter

from tests.helpers.predictions import CALM, asked, predict


def statuses(*overrides: str) -> Counter[int]:
    """Play a short run; return the number of responses of each status."""
    history = predict(asked(CALM, *overrides)).facts.history
    return Counter(history[history["route"] != "null"]["status"].tolist())


def test_the_defaults_do_not_limit() -> None:
    """Generous: no shipped scenario reaches them."""
    assert 429 not in statuses()


def test_a_low_limit_refuses_only_the_most_active_readers() -> None:
    """With the same windows as in the gateway."""
    counts = statuses("policies.limits={window: 5 s, read: 2}")

    assert 0 < counts[429] < counts[200]


def test_a_standing_queue_is_shed() -> None:
    """Far above the gateway's capacity, requests that waited too long are refused instead of served late."""
    crowd = ("workload.stages.0.rate=4000/s", "workload.stages.0.for=5 s", "measure.warm_up=1 s", "policies.retry.attempts=1")
    unlimited = statuses(*crowd, "policies.shed={max_in_flight: 0, queue_target: 0 s}")
    shedding = statuses(*crowd, "policies.shed={max_in_flight: 0, queue_target: 100 ms, queue_interval: 200 ms}")

    assert shedding[503] > unlimited[503]
