"""The cache under sentinels: its address, who is primary, and when a reply of it counts. Against servers made of tables."""

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


class Fake:
    """A server that answers by the first word(s) of a command: bytes as they are, None: silence. `asked` counts them."""

    def __init__(self, **answers):
        self.answers, self.asked, self.writers = answers, Counter(), []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, HOST, 0)
        self.address = f"{HOST}:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        await self.die()

    async def die(self):
        """Close the door and hang up on everybody."""
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
                    self.asked[words[0]] += 1
                    answer = self.answers.get(words[0], b"+OK\r\n")
                    if answer is not None:
                        writer.write(answer)


def names(address):
    return b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part.encode()) for part in address.split(":"))


def primary(epoch, second=NEVER, role="master"):
    text = f"# Replication\r\nrole:{role}\r\nmaster_replid:{epoch}\r\nmaster_replid2:{second}\r\n".encode()
    return {"INFO": b"$%d\r\n%s\r\n" % (len(text), text), "ROLE": b"*1\r\n$6\r\nmaster\r\n", "PING": b"+PONG\r\n"}


REPLICA = {"ROLE": b"*1\r\n$5\r\nslave\r\n"}


@contextlib.asynccontextmanager
async def house(*sentinels, first=None, second=None):
    """Two servers and sentinels. `sentinels`: for each the number of the server that it names, None: it is silent."""
    async with contextlib.AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Fake(**(told or {}))) for told in (first, second)]
        watch = [await stack.enter_async_context(Fake(SENTINEL=which and names((one, two)[which - 1].address)))
                 for which in sentinels]
        group = settings.Group(tuple(each.address for each in watch), "cache", (one.address, two.address))
        yield one, two, watch, group


def config():
    plain = settings.from_env({})
    return dataclasses.replace(plain, policies=policies.Policies(timeout=policies.TimeoutKnobs(redis_s=2.0)))


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(redis_sentinel, "LEASE_S", 1.0)
    monkeypatch.setattr(redis_sentinel, "ASK_TIMEOUT_S", 0.5)


# ---- addresses

def test_the_address_of_a_cache_names_sentinels_group_and_servers():
    """`sentinel://…/name?servers=…`; a plain address names no group."""
    told = settings.group_of("sentinel://h1:1,h2:2,h3:3/cache?servers=r1:6379,r2:6379")

    assert told == settings.Group(("h1:1", "h2:2", "h3:3"), "cache", ("r1:6379", "r2:6379"))
    assert settings.group_of("127.1.30.1:6379") is None


@pytest.mark.parametrize("address", ["sentinel://", "sentinel://h1:1/cache", "sentinel://h1:1/?servers=r:1",
                                     "sentinel://h1/cache?servers=r:1", "sentinel://h1:1/cache?servers=r1:x"])
def test_a_malformed_address_of_a_cache_is_refused_with_the_right_form(address):
    """In the process that reads it, not at the first use."""
    stores = {**settings.default_stores(7), "redis": address}

    with pytest.raises(WrongInput, match=r"must be host:port or sentinel://host:port"):
        settings.parse_stores(stores)


async def test_a_plain_address_takes_the_plain_way():
    """`small` has one Redis: its link knows nothing of sentinels, leases and roles."""
    text = b"run_id:" + b"c" * 40 + b"\r\n"
    async with Fake(INFO=b"$%d\r\n%s\r\n" % (len(text), text)) as server:
        at = config()
        link = await redis_base.open_link(dataclasses.replace(at, stores=dataclasses.replace(at.stores, redis=server.address)))
        epoch = await link.epoch()
        await link.close()

    assert type(link) is redis_base.Link
    assert (epoch, server.asked["ROLE"], server.asked["SCRIPT"] > 0) == ("c" * 40, 0, True)


# ---- who is primary

async def test_the_primary_is_whom_more_than_half_of_the_sentinels_name():
    """One that was away names an old primary; one that hangs is not waited for."""
    async with house(2, 2, None) as (_, two, _, group):
        sentinels = redis_sentinel.Sentinels(group)
        began_s = asyncio.get_running_loop().time()
        told = await sentinels.primary()
        took_s = asyncio.get_running_loop().time() - began_s
        sentinels.close()

    assert told == two.address
    assert took_s < redis_sentinel.ASK_TIMEOUT_S


async def test_without_a_majority_nobody_is_primary_and_the_message_says_who_said_what():
    """One names the first, one the second, one hangs."""
    async with house(1, 2, None) as (one, two, watch, group):
        sentinels = redis_sentinel.Sentinels(group)
        with pytest.raises(StoreUnavailable) as refused:
            await sentinels.primary()
        sentinels.close()

    assert refused.value.definite
    assert f"1 name {one.address}; 1 name {two.address}; {watch[2].address}: Redis" in refused.value.detail


async def test_a_server_that_says_it_is_a_replica_is_not_used():
    """The sentinels may name one that has not been promoted yet."""
    async with house(1, 1, 1, first=primary(EPOCH_A, role="slave"), second=REPLICA) as (*_, group):
        with pytest.raises(StoreUnavailable, match="is a replica, though the sentinels name it") as refused:
            await redis_sentinel.SentinelLink.of(config(), group)

    assert refused.value.definite


async def test_the_epoch_is_the_replication_id_and_no_server_is_emptied_that_was_never_promoted():
    """A fresh primary holds what it was told, and nothing else."""
    async with house(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (one, *_, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        epoch = await link.epoch()
        await link.close()

    assert (epoch, one.asked["FLUSHALL"]) == (EPOCH_A, 0)


@pytest.mark.parametrize(("known", "emptied"), [(0, 1), (1, 0)])
async def test_a_promoted_server_is_emptied_once_in_its_reign(known, emptied):
    """It may lack the last writes of its predecessor; the first to come empties it and leaves word among the scripts."""
    told = {**primary(EPOCH_B, second=EPOCH_A), "SCRIPT": b"*1\r\n:%d\r\n" % known}
    async with house(2, 2, 2, first=REPLICA, second=told) as (_, two, _, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        await link.close()

    assert two.asked["FLUSHALL"] == emptied


# ---- when a reply counts

async def test_a_new_primary_is_used_at_once_where_the_old_one_is_gone():
    """Nobody can be served by a server that refuses connections."""
    async with house(2, 2, 2, second=primary(EPOCH_B)) as (one, _, _, group):
        await one.die()
        link = await redis_sentinel.SentinelLink.of(config(), group)
        epoch = await link.epoch()
        await link.close()

    assert epoch == EPOCH_B


@pytest.mark.parametrize("role", [None, b"*1\r\n$6\r\nmaster\r\n"], ids=["silent", "still a primary"])
async def test_a_new_primary_is_used_a_lease_later_where_the_old_one_may_still_serve(role):
    """Whoever holds a lease on the old one has stopped by then."""
    async with house(2, 2, 2, first={"ROLE": role}, second=primary(EPOCH_B)) as (_, _, _, group):
        link = redis_sentinel.SentinelLink(config(), group)
        with pytest.raises(StoreUnavailable, match="the former one may still serve others") as refused:
            await link.call("PING")
        await asyncio.sleep(redis_sentinel.LEASE_S)
        reply = await link.call("PING")
        await link.close()

    assert refused.value.definite
    assert reply == b"PONG" or reply == "PONG"


async def test_a_reply_of_a_primary_that_was_replaced_meanwhile_does_not_count():
    """The connection was idle, so its loss was never noticed; the old primary answers as if nothing had happened."""
    async with house(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (_, two, watch, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        for sentinel in watch:
            sentinel.answers["SENTINEL"] = names(two.address)
        await asyncio.sleep(redis_sentinel.LEASE_S)
        with pytest.raises(StoreUnavailable) as refused:
            await link.call("SET", "k", "v")
        await link.close()

    assert not refused.value.definite  # the old primary did it


async def test_a_reply_counts_within_the_lease_even_while_the_sentinels_are_away():
    """A lease that has not run out needs nobody; one that ran out needs a majority."""
    async with house(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (_, _, watch, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        for sentinel in watch:
            await sentinel.die()
        during = await link.call("PING")
        await asyncio.sleep(redis_sentinel.LEASE_S)
        with pytest.raises(StoreUnavailable):
            await link.call("PING")
        await link.close()

    assert during in (b"PONG", "PONG")


async def test_calls_under_a_lease_do_not_ask_the_sentinels():
    """A renewal is one round in half a lease, however many calls there are."""
    async with house(1, 1, 1, first=primary(EPOCH_A), second=REPLICA) as (one, _, watch, group):
        link = await redis_sentinel.SentinelLink.of(config(), group)
        began_s = asyncio.get_running_loop().time()
        for _ in range(200):
            await link.call("PING")
        rounds = (asyncio.get_running_loop().time() - began_s) / (redis_sentinel.LEASE_S / 2)
        asked = watch[0].asked["SENTINEL"]
        await link.close()

    assert one.asked["PING"] == 200
    assert asked <= 2 + rounds
