"""The rule for every percentile that decides a verdict: it covers all operations due, answered or not.

A percentile of OK operations alone improves when slow operations fail. Here an operation that failed, was
never answered or has an unknown outcome counts as slower than any bound: the n operations are ordered with
all of those last, and pXX is the operation at rank ceil(XX/100 * n), nearest rank in exact arithmetic. If an
OK operation has that rank, its response time is the value. If not, there is no value, only `at_least`: the
time from the due moment of the operation at that rank, which had not succeeded, to the end of observation (at
least the slowest OK response time). `max` is the last rank; `mean` has no value if any operation is
unanswered. Refusals that the scenario configures (`refusals`) are excluded.

It is used by the objectives of system and twin, by `compare`, and, through the objectives of its runs, by the
search for capacity.
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

    `value`: None if it falls among unanswered operations; it is then more than `at_least`, which is None
    otherwise. `n`: operations due. `unanswered`: those of them that did not succeed.
    """

    value: Fraction | float | None
    at_least: Fraction | float | None
    n: int
    unanswered: int

    @property
    def least(self) -> float:
        """The value, or its lower bound if there is none."""
        figure = self.at_least if self.value is None else self.value
        return float(figure) if figure is not None else 0.0


def quantile(metric: str, answered: Values, observed: Values) -> Quantile:
    """Return `metric` (a key of histogram.KEYS) of operations, at least one in all.

    `answered`: shape (n,), response times of OK operations. `observed`: shape (m,), for each other operation
    the time from its due moment to the end of observation. Integers give exact values.
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
    """Return `observed`, each at least the slowest of `answered`: an unanswered operation is slower than that."""
    return np.maximum(observed, answered.max()) if len(answered) else observed


def _plain(value: Any) -> Any:
    number = value.item()
    return Fraction(number) if isinstance(number, int) else number


def split(rows: pd.DataFrame, end_ns: int) -> tuple[Values, Values]:
    """Return `answered` and `observed` for `quantile`, in ns.

    `rows`: operations with the columns outcome, due_ns and response_ns.
    """
    good = (rows["outcome"] == columns.OK).to_numpy() & (rows["response_ns"] >= 0).to_numpy()
    due_ns = rows["due_ns"].to_numpy(dtype=np.int64)[~good]
    return rows["response_ns"].to_numpy(dtype=np.int64)[good], np.maximum(end_ns - due_ns, 0)


def end_ns(windows: facts.Windows, *moments_ns: pd.Series[Any]) -> int:
    """Return the end of observation: the end of the load, or the latest of `moments_ns` if that is later."""
    return max(
        [
            windows.start_ns + round(windows.load_s * 1e9),
            *(int(each.max()) for each in moments_ns if len(each)),
        ]
    )
