"""How long the recovery of a fault is observed, and what `check` warns about."""

import json
import time

import pytest

from chaos import schedule
from chaos.faults import table
from scenarios import loader, plan, recovery, spec
from system.kernel.errors import WrongInput
from tests.unit.test_chaos_undo import OneNode
from tweetlab.commands import results

S = 10**9


class NeverRecovers:
    """An instant fault that takes effect and whose recovery probe never succeeds."""

    held, kinds, recovers_within_s, probe_every_s = False, (), 0.6, 0.02

    async def choose_target(self, lab, name):
        return table.Target(name, 1, 1, "")

    async def inject(self, lab, target):
        return {}

    async def has_taken_effect(self, lab, target):
        return True

    async def undo(self, lab, target):
        """There is nothing to undo."""

    async def has_recovered(self, lab, target):
        return False


async def drilled(tmp_path, kind, load_s, within_s=None):
    """Return the record of one fault of `kind`, injected at the start of a load of `load_s`."""
    lab = OneNode(tmp_path, 41)
    lab.pidfile.write_text("1 1")
    fault = spec.Fault(0.0, kind, "x", recovers_within_s=within_s)
    [record] = await schedule.run(
        [fault], lab, time.monotonic_ns(), tmp_path, table={kind: NeverRecovers()}, load_s=load_s
    )
    return record


@pytest.mark.parametrize(
    ("kind", "load_s", "within_s"),
    [
        ("kill", 0.1, None),  # a process restarts without requests, so it is observed past the load
        ("kill", 9.0, 0.2),  # the time in the scenario overrides the default of the kind
        ("cache_loss", 9.0, None),
    ],
)
async def test_a_recovery_is_observed_for_all_of_its_time(tmp_path, kind, load_s, within_s):
    """The record says when the probe stopped, the allowed time, and that it never succeeded."""
    record = await drilled(tmp_path, kind, load_s, within_s)
    allowed_s = within_s or NeverRecovers.recovers_within_s

    assert (record.void, record.recovered_ns, record.recovers_within_s) == ("", None, allowed_s)
    assert record.observed_until_ns - record.undone_ns >= allowed_s * S


async def test_the_recovery_of_a_cache_is_observed_no_longer_than_the_load(tmp_path):
    """A cache that nobody reads does not refill, so what happens after the load proves nothing."""
    record = await drilled(tmp_path, "cache_loss", 0.5)

    assert record.recovered_ns is None
    ends_ns = max(record.start_ns + 0.5 * S, record.undone_ns)  # a busy machine may undo after the load
    assert record.observed_until_ns <= ends_ns + 0.01 * S


@pytest.mark.parametrize(
    ("fault", "warned"),
    [
        ("{at: 30 s, kind: cache_loss, target: redis}", True),  # 30 + 60 > 80
        ("{at: 20 s, kind: cache_loss, target: redis}", False),  # exactly until the end of the load
        ("{at: 30 s, kind: cache_loss, target: redis, recovers_within: 50 s}", False),
        ("{at: 30 s, kind: cache_loss, target: redis, recovers_within: 51 s}", True),
        ("{at: 1 s, kind: kill, target: cassandra}", True),
    ],
)
def test_check_warns_where_a_fault_may_still_recover_when_the_load_ends(fault, warned):
    """A load of 80 s: the warning names the fault, the allowed time, both ends and the fix."""
    scenario = loader.load("steady_home", [f"faults=[{fault}]", "workload.stages.0.for=80 s"])
    found = list(recovery.warnings(scenario))

    assert len(found) == warned
    assert all("may take" in text and "the load ends at 80 s" in text and "To fix:" in text for text in found)


@pytest.mark.parametrize(("for_s", "warned"), [(30, True), (99, True), (100, False), (500, False)])
def test_check_does_not_warn_about_a_fault_that_is_held_until_the_end(for_s, warned):
    """Injected at 30 s of 130 s: held for 100 s or more it lasts until the end, and is not judged."""
    scenario = loader.load("zone_loss", [f"faults.0.for={for_s} s", "objectives=[]"])

    assert len(list(recovery.warnings(scenario))) == warned


def test_check_prints_the_warning_and_exits_0(capsys):
    """Exit code 0, and the JSON document lists it."""
    code = results.check("first_run", ["faults.0.recovers_within=60 s"], as_json=True)

    output = json.loads(capsys.readouterr().out)
    assert (code, output["ok"]) == (0, True)
    assert any("`cache_loss` of redis may take 60 s" in warning for warning in output["warnings"])
    assert output["resolved"]["faults"][0]["recovers_within_s"] == 60


def test_a_recovery_within_0_s_is_refused():
    """The message names the key, the value and an example."""
    with pytest.raises(WrongInput, match=r"faults.0.recovers_within.*above 0"):
        loader.load("first_run", ["faults.0.recovers_within=0 s"])


def words(*overrides, name="steady_home", **more):
    return plan.plan_of(loader.load(name, ["workload.mix={home: 1}", "objectives=[]", *overrides]), **more)


def test_a_plan_covers_the_routes_of_stages_that_have_operations():
    """A stage's own mix replaces the workload's; a share of 0 plans nothing."""
    staged = "workload.stages=[{for: 20 s, rate: 10/s, mix: {media: 1, delete: 0}}]"

    assert plan.PICTURES in words(staged) and plan.DELETES not in words(staged)
    assert plan.routes_of(loader.load("steady_home", [staged, "objectives=[]"])) == {"media"}
    assert plan.routes_of(loader.load("calibrate_quick")) >= {"like", "delete", "unfollow"}


def test_a_route_that_the_population_cannot_serve_plans_nothing():
    """No unfollow without follows, no like without tweets, no follow request without protected users."""
    bare = ["population.follows.mean=0", "population.history=0"]
    every = "workload.mix={unfollow: 1, like: 1, follow_request: 1, follow_approve: 1}"

    assert not words(every, *bare) & {plan.UNFOLLOWS, plan.LIKES, plan.APPROVALS, plan.WRITES}
    assert words(every, "population.protected=10 %") >= {
        plan.UNFOLLOWS,
        plan.LIKES,
        plan.APPROVALS,
        plan.WRITES,
    }
    assert plan.FOLLOWS not in words("workload.mix={follow: 1}", "population.protected=100 %")


def test_a_route_that_the_tape_did_not_draw_is_not_planned():
    """No delete was drawn; data of earlier runs may hold tweets that this population does not have."""
    assert plan.DELETES not in words("workload.mix={home: 999999, delete: 1}", drawn={"home"})
    assert plan.SEEDED_TWEETS in words("population.history=0", kept_data=True)
    assert plan.SEEDED_TWEETS not in words("population.history=0")


@pytest.mark.parametrize(
    ("overrides", "held"),
    [
        ([], True),
        (["population.cache=cold"], False),
        (["population.users=20000"], False),
        (["faults=[{at: 5 s, kind: cache_loss, target: redis}]"], False),
        (["faults=[{at: 5 s, kind: kill, target: redis}]"], False),
        (["faults=[{at: 5 s, kind: kill, target: users}]"], True),
        (["population.cache=cold", "workload.mix={post: 1}"], True),
        (["population.cache=cold", "workload.mix={post: 1}", "policies.fanout.push_limit=0"], False),
        (["population.cache=cold", "workload.mix={user_tweets: 1}"], True),
    ],
)
def test_cached_lists_are_planned_where_something_builds_them_and_no_fault_empties_the_cache(overrides, held):
    """Profile reads build no list; a warm cache has lists until a fault empties it."""
    assert (plan.CACHED_LISTS in words("workload.mix={profile: 1}", *overrides)) == held
