"""What limits the throughput, by the utilization law, and what relieving it gives.

The service demand of a station is the CPU that it uses per completed operation, D = U / X. No station completes more
than its capacity / D per second, so the one with the lowest bound limits the system:

    the machine      cores / sum of all demands
    an event loop    one core / its demand (gateway, services, workers, Redis, HAProxy)
    a CPU quota      quota * instances / the demand of the service

The bound is where utilization would be 100 %. An objective on latency is missed below it: the knee of the sweep is the
rate at which that happens, the bound says which station causes it. Demands are those at the measured rate; costs that fall
with load make the bound a low estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scenarios import spec
from sim import services
from sim.calibration import Calibration

MACHINE = "the machine"
SHOWN = 4


@dataclass(frozen=True)
class Station:
    """`bound_per_s`: throughput at which it is fully used. `demand_ms`: CPU per operation. `utilization`: 0 to 1, now."""

    name: str
    bound_per_s: float
    demand_ms: float
    utilization: float


@dataclass(frozen=True)
class Relief:
    """What one change would give: `bound_per_s` after it, and the station that limits then."""

    change: str
    bound_per_s: float
    then: str


def stations(row: Mapping[str, Any], scenario: spec.Scenario, calibration: Calibration) -> list[Station]:
    """Return the stations by their bound, the lowest first; empty if nothing was completed.

    `row`: of a replication, or the mean over several, at a rate that was carried.
    """
    done_per_s = float(row["ok_per_s"])
    if done_per_s <= 0.0:
        return []
    idle = calibration.background_cores
    work = {node: max(0.0, float(cores) - idle.get(node, 0.0)) for node, cores in row["cores"].items()}
    demand = {node: cores / done_per_s for node, cores in work.items()}
    total = sum(demand.values())
    free = calibration.cores - sum(idle.values())
    found = [Station(MACHINE, free / total, 1e3 * total, sum(row["cores"].values()) / calibration.cores)] if total else []
    for node, seconds in demand.items():
        limit = capacity_of(node, scenario)
        if limit and seconds > 1e-9:
            found.append(Station(node, (limit - idle.get(node, 0.0)) / seconds, 1e3 * seconds, row["cores"][node] / limit))
    return sorted(found, key=lambda station: station.bound_per_s)


def capacity_of(node: str, scenario: spec.Scenario) -> float:
    """Return the cores that a process, or all instances of its service, may use; 0 if only the machine limits it."""
    if services.WIDTHS.get(node, 0) != 1:
        return 0.0
    instances = max(1, scenario.policies.autoscale.max) if node in services.SCALED else 1
    quota = scenario.cpu_quota if scenario.cpu_quota and node in services.QUOTED else 1.0
    return min(1.0, quota) * instances


def reliefs(found: Sequence[Station], row: Mapping[str, Any], calibration: Calibration) -> list[Relief]:
    """Return what relieving the first station would give, by the law: more of it, or less work for it."""
    if not found:
        return []
    first, rest = found[0], found[1:]
    if first.name != MACHINE:
        doubled = [Station(first.name, 2.0 * first.bound_per_s, first.demand_ms, first.utilization / 2), *rest]
        return [_relief(f"a second {first.name}, or twice its quota", doubled)]
    changes = [_relief("twice the cores", [Station(MACHINE, _cores_bound(first, calibration, 2.0), 0, 0), *rest])]
    processes = sorted((node for node in row["cores"]), key=lambda node: -row["cores"][node])[:3]
    done_per_s = float(row["ok_per_s"])
    for node in processes:
        saved_ms = 1e3 * max(0.0, row["cores"][node] - calibration.background_cores.get(node, 0.0)) / done_per_s / 2
        lighter = first.bound_per_s * first.demand_ms / (first.demand_ms - saved_ms)
        others = [station for station in rest if station.name != node]
        others += [Station(node, 2 * one.bound_per_s, one.demand_ms / 2, one.utilization / 2) for one in rest if one.name == node]
        changes.append(_relief(f"half the CPU per operation in {node}", [Station(MACHINE, lighter, 0, 0), *others]))
    return changes


def _cores_bound(machine: Station, calibration: Calibration, factor: float) -> float:
    idle = sum(calibration.background_cores.values())
    return machine.bound_per_s * (factor * calibration.cores - idle) / (calibration.cores - idle)


def _relief(change: str, left: Sequence[Station]) -> Relief:
    lowest = min(left, key=lambda station: station.bound_per_s)
    return Relief(change, lowest.bound_per_s, lowest.name)


def document(row: Mapping[str, Any], scenario: spec.Scenario, calibration: Calibration) -> dict[str, Any] | None:
    """Return the analysis as plain values; None if nothing was completed."""
    found = stations(row, scenario, calibration)
    if not found:
        return None
    return {
        "name": found[0].name, "bound_per_s": round(found[0].bound_per_s, 1), "at_ok_per_s": round(float(row["ok_per_s"]), 1),
        "stations": [{"name": one.name, "bound_per_s": round(one.bound_per_s, 1), "demand_ms": round(one.demand_ms, 4),
                      "utilization_percent": round(100 * one.utilization, 1)} for one in found[:SHOWN]],
        "reliefs": [{"change": one.change, "bound_per_s": round(one.bound_per_s, 1), "then": one.then}
                    for one in reliefs(found, row, calibration)],
    }


def sentences(analysis: Mapping[str, Any] | None) -> list[str]:
    """Return the analysis in words."""
    if not analysis:
        return []
    first = analysis["stations"][0]
    lines = [f"bottleneck: {first['name']}, {first['demand_ms']:.2f} ms of CPU per operation, so at most "
             f"{first['bound_per_s']:.0f}/s (utilization law, from {analysis['at_ok_per_s']:.0f}/s)"]
    lines += [f"  {one['change']}: {one['bound_per_s']:.0f}/s, then {one['then']} limits" for one in analysis["reliefs"]]
    return lines
