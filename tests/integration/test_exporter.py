"""The exporter on the real stores: it exports each store's counts; an unreachable store is reported and its series vanish."""

import subprocess

import pytest

from system.kernel import events, settings
from system.kernel.telemetry import metrics
from system.observe import stores
from system.observe.exporter import Exporter
from system.platform.install import packages
from system.services.media import app as media
from tests.helpers import services_rig
from tests.helpers.requirements import requires

pytestmark = pytest.mark.real

REQUIRED_SERIES = {  # store -> a series that must be exported
    "cassandra": 'tweetlab_cassandra_tasks{node="cassandra-1",pool="MutationStage",state="pending"}',
    "elasticsearch": 'tweetlab_elasticsearch_heap_bytes{node="elasticsearch-1"}',
    "kafka": 'tweetlab_kafka_records_total{topic="new_tweet"}',
    "limits": 'tweetlab_redis_memory_bytes{node="limits-1"}',
    "nginx": 'tweetlab_nginx_requests_total{node="cdn-1"}',
    "postgres": 'tweetlab_postgres_size_bytes{node="postgres-1"}',
    "redis": 'tweetlab_redis_memory_bytes{node="redis-1"}',
}


def scraped():
    return metrics.text().decode()


@pytest.fixture
async def exporter():
    started = Exporter(settings.from_env(), asked=[])
    yield started
    await started.close()


@pytest.mark.parametrize("store", sorted(REQUIRED_SERIES))
async def test_a_store_exports_its_counts(exporter, store):
    """Scraped twice, since readers of Cassandra and Kafka keep their client: the second scrape reuses it."""
    (row,) = [row for row in stores.addresses(settings.from_env()) if row[0] == store]
    is_up = f'tweetlab_store_up{{node="{row[2]}",store="{store}"}} 1.0'

    async def answers() -> bool:
        await exporter.ask(*row)
        return is_up in scraped()

    await services_rig.until(answers)  # the first connection may take longer than the exporter's timeout
    await exporter.ask(*row)

    assert is_up in scraped()
    assert REQUIRED_SERIES[store] in scraped()


async def test_an_unreachable_store_is_reported_and_its_old_counts_vanish(exporter):
    """A constant gauge of a dead store would be misleading."""
    config = settings.from_env()
    await exporter.ask("redis", config.stores.redis, "redis-77")
    assert 'tweetlab_redis_keys{node="redis-77"}' in scraped()

    await exporter.ask("redis", f"127.{config.range}.30.77:6379", "redis-77")

    assert 'tweetlab_store_up{node="redis-77",store="redis"} 0.0' in scraped()
    assert 'tweetlab_redis_keys{node="redis-77"}' not in scraped()


async def test_the_lag_of_a_group_that_never_committed_is_the_whole_topic():
    """A worker that fails on its first records, or never started, lags like one that stopped later."""
    config = services_rig.fresh_settings()
    (row,) = [row for row in stores.addresses(config) if row[0] == "kafka"]
    reader = stores.Kafka()
    async with services_rig.stores(config, ("log",)) as ports:
        await ports.log.publish([events.tweet_deleted(n, n) for n in range(40)])
        member = await ports.log.consumer("fanout", [events.TWEET_DELETED])
        try:
            while not await member.poll(1, 1.0):
                pass
            await member.commit()  # of one partition; nothing is committed for the others
        finally:
            await member.close()
        lag = {(each.labels["group"], each.labels["topic"]): each.value for each in await reader(config, row[1], row[2])
                if each.name == "tweetlab_group_lag_records"}
        await reader.close()

    topic = config.topic(events.TWEET_DELETED)
    assert lag[config.topic("fanout"), topic] == 39
    assert lag[config.topic("indexer"), topic] == lag[config.topic("media"), topic] == 40
    assert lag[config.topic("liker"), config.topic(events.NEW_LIKE)] == 0


def test_only_topics_and_groups_of_the_own_namespace_are_read():
    default, other = settings.from_env(), services_rig.fresh_settings()
    own, others = ["new_tweet", "new_tweet.dead", "relay-1"], [other.topic("new_tweet"), other.topic("new_tweet.dead")]
    names = [*own, *others, "elsewhere.fanout"]

    assert [name for name in names if stores.owns(default, name)] == own
    assert [name for name in names if stores.owns(other, name)] == others


def test_every_consumer_group_is_known():
    """A group that the exporter does not know would be invisible until it commits."""
    assert stores.GROUPS == {**events.GROUPS, media.GROUP: (events.TWEET_DELETED,)}


@requires(packages.PROMETHEUS)
async def test_prometheus_lints_a_scrape_without_errors():
    """`promtool check metrics` on all metrics of this process."""
    metrics.observe("tweetlab_dependency_seconds", 0.1, dependency="redis", result="ok")
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics.text(), capture_output=True, timeout=30)  # noqa: ASYNC221
    assert done.returncode == 0, done.stderr.decode()
