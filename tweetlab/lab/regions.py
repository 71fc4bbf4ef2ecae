"""Texts about the regions of a lab: the place of a node, and the state of the WAN links between two regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from system.kernel import wan
from system.platform.provider import NodeStatus

Json = dict[str, Any]


def place_of(node: NodeStatus) -> str:
    """Return the place of a node: its region by name, or its zone; "" for a lab without either."""
    return wan.NAMES.get(node.region, "") if node.region else f"zone {node.zone}" if node.zone else ""


def between(rows: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Return one row per pair of regions, from the WAN emulator's row per direction.

    Users' links only if not calm.

    `delay_ms`, `loss`, `rate_bps`: of the worse direction, one way. `cut`: "" or which direction is cut.
    `calm`: no cut, no loss, no bandwidth limit.
    """
    ways = {(row["from"], row["to"]): row for row in rows}
    pairs = []
    for one, other in ((one, other) for one, other in ways if one < other and (other, one) in ways):
        pair = (ways[one, other], ways[other, one])
        rates = [way["rate_bps"] for way in pair if way["rate_bps"]]
        row = {"one": wan.NAMES[one], "other": wan.NAMES[other], "delay_ms": max(way["delay_s"] for way in pair) * 1e3,
               "jitter_ms": max(way["jitter_s"] for way in pair) * 1e3, "loss": max(way["loss"] for way in pair),
               "rate_bps": min(rates, default=0.0), "cut": _cut(pair)}
        row["calm"] = not (row["cut"] or row["loss"] or row["rate_bps"])
        if wan.OUTSIDE not in (one, other) or not row["calm"] or row["delay_ms"]:
            pairs.append({**row, "words": words(row)})
    return pairs


def _cut(pair: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    cut = [way for way in pair if way["cut"]]
    if len(cut) == 1:
        return f"cut from {wan.NAMES[cut[0]['from']]} to {wan.NAMES[cut[0]['to']]}"
    return "cut" if cut else ""


def words(row: Mapping[str, Any]) -> str:
    """Return the state of a pair of links in a few words: `10 ms`, `cut`, `40 ms, 1 % lost, 10 Mbit/s`."""
    if row["cut"] == "cut":
        return "cut"
    parts = [f"{row['delay_ms']:g} ms" + (f" to {row['delay_ms'] + row['jitter_ms']:g} ms" if row["jitter_ms"] else "")]
    parts += [f"{row['loss'] * 100:g} % lost"] if row["loss"] else []
    parts += [f"{row['rate_bps'] / 1e6:g} Mbit/s"] if row["rate_bps"] else []
    return ", ".join([*parts, *filter(None, [row["cut"]])])
