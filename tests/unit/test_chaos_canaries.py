"""The canaries: planted as a user would, looked for by whom they are not for, and seen by whom they are for."""

from __future__ import annotations

import itertools
import json
import re

import aiohttp
import pytest

from chaos.evidence import canaries

API, EDGE, STORE = "http://api", "http://edge", "http://store"
OWNER, FRIEND, STRANGER, GONE = 1, 2, 3, 4
LINK = EDGE + "/b/media/1/{}?e=9&s=abcdef"


class Town:
    """An API, an edge and a storage that answer by rule. `leaky(way, user)`: shown to him although it is not for him.

    `blind(way)`: it is shown to nobody. `status`: of every refusal, in place of what is owed.
    """

    def __init__(self, leaky=lambda way, user: False, blind=lambda way: False, status: int = 0, bytes_leak: str = "") -> None:
        self.leaky, self.blind, self.status, self.bytes_leak = leaky, blind, status, bytes_leak
        self.asked: list[str] = []
        self.timing = "gateway;dur=1.5"
        self.users, self.ids = itertools.count(1), itertools.count(70)
        self.friends: set[int] = set()
        self.media: dict[str, str] = {}
        self.picture = b""
        self.scene: canaries.Scene | None = None
        self.watch = canaries._Watch(None, API, lambda user: "")
        self.watch._call = self.call

    async def call(self, method, url, user=0, body=b"", headers=None):
        self.asked.append(f"{method} {url.removeprefix(API)}")
        self.watch._timing = self.timing
        if not url.startswith(API):
            return self.bytes_of(method, url, body)
        path = url.removeprefix(API)
        return self.write(method, path, json.loads(body)) if method != "GET" else self.read(path, user)

    def write(self, method, path, body):
        data = {"id": str(next(self.users) if path == "/2/users" else next(self.ids))}
        if path.endswith("initialize"):
            data = {"id": f"{OWNER}_{data['id']}", "upload_url": f"{STORE}/b/media/1/{data['id']}?sig=1", "upload_headers": {}}
            self.media[data["id"]] = "raw"
        if path.endswith("finalize"):
            self.media[path.split("/")[4]] = "finalised"
        if "/follow_requests/" in path:
            self.friends.add(int(path.rpartition("/")[2]))
        if method == "DELETE":
            self.friends.discard(int(path.rpartition("/")[2]))
        return 200, json.dumps({"data": data}).encode()

    def read(self, path, user):
        scene = self.scene = self.scene or self.guessed()
        way = next(way for way in scene.ways(self.watch._word) if way.at(user) == path)
        may = user in (way.shown_to, OWNER) if way in scene.own() or "requests" in path else user == OWNER or user in self.friends
        if self.blind(way) or not ((may and way.shown_to) or self.leaky(way, user)):
            empty = {"data": []} if way.owed == 200 else {"detail": path}
            return self.status or way.owed, json.dumps(empty).encode()
        first = way.secrets[0]
        if path.startswith("/2/media"):
            return 200, json.dumps({"data": {"id": first, "url": LINK.format(first.partition("_")[2])}}).encode()
        return 200, json.dumps({"data": [{"id": first, "text": "", "entities": {}}]}).encode()

    def guessed(self):
        raw, finalised, attached = self.media
        posts = [asked for asked in self.asked if asked == "POST /2/tweets"]
        first = int(attached.partition("_")[2]) + 2  # its finalize took the number in between
        assert len(posts) == 2
        return canaries.Scene(OWNER, FRIEND, STRANGER, GONE, str(first), str(first + 1), raw, finalised, attached)

    def bytes_of(self, method, url, body):
        if method == "PUT":
            self.picture = body
            return 200, b""
        right = self.scene is not None and url == LINK.format(self.scene.attached.partition("_")[2])
        return (200, self.picture) if right or (self.bytes_leak and re.search(self.bytes_leak, url)) else (403, b"no")


async def test_a_tight_lab_shows_the_canaries_to_whom_they_are_for_alone():
    """41 answers to others are scanned; the owner is protected before he posts, and the removed follower was let in before."""
    town = Town()

    assert await town.watch.run() == canaries.Canary(41, (), True)
    assert town.asked.index("PUT /2/users/me") < town.asked.index("POST /2/tweets")
    assert town.asked.index(f"POST /2/users/1/follow_requests/{GONE}") < town.asked.index(f"DELETE /2/users/1/followers/{GONE}")
    assert f"POST /2/users/1/follow_requests/{STRANGER}" not in town.asked
    seen_before = town.asked.index(f"GET /2/users/{GONE}/timelines/reverse_chronological")
    assert seen_before < town.asked.index(f"DELETE /2/users/1/followers/{GONE}")


WAYS = canaries.Scene(OWNER, FRIEND, STRANGER, GONE, "70", "71", "1_72", "1_73", "1_74").ways("w")


@pytest.mark.parametrize("number", range(len(WAYS)))
@pytest.mark.parametrize("user", [STRANGER, GONE])
async def test_a_leak_on_any_way_to_anybody_is_told_by_its_way(number, user):
    """Each way of the table, lists of users and pictures as well as tweets."""
    removed = [False]

    def leaky(way, asker):
        removed[0] |= f"DELETE /2/users/1/followers/{GONE}" in town.asked
        return removed[0] and asker == user and town.scene.ways(town.watch._word)[number] == way

    town = Town(leaky)
    found = await town.watch.run()

    way = town.scene.ways(town.watch._word)[number].at(user)
    assert [leak.partition(" by ")[0] for leak in found.leaks] == [f"GET {way}"]
    assert found.scanned == 41


async def test_an_answer_that_tells_which_stores_were_asked_is_a_leak():
    """A hidden tweet in the cache costs no look into Cassandra, one that never was does."""
    town = Town()
    town.timing = "gateway;dur=1.5, tweets;dur=0.8, redis;dur=0.3"
    found = await town.watch.run()

    assert found.leaks and all(leak.endswith("`server-timing` names redis, tweets") for leak in found.leaks)


@pytest.mark.parametrize(("user", "state"), [(FRIEND, "finalised"), (FRIEND, "raw"), (OWNER, "raw")])
async def test_pictures_in_no_tweet_are_closed_to_friends_and_unfinished_ones_to_all(user, state):
    """A link before finalize would show bytes that nobody checked."""
    found = await (town := Town(lambda way, asker: asker == user and way.secrets == (getattr(town.scene, state),))).watch.run()

    assert len(found.leaks) == 1 and "/2/media/" in found.leaks[0]


@pytest.mark.parametrize("shape", [r"^http://edge[^?]*$", "s=fedcba", "e=19", r"/media/1/7[78]\?e=9&s=abc", "^http://store"])
async def test_bytes_without_a_right_signature_are_told(shape):
    """At the edge without one, with a forged one, with another end, with that of another picture; and past the edge."""
    found = await Town(bytes_leak=shape).watch.run()

    assert found.leaks and all("without a right signature" in leak for leak in found.leaks)


@pytest.mark.parametrize("part", ["", "/search/", "/timelines/", "/following", f"/users/{FRIEND}/liked_tweets", "/media/1_7"])
async def test_a_canary_that_nobody_sees_proves_nothing(monkeypatch, part):
    """Without the sight of whom it is for, on each way, the silence elsewhere would pass for privacy."""
    monkeypatch.setattr(canaries, "SETTLE_S", 0.5)

    assert (await Town(blind=lambda way: part in way.path).watch.run()).seen_by_follower is False


async def test_another_status_than_is_owed_is_told_and_one_that_tells_nothing_is_no_proof(monkeypatch):
    """An empty 200 on a closed list is a leak, a 404 in its place as well; a 503 is neither kept nor leaked."""
    monkeypatch.setattr(canaries, "PAUSE_S", 0.001)
    monkeypatch.setattr(canaries, "SETTLE_S", 0.001)

    wrong, away = await Town(status=402).watch.run(), await Town(status=503).watch.run()

    assert len(wrong.leaks) == 33 and "402 in place of 404" in wrong.leaks[0]
    assert (away.leaks, away.scanned, len(away.unanswered)) == ((), 8, 33)


@pytest.mark.parametrize(("body", "secret", "held"), [
    ({"data": {"text": "a canary1 b"}}, "canary1", True), ({"data": [{}, {"id": "7"}]}, "7", True),
    ({"data": [{"id": "77"}]}, "7", False),
    ({"includes": {"users": [{"id": "7"}]}}, "7", True), ({"errors": [{"resource_id": "7"}], "data": []}, "7", False),
    ({"data": {"attachments": {"media_keys": ["1_2"]}}}, "1_2", True),
])
def test_every_shape_of_an_answer_is_scanned(body, secret, held):
    """One tweet, a page, what it includes; that a refusal repeats what was asked is no leak."""
    assert canaries.holds(body, secret) is held


async def test_the_canary_of_a_load_is_posted_when_protected_and_nobody_is_approved():
    """Those who asked go on waiting, so no answer of the load may hold the word."""
    town = Town()

    word = await town.watch.planted([7, 8], "ba ce")

    assert len(word) == canaries.LETTER_COUNT and set(word) <= set(canaries.LETTERS)
    assert town.asked.index("PUT /2/users/me") < town.asked.index("POST /2/tweets")
    assert {"POST /2/users/7/following", "POST /2/users/8/following"} <= set(town.asked)
    assert not any("follow_requests" in asked for asked in town.asked)


async def test_what_cannot_be_planted_is_told_as_an_error_of_the_client():
    """Who plants it leaves the run without one, rather than end it."""
    town = Town()

    async def refuses(*_, **__):
        return 503, b"{}"

    town.watch._call = refuses
    with pytest.raises(aiohttp.ClientError):
        await town.watch.planted([], "")
