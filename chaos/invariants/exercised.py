"""A fault proves something only if enough operations ran during it."""

from __future__ import annotations

import numpy as np

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import NEVER_NS
from chaos.invariants.finding import Finding, Tally
from scenarios import plan, vocabulary

NAME = "fault_windows_were_exercised"
LEAST_OPERATIONS = 500  # a window with fewer is unknown (docs/correctness.md, last section)
LEAST_WRITES = 50


def check(evidence: Evidence) -> Finding:
    """Each fault took effect, and at least 500 operations, 50 of them writes, fell into its window.

    The window of a held fault ends with its undo, that of an instant fault with the load. The verdict is
    never fail: a window with too few operations is unknown. Writes are required only of a load that plans
    any.
    """
    tally = Tally(NAME)
    rows = evidence.history.rows_of(vocabulary.ROUTES)
    sent_ns, route = evidence.history.column("sent_ns"), evidence.history.column("route")
    sent = np.array([sent_ns[row] for row in rows], dtype=np.int64)
    writes = np.array([route[row] in vocabulary.WRITES for row in rows], dtype=bool)
    least_writes = LEAST_WRITES if evidence.plan is None or plan.WRITES in evidence.plan else 0
    for fault in evidence.faults:
        if fault.injected_ns is None or fault.void:
            tally.doubt(1, f"fault proves nothing: {fault.kind} of {fault.target}: {fault.void or 'never injected'}.")
            continue
        end = fault.undone_ns if fault.held and fault.undone_ns is not None else NEVER_NS
        inside = (sent >= fault.injected_ns) & (sent < end)
        operations, written = int(inside.sum()), int((inside & writes).sum())
        tally.checked += 1
        tally.remarks.append(f"{fault.kind} of {fault.target}: {operations} operations, {written} writes.")
        if operations < LEAST_OPERATIONS or written < least_writes:
            needed = f"{LEAST_OPERATIONS} operations and {least_writes} writes"
            tally.doubt(1, f"window has too few operations: it needs {needed}.")
    return tally.finding("no fault was injected")
