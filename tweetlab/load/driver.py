"""Client of the load process: starts it, forwards its progress, and returns its results, however it ends.

    target = driver.Target(base_url, jwt_secret)
    load = driver.Load(scenario, tape, target, out_dir, on_second=driver.progress_display(console))
    start_ns, start_wall_ms = await load.begin()
    result = await load.finish(stop)
    rows = driver.history(result)

The caller handles Ctrl-C: it sets `stop`; the load then ends, requests in flight are awaited, and everything
is written. If the load process is killed, the result has every attempt that ended before the last full
second, and an unknown outcome for every request sent after that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from scenarios import spec, workload
from scenarios.world import population
from system.kernel.errors import CouldNotRun
from tweetlab.load import tables, warm
from tweetlab.load.live import Tick, progress_display

__all__ = ["GeneratorHealth", "Load", "LoadResult", "Options", "Target", "Tick", "history", "planned", "probes",
           "progress_display", "run"]

ROOT = Path(__file__).resolve().parents[2]
CLIENT_EXTRA_S = 2.0  # the client waits this much longer than the gateway's deadline, so that the 504 arrives first
AFTER_S = 30.0  # grace after the load and its drain; a process that has not ended by then is killed
START_S, END_S = 60.0, 5.0  # imports take a second or two, signing 100,000 users' tokens a few more
LINE_BYTES = 1 << 20
FILES = ("rows.jsonl", "invokes.jsonl", "probes.jsonl")


@dataclass(frozen=True)
class GeneratorHealth:
    """The generator's own measurements. None: unknown, because its process died.

    `start_lag_ms_*`: actual minus intended start. `cpu_share`: of one core. `lost`: planned operations, due
    before the load ended, that have no row. `sched`: the scheduling class that it got. `walked`: planned
    operations that it started. `retries_refused`: retries that the retry budget did not allow. `warmed`:
    readers whose caches were filled before the load.
    """

    start_lag_ms_p50: float | None
    start_lag_ms_p99: float | None
    start_lag_ms_max: float | None
    cpu_share: float | None
    lost: int
    sched: str
    planned: int
    walked: int
    retries_refused: int
    probe_pairs: int
    max_rss_mib: float | None
    warmed: int = 0


@dataclass(frozen=True)
class LoadResult:
    """`folder`: rows.jsonl, invokes.jsonl, probes.jsonl, tape.npz.

    `died`: why the process ended, "" for a normal end.

    `start_ns`, `start_wall_ms`: the start of the load by both clocks. `stopped_early`: by `stop`.
    `scanned`: replies that were searched for the canary; `leaks`: requests whose reply contained it.
    """

    folder: Path
    rows_path: Path
    start_ns: int
    start_wall_ms: int
    load_s: float
    stopped_early: bool
    generator: GeneratorHealth
    died: str = ""
    scanned: int = 0
    leaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """The API that a load is sent to. `jwt_secret` signs the tokens of its users.

    `name_servers`: DNS servers (host:port) of a lab in zones: the load goes to the load balancers that they
    return, resolved again each second; `base_url` is one of these, for requests before the load.
    """

    base_url: str
    jwt_secret: str
    region: str = "1"
    name_servers: Sequence[str] = ()


@dataclass(frozen=True)
class Options:
    """What a load does besides its operations.

    `graph`: the graph whose followers the delivery probes poll; None draws it again from the scenario.
    `probes`, `null_route`: switch delivery probes and the null route off for a pure measurement. `canary`: a
    word that no reply may contain; every reply is searched for it. "" searches none.
    """

    graph: population.Graph | None = None
    probes: bool = True
    null_route: bool = True
    canary: str = ""


class Load:
    """One load, in three steps, so that faults and samplers can share its clock.

    `on_second` receives each second's `Tick`; if it has the methods `note` and `close`, they receive lines to
    show and the end of the load.
    """

    def __init__(self, scenario: spec.Scenario, tape: workload.Tape, target: Target, out_dir: Path, *,
                 on_second: Callable[[Tick], None] = lambda tick: None, options: Options | None = None) -> None:
        options = options or Options()
        self._scenario, self._tape, self._folder, self._on_second = scenario, tape, out_dir, on_second
        self._target, self.warmed = target, warm.Warmed(0, 0)
        self._graph, self._probes = options.graph, options.probes and "post" in tape.planned()
        self._job = _job(scenario, target, out_dir, probes=self._probes, null_route=options.null_route, canary=options.canary)
        self._connection: _ProcessConnection | None = None

    async def begin(self) -> tuple[int, int]:
        """Start the process; return the start of the load (monotonic ns, wall ms), which is about 0.7 s in the future.

        Before that, every reader's home page is read once if the scenario has `warm_caches`.
        Raises CouldNotRun, with the end of its log, if the process does not start.
        """
        self._prepare()
        if self._scenario.measure.warm_caches:
            self.warmed = await warm.warm(self._target.base_url, self._target.jwt_secret, warm.readers(self._tape))
        with (self._folder / "generator.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tweetlab.load.generator.process", stdin=PIPE, stdout=PIPE, stderr=log, cwd=ROOT,
                start_new_session=True, limit=LINE_BYTES)
        self._connection = _ProcessConnection(process, self._on_second)
        if not await self._connection.open(self._job):
            await self.close()
            tail = (self._folder / "generator.log").read_text(errors="replace").strip().splitlines()[-3:]
            raise CouldNotRun(f"The load generator did not start; its last lines: {' | '.join(tail) or 'none'}; "
                              f"log: {self._folder / 'generator.log'}.")
        return self._connection.started["start_ns"], self._connection.started["wall_ms"]

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self._folder / name).unlink(missing_ok=True)
        self._tape.save(self._folder / "tape.npz")
        if self._probes:
            graph = self._graph or population.graph_of(self._scenario.population, self._scenario.seed)
            _save_followers(self._folder / "followers.npz", graph, self._tape)

    @property
    def pid(self) -> int:
        """Process id of the generator. Raises RuntimeError before `begin`."""
        if self._connection is None:
            raise RuntimeError("The load was not started; call `begin` first.")
        return self._connection.pid

    async def finish(self, stop: asyncio.Event) -> LoadResult:
        """Wait until the load and its requests in flight have ended, or `stop` was set; return the result."""
        if self._connection is None:
            raise RuntimeError("The load was not started; call `begin` first.")
        load_s = self._scenario.workload.load_s
        try:
            await self._connection.follow(stop, load_s + float(self._job["timeout_s"]) + AFTER_S)
        finally:
            await self.close()
        result = _result(self._connection, self._tape, load_s, self._folder)
        return dataclasses.replace(result, generator=dataclasses.replace(result.generator, warmed=self.warmed.read))

    async def close(self) -> None:
        """End the process if it still runs. Idempotent."""
        if self._connection is not None:
            await self._connection.end()
        close = getattr(self._on_second, "close", None)
        if close is not None:
            close()


async def run(scenario: spec.Scenario, tape: workload.Tape, target: Target, out_dir: Path,
              on_second: Callable[[Tick], None], stop: asyncio.Event, options: Options | None = None) -> LoadResult:
    """Play `tape` against `target` from start to end; parameters as in `Load`. Raises CouldNotRun."""
    load = Load(scenario, tape, target, out_dir, on_second=on_second, options=options)
    await load.begin()
    return await load.finish(stop)


def history(result: LoadResult) -> pd.DataFrame:
    """Return the history of a load: one row per attempt, with the columns of `reports.columns`."""
    return tables.history(result.folder)


def probes(result: LoadResult) -> pd.DataFrame:
    """Return the delivery probes of a load, with the columns of `reports.columns`."""
    return tables.probes(result.folder)


def planned(result: LoadResult) -> pd.DataFrame:
    """Return the planned operations, second pages included: route and due_ns (monotonic), one row per operation."""
    return tables.planned(workload.load(result.folder / "tape.npz"), result.start_ns, history(result))


def _job(scenario: spec.Scenario, target: Target, out_dir: Path, **options: Any) -> dict[str, Any]:
    """Return the job description that the load process reads as JSON."""
    return {"address": urlsplit(target.base_url).netloc or target.base_url, "jwt_secret": target.jwt_secret,
            "region": target.region, "name_servers": list(target.name_servers),
            "out_dir": str(out_dir.resolve()), "run": uuid.uuid4().hex[:8],
            "load_s": scenario.workload.load_s, "timeout_s": scenario.policies.deadline.request_s + CLIENT_EXTRA_S,
            "retry": dataclasses.asdict(scenario.policies.retry), **options}


def _save_followers(path: Path, graph: population.Graph, tape: workload.Tape) -> None:
    touched = np.isin(tape.route, [tape.routes.index(name) for name in ("follow", "unfollow")])
    np.savez(path, follower_start=graph.follower_start, followers=graph.followers,
             touched_follower=tape.user[touched], touched_followee=tape.target[touched])


class _ProcessConnection:
    """Communicates with the load process over its stdin and stdout.

    Kills only this process, by its own handle.
    """

    def __init__(self, process: Process, on_second: Callable[[Tick], None]) -> None:
        self._process, self._on_second = process, on_second
        self.pid = process.pid
        self.started: dict[str, Any] = {}
        self.ended: dict[str, Any] = {}
        self.late = False

    async def open(self, job: dict[str, Any]) -> bool:
        """Send the job; return whether the process reports that it has started."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            await self._process.stdin.drain()
            self._receive(await asyncio.wait_for(self._process.stdout.readline(), START_S))
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            return False  # the caller reports the end of its log
        return bool(self.started)

    async def follow(self, stop: asyncio.Event, most_s: float) -> None:
        """Forward messages until the process reports its end, exits, or `most_s` have passed."""
        stopper = asyncio.create_task(self._send_stop(stop))
        try:
            await asyncio.wait_for(self._listen(), most_s)
        except TimeoutError:
            self.late = True
        finally:
            stopper.cancel()

    async def _send_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        if self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(b"stop\n")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._receive(line)
            if self.ended:
                return

    def _receive(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except json.JSONDecodeError:
            return  # an empty line, or one that a SIGKILL truncated
        event = message.pop("event")
        if event == "started":
            self.started = message
        elif event == "second":
            self._on_second(Tick(**message))
        elif event == "note":
            note = getattr(self._on_second, "note", None)
            if note is not None:
                note(message["text"])
        else:
            self.ended = message

    async def end(self) -> None:
        """Give the process END_S to exit if it reported its end; otherwise kill it."""
        try:
            await asyncio.wait_for(self._process.wait(), END_S if self.ended else 0.1)
        except (TimeoutError, asyncio.CancelledError):
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()


def _result(connection: _ProcessConnection, tape: workload.Tape, load_s: float, folder: Path) -> LoadResult:
    started, ended = connection.started, connection.ended
    lags = ended.get("start_lag_ms", {})
    stopped, walked = bool(ended.get("stopped_early", False)), int(ended.get("walked", 0))
    health = GeneratorHealth(lags.get("p50"), lags.get("p99"), lags.get("max"), ended.get("cpu_share"),
                             _lost(folder, tape, walked if stopped else len(tape)), started["sched"], len(tape), walked,
                             ended.get("retries_refused", 0), ended.get("probe_pairs", 0), ended.get("max_rss_mib"))
    died = "" if ended else "it hung and was killed" if connection.late else "its process died"
    return LoadResult(folder, folder / "rows.jsonl", started["start_ns"], started["wall_ms"], load_s, stopped, health, died,
                      ended.get("scanned", 0), tuple(ended.get("leaks", ())))


def _lost(folder: Path, tape: workload.Tape, expected: int) -> int:
    """Return how many of the first `expected` operations have neither a row nor an invoke."""
    recorded = np.zeros(max(1, len(tape)), bool)
    for name in ("rows.jsonl", "invokes.jsonl"):
        with (folder / name).open("rb") as lines:
            for line in lines:
                try:
                    op = json.loads(line)["op"]
                except (json.JSONDecodeError, KeyError):
                    continue  # a line that a SIGKILL truncated
                if op < len(tape):
                    recorded[op] = True
    return int(expected - recorded[:expected].sum())
