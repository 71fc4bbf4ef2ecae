"""Protected users and seeded likes before the invariants: who was let in may look, nobody else, and no like that stood may go."""

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
    """A row that took half a second."""
    sent_ns = int(sent_s * 1e9)
    return DEFAULTS | {"route": route, "user": user, "target": target, "sent_ns": sent_ns, "done_ns": sent_ns + 500_000_000,
                       "outcome": outcome} | more


def page(route, user, sent_s, author=OWNER, **more):
    return row(route, user, sent_s=sent_s, page_ids=[TWEET], page_authors=[author], **more)


def evidence(*rows, **finals):
    frame = pd.DataFrame([*rows, row("profile", FAN, OWNER)])
    told = Finals(canary=Canary(8, (), True), **finals)
    return Evidence(frame, pd.DataFrame(), told, GRAPH, RunClock(0, 0), protected=frozenset({OWNER}))


@pytest.mark.parametrize("route", ["home", "user_tweets", "search", "tweet"])
def test_a_page_that_shows_a_protected_author_to_a_stranger_is_red(route):
    """Every route of the mix that names authors."""
    found = privacy.check(evidence(page(route, STRANGER, 5)))

    assert (found.verdict, found.found) == ("fail", 1)
    assert "user 4 was shown what the protected user 1 posted" in found.violations[0]


@pytest.mark.parametrize(("canary", "verdict"), [
    (Canary(41, (), True), "pass"), (Canary(41, ("GET /2/users/1/followers by a stranger: 200 in place of 403",), True), "fail"),
    (Canary(41, (), False), "unknown"), (Canary(40, (), True, ("GET /2/media/1_2: 503",)), "unknown"),
])
def test_a_canary_that_leaks_is_red_and_one_that_proves_nothing_is_unknown(canary, verdict):
    """Unseen by whom it is for, or asked for without an answer."""
    told = evidence()

    assert privacy.check(dataclasses.replace(told, finals=dataclasses.replace(told.finals, canary=canary))).verdict == verdict


def test_a_final_page_is_judged_too():
    """What the checker itself was shown."""
    read = Read("home", STRANGER, STRANGER, "", 9, 9, [TWEET], [OWNER], 0, 1000, False, -1)

    assert privacy.check(evidence(pages=(read,))).verdict == "fail"


def test_the_owner_his_followers_and_who_was_approved_may_look():
    """Approved: the approval was sent before the page was read."""
    seen = [page("home", FAN, 5), page("user_tweets", OWNER, 5), page("home", GUEST, 5), page("search", STRANGER, 5, author=FAN)]
    found = privacy.check(evidence(row("follow_request", GUEST, OWNER, 1), row("follow_approve", OWNER, GUEST, 3), *seen))

    assert (found.verdict, found.checked) == ("pass", 8 + 2)


GONE = row("unfollow", GUEST, OWNER, 4)
LET_IN = row("follow_approve", OWNER, GUEST, 2)


@pytest.mark.parametrize(("changes", "reader", "verdict"), [
    ((LET_IN, GONE), GUEST, "fail"),                                     # he left a second before he read
    ((row("unfollow", FAN, OWNER, 4),), FAN, "fail"),                    # so did one who followed from the start
    ((LET_IN, row("unfollow", GUEST, OWNER, 4.8)), GUEST, "pass"),       # while he read
    ((LET_IN, row("unfollow", GUEST, OWNER, 6)), GUEST, "pass"),
    ((LET_IN, row("unfollow", GUEST, OWNER, 4, "info")), GUEST, "pass"),  # perhaps he never left
    ((LET_IN, row("unfollow", GUEST, OWNER, 4, "fail")), GUEST, "pass"),
    ((LET_IN, row("unfollow", GUEST, OWNER, 2.2)), GUEST, "pass"),       # at once with the approval: either may have been last
    ((GONE, row("follow_approve", OWNER, GUEST, 4.9)), GUEST, "pass"),   # let in while he read
    ((LET_IN, row("unfollow", GUEST, OWNER, 3), row("follow", GUEST, OWNER, 4)), GUEST, "fail"),  # a request opens nothing
    ((row("follow_approve", OWNER, GUEST, 2, "info"), row("unfollow", GUEST, OWNER, 4)), GUEST, "pass"),  # may come late
])
def test_a_former_follower_is_a_stranger(changes, reader, verdict):
    """What surely ended before the read decides; what was under way, or unknown, may have been either."""
    assert privacy.check(evidence(*changes, page("home", reader, 5))).verdict == verdict


@pytest.mark.parametrize("approval", [None, row("follow_approve", OWNER, GUEST, 8),
                                      row("follow_approve", OWNER, GUEST, 3, "fail")])
def test_a_request_alone_opens_nothing(approval):
    """Neither does an approval that came after the page, or that surely failed."""
    rows = [row("follow_request", GUEST, OWNER, 1), page("home", GUEST, 5), *([approval] if approval else [])]

    assert privacy.check(evidence(*rows)).verdict == "fail"


def test_an_approval_is_an_edge_from_who_asked_and_a_request_is_none():
    """Every check that stands on edges sees it so."""
    found = evidence(row("follow_request", GUEST, OWNER, 1), row("follow_request", STRANGER, OWNER, 1),
                     row("follow_approve", OWNER, GUEST, 3))

    assert set(found.history.edges) == {(GUEST, OWNER)}
    assert found.edge_exists(GUEST, OWNER, int(4e9), int(5e9))


def test_who_was_approved_must_see_what_is_posted_then():
    """every_follower_sees_it holds for him, from the approval on."""
    posted = [row("post", OWNER, sent_s=2, tweet_id=TWEET - 1, key="a"), row("post", OWNER, sent_s=4, tweet_id=TWEET, key="b")]
    read = Read("home", GUEST, GUEST, "", int(60e9), int(60e9), [], [], 0, 1 << 62, False, -1)
    found = delivery.check(evidence(row("follow_approve", OWNER, GUEST, 3), *posted, pages=(read,), at_ns=int(60e9)))

    assert [text for text in found.violations if f"follower {GUEST} does not see tweet {TWEET} " in text]
    assert not [text for text in found.violations if f"tweet {TWEET - 1} of" in text and "does not see" in text]


@pytest.mark.parametrize(("standing", "counted", "verdict"), [
    ({FAN, GUEST, STRANGER}, 3, "pass"), ({FAN, STRANGER}, 2, "fail"), ({FAN, GUEST, STRANGER}, 1, "fail"),
    ({FAN, GUEST, STRANGER, OWNER}, 4, "fail"),
])
def test_likes_that_stood_before_the_run_stay_and_are_counted(standing, counted, verdict):
    """Two were seeded, one was added: all three stand, and nothing that nobody asked for."""
    found = evidence(row("like", STRANGER, TWEET), likers={TWEET: frozenset(standing)}, like_counts={TWEET: counted})
    found = dataclasses.replace(found, seeded_likes=frozenset({(TWEET, FAN), (TWEET, GUEST)}))

    assert liking.check(found).verdict == verdict
