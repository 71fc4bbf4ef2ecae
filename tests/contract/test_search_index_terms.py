"""SearchIndex: scripts without blanks, emoji, equal forms of a word, operators, groups. Both adapters give the same results."""

from __future__ import annotations

import pytest

from system.kernel.search_query import (
    AnyOf,
    Cashtag,
    Conversation,
    Has,
    Link,
    Mention,
    Phrase,
    Query,
    Rank,
    Recipient,
    Retweet,
    Tag,
    Word,
)
from system.ports import Ask
from tests.helpers.search_fixtures import FIRST, NOW_MS, document, found, words

CAT, DOG, OLD = (Query((Word(word),)) for word in ("cat", "dog", "old"))


@pytest.mark.parametrize(("query", "numbers"), [
    (words("東京"), [1, 0]), (words("京都"), [2, 1, 0]), (words("東京都"), [1, 0]),
    (words("都京"), []), (words("京"), [3, 2, 1, 0]),
    (words("動物園 東京"), [1]), (Query((Phrase("東京都の動物園"),)), [1]), (Query((Phrase("京 zoo"),)), [3]),
    (Query((Phrase("京都 zoo"),)), []), (words("パンダ"), [5, 4]), (words("ﾊﾟﾝﾀﾞ"), [5, 4]),
    (words("ประเทศ"), [6]), (words("เทศไทย"), [6]),
    (words("ไทยประเทศ"), []), (words("동물"), [7]), (words("ZOO"), [7, 3]),
])
async def test_scripts_without_blanks_are_found_by_any_part(index, query, numbers):
    """Chinese, Japanese, Korean and Thai: what somebody types is found in the middle of a longer run, in order."""
    await index.index([
        document(0, "東京都"), document(1, "東京都の動物園"), document(2, "京都。東"),
        document(3, "京 zoo"), document(4, "パンダ"),
        document(5, "ﾊﾟﾝﾀﾞだ"), document(6, "ประเทศไทย"), document(7, "동물원 Ｚｏｏ")])
    assert await found(index, query) == numbers


@pytest.mark.parametrize(("query", "numbers"), [
    (words("strasse"), [1, 0]), (words("CAFÉ"), [3, 2]), (words("cafe\u0301"), [3, 2]),
    (words("👍"), [5, 4]), (words("👩‍🚀"), [6]),
    (words("👩"), []), (words("🇫🇷"), [6]), (words("❤"), [7]), (words("don’t"), [8]), (words("میخواهم"), [9]),
    (Query((Tag("strasse"),)), [1]),
])
async def test_equal_forms_and_emoji_are_found(index, query, numbers):
    """One fold for the index and for the query: case, width, composed marks, joiners, skin tones."""
    await index.index([
        document(0, "Straße"), document(1, "#STRASSE"), document(2, "café"), document(3, "CAFE\u0301"), document(4, "👍🏽!"),
        document(5, "ok👍"), document(6, "👩‍🚀 🇫🇷"), document(7, "❤️"), document(8, "don't"), document(9, "می‌خواهم")])
    assert await found(index, query) == numbers


@pytest.mark.parametrize(("query", "numbers"), [
    (Query((AnyOf((CAT, DOG)),)), [3, 2, 1, 0]), (Query((AnyOf((CAT, DOG)), Word("old"))), [3, 1]),
    (Query((AnyOf((CAT, Query((Word("dog"), Word("old"))))),)), [3, 1, 0]), (Query((Word("cat"),), (AnyOf((DOG, OLD)),)), [0]),
    (Query((AnyOf((Query((Word("cat"),), (Word("old"),)), DOG)),)), [3, 2, 0]), (Query((Has("reply"),)), [5]),
    (Query((Has("media"),)), [4]), (Query((Has("hashtags"),)), [5]),
    (Query((Has("mentions"),)), [6]), (Query((Has("links"),)), [7]),
    (Query((Has("cashtags"),)), [8]),
    (Query((Word("seal"),), (Has("reply"), Has("media"))), [8, 7, 6]), (Query((Mention("ann"),)), [6]),
    (Query((Mention("an"),)), []), (Query((Cashtag("zoo"),)), [8]), (Query((Recipient(43),)), [5]), (Query((Recipient(42),)), []),
    (Query((Conversation(FIRST + 4),)), [5, 4]), (Query((Link(("zoo", "org")),)), [7]),
    (Query((Link(("zoo", "org", "a")),)), [7]),
    (Query((Link(("org", "zoo")),)), []), (Query((Link(("b", "c", "com")),)), []), (Query((Retweet(),)), []),
    (Query((), ()), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]), (Query((AnyOf((Query((Retweet(),)), CAT)),)), [3, 1, 0]),
])
async def test_operators_and_groups(index, query, numbers):
    """Each operator alone, excluded and in a choice; the parts of one URL do not match across two."""
    await index.index([
        document(0, "cat"), document(1, "cat old"), document(2, "dog"),
        document(3, "dog cat old"), document(4, "seal", media=("1_1",)),
        document(5, "seal #x", reply_to=4, recipient=43), document(6, "seal @Ann"), document(7, "seal https://Zoo.org/a/b c.com"),
        document(8, "seal $ZOO"), document(9, "")])
    assert await found(index, query, limit=20) == numbers


@pytest.mark.parametrize("query", [
    Query((AnyOf((CAT, DOG)),)), Query((AnyOf((CAT, Query((Tag("x"),)))),)),
    Query((AnyOf((Query((Tag("x"),)), Query((Has("links"),)))),)),
    words("東京"), words("京"), Query((Word("cat"), AnyOf((Query((Phrase("dog old"),)), OLD)))),
])
async def test_both_adapters_rank_alike(index, query):
    """The best match first, by the words that match; an alternative without words counts 1."""
    texts = ["cat", "cat dog old", "dog old cat cat", "cat old", "dog #x",
    "#x https://a.com", "東京都 東京", "京 東京", "cat " * 9 + "京"]
    await index.index([document(number, text, likes=number % 3) for number, text in enumerate(texts)])
    await index.refresh()
    from tests.fakes.search import MemorySearch

    memory = MemorySearch()
    await memory.index([document(number, text, likes=number % 3) for number, text in enumerate(texts)])
    ask = Ask(query, 20, rank=Rank(NOW_MS, 3_600.0, 0.1))
    hits, expected = (await index.search(ask)).hits, (await memory.search(ask)).hits
    assert expected and [hit.id for hit in hits] == [hit.id for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], rel=1e-4)
