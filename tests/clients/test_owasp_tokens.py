"""API2 of the OWASP API Security Top 10 (2023), broken authentication: forged, swapped, expired and revoked tokens."""

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
from tests.helpers.people import GATEWAY, RANGE, House, Person, arrive, bearer, until
from tweetlab import home
from tweetlab.lab import session

pytestmark = pytest.mark.real


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _token(header: dict[str, Any], claims: dict[str, Any], signature: str = "AAAA") -> str:
    return f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}.{signature}"


def _claims(person: Person) -> dict[str, Any]:
    middle = person.token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def _signed(claims: dict[str, Any], algorithm: str = "HS256") -> str:
    """Sign with the lab's own key."""
    secret = session.secret_of(native.Lab(home.ROOT, RANGE))
    return jwt.encode(claims, secret, algorithm, headers={"kid": signing.kid_of(secret)})


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_no_way_in(house: House, algorithm: str) -> None:
    """A good signature by another algorithm is refused, also where the lab's own key made it; by ours it is let in."""
    claims = _claims(house.owner)

    assert house.owner.ask("GET", "/2/users/me", headers=bearer(_signed(claims))).status_code == 200
    assert house.owner.ask("GET", "/2/users/me", headers=bearer(_signed(claims, algorithm))).status_code == 401


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS256", "ES256"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_token_without_a_signature_is_no_way_in(house: House, algorithm: str, signature: str) -> None:
    """Whatever it says of itself."""
    forged = _token({"alg": algorithm, "typ": "JWT"}, _claims(house.owner), signature)

    assert house.stranger.ask("GET", "/2/users/me", headers=bearer(forged)).status_code == 401


@pytest.mark.parametrize("change", [{"exp": -60}, {"exp": None}, {"nbf": 600}, {"iat": 600}, {"sub": None}, {"sub": "one"}],
                         ids=["expired", "no end", "not yet", "of the future", "of nobody", "of no id"])
def test_a_token_outside_its_time_or_without_its_claims_opens_nothing(house: House, change: dict[str, Any]) -> None:
    """Signed with the lab's own key, so nothing but the claims can refuse it. Numbers are seconds from now."""
    claims = _claims(house.owner) | {name: int(time.time()) + value if isinstance(value, int) else value
                                     for name, value in change.items()}
    token = _signed({name: value for name, value in claims.items() if value is not None})

    assert house.owner.ask("GET", "/2/users/me", headers=bearer(token)).status_code == 401


def test_changed_claims_break_the_signature(house: House) -> None:
    """Another user or a later end, with the old signature."""
    head, _, signature = house.stranger.token.split(".")
    for change in ({"sub": str(house.owner.id)}, {"exp": int(time.time()) + 10**6}, {"scope": "admin"}):
        forged = f"{head}.{_part(json.dumps(_claims(house.stranger) | change).encode())}.{signature}"
        assert house.stranger.ask("GET", "/2/users/me", headers=bearer(forged)).status_code == 401


def test_a_password_is_not_told_from_a_wrong_name(house: House) -> None:
    """A wrong password and an unknown name are answered alike."""
    wrong = {"grant_type": "password", "username": house.owner.username, "password": "wrong horse battery"}
    answers = [requests.post(f"{GATEWAY}/2/oauth2/token", data={**wrong, "username": name}, timeout=10)
               for name in (house.owner.username, "nobody_at_all")]

    assert answers[0].status_code == answers[1].status_code == 400
    assert answers[0].json()["error"] == answers[1].json()["error"] == "invalid_grant"
    assert answers[0].json().get("error_description") == answers[1].json().get("error_description")


def test_a_revoked_token_opens_nothing(door: str) -> None:
    """Revocation is effective at every gateway within 5 s."""
    person = arrive("rev")
    token = person.token
    assert person.ask("GET", "/2/users/me").status_code == 200
    gone = requests.post(f"{GATEWAY}/2/oauth2/revoke", data={"token": token}, timeout=10)
    began = time.monotonic()
    until(lambda: person.ask("GET", "/2/users/me").status_code == 401, patience_s=5.0)

    assert gone.status_code == 200
    assert time.monotonic() - began < 5.0
