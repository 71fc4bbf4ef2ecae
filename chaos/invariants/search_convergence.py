"""Search converges: once the queues have drained, the index has all live tweets and no deleted one."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.invariants.finding import Finding, Tally

NAME = "search_converges"
LEAST = 10  # tweets; fewer prove nothing


def check(evidence: Evidence) -> Finding:
    """Once the queues have drained, the index finds every acknowledged live tweet and no deleted one.

    The index itself is queried, after a refresh: the API filters its results by the stores, which would hide
    a ghost. A tweet whose delete ended `info` may be found or not. With fewer than 10 tweets, or if the
    queues did not drain, the verdict is unknown.
    """
    tally = Tally(NAME)
    finals = evidence.finals
    if finals is None:
        return tally.finding(evidence.no_finals)
    if finals.searchable is None:
        return tally.finding("the index was not queried")
    missing, ghosts = [], []
    for tweet_id, post in evidence.history.acked.items():
        if tweet_id in finals.looked_up and not evidence.history.maybe_deleted(tweet_id):
            tally.checked += 1
            if tweet_id not in finals.searchable:
                missing.append((tweet_id, post.rows[-1]))
    for tweet_id, changes in evidence.history.deletes.items():
        done = [change.row for change in changes if change.ok]
        if done and (tweet_id in finals.looked_up or tweet_id in finals.searchable):
            tally.checked += 1
            if tweet_id in finals.searchable:
                ghosts.append((tweet_id, done[0]))
    if not finals.quiesced:
        tally.doubt(tally.checked, "tweets were searched for while events were still in flight.")
        return tally.finding("no tweet was posted or deleted")
    for tweet_id, row in missing:
        tally.violated(f"tweet {tweet_id} was acknowledged and search does not find it; {evidence.history.describe(row)}")
    for tweet_id, row in ghosts:
        tally.violated(f"deleted tweet {tweet_id} is still found; {evidence.history.describe(row)}")
    tally.doubt(tally.checked if tally.checked < LEAST else 0, f"tweets are too few; at least {LEAST} are needed.")
    return tally.finding("no tweet was posted or deleted")
