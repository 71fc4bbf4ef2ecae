"""Log lines: what stands in one, and how it is found again."""

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
    """Return one line as a process of ours writes it."""
    record = logging.LogRecord("tweetlab", more.pop("level", logging.WARNING), "x.py", 1, message, (), more.pop("exc_info", None))
    for name, value in more.items():
        setattr(record, name, value)
    return logs.Json("tweets", "tweets-1").format(record)


def test_a_line_says_who_when_what_and_for_whom():
    """One object a line, so that a shipper need not guess where an entry ends."""
    tracing.behind_mesh("GET /2/tweets", "r42", "", "tweets")
    text = line("the parrot\nsleeps", fields={"seeds": 3})
    told = json.loads(text)

    assert "\n" not in text
    tracing.use(None)
    assert (told["service"], told["instance"], told["level"]) == ("tweets", "tweets-1", "warning")
    assert (told["message"], told["request_id"], told["fields"]) == ("the parrot\nsleeps", "r42", {"seeds": 3})
    assert told["time"].endswith("Z") and told["id"].startswith("tweets-1-")


def test_no_two_lines_have_one_id():
    """The id is the document's: two lines under one id would be one."""
    format_ = logs.Json("tweets", "tweets-1").format
    record = logging.LogRecord("tweetlab", logging.INFO, "x.py", 1, "again", (), None)

    assert len({json.loads(format_(record))["id"] for _ in range(100)}) == 100


def test_a_line_is_shown_to_people_as_text_and_any_other_line_as_it_is():
    """`tweetlab logs` shows our JSON and Cassandra's prose alike."""
    told = {"time": "2026-01-02T03:04:05.678Z", "instance": "tweets-1", "level": "error", "message": "no", "trace_id": "abc",
            "error": "Traceback"}

    assert logs.readable(json.dumps(told)) == "2026-01-02T03:04:05.678Z tweets-1 ERROR no [trace_id=abc]\nTraceback"
    assert logs.readable("INFO main prose") == "INFO main prose"


def test_an_access_line_is_shown_with_its_answer():
    """It has no message of its own."""
    told = {"time": "2026-01-02T03:04:05.678Z", "instance": "gateway-1", "level": "warning", "logger": "access", "method": "GET",
            "path": "/2/tweets/1", "status": 404, "ms": 1.5}

    assert logs.readable(json.dumps(told)) == "2026-01-02T03:04:05.678Z gateway-1 WARNING GET /2/tweets/1 404 1.5 ms"


def test_files_are_searched_as_the_index_is(tmp_path):
    """Words, trace, level, service and age: the same answer without --observe. A line that is no JSON is `raw`."""
    (tmp_path / "tweets-1.log").write_text("\n".join([
        '{"time":"2026-01-02T03:00:00.000Z","level":"info","service":"tweets","instance":"tweets-1",'
        '"message":"the parrot sleeps"}',
        "Traceback of a parrot",
        '{"time":"2026-01-02T04:00:00.000Z","level":"error","service":"tweets","instance":"tweets-1","message":"no",'
        '"trace_id":"t"}',
    ]))

    def found(**ask):
        return [told["message"] for told in log_search.in_files(tmp_path, Ask(**ask), 10)[0]]

    assert found(words="Parrot sleeps") == ["the parrot sleeps"]
    assert found(trace="t") == found(level="error") == ["no"]
    assert found(level="raw") == ["Traceback of a parrot", "no"]
    assert found(service="users") == found(words="parr") == []
    assert len(found(service="tweets-1")) == 3
    now_s = 1_767_326_400.0  # 2026-01-02T04:00:00Z
    assert log_search.matches({"time": "2026-01-02T03:58:00.000Z"}, Ask(since_s=300), now_s)
    assert not log_search.matches({"time": "2026-01-02T03:00:00.000Z"}, Ask(since_s=300), now_s)


def test_the_oldest_hours_go_when_they_are_old_or_too_much():
    """At most a day and 256 MiB; the running hour stays whatever it holds."""
    now_s = 1_767_326_400.0  # 2026-01-02T04:00:00Z
    names = ["x-logs-2026-01-01-03", "x-logs-2026-01-02-02", "x-logs-2026-01-02-03", "x-logs-2026-01-02-04"]

    assert log_index.outdated([(name, 1) for name in names], now_s) == names[:1]
    assert log_index.outdated([(name, 200 * 2**20) for name in names], now_s) == names[:3]
    assert log_index.outdated([(names[3], 900 * 2**20)], now_s) == []


@pytest.mark.parametrize("service", ["nosuch", "user", "users-", "users-x", "redis"])
def test_a_service_that_writes_no_lines_is_refused(service):
    """Nothing found would look like nothing happened."""
    with pytest.raises(WrongInput, match=r"known are .*users.*, or one instance"):
        Ask(service=service)


def test_instances_and_kinds_are_services():
    """As lines name them."""
    assert [Ask(service=each).service for each in ("users", "users-12", "supervisor", "exporter-1")]
