"""Refusals that a scenario configures: 429 under its own `policies.limits`.

Such an answer is what the scenario asked for. It is neither slow nor an error nor a sign of overload, but a
share of its own. A 429 in a run whose scenario leaves the limits at their defaults, which no shipped load
meets, is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports import columns
from system.kernel import policies

STATUS = 429
DEFAULTS = dataclasses.asdict(policies.LimitKnobs())


def configured(scenario_doc: Mapping[str, Any]) -> bool:
    """Return whether the scenario of a record sets limits of its own. False where the record does not hold
    its policies.
    """
    resolved = scenario_doc.get("resolved") or {}
    limits = (resolved.get("policies") or {}).get("limits") or {}
    return bool({**DEFAULTS, **limits} != DEFAULTS and limits.get("window_s", DEFAULTS["window_s"]))


def mask(done: pd.DataFrame, scenario_doc: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Return which operations of `done`, shape (n,), were refused as the scenario configures."""
    if not configured(scenario_doc):
        return np.zeros(len(done), dtype=np.bool_)
    return ((done["status"] == STATUS) & (done["outcome"] == columns.FAIL)).to_numpy()
