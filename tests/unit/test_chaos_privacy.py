"""Invariants of protected users (only approved followers read them) and of seeded likes (none is lost)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from chaos.evidence.bundle import Canary, Evidence, Finals, RunClock
from chaos.evidence.history import DEFAULTS, Read
from chaos.invariants import delivery, liking, privacy
from scenarios.world import population

OWNER, FAN, GUEST, STRANGER = 1, 2, 3, 4
TWEET = 900
GRAPH = population.from_edges(np.array([FAN]), np.array([OWNER]), users=4)


def row(route, user, target=0, sent_s=1, outcome="ok", **more):
    """Return an attempt that took half a second."""
    sent_ns = int(sent_s * 1e9)
    return DEFAULTS | {"route": route, "user": user, "target": target, "sent_ns": sent_ns, "done_ns": sent_ns + 500_000_000,
                       "outcome": outcome} | more


def page(route, user, sent_s, author=OWNER, **more):
    return row(route, user, sent_s=sent_s, page_ids=[TWEET], page_authors=[author], **more)


def evidence(*rows, **finals):
    frame = pd.DataFrame([*rows, row("profile", FAN, OWNER)])
    final_reads = Finals(canary=Canary(8, (), True), **finals)
    return Evidence(frame, pd.DataFrame(), final_reads, GRAPH, RunClock(0, 0), protected=frozenset({OWNER}))


@pytest.mark.parametrize("route", ["home", "user_tweets", "search", "tweet"])
def test_a_page_that_shows_a_protected_author_to_a_stranger_fails(route):
    """On every route of the mix whose answers contain authors."""
    found = privacy.check(evidence(page(route, STRANGER, 5)))

    assert (found.verdict, found.found) == ("fail", 1)
    assert "user 4 was shown what the protected user 1 posted" in found.violations[0]


@pytest.mark.parametrize(("canary", "verdict"), [
    (Canary(41, (), True), "pass"), (Canary(41, ("GET /2/users/1/followers by a stranger: 200 in place of 403",), True), "fail"),
    (Canary(41, (), False), "unknown"), (Canary(40, (), True, ("GET /2/media/1_2: 503",)), "unknown"),
])
def test_a_canary_that_leaks_fails_and_one_that_proves_nothing_is_unknown(canary, verdict):
    """It proves nothing where its follower did not see it, or a request had no conclusive answer."""
    plain = evidence()

    assert privacy.check(dataclasses.replace(plain, finals=dataclasses.replace(plain.finals, canary=canary))).verdict == verdict


def test_a_final_page_is_judged_too():
    """The final reads of the checker are pages, too."""
    read = Read("home", STRANGER, STRANGER, "", 9, 9, [TWEET], [OWNER], 0, 1000, False, -1)

    assert privacy.check(evidence(pages=(read,))).verdict == "fail"


def test_the_owner_followers_and_approved_users_may_read():
    """Approved: the approval was sent before the page was read."""
    pages = [page("home", FAN, 5), page("user_tweets", OWNER, 5), page("home", GUEST, 5), page("search", STRANGER, 5, author=FAN)]
    found = privacy.check(evidence(row("follow_request", GUEST, OWNER, 1), row("follow_approve", OWNER, GUEST, 3), *pages))

    assert (found.verdict, found.checked) == ("pass", 8 + 2)


LEFT = row("unfollow", GUEST, OWNER, 4)
APPROVED = row("follow_approve", OWNER, GUEST, 2)


@pytest.mark.parametrize(("changes", "reader", "verdict"), [
    ((APPROVED, LEFT), GUEST, "fail"),                                     # left a second before the read
    ((row("unfollow", FAN, OWNER, 4),), FAN, "fail"),                    # so did a seeded follower
    ((APPROVED, row("unfollow", GUEST, OWNER, 4.8)), GUEST, "pass"),       # during the read
    ((APPROVED, row("unfollow", GUEST, OWNER, 6)), GUEST, "pass"),
    ((APPROVED, row("unfollow", GUEST, OWNER, 4, "info")), GUEST, "pass"),  # may never have left
    ((APPROVED, row("unfollow", GUEST, OWNER, 4, "fail")), GUEST, "pass"),
    ((APPROVED, row("unfollow", GUEST, OWNER, 2.2)), GUEST, "pass"),       # overlaps the approval: either may be last
    ((LEFT, row("follow_approve", OWNER, GUEST, 4.9)), GUEST, "pass"),   # approved during the read
    ((APPROVED, row("unfollow", GUEST, OWNER, 3), row("follow", GUEST, OWNER, 4)), GUEST, "fail"),  # a request grants nothing
    ((row("follow_approve", OWNER, GUEST, 2, "info"), row("unfollow", GUEST, OWNER, 4)), GUEST, "pass"),  # may take effect late
])
def test_a_former_follower_is_a_stranger(changes, reader, verdict):
    """Changes that certainly ended before the read decide; those in flight or unknown may be either."""
    assert privacy.check(evidence(*changes, page("home", reader, 5))).verdict == verdict


@pytest.mark.parametrize("approval", [None, row("follow_approve", OWNER, GUEST, 8),
                                      row("follow_approve", OWNER, GUEST, 3, "fail")])
def test_a_follow_request_alone_grants_nothing(approval):
    """Nor does an approval after the read, or one that certainly failed."""
    rows = [row("follow_request", GUEST, OWNER, 1), page("home", GUEST, 5), *([approval] if approval else [])]

    assert privacy.check(evidence(*rows)).verdict == "fail"


def test_an_approval_is_an_edge_and_a_request_is_not():
    """So for every check that uses edges."""
    found = evidence(row("follow_request", GUEST, OWNER, 1), row("follow_request", STRANGER, OWNER, 1),
                     row("follow_approve", OWNER, GUEST, 3))

    assert set(found.history.edges) == {(GUEST, OWNER)}
    assert found.edge_exists(GUEST, OWNER, int(4e9), int(5e9))


def test_an_approved_follower_must_see_later_tweets():
    """every_follower_sees_it applies from the approval on."""
    posted = [row("post", OWNER, sent_s=2, tweet_id=TWEET - 1, key="a"), row("post", OWNER, sent_s=4, tweet_id=TWEET, key="b")]
    read = Read("home", GUEST, GUEST, "", int(60e9), int(60e9), [], [], 0, 1 << 62, False, -1)
    found = delivery.check(evidence(row("follow_approve", OWNER, GUEST, 3), *posted, pages=(read,), at_ns=int(60e9)))

    assert [text for text in found.violations if f"follower {GUEST} does not see tweet {TWEET} " in text]
    assert not [text for text in found.violations if f"tweet {TWEET - 1} of" in text and "does not see" in text]


@pytest.mark.parametrize(("likers", "counted", "verdict"), [
    ({FAN, GUEST, STRANGER}, 3, "pass"), ({FAN, STRANGER}, 2, "fail"), ({FAN, GUEST, STRANGER}, 1, "fail"),
    ({FAN, GUEST, STRANGER, OWNER}, 4, "fail"),
])
def test_seeded_likes_remain_and_are_counted(likers, counted, verdict):
    """Two were seeded, one was added: all three must exist, and no other."""
    found = evidence(row("like", STRANGER, TWEET), likers={TWEET: frozenset(likers)}, like_counts={TWEET: counted})
    found = dataclasses.replace(found, seeded_likes=frozenset({(TWEET, FAN), (TWEET, GUEST)}))

    assert liking.check(found).verdict == verdict
