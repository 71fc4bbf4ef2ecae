"""Jaeger and rsyslog in a lab with --observe: one post is one trace, and every log line is stored once."""

import asyncio
import json
import logging
import time

import aiohttp
import pytest
import pytest_asyncio

from system.kernel.telemetry import logs, tracing, tracing_setup
from system.observe import log_index
from system.observe.log_index import LogIndex
from system.platform import blueprint, native
from system.platform.blueprint import Blueprint
from system.platform.install import packages
from tests.helpers import services_rig
from tests.helpers.requirements import requires
from tweetlab import home
from tweetlab.lab import log_search, traces

pytestmark = [
    pytest.mark.real,
    pytest.mark.asyncio(loop_scope="module"),
    requires(packages.JAEGER, packages.RSYSLOG, packages.RSYSLOG_ELASTICSEARCH),
]
LOOKING_ON = tuple(node for node in blueprint.OBSERVERS if node.kind in ("jaeger", "rsyslog"))


TRACE = "ab" * 16
OF_A_POST = {
    "gateway POST /2/tweets", "gateway call tweets", "tweets POST /2/tweets", "tweets cassandra append",
    "tweets new_tweet publish", "fanout new_tweet process", "fanout redis push_chunk",
    "indexer new_tweet process", "indexer elasticsearch index",
}
OF_A_FOLLOW = {
    "gateway POST /2/users/{id}/following", "users postgres follow", "relay new_follow publish", "fanout new_follow process",
}


class Silent:
    """An exporter for requests none of which is sampled."""


class Proxy:
    """A TCP proxy to Elasticsearch that can be closed: it then refuses connections and drops the open ones."""

    def __init__(self, to):
        self.to, self.port, self._server, self._inside = to, 0, None, set()

    async def open(self):
        """Accept connections, at the same address as before."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self):
        """Refuse connections from now on."""
        self._server.close()
        for writer in list(self._inside):
            writer.close()
        await asyncio.sleep(0)

    async def _pass(self, reader, writer):
        upstream = await asyncio.open_connection(*self.to.split(":"))
        self._inside |= {writer, upstream[1]}
        await asyncio.gather(_pump(reader, upstream[1]), _pump(upstream[0], writer))
        self._inside -= {writer, upstream[1]}


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def looking(tmp_path_factory):
    """Jaeger and rsyslog in a lab of their own, with the stores of the tests' lab; (lab, proxy, index, configuration)."""
    config = services_rig.fresh_settings()
    address = config.stores.elasticsearch_urls[0].removeprefix("http://")
    lab, proxy = native.Lab(tmp_path_factory.mktemp("looking"), home.lab_range()), Proxy(address)
    index = LogIndex(f"http://{address}", config.namespace)
    await proxy.open()
    await index.prepare()
    stores = json.dumps({"elasticsearch": [f"http://127.0.0.1:{proxy.port}"]})
    try:
        await lab.up(Blueprint("looking", LOOKING_ON), {"TWEETLAB_NAMESPACE": config.namespace, "TWEETLAB_STORES": stores})
        yield lab, proxy, index, config
    finally:
        await lab.down(purge=True)
        await index.remove()
        await proxy.shut()


async def until(look, what, within_s=15.0):
    """Return what `look` returns as soon as it is true."""
    deadline_s = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline_s, f"{what} did not happen within {within_s} s"
        await asyncio.sleep(0.2)
    return found


async def test_a_post_and_its_asynchronous_effects_are_one_trace(looking):
    """Gateway, service, stores, Kafka, fan-out, indexer: each span below its parent. Likewise a follow, through the relay."""
    lab, _, _, config = looking
    tracing_setup.start(f"http://{lab.plan.host('jaeger')}:4318", 1.0, "test-1")
    url = f"http://{lab.plan.of('jaeger')}"
    try:
        async with services_rig.stores(config) as ports, services_rig.running(config, ports) as rig:
            ada, bob = await rig.people("ada", "bob")
            path = f"/2/users/{bob}/following"
            _, _, followed = await rig.ask("POST", path, bob, json={"target_user_id": str(ada)})
            await rig.home(bob)
            _, _, posted = await rig.ask("POST", "/2/tweets", ada, json={"text": "one walrus, one trace"})

            async def complete(trace_id, wanted):
                tracing.stop()
                trace = await traces.one(url, trace_id)
                return trace if trace is not None and wanted <= {f"{s.service} {s.name}" for s in trace.steps} else None

            ids = posted["x-tweetlab-trace"], followed["x-tweetlab-trace"]
            post = await until(lambda: complete(ids[0], OF_A_POST), "the trace of the post")
            follow = await until(lambda: complete(ids[1], OF_A_FOLLOW), "the trace of the follow")
            slow, _ = await traces.slowest(url, route="POST /2/tweets")
    finally:
        tracing.use(None)

    assert [[step.depth for step in each.steps].count(0) for each in (post, follow)] == [1, 1]  # no orphan spans
    assert post.steps[0].name == "POST /2/tweets" and post.id in [each.id for each in slow]
    assert not post.failed and post.ms < post.all_ms


async def test_every_log_line_is_stored_once_though_elasticsearch_and_the_shipper_fail(looking):
    """Lines that cannot be shipped are queued; a line shipped twice is one document. A line that is not JSON becomes `raw`."""
    lab, proxy, index, _ = looking
    file = lab.log_path("tweets-1")
    write = logs.Json("tweets", "tweets-1").format
    written = []

    def say(count, what):
        lines = [write(logging.LogRecord("tweetlab", logging.INFO, "x.py", 1, f"{what} {n}", (), None)) for n in range(count)]
        written.extend(lines)
        with file.open("a") as out:
            out.write("\n".join(lines) + "\n")

    async def count(what):
        await index.refresh()
        return len(await index.find(log_index.query(what), 1_000))

    async def arrived(what, wanted):
        return await count(what) == wanted

    say(300, "parrot")
    await until(lambda: arrived("parrot", 300), "shipping")
    await proxy.shut()
    say(300, "walrus")
    await asyncio.sleep(2.0)
    await lab.kill("rsyslog-1")
    say(100, "puffin")
    with file.open("a") as out:
        out.write("Traceback of an auk\n")
    await asyncio.sleep(1.0)
    await proxy.open()
    await until(lambda: arrived("walrus", 300), "catching up")
    await until(lambda: arrived("auk", 1), "shipping what is no JSON")

    assert (await count("parrot"), await count("walrus"), await count("puffin")) == (300, 300, 100)
    (auk,) = await index.find(log_index.query("auk", level="raw", service="tweets"), 10)
    assert auk["instance"] == "tweets-1"


async def test_a_log_search_by_trace_gives_the_same_lines_from_index_and_files(looking):
    """`tweetlab logs --trace ID` returns the same with and without Elasticsearch."""
    lab, _, index, _ = looking
    tracing.use(Silent())
    tracing.behind_mesh("GET /2/tweets", "r99", f"00-{TRACE}-{'cd' * 8}-00", "users")
    text = logs.Json("users", "users-1").format(logging.LogRecord("tweetlab", logging.ERROR, "x.py", 1, "no nest", (), None))
    tracing.use(None)
    lab.log_path("users-1").write_text(text + "\n")
    ask = log_search.Ask(trace=TRACE, level="error", since_s=300)

    async def shipped():
        await index.refresh()
        return await index.find(log_index.query(trace=ask.trace, level=ask.level, since_s=ask.since_s), 10)

    (indexed,) = await until(shipped, "shipping")
    ((in_file,), _) = log_search.in_files(lab.log_path("x").parent, ask, 10)

    assert indexed == in_file and indexed["message"] == "no nest"


async def test_jaeger_serves_a_page_that_shows_a_trace(looking):
    """The page is not part of the Go module of Jaeger."""
    lab = looking[0]
    async with aiohttp.ClientSession() as web, web.get(f"http://{lab.plan.of('jaeger')}/trace/abc") as answer:
        assert answer.status == 200 and "Traces of the lab" in await answer.text()


async def test_log_indices_of_old_hours_are_deleted(looking):
    """The exporter triggers it every minute; the current hour is kept."""
    lab, _, index, config = looking
    old = '{"id":"dodo-1","time":"2026-01-02T03:04:05.000Z","level":"info","instance":"users-1","message":"dodo"}\n'
    with lab.log_path("users-1").open("a") as out:
        out.write(old + old)

    async def shipped():
        await index.refresh()
        return await index.find(log_index.query("dodo"), 10)

    rows = await until(shipped, "shipping")
    gone = await index.prune()

    assert [row["id"] for row in rows] == ["dodo-1"]
    assert gone == [f"{config.namespace}-logs-2026-01-02-03"] and await shipped() == []
