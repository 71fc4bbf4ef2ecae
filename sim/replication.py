"""One replication: the tape played once through the model, with one seed, on either engine.

Both engines run the same programs with the same draws and give the same result, to the nanosecond; the compiled one is
some eighty times as fast, the one in SimPy (`sim/engine.py`) is there to be read, changed and compared with.
"""

from __future__ import annotations

from collections.abc import Callable

from scenarios import spec, workload
from sim.calibration import Calibration
from sim.reference import BACKGROUND_TASK_S, CREATES, Played, ReferenceReplication
from sim.state import Seeded
from system.kernel.errors import WrongInput

__all__ = ["BACKGROUND_TASK_S", "COMPILED", "CREATES", "DEFAULT", "ENGINES", "SIMPY", "Played", "Replication"]

COMPILED, SIMPY = "compiled", "simpy"
ENGINES = (COMPILED, SIMPY)
DEFAULT = COMPILED


class Replication:
    """Plays a tape with one seed.

    `count_work`: keep units of work by second. `slowness`: factor on all CPU by time (s), where it was measured. `engine`: a
    word of ENGINES. Raises UnknownStep for what the engine does not have, before the run.
    """

    def __init__(
        self, scenario: spec.Scenario, calibration: Calibration, seeded: Seeded, seed: int, count_work: bool = False,
        slowness: Callable[[float], float] | None = None, engine: str = DEFAULT,
    ) -> None:  # fmt: skip
        if engine not in ENGINES:
            raise WrongInput(f"--engine is {engine!r}; it must be one of {', '.join(ENGINES)}.")
        if engine == SIMPY:
            self._play = ReferenceReplication(scenario, calibration, seeded, seed, count_work, slowness).play
        else:
            from sim.compiled.replication import CompiledReplication  # numba takes a second to import

            self._play = CompiledReplication(scenario, calibration, seeded, seed, count_work, slowness).play

    def play(self, tape: workload.Tape) -> Played:
        """Play the whole tape, drain what is in flight, and return the results."""
        return self._play(tape)
