"""Does the load generator measure correctly?

Two numbers of `make bench`, measured against a fake with a known result.

The fake gateway replies immediately and freezes once. The true values do not come from the generator: the
fake records when it replied to each operation, and the plan has the intended start.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenarios import spec, workload
from scenarios.world import population
from system.kernel import policies
from system.kernel.errors import CouldNotRun
from tweetlab.load import driver

SECRET = "a secret of the rehearsal, thirty-two bytes long"
RATE_PER_S = 100.0
FREEZE_AT_S, FREEZE_S = 4.0, 2.0
READY_S = 15.0


def freeze_p95_ratio(for_s: float = 12.0) -> float:
    """Return reported ÷ true p95 of the response, with a server that freezes 2 s at 100 requests/s (even)."""
    return asyncio.run(_freeze_p95_ratio(for_s))


def start_lag_p99_ms(for_s: float = 30.0) -> float:
    """Return the p99 of actual minus intended start at 100 requests/s (Poisson), ms."""
    return asyncio.run(_start_lag_p99_ms(for_s))


async def _freeze_p95_ratio(for_s: float) -> float:
    with stand_in(freeze_at_s=FREEZE_AT_S, freeze_s=FREEZE_S) as base_url, tempfile.TemporaryDirectory() as folder:
        tape, result = await play(base_url, Path(folder), "even", for_s)
        rows = driver.history(result)
        answered_ns = await asyncio.to_thread(_answered, base_url)
    home = rows[(rows["route"] == "home") & (rows["outcome"] == "ok") & (rows["op"] < len(tape))]
    if len(home) != len(tape) or not set(range(len(tape))) <= set(answered_ns):
        raise CouldNotRun(f"{len(tape) - len(home)} of {len(tape)} requests got no reply from the fake gateway.")
    truth_ns = np.array([answered_ns[op] for op in range(len(tape))]) - (tape.due_ns + result.start_ns)
    return percentile((home["done_ns"] - home["due_ns"]).to_numpy(), 0.95) / percentile(truth_ns, 0.95)


def _answered(base_url: str) -> dict[int, int]:
    """Return when the fake gateway replied to each operation (monotonic ns)."""
    with urllib.request.urlopen(f"{base_url}/answered", timeout=5) as reply:
        return dict(json.loads(reply.read()))


async def _start_lag_p99_ms(for_s: float) -> float:
    with stand_in() as base_url, tempfile.TemporaryDirectory() as folder:
        _, result = await play(base_url, Path(folder), "poisson", for_s)
    lag_ms = result.generator.start_lag_ms_p99
    if lag_ms is None:
        raise CouldNotRun(f"The generator failed: {result.died}.")
    return lag_ms


async def play(base_url: str, folder: Path, arrivals: str, for_s: float, mix: dict[str, float] | None = None,
               rate_per_s: float = RATE_PER_S, **how: Any) -> tuple[workload.Tape, driver.LoadResult]:
    """Play a small rehearsal at `rate_per_s`; return its tape and the driver's result.

    `how`: fields of `driver.Target` and `driver.Options`, and `on_second` and `stop` of `driver.run`.
    """
    people = spec.Population(users=200, follows=spec.Follows("pareto", 10, 100), history_tweets=5)
    load = spec.Workload(arrivals, (spec.Stage(for_s, rate_per_s, rate_per_s),), mix or {"home": 1.0})
    scenario = spec.Scenario("rehearsal", "Does the generator measure correctly?", "", 5, "small", people, load,
                             policies.Policies(), (), (), spec.Measure(0.0, warm_caches=False))
    tape = workload.draw(scenario, population.generate(people, scenario.seed))
    stop, on_second = how.pop("stop", asyncio.Event()), how.pop("on_second", lambda tick: None)
    target = driver.Target(base_url, SECRET, name_servers=how.pop("name_servers", ()))
    return tape, await driver.run(scenario, tape, target, folder, on_second, stop, driver.Options(**how))


@contextmanager
def stand_in(**knobs: float) -> Iterator[str]:
    """Run the fake gateway in its own process; yield its base URL; stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "bench.selfchecks.gateway_stand_in", "127.0.0.1", str(port)],
                               cwd=driver.ROOT,
                               env={**os.environ, "REHEARSAL": json.dumps(knobs)}, stderr=subprocess.DEVNULL)
    try:
        _await_ready(f"http://127.0.0.1:{port}/null")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except (urllib.error.URLError, OSError) as problem:
            if time.monotonic() > deadline:
                raise CouldNotRun(f"The fake gateway did not answer on {url} within {READY_S:g} s: {problem}.") from None
            time.sleep(0.05)


def percentile(values: NDArray[Any], share: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = np.sort(values)
    return float(ordered[max(0, int(np.ceil(share * len(ordered))) - 1)])
