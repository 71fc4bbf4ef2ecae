"""The OWASP API Security Top 10 (2023), against the public API of the lab.

Private objects carry a canary string; every response in these tests is scanned for it (`people.Person.ask`).
Broken authentication has its own file, `test_owasp_tokens.py`.
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
from tests.helpers.people import CANARY, GATEWAY, PASSWORD, RANGE, PrivateObjects, bearer

pytestmark = pytest.mark.real


# ---- API1 broken object level authorization --------------------------------------------------------------


def test_an_approved_follower_sees_the_private_objects(private: PrivateObjects) -> None:
    """Without this the other tests prove nothing: the objects must exist for authorized users."""
    read = private.friend.ask("GET", f"/2/tweets/{private.tweet}")

    assert (read.status_code, CANARY in read.text) == (200, True)
    assert private.friend.ask("GET", f"/2/media/{private.picture}").status_code == 200


def test_no_unauthorized_principal_sees_a_protected_object_by_any_route(private: PrivateObjects) -> None:
    """Every unauthorized principal x every route that could show the tweet, its picture, its likes."""
    owner, tweet = private.owner.id, private.tweet
    word = CANARY.split("-")[0]
    paths = [
        f"/2/tweets/{tweet}", f"/2/tweets?ids={tweet}", f"/2/users/{owner}/tweets", f"/2/users/{owner}/liked_tweets",
        f"/2/users/{private.friend.id}/liked_tweets", f"/2/tweets/{tweet}/liking_users", f"/2/media/{private.picture}",
        f"/2/tweets/search/recent?query={word}", f"/2/tweets/search/recent?query=from:{private.owner.username}",
        f"/2/users/{owner}/timelines/reverse_chronological", f"/2/users/{private.friend.id}/timelines/reverse_chronological",
        f"/2/users/{private.former.id}/timelines/reverse_chronological", f"/2/users/{owner}/follow_requests",
    ]
    leaks = []
    for name, headers in private.outsiders().items():
        for path in paths:
            answer = private.stranger.ask("GET", path, headers=headers)
            if CANARY in answer.text or (answer.status_code == 200 and private.picture in answer.text):
                leaks.append((name, path, answer.status_code))
            if name in ("nobody", "forged"):
                assert answer.status_code == 401, (name, path)

    assert leaks == []


def test_no_user_acts_in_the_name_of_another(private: PrivateObjects) -> None:
    """The token decides who acts, not the id in the path."""
    owner, stranger = private.owner, private.stranger
    attempts = [
        ("DELETE", f"/2/tweets/{private.tweet}", None),
        ("POST", f"/2/users/{owner.id}/following", {"target_user_id": str(stranger.id)}),
        ("DELETE", f"/2/users/{owner.id}/following/{private.friend.id}", None),
        ("POST", f"/2/users/{owner.id}/likes", {"tweet_id": private.tweet}),
        ("DELETE", f"/2/users/{private.friend.id}/likes/{private.tweet}", None),
        ("POST", f"/2/users/{owner.id}/follow_requests/{stranger.id}", None),
        ("DELETE", f"/2/users/{owner.id}/followers/{private.friend.id}", None),
        ("DELETE", f"/2/media/{private.picture}", None),
        ("POST", f"/2/media/upload/{private.picture}/finalize", None),
    ]

    statuses = {path: stranger.ask(method, path, json=body).status_code for method, path, body in attempts}

    assert {path: status for path, status in statuses.items() if status not in (400, 403, 404)} == {}
    assert private.friend.ask("GET", f"/2/tweets/{private.tweet}").status_code == 200


# ---- API3 mass assignment ---------------------------------------------------------------------------------


def test_fields_that_a_caller_may_not_set_are_refused_or_ignored(private: PrivateObjects) -> None:
    """Ids, authors, counts and flags in a body change nothing."""
    person = private.stranger
    extra = {"id": "1", "author_id": str(private.owner.id), "deleted": True, "public_metrics": {"like_count": 10**6}}
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
def test_a_page_has_a_bound(private: PrivateObjects, path: str) -> None:
    """A page size outside its bound is refused with 400, neither clamped silently nor served."""
    assert private.stranger.ask("GET", path.format(id=private.stranger.id)).status_code == 400


def test_a_body_and_an_upload_have_a_bound(private: PrivateObjects) -> None:
    """413 for a large body and for an upload that declares too many bytes."""
    person = private.stranger
    as_json = bearer(person.token) | {"content-type": "application/json"}
    large = person.ask("POST", "/2/tweets", data=b"x" * 200_000, headers=as_json)
    body = {"media_type": "image/png", "total_bytes": 10**12, "sha256": "0" * 64}

    assert large.status_code == 413
    assert person.ask("POST", "/2/media/upload/initialize", json=body).status_code == 413
    assert person.ask("POST", "/2/tweets", json={"text": "x" * 281}).status_code == 400


def test_slow_clients_do_not_delay_others(private: PrivateObjects) -> None:
    """300 clients with endless headers and 300 with trickling bodies, more than a gateway has slots.

    Other requests are fast.
    """
    host, port = GATEWAY.removeprefix("http://").split(":")
    head = (f"POST /2/tweets HTTP/1.1\r\nHost: lab\r\nAuthorization: Bearer {private.stranger.token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 500\r\n").encode()
    slow = [socket.create_connection((host, int(port)), timeout=15) for _ in range(600)]
    try:
        for number, client in enumerate(slow):
            client.sendall(head + (b"\r\n{" if number % 2 else b"x-slow: "))
        began_s, statuses = time.monotonic(), []
        for _ in range(5):
            for client in slow:
                client.sendall(b" ")
            statuses.append(private.stranger.ask("GET", "/2/users/me").status_code)
        took_s = time.monotonic() - began_s
        replies = [client.recv(12) for client in (slow[0], slow[1])]
    finally:
        for client in slow:
            client.close()

    assert statuses == [200] * 5
    assert took_s < 5.0
    assert replies == [b"HTTP/1.1 408"] * 2


# ---- API5, API9: undocumented functions and routes ---------------------------------------------------


def test_no_undocumented_route_is_served(private: PrivateObjects) -> None:
    """Administration, documentation, metrics, health and debug pages of the frameworks are not public."""
    for path in ("/admin", "/metrics", "/docs", "/redoc", "/debug", "/actuator", "/.env", "/.git/config", "/2/admin/users",
                 "/2/users/1/password", "/server-status", "/stats", "/console", "/2/tweets/1/../../../metrics",
                 "/v1/tweets", "/health", "/health/", "/%68ealth"):
        answer = private.stranger.ask("GET", path)
        assert answer.status_code in (401, 403, 404, 405), (path, answer.status_code)
    assert private.stranger.ask("TRACE", "/2/users/me").status_code in (400, 405, 501)


def test_a_page_of_the_gateway_is_documented_part_of_the_web_client_or_hidden(gateway_url: str) -> None:
    """A route that is added beside the table fails here.

    It must be in the table, or hidden by the public load balancer.
    """
    built: Any = app.build(settings.from_env({"TWEETLAB_JWT_SECRET": "x" * 32}))
    served = {route.path for route in built._rest.routes} - {route.path for route in policy.ROUTES}
    public = {path for path in served if requests.get(GATEWAY + path, timeout=5).status_code != 404}

    assert served - public == {"/health", "/metrics"}
    assert {path for path in public if not path.startswith("/web/")} == {"/", "/openapi.json"}
    documented = requests.get(f"{GATEWAY}/openapi.json", timeout=5).json()["paths"]
    assert set(documented) == {route.path for route in policy.ROUTES}


def test_the_services_ignore_identity_headers_of_a_client(private: PrivateObjects) -> None:
    """Only the gateway sets `x-user-id`: a client that sends it still acts as its own user."""
    headers = bearer(private.stranger.token) | {"x-user-id": str(private.owner.id)}

    assert private.stranger.ask("GET", "/2/users/me", headers=headers).json()["data"]["id"] == str(private.stranger.id)
    assert private.stranger.ask("GET", f"/2/tweets/{private.tweet}", headers=headers).status_code in (403, 404)


# ---- API7 server side request forgery ----------------------------------------------------------------------


def test_no_url_of_a_caller_is_fetched(private: PrivateObjects) -> None:
    """No route fetches a URL: one in place of a media id or a field is refused or stays text."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    listener.settimeout(1.0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/{CANARY[:6]}"
    person = private.stranger
    body = {"media_type": "image/png", "total_bytes": 10, "sha256": "0" * 64, "url": url, "source": url}
    person.ask("POST", "/2/media/upload/initialize", json=body)
    as_id = person.ask("POST", "/2/tweets", json={"text": url, "media": {"media_ids": [url]}})
    person.ask("GET", f"/2/media/{url}")
    person.post(f"look at {url}")

    with pytest.raises(TimeoutError):
        listener.accept()
    listener.close()
    assert as_id.status_code == 400


# ---- API8 security misconfiguration --------------------------------------------------------------------------


def test_the_stores_refuse_default_passwords_and_anonymous_requests(gateway_url: str) -> None:
    """MinIO has no `minioadmin` account and serves nothing without a signature."""
    import minio

    address = f"{Plan(RANGE).host('minio', 1)}:9000"
    client = minio.Minio(address, "minioadmin", "minioadmin", secure=False)

    with pytest.raises(minio.error.S3Error) as refusal:
        client.list_buckets()

    assert refusal.value.code == "InvalidAccessKeyId"
    assert requests.get(f"http://{address}/tweetlab-media", timeout=5).status_code == 403


def test_errors_reveal_no_internals(private: PrivateObjects) -> None:
    """No traceback, no path, no server version in an error."""
    person = private.stranger
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
