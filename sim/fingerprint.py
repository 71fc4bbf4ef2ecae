"""Whether a calibration holds for a machine: the same processor, cores and server versions, and a similar speed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# How many times slower or faster a machine may be. On one machine, within a day: 16 to 21 µs, 0.12 to 0.25 ms.
SPEED_TOLERANCES = {"loopback_us": 1.6, "fsync_ms": 2.5}
BUSY_CORES = 0.3  # used by other programs: a speed that was measured beside them is theirs, too
SPEEDS = {"loopback_us": "loopback round trip", "fsync_ms": "fsync"}


def differences(made_on: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return what differs between two fingerprints, a sentence each; empty if a calibration of one holds for the other.

    Server versions are compared where both have the server, speeds where this machine was idle enough to measure them.
    """
    found = [
        f"{what} is {here.get(key)!r} here, {made_on.get(key)!r} there"
        for key, what in (("cpu_model", "the processor"), ("cores", "the number of cores"))
        if here.get(key) != made_on.get(key)
    ]
    mine, theirs = dict(here.get("versions", {})), dict(made_on.get("versions", {}))
    found += [
        f"{server} is {mine[server]} here, {theirs[server]} there"
        for server in sorted(mine.keys() & theirs.keys())
        if mine[server] != theirs[server]
    ]
    busy = float(here.get("others_cores") or 0.0) > BUSY_CORES
    for key, what in SPEEDS.items() if not busy else ():
        a, b = float(here.get(key) or 0.0), float(made_on.get(key) or 0.0)
        allowed = SPEED_TOLERANCES[key]
        if not a or not b or max(a, b) > allowed * min(a, b):
            found.append(f"{what} is {a:g} here, {b:g} there (a factor of {allowed:g} is allowed)")
    return found


def key(fingerprint: Mapping[str, Any]) -> str:
    """Return the name under which a calibration of this machine and these versions is kept, 12 hex digits."""
    exact = {name: fingerprint.get(name) for name in ("cpu_model", "cores", "versions")}
    return hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()[:12]
