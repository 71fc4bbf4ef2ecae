"""A reset: services are down while the stores change, and it ends when the probe finds nothing of before."""

import contextlib
import json
import types

import pytest

from scenarios import loader
from system.kernel.errors import StoreUnavailable
from system.kernel.policies import FanoutKnobs, Policies
from tweetlab.lab import session
from tweetlab.run import seeding

SMALL = ["population.users=40", "population.follows={shape: even, mean: 4, max: 4}",
         "population.history=2 tweets", "population.cache=cold"]


@pytest.fixture
def reset(monkeypatch, tmp_path):
    """A lab of which only the steps are seen (`steps`). `left`: what each probe finds, one answer a reset."""
    made = types.SimpleNamespace(steps=[], left=[], said=[])

    @contextlib.asynccontextmanager
    async def without_services():
        made.steps.append("services stopped")
        yield
        made.steps.append("services started")

    def step(name):
        async def work(*arguments, **named):
            made.steps.append(name)
        return work

    async def found(lab, seeded):
        made.steps.append("probe")
        return made.left.pop(0) if made.left else []

    for name in ("_write", "_reset", "_empty_edges", "_mark_outbox", "_lift_scaling"):
        monkeypatch.setattr(seeding, name, step(name))
    monkeypatch.setattr(seeding.leftovers, "found", found)
    screen = types.SimpleNamespace(step=lambda title: contextlib.nullcontext(), say=made.said.append)
    platform = types.SimpleNamespace(paths=types.SimpleNamespace(data_dir =tmp_path))
    made.lab = types.SimpleNamespace(lab=platform, screen=screen, without_services=without_services)
    made.scenario = loader.load("first_run", SMALL)
    return made


async def test_stores_change_only_while_no_service_runs(reset):
    """Under a running relay the events of the run before came back into stores that had just been emptied."""
    await seeding.ensure(reset.lab, reset.scenario)

    assert reset.steps == ["_lift_scaling", "services stopped", "_write", "_empty_edges", "_mark_outbox",
                           "services started", "probe"]
    assert reset.said[0].startswith("reset in ") and "probe" in reset.said[0]


async def test_what_the_quick_reset_leaves_behind_the_whole_one_removes(reset):
    """A seeded tweet that somebody deleted comes back only with all of them."""
    await seeding.ensure(reset.lab, reset.scenario)
    reset.steps.clear()
    reset.left = [["Cassandra: 1 is deleted"]]

    await seeding.ensure(reset.lab, reset.scenario)

    seen = [step for step in reset.steps if step in ("_reset", "_write", "probe")]
    assert seen == ["_reset", "probe", "_write", "probe"]
    assert any("Cassandra: 1 is deleted" in line for line in reset.said)


async def test_no_run_starts_where_something_of_before_remains(reset, tmp_path):
    """The message names the place, and what removes it; the next command writes everything again."""
    reset.left = [["MinIO: 3 objects"]]

    with pytest.raises(StoreUnavailable, match=r"MinIO: 3 objects.*tweetlab down --purge"):
        await seeding.ensure(reset.lab, reset.scenario)
    assert not (tmp_path / "seeded.json").exists()


class Recorded:
    """A lab that only notes what is ordered of it."""

    def __init__(self, folder):
        self.paths, self.orders = types.SimpleNamespace(state=folder), []

    async def stop_services(self):
        self.orders.append("stop")

    async def restart_services(self, env):
        self.orders.append(json.loads(env["TWEETLAB_POLICIES"])["fanout"]["push_limit"])


async def test_services_come_back_with_the_policies_wanted_last_whatever_happened(tmp_path):
    """One restart carries the reset and the policies of the next run; a reset that breaks off leaves no lab
    without services."""
    lab = Recorded(tmp_path)
    wanted = Policies(fanout=FanoutKnobs(push_limit=7))
    opened = session.Session(lab, None, None, None, "", False, wanted=wanted)

    with pytest.raises(StoreUnavailable):
        async with opened.without_services():
            assert lab.orders == ["stop"] and not (tmp_path / "policies.json").exists()
            raise StoreUnavailable("a store went away")

    assert lab.orders == ["stop", 7]
    assert json.loads((tmp_path / "policies.json").read_text())["fanout"]["push_limit"] == 7
