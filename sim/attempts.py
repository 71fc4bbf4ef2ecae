"""What clients saw in a replication, as columns: one row per attempt.

Hundreds of replications of a sweep are summarized, so nothing here makes an object for each request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.jobs import Context, Times
from sim.streams import NS

Ints = NDArray[np.int64]
Texts = NDArray[np.object_]
NUMBERS = ("index", "attempt", "user", "target", "due_ns", "sent_ns", "done_ns", "status", "retries", "pages", "gateway_ns",
           "service_ns", "store_ns", "tweet")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attempt(Times):
    """One attempt. Times in ns of simulated time, -1: did not happen; `pages`: 0 for a second page."""

    index: int
    attempt: int
    user: int
    target: int
    due_ns: int
    sent_ns: int
    done_ns: int
    status: int
    retries: int
    pages: int
    gateway_ns: int
    service_ns: int
    store_ns: int
    tweet: int
    route: str
    source: str
    page: Sequence[int]


@dataclass(frozen=True)
class Attempts:
    """Columns of `Attempt`, each of shape (n,). `page`: (ids, shape (n, width), and how many of them are the page)."""

    numbers: dict[str, Ints]
    route: Texts
    source: Texts
    page: tuple[Ints, Ints]

    @classmethod
    def from_contexts(cls, contexts: Sequence[Context]) -> Attempts:
        """Return the columns of requests."""
        numbers = {name: np.asarray([getattr(ctx, name) for ctx in contexts], np.int64) for name in NUMBERS}
        many = np.asarray([len(ctx.page) for ctx in contexts], np.int64)
        ids = np.zeros((len(contexts), int(many.max(initial=0))), np.int64)
        for row, ctx in zip(ids, contexts, strict=True):
            row[: len(ctx.page)] = ctx.page
        return cls(numbers, texts([ctx.route for ctx in contexts]), texts([ctx.source for ctx in contexts]), (ids, many))

    def __len__(self) -> int:
        return len(self.route)

    def __getitem__(self, name: str) -> Ints:
        return self.numbers[name]

    def seconds(self, name: str) -> NDArray[np.float64]:
        """Return one of `due`, `sent`, `done` in seconds."""
        return self.numbers[f"{name}_ns"] / NS

    def of(self, *routes: str) -> NDArray[np.bool_]:
        """Return which attempts are of one of these routes."""
        return np.fromiter((route in routes for route in self.route), np.bool_, len(self.route))

    def acknowledged(self, which: NDArray[np.bool_] | bool = True) -> dict[str, float]:
        """Return tweet id -> when it was acknowledged, seconds, of the attempts in `which` that created one."""
        made = (self["tweet"] > 0) & (self["status"] == 200) & which
        return dict(zip(map(str, self["tweet"][made].tolist()), self.seconds("done")[made].tolist(), strict=True))

    def pages(self, which: NDArray[np.bool_] | slice = slice(None)) -> Texts:
        """Return the tweets of each page, of the attempts in `which`: an array of arrays of tweet ids, which are not copies."""
        ids, many = self.page
        shown, counts = ids[which], many[which].tolist()
        made = np.empty(len(counts), dtype=object)
        for at, count in enumerate(counts):
            made[at] = shown[at, :count]
        return made

    def rows(self) -> list[Attempt]:
        """Return the attempts as objects, in order of their start."""
        columns: list[Any] = [self.numbers[name].tolist() for name in NUMBERS]
        pages = [tuple(page.tolist()) for page in self.pages()]
        return [Attempt(*row) for row in zip(*columns, self.route, self.source, pages, strict=True)]


def texts(values: Sequence[str]) -> Texts:
    """Return texts as an array of objects."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
