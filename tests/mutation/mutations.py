"""Mutations of clean evidence: each must fail its invariant, and no other that it does not explain.

A mutation returns None where the evidence contains nothing that it could break.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import HOME, PROFILE, Change, Post, Read
from chaos.invariants import (
    cached,
    delivery,
    ghosts,
    graph,
    identity,
    intact,
    liking,
    limits,
    lost,
    own_writes,
    pages,
    privacy,
    search_convergence,
)
from system.kernel import ids
from system.kernel.policies import LimitKnobs
from system.ports import Kind
from tests.mutation import edits, objects

Mutate = Callable[[Evidence, random.Random], Evidence | None]


@dataclass(frozen=True)
class Mutation:
    """A mutation. `violates`: the invariant that must fail. `may_violate`: others that may fail with it."""

    mutate: Mutate
    violates: str
    may_violate: frozenset[str] = frozenset()


def _live_posts(evidence: Evidence, rng: random.Random) -> Iterator[tuple[int, Post]]:
    posts = [(t, p) for t, p in evidence.history.acked.items() if not evidence.history.maybe_deleted(t)]
    rng.shuffle(posts)
    yield from posts


def _reads(evidence: Evidence, rng: random.Random, route: str) -> Iterator[Read]:
    reads = [read for read in evidence.history.reads if read.route == route]
    rng.shuffle(reads)
    yield from reads


def lose_from_cassandra(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """Cassandra lost the tweet's row."""
    tweet_id, _ = next(_live_posts(evidence, rng), (0, None))
    stored = {t: s for t, s in edits.finals_of(evidence).by_id.items() if t != tweet_id}
    return edits.with_finals(evidence, by_id=stored) if tweet_id else None


def lose_from_author(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """The table by author lacks the tweet."""
    for tweet_id, post in _live_posts(evidence, rng):
        by_author = dict(edits.finals_of(evidence).by_author)
        by_author[post.user] = {t: d for t, d in by_author[post.user].items() if t != tweet_id}
        return edits.with_finals(evidence, by_author=by_author)
    return None


def lose_from_api(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """GET answers 404 for a tweet that exists."""
    for tweet_id, _ in _live_posts(evidence, rng):
        return edits.with_finals(evidence, api_tweets={**edits.finals_of(evidence).api_tweets, tweet_id: False})
    return None


def lose_from_profile(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """The author's final page lacks the tweet."""
    for tweet_id, _ in _live_posts(evidence, rng):
        return edits.pages_without(evidence, tweet_id, lambda page: page.route != PROFILE)
    return None


def invent_a_tweet(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """An author has a tweet that nobody posted."""
    by_author = dict(edits.finals_of(evidence).by_author)
    open_users = {post.user for post in evidence.history.posts if not post.tweet_ids}
    author = rng.choice([user for user in by_author if user not in open_users])
    phantom = ids.compose(edits.finals_of(evidence).wall_ms - 20_000, 900, 1)
    by_author[author] = {**by_author[author], phantom: False}
    return edits.with_finals(evidence, by_author=by_author)


def repeat_in_page(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """One tweet twice in a page."""
    for read in _reads(evidence, rng, rng.choice((HOME, PROFILE))):
        if read.ids:
            at = rng.randrange(len(read.ids))
            twice = {"page_ids": read.ids[:at] + read.ids[at:at + 1] + read.ids[at:],
                     "page_authors": read.authors[:at] + read.authors[at:at + 1] + read.authors[at:]}
            return edits.with_rows(evidence, {read.row: twice})
    return None


def swap_in_page(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """Two neighbours in the wrong order."""
    for read in _reads(evidence, rng, rng.choice((HOME, PROFILE))):
        if len(read.ids) > 1:
            at = rng.randrange(len(read.ids) - 1)
            order = list(range(len(read.ids)))
            order[at], order[at + 1] = at + 1, at
            return edits.with_rows(evidence, {read.row: {"page_ids": [read.ids[i] for i in order],
                                                         "page_authors": [read.authors[i] for i in order]}})
    return None


def overlap_in_walk(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A second page begins with the last tweet of the first."""
    for read in _reads(evidence, rng, rng.choice((HOME, PROFILE))):
        before = next((r for r in evidence.history.reads if r.low == read.high and r.user == read.user
                       and r.route == read.route and r.subject == read.subject), None)
        if read.continues and before is not None and before.ids:
            return edits.with_rows(evidence, {read.row: {"page_ids": [before.ids[-1], *read.ids],
                                                         "page_authors": [before.authors[-1], *read.authors]}})
    return None


def forget_what_was_seen(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A later profile page of the same session lacks a tweet that an earlier one showed."""
    reads = evidence.history.reads
    for late in _reads(evidence, rng, PROFILE):
        for early in reads:
            same = (early.route, early.user, early.subject, early.session) == (late.route, late.user, late.subject, late.session)
            both = [t for t in late.ids if t in early.ids and not evidence.history.maybe_deleted(t)]
            if same and early.done_ns < late.sent_ns and both:
                return edits.with_rows(evidence, {late.row: edits.page_without(evidence, late.row, rng.choice(both))})
    return None


def miss_a_follower(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """One follower never sees a tweet: neither on pages nor in the cached list."""
    for tweet_id, post in _live_posts(evidence, rng):
        followers = [f for f in evidence.seeded_followers(post.user).tolist() if (f, post.user) not in evidence.history.edges]
        if not followers:
            continue
        reader = rng.choice(followers)
        return _hidden_from(evidence, reader, tweet_id)
    return None


def _hidden_from(evidence: Evidence, reader: int, tweet_id: int) -> Evidence:
    rows = {r.row: edits.page_without(evidence, r.row, tweet_id) for r in evidence.history.reads
            if r.route == HOME and r.user == reader and tweet_id in r.ids}
    changed = edits.with_rows(evidence, rows) if rows else evidence
    changed = edits.pages_without(changed, tweet_id, lambda page: page.route != HOME or page.user != reader)
    held = edits.a_list(changed, Kind.HOME, lambda c: c.owner == reader)
    kept = tuple(m for m in held.members if m[0] != tweet_id) if held else ()
    return edits.with_list(changed, Kind.HOME, reader, kept) if held else changed


def skip_the_fanout(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """An acknowledged tweet never reached the fan-out."""
    for tweet_id, _ in _live_posts(evidence, rng):
        return replace(evidence, effects=evidence.effects[evidence.effects["event"] != str(tweet_id)])
    return None


def delay_the_fanout(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A tweet was fanned out a minute late."""
    for tweet_id, _ in _live_posts(evidence, rng):
        effects = evidence.effects.copy()
        effects.loc[effects["event"] == str(tweet_id), "at_ns"] += 60 * 10**9
        return replace(evidence, effects=effects)
    return None


def show_an_unfollowed(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A home page shows an author that its reader has unfollowed before."""
    for read in _reads(evidence, rng, HOME):
        for (follower, author), _ in evidence.history.edges.items():
            old = [t for t in evidence.seeded_ids.tolist() if t in edits.finals_of(evidence).by_author[author]
                   and not evidence.history.maybe_deleted(t)]
            if follower == read.user and old and evidence.removed_by(follower, author, read.sent_ns, read.done_ns):
                return edits.with_rows(evidence, {read.row: edits.page_with(evidence, read.row, old[0], author)})
    return None


def show_a_deleted(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A profile page shows a tweet that was deleted long before."""
    for read in _reads(evidence, rng, PROFILE):
        for tweet_id, changes in evidence.history.deletes.items():
            of_author = tweet_id in edits.finals_of(evidence).by_author[read.subject]
            if of_author and any(c.ok and c.done_ns + 3 * 10**9 < read.sent_ns for c in changes) and tweet_id < read.high:
                return edits.with_rows(evidence, {read.row: edits.page_with(evidence, read.row, tweet_id, read.subject)})
    return None


def revive_a_deleted(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """The final GET returns a deleted tweet."""
    deleted = [t for t, changes in evidence.history.deletes.items() if any(c.ok for c in changes)]
    if not deleted:
        return None
    return edits.with_finals(evidence, api_tweets={**edits.finals_of(evidence).api_tweets, rng.choice(deleted): True})


def keep_a_cut_edge(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """An unfollow was acknowledged and the edge still exists in PostgreSQL."""
    finals = edits.finals_of(evidence)
    for (follower, author) in evidence.history.edges:
        if evidence.removed_by(follower, author, finals.at_ns, finals.at_ns):
            following = {**finals.following, follower: finals.following[follower] | {author}}
            return edits.with_finals(evidence, following=following)
    return None


def give_an_id_twice(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """Two posts of different users get one id."""
    posts = list(_live_posts(evidence, rng))
    for (tweet_id, post), (_, other) in itertools.pairwise(posts):
        if post.user != other.user and len(other.rows) == 1:
            return edits.with_rows(evidence, {other.rows[0]: {"tweet_id": tweet_id}})
    return None


def step_an_id_back(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A worker issues an id below an earlier one: its clock went back and it did not wait."""
    for tweet_id, post in _live_posts(evidence, rng):
        if post.acked_ns - evidence.history.start_ns > 3 * 10**9:
            older = tweet_id - (2500 << ids.TIME_SHIFT)
            return edits.with_rows(evidence, {row: {"tweet_id": older} for row in post.rows})
    return None


def hide_an_own_tweet(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """An author's own page, read after the acknowledgement, lacks the tweet."""
    for read in evidence.history.reads:
        for tweet_id in read.ids:
            post = evidence.history.acked.get(tweet_id)
            own = post is not None and read.user == read.subject == post.user and post.acked_ns < read.sent_ns
            if own and not evidence.history.maybe_deleted(tweet_id):
                return edits.with_rows(evidence, {read.row: edits.page_without(evidence, read.row, tweet_id)})
    return None


def break_a_key(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A retry with the same key made a second tweet."""
    twice = [p for p in evidence.history.posts if p.tweet_ids and len(p.rows) > 1]
    if not twice:
        return None
    post = rng.choice(twice)
    return edits.with_rows(evidence, {post.rows[0]: {"outcome": "ok", "tweet_id": post.tweet_ids[0] + 1}})


def shrink_a_follower_list(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """After a cache loss, one new follow created a list of one that claims to be complete."""
    cached_list = edits.a_list(evidence, Kind.FOLLOWERS, lambda c: len(c.members) > 1)
    return edits.with_list(evidence, Kind.FOLLOWERS, cached_list.owner, cached_list.members[-1:]) if cached_list else None


def drop_from_a_list(kind: Kind) -> Mutate:
    """Return the mutation in which a complete list of tweets lacks one above its floor."""
    def mutate(evidence: Evidence, rng: random.Random) -> Evidence | None:
        cached_list = edits.a_list(evidence, kind, lambda c: len(c.members) > 1)
        return edits.with_list(evidence, kind, cached_list.owner, cached_list.members[:-1]) if cached_list else None
    return mutate


def lose_a_follow(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """An acknowledged follow is not in PostgreSQL."""
    finals = edits.finals_of(evidence)
    for (follower, author), changes in evidence.history.edges.items():
        made: list[Change] = [c for c in changes if c.on and c.ok]
        if made and evidence.edge_exists(follower, author, finals.at_ns, finals.at_ns):
            following = {**finals.following, follower: finals.following[follower] - {author}}
            return edits.with_finals(evidence, following=following)
    return None


def lose_from_the_index(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A tweet never reached the index."""
    tweet_id, _ = next(_live_posts(evidence, rng), (0, None))
    searchable = edits.finals_of(evidence).searchable or frozenset()
    return edits.with_finals(evidence, searchable=searchable - {tweet_id}) if tweet_id else None


def find_a_deleted(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """A late write revived a document."""
    deleted = [t for t, changes in evidence.history.deletes.items() if any(c.ok for c in changes)]
    searchable = edits.finals_of(evidence).searchable or frozenset()
    return edits.with_finals(evidence, searchable=searchable | {rng.choice(deleted)}) if deleted else None


def serve_beyond_the_limit(evidence: Evidence, rng: random.Random) -> Evidence | None:
    """The limit is below what a user was served within a second of their first read."""
    knobs = LimitKnobs(window_s=10_000.0, read=1, write=0, search=0, user=0)
    return replace(evidence, bounds=replace(evidence.bounds, limits=knobs))


MUTATIONS: dict[str, Mutation] = {
    "break_a_key": Mutation(break_a_key, identity.KEYS, frozenset({lost.NAME, delivery.NAME, identity.UNIQUE, own_writes.NAME})),
    "delay_the_fanout": Mutation(delay_the_fanout, delivery.NAME),
    "drop_from_an_author_list": Mutation(drop_from_a_list(Kind.AUTHOR), cached.NAME),
    "drop_from_a_home_list": Mutation(drop_from_a_list(Kind.HOME), cached.NAME, frozenset({delivery.NAME})),
    "find_a_deleted": Mutation(find_a_deleted, search_convergence.NAME),
    "forget_what_was_seen": Mutation(forget_what_was_seen, pages.NAME, frozenset({own_writes.NAME})),
    "give_an_id_twice": Mutation(give_an_id_twice, identity.UNIQUE,
                                 frozenset({lost.NAME, delivery.NAME, own_writes.NAME})),
    "hide_an_own_tweet": Mutation(hide_an_own_tweet, own_writes.NAME, frozenset({pages.NAME})),
    "invent_a_tweet": Mutation(invent_a_tweet, lost.NAME, frozenset({cached.NAME})),
    "keep_a_cut_edge": Mutation(keep_a_cut_edge, ghosts.NAME, frozenset({cached.NAME})),
    "drift_a_count": Mutation(objects.drift_a_count, liking.NAME),
    "leak_the_canary": Mutation(objects.leak_the_canary, privacy.NAME),
    "lose_a_like": Mutation(objects.lose_a_like, liking.NAME),
    "lose_a_seeded_tweet": Mutation(objects.lose_a_seeded_tweet, lost.NAME, frozenset({cached.NAME})),
    "lose_an_account": Mutation(objects.lose_an_account, graph.NAME),
    "lose_a_picture": Mutation(objects.tear_a_picture(lambda stored: None), intact.NAME),
    "replace_a_picture": Mutation(objects.tear_a_picture(lambda stored: replace(stored, look="0" * 16)), intact.NAME),
    "change_the_bytes_of_a_picture": Mutation(
        objects.tear_a_picture(lambda stored: replace(stored, is_recorded=False)), intact.NAME),
    "tell_a_position": Mutation(objects.tell_a_position, intact.POSITIONS),
    "lose_a_follow": Mutation(lose_a_follow, graph.NAME, frozenset({cached.NAME})),
    "lose_from_api": Mutation(lose_from_api, lost.NAME),
    "lose_from_author": Mutation(lose_from_author, lost.NAME, frozenset({cached.NAME})),
    "lose_from_cassandra": Mutation(lose_from_cassandra, lost.NAME),
    "lose_from_profile": Mutation(lose_from_profile, lost.NAME, frozenset({own_writes.NAME, pages.NAME})),
    "lose_from_the_index": Mutation(lose_from_the_index, search_convergence.NAME),
    "miss_a_follower": Mutation(miss_a_follower, delivery.NAME, frozenset({cached.NAME})),
    "overlap_in_walk": Mutation(overlap_in_walk, pages.NAME),
    "repeat_in_page": Mutation(repeat_in_page, pages.NAME),
    "revive_a_deleted": Mutation(revive_a_deleted, ghosts.NAME),
    "show_a_deleted": Mutation(show_a_deleted, ghosts.NAME, frozenset({pages.NAME})),
    "show_an_unfollowed": Mutation(show_an_unfollowed, ghosts.NAME, frozenset({pages.NAME})),
    "show_to_a_former_follower": Mutation(objects.show_to_a_former_follower, privacy.NAME),
    "serve_beyond_the_limit": Mutation(serve_beyond_the_limit, limits.NAME),
    "shrink_a_follower_list": Mutation(shrink_a_follower_list, cached.NAME),
    "skip_the_fanout": Mutation(skip_the_fanout, delivery.NAME),
    "step_an_id_back": Mutation(step_an_id_back, identity.UNIQUE,
                                frozenset({lost.NAME, delivery.NAME, own_writes.NAME, pages.NAME})),
    "swap_in_page": Mutation(swap_in_page, pages.NAME),
}
