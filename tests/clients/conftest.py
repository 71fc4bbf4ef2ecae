"""Users that reach the lab in this range through its public load balancer, by plain HTTP only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.helpers.people import CANARY, GATEWAY, LEAKS, RANGE, Person, PrivateObjects, sign_up, until
from tests.helpers.requirements import lab_missing


def _is_delivered(person: Person, tweet: str) -> bool:
    return tweet in person.ask("GET", f"/2/users/{person.id}/timelines/reverse_chronological").text


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """Base URL of the lab's public API; skips the test if no lab is up in this range.

    Fails at the end if the canary leaked.
    """
    try:
        requests.get(f"{GATEWAY}/null", timeout=2)
    except requests.RequestException:
        lab_missing(f"no lab with services is up in range {RANGE}: `tweetlab up` starts one")
    yield GATEWAY
    assert LEAKS == []


@pytest.fixture
def someone(gateway_url: str) -> Iterator[Person]:
    """A new user."""
    person = sign_up()
    yield person
    person.http.close()


@pytest.fixture
def other(gateway_url: str) -> Iterator[Person]:
    """Another new user."""
    person = sign_up("q")
    yield person
    person.http.close()


@pytest.fixture(scope="session")
def private(gateway_url: str) -> Iterator[PrivateObjects]:
    owner, friend, former, stranger = (sign_up(prefix) for prefix in ("own", "fri", "for", "str"))
    owner.may_know = friend.may_know = former.may_know = True
    assert owner.ask("PUT", "/2/users/me", json={"protected": True}).status_code == 200
    for person in (friend, former):
        response = person.ask("POST", f"/2/users/{person.id}/following", json={"target_user_id": str(owner.id)})
        assert response.json()["data"] == {"following": False, "pending_follow": True}
        assert owner.ask("POST", f"/2/users/{owner.id}/follow_requests/{person.id}").status_code == 200
    picture = owner.upload_picture()
    tweet = owner.post(f"{CANARY} said in private to @{stranger.username}", media={"media_ids": [picture]})
    for person in (friend, former):
        until(lambda person=person: _is_delivered(person, tweet))
    until(lambda: CANARY in friend.ask("GET", f"/2/tweets/search/recent?query={CANARY.split('-')[0]}").text)
    assert friend.ask("POST", f"/2/users/{friend.id}/likes", json={"tweet_id": tweet}).status_code == 200
    assert owner.ask("DELETE", f"/2/users/{owner.id}/followers/{former.id}").status_code == 200
    former.may_know = False
    yield PrivateObjects(owner, friend, former, stranger, tweet, picture)
