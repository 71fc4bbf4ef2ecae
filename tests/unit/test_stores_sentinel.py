"""The cache under Redis Sentinel: its address, which server is primary, and when its replies count.

Servers are fakes.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter

import hiredis
import pytest

from system.kernel import policies, settings
from system.kernel.errors import StoreUnavailable, WrongInput
from system.stores.redis import base as redis_base
from system.stores.redis import sentinel as redis_sentinel

HOST = "127.0.0.1"
EPOCH_A, EPOCH_B, NEVER = "a" * 40, "b" * 40, "0" * 40


class FakeServer:
    """A server with a fixed reply per command: bytes, or None for no reply. `calls` counts commands."""

    def __init__(self, **replies):
        self.replies, self.calls, self.writers = replies, Counter(), []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, HOST, 0)
        self.address = f"{HOST}:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        await self.die()

    async def die(self):
        """Stop listening and close all connections."""
        self.server.close()
        for writer in self.writers:
            writer.close()

    async def serve(self, reader, writer):
        self.writers.append(writer)
        parser = hiredis.Reader(encoding="utf-8")
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                parser.feed(data)
                while (words := parser.gets()) is not False:
                    self.calls[words[0]] += 1
                    reply = self.replies.get(words[0], b"+OK\r\n")
                    if reply is not None:
                        writer.write(reply)


def names(address):
    return b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part.encode()) for part in address.split(":"))


def primary(epoch, second=NEVER, role="master"):
    text = f"# Replication\r\nrole:{role}\r\nmaster_replid:{epoch}\r\nmaster_replid2:{second}\r\n".encode()
    return {"INFO": b"$%d\r\n%s\r\n" % (len(text), text), "ROLE": b"*1\r\n$6\r\nmaster\r\n", "PING": b"+PONG\r\n"}


REPLICA = {"ROLE": b"*1\r\n$5\r\nslave\r\n"}


@contextlib.asynccontextmanager
async def redis_group(*sentinels, first=None, second=None):
    """Two servers and sentinels.

    `sentinels`: for each the number of the server that it names, None: it does not reply.
    """
    async with contextlib.AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(FakeServer(**(replies or {}))) for replies in (first, second)]
        watch = [await stack.enter_async_context(FakeServer(SENTINEL=which and names((one, two)[which - 1].address)))
                 for which in sentinels]
        group = settings.Group(tuple(sentinel.address for sentinel in watch), "cache", (one.address, two.address))
        yield one, two, watch, group


def config():
    plain = settings.from_env({})
    return dataclasses.replace(plain, policies=policies.Policies(timeout=policies.TimeoutKnobs(redis_s=2.0)))


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch):
    monkeypatch.setattr(redis_sentinel, "LEASE_S", 1.0)
    monkeypatch.setattr(redis_sentinel, "ASK_TIMEOUT_S", 0.5)


# ---- addresses

def test_the_address_of_a_cache_names_sentinels_group_and_servers():
    """`sentinel://…/name?servers=…`; a plain address names no group."""
    group = settings.group_of("sentinel://h1:1,h2:2,h3:3/cache?servers=r1:6379,r2:6379")

    assert group == settings.Group(("h1:1", "h2:2", "h3:3"), "cache", ("r1:6379", "r2:6379"))
    assert settings.group_of("127.1.30.1:6379") is None


@pytest.mark.parametrize("address", ["sentinel://", "sentinel://h1:1/cache", "sentinel://h1:1/?servers=r:1",
                                     "sentinel://h1/cache?servers=r:1", "sentinel://h1:1/cache?servers=r1:x"])
def test_the_error_for_a_malformed_cache_address_shows_the_valid_form(address):
    """It is raised in the process that reads the address, not on first use."""
    stores = {**settings.default_stores(7), "redis": address}

    with pytest.raises(WrongInput, match=r"must be host:port or sentinel://host:port"):
        settings.parse_stores(stores)


async def test_a_plain_address_gets_a_plain_link():
    """`small` has one Redis: its link uses no sentinels, leases or roles."""
    text = b"run_id:" + b"c" * 40 + b"\r\n"
    async with FakeServer(INFO=b"$%d\r\n%s\r\n" % (len(text), text)) as server:
        at = config()
        link = await redis_base.open_link(dataclasses.replace(at, stores=dataclasses.replace(at.stores, redis=server.address)))
        epoch = await link.epoch()
        await link.close()

    assert type(link) is redis_base.Link
    assert (epoch, server.calls["ROLE"], server.calls["SCRIPT"] > 0) == ("c" * 40, 0, True)


# ---- which server is primary

async def test_the_primary_is_the_server_that_a_majority_of_the_sentinels_names():
    """A sentinel that was down may name an old primary; a hanging one is not waited for."""
    async with redis_group(2, 2, None) as (_, two, _, group):
        sentinels = redis_sentinel.Sentinels(group)
        began_s = asyncio.get_running_loop().time()
        address = await sentinels.primary()
        took_s = asyncio.get_running_loop().time() - began_s
        sentinels.close()

    assert address == two.address
    assert took_s < redis_sentinel.ASK_TIMEOUT_S


async def test_without_a_majority_there_is_no_primary_and_the_error_lists_all_answers():
    """One sentinel names the first server, one the second, one hangs."""
    async with redis_group(1, 2, None) as (one, two, watch, group):
        sentinels = redis_sentinel.Sentinels(group)
        with pytest.raises(StoreUnavailable) as refused:
            await sentinels.primary()
        sentinels.close()

    assert refused.value.definite
    assert f"1 name {one.address}; 1 name {two.address}; {watch[2].address}: Redis" in refused.value.detail


async def test_a_server_that_reports_itself_as_replica_is_not_used():
    """The sentinels may name one that has not been promoted yet."""
    async with redis_group(1, 1, 1, first=primary(EPOCH_A, role="slave"), second=REPLICA) as (*_, group):
        with pytest.raises(StoreUnavailable, match="is a replica, though the sentinels name it") as refused:
            await redis_sentinel.SentinelLink.of(config(), group)

    assert refused.value.definite


async def test_the_epoch_is_the_replication_id_and_a_never_promoted_server_is_not_emptied():
    """A new primary holds only what was written to it."""
    async with redis_group(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (one, *_, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        epoch = await link.epoch()
        await link.close()

    assert (epoch, one.calls["FLUSHALL"]) == (EPOCH_A, 0)


@pytest.mark.parametrize(("known", "emptied"), [(0, 1), (1, 0)])
async def test_a_promoted_server_is_emptied_once_per_promotion(known, emptied):
    """It may lack the last writes; the first client empties it and loads a script as a marker."""
    replies = {**primary(EPOCH_B, second=EPOCH_A), "SCRIPT": b"*1\r\n:%d\r\n" % known}
    async with redis_group(2, 2, 2, first=REPLICA, second=replies) as (_, two, _, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        await link.close()

    assert two.calls["FLUSHALL"] == emptied


# ---- when a reply counts

async def test_a_new_primary_is_used_immediately_if_the_old_one_is_down():
    """A server that refuses connections serves no client."""
    async with redis_group(2, 2, 2, second=primary(EPOCH_B)) as (one, _, _, group):
        await one.die()
        link = await redis_sentinel.SentinelLink.of(config(), group)
        epoch = await link.epoch()
        await link.close()

    assert epoch == EPOCH_B


@pytest.mark.parametrize("role", [None, b"*1\r\n$6\r\nmaster\r\n"], ids=["silent", "still a primary"])
async def test_a_new_primary_is_used_a_lease_later_where_the_old_one_may_still_serve(role):
    """By then all clients with a lease on the old primary have stopped using it."""
    async with redis_group(2, 2, 2, first={"ROLE": role}, second=primary(EPOCH_B)) as (_, _, _, group):
        link = redis_sentinel.SentinelLink(config(), group)
        with pytest.raises(StoreUnavailable, match="the former one may still serve others") as refused:
            await link.call("PING")
        await asyncio.sleep(redis_sentinel.LEASE_S)
        reply = await link.call("PING")
        await link.close()

    assert refused.value.definite
    assert reply == b"PONG" or reply == "PONG"


async def test_a_reply_of_a_primary_that_was_replaced_meanwhile_does_not_count():
    """The connection was idle, so its loss was not detected; the old primary still answers normally."""
    async with redis_group(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (_, two, watch, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        for sentinel in watch:
            sentinel.replies["SENTINEL"] = names(two.address)
        await asyncio.sleep(redis_sentinel.LEASE_S)
        with pytest.raises(StoreUnavailable) as refused:
            await link.call("SET", "k", "v")
        await link.close()

    assert not refused.value.definite  # the old primary did it


async def test_a_reply_counts_within_the_lease_even_while_the_sentinels_are_down():
    """A valid lease needs no sentinel; an expired one needs a majority."""
    async with redis_group(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (_, _, watch, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        for sentinel in watch:
            await sentinel.die()
        during = await link.call("PING")
        await asyncio.sleep(redis_sentinel.LEASE_S)
        with pytest.raises(StoreUnavailable):
            await link.call("PING")
        await link.close()

    assert during in (b"PONG", "PONG")


async def test_calls_under_a_lease_do_not_poll_the_sentinels():
    """A renewal is one poll per half lease, however many calls there are."""
    async with redis_group(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (one, _, watch, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        began_s = asyncio.get_running_loop().time()
        for _ in range(200):
            await link.call("PING")
        renewals = (asyncio.get_running_loop().time() - began_s) / (redis_sentinel.LEASE_S / 2)
        polls = watch[0].calls["SENTINEL"]
        await link.close()

    assert one.calls["PING"] == 200
    assert polls <= 2 + renewals
