"""The plan of a run decides which invariants apply, never what was acknowledged; the rest is unknown."""

import dataclasses

import pandas as pd
import pytest

from chaos import invariants
from chaos.evidence.bundle import Evidence, Finals, RunClock
from chaos.evidence.history import DEFAULTS
from chaos.fault_records import FaultRecord
from chaos.invariants.table import Invariant
from scenarios import loader, plan
from scenarios.world import population
from system.kernel.policies import LimitKnobs
from tests.mutation import fixture

S = 10**9
EMPTY_POPULATION = [
    "population.follows.mean=0",
    "population.history=0",
    "population.cache=cold",
    "population.likes=0",
]
UNLIMITED = ["policies.limits.window=0 s"]
ONLY_PROFILES = [*EMPTY_POPULATION, *UNLIMITED, "faults=[]", "objectives=[]", "workload.mix={profile: 1}"]

APPLIES = {
    "acknowledged_follows_stand": [
        ["population.follows.mean=5"],
        ["workload.mix.follow=1"],
        ["workload.mix.follow_request=1", "workload.mix.follow_approve=1", "population.protected=20 %"],
    ],
    "cached_lists_match_the_oracle": [
        ["population.cache=warm"],
        ["workload.mix.home=1"],
        ["workload.mix.user_tweets=1"],
        ["workload.mix.post=1"],
    ],
    "every_follower_sees_it": [
        ["workload.mix.post=1", "population.follows.mean=5"],
        ["workload.mix.reply=1", "workload.mix.follow=1"],
    ],
    "fault_windows_were_exercised": [["faults=[{at: 5 s, kind: kill, target: users}]"]],
    "idempotency_keys_are_honoured": [
        ["workload.mix.post=1"],
        ["workload.mix.reply=1"],
        ["workload.mix.delete=1"],
    ],
    "likes_exact": [
        ["workload.mix.like=1", "population.history=5"],
        ["population.likes=1", "population.history=5"],
    ],
    "limits_hold": [["policies.limits.window=10 s"]],
    "no_acknowledged_tweet_lost": [["workload.mix.post=1"], ["population.history=5"]],
    "no_ghost_after_delete_or_unfollow": [
        ["workload.mix.delete=1"],
        ["workload.mix.unfollow=1", "population.follows.mean=5"],
    ],
    "no_unauthorised_read": [[]],
    "pages_have_no_duplicates_or_disorder": [["workload.mix.post=1"], ["population.history=5"]],
    "pictures_are_intact": [["workload.mix.media=1"]],
    "pictures_tell_no_position": [["workload.mix.media=1"]],
    "read_your_writes": [["workload.mix.post=1"]],
    "search_converges": [["workload.mix.post=1"]],
    "unique_ids": [["workload.mix.reply=1"]],
}
"""Invariant -> alternatives, each of which makes it apply to a scenario that otherwise plans nothing."""


def plan_with(*overrides):
    return plan.plan_of(loader.load("steady_home", [*ONLY_PROFILES, *overrides]))


def findings_of(evidence):
    return {finding.name: finding for finding in invariants.judge(evidence)}


def evidence_of(rows, planned, **fields):
    """Return the evidence of a run with these rows and empty final reads."""
    frame = pd.DataFrame([DEFAULTS | row for row in rows], columns=list(DEFAULTS))
    graph = population.generate(population_of(), 1)
    return Evidence(frame, pd.DataFrame(), Finals(), graph, RunClock(S, 10**12), plan=planned, **fields)


def population_of():
    return dataclasses.replace(
        loader.load("steady_home").population,
        users=20,
        history_tweets=0,
        follows=dataclasses.replace(loader.load("steady_home").population.follows, mean=2, max=5),
    )


@pytest.mark.parametrize("name", sorted(invariants.INVARIANTS))
def test_an_invariant_applies_only_where_the_plan_contains_its_subject(name):
    """Without its routes an invariant is not applicable; with any alternative of them it applies."""
    row = invariants.INVARIANTS[name]

    assert (row.not_applicable(plan_with()) == "") == (not row.needs)
    for overrides in APPLIES[name]:
        assert row.not_applicable(plan_with(*overrides)) == "", overrides


@pytest.mark.parametrize("name", sorted(invariants.INVARIANTS))
def test_every_invariant_is_unknown_where_everything_was_planned_and_nothing_happened(name):
    """Planned and not observed is unknown, never not applicable."""
    empty = evidence_of([], frozenset(plan.WORDS))

    assert findings_of(empty)[name].verdict == invariants.UNKNOWN


@pytest.mark.parametrize("name", sorted(set(invariants.INVARIANTS) - {"no_unauthorised_read"}))
def test_a_finding_that_is_not_applicable_says_what_the_plan_lacks(name):
    """To a run of profile reads only one invariant applies: the one that plants its own canary."""
    found = findings_of(evidence_of([], plan_with()))[name]

    assert (found.verdict, found.checked) == (invariants.NOT_APPLICABLE, 0)
    assert found.note.startswith("Not applicable: this run plans no ")


@pytest.mark.parametrize(
    ("route", "other", "name"),
    [
        ("delete", "unfollow", "no_ghost_after_delete_or_unfollow"),
        ("unfollow", "delete", "no_ghost_after_delete_or_unfollow"),
        ("delete", "home", "no_ghost_after_delete_or_unfollow"),
    ],
)
def test_forty_planned_deletes_of_which_none_was_acknowledged_are_unknown(route, other, name):
    """They are not excused by the other operations that the invariant covers."""
    rows = [
        {
            "op": n,
            "route": route,
            "user": 3,
            "target": 7,
            "sent_ns": S + n,
            "done_ns": S + n + 9,
            "outcome": "fail",
        }
        for n in range(40)
    ]
    rows += [
        {
            "op": 40 + n,
            "route": other,
            "user": 4,
            "target": 8 + n,
            "sent_ns": S + n,
            "done_ns": S + n + 9,
            "outcome": "ok",
        }
        for n in range(5)
    ]
    planned = plan_with(f"workload.mix.{route}=1", f"workload.mix.{other}=1", "population.follows.mean=5")

    found = findings_of(evidence_of(rows, planned))[name]

    assert found.verdict == invariants.UNKNOWN
    assert f"The run planned {route}s, and none was acknowledged." in found.note


@pytest.mark.parametrize(
    ("route", "name", "word"),
    [
        ("post", "no_acknowledged_tweet_lost", plan.POSTS),
        ("follow", "acknowledged_follows_stand", plan.FOLLOWS),
        ("like", "likes_exact", plan.LIKES),
    ],
)
def test_seeded_data_does_not_pass_an_invariant_whose_planned_writes_all_failed(route, name, word):
    """The seeded data is correct; without an acknowledged write the verdict remains unknown."""
    clean = fixture.make(3)
    rows = clean.rows.copy()
    rows.loc[rows["route"] == route, "outcome"] = "fail"
    seeded = dataclasses.replace(
        clean,
        rows=rows,
        plan=frozenset(plan.WORDS),
        finals=dataclasses.replace(
            clean.finals,
            likers={},
            like_counts={},
            by_author={
                author: {t: deleted for t, deleted in tweets.items() if clean.is_seeded(t)}
                for author, tweets in clean.finals.by_author.items()
            },
        ),
    )

    found = findings_of(seeded)[name]

    assert f"The run planned {word}, and none was acknowledged." in found.note
    assert found.verdict in (
        invariants.UNKNOWN,
        invariants.FAIL,
    )  # the fixture's own follows are then unexplained


def test_a_violation_counts_even_where_the_plan_contains_nothing_of_the_kind():
    """A tweet that was neither planned nor posted is a phantom, whatever the plan says."""
    evidence = dataclasses.replace(fixture.make(5), plan=frozenset())
    phantom = {
        **evidence.finals.by_author,
        1: {**evidence.finals.by_author[1], evidence.run_floor_id + (9 << 22): False},
    }
    found = findings_of(
        dataclasses.replace(evidence, finals=dataclasses.replace(evidence.finals, by_author=phantom))
    )

    assert found["no_acknowledged_tweet_lost"].verdict == invariants.FAIL
    assert found["pictures_are_intact"].verdict == invariants.NOT_APPLICABLE


def test_a_check_that_crashes_is_unknown_even_where_it_does_not_apply():
    """A defect of a checker is never hidden by the plan."""

    def broken(evidence):
        raise ZeroDivisionError("a defect of the check")

    [found] = invariants.judge(evidence_of([], frozenset()), {"x": Invariant("x", broken, ((plan.POSTS,),))})

    assert found.verdict == invariants.UNKNOWN


def test_a_read_only_load_exercises_its_fault_without_writes():
    """500 operations fell into the window; 50 writes are required only where the load plans any."""
    rows = [
        {"op": n, "route": "home", "user": 3, "sent_ns": 2 * S + n, "done_ns": 2 * S + n + 9, "outcome": "ok"}
        for n in range(600)
    ]
    fault = FaultRecord("kill", "users-1", S, S, S, S, 3 * S)
    kill = "faults=[{at: 5 s, kind: kill, target: users}]"
    reads, writes = plan_with(kill, "workload.mix.home=1"), plan_with(kill, "workload.mix={home: 1, post: 1}")

    verdicts = [
        findings_of(evidence_of(rows, planned, faults=(fault,)))["fault_windows_were_exercised"].verdict
        for planned in (reads, writes)
    ]

    assert verdicts == [invariants.PASS, invariants.UNKNOWN]


def test_a_rate_limit_that_is_off_compares_nothing():
    """Requests without a limit are no evidence that limits hold."""
    rows = [{"op": 1, "route": "home", "user": 3, "sent_ns": S, "done_ns": S + 9, "outcome": "ok"}]
    evidence = evidence_of(rows, None)
    off = dataclasses.replace(evidence.bounds, limits=LimitKnobs(read=0))

    assert findings_of(evidence)["limits_hold"].checked == 1
    assert findings_of(dataclasses.replace(evidence, bounds=off))["limits_hold"].checked == 0


def test_a_lost_seeded_tweet_and_a_lost_account_are_violations_with_their_counts():
    """Seeded data counts as acknowledged: a read-only run with a fault is judged by it."""
    evidence = fixture.make(11)
    author = next(
        a for a, tweets in evidence.finals.by_author.items() if any(map(evidence.is_seeded, tweets))
    )
    kept = {t: deleted for t, deleted in evidence.finals.by_author[author].items() if not evidence.is_seeded(t)}
    lost = sum(
        evidence.is_seeded(t) and not evidence.history.maybe_deleted(t)
        for t in evidence.finals.by_author[author]
    )
    finals = dataclasses.replace(
        evidence.finals, by_author={**evidence.finals.by_author, author: kept}, accounts={1: True, 2: False}
    )

    found = findings_of(dataclasses.replace(evidence, finals=finals))

    assert found["no_acknowledged_tweet_lost"].kept["seeded tweets"]["lost"] == lost > 0
    assert any(
        "seeded tweets in Cassandra" in text for text in found["no_acknowledged_tweet_lost"].violations
    )
    assert found["acknowledged_follows_stand"].kept["accounts"] == {"acknowledged": 2, "lost": 1}
    assert found["acknowledged_follows_stand"].verdict == invariants.FAIL


def test_the_verdict_ignores_findings_that_are_not_applicable():
    """Pass and not applicable is pass; not applicable alone is unknown."""
    passed = invariants.Finding("a", invariants.PASS, 3)
    other = invariants.Finding("b", invariants.NOT_APPLICABLE, 0)

    assert invariants.verdict([passed, other]) == invariants.PASS
    assert invariants.verdict([other]) == invariants.UNKNOWN
