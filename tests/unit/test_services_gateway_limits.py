"""Rate limits, shedding and deadlines at the gateway, without a socket."""

from __future__ import annotations

import asyncio
import time

import pytest

from system.kernel.errors import StoreUnavailable
from system.kernel.policies import LimitKnobs, ShedKnobs
from system.kernel.resilience.rate_window import Quota
from system.services.gateway import policy
from system.services.gateway.limiter import Limiter
from tests.fakes.limits import MemoryLimits
from tests.helpers.gateway_on_memory import bearer, running_gateway


async def test_every_response_of_a_limited_route_has_rate_limit_headers():
    """x-rate-limit-limit, -remaining, -reset; then 429 with retry-after, and nothing reaches the service."""
    async with running_gateway() as gateway:
        _, _, first = await gateway.ask("home", bearer())

    assert (first["x-rate-limit-limit"], first["x-rate-limit-remaining"]) == ("12000", "11999")
    assert 0 < int(first["x-rate-limit-reset"]) - time.time() <= 66


async def test_a_caller_above_the_limit_is_refused_until_the_window_moves_on():
    """429; another user and another route have their own limits."""
    async with running_gateway(limits=LimitKnobs(read=2, window_s=60.0)) as gateway:
        responses = [await gateway.ask("home", bearer()) for _ in range(3)]
        other_user = await gateway.ask("home", bearer(sub="43"))
        other_route = await gateway.ask("profile", bearer())

    _, body, headers = responses[2]
    assert [response[0] for response in responses] == [200, 200, 429] and (other_user[0], other_route[0]) == (200, 200)
    assert body["title"] == "Too Many Requests" and headers["x-rate-limit-remaining"] == "0"
    assert 54 <= int(headers["retry-after"]) <= 65
    assert len(gateway.service.reached) == 4


async def test_a_user_also_has_a_limit_over_all_routes():
    """The headers state the tighter of both."""
    async with running_gateway(limits=LimitKnobs(read=10, user=2)) as gateway:
        statuses = [(await gateway.ask(name, bearer()))[0] for name in ("home", "profile", "tweet")]

    assert statuses == [200, 200, 429]


async def test_open_routes_are_limited_by_address_and_log_ins_by_name():
    """A password cannot be guessed from many addresses, and one address cannot try many names."""
    form, kind = b"grant_type=password&username=Ann&password=x", "application/x-www-form-urlencoded"
    async with running_gateway(limits=LimitKnobs(token=3, login=2)) as gateway:
        async def log_in(name: bytes, address: str) -> int:
            body = form.replace(b"Ann", name)
            return (await gateway.ask("token", None, body, content_type=kind, x_forwarded_for=address))[0]

        one_name = [await log_in(name, f"10.0.0.{n}") for n, name in enumerate([b"Ann", b"aNN", b"ann", b"bob"])]
        one_address = [await log_in(b"user%d" % n, "10.1.0.1") for n in range(4)]

    assert one_name == [200, 200, 429, 200]
    assert one_address == [200, 200, 200, 429]


async def test_a_sign_in_gets_the_headers_of_the_tighter_of_its_two_windows():
    """The window of the address is counted first, that of the name after the body was read.

    The headers are of the tighter one.
    """
    form, kind = b"grant_type=password&username=user%d&password=x", "application/x-www-form-urlencoded"
    async with running_gateway(limits=LimitKnobs(token=3, login=60)) as gateway:
        all_headers = [(await gateway.ask("token", None, form % n, content_type=kind))[2] for n in range(3)]
    async with running_gateway(limits=LimitKnobs(token=60, login=3)) as gateway:
        _, _, other = await gateway.ask("token", None, form % 1, content_type=kind)

    assert [headers["x-rate-limit-limit"] for headers in all_headers] == ["3", "3", "3"]
    assert [headers["x-rate-limit-remaining"] for headers in all_headers] == ["2", "1", "0"]
    assert (other["x-rate-limit-limit"], other["x-rate-limit-remaining"]) == ("3", "2")


@pytest.mark.parametrize("knobs", [LimitKnobs(read=0, user=0), LimitKnobs(window_s=0.0)], ids=["class off", "all off"])
async def test_disabled_limits_cost_nothing_and_add_no_headers(knobs):
    """0 disables a limit."""
    async with running_gateway(limits=knobs) as gateway:
        status, _, headers = await gateway.ask("home", bearer())

    assert status == 200 and "x-rate-limit-limit" not in headers


class FailingStore(MemoryLimits):
    """A limit store that can become unavailable."""

    away = False

    async def take(self, quotas, window_s):
        if self.away:
            raise StoreUnavailable("away", definite=False)
        return await super().take(quotas, window_s)

    async def add(self, counted, window_s):
        if self.away:
            raise StoreUnavailable("away", definite=False)
        await super().add(counted, window_s)


async def test_while_the_store_is_away_each_gateway_admits_its_share():
    """limit / max_gateways each: together at most the limit; and not every request tries the store again."""
    store = FailingStore()
    gateways = [Limiter(store, LimitKnobs(max_gateways=4)) for _ in range(4)]
    for gateway in gateways:
        await gateway.open()
    store.away = True
    decisions = [await gateway.take([Quota("ann", 10)]) for gateway in gateways for _ in range(5)]

    assert sum(decision.admitted for decision in decisions) == 8
    assert all(gateway.local for gateway in gateways)
    for gateway in gateways:
        await gateway.close()


async def test_a_gateway_that_starts_while_the_store_is_away_admits_nothing_for_a_window():
    """Its predecessor admitted the share and was killed.

    A second share in the same window would exceed the limit.
    """
    store, knobs = FailingStore(), LimitKnobs(window_s=0.24, max_gateways=2)
    before = Limiter(store, knobs)
    await before.open()
    store.away = True
    first = [(await before.take([Quota("ann", 10)])).admitted for _ in range(6)]
    await before.close()
    after = Limiter(store, knobs)
    second = [(await after.take([Quota("ann", 10)])).admitted for _ in range(6)]
    await asyncio.sleep(0.27)
    third = [(await after.take([Quota("ann", 10)])).admitted for _ in range(6)]
    await after.close()

    assert (sum(first), sum(second), sum(third)) == (5, 0, 5)


async def test_a_gateway_tries_more_than_once_to_reach_the_store_before_it_accepts_requests(monkeypatch):
    """A slow first connection would refuse every request until the store had answered for a while."""
    monkeypatch.setattr("system.services.gateway.limiter.PROBE_S", 0.01)

    class Slow(FailingStore):
        tries = 0

        async def add(self, counted, window_s):
            self.tries += 1
            self.away = self.tries < 3
            await super().add(counted, window_s)

    store = Slow()
    gateway = Limiter(store, LimitKnobs(max_gateways=2))
    await gateway.open()
    store.away = True

    assert (await gateway.take([Quota("ann", 10)])).admitted and store.tries == 3
    await gateway.close()


async def test_local_counts_are_reported_to_the_store_when_it_is_back(monkeypatch):
    """No third window: after the outage the caller has the rest of the limit."""
    monkeypatch.setattr("system.services.gateway.limiter.PROBE_S", 0.01)
    monkeypatch.setattr("system.services.gateway.limiter.SETTLE_S", 0.05)
    store = FailingStore()
    gateway = Limiter(store, LimitKnobs(max_gateways=1))
    await gateway.open()
    store.away = True
    local = [(await gateway.take([Quota("ann", 10)])).admitted for _ in range(6)]
    store.away = False
    while gateway.local:
        await asyncio.sleep(0.01)

    shared = [(await gateway.take([Quota("ann", 10)])).admitted for _ in range(6)]
    assert (sum(local), sum(shared)) == (6, 4)


# ---- shedding and deadlines ------------------------------------------------------------------------------


def test_a_standing_queue_is_shed_and_a_burst_is_not():
    """CoDel's rule: only if every request of an interval waited longer than the target."""
    queue = policy.Queue(ShedKnobs(queue_target_s=0.1, queue_interval_s=1.0))
    burst = [queue.sheds(0.5, 10.0 + n / 100) for n in range(90)]
    emptied = queue.sheds(0.05, 10.95)
    standing = [queue.sheds(0.5, 11.0 + n / 10) for n in range(15)]
    short = queue.sheds(0.1, 12.5)
    again = queue.sheds(0.5, 12.6)

    assert not any(burst) and not emptied
    assert standing == [False] * 10 + [True] * 5
    assert (short, again) == (False, False)


@pytest.mark.parametrize(("stamp", "waited"), [
    (None, 0.0), (b"", 0.0), (b"x", 0.0), (b"-5", 0.0), (b"1000000000", 0.0), (b"1699999999500000", 0.5),
    (b"1700000001000000", 0.0), (b"9" * 30, 0.0),
])
def test_only_a_plausible_stamp_counts_as_waiting(stamp, waited):
    """A wrong clock or a forged header sheds no request."""
    assert policy.waited_s(stamp, 1_700_000_000.0) == pytest.approx(waited)


async def test_the_time_in_queues_is_subtracted_from_the_deadline():
    """A request that already waited too long gets its error without reaching the service."""
    async with running_gateway() as gateway:
        waited = str(int((time.time() - 1.0) * 1e6))
        good = await gateway.ask("home", bearer(), x_request_start=waited, x_deadline_ms="3000")
        left_s = float(gateway.service.reached[0][1]["left_s"])

    assert good[0] == 200 and 1.8 < left_s < 2.01


async def test_a_standing_queue_is_answered_503_before_any_work():
    """With retry-after; the token is not even verified."""
    async with running_gateway(shed=ShedKnobs(queue_target_s=0.1, queue_interval_s=0.0)) as gateway:
        status, _, headers = await gateway.ask("home", None, x_request_start=str(int((time.time() - 1.0) * 1e6)))

    assert (status, headers["retry-after"]) == (503, "1")
    assert gateway.service.reached == []
