"""Log lines: their fields, and how they are searched."""

import json
import logging

import pytest

from system.kernel.errors import WrongInput
from system.kernel.telemetry import logs, tracing
from system.observe import log_index
from tweetlab.lab import log_search
from tweetlab.lab.log_search import Ask

HOUR = 3600


def line(message, **more):
    """Return one line as a process of the lab writes it."""
    record = logging.LogRecord("tweetlab", more.pop("level", logging.WARNING), "x.py", 1, message, (), more.pop("exc_info", None))
    for name, value in more.items():
        setattr(record, name, value)
    return logs.Json("tweets", "tweets-1").format(record)


def test_a_line_contains_source_time_message_and_request():
    """One object per line, so that a shipper finds the end of an entry."""
    tracing.behind_mesh("GET /2/tweets", "r42", "", "tweets")
    text = line("the parrot\nsleeps", fields={"seeds": 3})
    entry = json.loads(text)

    assert "\n" not in text
    tracing.use(None)
    assert (entry["service"], entry["instance"], entry["level"]) == ("tweets", "tweets-1", "warning")
    assert (entry["message"], entry["request_id"], entry["fields"]) == ("the parrot\nsleeps", "r42", {"seeds": 3})
    assert entry["time"].endswith("Z") and entry["id"].startswith("tweets-1-")


def test_every_line_has_its_own_id():
    """The id is that of the indexed document: two lines with one id would be one document."""
    format_ = logs.Json("tweets", "tweets-1").format
    record = logging.LogRecord("tweetlab", logging.INFO, "x.py", 1, "again", (), None)

    assert len({json.loads(format_(record))["id"] for _ in range(100)}) == 100


def test_a_json_line_is_shown_as_text_and_any_other_line_unchanged():
    """`tweetlab logs` shows both the lab's JSON and the plain text of Cassandra."""
    entry = {"time": "2026-01-02T03:04:05.678Z", "instance": "tweets-1", "level": "error", "message": "no", "trace_id": "abc",
            "error": "Traceback"}

    assert logs.readable(json.dumps(entry)) == "2026-01-02T03:04:05.678Z tweets-1 ERROR no [trace_id=abc]\nTraceback"
    assert logs.readable("INFO main prose") == "INFO main prose"


def test_an_access_line_is_shown_with_its_status():
    """It has no message of its own."""
    entry = {"time": "2026-01-02T03:04:05.678Z", "instance": "gateway-1", "level": "warning", "logger": "access", "method": "GET",
            "path": "/2/tweets/1", "status": 404, "ms": 1.5}

    assert logs.readable(json.dumps(entry)) == "2026-01-02T03:04:05.678Z gateway-1 WARNING GET /2/tweets/1 404 1.5 ms"


def test_files_are_searched_as_the_index_is(tmp_path):
    """Words, trace, level, service and age: the same result without --observe.

    A line that is not JSON is `raw`.
    """
    (tmp_path / "tweets-1.log").write_text("\n".join([
        '{"time":"2026-01-02T03:00:00.000Z","level":"info","service":"tweets","instance":"tweets-1",'
        '"message":"the parrot sleeps"}',
        "Traceback of a parrot",
        '{"time":"2026-01-02T04:00:00.000Z","level":"error","service":"tweets","instance":"tweets-1","message":"no",'
        '"trace_id":"t"}',
    ]))

    def messages(**ask):
        return [entry["message"] for entry in log_search.in_files(tmp_path, Ask(**ask), 10)[0]]

    assert messages(words="Parrot sleeps") == ["the parrot sleeps"]
    assert messages(trace="t") == messages(level="error") == ["no"]
    assert messages(level="raw") == ["Traceback of a parrot", "no"]
    assert messages(service="users") == messages(words="parr") == []
    assert len(messages(service="tweets-1")) == 3
    now_s = 1_767_326_400.0  # 2026-01-02T04:00:00Z
    assert log_search.matches({"time": "2026-01-02T03:58:00.000Z"}, Ask(since_s=300), now_s)
    assert not log_search.matches({"time": "2026-01-02T03:00:00.000Z"}, Ask(since_s=300), now_s)


def test_the_oldest_hours_are_deleted_by_age_and_size():
    """At most a day and 256 MiB; the current hour is always kept."""
    now_s = 1_767_326_400.0  # 2026-01-02T04:00:00Z
    names = ["x-logs-2026-01-01-03", "x-logs-2026-01-02-02", "x-logs-2026-01-02-03", "x-logs-2026-01-02-04"]

    assert log_index.outdated([(name, 1) for name in names], now_s) == names[:1]
    assert log_index.outdated([(name, 200 * 2**20) for name in names], now_s) == names[:3]
    assert log_index.outdated([(names[3], 900 * 2**20)], now_s) == []


@pytest.mark.parametrize("service", ["nosuch", "user", "users-", "users-x", "redis"])
def test_a_service_that_writes_no_lines_is_refused(service):
    """An empty result would look like an absence of events."""
    with pytest.raises(WrongInput, match=r"known are .*users.*, or one instance"):
        Ask(service=service)


def test_instances_and_kinds_are_services():
    """With the names used in log lines."""
    assert [Ask(service=name).service for name in ("users", "users-12", "supervisor", "exporter-1")]
