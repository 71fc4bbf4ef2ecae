"""TokenStore: the same contract in memory and on PostgreSQL.

Only the real server can race rotation and revocation.
"""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import itertools
import secrets

import pytest

from system.ports import Grant
from tests.helpers.durable_stores import durable_settings, real_tokens, tokens

_numbers = itertools.count(1)


def a_grant(scope: str = "tweet.read offline.access") -> Grant:
    return Grant(f"grant{next(_numbers)}", 42, scope)


async def started(tokens, life_s: float = 60.0) -> tuple[Grant, str]:
    """Begin a sign-in; return its grant and the hash of its refresh token."""
    grant, first = a_grant(), secrets.token_hex(8)
    await tokens.begin(grant, first, life_s)
    return grant, first


async def test_a_grant_is_found_by_its_refresh_token_until_it_expires(tokens):
    """No other token finds it."""
    grant, first = await started(tokens)
    _, short = await started(tokens, 0.05)
    await asyncio.sleep(0.1)

    assert await tokens.find(first) == grant
    assert await tokens.find(short) is None
    assert await tokens.find("never") is None
    assert await tokens.rotate(short, "next", 60, 60) is None


async def test_a_rotated_token_is_used_and_its_successor_belongs_to_the_same_grant(tokens):
    """The same user, the same scope."""
    grant, first = await started(tokens)

    assert await tokens.rotate(first, first + "b", 60, 60) == grant
    assert await tokens.find(first + "b") == grant
    assert (await tokens.find(first)).used


async def test_a_used_token_ends_its_grant_and_no_other(tokens):
    """The returned grant is marked used; access tokens are revoked for the given time."""
    grant, first = await started(tokens)
    _, other = await started(tokens)
    await tokens.rotate(first, first + "b", 60, 60)

    again = await tokens.rotate(first, first + "c", 60, 0.2)

    assert again.used and again.id == grant.id
    assert [await tokens.find(first + end) for end in ("", "b", "c")] == [None, None, None]
    assert await tokens.find(other) is not None
    assert grant.id in await tokens.revoked()
    await asyncio.sleep(0.25)
    assert grant.id not in await tokens.revoked()


async def test_ending_a_grant_ends_all_its_tokens(tokens):
    """Any of its tokens ends it, used ones too; an unknown token ends nothing."""
    grant, first = await started(tokens)
    await tokens.rotate(first, first + "b", 60, 60)

    assert (await tokens.end(first, 60)).id == grant.id
    assert await tokens.find(first + "b") is None
    assert grant.id in await tokens.revoked()
    assert await tokens.end("never", 60) is None


async def test_a_name_is_revoked_for_the_longest_requested_time(tokens):
    """Safe to repeat; a shorter repeat does not shorten the revocation."""
    await tokens.revoke("a1.7", 60)
    await tokens.revoke("a1.7", 0.01)
    await tokens.revoke("a1.8", 0.01)
    await asyncio.sleep(0.05)

    assert {"a1.7", "a1.8"} & await tokens.revoked() == {"a1.7"}


async def test_of_many_rotations_at_once_one_wins_and_the_sign_in_ends(tokens):
    """Linearizable: the second use counts as reuse, however close in time."""
    grant, first = await started(tokens)

    results = await asyncio.gather(*(tokens.rotate(first, f"{first}{n}", 60, 60) for n in range(6)))

    won = [result for result in results if result is not None and not result.used]
    assert len(won) == 1
    assert [await tokens.find(f"{first}{n}") for n in range(6)] == [None] * 6
    assert grant.id in await tokens.revoked()


async def test_no_successor_survives_a_revocation_that_came_at_the_same_time(tokens):
    """A concurrent rotation waits for the revocation or is revoked by it: 40 races, no token left."""
    for _ in range(40):
        _, first = await started(tokens)
        second = first + "b"
        await tokens.rotate(first, second, 60, 60)
        await asyncio.gather(tokens.rotate(second, second + "c", 60, 60), tokens.end(first, 60))

        assert await tokens.find(second + "c") is None
