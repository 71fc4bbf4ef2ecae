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
INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # Python never calls it, so it is compiled faster


def jit(function: Function) -> Function:
    """Compile `function` as a part of the kernel that calls it."""
    return _compiled(function, **INNER)


def inline(function: Function) -> Function:
    """Compile `function` into each function that calls it: a call costs more than most of these do."""
    return _compiled(function, **INNER, forceinline=True)


def kernel(function: Function) -> Function:
    """Compile `function`, which Python calls, and keep the result."""
    return _compiled(function, cache=KEPT)


def _compiled(function: Function, **options: bool) -> Function:
    # Without `_nrt`: no function creates an array, so references to those that are passed need no (atomic) counts.
    njit: Any = numba.njit  # its types lack some of its options
    compiled: Function = njit(error_model="numpy", nogil=True, _nrt=False, **options)(function)
    return compiled
