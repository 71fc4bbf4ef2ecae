"""Private data stays private: nobody without approval is shown what protected users post."""

from __future__ import annotations

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import numbers
from chaos.invariants.finding import Finding, Tally

NAME = "no_unauthorised_read"
SHOWING = ("home", "user_tweets", "search", "tweet")  # routes of the mix whose responses contain authors


def check(evidence: Evidence) -> Finding:
    """No page shows a protected user's tweet to a user who was never approved, and no reply leaks its text.

    Before the load, a protected user posts a tweet with a unique word and with words that the load searches
    for. Users of the load request to follow that user; nobody is approved. Every response of the load, of any
    route and status, is scanned for the unique word.

    After the load, a new protected user plants canaries: a tweet with a unique word and a picture, likes,
    edges, a picture without a tweet and one that was never uploaded. Then two users request them by every
    route (ids, lists, search, likes, edges, pictures): one who requested to follow, and one who was approved
    and then removed. Each response must have the expected status and show neither ids nor words. An approved
    follower also requests the pictures without a tweet, and the bytes are requested from the CDN edge and the
    storage without a valid signature. Users that may see a canary must see it: otherwise its absence
    elsewhere proves nothing.

    Where protected users were seeded, every page of the load (home, user's tweets, search, a tweet by id) and
    every final page is judged too: a reader who is shown a protected author must have been approved, or
    possibly approved, at some moment of the read. Only a removal that certainly completed before the read
    counts against the reader; one in flight or with an unknown outcome does not.
    """
    tally = Tally(NAME)
    _pages(evidence, tally)
    _answers(evidence, tally)
    canary = evidence.finals.canary if evidence.finals else None
    if canary is None:
        return tally.finding("no canary was planted" if evidence.finals else evidence.no_finals)
    tally.checked += canary.scanned
    for leak in canary.leaks:
        tally.violated(f"private data of a protected user leaked: {leak}")
    tally.doubt(len(canary.unanswered), f"requests for it had no conclusive answer: {', '.join(canary.unanswered[:3])}.")
    tally.doubt(int(not canary.seen_by_follower),
                "approved follower did not see the canary, so its absence elsewhere proves nothing.")
    return tally.finding("no answer was scanned")


def _answers(evidence: Evidence, tally: Tally) -> None:
    """Judge every response of the load by the canary that was planted before it."""
    canary = evidence.load_canary
    if canary is None:
        return
    tally.checked += canary.scanned
    for request in canary.leaks:
        tally.violated(f"the words of a protected user, who approved nobody, were in the answer to {request}")
    tally.remarks.append(f"{canary.scanned} answers of the load were scanned for the canary.")


def _pages(evidence: Evidence, tally: Tally) -> None:
    """Judge every page that shows a protected author."""
    if not evidence.protected:
        return
    history, sightings = evidence.history, 0
    authors, done_ns, outcome = history.column("page_authors"), history.column("done_ns"), history.column("outcome")
    sent_ns = history.column("sent_ns")
    shown = [(history.column("user")[row], numbers(authors[row]), (sent_ns[row], done_ns[row]), history.describe(row))
             for row in history.rows_of(SHOWING) if outcome[row] == "ok"]
    shown += [(read.user, read.authors, (read.sent_ns, read.done_ns), f"final read of {read.route} by {read.user}")
              for read in (evidence.finals.pages if evidence.finals else ())]
    for reader, page, read_ns, description in shown:
        for author in evidence.protected.intersection(page) - {reader}:
            sightings += 1
            if not _approved(evidence, reader, author, *read_ns):
                tally.violated(f"user {reader} was shown what the protected user {author} posted, unapproved; {description}")
    tally.checked += sightings
    tally.remarks.append(f"{sightings} sightings of protected authors on {len(shown)} pages.")


def _approved(evidence: Evidence, reader: int, author: int, sent_ns: int, done_ns: int) -> bool:
    """Return whether the reader was approved, or possibly approved, at some moment of a read."""
    changes = evidence.history.admissions.get((reader, author), ())
    # Removals that certainly completed before the read.
    ended = [change for change in changes if not change.on and change.ok and change.done_ns < sent_ns]
    if evidence.seeded_edge(reader, author) and not ended:
        return True
    started = (change for change in changes if change.on and change.sent_ns < done_ns)
    return any(not any(end.sent_ns > change.done_ns for end in ended) for change in started)
