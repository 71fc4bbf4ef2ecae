"""Deleted tweets and unfollowed authors do not reappear."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import HOME, TWEET, Change, Read
from chaos.invariants.finding import Finding, Tally
from chaos.invariants.pages import describe_read
from scenarios import plan

NAME = "no_ghost_after_delete_or_unfollow"


def check(evidence: Evidence) -> Finding:
    """No read sent `Bounds.ghost_s` or more after an acknowledged delete or unfollow shows what it removed.

    Deletes are judged on home and profile pages, GET by id and Cassandra; unfollows on home pages and
    PostgreSQL, and only if no later follow of the same pair can have happened. Search has its own invariant,
    search_converges.
    """
    tally = Tally(NAME)
    history = evidence.history
    deleted = {tweet_id: min(done) for tweet_id, changes in history.deletes.items()
               if (done := [(change.done_ns, change.row) for change in changes if change.ok])}
    cuts = [(pair, change) for pair, changes in history.edges.items() for change in changes
            if change.ok and not change.on]
    tally.checked = len(deleted) + len(cuts)
    tally.exercised(evidence.plan, {plan.DELETES: len(deleted), plan.UNFOLLOWS: len(cuts)})
    unfollowed: dict[int, set[int]] = {}
    for (follower, author), _ in cuts:
        unfollowed.setdefault(follower, set()).add(author)
    for read in evidence.all_reads:
        _page(evidence, read, deleted, unfollowed, tally)
    _lookups(evidence, deleted, tally)
    _stores(evidence, deleted, cuts, tally)
    return tally.finding("no delete and no unfollow was acknowledged")


def _page(evidence: Evidence, read: Read, deleted: dict[int, tuple[int, int]],
          unfollowed: dict[int, set[int]], tally: Tally) -> None:
    bound_ns = int(evidence.bounds.ghost_s * 1e9)
    for tweet_id in read.ids:
        if tweet_id in deleted and deleted[tweet_id][0] + bound_ns <= read.sent_ns:
            tally.violated(f"deleted tweet {tweet_id} was shown; {evidence.history.describe(deleted[tweet_id][1])}; "
                           f"{describe_read(evidence, read)}", 2, read.sent_ns)
    if read.route != HOME or read.user not in unfollowed:
        return
    for author in unfollowed[read.user].intersection(read.authors):
        if author != read.user and (cut := evidence.removed_by(read.user, author, read.sent_ns, read.done_ns)):
            tally.violated(f"a tweet of unfollowed author {author} was shown to {read.user}; "
                           f"{evidence.history.describe(cut.row)}; {describe_read(evidence, read)}", 2, read.sent_ns)


def _lookups(evidence: Evidence, deleted: dict[int, tuple[int, int]], tally: Tally) -> None:
    history = evidence.history
    bound_ns = int(evidence.bounds.ghost_s * 1e9)
    outcome, target, sent = history.column("outcome"), history.column("target"), history.column("sent_ns")
    for row in history.rows_of((TWEET,)):
        delete = deleted.get(target[row])
        if delete and outcome[row] == "ok" and delete[0] + bound_ns <= sent[row]:
            tally.violated(f"deleted tweet {target[row]} was returned by GET; "
                           f"{history.describe(delete[1])}; {history.describe(row)}",
                           2, sent[row])


def _stores(evidence: Evidence, deleted: dict[int, tuple[int, int]], cuts: list[tuple[tuple[int, int], Change]],
            tally: Tally) -> None:
    """Judge the final GETs, the deleted flags in Cassandra and the edges in PostgreSQL."""
    finals = evidence.finals
    bound_ns = int(evidence.bounds.ghost_s * 1e9)
    if finals is None:
        tally.doubt(len(deleted) + len(cuts), "deletes and unfollows have no final reads.")
        return
    for tweet_id, (done_ns, row) in deleted.items():
        if done_ns + bound_ns <= finals.at_ns and finals.api_tweets.get(tweet_id):
            tally.violated(f"deleted tweet {tweet_id} was returned by the final GET; {evidence.history.describe(row)}", 2)
        stored = finals.by_id.get(tweet_id)
        tally.keep("deletes", int(stored is not None), int(stored is not None and not stored.deleted))
        if stored is not None and not stored.deleted:
            tally.violated(f"deleted tweet {tweet_id} is not marked deleted in Cassandra; {evidence.history.describe(row)}")
    for (follower, author), _ in cuts:
        following = finals.following.get(follower)
        cut = evidence.removed_by(follower, author, finals.at_ns, finals.at_ns)
        if cut and following is not None:
            tally.keep("unfollows", 1, int(author in following))
            if author in following:
                tally.violated(f"{follower} unfollowed {author} and the edge still exists in PostgreSQL; "
                               f"{evidence.history.describe(cut.row)}")
