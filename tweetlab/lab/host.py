"""The machine of a run: enough to refuse a comparison across machines, without anything that identifies a person."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Return CPU model, cores, memory, kernel, its tick rate and scheduler grouping, and the Python in use."""
    return {
        "cpu_model": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "mem_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "hz": _tick_rate(),
        "autogroup": _read("/proc/sys/kernel/sched_autogroup_enabled"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _tick_rate() -> int:
    """Return CONFIG_HZ if the kernel's configuration is readable, else 0 (unknown)."""
    import gzip

    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}")):
        try:
            text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("CONFIG_HZ="):
                return int(line.partition("=")[2])
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
