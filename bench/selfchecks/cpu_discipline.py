"""Which CPU discipline is this kernel's: known tasks beside hogs, against the twin's three models of it.

Three processes get tasks at Poisson times from a real-time process, over a socket, and use a known amount of CPU
for each: 0.2, 1 and 5 ms. Beside them 1 or 4 processes compute without a pause. Each process has a session, so
a scheduling group, of its own. The same arrivals and demands are then played through `sim.resources` and `sim.disciplines`.

    python -m bench.selfchecks.cpu_discipline      # three minutes on an idle machine
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.clock import Environment
from sim.disciplines import CoreQueues, ProcessorSharing
from sim.resources import Host, Process, Wait
from sim.streams import NS, ns
from tweetlab.load.generator import realtime

TASKS: tuple[tuple[float, float], ...] = ((0.0002, 500.0), (0.001, 100.0), (0.005, 20.0))
"""(CPU seconds of a task, tasks per second) of each process: a tenth of a core each."""
HOGS = (1, 4)
SECONDS = 60.0
PULL_AFTER_S = 0.004  # the kernel's tick
QUANTILES = (0.5, 0.95, 0.99)
FRAME = struct.Struct("<q")


@dataclass(frozen=True)
class Tasks:
    """One process's tasks. `due_s`, `took_s`: float64, shape (n,), from the start; from due time to end."""

    demand_s: float
    due_s: np.ndarray
    took_s: np.ndarray


def burn(seconds: float) -> None:
    """Use `seconds` of CPU time in this thread."""
    end_ns = time.thread_time_ns() + int(seconds * 1e9)
    while time.thread_time_ns() < end_ns:
        pass


def _hog() -> None:
    while True:
        pass


def _worker(demand_s: float, tasks: socket.socket, done: socket.socket) -> None:
    while frame := tasks.recv(FRAME.size):
        due_ns = FRAME.unpack(frame)[0]
        burn(demand_s)
        done.send(FRAME.pack(time.monotonic_ns() - due_ns))


def _fork(run: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # the parent may be real-time already
        try:
            run()
        finally:
            os._exit(0)
    return pid


def arrivals(rate_per_s: float, seed: int) -> np.ndarray:
    """Return Poisson arrival times, float64, shape (n,), seconds."""
    draws = np.random.default_rng([seed, int(rate_per_s)]).exponential(1.0 / rate_per_s, int(rate_per_s * SECONDS * 1.3))
    times = np.cumsum(draws)
    return times[times < SECONDS]


def measured(hogs: int, seed: int = 1) -> list[Tasks]:
    """Run the tasks beside `hogs` processes; return what each process's tasks took."""
    pids, workers, due = [], [], []
    for demand_s, rate_per_s in TASKS:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        back, done = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pids.append(_fork(functools.partial(_worker, demand_s, theirs, done)))
        workers.append((ours, back))
        due.append(arrivals(rate_per_s, seed))
    pids += [_fork(_hog) for _ in range(hogs)]
    realtime.prefer()
    order = sorted((when, index) for index, times in enumerate(due) for when in times)
    took: list[list[int]] = [[] for _ in TASKS]
    for _, back in workers:
        back.setblocking(False)
    try:
        start_ns = time.monotonic_ns() + 200_000_000
        for when, index in order:
            due_ns = start_ns + int(when * 1e9)
            while (wait_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(wait_ns / 1e9)
            workers[index][0].send(FRAME.pack(time.monotonic_ns()))
            _collect(workers, took)
        time.sleep(1.0)
        _collect(workers, took)
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    return [Tasks(demand_s, times[: len(took[i])], np.asarray(took[i]) / 1e9)
            for i, ((demand_s, _), times) in enumerate(zip(TASKS, due, strict=True))]


def _collect(workers: list[tuple[socket.socket, socket.socket]], took: list[list[int]]) -> None:
    for index, (_, back) in enumerate(workers):
        while True:
            try:
                took[index].append(FRAME.unpack(back.recv(FRAME.size))[0])
            except BlockingIOError:
                break


def simulated(hogs: int, host: Callable[[Environment, int], Host], cores: int, seed: int = 1) -> list[Tasks]:
    """Play the same tasks through a model of the host."""
    env = Environment(initial_time=0)
    cpu = host(env, cores)
    took: list[list[float]] = [[] for _ in TASKS]

    def task(process: Process, demand_s: float, index: int) -> Wait:
        start_ns = env.now
        yield process.work(demand_s)
        took[index].append((env.now - start_ns) / NS)

    def arrive(process: Process, demand_s: float, index: int, times: Sequence[float]) -> Wait:
        for when in times:
            yield env.timeout(ns(when) - env.now)
            env.process(task(process, demand_s, index))

    for number in range(hogs):
        Process(env, cpu, f"hog-{number}", 1).work(10 * SECONDS)
    due = [arrivals(rate_per_s, seed) for _, rate_per_s in TASKS]
    for index, ((demand_s, _), times) in enumerate(zip(TASKS, due, strict=True)):
        env.process(arrive(Process(env, cpu, f"tasks-{index}", 1), demand_s, index, times.tolist()))
    env.run(until=ns(SECONDS + 1.0))
    return [Tasks(demand_s, times, np.asarray(took[i])) for i, ((demand_s, _), times) in enumerate(zip(TASKS, due, strict=True))]


def _run_queue(slice_ms: float, env: Environment, cores: int) -> Host:
    return Host(env, cores, ns(slice_ms / 1e3))


def _core_queues(slice_ms: float, env: Environment, cores: int) -> Host:
    return CoreQueues(env, cores, ns(slice_ms / 1e3), ns(PULL_AFTER_S))


MODELS: dict[str, Callable[[Environment, int], Host]] = {
    "processor sharing": lambda env, cores: ProcessorSharing(env, cores),
    **{f"one run queue, slices of {ms:g} ms": functools.partial(_run_queue, ms) for ms in (0.7, 1.4, 2.0, 2.8, 4.0)},
    **{f"a queue per core, slices of {ms:g} ms": functools.partial(_core_queues, ms) for ms in (0.7, 1.4, 2.8)},
}


def quantiles_ms(tasks: Tasks) -> list[float]:
    """Return mean, p50, p95 and p99 of what the tasks took, ms."""
    return [float(tasks.took_s.mean()) * 1e3, *(float(np.quantile(tasks.took_s, q)) * 1e3 for q in QUANTILES)]


def main() -> None:
    """Print the table: measured quantiles and, for each model, predicted / measured."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    cores = os.cpu_count() or 1
    result: dict[str, Any] = {"cores": cores, "measured_ms": {}, "models": {}}
    errors: dict[str, list[float]] = {name: [] for name in MODELS}
    for hogs in HOGS:
        real = measured(hogs)
        played = {name: simulated(hogs, model, cores) for name, model in MODELS.items()}
        for index, tasks in enumerate(real):
            key = f"{tasks.demand_s * 1e3:g} ms beside {hogs}"
            result["measured_ms"][key] = [round(value, 3) for value in quantiles_ms(tasks)]
            for name in MODELS:
                predicted = quantiles_ms(played[name][index])
                ratios = [p / m for p, m in zip(predicted, quantiles_ms(tasks), strict=True)]
                result["models"].setdefault(name, {})[key] = [round(ratio, 2) for ratio in ratios]
                errors[name] += [abs(math.log(ratio)) for ratio in ratios]
    result["median_log_error"] = {name: round(float(np.median(values)), 3) for name, values in errors.items()}
    result["mean_log_error"] = {name: round(float(np.mean(values)), 3) for name, values in errors.items()}
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
