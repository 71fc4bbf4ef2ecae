"""Poll loops, guards and the rule that tells whether an operation happened."""

from __future__ import annotations

import itertools

import pytest
import simpy

from sim import outcomes
from sim.guards import ServiceGuard
from sim.jobs import GATEWAY_TIMEOUT, NOT_CONNECTED, OF_MESH, REFUSED, UNAVAILABLE
from sim.queues import PollLoop
from sim.stations import call_after
from system.kernel.policies import BreakerKnobs, Policies, RetryKnobs
from system.kernel.resilience.breaker import State


class Consumer:
    """A worker that takes one second for every event."""

    def __init__(self, lanes: int) -> None:
        self.env = simpy.Environment()
        self.done: list[tuple[float, str]] = []
        self.loop = PollLoop(self.env, lambda: 0.0, self._handle, lanes)

    def _handle(self, event: str) -> None:
        call_after(self.env, 1.0, lambda _: self._ended(event))

    def _ended(self, event: str) -> None:
        if event in self.loop.inside:
            self.done.append((self.env.now, event))
            self.loop.done(event)


def test_events_of_one_poll_run_together_where_their_keys_differ() -> None:
    """Two authors' events take one second together; a second event of an author waits for his first."""
    worker = Consumer(lanes=16)

    for key, event in ((1, "ada-1"), (2, "bob-1"), (1, "ada-2")):
        worker.loop.append(key, event)
    worker.env.run()

    assert worker.done == [(1.0, "ada-1"), (1.0, "bob-1"), (2.0, "ada-2")]
    assert worker.loop.lag == 0


def test_a_full_set_of_lanes_makes_the_next_key_wait() -> None:
    """With two lanes, the third author starts when the first is done."""
    worker = Consumer(lanes=2)

    for key, event in enumerate(("ada", "bob", "cyd")):
        worker.loop.append(key, event)
    worker.env.run()

    assert worker.done == [(1.0, "ada"), (1.0, "bob"), (2.0, "cyd")]


def test_a_killed_consumer_does_its_uncommitted_events_again() -> None:
    """What was in hand at the kill is done after the restart: at least once, nothing lost."""
    worker = Consumer(lanes=1)
    worker.loop.append(1, "ada")
    worker.loop.append(2, "bob")

    call_after(worker.env, 0.5, lambda _: worker.loop.stop())
    call_after(worker.env, 5.0, lambda _: worker.loop.resume())
    worker.env.run()

    assert sorted(event for _, event in worker.done) == ["ada", "bob"]
    assert worker.done[0][0] == 6.0


def guard(**knobs: object) -> ServiceGuard:
    policies = Policies(retry=RetryKnobs(attempts=2, budget=1.0), breaker=BreakerKnobs(failures=2, open_s=1.0))
    return ServiceGuard(policies, itertools.repeat(0.5))


@pytest.mark.parametrize("status", [UNAVAILABLE, OF_MESH])
def test_a_read_that_met_a_plain_503_is_tried_once_more(status: int) -> None:
    """The gateway's own rule and the kernel's schedule: half of the 50 ms bound with a draw of 0.5."""
    calls = guard()

    assert calls.admit(0.0, 1)
    assert calls.failed(0.0, 1, True, status) == pytest.approx(0.025)
    assert calls.failed(0.0, 2, True, status) is None


@pytest.mark.parametrize(
    ("idempotent", "status"), [(False, UNAVAILABLE), (True, REFUSED), (True, GATEWAY_TIMEOUT), (True, 404)]
)
def test_what_must_not_be_repeated_is_not(idempotent: bool, status: int) -> None:
    """Writes, refusals that ask for peace, timeouts and plain errors go back to the caller."""
    calls = guard()
    calls.admit(0.0, 1)

    assert calls.failed(0.0, 1, idempotent, status) is None


@pytest.mark.parametrize("silence", [GATEWAY_TIMEOUT, OF_MESH])
def test_only_silence_opens_the_breaker(silence: int) -> None:
    """Two calls that the service did not answer open it for a second, a 503 of the mesh among them; its own 503 do not."""
    calls = guard()

    for _ in range(5):
        calls.failed(0.0, 1, False, UNAVAILABLE)
    assert calls.breaker.state is State.CLOSED
    for _ in range(2):
        calls.failed(0.0, 1, False, silence)

    assert not calls.admit(0.5, 1)
    assert calls.admit(1.1, 1)


@pytest.mark.parametrize(
    ("status", "outcome", "seen"),
    [(200, "ok", 200), (404, "fail", 404), (429, "fail", 429), (409, "info", 409), (503, "info", 503),
     (REFUSED, "info", 503), (OF_MESH, "info", 503), (GATEWAY_TIMEOUT, "info", 504), (NOT_CONNECTED, "fail", 0)],
)  # fmt: skip
def test_a_status_tells_whether_it_happened(status: int, outcome: str, seen: int) -> None:
    """ok, fail (surely no effect) or info, as the load driver tells them."""
    assert outcomes.of_status(status) == outcome
    assert outcomes.as_seen(status) == seen
