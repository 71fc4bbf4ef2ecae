"""What may be posted, signed up with and uploaded."""

from __future__ import annotations

import pytest

from system.kernel import ids
from system.kernel.errors import NotFound, TooLarge, WrongInput
from system.kernel.events import Tweet
from system.services.media import policy as media
from system.services.tweets import policy
from system.services.tweets.policy import Draft
from system.services.users import policy as users


@pytest.mark.parametrize("text", [
    "a", "x" * 280, "日" * 140, "line\nline", "👩‍👩‍👧‍👦" * 140, f"{'x' * 256} https://zoo.org/{'a' * 500}"])
def test_a_text_that_counts_1_to_280_is_a_tweet(text):
    """As Twitter counts it: Chinese and Japanese 2, an emoji 2 in all, a URL 23."""
    assert policy.draft({"text": text}) == Draft(text)


@pytest.mark.parametrize("body", [
    {}, {"text": ""}, {"text": "  \n"}, {"text": "\u200b\u2060 \u3164"},
    {"text": "x" * 281}, {"text": 7}, {"text": None}, [], "text", None, {"text": "a\x00b"},
    {"text": "日" * 141}, {"text": "👩‍👩‍👧‍👦" * 141}, {"text": "x" * 257 + " https://zoo.org"}, {"text": "a\ufffeb"},
    {"text": "\ufeffa"},
    {"text": f"https://zoo.org/{'a' * 10_000}"},
    {"text": "half \ud800"}, {"text": "a", "reply": 7}, {"text": "a", "reply": {"in_reply_to_tweet_id": 7}},
    {"text": "a", "reply": {"in_reply_to_tweet_id": "seven"}}, {"text": "a", "media": {}},
    {"text": "a", "media": {"media_ids": []}},
    {"text": "a", "media": {"media_ids": ["1_1"] * 5}}, {"text": "a", "media": {"media_ids": ["../x"]}},
    {"text": "a", "media": {"media_ids": ["7_8", "7_9", "7_8"]}},
])
def test_anything_else_is_refused(body):
    """400 with the field, its value and its bound."""
    with pytest.raises(WrongInput):
        policy.draft(body)


def test_a_picture_needs_no_text():
    """As on Twitter."""
    assert policy.draft({"media": {"media_ids": ["7_8"]}}) == Draft("", None, ("7_8",))


def test_equal_bodies_have_the_same_hash_and_others_differ():
    """The hash is of the content, not of the bytes."""
    first = policy.body_hash(policy.draft({"text": "a", "reply": {"in_reply_to_tweet_id": "7"}}))

    assert first == policy.body_hash(policy.draft({"reply": {"in_reply_to_tweet_id": "7"}, "text": "a"}))
    others = [Draft("a"), Draft("b", 7), Draft("a", 7, ("1_1",))]
    assert len({first, *map(policy.body_hash, others)}) == 4


def test_a_reply_belongs_to_the_conversation_of_its_parent():
    """The first tweet of a thread names the conversation."""
    root = policy.tweet(100 << 22, 1, Draft("root"), None)
    reply = policy.tweet(200 << 22, 2, Draft("reply", root.id), root)
    again = policy.tweet(300 << 22, 1, Draft("again", reply.id), reply)

    assert (root.conversation_id, reply.conversation_id, again.conversation_id) == (root.id, root.id, root.id)
    assert reply.created_ms == ids.EPOCH_MS + 200


@pytest.mark.parametrize(("parent", "replay", "allowed"), [
    (None, False, False), (None, True, True),
    (Tweet(1, 1, "x", 0, 1), False, True), (Tweet(1, 1, "x", 0, 1, deleted=True), False, False),
    (Tweet(1, 1, "x", 0, 1, deleted=True), True, True),
])
def test_only_an_existing_tweet_can_be_replied_to_unless_the_reply_exists_already(parent, replay, allowed):
    """A replay of an accepted reply gets the response of the first try."""
    assert policy.may_reply(parent, replay) is allowed


@pytest.mark.parametrize("text", ["", ",", ",".join("7" * 1 for _ in range(101)), "7,x"])
def test_a_list_of_ids_holds_1_to_100_whole_numbers(text):
    """Anything else is 400."""
    with pytest.raises(WrongInput):
        policy.id_list(text)


def test_an_id_that_is_named_twice_is_looked_up_once():
    """In the order of the request."""
    assert policy.id_list("9,7,9") == [9, 7]


@pytest.mark.parametrize(("value", "good"), [("Ann_1", True), ("a" * 15, True), ("a" * 16, False), ("", False), ("ann!", False),
                                             ("änn", False), (7, False), (None, False), ("ann\n", False)])
def test_a_username_has_1_to_15_letters_digits_or_underscores(value, good):
    """Twitter's own rule, for the whole text."""
    if good:
        assert users.check_username(value) == value
        return
    with pytest.raises(WrongInput):
        users.check_username(value)


def test_a_short_password_is_refused_and_not_in_the_message():
    """The message states the length, never the password."""
    with pytest.raises(WrongInput) as refusal:
        users.check_password("hunter2")

    assert "7 characters" in str(refusal.value) and "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(("body", "problem"), [
    ({"media_type": "image/png", "total_bytes": 5 * 1024 * 1024 + 1}, TooLarge),
    ({"media_type": "image/bmp", "total_bytes": 1}, WrongInput),
    ({"media_type": "image/png", "total_bytes": 0}, WrongInput), ({"media_type": "image/png"}, WrongInput), ([], WrongInput),
])
def test_a_picture_is_png_jpeg_gif_or_webp_of_at_most_5_mib(body, problem):
    """Checked before the upload, and after it."""
    with pytest.raises(problem):
        media.wanted(body)


@pytest.mark.parametrize("text", ["", "7", "7_", "_7", "a_b", "1_2_3", "../1_2"])
def test_a_malformed_media_id_is_not_found(text):
    """404, and never a key outside the media folder."""
    with pytest.raises(NotFound):
        media.owner_of(text)
