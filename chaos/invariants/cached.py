"""A cached list is complete down to its floor, or absent: every complete list is compared with the stores.

Read from Redis before any final API read, since API reads repair the cache.
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
    """The truth a list is held against. `newest`: ids above it may still be under way.

    `pulled`: tweets never pushed. `pushed`: tweets that were, also of authors who were pulled before or
    later.
    """

    evidence: Evidence
    finals: Finals
    newest: int
    pulled: frozenset[int]
    pushed: frozenset[int]


def check(evidence: Evidence) -> Finding:
    """Every complete list in Redis holds all that Cassandra and PostgreSQL say belongs into it, down to its floor.

    Home lists: every live tweet of every followed author whose tweets were read and that was pushed, and of
    authors who are or were pulled those that the fan-out says it pushed; other tweets of theirs and own
    tweets are allowed, as are deleted tweets and authors once followed, which readers drop. Author lists:
    every live tweet. Follower and following lists: exactly the edges. Nothing may be in a list of tweets that
    was never stored.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    busy_ms = 0 if finals.quiesced else int(evidence.bounds.delivery_s * 1e3)
    newest = ids.floor_id(finals.wall_ms - busy_ms + (evidence.bounds.id_skew_ms if finals.quiesced else 0))
    path = fanout_of(evidence).path
    pulled, pushed = (frozenset(t for t, how in path.items() if how == word) for word in ("pull", "push"))
    oracle = _Oracle(evidence, finals, newest, pulled, pushed)
    unknown = 0
    for cached in finals.lists:
        judged = _JUDGES[cached.kind](oracle, cached, tally)
        tally.checked += judged
        unknown += not judged
    tally.doubt(unknown, "complete lists could not be compared: their truth was not read.")
    tally.remarks.append(", ".join(f"{sum(c.kind == kind for c in finals.lists)} {kind.name.lower()}" for kind in Kind)
                         + " lists.")
    return tally.finding("no complete list stood in Redis")


def _home(oracle: _Oracle, cached: CachedList, tally: Tally) -> bool:
    finals = oracle.finals
    following = finals.following.get(cached.owner)
    if following is None:
        return False
    read = following & finals.by_author.keys()
    if following and not read:
        return False
    wanted = (tweet_id for author in read for tweet_id in _live(finals, author)
              if (tweet_id in oracle.pushed if author in finals.pulled else tweet_id not in oracle.pulled))
    _missing(oracle, cached, wanted, tally)
    _invented(oracle, cached, tally)
    for tweet_id, author in cached.members:
        if author != cached.owner and author not in following and not oracle.evidence.ever_followed(cached.owner, author):
            tally.violated(f"list h:{cached.owner} holds tweet {tweet_id} of {author}, whom {cached.owner} never followed")
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
    truth = edges.get(cached.owner)
    if truth is None:
        return False
    held = {user for user, _ in cached.members}
    for what, users in (("lacks", sorted(truth - held)), ("holds", sorted(held - truth))):
        wrong = [user for user in users if user >= cached.floor]
        if wrong:
            tally.violated(f"list {cached.kind}:{cached.owner} {what} {len(wrong)} users against PostgreSQL, which has "
                           f"{len(truth)} ({', '.join(map(str, wrong[:5]))})", len(wrong))
    return True


_JUDGES = {Kind.HOME: _home, Kind.AUTHOR: _author, Kind.FOLLOWERS: _users, Kind.FOLLOWING: _users}


def _live(finals: Finals, author: int) -> Iterable[int]:
    floor = finals.author_floors.get(author, 0)
    return (tweet_id for tweet_id, deleted in finals.by_author[author].items() if not deleted and tweet_id >= floor)


def _missing(oracle: _Oracle, cached: CachedList, wanted: Iterable[int], tally: Tally) -> None:
    held = {tweet_id for tweet_id, _ in cached.members}
    missing = sorted(t for t in wanted if cached.floor <= t < oracle.newest and t not in held)
    if missing:
        tally.violated(f"list {cached.kind}:{cached.owner}, complete down to {cached.floor}, lacks {len(missing)} tweets "
                       f"({', '.join(map(str, missing[:5]))})", len(missing))


def _invented(oracle: _Oracle, cached: CachedList, tally: Tally) -> None:
    finals = oracle.finals
    for tweet_id, author in cached.members:
        stored = finals.by_author.get(author)
        if stored is not None and tweet_id >= finals.author_floors.get(author, 0) and tweet_id not in stored:
            tally.violated(f"list {cached.kind}:{cached.owner} holds tweet {tweet_id} of {author}, which was never stored")
