"""Refusals that a scenario configures: 429 responses under its own `policies.limits`.

The scenario intends these responses. They count neither as slow, nor as errors, nor as overload, but as a share of
their own. A 429 in a run whose scenario keeps the default limits, which no shipped load reaches, is an error.
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
    """Return whether the scenario of a record sets limits of its own; False if the record lacks its policies."""
    resolved = scenario_doc.get("resolved") or {}
    limits = (resolved.get("policies") or {}).get("limits") or {}
    return bool({**DEFAULTS, **limits} != DEFAULTS and limits.get("window_s", DEFAULTS["window_s"]))


def mask(done: pd.DataFrame, scenario_doc: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Return a mask of the operations of `done`, shape (n,), that the scenario's limits refused."""
    if not configured(scenario_doc):
        return np.zeros(len(done), dtype=np.bool_)
    return ((done["status"] == STATUS) & (done["outcome"] == columns.FAIL)).to_numpy()
