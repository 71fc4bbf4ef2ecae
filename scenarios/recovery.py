"""Compares the allowed recovery of each fault of a scenario with the end of its load."""

from __future__ import annotations

from collections.abc import Iterator

from scenarios import spec, units, vocabulary


def within_s_of(fault: spec.Fault) -> float:
    """Return the longest allowed recovery of a fault, in seconds: its own, else that of its kind."""
    own = fault.recovers_within_s
    return vocabulary.FAULT_KINDS[fault.kind].recovers_within_s if own is None else own


def warnings(scenario: spec.Scenario) -> Iterator[str]:
    """Yield each fault whose allowed recovery outlasts the load, unless it is held until the load ends."""
    load_s = scenario.workload.load_s
    for index, fault in enumerate(scenario.faults_in_load):
        within_s = within_s_of(fault)
        recovered_s = fault.ends_s + within_s
        if (fault.for_s is not None and fault.ends_s >= load_s) or recovered_s <= load_s:
            continue
        yield (
            f"`faults.{index}`: `{fault.kind}` of {fault.target} may take {units.format_duration(within_s)} to "
            f"recover, until {units.format_duration(recovered_s)}, but the load ends at "
            f"{units.format_duration(load_s)}; a run that ends before the recovery is UNKNOWN. To fix: let the "
            "load last until then, inject the fault earlier, or give it a shorter `recovers_within`."
        )
