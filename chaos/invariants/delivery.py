"""Every follower sees it: pushed into his timeline, or merged when he reads."""

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
    """What the fan-out's effect log says of the tweets of a run: when each was first done, and by which path."""

    done_ns: dict[int, int]
    path: dict[int, str]


def fanout_of(evidence: Evidence) -> Fanout:
    """Return the first effect of each new tweet; rows of other events and groups are left out.

    A row names the topic as its kind and the tweet as its event (as workers write), or the topic as its event
    and the tweet as its key (as the columns of a record tell it).
    """
    frame = evidence.effects
    done: dict[int, int] = {}
    path: dict[int, str] = {}
    if not len(frame):
        return Fanout(done, path)
    rows = zip(frame["group"], frame["kind"], frame["event"], frame["key"], frame["at_ns"], frame["path"], strict=True)
    for group, kind, event, key, at_ns, how in rows:
        name = str(event) if kind == events.NEW_TWEET else str(key) if event == events.NEW_TWEET else ""
        if not str(group).startswith("fanout") or not name.isdigit():
            continue
        tweet_id = int(name)
        done[tweet_id] = min(done.get(tweet_id, NEVER_NS), int(at_ns))
        if path.get(tweet_id) != "pull":
            path[tweet_id] = str(how)
    return Fanout(done, path)


def check(evidence: Evidence) -> Finding:
    """An acknowledged tweet is in the home of everybody who surely followed its author before it was posted.

    Due: the delivery bound after the acknowledgement, starting again at the end of a fault it met; at once
    for final reads after the queues were empty. Judged on the fan-out's effect log, on every later home page
    that covers the id, on final pages, and for pushed tweets on the complete home lists in Redis. Follows in
    flight, unfollows and deletes that may have happened make a pair optional.
    """
    tally = Tally(NAME)
    posts = {tweet_id: post for tweet_id, post in evidence.history.acked.items()
             if not evidence.history.maybe_deleted(tweet_id)}
    fanout = fanout_of(evidence)
    _handled(evidence, posts, fanout, tally)
    pulled = {tweet_id for tweet_id, how in fanout.path.items() if how == "pull"}
    if evidence.finals:
        # An author who is or was pulled is merged, but what was pushed of theirs is in the lists all the
        # same.
        pulled |= {tweet_id for tweet_id, post in posts.items()
                   if post.user in evidence.finals.pulled and fanout.path.get(tweet_id) != "push"}
    reads = [read for read in evidence.all_reads if read.route == HOME] + _lists(evidence)
    due = _Due(evidence, posts, {read.user for read in reads})
    pairs = {"push": 0, "pull": 0}
    for read in reads:
        seen = due.before(read)
        if read.route == LIST:
            seen = [tweet_id for tweet_id in seen if tweet_id not in pulled]
        merged = sum(map(pulled.__contains__, seen)) if pulled else 0
        pairs["pull"] += merged
        pairs["push"] += len(seen) - merged
        shown = frozenset(read.ids)
        for tweet_id in seen:
            if tweet_id not in shown:
                post = posts[tweet_id]
                tally.violated(f"follower {read.user} does not see tweet {tweet_id} of {post.user}; "
                               f"{evidence.history.describe(post.rows[-1])}; {describe_read(evidence, read)}", 2, read.sent_ns)
    tally.checked = sum(pairs.values())
    tally.remarks.append(f"{pairs['push']} sightings judged by push, {pairs['pull']} by pull, {len(posts)} tweets.")
    return tally.finding("no home page covered a tweet that its reader had to see")


def _handled(evidence: Evidence, posts: dict[int, Post], fanout: Fanout, tally: Tally) -> None:
    if not len(evidence.effects):
        tally.doubt(len(posts), "tweets have no effect log of the fan-out.")
        return
    quiesced = evidence.finals is not None and evidence.finals.quiesced
    open_ = 0
    for tweet_id, post in posts.items():
        done_ns = fanout.done_ns.get(tweet_id)
        proof = evidence.history.describe(post.rows[-1])
        if done_ns is not None and done_ns > evidence.deliver_by(post.acked_ns):
            late_s = (done_ns - post.acked_ns) / 1e9
            tally.violated(f"the fan-out of tweet {tweet_id} ended {late_s:.3f} s after the acknowledgement "
                           f"(bound {evidence.bounds.delivery_s:g} s); {proof}", 2, done_ns)
        elif done_ns is None and quiesced:
            tally.violated(f"tweet {tweet_id} never reached the fan-out; {proof}", 1, post.acked_ns)
        open_ += done_ns is None and not quiesced
    tally.doubt(open_, "tweets had not reached the fan-out when the queues were still busy.")


def _lists(evidence: Evidence) -> list[Read]:
    """Return the complete home lists in Redis as if they were pages."""
    finals = evidence.finals
    if finals is None:
        return []
    return [Read(LIST, cached.owner, cached.owner, "", finals.at_ns, finals.at_ns, [i for i, _ in cached.members],
                 [a for _, a in cached.members], cached.floor, TOP_ID, False, -1)
            for cached in finals.lists if cached.kind == Kind.HOME and cached.whole]


class _Due:
    """Which tweets each reader must see: one ascending list of ids a reader."""

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
        who = np.concatenate(followers) if followers else np.zeros(0, dtype=np.int64)
        what = np.repeat(tweet_ids, [len(f) for f in followers])
        keep = np.isin(who, np.fromiter(readers, dtype=np.int64, count=len(readers)))
        order = np.lexsort((what[keep], who[keep]))
        who, what = who[keep][order], what[keep][order]
        owners, starts = np.unique(who, return_index=True)
        for owner, mine in zip(owners.tolist(), np.split(what, starts[1:]), strict=False):
            self._of[owner] = mine.tolist()

    @functools.cached_property
    def _joined(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for (follower, author), changes in self._evidence.history.edges.items():
            if any(c.on and c.ok for c in changes) and not self._evidence.seeded_edge(follower, author):
                found.setdefault(author, []).append(follower)
        return found

    @functools.cache  # noqa: B019 (lives as long as one check)
    def _followers(self, author: int) -> Ids:
        seeded = self._evidence.seeded_followers(author)
        joined = self._joined.get(author)
        return np.concatenate([seeded, np.array(joined, dtype=np.int64)]) if joined else seeded

    def before(self, read: Read) -> list[int]:
        """Return the tweets inside what `read` covers that were due when it was sent and whose edge surely stood."""
        mine = self._of.get(read.user)
        if not mine:
            return []
        inside = mine[bisect.bisect_left(mine, read.low):bisect.bisect_left(mine, read.high)]
        deadline, sent_ns = self._acked if read.row < 0 and self._quiesced else self._deadline, read.sent_ns
        due = [tweet_id for tweet_id in inside if deadline[tweet_id] < sent_ns]
        changed, author = self._changed.get(read.user), self._author
        if not changed:
            return due
        return [tweet_id for tweet_id in due if author[tweet_id] not in changed or self._stands(read, tweet_id)]

    def _stands(self, read: Read, tweet_id: int) -> bool:
        post = self._posts[tweet_id]
        return self._evidence.edge_exists(read.user, post.user, post.sent_ns, read.done_ns)
