"""People who come through the public door of the lab that stands in this range, by plain HTTP and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.helpers.people import CANARY, GATEWAY, LEAKS, RANGE, House, Person, arrive, until
from tests.helpers.requirements import lab_missing


def _seen_by(person: Person, tweet: str) -> bool:
    return tweet in person.ask("GET", f"/2/users/{person.id}/timelines/reverse_chronological").text


@pytest.fixture(scope="session")
def door() -> Iterator[str]:
    """The gateway's address; skips, with the reason, where no lab stands in this range."""
    try:
        requests.get(f"{GATEWAY}/null", timeout=2)
    except requests.RequestException:
        lab_missing(f"no lab with services is up in range {RANGE}: `tweetlab up` starts one")
    yield GATEWAY
    assert LEAKS == []


@pytest.fixture
def someone(door: str) -> Iterator[Person]:
    """A person nobody knows yet."""
    person = arrive()
    yield person
    person.http.close()


@pytest.fixture
def other(door: str) -> Iterator[Person]:
    """Another one."""
    person = arrive("q")
    yield person
    person.http.close()


@pytest.fixture(scope="session")
def house(door: str) -> Iterator[House]:
    owner, friend, former, stranger = (arrive(prefix) for prefix in ("own", "fri", "for", "str"))
    owner.may_know = friend.may_know = former.may_know = True
    assert owner.ask("PUT", "/2/users/me", json={"protected": True}).status_code == 200
    for person in (friend, former):
        asked = person.ask("POST", f"/2/users/{person.id}/following", json={"target_user_id": str(owner.id)})
        assert asked.json()["data"] == {"following": False, "pending_follow": True}
        assert owner.ask("POST", f"/2/users/{owner.id}/follow_requests/{person.id}").status_code == 200
    picture = owner.shows()
    tweet = owner.says(f"{CANARY} said in private", media={"media_ids": [picture]})
    for person in (friend, former):
        until(lambda person=person: _seen_by(person, tweet))
    until(lambda: CANARY in friend.ask("GET", f"/2/tweets/search/recent?query={CANARY.split('-')[0]}").text)
    assert friend.ask("POST", f"/2/users/{friend.id}/likes", json={"tweet_id": tweet}).status_code == 200
    assert owner.ask("DELETE", f"/2/users/{owner.id}/followers/{former.id}").status_code == 200
    former.may_know = False
    yield House(owner, friend, former, stranger, tweet, picture)
