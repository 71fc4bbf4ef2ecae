"""Which queries a search accepts, and their meaning."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from system.kernel.errors import WrongInput
from system.kernel.search_query import (
    AnyOf,
    Cashtag,
    Conversation,
    From,
    Has,
    Link,
    Mention,
    Phrase,
    Query,
    Retweet,
    Tag,
    To,
    Word,
    terms_of,
)
from system.kernel.text import searchable
from system.services.search import query_parser
from tests.helpers.search_fixtures import document


@pytest.mark.parametrize(("text", "wanted", "unwanted"), [
    ("walrus", [Word("walrus")], []),
    ("  Big   walrus ", [Word("Big"), Word("walrus")], []),
    ("walrus walrus", [Word("walrus")], []),
    ("#Zoo", [Tag("zoo")], []),
    ("＃ＺＯＯ", [Tag("zoo")], []),
    ("#Straße #STRASSE", [Tag("strasse")], []),
    ("from:Ann", [From("ann")], []),
    ("FROM:@ann_b", [From("ann_b")], []),
    ('"sea lion"', [Phrase("sea lion")], []),
    ('a "b  c" d', [Word("a"), Phrase("b  c"), Word("d")], []),
    ("cat -dog", [Word("cat")], [Word("dog")]),
    ('cat -"hot dog" -#pets -from:bob', [Word("cat")], [Phrase("hot dog"), Tag("pets"), From("bob")]),
    ('-dog cat', [Word("cat")], [Word("dog")]),
    ("well-known don't 12:30", [Word("well-known"), Word("don't"), Word("12:30")], []),
    ("http://example.org/x", [Word("http://example.org/x")], []),
    ("who? or and", [Word("who?"), Word("or"), Word("and")], []),
    ("日本語 🦭", [Word("日本語"), Word("🦭")], []),
    ("#हिन्दी", [Tag("हिन्दी")], []),
    ("weather:", [Word("weather:")], []),
    ("cat OR dog", [AnyOf((Query((Word("cat"),)), Query((Word("dog"),))))], []),
    ("cat OR dog big", [AnyOf((Query((Word("cat"),)), Query((Word("dog"), Word("big")))))], []),
    ("big (cat OR dog) -(wet OR old)", [Word("big"), AnyOf((Query((Word("cat"),)), Query((Word("dog"),))))],
     [AnyOf((Query((Word("wet"),)), Query((Word("old"),))))]),
    ("(cat dog)", [AnyOf((Query((Word("cat"), Word("dog"))),))], []), ("((cat))", [Word("cat")], []),
    ("cat OR cat", [Word("cat")], []), ("(cat -wet) big", [AnyOf((Query((Word("cat"),), (Word("wet"),)),)), Word("big")], []),
    ("@Ann to:Bob conversation_id:42", [Mention("ann"), To("bob"), Conversation(42)], []),
    ("has:media HAS:links is:reply -is:reply", [Has("media"), Has("links"), Has("reply")], [Has("reply")]),
    ("cat -is:retweet", [Word("cat")], []), ("-is:retweet", [], []), ("is:retweet", [Retweet()], []),
    ("$ZOO $zoo.b $5", [Cashtag("zoo"), Cashtag("zoo.b"), Word("$5")], []),
    ('url:zoo.org/a url:"https://zoo.org"', [Link(("zoo", "org", "a")), Link(("zoo", "org"))], []),
    ("a(b)", [Word("a(b)")], []),
])
def test_a_query_becomes_the_tree_of_its_terms(text, wanted, unwanted):
    """Terms are separated by blanks, each occurs once.

    Tags and names are folded, words are left to the index.
    """
    assert query_parser.parse(text) == Query(tuple(wanted), tuple(unwanted))


@pytest.mark.parametrize(("text", "problem"), [
    (None, "is empty"), ("", "is empty"), (" \t ", "is empty"),
    ("x" * 513, "513 characters"),
    (" ".join(f"w{number}" for number in range(49)), "49 terms"),
    ('cat "sea lion', "character 5"), ('cat "sea lion', "never closed"),
    ('"sea"lion', "put a blank"), ('cat"s', "quotation mark inside"), ('""', "no letter"), ('"?!"', "no letter"),
    ("cat -", "character 5"), ("- cat", "excludes nothing"), ("--cat", "excludes nothing"),
    ("-cat", "only exclusions"), ('-"sea lion" -from:ann', "only exclusions"),
    ("#", "not a hashtag"), ("#7", "not a hashtag"), ("#a-b", "not a hashtag"), ("cat ##b", "character 5"),
    ("from:", "is not a username"), ("from:ann-b", "is not a username"), ("from:" + "x" * 16, "is not a username"),
    ("cat lang:en", "not supported"), ("-place:x cat", "character 2"), ("has:images cat", "`has:` may name media, hashtags"),
    ("cat is:quote", "`is:` may name reply, retweet"), ("cat AND dog", "a blank means that both match"),
    ("OR cat", "nothing beside it"), ("cat OR", "nothing beside it"), ("cat OR OR dog", "nothing beside it"),
    ("cat ()", "nothing beside it"), ("(cat", "never closed"), ("cat)", "closes no group"), ("cat OR -dog", "only exclusions"),
    ("(-dog) cat", "only exclusions"), ("cat -OR dog", "cannot be excluded"), ("(" * 9 + "cat" + ")" * 9, "group 9 inside"),
    ("to:", "is not a username"), ("@ann-b", "is not a username"), ("conversation_id:x", "decimal id"), ("url:", "names no URL"),
    ("url:http://a_b.c", "names no URL"), ("!?", "no letter"),
])
def test_an_invalid_query_is_refused_with_position_and_fix(text, problem):
    """400; an unsupported operator is not treated as a word: wrong results are worse than an error."""
    with pytest.raises(WrongInput, match=problem):
        query_parser.parse(text)


@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from([
    *'()"-#@$ :|', "OR", " ", "cat", "is:reply", "has:media", "-is:retweet", "日", "😀"]), max_size=12).map("".join)))
@example('"' * 3)
@example("-")
def test_any_text_is_a_query_or_refused(text):
    """No text crashes the parser; a query never has exclusions alone."""
    try:
        query = query_parser.parse(text)
    except WrongInput as refused:
        assert str(refused).startswith("`query`")
    else:
        assert query.wanted or not query.unwanted
        assert len(list(terms_of(query))) <= query_parser.MAX_TERMS


WORDS = st.text(string.ascii_letters, min_size=1, max_size=8).filter(lambda word: word not in ("OR", "AND"))
TERMS = st.one_of(
    WORDS.map(lambda word: (word, Word(word))),
    WORDS.map(lambda word: (f"#{word}", Tag(word.lower()))),
    WORDS.map(lambda word: (f"from:{word}", From(word.lower()))),
    st.lists(WORDS, min_size=1, max_size=3).map(lambda words: (f'"{" ".join(words)}"', Phrase(" ".join(words)))),
)


@given(st.lists(TERMS, min_size=1, max_size=5), st.lists(TERMS, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_terms_does_not_matter(wanted, unwanted, dice):
    """In any order, the same terms are wanted and unwanted."""
    written = [text for text, _ in wanted] + [f"-{text}" for text, _ in unwanted]
    dice.shuffle(written)
    query = query_parser.parse("  ".join(written))

    assert set(query.wanted) == {term for _, term in wanted}
    assert set(query.unwanted) == {term for _, term in unwanted}


@pytest.mark.parametrize("tag", ["#Zoo", "＃ＺＯＯ", "#Straße", "#ﬁsh", "#हिन्दी", "#col·lecció", "#می‌خواهم", "#İx", "#ǰ", "#ﾊﾟﾝﾀﾞ"])
def test_a_hashtag_of_a_text_is_found_by_a_query_for_it(tag):
    """The indexer's form of a hashtag equals the parser's."""
    assert query_parser.parse(tag).wanted == (Tag(searchable.of(document(0, tag).tweet).hashtags[0]),)
