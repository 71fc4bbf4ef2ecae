"""One request through the gateway, without a socket: tokens, scopes, revocations, limits, shedding, the access log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import jwt
import pytest

from system import bootstrap
from system.kernel.errors import StoreUnavailable, Unauthorized, Unavailable
from system.kernel.policies import LimitKnobs, Policies, ShedKnobs
from system.kernel.windows import Quota
from system.ports import Grant
from system.services.gateway import policy
from system.services.gateway.access import ERRORS_PER_S, AccessLog
from system.services.gateway.handlers import Edge, Forward
from system.services.gateway.limiter import Limiter
from system.services.gateway.revocations import STALE_S, Revocations
from system.services.gateway.tokens import Tokens
from system.services.gateway.upstream import Reply
from system.services.shared import signing
from system.services.shared.signing import Keys
from system.stores.memory_limits import MemoryLimits
from system.stores.memory_tokens import MemoryTokens

SECRET, OLDER = "s" * 32, "o" * 32
ROUTES = {route.name: route for route in policy.ROUTES}


def bearer(secret: str = SECRET, **changed) -> str:
    claims = {"sub": "42", "exp": time.time() + 60, "jti": "g1.1", "scope": "tweet.read users.read"} | changed
    return "Bearer " + signing.sign(claims, secret)


class Service:
    """Stands behind the mesh: keeps what reached it."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, dict[str, str]]] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, method, path, headers, body, deadline_s) -> Reply:
        self.reached.append((path, dict(headers) | {"left_s": f"{deadline_s - time.monotonic():.3f}"}))
        return Reply(200, {"content-type": "application/json"}, b"{}", 0)


class House:
    """A gateway on memory ports; `ask` sends a request to one of its routes."""

    def __init__(self, edge: Edge, service: Service, store: MemoryTokens, lines: list[bytes]) -> None:
        self.edge, self.service, self.store, self.lines = edge, service, store, lines

    async def ask(self, route: str, token: str | None = None, body: bytes = b"", **headers: str):
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if token is not None:
            given.append((b"authorization", token.encode()))
        path = ROUTES[route].path
        scope = {"type": "http", "method": ROUTES[route].method, "path": path, "raw_path": path.encode(), "query_string": b"",
                 "headers": given, "client": ("127.0.0.1", 1)}
        sent: list = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message) -> None:
            sent.append(message)

        await Forward(self.edge, ROUTES[route])(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"]), {k.decode(): v.decode() for k, v in sent[0]["headers"]}


@contextlib.asynccontextmanager
async def house(ratio: float = 0.0, **knobs):
    service, store, lines = Service(), MemoryTokens(), []
    upstreams = {route.service: service for route in policy.ROUTES}
    edge = Edge(Tokens(Keys(SECRET, OLDER)), upstreams, Policies(**knobs), AccessLog("gateway-1", ratio, lines.append))
    await edge.open(bootstrap.ports_of({"limits": MemoryLimits(), "tokens": store}))
    try:
        yield House(edge, service, store, lines)
    finally:
        await edge.close()


# ---- tokens, scopes, revocations -------------------------------------------------------------------------


async def test_a_token_of_either_valid_key_is_let_in_and_no_other():
    """Keys rotate: the newest and the one before it hold, by name (kid) or without one."""
    async with house() as gateway:
        without_kid = "Bearer " + jwt.encode({"sub": "42", "exp": time.time() + 60, "scope": "tweet.read"}, OLDER, "HS256")
        assert (await gateway.ask("home", bearer()))[0] == 200
        assert (await gateway.ask("home", bearer(OLDER)))[0] == 200
        assert (await gateway.ask("home", without_kid))[0] == 200
        status, _, headers = await gateway.ask("home", bearer("x" * 32))

    assert status == 401 and 'error="invalid_token"' in headers["www-authenticate"]


@pytest.mark.parametrize("kid", ["", "nobody", signing.kid_of(OLDER)], ids=["empty", "unknown", "of another key"])
def test_a_token_that_names_the_wrong_key_does_not_hold(kid):
    """The name is no way to choose a key that fits."""
    token = jwt.encode({"sub": "42", "exp": time.time() + 60}, SECRET, "HS256", headers={"kid": kid})

    with pytest.raises(jwt.InvalidTokenError):
        Keys(SECRET, OLDER).claims_of(token)


def test_the_name_of_a_key_does_not_give_it_away():
    """A fingerprint; two keys have two names."""
    assert signing.kid_of(SECRET) != signing.kid_of(OLDER)
    assert SECRET not in signing.kid_of(SECRET) and len(signing.kid_of(SECRET)) == 12


async def test_a_good_token_without_the_scope_of_the_route_is_refused_with_the_scope_it_needs():
    """403, and RFC 6750's challenge; nothing reaches the service."""
    async with house() as gateway:
        status, body, headers = await gateway.ask("post", bearer(), b"{}")
        none = await gateway.ask("home", bearer(scope=None))

    assert (status, none[0]) == (403, 403)
    assert "tweet.write" in body["detail"] and 'error="insufficient_scope", scope="tweet.write"' in headers["www-authenticate"]
    assert gateway.service.reached == []


async def test_a_revoked_token_and_every_token_of_a_revoked_sign_in_are_refused():
    """By its own name, or by the grant before the dot. Others stay."""
    async with house() as gateway:
        await gateway.store.revoke("g1.1", 60)
        await gateway.store.begin(Grant("g2", 42, "tweet.read"), "h", 60)
        await gateway.store.end("h", 60)
        await gateway.edge.revocations.poll()

        told = [(await gateway.ask("home", bearer(jti=name)))[0] for name in ("g1.1", "g1.2", "g2.1", "g2.9", "g22.1")]

    assert told == [401, 200, 401, 401, 200]


class Away(MemoryTokens):
    """A PostgreSQL that does not answer."""

    async def revoked(self):
        raise StoreUnavailable("away", definite=True)


async def test_who_cannot_know_what_is_revoked_lets_nobody_in():
    """Fail closed: 503 with retry-after, from the moment its knowledge is older than the promise."""
    now_s = [100.0]
    store = MemoryTokens()
    known = Revocations(store, lambda: now_s[0])
    caller = Tokens(Keys(SECRET)).caller_of(bearer().encode())
    with pytest.raises(Unavailable):
        known.check(caller)
    assert await known.poll()
    now_s[0] += STALE_S
    known.check(caller)

    known._store = Away()
    now_s[0] += 0.1
    assert not await known.poll()
    with pytest.raises(Unavailable) as refusal:
        known.check(caller)
    assert refusal.value.definite and refusal.value.retry_after_s == 2.0

    known._store = store
    await store.revoke("g1.1", 60)
    await known.poll()
    with pytest.raises(Unauthorized):
        known.check(caller)


async def test_a_gateway_that_never_read_the_revocations_is_not_ready():
    """The load balancer leaves it out until then."""
    async with house() as gateway:
        gateway.edge.revocations = Revocations(Away())
        assert not gateway.edge.ready
        status, _, headers = await gateway.ask("home", bearer())

    assert (status, headers["retry-after"]) == (503, "2")


# ---- limits ----------------------------------------------------------------------------------------------


async def test_every_answer_of_a_limited_route_tells_how_its_caller_stands():
    """x-rate-limit-limit, -remaining, -reset; then 429 with retry-after, and nothing reaches the service."""
    async with house() as gateway:
        _, _, first = await gateway.ask("home", bearer())

    assert (first["x-rate-limit-limit"], first["x-rate-limit-remaining"]) == ("12000", "11999")
    assert 0 < int(first["x-rate-limit-reset"]) - time.time() <= 66


async def test_a_caller_above_his_limit_is_refused_until_there_is_room():
    """429; another user and another route have their own."""
    async with house(limits=LimitKnobs(read=2, window_s=60.0)) as gateway:
        told = [await gateway.ask("home", bearer()) for _ in range(3)]
        other_user = await gateway.ask("home", bearer(sub="43"))
        other_route = await gateway.ask("profile", bearer())

    _, body, headers = told[2]
    assert [each[0] for each in told] == [200, 200, 429] and (other_user[0], other_route[0]) == (200, 200)
    assert body["title"] == "Too Many Requests" and headers["x-rate-limit-remaining"] == "0"
    assert 54 <= int(headers["retry-after"]) <= 65
    assert len(gateway.service.reached) == 4


async def test_a_user_has_a_limit_over_all_routes_too():
    """The tightest of both is told."""
    async with house(limits=LimitKnobs(read=10, user=2)) as gateway:
        told = [(await gateway.ask(name, bearer()))[0] for name in ("home", "profile", "tweet")]

    assert told == [200, 200, 429]


async def test_open_routes_are_limited_by_address_and_log_ins_by_name():
    """From many addresses one password cannot be guessed; one address cannot try many names."""
    form, kind = b"grant_type=password&username=Ann&password=x", "application/x-www-form-urlencoded"
    async with house(limits=LimitKnobs(token=3, login=2)) as gateway:
        async def log_in(name: bytes, address: str) -> int:
            body = form.replace(b"Ann", name)
            return (await gateway.ask("token", None, body, content_type=kind, x_forwarded_for=address))[0]

        one_name = [await log_in(name, f"10.0.0.{n}") for n, name in enumerate([b"Ann", b"aNN", b"ann", b"bob"])]
        one_address = [await log_in(b"user%d" % n, "10.1.0.1") for n in range(4)]

    assert one_name == [200, 200, 429, 200]
    assert one_address == [200, 200, 200, 429]


@pytest.mark.parametrize("knobs", [LimitKnobs(read=0, user=0), LimitKnobs(window_s=0.0)], ids=["class off", "all off"])
async def test_limits_that_are_off_cost_nothing_and_tell_nothing(knobs):
    """0 switches off."""
    async with house(limits=knobs) as gateway:
        status, _, headers = await gateway.ask("home", bearer())

    assert status == 200 and "x-rate-limit-limit" not in headers


class Leaving(MemoryLimits):
    """A store that can be away."""

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
    """limit / max_gateways each: together at most the limit; and the store is not asked again for every request."""
    store = Leaving()
    store.away = True
    gateways = [Limiter(store, LimitKnobs(max_gateways=4)) for _ in range(4)]
    told = [await gateway.take([Quota("ann", 10)]) for gateway in gateways for _ in range(5)]

    assert sum(each.admitted for each in told) == 8
    assert all(gateway.local for gateway in gateways)
    for gateway in gateways:
        await gateway.close()


async def test_what_was_admitted_locally_is_known_to_the_store_when_it_is_back(monkeypatch):
    """No third window: after the outage the caller has what is left of his limit."""
    monkeypatch.setattr("system.services.gateway.limiter.PROBE_S", 0.01)
    monkeypatch.setattr("system.services.gateway.limiter.SETTLE_S", 0.05)
    store = Leaving()
    store.away = True
    gateway = Limiter(store, LimitKnobs(max_gateways=1))
    local = [(await gateway.take([Quota("ann", 10)])).admitted for _ in range(6)]
    store.away = False
    while gateway.local:
        await asyncio.sleep(0.01)

    shared = [(await gateway.take([Quota("ann", 10)])).admitted for _ in range(6)]
    assert (sum(local), sum(shared)) == (6, 4)


# ---- shedding and deadlines ------------------------------------------------------------------------------


def test_a_queue_that_stands_is_shed_and_a_burst_is_not():
    """CoDel's rule: only where every request of an interval waited longer than the target."""
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
def test_only_a_sensible_stamp_counts_as_waiting(stamp, waited):
    """A clock that is off, and a stranger's header, shed nobody."""
    assert policy.waited_s(stamp, 1_700_000_000.0) == pytest.approx(waited)


async def test_the_time_in_queues_is_taken_off_the_deadline():
    """Who waited too long already is told so, and the service is spared."""
    async with house() as gateway:
        waited = str(int((time.time() - 1.0) * 1e6))
        good = await gateway.ask("home", bearer(), x_request_start=waited, x_deadline_ms="3000")
        left_s = float(gateway.service.reached[0][1]["left_s"])

    assert good[0] == 200 and 1.8 < left_s < 2.01


async def test_a_standing_queue_is_answered_503_before_any_work():
    """With retry-after; the caller's token is not even looked at."""
    async with house(shed=ShedKnobs(queue_target_s=0.1, queue_interval_s=0.0)) as gateway:
        status, _, headers = await gateway.ask("home", None, x_request_start=str(int((time.time() - 1.0) * 1e6)))

    assert (status, headers["retry-after"]) == (503, "1")
    assert gateway.service.reached == []


# ---- the access log --------------------------------------------------------------------------------------


async def test_every_refused_request_is_one_row_and_good_ones_are_sampled():
    """JSON a line: route, status, times, user; never the token or the query."""
    async with house(ratio=0.0) as gateway:
        await gateway.ask("home", bearer())
        await gateway.ask("post", bearer(), b"{}")
    rows = [json.loads(line) for line in b"".join(gateway.lines).splitlines()]

    assert [row["message"] for row in rows] == ["POST post 403"]
    assert rows[0]["level"] == "warning" and rows[0]["service"] == "gateway" and rows[0]["request_id"]
    assert set(rows[0]["fields"]) == {"method", "route", "path", "ms", "error", "status"}
    assert rows[0]["fields"]["error"] == "Forbidden"


async def test_with_a_ratio_of_one_every_request_is_a_row():
    """As a person who looks for one wants it."""
    async with house(ratio=1.0) as gateway:
        await gateway.ask("home", bearer())
    (row,) = [json.loads(line) for line in b"".join(gateway.lines).splitlines()]

    assert (row["fields"]["route"], row["fields"]["status"], row["fields"]["user"]) == ("home", 200, "42")
    assert bearer()[7:27] not in b"".join(gateway.lines).decode()


async def test_a_flood_of_errors_does_not_fill_the_disk():
    """Beyond 200 a second rows are left out, and told of."""
    lines: list[bytes] = []
    log = AccessLog("gateway-1", 0.0, lines.append)
    wanted = sum(log.wants(429) for _ in range(1_000))
    log.tell(429, "r")
    log.flush()

    assert ERRORS_PER_S <= wanted <= 2 * ERRORS_PER_S
    assert json.loads(lines[0])["fields"]["left_out"] == 1_000 - wanted
