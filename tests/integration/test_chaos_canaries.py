"""The canaries on the real system: nothing leaks, and each disabled rule is detected by exactly the checks that it guards."""

from __future__ import annotations

import re
import time

import pytest

from chaos.evidence import canaries
from system.services.likes.handlers import LikeService
from system.services.media import policy as media_policy
from system.services.shared.visibility import Visibility
from system.services.users import edges

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

COST_S = 30.0
TWEETS = ["/2/tweets/T", "/2/tweets?ids=T", "/2/tweets/search/recent?query=W", "/2/users/U/tweets", "/2/users/U/liked_tweets"]
LISTS = ["/2/users/U/followers", "/2/users/U/following", "/2/tweets/T/liking_users"]
HOME = "/2/users/U/timelines/reverse_chronological"


def leaks_of(found: canaries.Canary) -> set[tuple[str, str]]:
    """Return (way, viewer) of all leaks, without ids."""
    shapes = ((r"canary\w+", "W"), (r"(tweets/|ids=)\d+", r"\1T"), (r"users/\d+", "users/U"), (r"media/\d+_\d+", "media/M"))
    pairs = set()
    for leak in found.leaks:
        way, _, viewer = leak.removeprefix("GET ").partition(": ")[0].partition(" by ")
        for shape, name in shapes:
            way = re.sub(shape, name, way)
        pairs.add((way, viewer))
    return pairs


def both(*ways: str) -> set[tuple[str, str]]:
    return {(way, viewer) for way in ways for viewer in ("a stranger", "a removed follower")}


async def test_no_protected_data_leaks_and_the_check_takes_seconds_after_the_load(rig):
    """42 checks, about 75 requests including the setup; 6.1 s here, 2 s of which the switch to protected takes.

    All of it runs after the end of the load; during the load there is one canary tweet, and a scan of every response
    (1.5 us for 6 kB).
    """
    began_s = time.monotonic()

    assert await canaries.watch(rig.url, rig.token) == canaries.Canary(42, (), True)
    assert time.monotonic() - began_s < COST_S


async def everybody(_self, _viewer, authors):
    return set(authors)


async def nobody(_self, _viewer):
    return frozenset()


async def nothing(*_):
    return None


async def found(_self, _caller, _user, page):
    return page


async def test_without_the_visibility_rule_every_way_leaks(rig, monkeypatch):
    """The rule lets everybody see everybody. Follow requests and pictures without a tweet have rules of their own; a home
    timeline drops authors that the viewer does not follow before it applies this rule.
    """
    monkeypatch.setattr(Visibility, "visible", everybody)
    monkeypatch.setattr(Visibility, "hidden_from", nobody)

    leaks = leaks_of(await canaries.watch(rig.url, rig.token))

    assert {pair for pair in leaks if pair[0] != HOME} == both(*TWEETS, *LISTS, "/2/media/M")


async def test_disabled_rules_are_detected_by_their_own_ways_only(rig, monkeypatch):
    """Edges, requests, likers, unfinished pictures; tests/unit/test_chaos_canaries.py checks each way for each viewer."""
    monkeypatch.setattr(edges.Edges, "_checked", found)
    monkeypatch.setattr(edges, "_require_own_requests", lambda *_: None)
    monkeypatch.setattr(LikeService, "_require_visible", nothing)
    monkeypatch.setattr(media_policy, "is_shown", lambda *_: True)

    leaks = both(*LISTS, "/2/users/U/follow_requests") | {("/2/media/M", "a follower"), ("/2/media/M", "its owner")}
    assert leaks_of(await canaries.watch(rig.url, rig.token)) == leaks
