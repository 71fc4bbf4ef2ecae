"""Metrics of a process: the table contains every name, a scrape returns all values."""

import asyncio
import threading

import pytest

from system.kernel.errors import WrongInput
from system.kernel.http import asgi
from system.kernel.telemetry import metrics
from system.kernel.telemetry.metrics import METRICS


def samples(line_start: str) -> list[str]:
    return [line for line in metrics.text().decode().splitlines() if line.startswith(line_start)]


def test_every_metric_follows_the_naming_rules_and_has_a_unit():
    """`tweetlab_<what>_<unit>`; a counter ends in _total, a histogram has rising buckets."""
    for name, row in METRICS.items():
        assert name.startswith("tweetlab_") and name == name.lower(), name
        assert name.endswith("_total") == (row.kind == "counter"), name
        assert row.help.endswith(".") and row.unit, name
        assert list(row.buckets) == sorted(set(row.buckets)), name


def test_a_counter_is_the_sum_of_its_increments():
    """Two increments with the same labels are one series."""
    metrics.count("tweetlab_shed_total", route="of this test")
    metrics.count("tweetlab_shed_total", 2, route="of this test")
    assert samples('tweetlab_shed_total{route="of this test"}') == ['tweetlab_shed_total{route="of this test"} 3.0']


def test_a_bound_histogram_counts_into_the_same_series():
    """A bound observer and a plain call update the same child."""
    observe = metrics.observer("tweetlab_pool_wait_seconds", dependency="of this test")
    observe(0.3)
    metrics.observe("tweetlab_pool_wait_seconds", 0.1, dependency="of this test")
    assert samples('tweetlab_pool_wait_seconds_count{dependency="of this test"}')[0].endswith(" 2.0")
    assert samples('tweetlab_pool_wait_seconds_bucket{dependency="of this test",le="0.25"}')[0].endswith(" 1.0")


def test_a_gauge_may_be_read_at_each_scrape():
    """`read` calls its function at the scrape, not before."""
    box = [1.0]
    metrics.read("tweetlab_breaker_state", lambda: box[0], dependency="of this test")
    box[0] = 2.0
    assert samples('tweetlab_breaker_state{dependency="of this test"}')[0].endswith(" 2.0")


@pytest.mark.parametrize(("name", "labels"), [
    ("tweetlab_unheard_of_total", {}),
    ("tweetlab_shed_total", {}),
    ("tweetlab_shed_total", {"route": "home", "user": "7"}),
    ("tweetlab_breaker_state", {"dependency": "redis"}),
])
def test_a_name_or_label_outside_the_table_is_refused(name, labels):
    """A metric without a row in METRICS, or with other labels or another kind, raises."""
    with pytest.raises(WrongInput, match=name):
        metrics.count(name, **labels)


async def test_pending_amounts_are_aggregated_without_a_scrape(monkeypatch):
    """The loop watcher empties the lists, so a process without scrapes does not grow; nothing counts twice."""
    monkeypatch.setattr(metrics, "LAG_EVERY_S", 0.01)
    add = metrics.counter("tweetlab_shed_total", route="of that test")
    for _ in range(100):
        add(1.0)
    pending = [amounts for amounts, _ in metrics._pending if len(amounts) == 100]
    assert len(pending) == 1
    watch = asyncio.ensure_future(metrics.watch_loop())
    await asyncio.sleep(0.1)
    watch.cancel()
    assert pending == [[]]
    assert samples('tweetlab_shed_total{route="of that test"}') == ['tweetlab_shed_total{route="of that test"} 100.0']


def test_observations_of_other_threads_are_all_counted():
    """Amounts that are appended during an aggregation wait for the next one."""
    observe = metrics.observer("tweetlab_pool_wait_seconds", dependency="threads")
    threads = [threading.Thread(target=lambda: [observe(0.1) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.text()
    assert samples('tweetlab_pool_wait_seconds_count{dependency="threads"}')[0].endswith(" 80000.0")


async def test_a_service_exposes_its_requests_by_route_and_status_class():
    """The label is the route pattern, never the requested path; unknown paths share one label."""
    async def handler(call: asgi.Call) -> asgi.Answer:
        return asgi.Answer({"id": call.params["id"]})

    app = asgi.App("a", [("GET", "/of/this/{id}", handler)], "a-1")
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    for path in ("/of/this/1", "/of/this/2", "/unheard", "/metrics"):
        await app({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}, receive, send)

    scrape = sent[-1]["body"].decode()
    assert 'tweetlab_request_seconds_count{route="GET /of/this/{id}",status="2xx"} 2.0' in scrape
    assert 'tweetlab_request_seconds_count{route="none",status="4xx"}' in scrape
    assert "/of/this/1" not in scrape and "/unheard" not in scrape
    assert "tweetlab_requests_in_flight 0.0" in scrape
