"""The invariants never fail a correct system, and detect every mutation of its history."""

import functools
import random
import time
from dataclasses import replace

import pytest

from chaos import invariants
from chaos.invariants import delivery, exercised, table
from system.ports import Kind
from tests.mutation import fixture, mutations, world

SMALL = world.Size(users=15, operations=400, follows=4)
SEEDS = range(100)


@functools.cache
def fixture_of(seed):
    """Return the evidence of a seed; tests share it, because evidence is immutable."""
    return fixture.make(seed)


def failed_by(evidence):
    return {finding.name for finding in invariants.judge(evidence) if finding.verdict == invariants.FAIL}


@pytest.mark.parametrize("decade", range(10))
def test_a_correct_system_never_fails(decade):
    """A hundred clean histories with late pushes, lost answers, retries and page walks have no violation."""
    failed = {seed: found for seed in SEEDS if seed % 10 == decade and (found := failed_by(fixture.make(seed, SMALL)))}

    assert failed == {}


def test_a_correct_run_with_enough_operations_passes_every_invariant():
    """Where every kind of operation happened and all finals were read, no invariant is unknown."""
    findings = invariants.judge(fixture_of(7))

    assert {f.name: f.verdict for f in findings} == dict.fromkeys(invariants.INVARIANTS, invariants.PASS)
    assert all(finding.checked > 0 for finding in findings)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", sorted(mutations.MUTATIONS))
def test_a_mutation_fails_its_invariant(name, seed):
    """Each mutation fails its invariant, and others only where it violates them too."""
    mutation = mutations.MUTATIONS[name]
    tries = (mutation.mutate(fixture_of(number), random.Random(number)) for number in range(seed, seed + 50, 5))
    broken = next(history for history in tries if history is not None)  # not every history contains what this mutation breaks

    failed = failed_by(broken)

    assert mutation.violates in failed
    assert failed - {mutation.violates} <= mutation.may_violate


@pytest.mark.parametrize("name", sorted(mutations.MUTATIONS))
def test_every_mutation_applies_to_most_histories(name):
    """No mutation test passes because it skipped its histories."""
    made = [mutations.MUTATIONS[name].mutate(fixture_of(seed), random.Random(seed)) is not None for seed in range(5)]

    assert sum(made) >= 3


def test_every_invariant_has_a_mutation_that_fails_it():
    """A checker that never failed proves nothing. (A fault window never fails; it is unknown.)"""
    covered = {mutation.violates for mutation in mutations.MUTATIONS.values()}

    assert covered == set(invariants.INVARIANTS) - {exercised.NAME}


def test_an_invariant_without_relevant_operations_is_unknown():
    """An empty history proves nothing, and every finding names what was absent."""
    evidence = fixture.make(1, world.Size(users=3, operations=1, follows=1, history=0, pulled=0))
    empty = type(evidence)(evidence.rows.iloc[:0], evidence.effects.iloc[:0], None, evidence.graph, evidence.clock)

    findings = invariants.judge(empty)

    assert {finding.verdict for finding in findings} == {invariants.UNKNOWN}
    assert all("Found no relevant operation" in finding.note for finding in findings)


def test_a_checker_that_crashes_is_unknown_and_the_others_still_run():
    """A crash is never a pass; its traceback is in the note."""
    def broken(evidence):
        raise ZeroDivisionError("a defect of the check")

    rows = {"broken": table.Invariant("broken", broken), **invariants.INVARIANTS}
    first, *others = invariants.judge(fixture_of(3), rows)

    assert (first.name, first.verdict) == ("broken", invariants.UNKNOWN)
    assert "ZeroDivisionError: a defect of the check" in first.note
    assert invariants.verdict(others) == invariants.PASS
    assert invariants.verdict([first, *others]) == invariants.UNKNOWN


def test_at_most_twenty_violations_are_listed_and_the_rest_counted():
    """The violations proven by the fewest operations come first."""
    tally = invariants.finding.Tally("some_invariant")
    for number in range(30):
        tally.violated(f"violation of {30 - number} operations", 30 - number)
    found = tally.finding("nothing")

    assert (found.verdict, found.found, len(found.violations)) == (invariants.FAIL, 30, 20)
    assert found.violations[0] == "violation of 1 operations"
    assert "10 more violations are not listed" in found.note


def test_every_invariant_is_documented():
    """The reference page is generated from the docstrings of the checks."""
    assert all(len(row.docs) > 80 and row.name == name for name, row in invariants.INVARIANTS.items())


def test_a_quarter_of_a_hundred_thousand_operations_is_judged_in_a_quarter_of_ten_seconds():
    """Judging must not delay a run. Measured in CPU time, because the machine is shared."""
    evidence = fixture.make(1, world.Size(users=500, operations=25_000, rate_per_s=1500, follows=10, history=5, page=10))
    before_s = time.process_time()
    findings = invariants.judge(evidence)
    took_s = time.process_time() - before_s

    assert invariants.verdict(findings) == invariants.PASS
    assert took_s < 2.5


@pytest.mark.parametrize("seed", range(3))
def test_a_pushed_tweet_must_be_in_home_lists_even_if_its_author_was_pulled_before(seed):
    """The author fell below the push limit: reads still merge them, and later tweets are pushed, too."""
    clean = fixture_of(seed)
    all_authors = frozenset(clean.finals.by_author)
    pulled_once = replace(clean, finals=replace(clean.finals, pulled=all_authors))
    path = delivery.fanout_of(clean).path
    at, lost = next((at, member) for at, cached in enumerate(clean.finals.lists) if cached.kind == Kind.HOME
                    for member in cached.members
                    if path.get(member[0]) == "push" and member[1] != cached.owner
                    and not clean.history.maybe_deleted(member[0]))
    lists = list(clean.finals.lists)
    lists[at] = replace(lists[at], members=tuple(member for member in lists[at].members if member != lost))
    broken = replace(pulled_once, finals=replace(pulled_once.finals, lists=tuple(lists)))

    assert failed_by(pulled_once) == set()
    assert {"cached_lists_match_the_oracle", "every_follower_sees_it"} & failed_by(broken) == {
        "cached_lists_match_the_oracle", "every_follower_sees_it"}
