"""The length of a text: what counts 1, 2 and 23, and which texts may not be posted."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from system.kernel.text import entities, weight

ASTRONAUT, FAMILY, ENGLAND = "👩🏽‍🚀", "👨‍👩‍👧‍👦", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(("text", "counted"), [
    ("walrus", 6), ("Привет", 6), ("مرحبا", 5), ("שלום", 4), ("สวัสดี", 6), ("— “x” ’", 7),
    ("海象", 4), ("かな", 4), ("한글", 4), ("ｗ", 2), ("𠮷", 2),
    ("😀", 2), ("👍🏽", 2), (FAMILY, 2), (ASTRONAUT, 2), (ENGLAND, 2), ("🇫🇷", 2), ("1️⃣", 2),
    ("#⃣", 2), ("❤️", 2), ("☺", 2), ("©", 1),
    ("©️", 2), ("😀😀", 4), (f"a{FAMILY}b", 4), ("🇫🇷🇩🇪", 4), ("123", 3),
    ("http://zoo.org", 23), ("zoo.org", 23), (f"https://zoo.org/{'a' * 400}", 23), ("a zoo.org b", 27), ("😀zoo.org😀", 27),
    ("e\u0301", 1), ("\u0928\u093c", 1), ("", 0),
])
def test_what_a_text_counts(text, counted):
    """By version 3 of Twitter's configuration: composed first, a URL 23, an emoji 2, other scripts 1 or 2."""
    assert weight.weight(text) == counted
    assert weight.measure(text).weight == counted


def test_an_emoji_holds_no_unlimited_text():
    """Only sequences of up to four elements are one emoji; a longer chain counts again."""
    chain = "\u200d".join(["😀"] * 40)

    assert weight.weight(chain) == 2 * 10 + 9


@pytest.mark.parametrize("char", ["\ufffe", "\ufeff", "\uffff"])
def test_a_code_point_that_is_no_character_is_invalid(char):
    """Twitter refuses these three; all before them fits."""
    measured = weight.measure(f"ab{char}c")

    assert weight.has_invalid(f"ab{char}c") and not measured.valid and measured.valid_end == 2
    assert not weight.has_invalid("walrus 海象 \u202a")


def test_what_fits_of_a_text_that_is_too_long():
    """`valid_end` counts code points of the composed form."""
    assert weight.measure("a" * 281).valid_end == 280
    assert weight.measure("海" * 141).valid_end == 140
    assert weight.measure("海" * 140).valid and not weight.measure("海" * 141).valid
    assert not weight.measure("").valid


@given(st.lists(st.sampled_from([
    *"ab1#@. /:é e", "\u0301", "海", "😀", "🏽", "\u200d", "\ufe0f", "\u20e3", "🇫", "🇷", "\n", "zoo.org"])).map("".join))
@example("1\ufe0f\u20e3.a")
def test_both_ways_to_count_agree(text):
    """The fast count and the one that says where the text stops to fit."""
    assert weight.weight(text) == weight.measure(text).weight == weight.weight(unicodedata.normalize("NFC", text))


def test_a_post_costs_at_most_a_third_of_a_millisecond():
    """Median over ordinary posts; the entities and the count together."""
    posts = ["hi @ann see https://zoo.org/a?b=c and www.zoo.co.uk #tag 😀 " + "word " * 20,
             "日本語のツイートです。zoo.comを見て #漢字 🙋🏽 の" * 3]
    costs = []
    for post in posts * 20:
        started = time.process_time_ns()
        weight.weight(post)
        entities.packed(post)
        costs.append(time.process_time_ns() - started)

    assert sorted(costs)[len(costs) // 2] < 300_000
