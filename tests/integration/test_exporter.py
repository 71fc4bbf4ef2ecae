"""The exporter on the real stores: each tells its counts; one that is away is told as such, and its series vanish."""

import shutil
import subprocess

import pytest

from system.kernel import settings, telemetry
from system.observe import stores
from system.observe.exporter import Exporter

pytestmark = pytest.mark.real

TELLING = {  # store -> a series that it must tell
    "cassandra": 'tweetlab_cassandra_tasks{node="cassandra-1",pool="MutationStage",state="pending"}',
    "elasticsearch": 'tweetlab_elasticsearch_heap_bytes{node="elasticsearch-1"}',
    "kafka": 'tweetlab_kafka_records_total{topic="new_tweet"}',
    "limits": 'tweetlab_redis_memory_bytes{node="limits-1"}',
    "nginx": 'tweetlab_nginx_requests_total{node="cdn-1"}',
    "postgres": 'tweetlab_postgres_size_bytes{node="postgres-1"}',
    "redis": 'tweetlab_redis_memory_bytes{node="redis-1"}',
}


def told():
    return telemetry.text().decode()


@pytest.fixture
async def exporter():
    made = Exporter(settings.from_env(), asked=[])
    yield made
    await made.close()


@pytest.mark.parametrize("store", sorted(TELLING))
async def test_a_store_tells_its_counts(exporter, store):
    """Asked twice, since readers of Cassandra and Kafka keep their client: the second answer comes over it."""
    (row,) = [row for row in stores.addresses(settings.from_env()) if row[0] == store]
    for _ in range(2):
        await exporter.ask(*row)

    assert f'tweetlab_store_up{{node="{row[2]}",store="{store}"}} 1.0' in told()
    assert TELLING[store] in told()


async def test_a_store_that_is_away_is_told_and_its_old_counts_vanish(exporter):
    """A gauge that stands still while its store is dead would be a lie."""
    config = settings.from_env()
    await exporter.ask("redis", config.stores.redis, "redis-77")
    assert 'tweetlab_redis_keys{node="redis-77"}' in told()

    await exporter.ask("redis", f"127.{config.range}.30.77:6379", "redis-77")

    assert 'tweetlab_store_up{node="redis-77",store="redis"} 0.0' in told()
    assert 'tweetlab_redis_keys{node="redis-77"}' not in told()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing")
async def test_a_scrape_is_what_prometheus_lints_as_good():
    """`promtool check metrics` over everything that this process has counted so far."""
    telemetry.observe("tweetlab_dependency_seconds", 0.1, dependency="redis", result="ok")
    done = subprocess.run(["promtool", "check", "metrics"], input=telemetry.text(), capture_output=True, timeout=30)  # noqa: ASYNC221
    assert done.returncode == 0, done.stderr.decode()
