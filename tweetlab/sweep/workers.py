"""The processes that play replications: one per core, each with its own interpreter.

They are children of their own session, so that Ctrl-C in a terminal reaches the sweep and not them, and they import no
user code: a sweep may be started from a script without a main guard or from a notebook.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import Any

from sim.calibration import Calibration
from system.kernel.errors import CouldNotRun
from tweetlab import home
from tweetlab.sweep import replicate, rows
from tweetlab.sweep.replicate import Task

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def all_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Failed(Exception):
    """A replication that raised an error, or whose process died. The text says why."""


class Workers:
    """`count` processes; 0 plays every task at once in this process. Use as a context manager."""

    def __init__(self, calibration: Calibration, count: int) -> None:
        self._calibration = calibration
        self._tasks: queue.SimpleQueue[tuple[Task, Future[rows.Row]] | None] = queue.SimpleQueue()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, task: Task) -> Future[rows.Row]:
        """Queue a task. Its future raises Failed if the replication fails."""
        future: Future[rows.Row] = Future()
        if self._threads:
            self._tasks.put((task, future))
        else:
            self._here(task, future)
        return future

    def close(self) -> None:
        """End the processes; queued tasks are dropped."""
        self._closed.set()
        for child in list(self._children):
            child.kill()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(10.0)

    def _here(self, task: Task, future: Future[rows.Row]) -> None:
        try:
            future.set_result(replicate.play(task, self._calibration))
        except Exception as problem:
            future.set_exception(Failed(f"{type(problem).__name__}: {problem}"))

    def _serve(self) -> None:
        child: subprocess.Popen[bytes] | None = None
        while (entry := self._tasks.get()) is not None:
            task, future = entry
            if self._closed.is_set() or not future.set_running_or_notify_cancel():
                continue
            try:
                child = child or self._start()
                kind, answer = _exchange(child, task)
            except (OSError, EOFError, pickle.UnpicklingError, CouldNotRun) as problem:
                code = None if child is None else child.wait()
                child = None
                future.set_exception(Failed(f"the worker process ended with code {code} ({problem!r})"))
                continue
            if kind == "row":
                future.set_result(answer)
            else:
                future.set_exception(Failed(str(answer)))
        if child is not None:
            child.kill()
            child.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(part for part in (str(home.ROOT), os.environ.get("PYTHONPATH", "")) if part)
        try:
            child = subprocess.Popen([sys.executable, "-P", "-m", "tweetlab.sweep.worker"], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, start_new_session=True,
                                     env={**os.environ, **ONE_THREAD, "PYTHONPATH": path})
        except OSError as problem:
            raise CouldNotRun(f"cannot start a worker process: {problem}; use --workers 1 or free some memory.") from None
        self._children.add(child)
        if self._closed.is_set():
            child.kill()
        _send(child, self._calibration)
        return child


def _exchange(child: subprocess.Popen[bytes], task: Task) -> tuple[str, Any]:
    _send(child, task)
    assert child.stdout is not None
    kind, answer = pickle.load(child.stdout)
    return str(kind), answer


def _send(child: subprocess.Popen[bytes], value: object) -> None:
    assert child.stdin is not None
    pickle.dump(value, child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
    child.stdin.flush()
