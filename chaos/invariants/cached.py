"""Every *complete* cached list matches the stores: it holds everything from its floor upwards.

The lists are read from Redis before any final API read, because API reads repair the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chaos.evidence.bundle import CachedList, Evidence, Finals
from chaos.invariants.delivery import fanout_of
from chaos.invariants.finding import Finding, Tally
from system.kernel import ids
from system.ports import Kind

NAME = "cached_lists_match_the_oracle"


@dataclass(frozen=True)
class _Oracle:
    """What the lists are compared with.

    `newest`: tweets from this id on may still be in flight. `pulled`: tweets that the fan-out left to the
    read path. `pushed`: tweets that it pushed, including those of authors that were pulled before or after.
    """

    evidence: Evidence
    finals: Finals
    newest: int
    pulled: frozenset[int]
    pushed: frozenset[int]


def check(evidence: Evidence) -> Finding:
    """Every complete list in Redis holds all entries that the stores require, down to its floor.

    The floor is the lowest id for which the list claims to be complete. A home list must hold every tweet
    that was pushed (fan-out on write) and not deleted, of every followed author whose partition was read. If
    an author is or was pulled (fan-out on read), only the tweets that the fan-out log reports as pushed are
    required; that author's other tweets are allowed. Also allowed are the reader's own tweets, and those that
    reads filter out: deleted tweets and tweets of authors followed earlier. An author list must hold every
    tweet that is not deleted. Follower and following lists must equal the edges. No list may hold a tweet
    that was never stored.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    in_flight_ms = 0 if finals.quiesced else int(evidence.bounds.delivery_s * 1e3)
    newest = ids.floor_id(finals.wall_ms - in_flight_ms + (evidence.bounds.id_skew_ms if finals.quiesced else 0))
    path = fanout_of(evidence).path
    pulled, pushed = (frozenset(tweet_id for tweet_id, value in path.items() if value == word) for word in ("pull", "push"))
    oracle = _Oracle(evidence, finals, newest, pulled, pushed)
    unknown = 0
    for cached in finals.lists:
        compared = _JUDGES[cached.kind](oracle, cached, tally)
        tally.checked += compared
        unknown += not compared
    tally.doubt(unknown, "complete lists could not be compared: the data they depend on was not read.")
    tally.remarks.append(", ".join(f"{sum(c.kind == kind for c in finals.lists)} {kind.name.lower()}" for kind in Kind)
                         + " lists.")
    return tally.finding("Redis held no complete list")


def _home(oracle: _Oracle, cached: CachedList, tally: Tally) -> bool:
    finals = oracle.finals
    following = finals.following.get(cached.owner)
    if following is None:
        return False
    read = following & finals.by_author.keys()
    if following and not read:
        return False
    expected = (tweet_id for author in read for tweet_id in _live(finals, author)
              if (tweet_id in oracle.pushed if author in finals.pulled else tweet_id not in oracle.pulled))
    _missing(oracle, cached, expected, tally)
    _invented(oracle, cached, tally)
    for tweet_id, author in cached.members:
        if author != cached.owner and author not in following and not oracle.evidence.ever_followed(cached.owner, author):
            tally.violated(f"list h:{cached.owner} holds tweet {tweet_id} of {author}, which {cached.owner} never followed")
    return True


def _author(oracle: _Oracle, cached: CachedList, tally: Tally) -> bool:
    if cached.owner not in oracle.finals.by_author:
        return False
    _missing(oracle, cached, _live(oracle.finals, cached.owner), tally)
    _invented(oracle, cached, tally)
    return True


def _users(oracle: _Oracle, cached: CachedList, tally: Tally) -> bool:
    edges: Mapping[int, frozenset[int]] = (oracle.finals.followers if cached.kind == Kind.FOLLOWERS
                                           else oracle.finals.following)
    stored = edges.get(cached.owner)
    if stored is None:
        return False
    held = {user for user, _ in cached.members}
    for verb, users in (("lacks", sorted(stored - held)), ("holds", sorted(held - stored))):
        wrong = [user for user in users if user >= cached.floor]
        if wrong:
            tally.violated(f"list {cached.kind}:{cached.owner} {verb} {len(wrong)} users against PostgreSQL, which has "
                           f"{len(stored)} ({', '.join(map(str, wrong[:5]))})", len(wrong))
    return True


_JUDGES = {Kind.HOME: _home, Kind.AUTHOR: _author, Kind.FOLLOWERS: _users, Kind.FOLLOWING: _users}


def _live(finals: Finals, author: int) -> Iterable[int]:
    floor = finals.author_floors.get(author, 0)
    return (tweet_id for tweet_id, deleted in finals.by_author[author].items() if not deleted and tweet_id >= floor)


def _missing(oracle: _Oracle, cached: CachedList, expected: Iterable[int], tally: Tally) -> None:
    held = {tweet_id for tweet_id, _ in cached.members}
    missing = sorted(t for t in expected if cached.floor <= t < oracle.newest and t not in held)
    if missing:
        tally.violated(f"list {cached.kind}:{cached.owner}, complete down to {cached.floor}, lacks {len(missing)} tweets "
                       f"({', '.join(map(str, missing[:5]))})", len(missing))


def _invented(oracle: _Oracle, cached: CachedList, tally: Tally) -> None:
    finals = oracle.finals
    for tweet_id, author in cached.members:
        stored = finals.by_author.get(author)
        if stored is not None and tweet_id >= finals.author_floors.get(author, 0) and tweet_id not in stored:
            tally.violated(f"list {cached.kind}:{cached.owner} holds tweet {tweet_id} of {author}, which was never stored")
