"""A request's deadline: what is left when the gateway sends it, and when that is over by the clock both share."""

from __future__ import annotations

import time

import pytest

from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, App, Call


def call(**headers: str) -> Call:
    """Return a request with these headers (`_` for `-`)."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Call({"method": "POST", "path": "/x", "headers": raw, "query_string": b""}, None, {})


def left_s(**headers: str) -> float:
    return (call(**headers).deadline_ns - time.monotonic_ns()) / 1e9


def in_us(seconds: float) -> str:
    """Return the moment so many seconds from now as the gateway writes it."""
    return str(int((time.monotonic() + seconds) * 1e6))


UPTIMES_S = {"10-minutes": 600, "10-days": 864_000}
"""Monotonic clocks count from boot: the machine's own would make the answers depend on how long it has been up."""


@pytest.mark.parametrize("up_s", UPTIMES_S.values(), ids=UPTIMES_S)
def test_the_time_that_a_request_waited_in_a_socket_is_subtracted(up_s):
    """Of 2 s it spent 1.5 s there; one that is 5 s late is 5 s late."""
    now_ns = up_s * 10**9

    assert asgi.deadline_ns(b"2000", b"%d" % (up_s * 10**6 + 500_000), now_ns) - now_ns == 500_000_000
    assert asgi.deadline_ns(b"2000", b"%d" % (up_s * 10**6 - 5_000_000), now_ns) - now_ns == -5_000_000_000


@pytest.mark.parametrize("up_s", UPTIMES_S.values(), ids=UPTIMES_S)
@pytest.mark.parametrize("at_us", ["a day ahead", "0", "-5", "abc", "", "9" * 30, "²"])
def test_a_moment_that_cannot_be_counts_as_none(at_us, up_s):
    """In the future or no number: the time from here on holds."""
    moment = str((up_s + 86_400) * 10**6) if at_us == "a day ahead" else at_us
    now_ns = up_s * 10**9

    assert asgi.deadline_ns(b"2000", moment.encode(), now_ns) - now_ns == 2_000_000_000


def test_a_moment_more_than_an_hour_ago_is_of_another_clock():
    """A microsecond after boot is no deadline after ten days; after ten minutes it is one that passed long ago."""
    ten_minutes_ns, ten_days_ns = 600 * 10**9, 864_000 * 10**9

    assert asgi.deadline_ns(b"2000", b"1", ten_days_ns) == ten_days_ns + 2_000_000_000
    assert asgi.deadline_ns(b"2000", b"1", ten_minutes_ns) == 1_000
    assert asgi.deadline_ns(b"2000", b"%d" % (ten_days_ns // 1_000 - 3_599_000_000), ten_days_ns) == ten_days_ns - 3_599 * 10**9
    assert asgi.deadline_ns(b"2000", b"%d" % (ten_days_ns // 1_000 - 3_601_000_000), ten_days_ns) == ten_days_ns + 2_000_000_000


def test_a_request_reads_its_deadline_from_its_headers():
    """The gateway sends both; the earlier of them holds."""
    assert left_s(x_deadline_ms="2000", x_deadline_at_us=in_us(0.5)) <= 0.5
    assert left_s(x_deadline_ms="2000") <= 2.0


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
