"""Entries and lists for the tests of TimelineCache."""

from __future__ import annotations

from system.kernel import ids
from system.ports import Entry, Kind

ADA, BOB, CLEO, DAN, EVE = 7, 8, 1_000_000_009, 10**18 + 1, 10**18 + 2  # the last two are equal as doubles


def tweet(number: int, author: int = BOB) -> Entry:
    """Return the entry of a tweet posted in minute `number`."""
    return Entry(ids.compose(1_800_000_000_000 + number * 60_000, 1, 0), author)


def numbers(entries) -> list[int]:
    return [(ids.ms_of(entry.id) - 1_800_000_000_000) // 60_000 for entry in entries]


async def build(cache, kind: Kind, owner: int, entries=(), floor: int = 0) -> None:
    token = await cache.begin(kind, owner)
    assert token is not None
    assert await cache.complete(kind, owner, token, entries, floor)


async def follow(cache, follower: int, *followees: int) -> None:
    await build(cache, Kind.FOLLOWING, follower, [Entry(user, 0) for user in followees])
