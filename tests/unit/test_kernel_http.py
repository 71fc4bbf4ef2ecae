"""Deadlines of requests: the time left when the gateway sends it, and the deadline on the shared clock."""

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
    """Return the time this many seconds from now, as the gateway formats it."""
    return str(int((time.monotonic() + seconds) * 1e6))


UPTIMES_S = {"10-minutes": 600, "10-days": 864_000}
"""Monotonic clocks count from boot: the machine's own would make the answers depend on how long it has been up."""


@pytest.mark.parametrize("up_s", UPTIMES_S.values(), ids=UPTIMES_S)
def test_the_time_that_a_request_waited_in_a_socket_is_subtracted(up_s):
    """Of 2 s it spent 1.5 s there; a request that is 5 s late is 5 s late."""
    now_ns = up_s * 10**9

    assert asgi.deadline_ns(b"2000", b"%d" % (up_s * 10**6 + 500_000), now_ns) - now_ns == 500_000_000
    assert asgi.deadline_ns(b"2000", b"%d" % (up_s * 10**6 - 5_000_000), now_ns) - now_ns == -5_000_000_000


@pytest.mark.parametrize("up_s", UPTIMES_S.values(), ids=UPTIMES_S)
@pytest.mark.parametrize("at_us", ["a day ahead", "0", "-5", "abc", "", "9" * 30, "²"])
def test_an_impossible_deadline_counts_as_absent(at_us, up_s):
    """Beyond the time left, or not a number: the time left applies."""
    value = str((up_s + 86_400) * 10**6) if at_us == "a day ahead" else at_us
    now_ns = up_s * 10**9

    assert asgi.deadline_ns(b"2000", value.encode(), now_ns) - now_ns == 2_000_000_000


def test_a_deadline_more_than_an_hour_ago_is_from_another_clock():
    """One microsecond after boot is not a deadline after ten days; after ten minutes it has passed."""
    ten_minutes_ns, ten_days_ns = 600 * 10**9, 864_000 * 10**9

    assert asgi.deadline_ns(b"2000", b"1", ten_days_ns) == ten_days_ns + 2_000_000_000
    assert asgi.deadline_ns(b"2000", b"1", ten_minutes_ns) == 1_000
    assert asgi.deadline_ns(b"2000", b"%d" % (ten_days_ns // 1_000 - 3_599_000_000), ten_days_ns) == ten_days_ns - 3_599 * 10**9
    assert asgi.deadline_ns(b"2000", b"%d" % (ten_days_ns // 1_000 - 3_601_000_000), ten_days_ns) == ten_days_ns + 2_000_000_000


def test_a_request_reads_its_deadline_from_its_headers():
    """The gateway sends both; the earlier one applies."""
    assert left_s(x_deadline_ms="2000", x_deadline_at_us=in_us(0.5)) <= 0.5
    assert left_s(x_deadline_ms="2000") <= 2.0


async def test_a_request_past_its_deadline_is_refused_before_it_starts():
    """504, and it certainly was not executed."""
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
