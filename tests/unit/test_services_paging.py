"""Cursors: forward and back over the same pages, and refusal of invalid ones."""

from __future__ import annotations

import re
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.services.gateway.openapi import parts as describe_parts
from system.services.shared import paging

TOKEN = re.compile(describe_parts.TOKEN["pattern"])


def tweets_page(held: list[int], size: int, token: str | None, **bounds: str) -> tuple[list[int], str | None, str | None]:
    """Serve one page of `held`, newest first, as the tweets and timelines services do.

    Return (ids, next, previous).
    """
    window = paging.window({"max_results": str(size), **({"pagination_token": token} if token else {}), **bounds}, 10)
    low = -1 if window.since_id is None else window.since_id
    tweet_ids = [each for each in sorted(held, reverse=True) if (window.before is None or each < window.before) and each > low]
    shown = tweet_ids[:size]
    after = paging.next_token(shown[-1] if shown else 0, len(tweet_ids) <= size, window.since_id, window.cursor)
    return shown, after, window.cursor.previous()


def users_page(held: list[int], size: int, token: str | None) -> tuple[list[int], str | None, str | None]:
    """Serve one page of `held`, ascending, as lists of users do."""
    current = paging.cursor({"pagination_token": token} if token else {}, paging.LOWEST)
    shown = [each for each in sorted(held) if each > (-1 if current.bound is None else current.bound)][:size]
    return shown, current.next(shown[-1]) if len(shown) == size else None, current.previous()


def forward_and_back(serve):
    """Page `serve(token)` to its end and back until there is no previous page.

    Return (pages forward, pages back).
    """
    forward, token = [], None
    while True:
        shown, token, previous = serve(token)
        forward.append(shown)
        if token is None:
            break
        assert TOKEN.match(token)
    back = []
    while previous is not None:
        assert TOKEN.match(previous)
        shown, _, previous = serve(previous)
        back.append(shown)
    return forward, back


HELD = st.lists(st.integers(1, 9 * 10**18 - 1), max_size=60, unique=True)


@given(HELD, st.integers(1, 12))
def test_paging_back_over_tweets_returns_the_same_pages(held, size):
    """Page by page to the newest, which has no previous page."""
    forward, back = forward_and_back(lambda token: tweets_page(held, size, token))

    assert list(chain(*forward)) == sorted(held, reverse=True)
    assert back == forward[-2::-1]


@given(HELD, st.integers(1, 12))
def test_paging_back_over_users_returns_the_same_pages(held, size):
    """Lists of users ascend by id."""
    forward, back = forward_and_back(lambda token: users_page(held, size, token))

    assert list(chain(*forward)) == sorted(held)
    assert back == forward[-2::-1]


@given(HELD, st.integers(1, 12), st.integers(0, ids.MAX_ID), st.integers(0, ids.MAX_ID))
def test_paging_back_stays_within_since_id_and_until_id(held, size, since, until):
    """Both are sent with every page, also with the first one when paging back."""
    forward, back = forward_and_back(lambda token: tweets_page(held, size, token, since_id=str(since), until_id=str(until)))

    assert list(chain(*forward)) == [each for each in sorted(held, reverse=True) if since < each < until]
    assert back == forward[-2::-1]


def test_the_cursors_of_the_first_pages():
    """One bound each; the cursor back from the second page is the bound beyond every id."""
    held = [10, 20, 30, 40, 50]
    assert tweets_page(held, 2, None) == ([50, 40], "40", None)
    assert tweets_page(held, 2, "40") == ([30, 20], "20.40", str(ids.MAX_ID))
    assert tweets_page(held, 2, "20.40") == ([10], None, "40")
    assert users_page(held, 2, None) == ([10, 20], "20", None)
    assert users_page(held, 2, "20") == ([30, 40], "40.20", "0")
    assert users_page(held, 2, "40.20") == ([50], None, "20")


@pytest.mark.parametrize(("token", "first"), [(str(ids.MAX_ID), paging.NEWEST), ("0", paging.LOWEST), ("000", paging.LOWEST)])
def test_the_bound_beyond_every_id_is_the_first_page(token, first):
    """Exactly as without a cursor, and so are the next pages."""
    assert paging.cursor({"pagination_token": token}, first) is first is paging.cursor({}, first)


@pytest.mark.parametrize("serve", [tweets_page, users_page])
def test_a_trail_that_was_cut_leads_back_to_its_last_known_bound_and_no_further(serve):
    """150 pages: 100 bounds in a cursor; the 99 pages back are the same ones, then there is no cursor."""
    held = list(range(10**18, 10**18 + 150))
    tokens = []

    def keep(token):
        tokens.append(token)
        return serve(held, 1, token)

    forward, back = forward_and_back(keep)

    pages = [page for page in forward if page]
    assert len(pages) == 150
    assert back == forward[-2:-2 - len(back):-1] and len(back) == paging.MAX_TRAIL - 1
    assert max(len(token or "") for token in tokens) <= describe_parts.TOKEN["maxLength"] == 2000
    assert tokens[-1].endswith("~") and tokens[-1].count(".") == 0


BAD = ["", ".", "~", "7.", ".7", "7..8", "7~~", "7~.8", "7 .8", "+7", "٣", "-1", "1e3", "9" * 20, str(ids.MAX_ID + 1), "7,8",
       ".".join(str(each) for each in range(1, 102)), "7" * 5000, "7.x"]


@pytest.mark.parametrize("token", BAD)
@pytest.mark.parametrize("first", [paging.NEWEST, paging.LOWEST])
def test_an_invalid_cursor_is_refused_with_value_bound_and_fix(token, first):
    """400, never a page of something else; and the message stays short."""
    with pytest.raises(WrongInput) as refusal:
        paging.cursor({"pagination_token": token}, first)

    message = str(refusal.value)
    assert repr(token[:40]) in message and "1 to 100 whole numbers" in message and "leave it out for the first page" in message
    assert len(message) < 400


@pytest.mark.parametrize(("token", "first", "way"), [
    ("80.70", paging.NEWEST, "above"), ("70.90.80", paging.NEWEST, "above"), ("70.70", paging.NEWEST, "above"),
    ("70.80", paging.LOWEST, "below"), ("90.70.80~", paging.LOWEST, "below"), ("70.70", paging.LOWEST, "below"),
])
def test_a_trail_has_one_direction(token, first, way):
    """Previous pages are newer in lists of tweets, and lower in lists of users.

    No other cursor is ever issued.
    """
    with pytest.raises(WrongInput, match=f"each of its numbers must be {way} the one before"):
        paging.cursor({"pagination_token": token}, first)
