"""One request through the gateway, without a socket: tokens, scopes, revocations, the access log."""

from __future__ import annotations

import asyncio
import json
import time

import jwt
import pytest

from system import bootstrap
from system.kernel import settings
from system.kernel.errors import StoreUnavailable, Unauthorized, Unavailable
from system.kernel.telemetry import metrics
from system.ports import Grant
from system.services.gateway import access_log, app
from system.services.gateway.access_log import ERRORS_PER_S, FLUSH_S, AccessLog
from system.services.gateway.revocations import STALE_S, Revocations
from system.services.gateway.tokens import Tokens
from system.services.shared import signing
from system.services.shared.signing import Keys
from tests.fakes.limits import MemoryLimits
from tests.fakes.tokens import MemoryTokens
from tests.helpers.gateway_on_memory import OLDER, SECRET, bearer, running_gateway


async def test_a_token_of_either_valid_key_is_accepted_and_no_other():
    """Keys rotate: the newest and the previous one verify, with or without a key name (kid)."""
    async with running_gateway() as gateway:
        without_kid = "Bearer " + jwt.encode({"sub": "42", "exp": time.time() + 60, "scope": "tweet.read"}, OLDER, "HS256")
        assert (await gateway.ask("home", bearer()))[0] == 200
        assert (await gateway.ask("home", bearer(OLDER)))[0] == 200
        assert (await gateway.ask("home", without_kid))[0] == 200
        status, _, headers = await gateway.ask("home", bearer("x" * 32))

    assert status == 401 and 'error="invalid_token"' in headers["www-authenticate"]


@pytest.mark.parametrize("kid", ["", "nobody", signing.kid_of(OLDER)], ids=["empty", "unknown", "of another key"])
def test_a_token_that_names_the_wrong_key_is_refused(kid):
    """The key name cannot be used to choose a key."""
    token = jwt.encode({"sub": "42", "exp": time.time() + 60}, SECRET, "HS256", headers={"kid": kid})

    with pytest.raises(jwt.InvalidTokenError):
        Keys(SECRET, OLDER).claims_of(token)


def test_the_name_of_a_key_does_not_reveal_it():
    """A fingerprint; two keys have two names."""
    assert signing.kid_of(SECRET) != signing.kid_of(OLDER)
    assert SECRET not in signing.kid_of(SECRET) and len(signing.kid_of(SECRET)) == 12


async def test_a_valid_token_without_the_scope_of_the_route_is_refused_with_that_scope():
    """403, and RFC 6750's challenge; nothing reaches the service."""
    async with running_gateway() as gateway:
        status, body, headers = await gateway.ask("post", bearer(), b"{}")
        none = await gateway.ask("home", bearer(scope=None))

    assert (status, none[0]) == (403, 403)
    assert "tweet.write" in body["detail"] and 'error="insufficient_scope", scope="tweet.write"' in headers["www-authenticate"]
    assert gateway.service.reached == []


async def test_a_revoked_token_and_every_token_of_a_revoked_sign_in_are_refused():
    """By its own name, or by the grant before the dot. Others stay valid."""
    async with running_gateway() as gateway:
        await gateway.store.revoke("g1.1", 60)
        await gateway.store.begin(Grant("g2", 42, "tweet.read"), "h", 60)
        await gateway.store.end("h", 60)
        await gateway.edge.revocations.poll()

        statuses = [(await gateway.ask("home", bearer(jti=name)))[0] for name in ("g1.1", "g1.2", "g2.1", "g2.9", "g22.1")]

    assert statuses == [401, 200, 401, 401, 200]


class Away(MemoryTokens):
    """A PostgreSQL that does not answer."""

    async def revoked(self):
        raise StoreUnavailable("away", definite=True)


async def test_a_gateway_that_cannot_read_revocations_refuses_every_token():
    """Fails closed: 503 with retry-after as soon as its copy is older than the guarantee allows."""
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
    """The load balancer sends it no requests until then."""
    async with running_gateway() as gateway:
        gateway.edge.revocations = Revocations(Away())
        assert not gateway.edge.ready
        status, _, headers = await gateway.ask("home", bearer())

    assert (status, headers["retry-after"]) == (503, "2")


# ---- the access log --------------------------------------------------------------------------------------


async def test_every_refused_request_is_logged_and_successful_ones_are_sampled():
    """One JSON line: route, status, times, user; never the token or the query."""
    async with running_gateway(ratio=0.0) as gateway:
        await gateway.ask("home", bearer())
        await gateway.ask("post", bearer(), b"{}")
    rows = [json.loads(line) for line in b"".join(gateway.lines).splitlines()]

    assert [row["message"] for row in rows] == ["POST post 403"]
    assert rows[0]["level"] == "warning" and rows[0]["service"] == "gateway" and rows[0]["request_id"]
    assert set(rows[0]["fields"]) == {"method", "route", "path", "ms", "error", "status"}
    assert rows[0]["fields"]["error"] == "Forbidden"


@pytest.mark.parametrize("method, path, status", [("GET", "/2/wp-admin", 404), ("PATCH", "/2/tweets", 405)])
async def test_requests_for_unknown_paths_are_logged_and_counted(method, path, status):
    """A request without a route is logged and counted; response and log line have the same request id."""
    config = settings.from_env({"TWEETLAB_JWT_SECRET": SECRET, "TWEETLAB_INSTANCE": "gateway-9"})
    lines: list[bytes] = []
    built = app.build(config, bootstrap.ports_of({"limits": MemoryLimits(), "tokens": MemoryTokens()}),
                      AccessLog("gateway-9", 0.0, lines.append))
    before = no_route_count()
    sent = []

    async def send(message):
        sent.append(message)

    await built({"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": method,
                 "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "server": ("gateway", 80),
                 "client": ("127.0.0.1", 1), "headers": [(b"x-request-id", b"abc123")]}, None, send)
    await asyncio.sleep(FLUSH_S + 0.1)
    (row,) = [json.loads(line) for line in b"".join(lines).splitlines()]

    assert (sent[0]["status"], dict(sent[0]["headers"])[b"x-request-id"]) == (status, b"abc123")
    assert json.loads(sent[1]["body"])["status"] == status
    assert (row["message"], row["request_id"], row["fields"]["path"]) == (f"{method} none {status}", "abc123", path)
    assert no_route_count() == before + 1


def no_route_count() -> float:
    """Return the number of requests without a route that were answered 4xx."""
    start = 'tweetlab_request_seconds_count{route="none",status="4xx"} '
    return sum(float(line.removeprefix(start)) for line in metrics.text().decode().splitlines() if line.startswith(start))


async def test_with_a_ratio_of_one_every_request_is_logged():
    """For debugging a single request."""
    async with running_gateway(ratio=1.0) as gateway:
        await gateway.ask("home", bearer())
    (row,) = [json.loads(line) for line in b"".join(gateway.lines).splitlines()]

    assert (row["fields"]["route"], row["fields"]["status"], row["fields"]["user"]) == ("home", 200, "42")
    assert bearer()[7:27] not in b"".join(gateway.lines).decode()


async def test_a_flood_of_errors_does_not_fill_the_disk():
    """Beyond 200 a second lines are dropped and counted in `left_out`."""
    lines: list[bytes] = []
    log = AccessLog("gateway-1", 0.0, lines.append)
    wanted = sum(log.wants(429) for _ in range(1_000))
    log.add(429, "r")
    log.flush()

    assert ERRORS_PER_S <= wanted <= 2 * ERRORS_PER_S
    assert json.loads(lines[0])["fields"]["left_out"] == 1_000 - wanted


async def test_a_flood_of_refusals_does_not_hide_failures(monkeypatch):
    """4xx and 5xx have separate budgets."""
    monkeypatch.setattr(access_log.time, "monotonic", lambda: 7.0)
    log = AccessLog("gateway-1", 0.0, lambda lines: None)
    assert sum(log.wants(429) for _ in range(1_000)) == ERRORS_PER_S

    assert sum(log.wants(503) for _ in range(1_000)) == ERRORS_PER_S
