"""Where calibrations are kept, and which one a prediction uses.

| calibration | made by | kept in | used |
|---|---|---|---|
| full | `tweetlab calibrate` | the user's cache folder, by processor and versions | where its fingerprint matches |
| quick | `make demo` | `.tweetlab/` of this checkout | for the demo's own prediction, and where there is no full one |
| shipped | with the project | `sim/` | everywhere else, labelled with its machine |
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim import calibration, fingerprint
from sim.calibration import Calibration
from system.platform.install import packages
from tweetlab import home

NOT_HERE = "not calibrated on this machine"


@dataclass(frozen=True)
class Chosen:
    """A calibration and where it comes from. `path`: of its file. `foreign`: why it does not hold for this machine;
    empty if it does, or if this machine's fingerprint is not known.
    """

    calibration: Calibration
    path: Path
    foreign: tuple[str, ...] = ()

    @property
    def age_s(self) -> float:
        """Seconds since the file was written."""
        return time.time() - self.path.stat().st_mtime


def folder() -> Path:
    """Return the folder of this user's full calibrations. It may not exist yet."""
    return packages.cache() / "calibrations"


def full_path(here: dict[str, Any]) -> Path:
    """Return the file of the full calibration of the machine with this fingerprint."""
    return folder() / f"{fingerprint.key(here)}.json"


def quick_path() -> Path:
    """Return the file of the demo's calibration."""
    return home.ROOT / ".tweetlab" / "calibration.json"


def keep(made: Calibration, path: Path) -> Path:
    """Write a calibration, completely or not at all; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    made.save(part)
    part.replace(path)
    return path


def choose(file: str, here: dict[str, Any]) -> Chosen:
    """Return the calibration for a prediction on this machine. `file`: an explicit one, "" for none.

    Raises WrongInput if that file is not a calibration.
    """
    if file:
        return _judged(Path(file), here)
    shipped = calibration.default()
    for path in (full_path(here), quick_path()):
        if path.exists():
            found = _judged(path, here)
            # One that is older than a unit of work of the model cannot predict that work.
            if not found.foreign and found.calibration.units.keys() >= shipped.units.keys():
                return found
    return _judged(calibration.DEFAULT, here)


def _judged(path: Path, here: dict[str, Any]) -> Chosen:
    loaded = calibration.load(path)
    foreign = tuple(fingerprint.differences(loaded.fingerprint, here)) if here else ()
    if foreign:
        loaded = dataclasses.replace(loaded, label=foreign_label(loaded))
    return Chosen(loaded, path, foreign)


def foreign_label(made: Calibration) -> str:
    """Return the label of a calibration that does not hold for this machine."""
    return f"{made.label} of {described(made)}, {NOT_HERE}"


def described(made: Calibration) -> str:
    """Return the machine of a calibration in a few words."""
    known = made.fingerprint
    day = str(made.provenance.get("started_at", ""))[:10]
    return f"{known.get('cpu_model', 'an unknown processor')} with {known.get('cores', '?')} cores{', ' + day if day else ''}"
