"""Which queries a search accepts, and their meaning."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.search_query import From, Phrase, Query, Tag, Word
from system.services.search import policy
from system.services.shared import paging


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
])
def test_a_query_becomes_the_tree_of_its_terms(text, wanted, unwanted):
    """Terms are separated by blanks, each occurs once.

    Tags and names are folded, words are left to the index.
    """
    assert policy.parse(text) == Query(tuple(wanted), tuple(unwanted))


@pytest.mark.parametrize(("text", "problem"), [
    (None, "is empty"), ("", "is empty"), (" \t ", "is empty"),
    ("x" * 513, "513 characters"),
    (" ".join("abcdefghijklmnopq"), "17 terms"),
    ('cat "sea lion', "character 5"), ('cat "sea lion', "never closed"),
    ('"sea"lion', "put a blank"), ('cat"s', "quotation mark inside"), ('""', "no letter"), ('"?!"', "no letter"),
    ("cat -", "character 5"), ("- cat", "excludes nothing"), ("--cat", "excludes nothing"),
    ("-cat", "only exclusions"), ('-"sea lion" -from:ann', "only exclusions"),
    ("#", "not a hashtag"), ("#7", "not a hashtag"), ("#a-b", "not a hashtag"), ("cat ##b", "character 5"),
    ("from:", "is not a username"), ("from:ann-b", "is not a username"), ("from:" + "x" * 16, "is not a username"),
    ("cat lang:en", "not supported"), ("-is:retweet cat", "character 2"), ("cat OR dog", "character 5"), ("(cat dog)", "group"),
    ("!?", "no letter"),
])
def test_an_invalid_query_is_refused_with_position_and_fix(text, problem):
    """400; an unsupported operator is not treated as a word: wrong results are worse than an error."""
    with pytest.raises(WrongInput, match=problem):
        policy.parse(text)


@given(st.text(max_size=80))
@example('"' * 3)
@example("-")
def test_any_text_is_a_query_or_refused(text):
    """No text crashes the parser; a query always has a term that must match."""
    try:
        query = policy.parse(text)
    except WrongInput as refused:
        assert str(refused).startswith("`query`")
    else:
        assert query.wanted and len(query.wanted) + len(query.unwanted) <= policy.MAX_TERMS


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
    query = policy.parse("  ".join(written))

    assert set(query.wanted) == {term for _, term in wanted}
    assert set(query.unwanted) == {term for _, term in unwanted}


@pytest.mark.parametrize(("text", "tags"), [
    ("no tag at all", ()), ("#one and #Two", ("one", "two")), ("#one#two", ("one",)), ("#One #ONE", ("one",)),
    ("(#zoo), #sea-lion!", ("zoo", "sea")), ("a#b &#39; x/#top", ()), ("#2026 #2026a", ("2026a",)),
    ("＃日本 #naïve_bird", ("日本", "naïve_bird")),
    ("#", ()), ("##x", ("x",)), ("#ﬁsh", ("fish",)), ("#😀", ()), ("#مرحبا#", ("مرحبا",)),
])
def test_hashtags_are_found_in_every_script(text, tags):
    """At the start of a word: letters, marks, digits and underscores, not digits alone; folded; each once."""
    assert policy.hashtags(text) == tags


@given(st.text(max_size=60))
@example("#ǰ #İx #ﬀ")
def test_a_hashtag_of_a_text_is_found_by_a_query_for_it(text):
    """The indexer's form of `#Name` equals the parser's."""
    for part in text.split():
        if part[0] in policy.SIGNS and policy.tag_of(part[1:]) is not None:
            assert policy.parse(part).wanted == (Tag(policy.hashtags(part)[0]),)


@pytest.mark.parametrize(("params", "before", "since"), [
    ({}, None, None),
    ({"until_id": "900", "since_id": "100"}, 900, 100),
    ({"start_time": "2026-11-22T18:00:00Z"}, None, ids.floor_id(1_795_370_400_000) - 1),
    ({"end_time": "2026-11-22T18:00:00.500Z"}, ids.floor_id(1_795_370_400_500), None),
    ({"end_time": "2026-11-22T18:00:00Z", "until_id": "7"}, 7, None),
    ({"start_time": "1999-01-01T00:00:00Z"}, None, 0),
])
def test_the_tightest_bound_of_each_side_applies(params, before, since):
    """Ids and times bound ids; both bounds are exclusive, `start_time` itself is included."""
    assert paging.bounds(params) == (before, since)


@pytest.mark.parametrize("params", [
    {"since_id": "x"}, {"until_id": "-1"}, {"start_time": "yesterday"}, {"start_time": "2026-11-22T18:00:00"},
    {"end_time": "2026-13-01T00:00:00Z"},
])
def test_bounds_that_are_not_ids_or_times_are_refused(params):
    """400, naming the parameter."""
    with pytest.raises(WrongInput, match=r"since_id|until_id|start_time|end_time"):
        paging.bounds(params)


def test_results_are_ranked_unless_newest_first_is_requested():
    """`sort_order`, as Twitter names it."""
    assert (policy.order_of(None), policy.order_of("recency")) == (policy.RELEVANCY, policy.RECENCY)
    with pytest.raises(WrongInput, match="sort_order"):
        policy.order_of("random")


def test_a_read_that_saw_a_tweet_alive_never_wins_over_one_that_saw_it_deleted():
    """The live read started before the deleted read ended, whatever their overlap."""
    assert policy.version(False, 100, 500) < policy.version(True, 50, 101)
