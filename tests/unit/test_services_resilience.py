"""Circuit breaker, retry schedule and retry budget: pure, shared with the twin."""

from __future__ import annotations

import pytest

from system.kernel.policies import BreakerKnobs, RetryKnobs
from system.kernel.resilience import retry
from system.kernel.resilience.breaker import Breaker, State

KNOBS = BreakerKnobs(failures=3, open_s=1.0)


def broken(at_s: float = 0.0) -> Breaker:
    breaker = Breaker(KNOBS)
    for _ in range(3):
        assert breaker.allows(at_s)
        breaker.failed(at_s)
    return breaker


def test_three_failures_in_a_row_open_the_breaker():
    """Then no call passes for a second."""
    breaker = broken()

    assert breaker.state is State.OPEN
    assert not breaker.allows(0.99)
    assert breaker.retry_after_s(0.25) == 0.75


def test_a_success_in_between_starts_the_count_again():
    """Only failures in a row count."""
    breaker = Breaker(KNOBS)
    for outcome in (False, False, True, False, False):
        assert breaker.allows(0.0)
        breaker.succeeded() if outcome else breaker.failed(0.0)

    assert breaker.state is State.CLOSED


def test_a_half_open_breaker_lets_one_probe_through_and_its_result_decides():
    """The other calls wait for its result."""
    breaker = broken()

    assert breaker.allows(1.0)
    assert breaker.state is State.HALF_OPEN and not breaker.allows(1.0)
    breaker.succeeded()
    assert breaker.state is State.CLOSED and breaker.allows(1.0)


def test_a_failed_probe_opens_the_breaker_for_another_second():
    """Counted as another opening."""
    breaker = broken()
    assert breaker.allows(1.0)

    breaker.failed(1.0)

    assert breaker.state is State.OPEN and breaker.opened == 2
    assert not breaker.allows(1.9) and breaker.allows(2.0)


def test_a_breaker_without_a_bound_never_opens():
    """`failures` 0 disables it."""
    breaker = Breaker(BreakerKnobs(failures=0))
    for _ in range(100):
        breaker.failed(0.0)

    assert breaker.allows(0.0)


def test_an_abandoned_probe_is_repeated():
    """Its caller left: nothing is known, and the next call is the probe."""
    breaker = broken()
    assert breaker.allows(1.0)

    breaker.abandoned()

    assert breaker.opened == 1 and breaker.allows(1.0) and breaker.state is State.HALF_OPEN


def test_an_abandoned_call_counts_neither_way():
    """Neither as a failure, nor as a success that ends a row of failures."""
    breaker = Breaker(KNOBS)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.abandoned()
    assert breaker.state is State.CLOSED

    breaker.failed(0.0)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(("attempt", "bound_s"), [(1, 0.05), (2, 0.1), (3, 0.2), (6, 1.0), (60, 1.0)])
def test_the_bound_of_a_pause_doubles_up_to_its_limit(attempt, bound_s):
    """50 ms, doubled, at most a second."""
    knobs = RetryKnobs(base_s=0.05, max_s=1.0)

    assert retry.bound_s(attempt, knobs) == bound_s
    assert retry.pause_s(attempt, knobs, 0.5) == bound_s / 2


def test_retries_stay_within_their_share_of_first_tries():
    """A tenth: after the reserve of ten, 100 first tries earn ten retries."""
    budget = retry.Budget(RetryKnobs(budget=0.125))
    assert sum(budget.take() for _ in range(50)) == 10

    for _ in range(80):
        budget.first_try()

    assert sum(budget.take() for _ in range(50)) == 10
    assert budget.refused == 80


def test_a_budget_of_0_allows_no_retries():
    """0 disables retries."""
    assert not retry.Budget(RetryKnobs(budget=0.0)).take()
