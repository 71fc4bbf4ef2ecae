"""How functions are compiled: by numba, kept in `sources.folder()`.

`NUMBA_DISABLE_JIT=1` runs everything as plain Python, with bounds checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from sim.compiled import sources

Function = TypeVar("Function", bound=Callable[..., Any])


def _kept() -> bool:
    """Return whether compiled functions can be kept."""
    folder = sources.folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # an installation that only its owner may change: compiled again in each process
        return False
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return True


KEPT = _kept()


def jit(function: Function) -> Function:
    """Compile `function` as a part of the kernel that calls it."""
    return numba.njit(error_model="numpy", nogil=True)(function)  # type: ignore[return-value]


def kernel(function: Function) -> Function:
    """Compile `function`, which Python calls, and keep the result."""
    return numba.njit(error_model="numpy", nogil=True, cache=KEPT)(function)  # type: ignore[return-value]
