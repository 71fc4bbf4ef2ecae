"""The token endpoint: grants, RFC 6749's errors, rotation, reuse and revocation, on memory ports."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import jwt
import pytest

from system.kernel.scopes import ALL, SCOPES
from system.services.gateway import policy as gateway
from system.services.shared.signing import Keys, kid_of
from system.services.users import grants
from system.services.users.grants import FORM
from system.services.users.handlers import Passwords
from system.services.users.tokens import TokenService
from tests.fakes.tokens import MemoryTokens
from tests.fakes.users import MemoryUsers

SECRET = "s" * 32
KIND = "application/x-www-form-urlencoded"


def request(**form: str) -> grants.Asked:
    return grants.token_request(grants.form_of(urlencode(form).encode(), KIND))


def sign_in(**more: str) -> grants.Asked:
    return request(grant_type="password", username="ann", password="correct horse", **more)


def refresh(token: str, **more: str) -> grants.Asked:
    return request(grant_type="refresh_token", refresh_token=token, **more)


def claims(token: str) -> dict:
    return jwt.decode(token, SECRET, algorithms=["HS256"])


@pytest.fixture
async def service():
    """A token service that knows ann."""
    users, passwords = MemoryUsers(), Passwords()
    await users.create("ann", "Ann", await passwords.hash("correct horse"))
    return TokenService(users, MemoryTokens(), passwords, Keys(SECRET))


def test_every_scope_of_a_route_can_be_granted_and_every_scope_has_a_use():
    """A route that no token can use, or a scope without a route, would be an error in the table."""
    used = {route.scope for route in gateway.ROUTES if not route.open}

    assert used <= set(SCOPES)
    assert set(SCOPES) - used <= {"offline.access", "like.read", "like.write"}
    assert grants.granted(None) == ALL


@pytest.mark.parametrize(("body", "kind", "error"), [
    (b"", KIND, "invalid_request"),
    (b'{"grant_type": "password"}', "application/json", "invalid_request"),
    (b"grant_type=password&username=ann", KIND, "invalid_request"),
    (b"grant_type=refresh_token", KIND, "invalid_request"),
    (b"grant_type=password&grant_type=password&username=a&password=b", KIND, "invalid_request"),
    (b"&".join(b"a%d=1" % n for n in range(40)), KIND, "invalid_request"),
    (b"grant_type=client_credentials", KIND, "unsupported_grant_type"),
    (b"grant_type=password&username=ann&password=x&scope=admin", KIND, "invalid_scope"),
])
def test_an_invalid_request_is_refused_with_an_error_of_the_rfc(body, kind, error):
    """RFC 6749, 5.2: 400 with `error`, and the fields of the API's other errors."""
    with pytest.raises(grants.Refused) as refusal:
        grants.token_request(grants.form_of(body, kind))
    answer = refusal.value.body()

    assert (refusal.value.status, answer["error"], answer["status"]) == (400, error, 400)
    assert not set(str(answer["error_description"])) & set('"\\')


async def test_a_password_gets_an_access_token_with_its_claims(service):
    """Key name, user, times, name, scopes."""
    issued = await service.issue(sign_in(scope="tweet.read users.read"))
    payload = claims(issued.access)

    assert jwt.get_unverified_header(issued.access)["kid"] == kid_of(SECRET)
    assert (payload["sub"], payload["scope"], payload["exp"] - payload["iat"]) == ("1", "tweet.read users.read", 7_200)
    assert len(payload["jti"].split(".")) == 2
    assert issued.refresh == ""


async def test_a_refresh_token_requires_offline_access(service):
    """As in Twitter's API; without a requested scope all are granted."""
    assert (await service.issue(sign_in())).refresh
    assert (await service.issue(sign_in())).scope == ALL


@pytest.mark.parametrize(("username", "password"), [
    ("ann", "wrong horse"), ("nobody", "correct horse"), ("a b", "x"), ("ann", "\x00"),
])
async def test_a_wrong_name_and_a_wrong_password_get_the_same_error(service, username, password):
    """invalid_grant, with the same message."""
    with pytest.raises(grants.Refused, match="username or the password is wrong") as refusal:
        await service.issue(request(grant_type="password", username=username, password=password))

    assert refusal.value.error == "invalid_grant"


async def test_a_refresh_token_is_used_once_and_replaced(service):
    """Rotation: same sign-in, new tokens, the old one is used up."""
    first = await service.issue(sign_in())
    second = await service.issue(refresh(first.refresh))
    third = await service.issue(refresh(second.refresh))
    grant = {claims(each.access)["jti"].partition(".")[0] for each in (first, second, third)}

    assert len(grant) == 1
    assert len({first.refresh, second.refresh, third.refresh}) == 3
    assert len({claims(each.access)["jti"] for each in (first, second, third)}) == 3


async def test_a_refresh_token_that_is_used_twice_ends_the_sign_in(service):
    """It may have been copied: thief and owner both have to sign in again, and access tokens are revoked."""
    first = await service.issue(sign_in())
    second = await service.issue(refresh(first.refresh))

    with pytest.raises(grants.Refused, match="copied"):
        await service.issue(refresh(first.refresh))
    with pytest.raises(grants.Refused, match="unknown, expired or revoked"):
        await service.issue(refresh(second.refresh))

    assert await service._store.revoked() == {claims(first.access)["jti"].partition(".")[0]}


async def test_scopes_can_be_narrowed_and_never_widened(service):
    """RFC 6749, 6: and a refused scope does not use the token up."""
    first = await service.issue(sign_in(scope="tweet.read users.read offline.access"))
    with pytest.raises(grants.Refused) as refusal:
        await service.issue(refresh(first.refresh, scope="tweet.write"))
    narrow = await service.issue(refresh(first.refresh, scope="tweet.read"))
    restored = await service.issue(refresh(narrow.refresh))

    assert refusal.value.error == "invalid_scope"
    assert (narrow.scope, restored.scope) == ("tweet.read", "offline.access tweet.read users.read")


async def test_revoking_an_access_token_ends_only_that_token(service):
    """RFC 7009: the sign-in continues."""
    issued = await service.issue(sign_in())
    await service.revoke(issued.access)

    assert await service._store.revoked() == {claims(issued.access)["jti"]}
    assert (await service.issue(refresh(issued.refresh))).access


async def test_revoking_a_refresh_token_ends_the_sign_in(service):
    """With its access tokens."""
    issued = await service.issue(sign_in())
    await service.revoke(issued.refresh)

    assert await service._store.revoked() == {claims(issued.access)["jti"].partition(".")[0]}
    with pytest.raises(grants.Refused):
        await service.issue(refresh(issued.refresh))


@pytest.mark.parametrize("token", ["noise", "a.b.c", "..", jwt.encode({"sub": "1", "exp": time.time() - 9}, SECRET, "HS256"),
                                   jwt.encode({"sub": "1", "exp": time.time() + 9}, "x" * 32, "HS256")],
                         ids=["noise", "three noises", "dots", "expired", "another key"])
async def test_revoking_an_invalid_token_is_no_error_and_revokes_nothing(service, token):
    """RFC 7009, 2.2: the client has what it wants; and the list cannot be filled with invented names."""
    await service.revoke(token)

    assert await service._store.revoked() == frozenset()


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_parameters_may_be_a_json_object(kind):
    """twitter-api-v2's refreshOAuth2Token and revokeOAuth2Token send one."""
    body = b'{"grant_type": "refresh_token", "refresh_token": "abc", "client_id": "lab"}'

    request = grants.token_request(grants.form_of(body, kind))

    assert (request.grant_type, request.refresh_token) == ("refresh_token", "abc")


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b'{"grant_type": 1}', b'{"grant_type": ["password"]}', b"grant_type=password", b"1",
])
def test_a_json_body_that_is_no_object_of_strings_is_refused(body):
    """invalid_request, as RFC 6749 names it."""
    with pytest.raises(grants.Refused, match="no JSON object of strings") as refused:
        grants.form_of(body, "application/json")

    assert refused.value.error == "invalid_request"


@pytest.mark.parametrize(("body", "kind", "username"), [
    (b"grant_type=password&username=ann&password=x", FORM, "ann"), (b'{"username": "ann"}', "application/json", "ann"),
    (b'{"username":"eve","a":"&username=ann&password=p&grant_type=password&"}', FORM, "ann"),
    (b'{"username":"eve","a":"&username=ann&password=p&grant_type=password&"}', "application/json", "eve"),
    (b"username=ann", "application/json", ""), (b'{"username": 7}', "application/json", ""), (b"[1]", "application/json", ""),
])
def test_the_limit_of_sign_ins_counts_the_user_that_signs_in(body, kind, username):
    """One body, two readings: the gateway's limit and the service's sign-in must read it alike."""
    assert gateway.username_in(body, kind.encode()) == username
    try:
        signed_in = grants.form_of(body, kind).get("username", "")
    except grants.Refused:
        signed_in = ""
    assert signed_in == username
