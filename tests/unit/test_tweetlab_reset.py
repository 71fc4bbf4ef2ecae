"""A reset: services are down while the stores change, and it ends when the probe finds nothing of an earlier run."""

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
    """A fake lab that records its `steps`. `left`: what the probe finds, one list per reset."""
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

    async def find(lab, seeded):
        made.steps.append("probe")
        return made.left.pop(0) if made.left else []

    for name in ("_write", "_reset", "_empty_edges", "_mark_outbox", "_lift_scaling"):
        monkeypatch.setattr(seeding, name, step(name))
    monkeypatch.setattr(seeding.leftovers, "find", find)
    screen = types.SimpleNamespace(step=lambda title: contextlib.nullcontext(), say=made.said.append)
    platform = types.SimpleNamespace(paths=types.SimpleNamespace(data_dir=tmp_path))
    made.lab = types.SimpleNamespace(lab=platform, screen=screen, without_services=without_services)
    made.scenario = loader.load("first_run", SMALL)
    return made


async def test_stores_change_only_while_no_service_runs(reset):
    """With a running relay, events of the previous run came back into stores that had just been emptied."""
    await seeding.ensure(reset.lab, reset.scenario)

    assert reset.steps == ["_lift_scaling", "services stopped", "_write", "_empty_edges", "_mark_outbox",
                           "services started", "probe"]
    assert reset.said[0].startswith("reset in ") and "probe" in reset.said[0]


async def test_what_a_quick_reset_leaves_behind_a_full_one_removes(reset):
    """A seeded tweet that was deleted is restored only by writing all of them."""
    await seeding.ensure(reset.lab, reset.scenario)
    reset.steps.clear()
    reset.left = [["Cassandra: 1 is deleted"]]

    await seeding.ensure(reset.lab, reset.scenario)

    steps = [step for step in reset.steps if step in ("_reset", "_write", "probe")]
    assert steps == ["_reset", "probe", "_write", "probe"]
    assert any("Cassandra: 1 is deleted" in line for line in reset.said)


async def test_no_run_starts_if_something_of_an_earlier_run_remains(reset, tmp_path):
    """The message names the place and the fix; the next command writes everything again."""
    reset.left = [["MinIO: 3 objects"]]

    with pytest.raises(StoreUnavailable, match=r"MinIO: 3 objects.*tweetlab down --purge"):
        await seeding.ensure(reset.lab, reset.scenario)
    assert not (tmp_path / "seeded.json").exists()


class Recorded:
    """A fake lab that records calls."""

    def __init__(self, folder):
        self.paths, self.calls = types.SimpleNamespace(state=folder), []

    async def stop_services(self):
        self.calls.append("stop")

    async def restart_services(self, env):
        self.calls.append(json.loads(env["TWEETLAB_POLICIES"])["fanout"]["push_limit"])


async def test_services_start_again_with_the_latest_wanted_policies_whatever_happens(tmp_path):
    """One restart applies the policies of the next run; a reset that fails leaves no lab without services."""
    lab = Recorded(tmp_path)
    wanted = Policies(fanout=FanoutKnobs(push_limit=7))
    opened = session.Session(lab, None, None, None, "", False, wanted=wanted)

    with pytest.raises(StoreUnavailable):
        async with opened.without_services():
            assert lab.calls == ["stop"] and not (tmp_path / "policies.json").exists()
            raise StoreUnavailable("a store is down")

    assert lab.calls == ["stop", 7]
    assert json.loads((tmp_path / "policies.json").read_text())["fanout"]["push_limit"] == 7
