"""A fault under load logs one summary line per kind and target, not one per attempt."""

import logging

import pytest

from system.kernel.errors import StoreUnavailable
from system.kernel.telemetry import connection_errors, logs
from system.kernel.telemetry.connection_errors import CLOSED, LATE, REFUSED, UNREACHABLE, ClientError, Counter

ENDLESS = float("inf")


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        (
            "Unable connect to \"127.1.9.1:9092\": [Errno 111] Connect call failed ('127.1.9.1', 9092)",
            REFUSED,
            "127.1.9.1:9092",
        ),
        (
            "Unable connect to node with id 1: [Errno 111] Connect call failed ('127.1.9.1', 9092)",
            REFUSED,
            "127.1.9.1:9092",
        ),
        ("[Errno 110] Connect call failed ('127.1.9.1', 9092)", LATE, "127.1.9.1:9092"),
        (
            "Failed fetch messages from 1: NodeNotReadyError: Attempt to send a request to node",
            UNREACHABLE,
            "",
        ),
        ("Unable to update metadata from [1]", UNREACHABLE, ""),
        (
            "Error 111 connecting to 127.1.3.1:6379. Connect call failed ('127.1.3.1', 6379).",
            REFUSED,
            "127.1.3.1:6379",
        ),
        ("Connection closed by server.", CLOSED, ""),
        (
            'connection to server at "127.1.6.1", port 5432 failed: Connection refused',
            REFUSED,
            "127.1.6.1:5432",
        ),
        (
            "Node <AiohttpHttpNode(http://127.1.7.1:9200)> has failed for 2 times in a row, putting on 2 s",
            UNREACHABLE,
            "127.1.7.1:9200",
        ),
        (
            "HTTPConnectionPool(host='127.1.8.1', port=9000): Max retries: [Errno 113] No route to host",
            UNREACHABLE,
            "127.1.8.1:9000",
        ),
        (
            '[control connection] Error connecting to 127.1.5.1:9042: Error(111, "Connection refused")',
            REFUSED,
            "127.1.5.1:9042",
        ),
        (
            "Error attempting to reconnect to 127.1.5.1:9042, retry in 2.0 s: [Errno 104] reset by peer",
            CLOSED,
            "127.1.5.1:9042",
        ),
        ("Host 127.1.5.1:9042 has been marked down", UNREACHABLE, "127.1.5.1:9042"),
        ("ECONNREFUSED", REFUSED, ""),
        ("EPIPE", CLOSED, ""),
        ("timeout", LATE, ""),
    ],
)
def test_kind_and_target_are_parsed_from_the_message_of_each_client(text, kind, target):
    """aiokafka, redis, psycopg, elasticsearch, urllib3 (MinIO), Cassandra's driver and the load generator."""
    assert connection_errors.connection_error(text) == ClientError(kind, target)


@pytest.mark.parametrize(
    "text",
    [
        "topic new_tweet:3 goes to the dead letters: no author",
        "worker number 7 was renewed",
        "Server version 127.0.0.1 is old",
        "Cluster called without a policy",
    ],
)
def test_other_messages_are_not_counted_as_connection_errors(text):
    """Only connection errors may be suppressed."""
    assert connection_errors.connection_error(text) is None


def clock(at_s):
    return f"{at_s:.1f} s"


def test_143_refused_connections_are_one_line_with_first_and_last_time():
    """A burst ends 5 s after its last error, not at every pause between two attempts."""
    counter = Counter()
    for n in range(143):
        counter.add("refused", "connection refused by 127.1.9.1:8080", 30.1 + 3.3 * n / 142)
    assert counter.due(38.3) == []

    (burst,) = counter.due(38.5)

    assert burst.line(clock) == "connection refused by 127.1.9.1:8080: 143 times between 30.1 s and 33.4 s"
    assert len(counter) == 0


def test_a_long_outage_is_logged_in_parts():
    """An outage of an hour is visible before its end."""
    counter = Counter()
    for second in range(40):
        counter.add("k", "no connection to 127.1.5.1:9042", float(second))
    assert [burst.count for burst in counter.due(30.0)] == [40]
    assert counter.add("k", "no connection to 127.1.5.1:9042", 41.0)
    assert [burst.line(clock) for burst in counter.due(ENDLESS)] == [
        "no connection to 127.1.5.1:9042: once at 41.0 s"
    ]


@pytest.fixture
def logged():
    """Loggers whose records pass the filter into a list of (logger, message)."""
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append((record.name, record.getMessage()))
    repeats = logs.Repeats(lambda wall_s: "12:00:30.1")
    handler.addFilter(repeats)
    loggers = [logging.getLogger(name) for name in ("aiokafka.client", "cassandra.pool", "tweetlab")]
    for logger in loggers:
        logger.addHandler(handler)
    yield lines, repeats
    for logger in loggers:
        logger.removeHandler(handler)


def test_a_hundred_records_of_client_libraries_become_one_counted_line_each(logged):
    """Single connection errors of a library do not pass; other records pass immediately."""
    lines, repeats = logged
    for attempt in range(100):
        logging.getLogger("aiokafka.client").error(
            'Unable connect to "127.1.9.1:9092": [Errno 111] Connect call failed'
        )
        logging.getLogger("cassandra.pool").warning(
            "Error attempting to reconnect to 127.1.5.1:9042, retry in %s s", attempt
        )
    logging.getLogger("cassandra.pool").warning("schema disagreement")
    assert lines == [("cassandra.pool", "schema disagreement")]

    repeats.flush()

    assert lines[1:] == [
        ("tweetlab", "connection refused by 127.1.9.1:9092: 100 times between 12:00:30.1 and 12:00:30.1"),
        ("tweetlab", "no connection to 127.1.5.1:9042: 100 times between 12:00:30.1 and 12:00:30.1"),
    ]


def test_the_first_own_message_passes_and_its_repeats_are_counted(logged):
    """'left to the relay' is new information the first time; so is a message of another kind."""
    lines, repeats = logged
    own = logging.getLogger("tweetlab")
    for _ in range(20):
        own.warning(
            "%d events are left to the relay: %s",
            3,
            "Kafka: [Errno 111] Connect call failed ('127.1.9.1', 9092)",
        )
    own.warning(
        "revocations could not be read: %s", "Error 111 connecting to 127.1.3.1:6379. Connection refused."
    )
    first = "3 events are left to the relay: Kafka: [Errno 111] Connect call failed ('127.1.9.1', 9092)"
    other = "revocations could not be read: Error 111 connecting to 127.1.3.1:6379. Connection refused."
    assert [text for _, text in lines] == [first, other]

    repeats.flush()

    assert [text for _, text in lines[2:]] == [f"{first}: 20 times between 12:00:30.1 and 12:00:30.1"]


def test_an_unavailable_store_counts_regardless_of_the_wording(logged):
    """Background loops retry until the store is back, and log each attempt."""
    lines, repeats = logged
    for _ in range(3):
        logging.getLogger("tweetlab").warning(
            "the outbox waits: %s", StoreUnavailable("Cassandra did not read")
        )
    repeats.flush()

    assert [text for _, text in lines] == [
        "the outbox waits: Cassandra did not read",
        "the outbox waits: Cassandra did not read: 3 times between 12:00:30.1 and 12:00:30.1",
    ]


def test_without_log_setup_the_last_resort_handler_counts_too():
    """The command's own process connects to the stores as well; the filter is added once."""
    logs.count_on_terminal()
    logs.count_on_terminal()
    assert sum(isinstance(existing, logs.Repeats) for existing in logging.lastResort.filters) == 1
