"""What may be uploaded, who may read it, what is removed: only the decisions."""

import pytest

from system.kernel.errors import NotFound, TooLarge, WrongInput
from system.services.media import policy
from system.services.media.policy import Wanted

PNG = b"\x89PNG\r\n\x1a\n"
SHA = "ab" * 32


@pytest.mark.parametrize(("body", "expected"), [
    ({"media_type": "image/png", "total_bytes": 8}, Wanted("image/png", 8)),
    ({"media_type": "image/gif", "total_bytes": 5242880.0}, Wanted("image/gif", 5_242_880)),
    ({"media_type": "image/webp", "total_bytes": 9, "sha256": SHA, "media_category": "tweet_image"},
     Wanted("image/webp", 9, SHA)),
])
def test_an_upload_declares_type_and_size_and_optionally_the_digest(body, expected):
    """JSON's 8.0 is 8; Twitter's clients also name the category."""
    assert policy.wanted(body) == expected


@pytest.mark.parametrize(("body", "kind", "names"), [
    ([], WrongInput, "list"),
    ({"media_type": "image/png"}, WrongInput, "total_bytes"),
    ({"media_type": "image/png", "total_bytes": 5, "media_category": "dm_image"}, WrongInput, "dm_image"),
    ({"media_type": "image/png", "total_bytes": 5, "additional_owners": ["7"]}, WrongInput, "additional_owners"),
    ({"media_type": "image/png", "total_bytes": True}, WrongInput, "total_bytes"),
    ({"media_type": "image/png", "total_bytes": 0}, WrongInput, "total_bytes"),
    ({"media_type": "image/png", "total_bytes": "8"}, WrongInput, "total_bytes"),
    ({"media_type": "image/png", "total_bytes": 8.5}, WrongInput, "total_bytes"),
    ({"media_type": "image/png", "total_bytes": 5, "sha256": ""}, WrongInput, "sha256"),
    ({"media_type": "image/png", "total_bytes": 5, "sha256": None}, WrongInput, "sha256"),
    ({"media_type": "image/png", "total_bytes": 5_242_881}, TooLarge, "5242881"),
    ({"media_type": "text/html", "total_bytes": 5}, WrongInput, "text/html"),
    ({"media_type": "image/svg+xml", "total_bytes": 5}, WrongInput, "svg"),
    ({"media_type": "image/png", "total_bytes": 5, "sha256": "xyz"}, WrongInput, "sha256"),
    ({"media_type": "image/png", "total_bytes": 5, "sha256": SHA.upper()}, WrongInput, "sha256"),
    ({"media_type": "image/png", "total_bytes": 5, "sha256": 7}, WrongInput, "sha256"),
])
def test_an_invalid_upload_is_refused_by_field_and_value(body, kind, names):
    """400 or 413, before a URL is signed."""
    with pytest.raises(kind, match=names.replace("+", r"\+")):
        policy.wanted(body)


@pytest.mark.parametrize(("content_type", "start", "fits"), [
    ("image/png", PNG + b"rest", True),
    ("image/png", b"\xff\xd8\xff\xe0", False),
    ("image/jpeg", b"\xff\xd8\xff\xdb", True),
    ("image/jpeg", b"<html><script>", False),
    ("image/gif", b"GIF89a....", True),
    ("image/gif", b"GIF87a", True),
    ("image/gif", b"GIF88a", False),
    ("image/webp", b"RIFF\n\x00\x00\x00WEBPVP8 ", True),
    ("image/webp", b"RIFF\x00\x00\x00\x00WAVEfmt ", False),
    ("image/png", b"", False),
])
def test_the_first_bytes_must_match_the_type(content_type, start, fits):
    """A page declared as a picture is not a picture."""
    assert policy.looks_like(content_type, start) is fits


@pytest.mark.parametrize(("stored", "start", "says"), [
    (Wanted("image/png", 8, SHA), PNG, ""),
    (Wanted("image/png", 9, SHA), PNG, "9 bytes were uploaded, but 8 were declared"),
    (Wanted("text/html", 8, SHA), PNG, "text/html"),
    (Wanted("image/png", 8, "cd" * 32), PNG, "SHA-256"),
    (Wanted("image/png", 8, SHA), b"MZ\x90", "4d 5a 90"),
])
def test_finalize_says_what_is_wrong_with_the_bytes(stored, start, says):
    """Size, type, digest, first bytes: one sentence with both values; "" if all match."""
    mismatch = policy.mismatch(Wanted("image/png", 8, SHA), stored, start)

    assert says in mismatch and bool(mismatch) is bool(says)


def test_an_undeclared_digest_is_not_compared():
    """The client may leave the digest to the service."""
    assert policy.mismatch(Wanted("image/png", 8), Wanted("image/png", 8, SHA), PNG) == ""


@pytest.mark.parametrize(("state", "owner", "other"), [
    ("initialised", False, False), ("finalised", True, False), ("attached", True, True), ("condemned", False, False),
])
def test_a_picture_is_shown_by_its_state(state, owner, other):
    """Unchecked: to nobody; checked: to the owner; attached: to the readers of the author."""
    assert (policy.is_shown(state, True), policy.is_shown(state, False)) == (owner, other)


@pytest.mark.parametrize("text", ["", "7", "7_", "_7", "7_8_9", "7_x", "../7_8", "7_" + "9" * 20, "٧_٨"])
def test_a_malformed_id_is_not_found(text):
    """It never becomes a key of storage."""
    with pytest.raises(NotFound):
        policy.owner_of(text)


def test_one_key_is_one_medium_of_one_owner():
    """A repeat finds the first; the same key of another user does not."""
    assert policy.number_of(7, "k") == policy.number_of(7, "k") < 2**62
    assert len({policy.number_of(7, "k"), policy.number_of(8, "k"), policy.number_of(7, "l")}) == 3


def test_a_condemned_picture_is_removed_again_when_its_urls_have_expired():
    """Until then its upload URL could restore the bytes."""
    assert policy.again_s(120.0, 0) == policy.PUT_LIFE_S + policy.LATE_S
    assert policy.again_s(5_000.0, 0) == 5_000.0


def test_the_row_of_a_condemned_picture_is_removed_when_no_slow_put_can_still_end():
    """A PUT that started in the last second of its URL may be very slow.

    The third removal, a day later, is the last.
    """
    assert [policy.again_s(120.0, sweeps) for sweeps in (1, 2, 3)] == [policy.LONGEST_PUT_S, None, None]
    assert policy.LONGEST_PUT_S >= 3_600


@pytest.mark.parametrize(("word", "result"), [
    ("HIT", "hit"), ("MISS", "miss"), ("EXPIRED", "miss"), ("STALE", "stale"), ("UPDATING", "stale"), ("REVALIDATED", "hit"),
    ("-", "miss"),
])
def test_nginx_statuses_become_results_of_the_cache_metric(word, result):
    """Only a response from the cache is a hit."""
    assert policy.cache_result(word) == result
