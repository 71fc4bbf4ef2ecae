"""The door to the load: starts Locust's process, passes its progress on, and returns what it left, whatever ends it.

    result = await driver.run(scenario, tape, base_url, jwt_secret, out_dir, on_second, stop)

Ctrl-C belongs to the caller: it sets `stop`; the load then ends, what is in flight is waited for, and everything is
written. A load process that is killed leaves every ended attempt of the last full second, and an unknown for each send.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from scenarios import population, spec, workload
from system.kernel.errors import CouldNotRun

ROOT = Path(__file__).resolve().parents[2]
CLIENT_EXTRA_S = 2.0  # the client waits this much longer than the gateway's deadline: the 504 comes first
AFTER_S = 30.0  # after the load and its drain, before a process that does not end is killed
LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Tick:
    """One second of load. Latencies in ms of OK responses, from the intended start; `routes` has `all` besides."""

    t_s: int
    planned: int
    sent: int
    ok: int
    fail: int
    info: int
    in_flight: int
    start_lag_ms_p99: float
    cpu_share: float
    routes: dict[str, dict[str, float]]


@dataclass(frozen=True)
class GeneratorHealth:
    """What the generator says about itself. None: not known, because its process died.

    `start_lag_ms_*`: actual minus intended start. `cpu_share`: of one core. `lost`: planned operations, due before the
    load ended, that have no row. `sched`: the scheduling it was granted.
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


@dataclass(frozen=True)
class LoadResult:
    """`folder`: rows.jsonl, invokes.jsonl, probes.jsonl, tape.npz. `died`: why the process ended, empty where it ended well.

    `start_ns`, `start_wall_ms`: the start of the load by both clocks. `stopped_early`: by `stop`.
    """

    folder: Path
    rows_path: Path
    start_ns: int
    start_wall_ms: int
    load_s: float
    stopped_early: bool
    generator: GeneratorHealth
    died: str = ""


async def run(scenario: spec.Scenario, tape: workload.Tape, base_url: str, jwt_secret: str, out_dir: Path,
              on_second: Callable[[Tick], None], stop: asyncio.Event, graph: population.Graph | None = None,
              on_start: Callable[[int], None] | None = None, null_route: bool = True, region: str = "1") -> LoadResult:
    """Play `tape` against `base_url`; return when the load and what it left in flight have ended.

    `graph`: whose followers the delivery probes poll; None leaves the probes out. `on_start(start_ns)` is called about
    0.7 s before the first operation can be due. Raises CouldNotRun where the process does not come up.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in ("rows.jsonl", "invokes.jsonl", "probes.jsonl"):
        (out_dir / name).unlink(missing_ok=True)
    tape.save(out_dir / "tape.npz")
    if graph is not None:
        _save_followers(out_dir / "followers.npz", graph, tape)
    job = _job(scenario, base_url, jwt_secret, out_dir, probes=graph is not None, null_route=null_route, region=region)
    with (out_dir / "generator.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tweetlab.load.child", stdin=PIPE, stdout=PIPE, stderr=log, cwd=ROOT,
            start_new_session=True, limit=LINE_BYTES)
        conversation = _Conversation(process, on_second, on_start)
        try:
            await conversation.hold(job, stop, scenario.workload.load_s + job["timeout_s"] + AFTER_S)
        finally:
            await _end(process)
    return _result(conversation, tape, scenario.workload.load_s, out_dir)


def _job(scenario: spec.Scenario, base_url: str, jwt_secret: str, out_dir: Path, **more: Any) -> dict[str, Any]:
    address = urlsplit(base_url).netloc or base_url
    return {"address": address, "jwt_secret": jwt_secret, "out_dir": str(out_dir.resolve()), "run": uuid.uuid4().hex[:8],
            "load_s": scenario.workload.load_s, "timeout_s": scenario.policies.deadline.request_s + CLIENT_EXTRA_S,
            "retry": dataclasses.asdict(scenario.policies.retry), **more}


def _save_followers(path: Path, graph: population.Graph, tape: workload.Tape) -> None:
    touches = np.isin(tape.route, [tape.routes.index(name) for name in ("follow", "unfollow")])
    np.savez(path, follower_start=graph.follower_start, followers=graph.followers,
             touched_follower=tape.user[touches], touched_followee=tape.target[touches])


class _Conversation:
    """Speaks with the load process until it ends."""

    def __init__(self, process: Process, on_second: Callable[[Tick], None], on_start: Callable[[int], None] | None) -> None:
        self._process, self._on_second, self._on_start = process, on_second, on_start
        self.started: dict[str, Any] = {}
        self.ended: dict[str, Any] = {}
        self.late = False

    async def hold(self, job: dict[str, Any], stop: asyncio.Event, most_s: float) -> None:
        """Send the job and pass on what comes back; return when the process has closed its output."""
        stdin = self._process.stdin
        assert stdin is not None
        stopper = asyncio.create_task(self._tell_stop(stop))
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            await stdin.drain()
            await asyncio.wait_for(self._listen(), most_s + 30)
        except TimeoutError:
            self.late = True
        except (BrokenPipeError, ConnectionResetError):
            pass  # it died before it read its job: `_result` tells
        finally:
            stopper.cancel()

    async def _tell_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        if self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(b"stop\n")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._heard(json.loads(line))
            if self.ended:
                return

    def _heard(self, message: dict[str, Any]) -> None:
        event = message.pop("event")
        if event == "started":
            self.started = message
            if self._on_start is not None:
                self._on_start(message["start_ns"])
        elif event == "second":
            self._on_second(Tick(**message))
        else:
            self.ended = message


async def _end(process: Process) -> None:
    """Let the process end; kill it where it does not. Only ever this one, by its own handle."""
    try:
        await asyncio.wait_for(process.wait(), 5)
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise


def _result(conversation: _Conversation, tape: workload.Tape, load_s: float, folder: Path) -> LoadResult:
    started, ended = conversation.started, conversation.ended
    if not started:
        tail = (folder / "generator.log").read_text(errors="replace").strip().splitlines()[-3:]
        raise CouldNotRun(f"The load generator did not start; its last lines: {' | '.join(tail) or 'none'}; "
                          f"log: {folder / 'generator.log'}.")
    lags = ended.get("start_lag_ms", {})
    stopped, walked = bool(ended.get("stopped_early", False)), int(ended.get("walked", 0))
    health = GeneratorHealth(lags.get("p50"), lags.get("p99"), lags.get("max"), ended.get("cpu_share"),
                             _lost(folder, tape, walked if stopped else len(tape)), started["sched"], len(tape), walked,
                             ended.get("retries_refused", 0), ended.get("probe_pairs", 0), ended.get("max_rss_mib"))
    died = "" if ended else "it hung and was killed" if conversation.late else "its process died"
    return LoadResult(folder, folder / "rows.jsonl", started["start_ns"], started["wall_ms"], load_s, stopped, health, died)


def _lost(folder: Path, tape: workload.Tape, expected: int) -> int:
    """Return how many of the first `expected` operations have neither a row nor an invoke."""
    seen = np.zeros(max(1, len(tape)), bool)
    for name in ("rows.jsonl", "invokes.jsonl"):
        with (folder / name).open("rb") as lines:
            for line in lines:
                try:
                    op = json.loads(line)["op"]
                except (json.JSONDecodeError, KeyError):
                    continue  # the line that a SIGKILL cut
                if op < len(tape):
                    seen[op] = True
    return int(expected - seen[:expected].sum())
