"""Traces in Jaeger's JSON: read, drawn as text, and summarized for a run's record."""

import pytest

from system.kernel.errors import WrongInput
from tweetlab.commands import observe
from tweetlab.lab import traces


def span(number, name, start_us, us, process="p1", above=None, **tags):
    """Return one span in Jaeger's JSON."""
    attributes = [{"key": key, "value": value} for key, value in tags.items()]
    refs = [{"refType": "CHILD_OF", "spanID": f"s{above}"}] if above else []
    return {"spanID": f"s{number}", "operationName": name, "startTime": start_us, "duration": us, "processID": process,
            "references": refs, "tags": attributes}


FAILED = {"otel.status_code": "ERROR", "error.type": "Unavailable"}
RAW = {
    "traceID": "ab" * 16,
    "processes": {"p1": {"serviceName": "gateway", "tags": []}, "p2": {"serviceName": "fanout", "tags": []}},
    "spans": [
        span(4, "new_tweet process", 1_030_000, 10_000, "p2", above=3, **FAILED),
        span(1, "POST /2/tweets", 1_000_000, 20_000),
        span(3, "redis add_own", 1_012_000, 4_000, above=2, **{"db.system.name": "redis"}),
        span(2, "call tweets", 1_002_000, 16_000, above=1),
        span(5, "redis push_chunk", 1_032_000, 5_000, "p2", above=4, **{"db.system.name": "redis"}),
    ],
}


def test_parents_precede_their_children_in_any_input_order():
    """Jaeger returns spans in no order."""
    trace = traces.read(RAW)

    assert [(step.depth, step.service, step.name) for step in trace.steps] == [
        (0, "gateway", "POST /2/tweets"), (1, "gateway", "call tweets"), (2, "gateway", "redis add_own"),
        (3, "fanout", "new_tweet process"), (4, "fanout", "redis push_chunk")]
    assert (trace.ms, trace.all_ms, trace.failed) == (20.0, 40.0, False)


def test_a_span_whose_parent_is_missing_is_shown_at_the_top():
    """A missing parent must not hide its children."""
    trace = traces.read({**RAW, "spans": [row for row in RAW["spans"] if row["spanID"] != "s3"]})

    assert [step.depth for step in trace.steps] == [0, 1, 0, 1]


def test_a_trace_is_drawn_with_a_bar_per_span_and_a_mark_on_failures():
    """The waterfall of `tweetlab traces ID`."""
    lines = traces.lines(traces.read(RAW), width=20)

    assert lines[0] == f"trace {'ab' * 16}: POST /2/tweets, 20.0 ms; until its last span 40.0 ms"
    assert lines[1].endswith("20.00 ms |==========          |")
    assert lines[4].endswith("10.00 ms |               =====|  ! Unavailable")


def test_a_record_counts_only_calls_before_the_reply():
    """Fan-out starts after the reply: it is in the trace, but not part of the request's time."""
    summary = traces.summary(traces.read(RAW), "http://127.1.72.1:16686")

    assert summary["parts"] == {"call tweets": 16.0, "redis add_own": 4.0}
    assert summary["url"] == f"http://127.1.72.1:16686/trace/{'ab' * 16}"


@pytest.mark.parametrize("text", ["nosuch", "a" * 33, "0123 456", "٣"])
def test_an_invalid_trace_id_is_refused_before_jaeger_is_queried(text):
    """Jaeger's own error would be less clear."""
    with pytest.raises(WrongInput, match="is not a trace id"):
        observe.traces(text)
