"""Who decides what is traced, and how a trace goes from process to process."""

import asyncio
import subprocess
import sys

import pytest

from system.kernel.telemetry import tracing
from system.stores.kafka import consumer as kafka_consumer

CLIENT = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"


class Spans:
    """An exporter that keeps what it is given."""

    def __init__(self):
        self.started = []

    def start(self, service, name, parent, kind, attributes, links=()):
        span = Kept(len(self.started) + 1, service, name, parent, kind, dict(attributes), tuple(links))
        self.started.append(span)
        return span

    def close(self):
        pass


class Kept:
    def __init__(self, number, service, name, parent, kind, told, links):
        self.service, self.name, self.parent, self.kind, self.told, self.links = service, name, parent, kind, told, links
        self.failed, self.ended = "", False
        self.traceparent = f"00-{parent[3:35] or 'c' * 32}-{number:016x}-01"

    def tell(self, name, value):
        self.told[name] = value

    def fail(self, kind, detail):
        self.failed = kind

    def end(self):
        self.ended = True


@pytest.fixture
def spans():
    kept = Spans()
    tracing.use(kept, 1.0)
    yield kept
    tracing.use(None)


def test_a_client_may_name_the_trace_but_not_decide_that_it_is_sampled(spans):
    """The sampling decision is the gateway's: a flag from outside must not make tracing dear."""
    tracing.use(spans, 0.0)

    span = tracing.at_edge("GET /2/users/me", "r1", {b"traceparent": CLIENT.encode()})

    assert not span.sampled and spans.started == []
    assert span.traceparent == CLIENT[:-2] + "00"


@pytest.mark.parametrize("parent", ["", "00-0-0-01", CLIENT.upper(), "00-" + "0" * 32 + CLIENT[35:], CLIENT + "x"])
def test_what_is_no_traceparent_begins_a_trace_of_its_own(spans, parent):
    """A header from outside is never taken over unread."""
    span = tracing.at_edge("GET /2/users/me", "r1", {b"traceparent": parent.encode()})

    assert span.sampled and spans.started[0].parent == ""


def test_clients_may_ask_for_a_few_traces_a_second(spans):
    """`x-tweetlab-trace: 1` shows one's own request; a thousand of them cost no more than five."""
    tracing.use(spans, 0.0)

    sampled = [tracing.at_edge("GET /2/users/me", f"r{n}", {b"x-tweetlab-trace": b"1"}).sampled for n in range(1_000)]

    assert 5 <= sum(sampled) <= 10  # the test may see two seconds begin


def test_a_service_obeys_the_gateway(spans):
    """Parent-based: 01 is sampled, 00 is not, and its id is kept for the log lines."""
    assert tracing.behind_mesh("GET /2/tweets", "r1", CLIENT, "tweets").sampled
    told = tracing.behind_mesh("GET /2/tweets", "r1", CLIENT[:-2] + "00", "tweets")

    assert not told.sampled and told.trace_id == CLIENT[3:35]


def test_an_event_goes_on_with_the_trace_of_its_request(spans):
    """request -> Event.trace -> header of the record -> span of the consumer: one trace, each below the one before."""
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


def test_an_event_of_an_unsampled_request_carries_its_request_id_alone():
    """So the log lines of workers still say for whom; nothing else is stored with the event."""
    tracing.behind_mesh("POST /2/tweets", "r7", "", "tweets")

    assert tracing.carried("r7") == "r7"
    assert tracing.produced("r7", "new_tweet") is None


def test_events_handled_together_are_linked_to_the_first(spans):
    """What is done for all stands once, below the first; the others point to it."""
    with tracing.consumed_together([("r1", "new_tweet"), (f"r2 {CLIENT}", "new_tweet"), (f"r3 {CLIENT}", "new_tweet")]):
        assert tracing.current().request_id == "r2"

    assert [each.links for each in spans.started] == [(), (spans.started[0].traceparent,)]
    assert all(each.ended for each in spans.started)


def test_an_error_marks_the_span_and_a_refusal_does_not(spans):
    """From 500 on the service failed; a 404 is an answer."""
    tracing.behind_mesh("GET /2/tweets", "r1", CLIENT, "tweets").answer(404)
    tracing.behind_mesh("GET /2/tweets", "r2", CLIENT, "tweets").answer(503, TimeoutError("late"))

    assert [span.failed for span in spans.started] == ["", "TimeoutError"]
    assert spans.started[1].told["http.response.status_code"] == 503


def test_calls_to_a_store_are_spans_only_inside_a_sampled_request(spans):
    """A port is watched as a whole: no handler knows of it."""
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


def test_without_a_collector_nothing_of_opentelemetry_is_loaded():
    """What is not observed carries no weight: the SDK and its exporter are 9 MiB in each of a dozen processes."""
    modules = "system.services.gateway.app, system.services.tweets.app, system.services.fanout.worker, system.stores.kafka.log"
    code = f"import sys, {modules}; print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exp'))])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("header", [None, b"", b"nonsense", b"\xff"])
def test_a_record_whose_trace_is_nonsense_is_an_event_without_one(header):
    """Kafka allows a header to be null, and whoever writes to the topic may set any."""
    record = kafka_consumer.read("new_tweet", 0, 0, b"1", b'{"id":"1","payload":{},"trace":"r7"}', [("traceparent", header)])

    with tracing.consumed(record.event.trace, "new_tweet") as span:
        assert span.request_id == "r7"
