"""Seeding the tweet store: a batch that was not sent, or that replicas did not confirm in time, is sent again."""

from __future__ import annotations

import cassandra
import pytest
from cassandra import cluster, connection

from system.stores.cassandra import bulk

BUSY = cluster.NoHostAvailable("parrot", {"here": connection.ConnectionBusy("Connection here is overloaded")})
DEAD = cluster.NoHostAvailable("parrot", {"here": connection.ConnectionShutdown("gone")})
LATE = cassandra.OperationTimedOut()


class Session:
    """Answers each request with the next of `answers`: an error, or None for success."""

    def __init__(self, answers):
        self.answers, self.sent = list(answers), 0

    def execute_async(self, batch, timeout):
        self.sent += 1
        return self

    def result(self):
        if (answer := self.answers.pop(0)) is not None:
            raise answer


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(bulk, "BUSY_S", 0.0)


def test_a_full_send_buffer_is_waited_for_more_often_than_slow_replicas():
    """Nothing was sent, so it does not count as a try."""
    session = Session([*[BUSY] * 9, LATE, BUSY, None])
    bulk._finish(session, "batch", session)

    assert session.sent == 11 and session.answers == []


@pytest.mark.parametrize(("answers", "sent"), [([LATE] * 4, 3), ([DEAD], 0), ([BUSY, DEAD], 1)])
def test_other_errors_end_the_seeding(answers, sent):
    """Four late answers, or a lost connection."""
    session = Session(answers)
    with pytest.raises((cassandra.OperationTimedOut, cluster.NoHostAvailable)):
        bulk._finish(session, "batch", session)

    assert session.sent == sent


def test_a_buffer_that_stays_full_ends_the_seeding(monkeypatch):
    """After the deadline of one batch."""
    monkeypatch.setattr(bulk, "DEADLINE_S", -1.0)
    session = Session([BUSY])
    with pytest.raises(cluster.NoHostAvailable):
        bulk._finish(session, "batch", session)
