"""The canaries: planted through the API, visible to approved followers, and requested by everybody else."""

from __future__ import annotations

import itertools
import json
import re

import aiohttp
import pytest

from bench.selfchecks.gateway_stand_in import bare
from chaos.evidence import canaries

API, EDGE, STORE = "http://api", "http://edge", "http://store"
OWNER, FRIEND, STRANGER, REMOVED = 1, 2, 3, 4
LINK = EDGE + "/b/media/1/{}?e=9&s=abcdef"


class Town:
    """An API, an edge and a storage that answer by rule.

    `leaky(probe, user)`: the user is shown what they must not see. `blind(probe)`: nobody is shown it.
    `status`: of every refusal, in place of the expected one; 0 for the expected one.
    """

    def __init__(self, leaky=lambda probe, user: False, blind=lambda probe: False, status: int = 0, bytes_leak: str = "") -> None:
        self.leaky, self.blind, self.status, self.bytes_leak = leaky, blind, status, bytes_leak
        self.requests: list[str] = []
        self.timing, self.strips = "gateway;dur=1.5", True
        self.users, self.ids = itertools.count(1), itertools.count(70)
        self.friends: set[int] = set()
        self.media: dict[str, str] = {}
        self.picture = b""
        self.planted: canaries.Planted | None = None
        self.check = canaries._Check(None, API, lambda user: "")
        self.check._call = self.call

    async def call(self, method, url, user=0, body=b"", headers=None):
        self.requests.append(f"{method} {url.removeprefix(API)}")
        self.check._timing = self.timing
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
        planted = self.planted = self.planted or self.expected_ids()
        probe = next(probe for probe in planted.probes(self.check._word) if probe.at(user) == path)
        if probe in planted.owner_only() or "requests" in path:
            may = user in (probe.visible_to, OWNER)
        else:
            may = user == OWNER or user in self.friends
        if self.blind(probe) or not ((may and probe.visible_to) or self.leaky(probe, user)):
            empty = {"data": []} if probe.expected == 200 else {"detail": path}
            return self.status or probe.expected, json.dumps(empty).encode()
        first = probe.secrets[0]
        if path.startswith("/2/media"):
            return 200, json.dumps({"data": {"id": first, "url": LINK.format(first.partition("_")[2])}}).encode()
        return 200, json.dumps({"data": [{"id": first, "text": "", "entities": {}}]}).encode()

    def expected_ids(self):
        raw, finalised, attached = self.media
        posts = [request for request in self.requests if request == "POST /2/tweets"]
        first = int(attached.partition("_")[2]) + 2  # its finalize took the number in between
        assert len(posts) == 2
        return canaries.Planted(OWNER, FRIEND, STRANGER, REMOVED, str(first), str(first + 1), raw, finalised, attached)

    def bytes_of(self, method, url, body):
        if method == "PUT":
            self.picture = bare(body) if self.strips else body
            return 200, b""
        right = self.planted is not None and url == LINK.format(self.planted.attached.partition("_")[2])
        return (200, self.picture) if right or (self.bytes_leak and re.search(self.bytes_leak, url)) else (403, b"no")


async def test_a_correct_lab_shows_the_canaries_only_to_approved_followers():
    """42 answers are scanned; the owner posts once protected; the removed follower was approved before."""
    town = Town()

    assert await town.check.run() == canaries.Canary(42, (), True)
    assert town.requests.index("PUT /2/users/me") < town.requests.index("POST /2/tweets")
    removal = town.requests.index(f"DELETE /2/users/1/followers/{REMOVED}")
    assert town.requests.index(f"POST /2/users/1/follow_requests/{REMOVED}") < removal
    assert f"POST /2/users/1/follow_requests/{STRANGER}" not in town.requests
    first_read = town.requests.index(f"GET /2/users/{REMOVED}/timelines/reverse_chronological")
    assert first_read < removal


PROBES = canaries.Planted(OWNER, FRIEND, STRANGER, REMOVED, "70", "71", "1_72", "1_73", "1_74").probes("w")


@pytest.mark.parametrize("number", range(len(PROBES)))
@pytest.mark.parametrize("user", [STRANGER, REMOVED])
async def test_a_leak_of_any_probe_to_any_user_is_reported_with_its_request(number, user):
    """Each probe of the table, lists of users and pictures as well as tweets."""
    removed = [False]

    def leaky(probe, asker):
        removed[0] |= f"DELETE /2/users/1/followers/{REMOVED}" in town.requests
        return removed[0] and asker == user and town.planted.probes(town.check._word)[number] == probe

    town = Town(leaky)
    canary = await town.check.run()

    path = town.planted.probes(town.check._word)[number].at(user)
    assert [leak.partition(" by ")[0] for leak in canary.leaks] == [f"GET {path}"]
    assert canary.scanned == 42


async def test_a_header_that_names_the_queried_backends_is_a_leak():
    """A hidden tweet in the cache needs no query of Cassandra; a tweet that never existed does."""
    town = Town()
    town.timing = "gateway;dur=1.5, tweets;dur=0.8, redis;dur=0.3"
    canary = await town.check.run()

    assert canary.leaks and all(leak.endswith("`server-timing` names redis, tweets") for leak in canary.leaks)


@pytest.mark.parametrize(("user", "state"), [(FRIEND, "finalised"), (FRIEND, "raw"), (OWNER, "raw")])
async def test_pictures_in_no_tweet_are_hidden_from_followers_and_unfinished_ones_from_all(user, state):
    """A link before finalize would serve bytes that were never verified."""
    town = Town(lambda probe, asker: asker == user and probe.secrets == (getattr(town.planted, state),))
    canary = await town.check.run()

    assert len(canary.leaks) == 1 and "/2/media/" in canary.leaks[0]


@pytest.mark.parametrize("shape", [r"^http://edge[^?]*$", "s=fedcba", "e=19", r"/media/1/7[78]\?e=9&s=abc", "^http://store"])
async def test_bytes_without_a_valid_signature_are_a_leak(shape):
    """At the edge: none, a forged one, another expiry, that of another picture; and directly at storage."""
    canary = await Town(bytes_leak=shape).check.run()

    assert canary.leaks and all("without a valid signature" in leak for leak in canary.leaks)


async def test_a_picture_with_its_metadata_is_a_leak_even_to_a_follower():
    """The position in a picture is the uploader's alone."""
    town = Town()
    town.strips = False
    canary = await town.check.run()

    assert [leak for leak in canary.leaks if "with its canary position" in leak] == list(canary.leaks) != []


@pytest.mark.parametrize("part", ["", "/search/", "/timelines/", "/following", f"/users/{FRIEND}/liked_tweets", "/media/1_7"])
async def test_a_canary_that_no_follower_sees_proves_nothing(monkeypatch, part):
    """Unless each probe shows it to its follower, its absence elsewhere would pass for privacy."""
    monkeypatch.setattr(canaries, "SETTLE_S", 0.5)

    assert (await Town(blind=lambda probe: part in probe.path).check.run()).seen_by_follower is False


async def test_an_unexpected_status_is_a_leak_and_an_inconclusive_one_is_not(monkeypatch):
    """A wrong refusal is a leak; a 503 is neither a leak nor a proof."""
    monkeypatch.setattr(canaries, "PAUSE_S", 0.001)
    monkeypatch.setattr(canaries, "SETTLE_S", 0.001)

    wrong, away = await Town(status=402).check.run(), await Town(status=503).check.run()

    assert len(wrong.leaks) == 33 and "402 in place of 404" in wrong.leaks[0]
    assert (away.leaks, away.scanned, len(away.unanswered)) == ((), 9, 33)


@pytest.mark.parametrize(("body", "secret", "held"), [
    ({"data": {"text": "a canary1 b"}}, "canary1", True), ({"data": [{}, {"id": "7"}]}, "7", True),
    ({"data": [{"id": "77"}]}, "7", False),
    ({"includes": {"users": [{"id": "7"}]}}, "7", True), ({"errors": [{"resource_id": "7"}], "data": []}, "7", False),
    ({"data": {"attachments": {"media_keys": ["1_2"]}}}, "1_2", True),
])
def test_every_shape_of_a_body_is_scanned(body, secret, held):
    """One tweet, a page, its includes. A refusal that repeats the requested id is no leak."""
    assert canaries.holds(body, secret) is held


async def test_the_canary_of_a_load_is_posted_by_a_protected_user_who_approves_nobody():
    """The follow requests stay pending, so no answer of the load may hold the word."""
    town = Town()

    word = await town.check.plant_word([7, 8], "ba ce")

    assert len(word) == canaries.LETTER_COUNT and set(word) <= set(canaries.LETTERS)
    assert town.requests.index("PUT /2/users/me") < town.requests.index("POST /2/tweets")
    assert {"POST /2/users/7/following", "POST /2/users/8/following"} <= set(town.requests)
    assert not any("follow_requests" in request for request in town.requests)


async def test_a_canary_that_cannot_be_planted_raises_a_client_error():
    """The caller continues the run without a canary."""
    town = Town()

    async def refuses(*_, **__):
        return 503, b"{}"

    town.check._call = refuses
    with pytest.raises(aiohttp.ClientError):
        await town.check.plant_word([], "")
