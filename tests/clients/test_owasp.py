"""The OWASP API Security Top 10 (2023), as questions to the public door of the lab.

Private objects carry a canary string; every response to any person of these tests is scanned for it (`conftest.Person.ask`).
Broken authentication has a file of its own, `test_owasp_tokens.py`.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
import requests

from system.kernel import settings
from system.platform.addresses import Plan
from system.services.gateway import app, policy
from tests.helpers.people import CANARY, GATEWAY, PASSWORD, RANGE, House, bearer

pytestmark = pytest.mark.real


# ---- API1 broken object level authorization --------------------------------------------------------------


def test_a_friend_sees_what_the_owner_shows_him(house: House) -> None:
    """The other tests say nothing unless the object is there for those who may."""
    read = house.friend.ask("GET", f"/2/tweets/{house.tweet}")

    assert (read.status_code, CANARY in read.text) == (200, True)
    assert house.friend.ask("GET", f"/2/media/{house.picture}").status_code == 200


def test_no_stranger_sees_a_protected_object_by_any_route(house: House) -> None:
    """Every principal that is no friend x every route that could show the tweet, its picture, its likes."""
    owner, tweet = house.owner.id, house.tweet
    word = CANARY.split("-")[0]
    paths = [
        f"/2/tweets/{tweet}", f"/2/tweets?ids={tweet}", f"/2/users/{owner}/tweets", f"/2/users/{owner}/liked_tweets",
        f"/2/users/{house.friend.id}/liked_tweets", f"/2/tweets/{tweet}/liking_users", f"/2/media/{house.picture}",
        f"/2/tweets/search/recent?query={word}", f"/2/tweets/search/recent?query=from:{house.owner.username}",
        f"/2/users/{owner}/timelines/reverse_chronological", f"/2/users/{house.friend.id}/timelines/reverse_chronological",
        f"/2/users/{house.former.id}/timelines/reverse_chronological", f"/2/users/{owner}/follow_requests",
    ]
    leaks = []
    for name, headers in house.principals().items():
        for path in paths:
            answer = house.stranger.ask("GET", path, headers=headers)
            if CANARY in answer.text or (answer.status_code == 200 and house.picture in answer.text):
                leaks.append((name, path, answer.status_code))
            if name in ("nobody", "forged"):
                assert answer.status_code == 401, (name, path)

    assert leaks == []


def test_nobody_acts_in_anothers_name(house: House) -> None:
    """The id in the path is not believed: the token says who acts."""
    owner, stranger = house.owner, house.stranger
    tries = [
        ("DELETE", f"/2/tweets/{house.tweet}", None),
        ("POST", f"/2/users/{owner.id}/following", {"target_user_id": str(stranger.id)}),
        ("DELETE", f"/2/users/{owner.id}/following/{house.friend.id}", None),
        ("POST", f"/2/users/{owner.id}/likes", {"tweet_id": house.tweet}),
        ("DELETE", f"/2/users/{house.friend.id}/likes/{house.tweet}", None),
        ("POST", f"/2/users/{owner.id}/follow_requests/{stranger.id}", None),
        ("DELETE", f"/2/users/{owner.id}/followers/{house.friend.id}", None),
        ("DELETE", f"/2/media/{house.picture}", None),
        ("POST", f"/2/media/upload/{house.picture}/finalize", None),
    ]

    statuses = {path: stranger.ask(method, path, json=body).status_code for method, path, body in tries}

    assert {path: status for path, status in statuses.items() if status not in (400, 403, 404)} == {}
    assert house.friend.ask("GET", f"/2/tweets/{house.tweet}").status_code == 200


# ---- API3 mass assignment ---------------------------------------------------------------------------------


def test_fields_that_are_not_the_callers_to_set_are_refused_or_ignored(house: House) -> None:
    """Ids, authors, counts and flags in a body change nothing."""
    person = house.stranger
    extra = {"id": "1", "author_id": str(house.owner.id), "deleted": True, "public_metrics": {"like_count": 10**6}}
    posted = person.ask("POST", "/2/tweets", json={"text": "with extras", **extra})
    signed = requests.post(f"{GATEWAY}/2/users", timeout=10, json={
        "username": f"m{time.time_ns() % 10**9}", "password": PASSWORD, "id": "1", "admin": True, "scope": "admin"})
    changed = person.ask("PUT", "/2/users/me", json={"name": "me", "id": "1", "username": "root", "followers": 10**6})

    if posted.status_code == 201:
        read = person.ask("GET", f"/2/tweets/{posted.json()['data']['id']}?tweet.fields=author_id,public_metrics").json()["data"]
        assert (read["author_id"], read["public_metrics"]["like_count"]) == (str(person.id), 0)
    else:
        assert posted.status_code == 400
    assert signed.status_code in (201, 400) and signed.json().get("data", {}).get("id") != "1"
    assert changed.status_code in (200, 400)
    me = person.ask("GET", "/2/users/me").json()["data"]
    assert (me["id"], me["username"]) == (str(person.id), person.username)


# ---- API4 unrestricted resource consumption ----------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "/2/users/{id}/timelines/reverse_chronological?max_results=1000000", "/2/users/{id}/tweets?max_results=0",
    "/2/users/{id}/followers?max_results=-1", "/2/tweets/search/recent?query=a&max_results=99999",
    "/2/tweets?ids=" + ",".join(str(n) for n in range(1, 202)),
])
def test_a_page_has_a_bound(house: House, path: str) -> None:
    """A page outside its bound is refused with 400, not cut in silence, not served."""
    assert house.stranger.ask("GET", path.format(id=house.stranger.id)).status_code == 400


def test_a_body_and_an_upload_have_a_bound(house: House) -> None:
    """413 for a large body and for the wish to upload more than is taken."""
    person = house.stranger
    as_json = bearer(person.token) | {"content-type": "application/json"}
    large = person.ask("POST", "/2/tweets", data=b"x" * 200_000, headers=as_json)
    wish = {"media_type": "image/png", "total_bytes": 10**12, "sha256": "0" * 64}

    assert large.status_code == 413
    assert person.ask("POST", "/2/media/upload/initialize", json=wish).status_code == 413
    assert person.ask("POST", "/2/tweets", json={"text": "x" * 281}).status_code == 400


def test_slow_clients_hold_nobody_up(house: House) -> None:
    """300 clients whose heads never end and 300 whose bodies dribble, more than a gateway has places: others wait for nobody."""
    host, port = GATEWAY.removeprefix("http://").split(":")
    head = (f"POST /2/tweets HTTP/1.1\r\nHost: lab\r\nAuthorization: Bearer {house.stranger.token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 500\r\n").encode()
    slow = [socket.create_connection((host, int(port)), timeout=15) for _ in range(600)]
    try:
        for number, each in enumerate(slow):
            each.sendall(head + (b"\r\n{" if number % 2 else b"x-slow: "))
        began_s, statuses = time.monotonic(), []
        for _ in range(5):
            for each in slow:
                each.sendall(b" ")
            statuses.append(house.stranger.ask("GET", "/2/users/me").status_code)
        took_s = time.monotonic() - began_s
        told = [each.recv(12) for each in (slow[0], slow[1])]
    finally:
        for each in slow:
            each.close()

    assert statuses == [200] * 5
    assert took_s < 5.0
    assert told == [b"HTTP/1.1 408"] * 2


# ---- API5, API9: functions and routes that are nobody's ---------------------------------------------------


def test_no_route_is_served_that_the_document_does_not_name(house: House) -> None:
    """Administration, documentation, metrics, health and debug pages of the frameworks are not behind the public door."""
    for path in ("/admin", "/metrics", "/docs", "/redoc", "/debug", "/actuator", "/.env", "/.git/config", "/2/admin/users",
                 "/2/users/1/password", "/server-status", "/stats", "/console", "/2/tweets/1/../../../metrics",
                 "/v1/tweets", "/health", "/health/", "/%68ealth"):
        answer = house.stranger.ask("GET", path)
        assert answer.status_code in (401, 403, 404, 405), (path, answer.status_code)
    assert house.stranger.ask("TRACE", "/2/users/me").status_code in (400, 405, 501)


def test_a_page_of_the_gateway_is_documented_or_of_the_web_client_or_hidden(door: str) -> None:
    """A route that somebody adds beside the table is found here: it must get a row, or be hidden at the public door."""
    built: Any = app.build(settings.from_env({"TWEETLAB_JWT_SECRET": "x" * 32}))
    served = {route.path for route in built._rest.routes} - {route.path for route in policy.ROUTES}
    public = {path for path in served if requests.get(GATEWAY + path, timeout=5).status_code != 404}

    assert served - public == {"/health", "/metrics"}
    assert {path for path in public if not path.startswith("/web/")} == {"/", "/openapi.json"}
    documented = requests.get(f"{GATEWAY}/openapi.json", timeout=5).json()["paths"]
    assert set(documented) == {route.path for route in policy.ROUTES}


def test_the_services_behind_the_mesh_do_not_believe_a_client(house: House) -> None:
    """`x-user-id` is the gateway's word: a client that sends it to the public door is still himself."""
    headers = bearer(house.stranger.token) | {"x-user-id": str(house.owner.id)}

    assert house.stranger.ask("GET", "/2/users/me", headers=headers).json()["data"]["id"] == str(house.stranger.id)
    assert house.stranger.ask("GET", f"/2/tweets/{house.tweet}", headers=headers).status_code in (403, 404)


# ---- API7 server side request forgery ----------------------------------------------------------------------


def test_no_address_of_the_callers_is_fetched(house: House) -> None:
    """There is no route that fetches a URL: one in the place of a media id or a field is refused or stays text."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    listener.settimeout(1.0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/{CANARY[:6]}"
    person = house.stranger
    wish = {"media_type": "image/png", "total_bytes": 10, "sha256": "0" * 64, "url": url, "source": url}
    person.ask("POST", "/2/media/upload/initialize", json=wish)
    as_id = person.ask("POST", "/2/tweets", json={"text": url, "media": {"media_ids": [url]}})
    person.ask("GET", f"/2/media/{url}")
    person.says(f"look at {url}")

    with pytest.raises(TimeoutError):
        listener.accept()
    listener.close()
    assert as_id.status_code == 400


# ---- API8 security misconfiguration --------------------------------------------------------------------------


def test_the_stores_refuse_default_passwords_and_strangers(door: str) -> None:
    """MinIO knows no `minioadmin` and shows nothing without a signature."""
    import minio

    address = f"{Plan(RANGE).host('minio', 1)}:9000"
    client = minio.Minio(address, "minioadmin", "minioadmin", secure=False)

    with pytest.raises(minio.error.S3Error) as refusal:
        client.list_buckets()

    assert refusal.value.code == "InvalidAccessKeyId"
    assert requests.get(f"http://{address}/tweetlab-media", timeout=5).status_code == 403


def test_errors_tell_nothing_of_the_inside(house: House) -> None:
    """No traceback, no path, no version of a server in an error."""
    person = house.stranger
    answers = [person.ask("GET", "/2/tweets/not-a-number"), person.ask("GET", "/2/tweets/99999999999999999999999"),
               person.ask("POST", "/2/tweets", data=b"{", headers=bearer(person.token) | {"content-type": "application/json"}),
               person.ask("GET", "/2/tweets/search/recent?query=%22%22%22(("), person.ask("GET", "/nowhere")]

    endless = person.ask("GET", "/2/tweets?ids=" + "1," * 10_000)
    for answer in (*answers, endless):
        assert 400 <= answer.status_code < 500
        assert set(answer.json()) >= {"title", "detail", "type", "status"}
        for word in ("Traceback", "/home", "/usr", ".py", "cassandra", "psycopg", "uvicorn"):
            assert word not in answer.text.lower().replace("traceback", "Traceback")
        assert "server" not in {name.lower() for name in answer.headers}
