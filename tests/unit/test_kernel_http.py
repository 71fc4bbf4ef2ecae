"""A request's deadline: what is left when the gateway sends it, and when that is over by the clock both share."""

from __future__ import annotations

import time

import pytest

from system.kernel.http import Answer, App, Call


def call(**headers: str) -> Call:
    """Return a request with these headers (`_` for `-`)."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Call({"method": "POST", "path": "/x", "headers": raw, "query_string": b""}, None, {})


def left_s(**headers: str) -> float:
    return (call(**headers).deadline_ns - time.monotonic_ns()) / 1e9


def in_us(seconds: float) -> str:
    """Return the moment so many seconds from now as the gateway writes it."""
    return str(int((time.monotonic() + seconds) * 1e6))


def test_the_time_that_a_request_lay_in_a_socket_is_taken_off():
    """Of 2 s it spent 1.5 s there."""
    assert left_s(x_deadline_ms="2000", x_deadline_at_us=in_us(0.5)) == pytest.approx(0.5, abs=0.05)
    assert left_s(x_deadline_ms="2000", x_deadline_at_us=in_us(-5)) == pytest.approx(-5, abs=0.05)


@pytest.mark.parametrize("told", [in_us(86_400), "0", "1", "-5", "abc", "", "9" * 30, "²"])
def test_a_moment_that_cannot_be_counts_as_none(told):
    """In the future, older than any request, or no number: the time from here on holds."""
    assert left_s(x_deadline_ms="2000", x_deadline_at_us=told) == pytest.approx(2.0, abs=0.05)


async def test_what_came_too_late_is_refused_before_it_begins():
    """504, and it certainly was not done."""
    done, sent = [], []

    async def handler(_):
        done.append(1)
        return Answer({})

    async def send(message):
        sent.append(message)

    app = App("any", [("POST", "/x", handler)], "any-1")
    headers = [(b"x-deadline-ms", b"2000"), (b"x-deadline-at-us", in_us(-0.1).encode())]
    await app({"type": "http", "method": "POST", "path": "/x", "headers": headers, "query_string": b""}, None, send)

    assert done == [] and sent[0]["status"] == 504
