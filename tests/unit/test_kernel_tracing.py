"""Sampling decisions, and the propagation of a trace between processes."""

import asyncio
import subprocess
import sys

import pytest

from system.kernel.telemetry import tracing
from system.stores.kafka import consumer as kafka_consumer

CLIENT = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"


class Spans:
    """An exporter that records its spans."""

    def __init__(self):
        self.started = []

    def start(self, service, name, parent, kind, attributes, links=()):
        span = FakeSpan(len(self.started) + 1, service, name, parent, kind, dict(attributes), tuple(links))
        self.started.append(span)
        return span

    def close(self):
        pass


class FakeSpan:
    def __init__(self, number, service, name, parent, kind, attributes, links):
        self.service, self.name, self.parent, self.kind = service, name, parent, kind
        self.attributes, self.links = attributes, links
        self.failed, self.ended = "", False
        self.traceparent = f"00-{parent[3:35] or 'c' * 32}-{number:016x}-01"

    def set_attribute(self, name, value):
        self.attributes[name] = value

    def fail(self, kind, detail):
        self.failed = kind

    def end(self):
        self.ended = True


@pytest.fixture
def spans():
    exporter = Spans()
    tracing.use(exporter, 1.0)
    yield exporter
    tracing.use(None)


def test_a_client_may_name_the_trace_but_not_decide_that_it_is_sampled(spans):
    """The gateway decides: a client's flag must not make tracing expensive."""
    tracing.use(spans, 0.0)

    span = tracing.at_edge("GET /2/users/me", "r1", {b"traceparent": CLIENT.encode()})

    assert not span.sampled and spans.started == []
    assert span.traceparent == CLIENT[:-2] + "00"


@pytest.mark.parametrize("parent", ["", "00-0-0-01", CLIENT.upper(), "00-" + "0" * 32 + CLIENT[35:], CLIENT + "x"])
def test_an_invalid_traceparent_starts_a_new_trace(spans, parent):
    """A client's header is never used unchecked."""
    span = tracing.at_edge("GET /2/users/me", "r1", {b"traceparent": parent.encode()})

    assert span.sampled and spans.started[0].parent == ""


def test_clients_may_request_a_few_traces_per_second(spans):
    """`x-tweetlab-trace: 1` samples a request; a thousand of them cost no more than five."""
    tracing.use(spans, 0.0)

    sampled = [tracing.at_edge("GET /2/users/me", f"r{n}", {b"x-tweetlab-trace": b"1"}).sampled for n in range(1_000)]

    assert 5 <= sum(sampled) <= 10  # the test may span the start of two seconds


def test_a_service_follows_the_decision_of_the_gateway(spans):
    """Parent-based: 01 is sampled, 00 is not, and its id is kept for the log lines."""
    assert tracing.behind_mesh("GET /2/tweets", "r1", CLIENT, "tweets").sampled
    unsampled = tracing.behind_mesh("GET /2/tweets", "r1", CLIENT[:-2] + "00", "tweets")

    assert not unsampled.sampled and unsampled.trace_id == CLIENT[3:35]


def test_an_event_continues_the_trace_of_its_request(spans):
    """request -> Event.trace -> header of the record -> span of the consumer: one trace, each a child of the
    previous.
    """
    tracing.behind_mesh("POST /2/tweets", "r7", CLIENT, "tweets")
    carried = tracing.carried("r7")
    published = tracing.produced(carried, "new_tweet")
    body = b'{"id":"1","payload":{},"trace":"' + carried.encode() + b'"}'
    record = kafka_consumer.read("new_tweet", 0, 0, b"1", body, [("traceparent", published.traceparent.encode())])
    with tracing.consumed(record.event.trace, "new_tweet") as span:
        assert span.request_id == "r7"

    server, producer, consumer = spans.started
    assert (server.kind, producer.kind, consumer.kind) == ("server", "producer", "consumer")
    assert (producer.parent, consumer.parent) == (server.traceparent, published.traceparent)
    assert consumer.traceparent[3:35] == CLIENT[3:35] and consumer.ended


def test_an_event_of_an_unsampled_request_carries_only_its_request_id():
    """So log lines of workers still contain the request; nothing else is stored with the event."""
    tracing.behind_mesh("POST /2/tweets", "r7", "", "tweets")

    assert tracing.carried("r7") == "r7"
    assert tracing.produced("r7", "new_tweet") is None


def test_events_handled_together_are_linked_to_the_first(spans):
    """Shared work is recorded once, below the first; the others link to it."""
    with tracing.consumed_together([("r1", "new_tweet"), (f"r2 {CLIENT}", "new_tweet"), (f"r3 {CLIENT}", "new_tweet")]):
        assert tracing.current().request_id == "r2"

    assert [span.links for span in spans.started] == [(), (spans.started[0].traceparent,)]
    assert all(span.ended for span in spans.started)


def test_a_server_error_marks_the_span_and_a_client_error_does_not(spans):
    """From 500 on the service failed; a 404 is a valid response."""
    tracing.behind_mesh("GET /2/tweets", "r1", CLIENT, "tweets").answer(404)
    tracing.behind_mesh("GET /2/tweets", "r2", CLIENT, "tweets").answer(503, TimeoutError("late"))

    assert [span.failed for span in spans.started] == ["", "TimeoutError"]
    assert spans.started[1].attributes["http.response.status_code"] == 503


def test_calls_to_a_store_are_spans_only_inside_a_sampled_request(spans):
    """The whole port is wrapped; handlers are not involved."""
    class Store:
        async def get(self, key):
            return key

    store = tracing.traced(Store(), "redis")

    async def ask():
        assert await store.get(1) == 1
        tracing.behind_mesh("GET /2/tweets", "r1", CLIENT, "tweets")
        assert await store.get(2) == 2

    asyncio.run(ask())

    assert [(span.name, span.kind) for span in spans.started[1:]] == [("redis get", "client")]


def test_without_a_collector_opentelemetry_is_not_imported():
    """The SDK and its exporter take 9 MiB in each of a dozen processes."""
    modules = "system.services.gateway.app, system.services.tweets.app, system.services.fanout.worker, system.stores.kafka.log"
    code = f"import sys, {modules}; print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exp'))])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("header", [None, b"", b"nonsense", b"\xff"])
def test_a_record_with_an_invalid_trace_is_an_event_without_one(header):
    """Kafka allows null headers, and any writer to the topic may set any value."""
    record = kafka_consumer.read("new_tweet", 0, 0, b"1", b'{"id":"1","payload":{},"trace":"r7"}', [("traceparent", header)])

    with tracing.consumed(record.event.trace, "new_tweet") as span:
        assert span.request_id == "r7"
