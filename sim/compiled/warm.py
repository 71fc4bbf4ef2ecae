"""Compiles the engine and keeps the result, so that no prediction waits for it: `python -m sim.compiled.warm`.

Takes a minute; a tenth of a second if nothing has changed. Results of older sources are removed.
"""

from __future__ import annotations

import shutil
import sys

from sim.compiled import sources


def main() -> int:
    """Compile what is not compiled yet."""
    folder = sources.folder()
    stamp = folder / "complete"
    if stamp.exists():
        return 0
    print("twin: compiling its engine (a minute, once per version)", file=sys.stderr)
    _play()
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    stamp.touch()
    return 0


def _play() -> None:
    """Play a second of a small scenario, with a fault and two instances of each service."""
    from scenarios import loader, workload
    from scenarios.world import population
    from sim import calibration
    from sim.compiled.replication import CompiledReplication
    from sim.state import Seeded

    scenario = loader.load("first_run", (
        "workload.stages.0.for=2 s", "measure.warm_up=0", "population.users=60",
        "population.follows={shape: even, mean: 5, max: 9}", "objectives=[errors < 50 % whole]",
        "policies.autoscale={min: 2, max: 3}",
        "faults=[{at: 1 s, kind: kill, target: fanout-1}]"))  # fmt: skip
    graph = population.graph_of(scenario.population, scenario.seed)
    seeded = Seeded.of(scenario, graph)
    CompiledReplication(scenario, calibration.default(), seeded, 1).play(workload.draw(scenario, graph))


if __name__ == "__main__":
    sys.exit(main())
