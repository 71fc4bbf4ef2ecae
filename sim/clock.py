"""Simulated time: SimPy's environment with whole nanoseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import simpy

if TYPE_CHECKING:

    class Environment(simpy.Environment):
        """A SimPy environment whose time is a whole number of nanoseconds."""

        @property
        def now(self) -> int:
            """Simulated time, ns."""

else:
    Environment = simpy.Environment


def call_after(env: Environment, delay_ns: int, function: Callable[[Any], None], value: object = None) -> None:
    """Call `function(event)` after `delay_ns` of simulated time; `event.value` is `value`."""
    env.timeout(delay_ns, value).callbacks.append(function)
