"""The data behind the page and its charts: a run, its twin, and the choices that both share.

The headline route is the route of the first latency objective that names one, else `home`, else the busiest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from reports import delivery, facts, operations, record
from reports.judge import verdict


@dataclass(frozen=True)
class View:
    """One run, prepared for display."""

    run: record.Run

    @cached_property
    def done(self) -> pd.DataFrame:
        """One row per operation."""
        return operations.operations(self.run.history, self.run.start_ns)

    @cached_property
    def deliveries(self) -> pd.DataFrame:
        """One row per pushed tweet: acked_s, delay_s."""
        return delivery.table(self.run.history, self.run.effects, self.run.start_ns)

    @cached_property
    def twin(self) -> View | None:
        """The twin's run, or None."""
        return View(self.run.twin) if self.run.twin is not None else None

    @property
    def document(self) -> Any:
        """The record."""
        return self.run.document

    @property
    def is_void(self) -> bool:
        """Whether headline numbers are withheld."""
        return bool(self.document["validity"]["verdict"] == verdict.VOID)

    @cached_property
    def windows(self) -> facts.Windows:
        """The windows of the run, read from its record."""
        block = self.document["windows"]
        known = facts.FaultWindow.__dataclass_fields__
        faults = [{key: value for key, value in fault.items() if key in known} for fault in block["faults"]]
        return facts.Windows(
            start_ns=self.run.start_ns,
            warm_up_s=block["warm_up_s"],
            load_s=block["load_s"],
            faults=tuple(facts.FaultWindow(**fault) for fault in faults),
            stages=tuple(facts.Stage(**stage) for stage in block.get("stages", ())),
        )

    @cached_property
    def routes(self) -> list[str]:
        """Routes with at least one operation sent, busiest first."""
        table = self.document["summary"]["routes"]
        return sorted((name for name in table if table[name]["sent"]), key=lambda name: -int(table[name]["sent"]))

    @cached_property
    def headline(self) -> str:
        """The route whose latency is shown first; "" if no route was used."""
        named = [one.get("route", "") for one in self.document["objectives"] if one.get("unit") == "s"]
        choices = [name for name in (*named, "home", *self.routes) if name in self.routes]
        return choices[0] if choices else ""

    def series(self, name: str, route: str = "", node: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return times (s) and values of one series, ordered by time."""
        rows = self._during_load(name)
        rows = rows[rows["route"] == route]
        rows = rows if node is None else rows[rows["node"] == node]
        ordered = rows.sort_values("t_s", kind="stable")
        return ordered["t_s"].to_numpy(), ordered["value"].to_numpy()

    def _during_load(self, name: str) -> pd.DataFrame:
        """Return the rows of one series during the load; samples after it are not drawn."""
        rows = self.run.series
        return rows[(rows["name"] == name) & (rows["t_s"] >= 0) & (rows["t_s"] < max(self.windows.load_s, 1.0))]

    def by_node(self, name: str) -> pd.DataFrame:
        """Return one series of all nodes: index t_s, one column per node, largest sum first."""
        rows = self._during_load(name)
        wide = rows.pivot_table(index="t_s", columns="node", values="value", aggfunc="sum").fillna(0.0)
        return wide[wide.sum().sort_values(ascending=False).index]
