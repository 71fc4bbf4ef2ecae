"""What a calibration is valid for: processor, cores and server versions, and the speed of loopback and disk."""

from __future__ import annotations

import functools
import os
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from tweetlab import home
from tweetlab.lab import host

EXCHANGES = 2_000
FLUSHES = 60
BLOCK = b"x" * 4096


def here() -> dict[str, Any]:
    """Return the fingerprint of this machine; measured once per process, in about half a second.

    Keys: cpu_model, cores, versions (of the servers that are installed), loopback_us (round trip, lower quartile), fsync_ms
    (4 KiB on the disk of the stores, median).
    """
    return dict(_measured())


@functools.cache
def _measured() -> dict[str, Any]:
    from system.platform import native

    lab = native.Lab(home.ROOT, home.lab_range())
    known, versions = host.describe(), {kind: version for kind, version in lab.versions().items() if version}
    start_s, others_s = time.monotonic(), _others_s()
    loopback, fsync = loopback_us(), fsync_ms(lab.paths.data_dir.parent)
    others_cores = (_others_s() - others_s) / (time.monotonic() - start_s)
    return {
        "cpu_model": known["cpu_model"],
        "cores": known["cores"],
        "versions": versions,
        "loopback_us": round(loopback, 2),
        "fsync_ms": round(fsync, 3),
        "others_cores": round(max(others_cores, 0.0), 2),
    }


def _others_s() -> float:
    """Return the CPU that other processes have used since the machine started, seconds."""
    machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return float(machine.user + machine.nice + machine.system - own.user - own.system)


def loopback_us() -> float:
    """Return the lower quartile of the round trips of one byte over a TCP connection on loopback, µs.

    Both ends on one core: across two it is the time in which an idle core wakes up, which differs threefold from one
    minute to the next.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # a thread starts on the cores of the one that made it
    try:
        return _round_trip_us()
    finally:
        os.sched_setaffinity(0, allowed)


def _round_trip_us() -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(64):
                    peer.sendall(data)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        with socket.create_connection(server.getsockname(), timeout=5.0) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            took = []
            for _ in range(EXCHANGES):
                start_ns = time.perf_counter_ns()
                client.sendall(b"x")
                client.recv(64)
                took.append(time.perf_counter_ns() - start_ns)
        thread.join(5.0)
    return statistics.quantiles(took, n=4)[0] / 1e3


def fsync_ms(folder: Path) -> float:
    """Return the median time of a durable write of 4 KiB in `folder`, ms."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        took = []
        for _ in range(FLUSHES):
            start_ns = time.perf_counter_ns()
            file.write(BLOCK)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter_ns() - start_ns)
    return statistics.median(took) / 1e6
