"""The twin asks the gateway's own policies: limits and standing queues refuse there too."""

from __future__ import annotations

from collections import Counter

from tests.helpers.predictions import CALM, asked, predict


def statuses(*overrides: str) -> Counter[int]:
    """Play a short run; return how often each status was answered."""
    history = predict(asked(CALM, *overrides)).facts.history
    return Counter(history[history["route"] != "null"]["status"].tolist())


def test_the_defaults_limit_nobody() -> None:
    """Generous: no shipped scenario meets them."""
    assert 429 not in statuses()


def test_a_low_limit_refuses_the_eager_readers_and_nobody_else() -> None:
    """By the same windows as at the gateway."""
    found = statuses("policies.limits={window: 5 s, read: 2}")

    assert 0 < found[429] < found[200]


def test_a_standing_queue_is_shed() -> None:
    """Far above what the gateway can serve, requests that waited too long are refused instead of served late."""
    crowd = ("workload.stages.0.rate=4000/s", "workload.stages.0.for=5 s", "measure.warm_up=1 s", "policies.retry.attempts=1")
    patient = statuses(*crowd, "policies.shed={max_in_flight: 0, queue_target: 0 s}")
    shedding = statuses(*crowd, "policies.shed={max_in_flight: 0, queue_target: 100 ms, queue_interval: 200 ms}")

    assert shedding[503] > patient[503]
