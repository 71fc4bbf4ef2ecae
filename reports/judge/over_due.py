"""The one rule for a percentile that decides anything: over every operation that was due, an answer or none.

A percentile of OK operations alone improves when slow operations fail. Here an operation that failed, was
never answered or has an unknown outcome is slower than any bound: the n operations are ordered with all of
those last, and pXX is the operation at rank ceil(XX/100 * n), nearest rank in whole numbers. If an OK
operation has that rank, its response time is the value. If not, there is no value, only `at_least`: how long
the operation of that rank, which still had no good answer when observation ended, had been due by then (at
least the slowest OK operation). `max` is the last rank; `mean` has no value as soon as one operation has no
answer. Refusals that the scenario configures (`refusals`) are not part of it.

Objectives of a system and of its twin, `compare` and, by the objectives of its trials, the search for
capacity use this.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports import columns, facts
from reports.stats import histogram

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Quantile:
    """A percentile, max or mean over the operations due, in the unit of the values it was made from.

    `value`: None where it falls among operations without an answer; it is then more than `at_least`, else
    that is None. `n`: operations due. `unanswered`: those of them without a good answer.
    """

    value: Fraction | float | None
    at_least: Fraction | float | None
    n: int
    unanswered: int

    @property
    def least(self) -> float:
        """The value, or the lower bound where there is none."""
        known = self.at_least if self.value is None else self.value
        return float(known) if known is not None else 0.0


def quantile(metric: str, answered: Values, observed: Values) -> Quantile:
    """Return `metric` (a key of histogram.KEYS) of operations, at least one in all.

    `answered`: shape (n,), response times of OK operations. `observed`: shape (m,), for each operation
    without a good answer the time from its due moment to the end of observation. Whole numbers give exact
    values.
    """
    n = len(answered) + len(observed)
    slow = ordered_last(answered, observed)
    if metric == "mean":
        mean = (_plain(answered.sum()) + _plain(slow.sum())) / n
        return Quantile(None, mean, n, len(slow)) if len(slow) else Quantile(mean, None, n, 0)
    at = histogram.rank(n, histogram.QUANTILES.get(metric, 1.0)) - 1
    if at < len(answered):
        return Quantile(_plain(np.partition(answered, at)[at]), None, n, len(slow))
    return Quantile(None, _plain(np.sort(slow)[at - len(answered)]), n, len(slow))


def ordered_last(answered: Values, observed: Values) -> Values:
    """Return `observed`, raised to the slowest of `answered` where it is less: each of them is slower than
    that.
    """
    return np.maximum(observed, answered.max()) if len(answered) else observed


def _plain(value: Any) -> Any:
    number = value.item()
    return Fraction(number) if isinstance(number, int) else number


def split(rows: pd.DataFrame, end_ns: int) -> tuple[Values, Values]:
    """Return the arguments of `quantile`, in ns, for operations with the columns outcome, due_ns and
    response_ns.
    """
    good = (rows["outcome"] == columns.OK).to_numpy() & (rows["response_ns"] >= 0).to_numpy()
    due_ns = rows["due_ns"].to_numpy(dtype=np.int64)[~good]
    return rows["response_ns"].to_numpy(dtype=np.int64)[good], np.maximum(end_ns - due_ns, 0)


def end_ns(windows: facts.Windows, *moments_ns: pd.Series[Any]) -> int:
    """Return the end of observation: that of the load, or the last of `moments_ns` where something happened
    later.
    """
    return max(
        [
            windows.start_ns + round(windows.load_s * 1e9),
            *(int(each.max()) for each in moments_ns if len(each)),
        ]
    )
