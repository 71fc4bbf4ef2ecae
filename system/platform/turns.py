"""How long a process may run before the kernel looks who else is due: its slice.

Linux' scheduler (EEVDF, from 6.12 on with a slice for each thread) gives every process the same share of a core, and the
next turn to the one whose deadline is nearest: who asks for shorter turns gets them sooner, and no more of them. A request
crosses a dozen processes; on two busy cores it waits for a turn at each, and with the kernel's 3 ms those waits are most of
a post's latency. Older kernels take the wish and do nothing with it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

SHORTEST_US, LONGEST_US = 100, 100_000  # the kernel's own bounds; it corrects what lies beyond them

_SYSCALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}  # sched_setattr, sched_getattr
_ATTR = struct.Struct("=IIQiIQQQII")  # size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
_RUNTIME = 5  # place of the slice (ns) among them


def shorten(pid: int, slice_us: int) -> bool:
    """Ask for turns of `slice_us` for every thread of `pid`; threads that it starts later inherit them.

    Returns False where the process is gone, is no ordinary one (real-time), or the system knows no such call.
    """
    try:
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return False
    asked = [_ask(thread, slice_us * 1_000) for thread in threads]
    return all(asked)


def slice_us(pid: int) -> int:
    """Return the slice that `pid` asked for, in µs; 0 for the kernel's own, or where that cannot be known."""
    found = _read(pid)
    return int(found[_RUNTIME]) // 1_000 if found else 0


def _ask(thread: int, slice_ns: int) -> bool:
    found = _read(thread)
    if found is None or found[1] != os.SCHED_OTHER:
        return False
    found[_RUNTIME] = slice_ns
    return _call(0, thread, ctypes.create_string_buffer(_ATTR.pack(*found)), 0)


def _read(thread: int) -> list[int] | None:
    buffer = ctypes.create_string_buffer(_ATTR.size)
    return list(_ATTR.unpack(buffer.raw)) if _call(1, thread, buffer, _ATTR.size, 0) else None


def _call(which: int, thread: int, *args: object) -> bool:
    numbers = _SYSCALLS.get(platform.machine())
    return numbers is not None and ctypes.CDLL(None).syscall(numbers[which], thread, *args) == 0
