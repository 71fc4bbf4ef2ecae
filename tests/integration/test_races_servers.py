"""Races that need a dedicated server or all ports: a Redis that changes (6), deadlines and commits (10), the index (12)."""

from __future__ import annotations

import asyncio
import shutil
import socket
from dataclasses import replace

import pytest
import pytest_asyncio

from system.kernel.errors import StoreUnavailable
from system.kernel.http import asgi
from system.kernel.search_query import Query, Word
from system.ports import Ask, Kind
from system.services.relay.handlers import EdgeRelay
from system.services.search.handlers import Indexer
from system.stores.redis.timelines import RedisTimelines
from system.stores.redis.tweets import RedisTweets
from tests.helpers.races_bench import Bench, held
from tests.helpers.services_rig import stored, until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


# ---- 6: a Redis that was replaced ------------------------------------------------------------------------


class OwnRedis:
    """A Redis of this test alone, which can be killed and restarted with its data."""

    def __init__(self, folder: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        port = self.address.rpartition(":")[2]
        self._process = await asyncio.create_subprocess_exec(
            shutil.which("redis-server") or "redis-server", "--port", port, "--dir", self._folder, "--save", "",
            "--appendonly", "no", stdout=asyncio.subprocess.DEVNULL)
        await until(self._answers)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(*self.address.split(":"))
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()


@pytest_asyncio.fixture(loop_scope="session")
async def own_redis(bench, tmp_path):
    """A bench whose cache is a Redis of its own."""
    server = OwnRedis(str(tmp_path))
    await server.start()
    settings = replace(bench.settings, stores=replace(bench.settings.stores, redis=server.address))
    cache, hot = await RedisTimelines.open(settings), await RedisTweets.open(settings)
    yield server, Bench(settings, replace(bench.ports, timelines=cache, hot=hot))
    await cache.close()
    await hot.close()
    await server.kill()


async def test_lists_that_survived_a_restart_count_as_missing(own_redis):
    """Point 6. The server restarts with lists that lack what was pushed in the meantime (like a promoted replica): its run
    id differs from the one in their marks, so they are rebuilt on the next read."""
    server, bench = own_redis
    reader, author = await bench.people(2)
    await bench.follow(reader, author)
    posted = await bench.post(author, 2)
    await bench.warm(reader)
    await bench.ports.timelines.link.call("SAVE")
    posted += await bench.post(author)
    await server.kill()
    with pytest.raises(StoreUnavailable):
        await bench.ports.timelines.page(Kind.HOME, reader, None, 10)
    await server.start()

    assert await bench.listed(reader) is None
    page = await bench.home_page(reader)

    assert [tweet.id for tweet in page.tweets] == posted[::-1]
    assert page.source == "rebuild"


async def test_a_page_comes_from_cassandra_while_the_cache_is_down(own_redis):
    """Point 6. Without Redis a reader is served completely from Cassandra; no list is trusted or filled."""
    server, bench = own_redis
    reader, author = await bench.people(2)
    await bench.follow(reader, author)
    posted = await bench.post(author, 3)
    await server.kill()

    page = await bench.home_page(reader)
    await server.start()

    assert [tweet.id for tweet in page.tweets] == posted[::-1]
    assert page.source == "direct"


async def test_a_loss_during_a_rebuild_restarts_it(own_redis):
    """Point 6. The server dies with the building mark and restarts empty: the token is missing, so nothing is completed."""
    server, bench = own_redis
    reader, author = await bench.people(2)
    await bench.follow(reader, author)
    posted = await bench.post(author, 2)

    with held("build.home.after_read", owner=reader) as rebuild:
        reading = asyncio.create_task(bench.home(reader))
        await rebuild.reached()
        await server.kill()
        await server.start()
        posted += await bench.post(author)
        rebuild.release()
        shown = await reading

    assert shown == posted[::-1]


# ---- 10: acknowledgements --------------------------------------------------------------------------------


async def test_a_repeated_follow_is_durable_by_itself(bench):
    """Point 10. A repeat that changes nothing still writes an outbox row, so its commit waits for the standby, too."""
    follower, followee = await bench.people(2)
    kept: list = []

    class Keeps:
        async def publish(self, events):
            kept.extend(events)

    for _ in range(3):
        await bench.ports.users.follow(follower, followee)
    await EdgeRelay(bench.ports.users, Keeps()).drain()

    edges = [(event.payload.get("follower_id"), event.payload.get("followee_id")) for event in kept]
    mine = [edge for edge in edges if edge == (follower, followee)]
    assert len(mine) == 3


async def test_a_deadline_does_not_cancel_a_commit(bench):
    """Point 10. The caller gets 504, outcome unknown; the statement runs to its end, so a cancelled wait for the standby is
    never mistaken for a commit."""
    follower, followee = await bench.people(2)
    free = asyncio.Event()

    async def follow(call: asgi.Call) -> asgi.Answer:
        await free.wait()
        await bench.ports.users.follow(follower, followee)
        return asgi.Answer({})

    app = asgi.App("users", [("POST", "/follow", follow)], "users-1")
    sent: list[dict] = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/follow", "headers": [(b"x-deadline-ms", b"50")], "query_string": b""}
    await app(scope, receive, send)
    free.set()

    async def is_stored() -> bool:
        return (await bench.ports.users.edge(follower, followee)).following

    assert sent[0]["status"] == 504
    await until(is_stored)


# ---- 12: the index ---------------------------------------------------------------------------------------


async def test_a_late_write_of_an_earlier_read_does_not_revive_a_deleted_document(rig):
    """Point 12. An indexer reads the live tweet and pauses; it is deleted and another indexes that; the first resumes. The
    time of the read is the version, and deleted documents are kept: a version from the event, or a delete, would fail."""
    (author,) = await rig.people("ann")
    word = f"revenant{author}x{rig.config.namespace}"
    tweet = await stored(rig.ports, author, f"a {word} walks")

    with held("index.after_read", ids=(tweet.id,)) as late:
        first = asyncio.create_task(Indexer(rig.ports).index_current([tweet.id]))
        await late.reached()
        await rig.ports.tweets.delete(tweet.id, author)
        await Indexer(rig.ports).index_current([tweet.id])
        late.release()
        await first
    await rig.ports.index.refresh()

    assert await rig.ports.index.found([tweet.id]) == set()
    assert (await rig.ports.index.search(Ask(Query((Word(word),)), 10))).hits == []
