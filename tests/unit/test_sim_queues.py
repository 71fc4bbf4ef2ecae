"""Poll loops, guards and the rule for whether an operation took effect."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any

import pytest
import simpy

from sim import outcomes
from sim.clock import call_after
from sim.guards import ServiceGuard
from sim.jobs import GATEWAY_TIMEOUT, NOT_CONNECTED, OF_MESH, REFUSED, UNAVAILABLE
from sim.queues import GroupCommit, PollLoop
from sim.streams import NS, ns
from system.kernel.policies import BreakerKnobs, Policies, RetryKnobs
from system.kernel.resilience.breaker import State


class Consumer:
    """A worker that takes one second per event."""

    def __init__(self, lanes: int) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.done: list[tuple[float, str]] = []
        self.loop = PollLoop(self.env, lambda: 0, self._handle, lanes)

    def _handle(self, event: str) -> Generator[Any, Any, int]:
        yield self.env.timeout(NS)
        self.done.append((self.env.now / NS, event))
        return 0


def test_events_of_one_poll_with_different_keys_run_concurrently() -> None:
    """Two authors' events take one second together; a second event of an author waits for the first."""
    worker = Consumer(lanes=16)

    for key, event in ((1, "ada-1"), (2, "bob-1"), (1, "ada-2")):
        worker.loop.append(key, event)
    worker.env.run()

    assert worker.done == [(1.0, "ada-1"), (1.0, "bob-1"), (2.0, "ada-2")]
    assert worker.loop.lag == 0


def test_without_a_free_lane_the_next_key_waits() -> None:
    """With two lanes, the third author starts when the first is done."""
    worker = Consumer(lanes=2)

    for key, event in enumerate(("ada", "bob", "cyd")):
        worker.loop.append(key, event)
    worker.env.run()

    assert worker.done == [(1.0, "ada"), (1.0, "bob"), (2.0, "cyd")]


def test_a_killed_consumer_repeats_its_uncommitted_events() -> None:
    """Events in progress at the kill are handled after the restart: at least once, nothing lost."""
    worker = Consumer(lanes=1)
    worker.loop.append(1, "ada")
    worker.loop.append(2, "bob")

    call_after(worker.env, NS // 2, lambda _: worker.loop.stop())
    call_after(worker.env, 5 * NS, lambda _: worker.loop.resume())
    worker.env.run()

    assert worker.done == [(1.0, "ada"), (6.0, "ada"), (7.0, "bob")]  # what was under way ends, and is repeated


HALF = lambda: 0.5  # noqa: E731


def guard(**knobs: object) -> ServiceGuard:
    policies = Policies(retry=RetryKnobs(attempts=2, budget=1.0), breaker=BreakerKnobs(failures=2, open_s=1.0))
    return ServiceGuard(policies)


@pytest.mark.parametrize("status", [UNAVAILABLE, OF_MESH])
def test_a_read_with_a_plain_503_is_retried_once(status: int) -> None:
    """The gateway's own rule and the kernel's schedule: half of the 50 ms bound with a draw of 0.5."""
    calls = guard()

    assert calls.admit(0.0, 1)
    assert calls.failed(0.0, 1, True, status, HALF) == pytest.approx(0.025)
    assert calls.failed(0.0, 2, True, status, HALF) is None


@pytest.mark.parametrize(
    ("idempotent", "status"), [(False, UNAVAILABLE), (True, REFUSED), (True, GATEWAY_TIMEOUT), (True, 404)]
)
def test_other_failures_are_not_retried(idempotent: bool, status: int) -> None:
    """Writes, refusals with `retry-after`, timeouts and plain errors are returned to the caller."""
    calls = guard()
    calls.admit(0.0, 1)

    assert calls.failed(0.0, 1, idempotent, status, HALF) is None


@pytest.mark.parametrize("no_response", [GATEWAY_TIMEOUT, OF_MESH])
def test_only_missing_responses_open_the_breaker(no_response: int) -> None:
    """Two calls without a response open it for a second, including a 503 of the mesh.

    The service's own 503 do not.
    """
    calls = guard()

    for _ in range(5):
        calls.failed(0.0, 1, False, UNAVAILABLE, HALF)
    assert calls.breaker.state is State.CLOSED
    for _ in range(2):
        calls.failed(0.0, 1, False, no_response, HALF)

    assert not calls.admit(0.5, 1)
    assert calls.admit(1.1, 1)


@pytest.mark.parametrize(
    ("status", "outcome", "seen"),
    [(200, "ok", 200), (404, "fail", 404), (429, "fail", 429), (409, "info", 409), (503, "info", 503),
     (REFUSED, "info", 503), (OF_MESH, "info", 503), (GATEWAY_TIMEOUT, "info", 504), (NOT_CONNECTED, "fail", 0)],
)  # fmt: skip
def test_a_status_determines_the_outcome(status: int, outcome: str, seen: int) -> None:
    """ok, fail (certainly no effect) or info, as in the load driver."""
    assert outcomes.of_status(status) == outcome
    assert outcomes.as_seen(status) == seen


def test_writes_that_arrive_during_a_flush_share_the_next_one() -> None:
    """One flush at a time: the first write is durable after one second, the two that came meanwhile after two."""
    env = simpy.Environment(initial_time=0)
    done: list[tuple[str, float]] = []
    device = GroupCommit(env, itertools.repeat(1.0))

    def write(job: str, when_s: float) -> Generator[Any, Any, None]:
        yield env.timeout(ns(when_s))
        yield device.flush()
        done.append((job, env.now / NS))

    for job, when_s in (("a", 0.0), ("b", 0.2), ("c", 0.9)):
        env.process(write(job, when_s))
    env.run()

    assert done == [("a", 1.0), ("b", 2.0), ("c", 2.0)]


def test_the_work_of_a_poll_runs_before_and_after_its_events() -> None:
    """A fetch of 1 s, two events together, a commit of 1 s; an event that arrives meanwhile is in the next poll."""
    env = simpy.Environment(initial_time=0)
    log: list[tuple[str, float]] = []

    def around(name: str):  # type: ignore[no-untyped-def]
        def work(events):  # type: ignore[no-untyped-def]
            log.append((f"{name} {len(events)}", env.now / NS))
            yield env.timeout(NS)
        return work

    def handle(event: str) -> Generator[Any, Any, int]:
        log.append((event, env.now / NS))
        yield env.timeout(NS // 2)
        return 0

    loop = PollLoop(env, lambda: 0, handle, 16, begin=around("fetch"), commit=around("commit"))
    loop.append(1, "a")
    loop.append(2, "b")
    call_after(env, ns(1.2), lambda _: loop.append(3, "c"))
    env.run()

    assert log == [("fetch 2", 0.0), ("a", 1.0), ("b", 1.0), ("commit 2", 1.5), ("fetch 1", 2.5), ("c", 3.5), ("commit 1", 4.0)]


def test_a_failed_event_is_handled_again_before_the_others_of_its_key() -> None:
    """The first try fails, the second one half a second later succeeds; only then comes the next event of the key."""
    env = simpy.Environment(initial_time=0)
    log: list[tuple[str, float]] = []

    def handle(event: str) -> Generator[Any, Any, int]:
        log.append((event, env.now / NS))
        yield env.timeout(NS)
        return 503 if len(log) == 1 else 0

    loop = PollLoop(env, lambda: 0, handle, 16)
    loop.append(1, "a")
    loop.append(1, "b")
    env.run()

    assert log == [("a", 0.0), ("a", 1.5), ("b", 2.5)]
