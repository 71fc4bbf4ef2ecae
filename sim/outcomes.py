"""Whether an operation took effect, derived from its HTTP status by the rule of the real load driver."""

from __future__ import annotations

from reports import columns
from sim.jobs import NOT_CONNECTED

OK, FAIL, INFO = columns.OK, columns.FAIL, columns.INFO
UNCERTAIN = frozenset({408, 409, 499})  # 4xx that do not mean "certainly no effect"


def of_status(status: int) -> str:
    """Return ok (2xx), fail (certainly no effect: other 4xx and 429) or info (all else)."""
    if 200 <= status < 300:
        return OK
    if status == NOT_CONNECTED:
        return FAIL
    if 400 <= status < 500 and status not in UNCERTAIN:
        return FAIL
    return INFO


def as_seen(status: int) -> int:
    """Return the HTTP status that a client sees for one of the model's: 0 if it never connected."""
    return 0 if status == NOT_CONNECTED else status % 1000
