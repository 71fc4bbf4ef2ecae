"""What a search compares: equal forms of one word, pairs of characters, emoji."""

import pytest

from system.kernel.text import fold


@pytest.mark.parametrize(("typed", "written"), [
    ("straße", "STRASSE"), ("CAFÉ", "cafe\u0301"), ("ＺＯＯ", "zoo"), ("ﾊﾟﾝﾀﾞ", "パンダ"), ("ﬁsh", "FISH"), ("don't", "don’t"),
    ("Σίσυφος", "ΣΊΣΥΦΟΣ"), ("می‌خواهم", "میخواهم"), ("co\u00adop", "coop"), ("①", "1"), ("👍🏽", "👍"), ("❤️", "❤"),
    ("ﷺ", "صلى الله عليه وسلم"), ("가", "\u1100\u1161"),
])
def test_equal_forms_have_the_same_tokens(typed, written):
    """Case, width, ligatures, composed marks, invisible joiners, skin tones."""
    assert fold.tokens(typed) == fold.tokens(written) != []


@pytest.mark.parametrize(("text", "tokens"), [
    ("Hello, World's zoo.org #a_b @ann", ["hello", "world's", "zoo.org", "a_b", "ann"]),
    ("東京都 zoo 京", ["東京", "京都", "zoo", "京"]), ("東京。京都", ["東京", "|", "京都"]), ("ขอบ", ["ขอ", "อบ"]),
    ("हिन्दी में", ["हिन्दी", "में"]), ("👩‍🚀🇫🇷 1️⃣ ☭", ["👩‍🚀", "🇫🇷", "1⃣", "☭"]), ("il·lusió", ["il·lusió"]), ("?! — …", []),
    ("x" * 450, ["x" * 200, "x" * 200, "x" * 50]),
])
def test_tokens_of_a_text(text, tokens):
    """Words; pairs of scripts without blanks, with a break between two runs; one token for an emoji."""
    assert fold.tokens(text) == tokens


@pytest.mark.parametrize(("typed", "in_order", "required"), [
    ("well-known", False, [("words", ("well",)), ("words", ("known",))]),
    ("well-known", True, [("words", ("well", "known"))]),
    ("東京都", False, [("words", ("東京", "京都"))]), ("東", False, [("characters", ("東",))]),
    ("京 abc", True, [("characters", ("京", "abc"))]),
    ("東京abc", True, [("words", ("東京", "abc"))]), ("!?", False, []), ("!?", True, []),
])
def test_what_a_query_requires(typed, in_order, required):
    """Adjacent tokens; a single character is looked for among single characters."""
    assert fold.required(typed, in_order) == required


def test_every_part_of_a_run_is_found_in_it():
    """Whatever two or more adjacent characters of a text somebody types."""
    text = "東京都の動物園でパンダを見た"
    tokens = fold.tokens(text)
    for start in range(len(text)):
        for end in range(start + 2, len(text) + 1):
            ((field, wanted),) = fold.required(text[start:end])
            assert field == "words" and any(tuple(tokens[at:at + len(wanted)]) == wanted for at in range(len(tokens)))
    assert all(fold.required(char) == [("characters", (char,))] and char in fold.characters(text) for char in text)


def test_no_token_holds_a_blank():
    """The index splits at blanks, and only there."""
    for code in [*range(0x3000), *range(0x1f000, 0x1fb00), 0x3000, 0xfffc, 0xe0020]:
        for token in (*fold.tokens(f"a{chr(code)}b"), *fold.characters(f"東{chr(code)}b")):
            assert not any(char.isspace() for char in token)
