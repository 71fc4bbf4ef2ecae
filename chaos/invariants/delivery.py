"""Every follower sees every tweet: pushed into the home timeline, or merged at read time."""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass

import numpy as np

from chaos.evidence.bundle import Evidence, Ids
from chaos.evidence.history import HOME, NEVER_NS, TOP_ID, Post, Read
from chaos.invariants.finding import Finding, Tally
from chaos.invariants.pages import describe_read
from system.kernel import events
from system.ports import Kind

NAME = "every_follower_sees_it"
LIST = "cached home list"


@dataclass(frozen=True)
class Fanout:
    """The fan-out's effect log of a run.

    `done_ns`: tweet id -> when it was first processed. `path`: tweet id -> `push` or `pull`.
    """

    done_ns: dict[int, int]
    path: dict[int, str]


def fanout_of(evidence: Evidence) -> Fanout:
    """Return the first effect of each new tweet; rows of other events and consumer groups are ignored.

    A row has the topic in `kind` and the tweet in `event` (the workers' log), or the topic in `event` and the
    tweet in `key` (the columns of a record).
    """
    frame = evidence.effects
    done: dict[int, int] = {}
    path: dict[int, str] = {}
    if not len(frame):
        return Fanout(done, path)
    rows = zip(frame["group"], frame["kind"], frame["event"], frame["key"], frame["at_ns"], frame["path"], strict=True)
    for group, kind, event, key, at_ns, path_word in rows:
        name = str(event) if kind == events.NEW_TWEET else str(key) if event == events.NEW_TWEET else ""
        if not str(group).startswith("fanout") or not name.isdigit():
            continue
        tweet_id = int(name)
        done[tweet_id] = min(done.get(tweet_id, NEVER_NS), int(at_ns))
        if path.get(tweet_id) != "pull":
            path[tweet_id] = str(path_word)
    return Fanout(done, path)


def check(evidence: Evidence) -> Finding:
    """Every acknowledged tweet is in the home timeline of each user that followed its author before the post.

    It is due `Bounds.delivery_s` after the acknowledgement; if a fault overlaps that time, it starts again
    when the fault ends. For final reads after the queues have drained, every acknowledged tweet is due.
    Judged on the fan-out's effect log, on every later home page that covers the id, on final pages, and for
    pushed tweets on the complete home lists in Redis. A pair (follower, tweet) is not judged if a follow was
    in flight, or if an unfollow or a delete may have happened.
    """
    tally = Tally(NAME)
    posts = {tweet_id: post for tweet_id, post in evidence.history.acked.items()
             if not evidence.history.maybe_deleted(tweet_id)}
    fanout = fanout_of(evidence)
    _handled(evidence, posts, fanout, tally)
    pulled = {tweet_id for tweet_id, path in fanout.path.items() if path == "pull"}
    if evidence.finals:
        # Tweets of authors that are or were pulled are merged at read time, except those that were pushed.
        pulled |= {tweet_id for tweet_id, post in posts.items()
                   if post.user in evidence.finals.pulled and fanout.path.get(tweet_id) != "push"}
    reads = [read for read in evidence.all_reads if read.route == HOME] + _lists(evidence)
    due = _Due(evidence, posts, {read.user for read in reads})
    pairs = {"push": 0, "pull": 0}
    for read in reads:
        expected = due.before(read)
        if read.route == LIST:
            expected = [tweet_id for tweet_id in expected if tweet_id not in pulled]
        merged = sum(map(pulled.__contains__, expected)) if pulled else 0
        pairs["pull"] += merged
        pairs["push"] += len(expected) - merged
        shown = frozenset(read.ids)
        for tweet_id in expected:
            if tweet_id not in shown:
                post = posts[tweet_id]
                tally.violated(f"follower {read.user} does not see tweet {tweet_id} of {post.user}; "
                               f"{evidence.history.describe(post.rows[-1])}; {describe_read(evidence, read)}", 2, read.sent_ns)
    tally.checked = sum(pairs.values())
    tally.remarks.append(f"{pairs['push']} (follower, tweet) pairs judged by push, {pairs['pull']} by pull, {len(posts)} tweets.")
    return tally.finding("no home page covered a tweet that its reader had to see")


def _handled(evidence: Evidence, posts: dict[int, Post], fanout: Fanout, tally: Tally) -> None:
    if not len(evidence.effects):
        tally.doubt(len(posts), "tweets have no effect log of the fan-out.")
        return
    quiesced = evidence.finals is not None and evidence.finals.quiesced
    pending = 0
    for tweet_id, post in posts.items():
        done_ns = fanout.done_ns.get(tweet_id)
        proof = evidence.history.describe(post.rows[-1])
        if done_ns is not None and done_ns > evidence.deliver_by(post.acked_ns):
            late_s = (done_ns - post.acked_ns) / 1e9
            tally.violated(f"the fan-out of tweet {tweet_id} finished {late_s:.3f} s after the acknowledgement "
                           f"(bound {evidence.bounds.delivery_s:g} s); {proof}", 2, done_ns)
        elif done_ns is None and quiesced:
            tally.violated(f"tweet {tweet_id} never reached the fan-out; {proof}", 1, post.acked_ns)
        pending += done_ns is None and not quiesced
    tally.doubt(pending, "tweets had not reached the fan-out while the queues were still busy.")


def _lists(evidence: Evidence) -> list[Read]:
    """Return the complete home lists in Redis as if they were pages."""
    finals = evidence.finals
    if finals is None:
        return []
    return [Read(LIST, cached.owner, cached.owner, "", finals.at_ns, finals.at_ns, [i for i, _ in cached.members],
                 [a for _, a in cached.members], cached.floor, TOP_ID, False, -1)
            for cached in finals.lists if cached.kind == Kind.HOME and cached.whole]


class _Due:
    """The tweets that each reader must see: one ascending list of ids per reader."""

    def __init__(self, evidence: Evidence, posts: dict[int, Post], readers: set[int]) -> None:
        self._evidence, self._posts = evidence, posts
        self._deadline = {tweet_id: evidence.deliver_by(post.acked_ns) for tweet_id, post in posts.items()}
        self._acked = {tweet_id: post.acked_ns for tweet_id, post in posts.items()}
        self._quiesced = evidence.finals is not None and evidence.finals.quiesced
        self._author = {tweet_id: post.user for tweet_id, post in posts.items()}
        self._changed: dict[int, set[int]] = {}
        for follower, author in evidence.history.edges:
            self._changed.setdefault(follower, set()).add(author)
        self._of: dict[int, list[int]] = {}
        tweet_ids = np.fromiter(posts, dtype=np.int64, count=len(posts))
        followers = [self._followers(post.user) for post in posts.values()]
        readers_of = np.concatenate(followers) if followers else np.zeros(0, dtype=np.int64)
        tweets_of = np.repeat(tweet_ids, [len(f) for f in followers])
        keep = np.isin(readers_of, np.fromiter(readers, dtype=np.int64, count=len(readers)))
        order = np.lexsort((tweets_of[keep], readers_of[keep]))
        readers_of, tweets_of = readers_of[keep][order], tweets_of[keep][order]
        owners, starts = np.unique(readers_of, return_index=True)
        for owner, mine in zip(owners.tolist(), np.split(tweets_of, starts[1:]), strict=False):
            self._of[owner] = mine.tolist()

    @functools.cached_property
    def _joined(self) -> dict[int, list[int]]:
        followers_of: dict[int, list[int]] = {}
        for (follower, author), changes in self._evidence.history.edges.items():
            if any(c.on and c.ok for c in changes) and not self._evidence.seeded_edge(follower, author):
                followers_of.setdefault(author, []).append(follower)
        return followers_of

    @functools.cache  # noqa: B019 (freed after one check)
    def _followers(self, author: int) -> Ids:
        seeded = self._evidence.seeded_followers(author)
        joined = self._joined.get(author)
        return np.concatenate([seeded, np.array(joined, dtype=np.int64)]) if joined else seeded

    def before(self, read: Read) -> list[int]:
        """Return the tweets in the range of `read` that were due and whose edge certainly existed."""
        mine = self._of.get(read.user)
        if not mine:
            return []
        inside = mine[bisect.bisect_left(mine, read.low):bisect.bisect_left(mine, read.high)]
        deadline, sent_ns = self._acked if read.row < 0 and self._quiesced else self._deadline, read.sent_ns
        due = [tweet_id for tweet_id in inside if deadline[tweet_id] < sent_ns]
        changed, author = self._changed.get(read.user), self._author
        if not changed:
            return due
        return [tweet_id for tweet_id in due if author[tweet_id] not in changed or self._edge_existed(read, tweet_id)]

    def _edge_existed(self, read: Read, tweet_id: int) -> bool:
        post = self._posts[tweet_id]
        return self._evidence.edge_exists(read.user, post.user, post.sent_ns, read.done_ns)
