"""A fault is logged before it is injected, probed, undone whatever happens, and probed again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos import fault_records, schedule, undo, watchdog
from chaos.faults import table as faults
from scenarios import spec, vocabulary
from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.paths import Paths
from system.platform.process import procs
from system.platform.provider import Killed, NodeStatus

DEAD_PID, DEAD_TICKS = 2**22 + 1, 1  # above the kernel's largest pid


class OneNode:
    """A lab of one sleeping process, which `auto_heal` restarts. Its state is in files, for any process."""

    def __init__(self, root, range):
        self.paths = Paths(Path(root), range)
        self.pidfile, self.healed = Path(root) / "node.pid", Path(root) / "healed"

    def start(self):
        process = subprocess.Popen(["sleep", "300"])
        self.pidfile.write_text(f"{process.pid} {procs.start_ticks(process.pid)}")
        return process

    async def status(self):
        pid, ticks = map(int, self.pidfile.read_text().split())
        word = "healthy" if procs.is_alive(pid, ticks) else "dead"
        return [NodeStatus("sleeper-1", "sleeper", "service", word, pid, ticks, "127.0.0.1:1", 0.0, 0, 0, word, True)]

    async def kill(self, node):
        pid, ticks = map(int, self.pidfile.read_text().split())
        os.kill(pid, signal.SIGKILL)
        return Killed(node, pid, ticks)

    async def auto_heal(self, node, on):
        self.healed.write_text(node)
        if not procs.is_alive(*map(int, self.pidfile.read_text().split())):
            self.start()


class Toy:
    """A held fault that creates a file, and records which steps of the undo log were on disk at injection."""

    held, kinds, recovers_within_s, probe_every_s = True, (), 1.0, 0.05
    works = True

    def __init__(self, log):
        self.log, self.logged = log, []

    async def choose_target(self, lab, name):
        return faults.Target(name, 1, 1, "", {"file": str(lab.paths.root / "broken")})

    async def inject(self, lab, target):
        self.logged += [line["step"] for line in self.log.lines()]
        if self.works:
            Path(target.facts["file"]).touch()
        return {"injected": 1}

    async def has_taken_effect(self, lab, target):
        return Path(target.facts["file"]).exists()

    async def undo(self, lab, target):
        Path(target.facts["file"]).unlink(missing_ok=True)

    async def has_recovered(self, lab, target):
        return not Path(target.facts["file"]).exists()


@pytest.fixture
def lab(tmp_path):
    one = OneNode(tmp_path, 41)
    one.start()
    yield one
    pid, ticks = map(int, one.pidfile.read_text().split())
    procs.kill_all([(pid, ticks)])


@pytest.fixture
def log(tmp_path):
    return undo.UndoLog(undo.path_of(tmp_path))


def run(faults_, lab, table=None, stop=None, start_ns=None):
    return schedule.run(faults_, lab, start_ns or time.monotonic_ns(), lab.paths.root, stop=stop, table=table)


async def test_a_fault_is_logged_on_disk_before_it_is_injected(lab, log):
    """When `inject` is called, the planned entry can already be read from the file."""
    toy = Toy(log)
    [record] = await run([spec.Fault(0.05, "toy", "x", for_s=0.2)], lab, {"toy": toy})

    assert toy.logged == ["planned"]
    assert [line["step"] for line in log.lines()] == ["planned", "injected", "undone", "gone"]
    assert record.void == ""
    assert record.start_ns <= record.injected_ns <= record.effect_ns < record.undone_ns <= record.recovered_ns
    assert record.undone_ns - record.injected_ns >= 200_000_000


async def test_a_fault_without_effect_is_void_and_is_undone(lab, log, monkeypatch):
    """A drill whose fault had no effect proves nothing."""
    monkeypatch.setattr(schedule, "EFFECT_WITHIN_S", 0.2)
    toy = Toy(log)
    toy.works = False
    [record] = await run([spec.Fault(0.0, "toy", "x", for_s=9.0)], lab, {"toy": toy})

    assert record.void == "took no effect within 0.2 s"
    assert log.pending() == []
    assert fault_records.from_dict(json.loads(json.dumps(record.as_dict()))) == record


async def test_a_stopped_run_undoes_active_faults_and_injects_no_other(lab, log):
    """Ctrl-C in the middle of a held fault leaves nothing broken."""
    stop, toy = asyncio.Event(), Toy(log)
    planned = [spec.Fault(0.0, "toy", "x", for_s=60.0), spec.Fault(50.0, "toy", "y", for_s=1.0)]
    asyncio.get_running_loop().call_later(0.3, stop.set)
    first, second = await asyncio.wait_for(run(planned, lab, {"toy": toy}, stop), 5)

    assert (first.effect_ns is not None, first.undone_ns is not None) == (True, True)
    assert second.void == "the run was stopped before the fault was injected"
    assert not (lab.paths.root / "broken").exists()


async def test_a_cancelled_run_undoes_active_faults(lab, log):
    """Cancellation of the task has the same effect."""
    task = asyncio.create_task(run([spec.Fault(0.0, "toy", "x", for_s=60.0)], lab, {"toy": Toy(log)}))
    while not (lab.paths.root / "broken").exists():
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not (lab.paths.root / "broken").exists()
    assert log.pending() == []


async def test_a_killed_process_is_confirmed_dead_and_then_healthy_again(lab):
    """`kill` kills exactly the targeted process; recovery is a new, healthy one."""
    before = (await lab.status())[0].pid
    [record] = await run([spec.Fault(0.0, "kill", "sleeper")], lab)
    after = (await lab.status())[0].pid

    assert (record.target, record.void, record.facts["killed_pid"]) == ("sleeper-1", "", before)
    assert after != before
    assert record.injected_ns <= record.effect_ns <= record.recovered_ns


async def test_only_live_processes_of_this_lab_are_valid_targets(lab):
    """An unknown target, a wrong kind and a dead process are refused by name; nothing is injected."""
    with pytest.raises(WrongInput, match="target is 'mars-1'; nodes of this lab: sleeper-1"):
        await faults.FAULTS["kill"].choose_target(lab, "mars-1")
    with pytest.raises(WrongInput, match="sleeper-1 is of kind sleeper; this fault accepts redis"):
        await faults.FAULTS["cache_loss"].choose_target(lab, "sleeper-1")
    alive = lab.pidfile.read_text()
    lab.pidfile.write_text(f"{DEAD_PID} {DEAD_TICKS}")
    with pytest.raises(CouldNotRun, match="has no live process in this lab"):
        await faults.FAULTS["kill"].choose_target(lab, "sleeper-1")
    lab.pidfile.write_text(alive)


async def test_the_next_start_undoes_what_a_dead_runner_left(lab, log):
    """An entry without `undone` whose runner is dead is undone once; a torn last line does no harm."""
    target = faults.Target("sleeper-1", 1, 1, "", {})
    entry = log.plan("kill", target)
    text = log.path.read_text().replace(f'"runner_pid":{os.getpid()}', f'"runner_pid":{DEAD_PID}')
    log.path.write_text(text + '{"id":"torn')
    swept = await undo.sweep(lab, log)

    assert [done.id for done in swept] == [entry]
    assert lab.healed.read_text() == "sleeper-1"
    assert await undo.sweep(lab, log) == []


async def test_the_fault_of_a_live_runner_is_not_undone(lab, log):
    """Two runs on one lab do not undo each other's faults."""
    log.plan("kill", faults.Target("sleeper-1", 1, 1, "", {}))

    assert await undo.sweep(lab, log) == []
    assert len(log.pending()) == 1


RUNNER = """
import sys, time
from pathlib import Path
from chaos import undo, watchdog
from chaos.faults import targets
from test_chaos_undo import OneNode
lab = OneNode(sys.argv[1], 41)
log = undo.UndoLog(undo.path_of(Path(sys.argv[1])))
with watchdog.guard(log, lab):
    log.plan("kill", targets.Target("sleeper-1", 1, 1, "", {}))
    print("planned", flush=True)
    time.sleep(60)
"""


def test_the_watchdog_undoes_when_the_runner_is_killed(lab, log, tmp_path):
    """SIGKILL of the runner leaves nothing broken: another process undoes the fault, then exits."""
    path = os.pathsep.join([str(Path(watchdog.__file__).parents[1]), str(Path(__file__).parent)])
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": path})
    assert runner.stdout.readline() == "planned\n"
    runner.kill()
    runner.wait()
    deadline_s = time.monotonic() + 20
    while log.pending() and time.monotonic() < deadline_s:
        time.sleep(0.05)

    assert log.pending() == []
    assert lab.healed.read_text() == "sleeper-1"


def test_faults_and_the_vocabulary_of_scenarios_agree():
    """Each fault of the vocabulary exists, is held or instant as stated, and accepts the same targets."""
    listed = {name: (kind.held, kind.targets) for name, kind in vocabulary.FAULT_KINDS.items()}

    assert {name: (fault.held, fault.kinds) for name, fault in faults.FAULTS.items()} == listed
