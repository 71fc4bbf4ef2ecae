"""SearchIndex: the order of results, and pages of a ranked search."""

from __future__ import annotations

import pytest

from system.kernel.errors import WrongInput
from system.kernel.search_query import Author, Phrase, Query, Rank, Word
from system.ports import Ask
from tests.helpers.search_fixtures import FIRST, NOW_MS, document, found, words

HOUR_MS = 3_600_000
RANK = Rank(NOW_MS, half_life_s=86_400.0, floor=0.1)


async def test_a_rarer_word_and_a_shorter_text_weigh_more(index) -> None:
    """BM25: with age and likes the same, the denser text comes first."""
    await index.index([document(0, "walrus " + "and much else that is not asked for " * 2), document(1, "walrus"),
                       document(2, "walrus walrus and a little more"), document(3, "no such thing")])
    assert (await found(index, words("walrus"), rank=RANK))[0] in (1, 2)
    assert (await found(index, words("walrus"), rank=RANK))[-1] == 0
    assert sorted(await found(index, Query((Phrase("walrus and"),)), rank=RANK)) == [0, 2]


async def test_the_newer_of_two_equal_texts_comes_first(index) -> None:
    """The decaying part of the age factor halves after `half_life_s`; very old tweets keep the floor."""
    ages_h = [0, 12, 24, 48, 24 * 400]
    await index.index([document(9 - at, "walrus", created_ms=NOW_MS - age * HOUR_MS) for at, age in enumerate(ages_h)])
    page = await _ranked(index, words("walrus"))
    assert [hit.id - FIRST for hit in page] == [9, 8, 7, 6, 5]
    newest = page[0].score
    assert page[2].score / newest == pytest.approx(0.1 + 0.9 * 0.5, rel=0.001)
    assert page[4].score / newest == pytest.approx(0.1, rel=0.001)


async def test_likes_raise_the_rank_of_a_tweet(index) -> None:
    """By ln(2 + likes): the first likes count most, and a tweet without likes is still found."""
    await index.index([document(at, "walrus", likes=likes) for at, likes in enumerate((100, 3, 0, 0))])
    page = await _ranked(index, words("walrus"))
    assert [hit.id - FIRST for hit in page] == [0, 1, 3, 2]
    assert page[1].score / page[2].score == pytest.approx(2.3219, rel=0.001)


async def test_many_likes_do_not_keep_an_old_tweet_above_a_new_one_forever(index) -> None:
    """The three factors are multiplied."""
    await index.index([document(0, "walrus", likes=30, created_ms=NOW_MS - 200 * HOUR_MS), document(1, "walrus"),
                       document(2, "walrus", likes=3_000, created_ms=NOW_MS - 12 * HOUR_MS)])
    assert await found(index, words("walrus"), rank=RANK) == [2, 1, 0]


async def test_without_words_only_age_and_likes_rank(index) -> None:
    """Tags and authors only filter: all matches have a BM25 score of one."""
    await index.index([document(0, "short"), document(1, "a much longer text than the other", likes=9), document(2, "x", 43)])
    page = await _ranked(index, Query((Author(42),)))
    assert [hit.id - FIRST for hit in page] == [1, 0]
    assert page[1].score == pytest.approx(0.6931, rel=0.001)


async def test_pages_of_one_view_neither_overlap_nor_miss_during_writes(index) -> None:
    """Scores depend on the whole index; a view is frozen. Among equal scores the newer id is first."""
    await index.index([document(number, f"walrus {'fish ' * (number % 4)}", likes=number % 3) for number in range(20)])
    await index.refresh()
    view, pages, after = await index.view(), [], None
    for turn in range(5):
        page = (await index.search(Ask(Query((Word("walrus"),)), 5, rank=RANK, after=after, view=view))).hits
        pages += [hit.id - FIRST for hit in page]
        after = (page[-1].score, page[-1].id) if page else after
        await index.index([document(100 + 20 * turn + extra, "walrus fish", likes=7) for extra in range(20)])
        await index.index([document(turn, "something else", version=2)])
        await index.refresh()
    assert sorted(pages) == list(range(20)) and len(pages) == 20
    assert len(await found(index, words("walrus"), rank=RANK, limit=200)) == 20 - 5 + 100


async def test_a_search_with_an_expired_view_is_wrong_input(index) -> None:
    """Neither a wrong page nor a 503: the caller starts the search again."""
    await index.index([document(0, "walrus")])
    await index.refresh()
    view = await index.view()
    assert len((await index.search(Ask(words("walrus"), 5, rank=RANK, view=view))).hits) == 1
    if hasattr(index, "_client"):
        await index._client.close_point_in_time(id=view)
    else:
        for _ in range(40):
            await index.view()
    with pytest.raises(WrongInput, match="requested too late"):
        await index.search(Ask(words("walrus"), 5, rank=RANK, view=view))


async def _ranked(index, query: Query):
    await index.refresh()
    return (await index.search(Ask(query, 10, rank=RANK))).hits


async def test_matches_are_counted_by_the_time_of_their_creation(index) -> None:
    """An interval includes its start and excludes its end; deleted and hidden tweets do not count."""
    await index.index([
        document(0, "walrus", created_ms=NOW_MS), document(1, "walrus", created_ms=NOW_MS + 999),
        document(2, "walrus", created_ms=NOW_MS + 1_000), document(3, "walrus", 43, created_ms=NOW_MS + 1_000),
        document(4, "walrus", created_ms=NOW_MS + 1_000, deleted=True), document(5, "seal", created_ms=NOW_MS + 1_000),
        document(6, "walrus", created_ms=NOW_MS + 3_000)])
    await index.refresh()
    times = [NOW_MS + second * 1_000 for second in range(4)]

    assert await index.histogram(Ask(words("walrus"), 0, hidden=frozenset({43})), times) == [2, 1, 0]
    assert await index.histogram(Ask(words("walrus"), 0, since=FIRST), times) == [1, 2, 0]
