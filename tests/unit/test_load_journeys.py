"""The request of each route, and the columns that are read from its reply."""

import orjson
import pytest

from tweetlab.load import tables
from tweetlab.load.generator import acknowledged, journeys, wire


def op(route, number=7, user=3, target=0):
    return journeys.Op(number, route, user, target, due_ns=10**10, seed=5)


def ok(body, **headers):
    return wire.Answer("ok", 200, 1, 2, orjson.dumps(body), headers=headers)


@pytest.mark.parametrize(("status", "outcome"), [
    (200, "ok"), (201, "ok"), (204, "ok"), (400, "fail"), (401, "fail"), (404, "fail"), (413, "fail"), (429, "fail"),
    (408, "info"), (409, "info"), (499, "info"), (500, "info"), (502, "info"), (503, "info"), (504, "info"), (302, "info"),
])
def test_only_a_certain_failure_is_a_failure(status, outcome):
    """4xx means that nothing happened, except where the request may still be in progress."""
    assert wire.outcome_of(status) == outcome


@pytest.mark.parametrize(("route", "target", "method", "path"), [
    ("home", 0, "GET", "/2/users/3/timelines/reverse_chronological?max_results=20&tweet.fields=author_id"),
    ("user_tweets", 9, "GET", "/2/users/9/tweets?max_results=20&tweet.fields=author_id"),
    ("tweet", 88, "GET", "/2/tweets/88?tweet.fields=author_id"),
    ("profile", 9, "GET", "/2/users/9"),
    ("follow", 9, "POST", "/2/users/3/following"),
    ("unfollow", 9, "DELETE", "/2/users/3/following/9"),
    ("like", 9, "POST", "/2/users/3/likes"),
    ("post", 0, "POST", "/2/tweets"),
    ("reply", 88, "POST", "/2/tweets"),
    ("search", 0, "GET", "/2/tweets/search/recent?query=skuvan&max_results=20&tweet.fields=author_id"),
])
def test_a_request_has_the_shape_of_the_public_api(route, target, method, path):
    """Ids are decimal strings."""
    request = journeys.REQUESTS[route](op(route, target=target), acknowledged.Ledger(()))

    assert (request.method, request.path) == (method, path)
    if route == "reply":
        assert orjson.loads(request.body)["reply"] == {"in_reply_to_tweet_id": "88"}
    if route == "follow":
        assert orjson.loads(request.body) == {"target_user_id": "9"}


def test_a_tenth_of_second_pages_are_far_down_where_the_cache_ends():
    """So every run also reads the tail beyond the cached 800.

    The same operation always makes the same choice.
    """
    newest = str(1 << 62)
    cursors = [journeys.second_cursor(op("home", number), newest) for number in range(1000)]

    assert set(cursors) == {newest, str(journeys.PAST_ID)}
    assert 70 <= cursors.count(str(journeys.PAST_ID)) <= 130
    assert cursors == [journeys.second_cursor(op("home", number), newest) for number in range(1000)]


def test_a_second_page_is_never_newer_than_the_first():
    """A reader that is already below that place continues."""
    assert {journeys.second_cursor(op("home", number), "20") for number in range(100)} == {"20"}


def test_every_post_has_a_unique_word():
    """A search for that word knows what it must find; the text is a function of the seed."""
    texts = [journeys.post_text(op("post", number)) for number in range(300)]

    assert len({word for _, word in texts}) == 300
    assert all(word in text and len(text) <= 280 for text, word in texts)
    assert journeys.post_text(op("post", 4)) == texts[4]


def test_a_delete_takes_the_tweet_of_its_row_once_and_another_one_if_it_is_missing():
    """Deletes only remove tweets of this run."""
    ledger = acknowledged.Ledger(doomed=[4])
    ledger.posted(acknowledged.Own(400, 3, 4, 0, "w4"))
    ledger.posted(acknowledged.Own(500, 8, 5, 0, "w5"))

    first = journeys.REQUESTS["delete"](op("delete", target=4), ledger)
    second = journeys.REQUESTS["delete"](op("delete", target=4), ledger)

    assert (first.path, first.user, first.known) == ("/2/tweets/400", 3, {"target": 400})
    assert (second.path, second.user) == ("/2/tweets/500", 8)
    assert journeys.REQUESTS["delete"](op("delete", target=4), ledger) is None


def test_replies_avoid_tweets_that_will_be_deleted():
    """Replies and searches choose among the others; searches only tweets that the index must contain by now."""
    ledger = acknowledged.Ledger(doomed=[4])
    ledger.posted(acknowledged.Own(400, 3, 4, 0, "w4"))
    assert ledger.to_answer(op("reply").draw()) is None

    ledger.posted(acknowledged.Own(500, 8, 5, 10**9, "w5"))
    assert ledger.to_answer(op("reply").draw()).tweet_id == 500
    assert ledger.to_find(op("search").draw(), now_ns=3 * 10**9) is None
    assert ledger.to_find(op("search").draw(), now_ns=4 * 10**9).word == "w5"


def test_a_page_is_read_with_authors_cursor_source_and_hops():
    """The history contains what the checkers need."""
    answer = ok({"data": [{"id": "30", "author_id": "7"}, {"id": "20", "author_id": "8"}], "meta": {"next_token": "20"}},
                **{"x-tweetlab-source": "hit,pull", "x-tweetlab-scanned": "20", "x-tweetlab-instance": "timelines-1",
                   "server-timing": "gateway;dur=1.5, timelines;dur=0.8, redis;dur=0.3, cassandra;dur=0.2"})

    row = journeys.read("home", answer)

    assert (row["page_ids"], row["page_authors"], row["cursor_out"]) == ([30, 20], [7, 8], "20")
    assert (row["source"], row["scanned_low"], row["instance"]) == ("hit,pull", 20, "timelines-1")
    assert (row["gateway_us"], row["service_us"], row["store_us"]) == (1500, 800, 500)


@pytest.mark.parametrize(("route", "body"), [
    ("home", {"data": [{"id": "30"}]}), ("post", {"data": {}}), ("tweet", {"data": None}), ("home", ["no", "object"]),
])
def test_a_reply_that_breaks_the_contract_is_not_ok(route, body):
    """2xx with another shape is `info`: the outcome is unknown."""
    row = journeys.read(route, ok(body))

    assert row["outcome"] == "info"
    assert row["error"].startswith("unreadable reply")


def test_a_send_without_an_end_becomes_an_unknown_row(tmp_path):
    """A killed process leaves unknown outcomes, not gaps; a line that the kill truncated is left out."""
    (tmp_path / "rows.jsonl").write_bytes(orjson.dumps(
        {"op": 0, "attempt": 0, "route": "home", "user": 3, "due_ns": 1, "sent_ns": 2, "done_ns": 3, "outcome": "ok",
         "page_ids": [5], "page_authors": [6], "tweet_id": 1_900_000_000_000_000_001}) + b"\n" + b'{"op": 1, "att')
    sends = [{"op": op, "attempt": 0, "sent_ns": 2, "route": "post", "user": 3, "key": f"k-{op}"} for op in (0, 1)]
    (tmp_path / "invokes.jsonl").write_bytes(b"".join(orjson.dumps(send) + b"\n" for send in sends))

    rows = tables.history(tmp_path)

    assert rows["op"].tolist() == [0, 1]
    assert rows["outcome"].tolist() == ["ok", "info"]
    assert rows["tweet_id"].tolist() == [1_900_000_000_000_000_001, 0]  # ids never pass through a float
    assert rows["key"].tolist() == ["", "k-1"]
    assert tables.to_parquet(tmp_path, tmp_path / "history.parquet") == 2


def test_a_history_without_rows_is_an_empty_table(tmp_path):
    """Even a load that was stopped immediately leaves a table."""
    assert len(tables.history(tmp_path)) == 0
    assert len(tables.probes(tmp_path)) == 0
