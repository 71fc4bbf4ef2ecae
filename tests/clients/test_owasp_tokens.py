"""API2 of the OWASP API Security Top 10 (2023), broken authentication.

Forged, swapped, expired and revoked tokens.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
import requests

from system.platform import native
from system.services.shared import signing
from tests.helpers.people import GATEWAY, RANGE, Person, PrivateObjects, bearer, sign_up, until
from tweetlab import home
from tweetlab.lab import session

pytestmark = pytest.mark.real


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _token(header: dict[str, Any], claims: dict[str, Any], signature: str = "AAAA") -> str:
    return f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}.{signature}"


def _claims(person: Person) -> dict[str, Any]:
    middle = person.token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return claims


def _signed(claims: dict[str, Any], algorithm: str = "HS256") -> str:
    """Sign with the lab's own key."""
    secret = session.secret_of(native.Lab(home.ROOT, RANGE))
    return jwt.encode(claims, secret, algorithm, headers={"kid": signing.kid_of(secret)})


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_tokens_with_another_algorithm_are_refused(private: PrivateObjects, algorithm: str) -> None:
    """A valid signature by another algorithm is refused, even with the lab's own key; HS256 is accepted."""
    claims = _claims(private.owner)

    assert private.owner.ask("GET", "/2/users/me", headers=bearer(_signed(claims))).status_code == 200
    assert private.owner.ask("GET", "/2/users/me", headers=bearer(_signed(claims, algorithm))).status_code == 401


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS256", "ES256"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_tokens_without_a_valid_signature_are_refused(private: PrivateObjects, algorithm: str, signature: str) -> None:
    """Whatever algorithm the header names."""
    forged = _token({"alg": algorithm, "typ": "JWT"}, _claims(private.owner), signature)

    assert private.stranger.ask("GET", "/2/users/me", headers=bearer(forged)).status_code == 401


@pytest.mark.parametrize("change", [{"exp": -60}, {"exp": None}, {"nbf": 600}, {"iat": 600}, {"sub": None}, {"sub": "one"}],
                         ids=["expired", "no expiry", "not yet", "from the future", "no user", "not an id"])
def test_tokens_outside_their_time_or_without_claims_are_refused(private: PrivateObjects, change: dict[str, Any]) -> None:
    """Signed with the lab's own key, so only the claims can be the reason. Numbers are seconds from now."""
    claims = _claims(private.owner) | {name: int(time.time()) + value if isinstance(value, int) else value
                                     for name, value in change.items()}
    token = _signed({name: value for name, value in claims.items() if value is not None})

    assert private.owner.ask("GET", "/2/users/me", headers=bearer(token)).status_code == 401


def test_changed_claims_break_the_signature(private: PrivateObjects) -> None:
    """Another user or a later expiry, with the old signature."""
    head, _, signature = private.stranger.token.split(".")
    for change in ({"sub": str(private.owner.id)}, {"exp": int(time.time()) + 10**6}, {"scope": "admin"}):
        forged = f"{head}.{_base64(json.dumps(_claims(private.stranger) | change).encode())}.{signature}"
        assert private.stranger.ask("GET", "/2/users/me", headers=bearer(forged)).status_code == 401


def test_a_wrong_password_and_an_unknown_name_get_the_same_error(private: PrivateObjects) -> None:
    """So usernames cannot be probed."""
    wrong = {"grant_type": "password", "username": private.owner.username, "password": "wrong horse battery"}
    answers = [requests.post(f"{GATEWAY}/2/oauth2/token", data={**wrong, "username": name}, timeout=10)
               for name in (private.owner.username, "nobody_at_all")]

    assert answers[0].status_code == answers[1].status_code == 400
    assert answers[0].json()["error"] == answers[1].json()["error"] == "invalid_grant"
    assert answers[0].json().get("error_description") == answers[1].json().get("error_description")


def test_a_revoked_token_is_refused(gateway_url: str) -> None:
    """Revocation is effective at every gateway within 5 s."""
    person = sign_up("rev")
    token = person.token
    assert person.ask("GET", "/2/users/me").status_code == 200
    response = requests.post(f"{GATEWAY}/2/oauth2/revoke", data={"token": token}, timeout=10)
    started_s = time.monotonic()
    until(lambda: person.ask("GET", "/2/users/me").status_code == 401, patience_s=5.0)

    assert response.status_code == 200
    assert time.monotonic() - started_s < 5.0
