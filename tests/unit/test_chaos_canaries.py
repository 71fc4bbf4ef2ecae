"""The canary: planted as a user would, looked for as a stranger, and seen by whom it is for."""

from __future__ import annotations

import pytest

from chaos import canaries


class Town:
    """An API that answers by rule. `leaky`: ways on which a stranger is shown the tweet."""

    def __init__(self, leaky: tuple[str, ...] = (), blind: bool = False) -> None:
        self.leaky, self.blind = leaky, blind
        self.asked: list[str] = []

    def watch(self) -> canaries._Watch:
        watch = canaries._Watch(None, "", lambda user: "")
        users = iter(range(1, 4))

        async def ask(method, path, user, body):
            self.asked.append(f"{method} {path}")
            return {"data": {"id": str(next(users)) if path == "/2/users" else "77"}}

        async def holds(path, user):
            return not self.blind if user == 2 else any(word in path for word in self.leaky)

        watch._ask, watch._holds = ask, holds
        return watch


async def test_a_tight_lab_shows_the_canary_to_its_follower_alone():
    """Eight answers to the stranger are scanned; the owner is protected before he posts."""
    town = Town()

    assert await town.watch().run() == canaries.Canary(8, (), True)
    assert town.asked.index("PUT /2/users/me") < town.asked.index("POST /2/tweets")
    assert "POST /2/users/1/follow_requests/2" in town.asked


async def test_a_leak_is_told_by_its_way():
    """Search shows it to the stranger."""
    found = await Town(leaky=("search",)).watch().run()

    assert [path.partition("?")[0] for path in found.leaks] == ["/2/tweets/search/recent"]


async def test_a_canary_that_nobody_sees_proves_nothing(monkeypatch):
    """Without the follower's sight the silence elsewhere would pass for privacy."""
    monkeypatch.setattr(canaries, "SETTLE_S", 0.5)

    assert (await Town(blind=True).watch().run()).seen_by_follower is False


@pytest.mark.parametrize(("body", "count"), [({"data": {"text": "x"}}, 1), ({"data": [{}, {}]}, 2), ({"errors": []}, 0), ([], 0)])
def test_every_shape_of_an_answer_is_scanned(body, count):
    """One tweet, a page, an error."""
    assert len(canaries._tweets(body)) == count


async def test_the_canary_of_a_load_is_posted_when_protected_and_nobody_is_approved():
    """Those who asked go on waiting, so no answer of the load may hold the word."""
    town = Town()

    word = await town.watch().planted([7, 8], "ba ce")

    assert len(word) == canaries.LETTER_COUNT and set(word) <= set(canaries.LETTERS)
    assert town.asked.index("PUT /2/users/me") < town.asked.index("POST /2/tweets")
    assert {"POST /2/users/7/following", "POST /2/users/8/following"} <= set(town.asked)
    assert not any("follow_requests" in asked for asked in town.asked)
