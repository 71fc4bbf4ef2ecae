"""A protected user and likes through the public API, all services running on real stores."""

from __future__ import annotations

import json
import secrets
from dataclasses import astuple, dataclass

import pytest
import pytest_asyncio

from tests.helpers.services_rig import until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


async def _follow(rig, follower, followee):
    status, body, _ = await rig.ask("POST", f"/2/users/{follower}/following", follower, json={"target_user_id": str(followee)})
    assert status == 200, body
    return body["data"]


async def _stands(rig, viewer, user):
    """Return the `connection_status` of `user` for `viewer`; it is returned only on request."""
    _, plain, _ = await rig.ask("GET", f"/2/users/{user}", viewer)
    status, body, _ = await rig.ask("GET", f"/2/users/{user}?user.fields=connection_status", viewer)
    assert status == 200 and "connection_status" not in plain["data"]
    return body["data"]["connection_status"]


@dataclass(frozen=True)
class Secret:
    """A tweet of a protected user, with a unique word: cached, indexed, and in the home timeline of an approved `fan`."""

    owner: int
    fan: int
    stranger: int
    tweet: int
    word: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secret(standing_rig):
    rig = standing_rig
    await rig.catch_up()
    ann, fan, stranger = await rig.people("ann", "fan", "stranger")
    assert (await rig.ask("PUT", "/2/users/me", ann, json={"protected": True}))[1]["data"]["protected"] is True
    assert await _follow(rig, fan, ann) == {"following": False, "pending_follow": True}
    assert await _follow(rig, stranger, ann) == {"following": False, "pending_follow": True}
    assert await _stands(rig, fan, ann) == ["follow_request_sent"]
    assert await _stands(rig, ann, fan) == ["follow_request_received"]
    _, requests, _ = await rig.ask("GET", f"/2/users/{ann}/follow_requests", ann)
    assert [int(user["id"]) for user in requests["data"]] == [fan, stranger]
    assert (await rig.ask("POST", f"/2/users/{ann}/follow_requests/{fan}", ann))[1]["data"]["following"] is True
    assert (await _stands(rig, fan, ann), await _stands(rig, ann, fan)) == (["following"], ["followed_by"])
    canary = f"canary{secrets.token_hex(6)}"
    tweet = await rig.post(ann, canary)
    assert (await rig.ask("POST", f"/2/users/{ann}/likes", ann, json={"tweet_id": str(tweet)}))[0] == 200

    async def found_by_fan() -> bool:
        _, body, _ = await rig.ask("GET", f"/2/tweets/search/recent?query={canary}", fan)
        return [hit["text"] for hit in body.get("data", [])] == [canary] and await rig.home(fan) == [tweet]

    await until(found_by_fan)
    return Secret(ann, fan, stranger, tweet, canary)


async def test_nothing_of_a_protected_user_is_visible_without_approval(rig, secret):
    """By id, in lists, in search, as a reply, by likes: a stranger gets 403, 404 or an empty page, and never the text."""
    ann, fan, stranger, tweet, canary = astuple(secret)
    asks = [
        ("GET", f"/2/tweets/{tweet}", None, 404), ("GET", f"/2/tweets?ids={tweet}", None, 200),
        ("GET", f"/2/users/{ann}/tweets", None, 403), ("GET", f"/2/users/{ann}/followers", None, 403),
        ("GET", f"/2/users/{ann}/following", None, 403), ("GET", f"/2/users/{ann}/liked_tweets", None, 403),
        ("GET", f"/2/users/{ann}/follow_requests", None, 403), ("GET", f"/2/tweets/{tweet}/liking_users", None, 404),
        ("GET", f"/2/tweets/search/recent?query={canary}", None, 200),
        ("GET", f"/2/users/{stranger}/timelines/reverse_chronological", None, 200),
        ("POST", f"/2/users/{stranger}/likes", {"tweet_id": str(tweet)}, 404),
        ("POST", "/2/tweets", {"text": "hm", "reply": {"in_reply_to_tweet_id": str(tweet)}}, 400),
        ("DELETE", f"/2/tweets/{tweet}", None, 404),
    ]
    for method, path, body, status in asks:
        reply_status, answer, _ = await rig.ask(method, path, stranger, **({"json": body} if body else {}))
        assert (path, reply_status) == (path, status)
        assert f'"{canary}"' not in str(answer).replace("'", '"') and not answer.get("data")
    assert (await rig.ask("GET", f"/2/tweets/{tweet}", fan))[1]["data"]["text"] == canary


VOLATILE = ("x-request-id", "x-rate-limit-remaining", "x-rate-limit-reset", "content-length", "date", "x-tweetlab-instance")


def _comparable(headers):
    """Return the headers that could distinguish two responses: all names, and all values that do not vary by themselves."""
    parts = {part.split(";")[0].strip() for part in headers.get("server-timing", "").split(",")}
    return {**{name: "" if name in VOLATILE else value for name, value in headers.items()}, "server-timing": parts}


async def _blinded(rig, user, method, path, sent, tweet, word):
    """Return the response to a request about a tweet or word, with both replaced by placeholders."""
    options = {"json": json.loads(json.dumps(sent).replace("ID", str(tweet)))} if sent else {}
    status, body, headers = await rig.ask(method, path.replace("ID", str(tweet)).replace("WORD", word), user, **options)
    return status, json.dumps(body).replace(str(tweet), "ID").replace(word, "WORD"), _comparable(headers)


async def test_no_header_distinguishes_hidden_from_missing(rig, secret):
    """For a word and a tweet id: a stranger gets the same responses, whatever caches and index contain."""
    stranger, tweet, word = secret.stranger, secret.tweet, secret.word
    absent, unwritten = tweet - 1, f"canary{secrets.token_hex(6)}"
    asks = [("GET", path, None) for path in (
        "/2/tweets/ID", "/2/tweets?ids=ID", "/2/tweets/ID/liking_users", "/2/tweets/search/recent?query=WORD",
        "/2/tweets/search/recent?query=WORD&sort_order=recency&max_results=1")]
    asks += [("DELETE", "/2/tweets/ID", None), ("POST", f"/2/users/{stranger}/likes", {"tweet_id": "ID"}),
             ("POST", "/2/tweets", {"text": "hm", "reply": {"in_reply_to_tweet_id": "ID"}})]
    for cache, some in (("warm", asks), ("cold", asks[:5])):
        for method, path, sent in some:
            await (rig.ports.hot.clear() if cache == "cold" else rig.ask("GET", f"/2/tweets/{tweet}", secret.fan))
            hidden, never = [await _blinded(rig, stranger, method, path, sent, *named)
                             for named in ((tweet, word), (absent, unwritten))]
            assert (cache, method, path, *hidden) == (cache, method, path, *never)


async def test_a_protected_liker_shows_in_no_page_and_no_cursor(rig):
    """Between two public likers: the cursor of a page is the last liker that it shows."""
    ann, bob, shy, cyd, stranger = await rig.people("ann", "bob", "shy", "cyd", "stranger")
    tweet = await rig.post(ann, "liked by three")
    for user in (bob, shy, cyd):
        assert (await rig.ask("POST", f"/2/users/{user}/likes", user, json={"tweet_id": str(tweet)}))[0] == 200
    await rig.ask("PUT", "/2/users/me", shy, json={"protected": True})

    path, walked, bounds = f"/2/tweets/{tweet}/liking_users?max_results=1", [], []
    token = ""
    while True:
        _, body, _ = await rig.ask("GET", path + token, stranger)
        walked += [int(user["id"]) for user in body.get("data", [])]
        if "next_token" not in body["meta"]:
            break
        bounds += body["meta"]["next_token"].split(".")
        token = f"&pagination_token={body['meta']['next_token']}"

    assert walked == sorted([bob, cyd]) and str(shy) not in bounds


async def test_the_cursors_of_liked_tweets_do_not_reveal_hidden_ones(rig, secret):
    """Liked: two public tweets, a hidden one between them and two below. The last page with visible tweets is the last one."""
    shy, bob, stranger = secret.owner, secret.fan, secret.stranger
    (ann,) = await rig.people("ann")
    tweets = [await rig.post(author, "liked by bob") for author in (shy, shy, ann, shy, ann)]
    for tweet in tweets:
        assert (await rig.ask("POST", f"/2/users/{bob}/likes", bob, json={"tweet_id": str(tweet)}))[0] == 200
    path = f"/2/users/{bob}/liked_tweets?max_results=1"

    async def walk(viewer, token=None, way="next_token"):
        walked, tokens = [], []
        while not tokens or token:
            _, body, _ = await rig.ask("GET", path + (f"&pagination_token={token}" if token else ""), viewer)
            walked += [int(tweet["id"]) for tweet in body.get("data", [])]
            token = body["meta"].get(way)
            tokens.append(token or body["meta"].get("previous_token"))
        return walked, tokens

    shown, tokens = await walk(stranger)
    assert shown == [tweets[4], tweets[2]] and len(tokens) == 2  # no page after the last one with visible tweets
    assert not any(token.replace(".", "").isdigit() for token in tokens)
    assert (await walk(stranger, tokens[-1], "previous_token"))[0] == [tweets[4]]
    assert (await walk(bob))[0] == tweets[::-1]
    for forged in (tweets[3], tokens[0][:-4]):
        assert (await rig.ask("GET", f"{path}&pagination_token={forged}", stranger))[0] == 400


async def test_a_removed_follower_loses_access_with_the_response(rig):
    """The next request after the 200 shows nothing, on every route."""
    ann, fan = await rig.people("ann", "fan")
    await _follow(rig, fan, ann)
    await rig.ask("PUT", "/2/users/me", ann, json={"protected": True})
    tweet = await rig.post(ann, "for friends")
    assert (await rig.ask("GET", f"/2/tweets/{tweet}", fan))[0] == 200

    assert (await rig.ask("DELETE", f"/2/users/{ann}/followers/{fan}", ann))[0] == 200

    assert (await rig.ask("GET", f"/2/tweets/{tweet}", fan))[0] == 404
    assert (await rig.ask("GET", f"/2/users/{ann}/tweets", fan))[0] == 403
    assert await rig.home(fan) == []


async def test_lists_of_a_protected_user_are_closed_and_lists_of_public_users_include_them(rig):
    """Other users cannot list the followings of a protected user; a followed public user lists them as a follower."""
    shy, star, fan, stranger = await rig.people("shy", "star", "fan", "stranger")
    await rig.ask("PUT", "/2/users/me", shy, json={"protected": True})
    await _follow(rig, fan, shy)
    await rig.ask("POST", f"/2/users/{shy}/follow_requests/{fan}", shy)
    assert (await _follow(rig, shy, star))["following"] is True
    assert (await _follow(rig, star, fan))["following"] is True

    async def listed(path, viewer):
        status, body, _ = await rig.ask("GET", path, viewer)
        return (status, [int(user["id"]) for user in body.get("data", [])])

    for path, holds in ((f"/2/users/{shy}/following", star), (f"/2/users/{shy}/followers", fan)):
        assert await listed(path, stranger) == (403, [])
        assert [await listed(path, viewer) for viewer in (fan, shy)] == [(200, [holds])] * 2
    for viewer in (stranger, fan, star):
        assert await listed(f"/2/users/{star}/followers", viewer) == (200, [shy])
    await _follow(rig, shy, fan)
    assert await listed(f"/2/users/{fan}/followers", stranger) == (200, sorted([shy, star]))


async def test_likes_are_counted_in_every_read_that_requests_them(rig):
    """One tweet, two likes, one of them removed: `like_count` is 1 in every response with the tweet."""
    ann, bob, cyd = await rig.people("ann", "bob", "cyd")
    await _follow(rig, bob, ann)
    word = f"likeable{secrets.token_hex(4)}"
    tweet = await rig.post(ann, word)
    for user in (bob, cyd):
        _, reply, _ = await rig.ask("POST", f"/2/users/{user}/likes", user, json={"tweet_id": str(tweet)})
        assert reply == {"data": {"liked": True}}
    assert (await rig.ask("DELETE", f"/2/users/{cyd}/likes/{tweet}", cyd))[1] == {"data": {"liked": False}}
    reads = [f"/2/tweets/{tweet}", f"/2/tweets?ids={tweet}", f"/2/users/{ann}/tweets", f"/2/users/{bob}/liked_tweets",
             f"/2/users/{bob}/timelines/reverse_chronological", f"/2/tweets/search/recent?query={word}"]
    joint = "tweet.fields=public_metrics"

    async def counted(path: str) -> bool:
        _, body, _ = await rig.ask("GET", f"{path}{'&' if '?' in path else '?'}{joint}", bob)
        data = body.get("data") or {}
        shown = data if isinstance(data, dict) else data[0] if data else {}
        return shown.get("public_metrics", {}).get("like_count") == 1

    for path in reads:
        await until(lambda path=path: counted(path))
    _, page, _ = await rig.ask("GET", f"/2/tweets/{tweet}/liking_users", ann)
    assert [int(user["id"]) for user in page["data"]] == [bob]
    assert (await rig.ask("POST", f"/2/users/{bob}/likes", cyd, json={"tweet_id": str(tweet)}))[0] == 403
    assert (await rig.ask("POST", f"/2/users/{bob}/likes", bob, json={"tweet_id": "17"}))[0] == 404


async def test_the_likes_of_a_protected_user_are_counted_and_not_named(rig):
    """A count names nobody; the list of likers shows the protected user only to approved followers."""
    ann, bob, shy = await rig.people("ann", "bob", "shy")
    tweet = await rig.post(ann, "like me")
    await rig.ask("PUT", "/2/users/me", shy, json={"protected": True})
    await rig.ask("POST", f"/2/users/{shy}/likes", shy, json={"tweet_id": str(tweet)})
    await rig.ask("POST", f"/2/users/{bob}/likes", bob, json={"tweet_id": str(tweet)})

    _, to_ann, _ = await rig.ask("GET", f"/2/tweets/{tweet}/liking_users", ann)
    _, to_shy, _ = await rig.ask("GET", f"/2/tweets/{tweet}/liking_users", shy)
    assert [int(user["id"]) for user in to_ann["data"]] == [bob]
    assert [int(user["id"]) for user in to_shy["data"]] == sorted([bob, shy])

    async def counted() -> bool:
        _, body, _ = await rig.ask("GET", f"/2/tweets/{tweet}?tweet.fields=public_metrics", ann)
        return body["data"]["public_metrics"]["like_count"] == 2

    await until(counted)
