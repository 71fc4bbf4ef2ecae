"""Private stays private: the canary's words reach nobody who was not approved."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import numbers
from chaos.invariants.finding import Finding, Tally

NAME = "no_unauthorised_read"
SHOWING = ("home", "user_tweets", "search", "tweet")  # routes of the mix whose answers name authors


def check(evidence: Evidence) -> Finding:
    """No page shows a protected user's tweet to somebody who was never approved, and no answer his words to a stranger.

    Before the load a protected user posts a word that nobody else has, beside words that the load searches
    for; readers of the load ask to follow him, and nobody is approved. Every answer of the load, of any route
    and status, is looked through for it.

    After the load canaries are planted by a new user who is protected: a tweet with a word that nobody else
    has and a picture, likes, edges, a picture in no tweet and one that was never put. Then one who asked to
    follow, and one who was approved and removed, ask on every way (ids, lists, search, likes, edges,
    pictures): each answer must have the status that is owed to them and show neither id nor word. Pictures
    that are in no tweet are asked for by a follower, too, and the bytes at edge and storage without a right
    signature. Whom each thing is for must see it: otherwise the silence would prove nothing.

    Where users were seeded protected, every page of the load (home, user's tweets, search, a tweet by id) and
    every final page is judged too: who is shown a protected author was let in at some moment of the read, or
    may have been: what surely ended before the read decides, and whatever was under way or unknown.
    """
    tally = Tally(NAME)
    _pages(evidence, tally)
    _answers(evidence, tally)
    found = evidence.finals.canary if evidence.finals else None
    if found is None:
        return tally.finding("no canary was planted" if evidence.finals else evidence.no_finals)
    tally.checked += found.scanned
    for leak in found.leaks:
        tally.violated(f"what a protected user keeps from others was not kept: {leak}")
    tally.doubt(len(found.unanswered), f"requests for it were answered by nothing that tells: {', '.join(found.unanswered[:3])}.")
    blind = "approved follower did not see the canary, so its absence elsewhere tells nothing."
    tally.doubt(int(not found.seen_by_follower), blind)
    return tally.finding("no answer was scanned")


def _answers(evidence: Evidence, tally: Tally) -> None:
    """Judge every answer of the load by the canary that stood meanwhile."""
    found = evidence.load_canary
    if found is None:
        return
    tally.checked += found.scanned
    for asked in found.leaks:
        tally.violated(f"the words of a protected user, who approved nobody, stood in the answer to {asked}")
    tally.remarks.append(f"{found.scanned} answers of the load were looked through for the canary.")


def _pages(evidence: Evidence, tally: Tally) -> None:
    """Judge every page that shows a protected author."""
    if not evidence.protected:
        return
    history, seen = evidence.history, 0
    authors, done_ns, outcome = history.column("page_authors"), history.column("done_ns"), history.column("outcome")
    sent_ns = history.column("sent_ns")
    shown = [(history.column("user")[row], numbers(authors[row]), (sent_ns[row], done_ns[row]), history.describe(row))
             for row in history.rows_of(SHOWING) if outcome[row] == "ok"]
    shown += [(read.user, read.authors, (read.sent_ns, read.done_ns), f"final read of {read.route} by {read.user}")
              for read in (evidence.finals.pages if evidence.finals else ())]
    for reader, page, read_ns, told in shown:
        for author in evidence.protected.intersection(page) - {reader}:
            seen += 1
            if not _approved(evidence, reader, author, *read_ns):
                tally.violated(f"user {reader} was shown what the protected user {author} posted, unapproved; {told}")
    tally.checked += seen
    tally.remarks.append(f"{seen} sightings of protected authors on {len(shown)} pages.")


def _approved(evidence: Evidence, reader: int, author: int, sent_ns: int, done_ns: int) -> bool:
    """Say whether the reader was let in at some moment of a read, or may have been."""
    changes = evidence.history.admissions.get((reader, author), ())
    ended = [change for change in changes if not change.on and change.ok and change.done_ns < sent_ns]  # surely, before the read
    if evidence.seeded_edge(reader, author) and not ended:
        return True
    started = (change for change in changes if change.on and change.sent_ns < done_ns)
    return any(not any(end.sent_ns > change.done_ns for end in ended) for change in started)
