"""Push or pull, as a table."""

from __future__ import annotations

import pytest

from system.kernel.policies import FanoutKnobs
from system.services.fanout import policy
from system.services.fanout.policy import PULL, PUSH, AuthorMode, Decision

KNOBS = FanoutKnobs(push_limit=1_000, hysteresis=0.8)
NOW_MS = 1_800_000_000_000


def pulled_for(seconds: float) -> AuthorMode:
    return AuthorMode(PULL, NOW_MS - int(seconds * 1_000))


@pytest.mark.parametrize(("audience", "current", "path", "change_to"), [
    (0, None, PUSH, None),
    (1_000, None, PUSH, None),
    (1_001, None, PUSH, PULL),
    (1_001, AuthorMode(PUSH, 0), PUSH, PULL),
    (1_001, pulled_for(0.0), PUSH, None),
    (1_001, pulled_for(3.0), PUSH, None),
    (1_001, pulled_for(3.1), PULL, None),
    (800, pulled_for(60), PULL, None),
    (799, pulled_for(60), PUSH, PUSH),
    (799, pulled_for(0.0), PUSH, PUSH),
], ids=["no followers", "at the limit", "crossing up", "again up", "flag is new", "flag as old as a copy", "flag older",
        "inside the band", "crossing down", "down immediately"])
def test_a_tweet_is_pushed_until_every_reader_knows_that_its_author_is_pulled(audience, current, path, change_to):
    """Pushing stops once the flag is older than mode_ttl_s (2 s) plus a second of settling.

    It restarts immediately.
    """
    assert policy.choose(audience, current, KNOBS, 2.0, NOW_MS) == Decision(path, change_to)


@pytest.mark.parametrize(("audience", "size", "calls"), [
    (0, 4_000, [0]), (1, 4_000, [1]), (4_000, 4_000, [4_000]), (4_001, 4_000, [4_000, 1]), (10_000, 4_000, [4_000, 4_000, 2_000]),
])
def test_followers_are_pushed_in_full_chunks_and_a_rest(audience, size, calls):
    """One call per chunk; a list without followers also costs one call."""
    assert policy.chunks(audience, size) == calls


def test_a_back_fill_reads_one_more_than_a_list_may_hold_before_it_trims():
    """Adding that many trims the list, and its floor rises above what was not read."""
    assert policy.back_fill_limit(800, 50) == 851
