"""A fault under load is one counted line a kind and target, not a line an attempt."""

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
def test_the_kind_and_the_target_of_an_error_are_read_from_what_each_client_says(text, kind, target):
    """aiokafka, redis, psycopg, elasticsearch, urllib3 (MinIO), Cassandra's driver and the generator."""
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
def test_what_is_no_connection_error_is_not_counted_as_one(text):
    """Only what a broken connection explains may be held back."""
    assert connection_errors.connection_error(text) is None


def clock(at_s):
    return f"{at_s:.1f} s"


def test_143_refused_connections_are_one_line_with_their_first_and_last_moment():
    """A burst ends 5 s after its last error, not at every pause between two attempts."""
    counter = Counter()
    for n in range(143):
        counter.add("refused", "connection refused by 127.1.9.1:8080", 30.1 + 3.3 * n / 142)
    assert counter.due(38.3) == []

    (burst,) = counter.due(38.5)

    assert burst.line(clock) == "connection refused by 127.1.9.1:8080: 143 times between 30.1 s and 33.4 s"
    assert len(counter) == 0


def test_an_outage_that_lasts_is_written_in_parts():
    """Nobody waits for the end of an hour to read that it goes on."""
    counter = Counter()
    for second in range(40):
        counter.add("k", "no connection to 127.1.5.1:9042", float(second))
    assert [burst.count for burst in counter.due(30.0)] == [40]
    assert counter.add("k", "no connection to 127.1.5.1:9042", 41.0)
    assert [burst.line(clock) for burst in counter.due(ENDLESS)] == [
        "no connection to 127.1.5.1:9042: once at 41.0 s"
    ]


@pytest.fixture
def written():
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


def test_a_hundred_records_of_client_libraries_become_one_counted_line_each(written):
    """Of a library nothing else passes; what is no connection error does, at once."""
    lines, repeats = written
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


def test_a_message_of_ours_says_at_once_what_follows_and_its_repeats_are_counted(written):
    """'left to the relay' is news the first time; a message of another kind is news of its own."""
    lines, repeats = written
    ours = logging.getLogger("tweetlab")
    for _ in range(20):
        ours.warning(
            "%d events are left to the relay: %s",
            3,
            "Kafka: [Errno 111] Connect call failed ('127.1.9.1', 9092)",
        )
    ours.warning(
        "revocations could not be read: %s", "Error 111 connecting to 127.1.3.1:6379. Connection refused."
    )
    first = "3 events are left to the relay: Kafka: [Errno 111] Connect call failed ('127.1.9.1', 9092)"
    other = "revocations could not be read: Error 111 connecting to 127.1.3.1:6379. Connection refused."
    assert [text for _, text in lines] == [first, other]

    repeats.flush()

    assert [text for _, text in lines[2:]] == [f"{first}: 20 times between 12:00:30.1 and 12:00:30.1"]


def test_a_store_that_is_unavailable_counts_whatever_words_it_is_refused_in(written):
    """Our loops try again until the store is back, and say so each time."""
    lines, repeats = written
    for _ in range(3):
        logging.getLogger("tweetlab").warning(
            "the outbox waits: %s", StoreUnavailable("Cassandra did not read")
        )
    repeats.flush()

    assert [text for _, text in lines] == [
        "the outbox waits: Cassandra did not read",
        "the outbox waits: Cassandra did not read: 3 times between 12:00:30.1 and 12:00:30.1",
    ]


def test_where_no_log_is_set_up_python_s_last_resort_counts_too():
    """The command's own process connects to the stores as well; the filter is added once."""
    logs.count_on_terminal()
    logs.count_on_terminal()
    assert sum(isinstance(each, logs.Repeats) for each in logging.lastResort.filters) == 1
