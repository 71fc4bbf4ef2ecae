"""A prediction with the twin alone: what `run --on twin` and `tweetlab.api.simulate` share. Starts no server.

    chosen = calibration_of("")                  # the one of this machine, else the shipped one
    predicted = predict(scenario, chosen.calibration)
"""

from __future__ import annotations

from collections.abc import Iterable

from scenarios import spec
from sim import faults, replication, services, twin
from sim.calibration import Calibration
from system.kernel.errors import CouldNotRun
from tweetlab.calibrate import fingerprint, store
from tweetlab.run.inputs import Inputs, draw


def calibration_of(file: str = "") -> store.Chosen:
    """Return the calibration for a prediction on this machine. `file`: an explicit one, "" for none.

    Raises WrongInput if that file is not a calibration.
    """
    return store.choose(file, fingerprint.here())


def unmodelled(routes: Iterable[str], scenario: spec.Scenario) -> list[str]:
    """Return which of `routes`, and of the faults of the scenario, the twin does not model."""
    return [*sorted(set(routes) - services.ROUTES.keys()), *faults.lacking(scenario)]


def refuse_unmodelled(routes: Iterable[str], scenario: spec.Scenario) -> None:
    """Raise CouldNotRun if the twin does not model one of `routes`, or a fault of the scenario."""
    if lacking := unmodelled(routes, scenario):
        raise CouldNotRun(f"The twin does not model {', '.join(lacking)}, which this scenario contains. To fix: run it on "
                          "the real system, --on system.")


def predict(scenario: spec.Scenario, calibrated: Calibration, *, inputs: Inputs | None = None,
            replications: int = twin.REPLICATIONS, engine: str = replication.DEFAULT,
            progress: twin.Progress | None = None) -> twin.Prediction:
    """Predict `scenario`. `inputs`: its world and arrivals; None draws them. `engine`: a word of sim.replication.ENGINES.

    Raises CouldNotRun if the scenario contains what the twin does not model.
    """
    drawn = inputs or draw(scenario)
    refuse_unmodelled(drawn.tape.planned(), scenario)
    return twin.run(scenario, calibrated, drawn.tape, drawn.world.graph, past=drawn.world.past, replications=replications,
                    engine=engine, progress=progress)
