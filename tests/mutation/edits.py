"""Edits of evidence, of which the mutations are built. Each returns new evidence and changes no input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chaos.evidence.bundle import CachedList, Evidence, Finals
from chaos.evidence.history import Read
from system.ports import Kind


def with_rows(evidence: Evidence, changes: Mapping[int, Mapping[str, Any]]) -> Evidence:
    """Return the evidence with some cells of its history changed: row -> column -> value."""
    frame = evidence.rows.copy()
    for column in {name for cells in changes.values() for name in cells}:
        values = frame[column].tolist()
        for row, cells in changes.items():
            values[row] = cells.get(column, values[row])
        frame[column] = values
    return replace(evidence, rows=frame)


def with_finals(evidence: Evidence, **fields: Any) -> Evidence:
    """Return the evidence with some fields of its final reads changed."""
    return replace(evidence, finals=replace(finals_of(evidence), **fields))


def finals_of(evidence: Evidence) -> Finals:
    """Return the final reads, which the evidence of a fixture always has."""
    assert evidence.finals is not None
    return evidence.finals


def page_without(evidence: Evidence, row: int, tweet_id: int) -> dict[str, list[int]]:
    """Return the page cells of a row without one tweet."""
    ids, authors = _cells(evidence, row)
    kept = [(t, a) for t, a in zip(ids, authors, strict=True) if t != tweet_id]
    return {"page_ids": [t for t, _ in kept], "page_authors": [a for _, a in kept]}


def page_with(evidence: Evidence, row: int, tweet_id: int, author: int) -> dict[str, list[int]]:
    """Return the page cells of a row with one more tweet, in order, in place of the page's oldest."""
    ids, authors = _cells(evidence, row)
    entries = sorted([*zip(ids, authors, strict=True), (tweet_id, author)], reverse=True)
    return {"page_ids": [t for t, _ in entries], "page_authors": [a for _, a in entries]}


def _cells(evidence: Evidence, row: int) -> tuple[list[int], list[int]]:
    return list(evidence.rows["page_ids"].iloc[row]), list(evidence.rows["page_authors"].iloc[row])


def pages_without(evidence: Evidence, tweet_id: int, keep: Callable[[Read], bool]) -> Evidence:
    """Return the evidence without a tweet on the final pages for which `keep` is False."""
    pages = tuple(page if keep(page) or tweet_id not in page.ids else _shorter(page, tweet_id)
                  for page in finals_of(evidence).pages)
    return with_finals(evidence, pages=pages)


def _shorter(page: Read, tweet_id: int) -> Read:
    kept = [(t, a) for t, a in zip(page.ids, page.authors, strict=True) if t != tweet_id]
    return replace(page, ids=[t for t, _ in kept], authors=[a for _, a in kept])


def with_list(evidence: Evidence, kind: Kind, owner: int, members: tuple[tuple[int, int], ...]) -> Evidence:
    """Return the evidence with other members in one complete list."""
    lists = tuple(replace(cached, members=members) if (cached.kind, cached.owner) == (kind, owner) else cached
                  for cached in finals_of(evidence).lists)
    return with_finals(evidence, lists=lists)


def a_list(evidence: Evidence, kind: Kind, wanted: Callable[[CachedList], bool]) -> CachedList | None:
    """Return the first complete list of a kind for which `wanted` is True, or None."""
    return next((c for c in finals_of(evidence).lists if c.kind == kind and wanted(c)), None)
