"""The measured part of a run: however it ends, faults are undone and what was measured is kept."""

import asyncio
import contextlib
import types

import pytest

from scenarios import loader
from system.kernel.errors import CouldNotRun
from tweetlab.run import inputs, measure, sampler

SMALL = ["population.users=40", "population.follows={shape: even, mean: 4, max: 4}", "population.likes=0"]


class FakeLoad:
    """A load that lasts until `stop` is set."""

    pid = 1

    def __init__(self, *arguments, **options):
        self.closed = False
        FakeLoad.last = self

    async def begin(self):
        return 1_000, 2_000

    async def finish(self, stop):
        await stop.wait()
        return "the load's result"

    async def close(self):
        self.closed = True


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """A fake lab without a lag. `undone`: set when the fault schedule has undone its faults. `fault_error`: raised by it."""
    made = types.SimpleNamespace(undone=False, fault_error=None)

    async def run_faults(faults, lab, start_ns, state, *, stop, load_s):
        if made.fault_error:
            stop.set()
            raise made.fault_error
        await stop.wait()
        made.undone = True
        return ["a fault record"]

    async def nothing(*arguments, **options):
        return {}

    class Samples:
        def __init__(self, sources, start_ns):
            self.rows, self.problems = [], ["a gap"]

        async def run(self, done):
            self.rows.append(sampler.Sample(0.0, "lag", "", "fanout", 1.0))
            await done.wait()

    monkeypatch.setattr(measure.driver, "Load", FakeLoad)
    monkeypatch.setattr(measure.schedule, "run", run_faults)
    monkeypatch.setattr(measure.sampler, "Sampler", Samples)
    monkeypatch.setattr(measure, "RELAY_S", 0.0)
    monkeypatch.setattr(measure, "TAIL_S", 0.0)

    async def blueprint():
        return types.SimpleNamespace(of_kind=lambda kind: [])

    async def status():
        return []

    platform = types.SimpleNamespace(paths=types.SimpleNamespace(state=tmp_path, lab_id="1-test"), set_scaling=nothing,
                                     blueprint=blueprint, status=status)
    screen = types.SimpleNamespace(err=measure_console(), step=lambda title: contextlib.nullcontext())
    made.session = types.SimpleNamespace(
        lab=platform, screen=screen, base_url="http://127.0.0.1:9", jwt_secret="", name_servers=(),
        redis=lambda: types.SimpleNamespace(aclose=nothing), ports=types.SimpleNamespace(log=types.SimpleNamespace(lag=nothing)))
    return made


def measure_console():
    from rich.console import Console

    return Console(quiet=True)


async def measured(lab, stop):
    scenario = loader.load("first_run", SMALL)
    return await measure.measure(lab.session, scenario, inputs.draw(scenario), stop, probes=False)


async def test_an_interrupted_load_returns_what_was_measured(lab):
    """Ctrl-C sets `stop`: the load's result, the fault records and the samples are kept."""
    stop = asyncio.Event()
    running = asyncio.ensure_future(measured(lab, stop))
    await asyncio.sleep(0.05)
    stop.set()
    result = await running

    assert (result.start_ns, result.load, result.faults) == (1_000, "the load's result", ("a fault record",))
    assert result.interrupted and lab.undone and FakeLoad.last.closed
    assert [row.value for row in result.samples] == [1.0] and result.sampling_problems == ("a gap",)
    assert result.problems == ()


async def test_an_error_of_the_fault_schedule_closes_the_load_and_is_raised(lab):
    """The process of the load must not outlive the run."""
    lab.fault_error = CouldNotRun("the supervisor is down")

    with pytest.raises(CouldNotRun, match="supervisor is down"):
        await measured(lab, asyncio.Event())
    assert FakeLoad.last.closed


def test_the_world_is_drawn_once_and_shared_with_the_tape():
    """The tape's protected users are those of the world that is seeded."""
    drawn = inputs.draw(loader.load("protected_circle", [*SMALL, "population.protected=25 %"]))

    assert drawn.tape.protected is drawn.world.circle.protected
    assert len(drawn.world.circle.protected) == 10
