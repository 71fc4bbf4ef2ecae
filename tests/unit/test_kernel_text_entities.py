"""Entities of a text: each kind of hashtag, mention, cashtag and URL that Twitter finds, with its position."""

import time

import pytest

from system.kernel.text import entities, urls

WALRUS = "the walrus sleeps"


def values(kind, text):
    return [entity.value for entity in entities.entities(text) if entity.kind == kind]


@pytest.mark.parametrize(("text", "tags"), [
    ("at the #zoo today", ["zoo"]),
    ("#1st place, #2 not", ["1st"]),
    ("#_ #_1 #42", []),
    ("walrus#tag", []),
    ("tom&#39;s", []),
    ("(#a)[#b]“#c”,#d;#e", ["a", "b", "c", "d", "e"]),
    ("❤️#heart", ["heart"]), ("❤︎#text", ["text"]), ("👍🏽#tone", ["tone"]), ("👩‍🚀#joined", ["joined"]), ("🇫🇷#flag", ["flag"]),
    ("#کتاب‌خانه", ["کتاب‌خانه"]),
    ("#ශ්‍රී", ["ශ්‍රී"]),
    ("#בית־ספר #חז״ל", ["בית־ספר", "חז״ל"]),
    ("#བོད་ཡིག", ["བོད་ཡིག"]),
    ("#col·lecció", ["col·lecció"]),
    ("#สวัสดี #ภาษาไทย", ["สวัสดี", "ภาษาไทย"]),
    ("#हिन्दी_१२", ["हिन्दी_१२"]),
    ("＃全角 。#漢字！", ["全角", "漢字"]),
    ("漢字#漢字", []),
    ("#ﾊﾟﾝﾀﾞ", ["ﾊﾟﾝﾀﾞ"]),
    ("#http://zoo.org #https://zoo.org/a", []),
    ("#a#b", []),
    ("see http://zoo.org/#top and zoo.org/#map", []),
    ("#️⃣ #⃣", []),
    ("#𠮷野家", ["𠮷野家"]),
])
def test_hashtags(text, tags):
    """A hashtag of any script, behind an emoji, with the joiners that its script needs; none in a word, URL or number."""
    assert values("hashtags", text) == tags


@pytest.mark.parametrize(("text", "names"), [
    ("@ann", ["ann"]), ("hi @ann, @bob_7!", ["ann", "bob_7"]), ("の@annに", ["ann"]), ("＠ann", ["ann"]), ("@007", ["007"]),
    ("RT@ann rt:@bob RT @eve", ["ann", "bob", "eve"]),
    ("ann@zoo.org", []), ("@ann@zoo.org", []), ("#@ann $@ann !@ann", []), ("@http://zoo.org", []), ("@josé", []),
    ("@ann/birds", []), ("@ann/7", ["ann"]), ("@", []),
])
def test_mentions(text, names):
    """A mention is no part of an address, a list or a word with marks; RT may precede it directly."""
    assert values("mentions", text) == names


@pytest.mark.parametrize(("text", "tags"), [
    ("$ZOO and $zoo.b", ["ZOO", "zoo.b"]), ("$ZOO.", ["ZOO"]), ("a$ZOO $$ZOO $5 $ZOO5 $TOOLONG", []), ("$株", []),
])
def test_cashtags(text, tags):
    """One to six Latin letters after a dollar sign at the start of a word."""
    assert values("cashtags", text) == tags


@pytest.mark.parametrize(("text", "found"), [
    ("http://zoo.org", ["http://zoo.org"]), ("HTTPS://Zoo.ORG/A", ["HTTPS://Zoo.ORG/A"]), ("zoo.org.", ["zoo.org"]),
    ("(https://zoo.org/a_(b))", ["https://zoo.org/a_(b)"]), ("https://zoo.org/a?b=c&d=e#f,", ["https://zoo.org/a?b=c&d=e#f"]),
    ("http://zoo.org:8080/x", ["http://zoo.org:8080/x"]),
    ("http://動物.com/園", ["http://動物.com/"]), ("zoo.みんなの", ["zoo.みんな"]),
    ("見てzoo.org動物zoo.com/aを", ["zoo.org", "zoo.com/a"]), ("http://a_b.zoo.org", ["http://a_b.zoo.org"]),
    ("http://a_b.org", []), ("http://-zoo.org http://zoo-.org", []), ("zoo.nosuchtld", []), ("archive.tar.bz2", []),
    ("ann@zoo.org", []), ("@zoo.org #zoo.org $zoo.org", []), ("1.5 and 3.14", []), ("http://zoo", []),
    ("https://t.co/abc's", ["https://t.co/abc"]), (f"https://t.co/{'a' * 41}", []),
    (f"http://{'a' * 64}.org", []), (f"http://{'a' * 63}.org", [f"http://{'a' * 63}.org"]), ("http://xn--動.com", []),
    ("http://zoo.org?from=http://ape.org", ["http://zoo.org?from=http://ape.org"]), ("\u2066zoo.org\u2069", ["zoo.org"]),
])
def test_urls(text, found):
    """With a protocol any domain of a known top-level domain; without one, a Latin domain, in the middle of any script."""
    assert [url.url for url in urls.urls(text)] == found


def test_positions_count_code_points_and_the_first_of_two_that_overlap_stays():
    """Twitter's API v2 counts code points; an entity inside another is none."""
    found = entities.entities("🦭 @ann #zoo https://zoo.org/@bob#x $ZOO")

    assert [(entity.start, entity.end, entity.kind) for entity in found] == [
        (2, 6, "mentions"), (7, 11, "hashtags"), (12, 34, "urls"), (35, 39, "cashtags")]


def test_entities_as_json_have_the_shape_of_the_api():
    """`urls` show the full and a short form; the others their value without the sign."""
    shape = entities.unpacked(entities.packed("@Ann zoo.org/a/very/long/path/to/a/picture #Zoo $ZOO"))

    assert shape["mentions"] == [{"start": 0, "end": 4, "username": "Ann"}]
    assert shape["hashtags"] == [{"start": 43, "end": 47, "tag": "Zoo"}]
    assert shape["cashtags"] == [{"start": 48, "end": 52, "tag": "ZOO"}]
    assert shape["urls"] == [{
        "start": 5, "end": 42, "url": "zoo.org/a/very/long/path/to/a/picture",
        "expanded_url": "http://zoo.org/a/very/long/path/to/a/picture", "display_url": "zoo.org/a/very/long/path/to/a…"}]
    assert entities.packed(WALRUS) == ""
    assert entities.mentioned(entities.packed("@Ann @ann @bob")) == ("ann", "bob")
    assert entities.mentioned("") == ()


@pytest.mark.parametrize("text", [
    "http://zoo.org", "https://ann:pw@zoo.org:80/a;b?c=d/?#e", "http://192.168.0.1/", "http://[::1]:80/", "http://动物.com/Зоо"])
def test_a_valid_url(text):
    """By its syntax: wider than what is found in a text."""
    assert urls.is_url(text)


@pytest.mark.parametrize("text", [
    "zoo.org", "ftp://zoo.org", "http://zoo", "http://256.0.0.1", "http://-a.org", "http://zoo.org/a b", "http://a_b.org", ""])
def test_an_invalid_url(text):
    """Other protocols, invalid addresses and labels, blanks."""
    assert not urls.is_url(text)


@pytest.mark.parametrize("text", [
    "a." * 5000 + "b", "a" * 10_000, "http://" * 1400 + "a.b", "http://a.com/" + "(a" * 5000, "http://" + "é." * 5000 + "com",
    "#" * 10_000, "@" * 10_000, "😀\u200d" * 5000, "$a " * 3000])
def test_no_text_takes_long(text):
    """A text of the longest size must not block a service: the scans are linear."""
    entities.packed(text)
    started = time.process_time()
    entities.packed(text)

    assert time.process_time() - started < 1.0  # a quadratic scan takes half a minute
