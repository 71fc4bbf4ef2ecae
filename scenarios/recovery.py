"""How long the faults of a scenario may take to recover, and whether its load lasts long enough for it."""

from __future__ import annotations

from scenarios import spec, units, vocabulary


def within_s_of(fault: spec.Fault) -> float:
    """Return how long the recovery of a fault may take, in seconds: its own word, else that of its kind."""
    own = fault.recovers_within_s
    return vocabulary.FAULT_KINDS[fault.kind].recovers_within_s if own is None else own


def warnings(scenario: spec.Scenario) -> list[str]:
    """Return a sentence for each fault that may recover after the load; none for one held until its end."""
    load_s = scenario.workload.load_s
    found = []
    for index, fault in enumerate(scenario.faults_in_load):
        within_s = within_s_of(fault)
        over_s = fault.ends_s + within_s
        if (fault.for_s is not None and fault.ends_s >= load_s) or over_s <= load_s:
            continue
        found.append(
            f"`faults.{index}`: `{fault.kind}` of {fault.target} may take {units.tell_duration(within_s)} to "
            f"recover, until {units.tell_duration(over_s)}, but the load ends at "
            f"{units.tell_duration(load_s)}; a run that ends before the recovery is UNKNOWN. To fix: let the "
            "load last until then, inject the fault earlier, or give it a shorter `recovers_within`."
        )
    return found
