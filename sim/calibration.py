"""Parameters of the model: CPU per unit of work, delays, background CPU. One JSON file with its provenance.

A file states the source and the bounds of each number, and whether the runs could determine it at all
(`identified`). `default()` is the file that ships with the lab, so that the twin needs only Python.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sim.resources import SLICE_NS
from sim.speed import CoreSpeed
from system.kernel import numbers
from system.kernel.errors import WrongInput

SCHEMA_VERSION = 1
LEAST_SPREAD = 0.03
STAND_INS: dict[str, str] = {
    "gateway-1.like": "gateway-1.follow", "liker-1.event": "indexer-1.event", "likes-1.cold_tweets": "tweets-1.cold_tweets",
    "likes-1.like": "users-1.follow", "load-generator.like": "load-generator.follow", "postgres-1.count_likes": "postgres-1.user",
    "postgres-1.like": "postgres-1.edge", "redis-1.put_counts": "redis-1.own",
    "cdn-1.hit": "haproxy-1.public", "cdn-1.miss": "haproxy-1.mesh", "elasticsearch-1.band": "elasticsearch-1.index",
    "elasticsearch-1.view": "elasticsearch-1.index", "minio-1.head": "minio-1.get", "postgres-1.media_read": "postgres-1.user",
    "postgres-1.media_write": "postgres-1.edge", "postgres-1.privacy": "postgres-1.user",
    "liker.poll": "indexer.poll", "limits-1.take": "redis-1.own", "redis-1.remove": "redis-1.push",
}
"""Unit or delay -> a similar one that replaces it in files that are older than it. Marked as unidentified."""

DEFAULT = Path(__file__).with_name("default_calibration.json")


@dataclass(frozen=True)
class UnitCost:
    """CPU of one unit of work: `base_us + per_item_us * size` microseconds.

    `low_us`, `high_us`: 90 % bounds of the cost at the observed sizes (bootstrap over windows); equal to the
    value without resampling. `identified`: False if the runs could not separate this unit from others, or it
    did not occur, so that the value is the prior's. `source`: of the value.
    """

    base_us: float
    per_item_us: float = 0.0
    low_us: float = 0.0
    high_us: float = 0.0
    identified: bool = False
    source: str = ""


@dataclass(frozen=True)
class Exponent:
    """How the cost of a process' work falls with its load: (w / reference)^-exponent, w in nominal cores.

    `lowest`, `highest`: the range of w beyond which the factor stays constant. `low`, `high`: 90 % bounds of the
    exponent.
    """

    exponent: float
    reference: float
    lowest: float
    highest: float
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class DelayShape:
    """A delay without CPU as quantiles at even steps from 0 to 1 (one value: a constant), milliseconds."""

    quantiles_ms: tuple[float, ...]
    source: str = ""


@dataclass(frozen=True)
class Calibration:
    """All parameters of a prediction.

    `cores`: of the machine. `exponents`: by node; a node without one has constant costs. `off_path`: share of a node's CPU
    that no request waits for. `background_cores`: CPU that is used independent of load, by node. `core_speed`: how the
    speed of each core changes. `slice_ms`: for which a process keeps its core while others wait. `noise_cv`: coefficient of
    variation of one unit's demand. `in_sample_of`: id of the run it was made from. `fingerprint`: of the machine and the
    versions it holds for (`sim.fingerprint`). `diagnostics`: condition number and residuals by node, residuals of the delays.
    """

    label: str
    cores: float
    units: Mapping[str, UnitCost]
    delays: Mapping[str, DelayShape]
    exponents: Mapping[str, Exponent] = field(default_factory=dict)
    off_path: Mapping[str, float] = field(default_factory=dict)
    background_cores: Mapping[str, float] = field(default_factory=dict)
    core_speed: CoreSpeed = field(default_factory=CoreSpeed)
    slice_ms: float = SLICE_NS / 1e6
    noise_cv: float = 0.5
    in_sample_of: str = ""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file, sorted, so that two calibrations can be compared line by line."""
        document = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @property
    def spread(self) -> float:
        """Relative standard deviation of the CPU that this calibration predicts: how far its own rungs scatter, which
        includes the changing speed of the machine; LEAST_SPREAD where it keeps no rungs.
        """
        errors = [rung["error"]["cpu"] for rung in self.diagnostics.get("rungs", ()) if "cpu" in rung["error"]]
        return max(LEAST_SPREAD, statistics.pstdev(errors)) if len(errors) > 1 else LEAST_SPREAD

    def costing(self, factors: Mapping[str, float]) -> Calibration:
        """Return the calibration with the costs of the processes in `factors` (node -> factor) changed."""
        units = {name: replace(cost, base_us=cost.base_us * factor, per_item_us=cost.per_item_us * factor)
                 for name, cost in self.units.items() for factor in (factors.get(name.partition(".")[0], 1.0),)}
        return replace(self, units=units)

    def scaled(self, factors: Mapping[str, float]) -> Calibration:
        """Return the calibration of a machine on which the work of these processes takes `factors` (node -> factor) times
        the CPU at every load.
        """
        exponents = {
            name: replace(one, reference=one.reference * factor, lowest=one.lowest * factor, highest=one.highest * factor)
            for name, one in self.exponents.items() for factor in (factors.get(name, 1.0),)
        }
        return replace(self.costing(factors), exponents=exponents)

    @property
    def nodes(self) -> set[str]:
        """The processes with a cost."""
        return {name.partition(".")[0] for name in self.units}

    def brief(self) -> dict[str, Any]:
        """Return what a record stores: label, provenance, diagnostics and unidentified units."""
        return {
            "label": self.label,
            "provenance": dict(self.provenance),
            "diagnostics": dict(self.diagnostics),
            "background_cores": dict(self.background_cores),
            "fingerprint": dict(self.fingerprint),
            "spread": round(self.spread, 4),
            "unidentified": sorted(name for name, cost in self.units.items() if not cost.identified),
        }


def load(path: Path) -> Calibration:
    """Read a calibration file. Raises WrongInput if it is not one, or has another schema version."""
    try:
        raw = numbers.parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise WrongInput(f"{path} is not a calibration file ({problem}); `make demo` makes one.") from None
    version = raw.pop("schema_version", None) if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise WrongInput(
            f"{path} has schema_version {version!r}; it must be {SCHEMA_VERSION}. `make demo` makes a new one."
        )
    try:
        raw["units"] = {name: UnitCost(**cost) for name, cost in raw["units"].items()}
        raw["delays"] = {
            name: DelayShape(tuple(shape["quantiles_ms"]), shape.get("source", "")) for name, shape in raw["delays"].items()
        }
        raw["core_speed"] = CoreSpeed(**raw.get("core_speed", {}))
        raw["exponents"] = {name: Exponent(**one) for name, one in raw.get("exponents", {}).items()}
        return _completed(Calibration(**raw))
    except (KeyError, TypeError, AttributeError) as problem:
        raise WrongInput(f"{path} is not a calibration file ({problem!r}); `make demo` makes one.") from None


def _completed(loaded: Calibration) -> Calibration:
    units, delays = dict(loaded.units), dict(loaded.delays)
    for name, other in STAND_INS.items():
        source = f"not measured; as {other}"
        if name not in units and other in units:
            units[name] = replace(units[other], identified=False, source=source)
        elif name not in delays and other in delays:
            delays[name] = replace(delays[other], source=source)
    return replace(loaded, units=units, delays=delays)


def default() -> Calibration:
    """Return the calibration that ships with the lab."""
    return load(DEFAULT)
