"""Tokens on the real PostgreSQL: revoked at every gateway within five seconds, refused if revocations cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from system.ports import Grant
from system.services.users import app as users
from system.stores.postgres.tokens import PostgresTokens
from tests.helpers import edge_rig, services_rig
from tests.helpers.services_rig import until

pytestmark = pytest.mark.real


@contextlib.asynccontextmanager
async def lab():
    """Two gateways on the tokens of one database; its settings and a store of the users' service."""
    config = services_rig.fresh_settings()
    async with services_rig.stores(config, ("tokens",)) as ports, \
            edge_rig.gateways(config, 2, tokens=lambda: PostgresTokens.open(config)) as gateways:
        yield gateways, ports.tokens, config


async def test_a_revoked_token_is_refused_at_every_gateway_within_five_seconds():
    """By token and by sign-in; until then, and for others, the token is valid."""
    async with lab() as (gateways, store, _):
        own, session, other = (edge_rig.token(jti=name) for name in ("a1.1", "a2.1", "a3.1"))
        assert [(await gateways.ask(which, each))[0] for which in (0, 1) for each in (own, session, other)] == [200] * 6
        await store.begin(Grant("a2", 7, "tweet.read"), "hash", 60)

        await asyncio.gather(store.revoke("a1.1", 60), store.end("hash", 60))
        acknowledged_s = time.monotonic()

        async def refused() -> bool:
            return {(await gateways.ask(which, each))[0] for which in (0, 1) for each in (own, session)} == {401}

        await until(refused, 5.0)
        assert time.monotonic() - acknowledged_s <= 5.0
        assert [(await gateways.ask(which, other))[0] for which in (0, 1)] == [200, 200]


async def test_gateways_that_cannot_read_revocations_refuse_everybody_and_recover():
    """PostgreSQL is silent: after five seconds every response is 503, never 200; once it responds, requests pass again."""
    config = services_rig.fresh_settings()
    host, _, port = config.stores.postgres_url.rpartition("@")[2].partition(":")
    async with services_rig.stores(config, ("tokens",)) as ports, edge_rig.Pipe(host, int(port)) as pipe:
        through = replace(config, stores=replace(config.stores, postgres_url=f"postgresql://tweetlab@{pipe.address}"))
        async with edge_rig.gateways(config, 1, tokens=lambda: PostgresTokens.open(through)) as gateways:
            good, revoked = edge_rig.token(jti="b1.1"), edge_rig.token(jti="b2.1")
            assert (await gateways.ask(0, good))[0] == 200

            pipe.stall()
            await ports.tokens.revoke("b2.1", 60)
            silent_s, statuses = time.monotonic(), []
            while time.monotonic() - silent_s < 6.5:
                statuses.append((time.monotonic() - silent_s, (await gateways.ask(0, revoked))[0]))
                await asyncio.sleep(0.1)
            status, headers = await gateways.ask(0, good)

            assert {answer for at_s, answer in statuses if at_s > 5.0} == {503}
            assert (status, headers["retry-after"]) == (503, "2")
            pipe.resume_sending()

            async def open_again() -> bool:
                return (await gateways.ask(0, good))[0] == 200

            await until(open_again, 5.0)
            assert (await gateways.ask(0, revoked))[0] == 401


async def test_a_sign_in_is_renewed_by_refresh_tokens_and_ended_by_revocation():
    """Password, refresh, narrowing, reuse: as clients use it, with users service and gateway on real stores."""
    config = services_rig.fresh_settings()
    async with services_rig.stores(config, ("users", "tokens")) as ports, \
            services_rig.running(config, ports, (users,), ()) as rig:
        wish = {"username": "ann", "password": "correct horse"}
        assert (await rig.ask("POST", "/2/users", json=wish))[0] == 201

        async def token(**form: str):
            return await rig.ask("POST", "/2/oauth2/token", data=form)

        async def me(access: str) -> int:
            return (await rig.ask("GET", "/2/users/me", headers={"authorization": f"Bearer {access}"}))[0]

        _, first, headers = await token(grant_type="password", **wish)
        status, second, _ = await token(grant_type="refresh_token", refresh_token=first["refresh_token"], scope="users.read")
        assert (status, second["scope"], headers["cache-control"]) == (200, "users.read", "no-store")
        assert [await me(first["access_token"]), await me(second["access_token"])] == [200, 200]
        read = f"/2/users/{1}/timelines/reverse_chronological"
        narrow = await rig.ask("GET", read, headers={"authorization": f"Bearer {second['access_token']}"})
        assert narrow[0] == 403 and "tweet.read" in narrow[1]["detail"]

        status, body, _ = await token(grant_type="refresh_token", refresh_token=first["refresh_token"])
        assert (status, body["error"]) == (400, "invalid_grant")

        async def ended() -> bool:
            return {await me(first["access_token"]), await me(second["access_token"])} == {401}

        await until(ended, 5.0)
        _, third, _ = await token(grant_type="password", **wish)
        status, body, _ = await rig.ask("POST", "/2/oauth2/revoke", data={"token": third["access_token"]})
        assert (status, body) == (200, {"revoked": True})

        async def revoked() -> bool:
            return await me(third["access_token"]) == 401

        await until(revoked, 5.0)
        assert (await rig.ask("POST", "/2/oauth2/revoke", data={"token": "never seen"}))[0] == 200
        assert (await rig.ask("POST", "/2/oauth2/revoke", data={}))[1]["error"] == "invalid_request"
