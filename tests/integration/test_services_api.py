"""The public API through the gateway, with every service and worker on the real stores."""

from __future__ import annotations

import asyncio
import time

import pytest

from system.kernel import scopes
from system.services.gateway import policy
from tests.helpers.pictures import plain_png
from tests.helpers.services_rig import until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

HOME = "/2/users/{}/timelines/reverse_chronological"


async def follow(rig, follower: int, followee: int) -> None:
    status, body, _ = await rig.ask("POST", f"/2/users/{follower}/following", follower, json={"target_user_id": str(followee)})
    assert (status, body["data"]["following"]) == (200, True)


async def shows(rig, reader: int, tweet: int) -> None:
    async def check() -> bool:
        return tweet in await rig.home(reader)

    await until(check)


async def hides(rig, reader: int, tweet: int) -> None:
    async def check() -> bool:
        return tweet not in await rig.home(reader)

    await until(check)


async def test_sign_up_returns_a_token_of_the_new_user(rig):
    """Sign-up, password grant, `me`: the plain HTTP part outside tweepy's Client."""
    name = f"ann{time.monotonic_ns() % 10**9}"
    status, body, _ = await rig.ask("POST", "/2/users", json={"username": name, "password": "correct horse", "name": "Ann"})
    assert status == 201
    user = int(body["data"]["id"])

    form = {"grant_type": "password", "username": name.upper(), "password": "correct horse"}
    status, token, _ = await rig.ask("POST", "/2/oauth2/token", data=form)
    assert (status, token["token_type"]) == (200, "bearer")
    bearer = {"authorization": f"Bearer {token['access_token']}"}
    status, me, _ = await rig.ask("GET", "/2/users/me", headers=bearer)

    assert (status, me["data"]["id"], me["data"]["username"]) == (200, str(user), name)
    assert (await rig.ask("POST", "/2/oauth2/token", data={**form, "password": "wrong horse"}))[0] == 400
    assert (await rig.ask("POST", "/2/oauth2/token", data={**form, "username": "nobody"}))[0] == 400
    assert (await rig.ask("POST", "/2/users", json={"username": name, "password": "correct horse"}))[0] == 409


async def test_sign_ups_with_one_key_create_one_user(rig):
    """A retry returns the first user; the same key with another name is refused."""
    name, key = f"key{time.monotonic_ns() % 10**9}", {"idempotency-key": f"k{time.monotonic_ns()}"}
    wish = {"username": name, "password": "correct horse"}

    first = await rig.ask("POST", "/2/users", json=wish, headers=key)
    again = await rig.ask("POST", "/2/users", json=wish, headers=key)
    other = await rig.ask("POST", "/2/users", json={**wish, "username": name + "x"}, headers=key)

    assert (first[0], again[0], other[0]) == (201, 201, 409)
    assert first[1]["data"]["id"] == again[1]["data"]["id"]


async def test_a_tweet_reaches_a_follower_and_disappears_with_its_delete(rig):
    """Post, home, user page, by id, search, delete: a follower sees it and then does not."""
    ann, bob = await rig.people("ann", "bob")
    await follow(rig, bob, ann)
    await rig.home(bob)
    tweet = await rig.post(ann, "a walrus on the beach")

    assert await rig.home(ann) == [tweet]
    await shows(rig, bob, tweet)
    query = "?expansions=author_id&tweet.fields=author_id,created_at"
    measured = {"authorization": f"Bearer {rig.token(bob, scope=f'{scopes.ALL} {scopes.MEASURED}')}"}
    status, body, headers = await rig.ask("GET", HOME.format(bob) + query, headers=measured)
    assert status == 200
    assert set(body["data"][0]) == {"id", "text", "author_id", "created_at", "edit_history_tweet_ids"}
    assert body["includes"]["users"][0]["id"] == str(ann)
    assert headers["x-tweetlab-source"] == "hit"
    assert {"gateway", "timelines", "redis"} <= {part.split(";")[0].strip() for part in headers["server-timing"].split(",")}

    async def is_found() -> bool:
        _, hits, _ = await rig.ask("GET", "/2/tweets/search/recent?query=walrus", bob)
        return str(tweet) in [hit["id"] for hit in hits.get("data", ())]

    await until(is_found)
    assert (await rig.ask("DELETE", f"/2/tweets/{tweet}", bob))[0] == 403
    assert (await rig.ask("DELETE", f"/2/tweets/{tweet}", ann))[:2] == (200, {"data": {"deleted": True}})
    assert await rig.home(ann) == [] and await rig.home(bob) == []
    assert (await rig.ask("GET", f"/2/tweets/{tweet}", bob))[0] == 404


async def test_an_unfollow_removes_tweets_and_a_follow_restores_them(rig):
    """Edges reach the timelines through outbox, relay and fan-out."""
    ann, bob = await rig.people("ann", "bob")
    tweet = await rig.post(ann, "hello")
    await rig.home(bob)

    await follow(rig, bob, ann)
    await shows(rig, bob, tweet)
    assert (await rig.ask("DELETE", f"/2/users/{bob}/following/{ann}", bob))[1] == {"data": {"following": False}}

    await hides(rig, bob, tweet)


async def test_a_thread_keeps_its_conversation(rig):
    """A reply has the conversation of its parent; a reply to a missing tweet is refused."""
    ann, bob = await rig.people("ann", "bob")
    root = await rig.post(ann, "root")
    status, body, _ = await rig.ask("POST", "/2/tweets", bob, json={"text": "re", "reply": {"in_reply_to_tweet_id": str(root)}})

    assert (status, body["data"]["conversation_id"]) == (201, str(root))
    assert body["data"]["referenced_tweets"] == [{"type": "replied_to", "id": str(root)}]
    refused = await rig.ask("POST", "/2/tweets", bob, json={"text": "re", "reply": {"in_reply_to_tweet_id": "77"}})
    assert refused[0] == 400 and "77" in refused[1]["detail"]


async def test_pages_of_a_users_tweets_are_disjoint_and_complete(rig):
    """Cursors by id; `since_id` ends the walk; the last page has no token."""
    (ann,) = await rig.people("ann")
    posted = [await rig.post(ann, f"number {n}") for n in range(11)]
    read, token = [], ""
    for _ in range(4):
        status, body, _ = await rig.ask("GET", f"/2/users/{ann}/tweets?max_results=4{token}", ann)
        assert status == 200
        read += [int(tweet["id"]) for tweet in body.get("data", ())]
        if "next_token" not in body["meta"]:
            break
        token = f"&pagination_token={body['meta']['next_token']}"

    assert read == posted[::-1]
    _, since, _ = await rig.ask("GET", f"/2/users/{ann}/tweets?since_id={posted[7]}", ann)
    assert [int(tweet["id"]) for tweet in since["data"]] == posted[:7:-1]


@pytest.mark.parametrize("path", ["tweets?max_results=5", "timelines/reverse_chronological?max_results=3"])
async def test_paging_backwards_returns_the_same_pages(rig, path):
    """previous_token returns the same responses in reverse, up to one without it; a deep cursor fits in a request."""
    (ann,) = await rig.people("ann")
    for n in range(17):
        await rig.post(ann, f"number {n}")
    path, answers, token = f"/2/users/{ann}/{path}&", [], ""
    while token is not None:
        answers.append((await rig.ask("GET", f"{path}{token}", ann))[1])
        token = next_of(answers[-1], "next_token")
    deep = ".".join(str(2**62 + n) for n in range(100)) + "~"

    body = answers[-1]
    for expected in answers[-2::-1]:
        body = (await rig.ask("GET", f"{path}{next_of(body, 'previous_token')}", ann))[1]
        assert body == expected
    assert len(answers) >= 4 and "previous_token" not in body["meta"]
    status, far, _ = await rig.ask("GET", f"{path}pagination_token={deep}", ann)
    assert status == 200 and far["meta"]["previous_token"] == deep.partition(".")[2]
    assert (await rig.ask("GET", f"{path}pagination_token=80.70", ann))[0] == 400


def next_of(body, name):
    """Return the query for a page's neighbor; None if it has none."""
    token = body["meta"].get(name)
    return token and f"pagination_token={token}"


async def test_one_key_is_one_tweet_over_the_api(rig):
    """Eight concurrent requests with one key: one id; another body: 422."""
    (ann,) = await rig.people("ann")
    key = {"idempotency-key": f"k{time.monotonic_ns()}"}

    answers = await asyncio.gather(*(rig.ask("POST", "/2/tweets", ann, json={"text": "once"}, headers=key) for _ in range(8)))
    other = await rig.ask("POST", "/2/tweets", ann, json={"text": "twice"}, headers=key)

    assert {status for status, _, _ in answers} == {201}
    assert len({body["data"]["id"] for _, body, _ in answers}) == 1
    assert other[0] == 422


async def test_lists_of_tweets_and_users_name_the_missing_ones(rig):
    """Existing ones are in data, missing ones in errors."""
    (ann,) = await rig.people("ann")
    tweet = await rig.post(ann, "here")

    _, tweets, _ = await rig.ask("GET", f"/2/tweets?ids={tweet},77", ann)
    _, users, _ = await rig.ask("GET", f"/2/users?ids={ann},999999999", ann)

    assert [each["id"] for each in tweets["data"]] == [str(tweet)] and tweets["errors"][0]["resource_id"] == "77"
    assert [each["id"] for each in users["data"]] == [str(ann)] and users["errors"][0]["resource_id"] == "999999999"


async def test_followers_and_followings_are_paged(rig):
    """Ordered by user id, ascending, with counts."""
    ann, *others = await rig.people("ann", "bob", "cid", "dan")
    for other in others:
        await follow(rig, other, ann)

    _, first, _ = await rig.ask("GET", f"/2/users/{ann}/followers?max_results=2", ann)
    after = first["meta"]["next_token"]
    _, rest, _ = await rig.ask("GET", f"/2/users/{ann}/followers?max_results=2&pagination_token={after}", ann)
    _, profile, _ = await rig.ask("GET", f"/2/users/{ann}", ann)

    before = rest["meta"]["previous_token"]
    _, again, _ = await rig.ask("GET", f"/2/users/{ann}/followers?max_results=2&pagination_token={before}", ann)

    assert again == first and "previous_token" not in first["meta"]
    assert [int(user["id"]) for user in first["data"] + rest["data"]] == others
    assert profile["data"]["public_metrics"]["followers_count"] == 3


@pytest.mark.parametrize("path", ["tweets", "followers", "following", "liked_tweets"])
async def test_a_list_of_an_unknown_user_is_not_an_empty_list(rig, path):
    """404 if there is no such user; a user without activity has an empty page."""
    (ann,) = await rig.people("ann")

    nobody, body, _ = await rig.ask("GET", f"/2/users/999999999/{path}", ann)
    quiet, page, _ = await rig.ask("GET", f"/2/users/{ann}/{path}", ann)

    assert (nobody, body["status"]) == (404, 404) and "999999999" in body["detail"]
    assert (quiet, page) == (200, {"meta": {"result_count": 0}})


async def test_included_authors_have_the_requested_fields(rig):
    """`user.fields` applies to `includes.users`, too, on every route that includes them; unknown ones are refused."""
    (ann,) = await rig.people("ann")
    tweet = await rig.post(ann, "here")
    paths = [f"/2/tweets/{tweet}?", f"/2/tweets?ids={tweet}&", f"/2/users/{ann}/tweets?",
             f"/2/users/{ann}/timelines/reverse_chronological?"]
    for path in paths:
        _, named, _ = await rig.ask("GET", f"{path}expansions=author_id&user.fields=protected", ann)
        refused, _, _ = await rig.ask("GET", f"{path}expansions=author_id&user.fields=secret", ann)
        assert [set(user) for user in named["includes"]["users"]] == [{"id", "name", "username", "protected"}], path
        assert refused == 400


async def test_a_picture_is_uploaded_and_downloaded_by_signed_urls(rig):
    """Initialize, PUT, finalize, GET; before finalize nobody can read it, before it is in a tweet only its owner."""
    ann, bob = await rig.people("ann", "bob")
    data = plain_png()
    wish = {"media_type": "image/png", "total_bytes": len(data)}
    status, body, _ = await rig.ask("POST", "/2/media/upload/initialize", ann, json=wish)
    assert status == 201
    place, media = body["data"], body["data"]["id"]
    assert (await rig.ask("POST", f"/2/media/upload/{media}/finalize", ann))[0] == 404
    async with rig.session.put(place["upload_url"], data=data, headers=place["upload_headers"]) as answer:
        assert answer.status == 200

    assert (await rig.ask("GET", f"/2/media/{media}", ann))[0] == 404
    assert (await rig.ask("POST", f"/2/media/upload/{media}/finalize", bob))[0] == 403
    assert (await rig.ask("POST", f"/2/media/upload/{media}/finalize", ann))[1]["data"]["size"] == len(data)
    assert (await rig.ask("GET", f"/2/media/{media}", bob))[0] == 404
    await rig.post(ann, "look", media=[media])
    _, medium, _ = await rig.ask("GET", f"/2/media/{media}", bob)
    async with rig.session.get(medium["data"]["url"]) as answer:
        assert (answer.status, await answer.read()) == (200, data)


@pytest.mark.parametrize(("method", "path", "more", "status"), [
    ("GET", "/nowhere", {}, 404),
    ("PUT", "/2/tweets", {"json": {}}, 405),
    ("GET", "/2/tweets/abc", {}, 400),
    ("GET", "/2/tweets/99999999999999999999", {}, 400),
    ("GET", "/2/users/abc", {}, 400),
    ("POST", "/2/tweets", {"data": b"{"}, 400),
    ("POST", "/2/tweets", {"json": {"text": "x" * 281}}, 400),
    ("POST", "/2/tweets", {"data": b"x" * 70_000}, 413),
    ("GET", "/2/tweets/search/recent", {}, 400),
    ("GET", "/2/users/1/tweets?max_results=0", {}, 400),
    ("GET", "/2/users/1/tweets?tweet.fields=secret", {}, 400),
    ("GET", "/2/users/by/username/no-such", {}, 400),
    ("GET", "/2/media/../../etc", {}, 404),
    ("POST", "/2/media/upload/initialize", {"json": {"media_type": "image/bmp", "total_bytes": 4}}, 400),
    ("POST", "/2/media/upload/initialize", {"json": {"media_type": "image/png", "total_bytes": 6_000_000}}, 413),
    ("POST", "/2/oauth2/token", {"data": {"grant_type": "magic"}}, 400),
    ("POST", "/2/users", {"json": {"username": "way too long a name", "password": "correct horse"}}, 400),
])
async def test_invalid_input_has_one_error_format(rig, method, path, more, status):
    """Always a 4xx with {title, detail, type, status}; never a 500, never a traceback."""
    (ann,) = await rig.people("ann")

    got, body, _ = await rig.ask(method, path, ann, **more)

    assert got == status
    assert set(body) >= {"title", "detail", "type", "status"} and body["status"] == status
    assert "Traceback" not in body["detail"]


async def test_requests_need_a_valid_token_of_the_acting_user(rig):
    """401 without one; 403 with another user's; another user's home timeline is not readable."""
    ann, bob = await rig.people("ann", "bob")

    assert (await rig.ask("GET", HOME.format(ann)))[0] == 401
    assert (await rig.ask("POST", "/2/tweets", json={"text": "x"}))[0] == 401
    expired = {"authorization": f"Bearer {rig.token(ann, exp=1)}"}
    assert (await rig.ask("GET", HOME.format(ann), headers=expired))[0] == 401
    assert (await rig.ask("GET", HOME.format(ann), bob))[0] == 403
    forged = {"x-user-id": str(ann)}
    assert (await rig.ask("GET", HOME.format(ann), headers=forged))[0] == 401
    assert (await rig.ask("POST", f"/2/users/{ann}/following", bob, json={"target_user_id": str(bob)}))[0] == 403


async def test_the_gateway_describes_every_route(rig):
    """OpenAPI: all routes of the public API with their parameters."""
    _, described, _ = await rig.ask("GET", "/openapi.json")

    assert "/2/users/{id}/timelines/reverse_chronological" in described["paths"]
    assert sum(len(methods) for methods in described["paths"].values()) == len(policy.ROUTES)
    assert [p["name"] for p in described["paths"]["/2/users/{id}/following/{target}"]["delete"]["parameters"]] == ["id", "target"]
