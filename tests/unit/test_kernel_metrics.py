"""Metrics of a process: the table holds every name, a scrape tells what was counted."""

import asyncio
import threading

import pytest

from system.kernel.errors import WrongInput
from system.kernel.http import asgi
from system.kernel.telemetry import metrics
from system.kernel.telemetry.metrics import METRICS


def told(line_start: str) -> list[str]:
    return [line for line in metrics.text().decode().splitlines() if line.startswith(line_start)]


def test_every_metric_is_named_by_what_it_is_and_says_its_unit():
    """`tweetlab_<what>_<unit>`; a counter ends in _total, a histogram has rising buckets."""
    for name, row in METRICS.items():
        assert name.startswith("tweetlab_") and name == name.lower(), name
        assert name.endswith("_total") == (row.kind == "counter"), name
        assert row.help.endswith(".") and row.unit, name
        assert list(row.buckets) == sorted(set(row.buckets)), name


def test_a_counter_tells_the_sum_of_what_was_added():
    """Two counts of one label set are one series."""
    metrics.count("tweetlab_shed_total", route="of this test")
    metrics.count("tweetlab_shed_total", 2, route="of this test")
    assert told('tweetlab_shed_total{route="of this test"}') == ['tweetlab_shed_total{route="of this test"} 3.0']


def test_a_bound_histogram_counts_into_the_same_series():
    """The fast way and the plain way meet in one child."""
    seen = metrics.observer("tweetlab_pool_wait_seconds", dependency="of this test")
    seen(0.3)
    metrics.observe("tweetlab_pool_wait_seconds", 0.1, dependency="of this test")
    assert told('tweetlab_pool_wait_seconds_count{dependency="of this test"}')[0].endswith(" 2.0")
    assert told('tweetlab_pool_wait_seconds_bucket{dependency="of this test",le="0.25"}')[0].endswith(" 1.0")


def test_a_gauge_may_be_read_at_each_scrape():
    """`read` asks its function when it is scraped, not before."""
    box = [1.0]
    metrics.read("tweetlab_breaker_state", lambda: box[0], dependency="of this test")
    box[0] = 2.0
    assert told('tweetlab_breaker_state{dependency="of this test"}')[0].endswith(" 2.0")


@pytest.mark.parametrize(("name", "labels"), [
    ("tweetlab_unheard_of_total", {}),
    ("tweetlab_shed_total", {}),
    ("tweetlab_shed_total", {"route": "home", "user": "7"}),
    ("tweetlab_breaker_state", {"dependency": "redis"}),
])
def test_a_name_or_label_outside_the_table_is_refused(name, labels):
    """A metric stands in METRICS with its labels and kind, or it raises."""
    with pytest.raises(WrongInput, match=name):
        metrics.count(name, **labels)


async def test_what_was_counted_is_summed_up_without_a_scrape(monkeypatch):
    """The loop's watch empties the lists, so a process that nobody scrapes does not grow; nothing is told twice."""
    monkeypatch.setattr(metrics, "LAG_EVERY_S", 0.01)
    add = metrics.counter("tweetlab_shed_total", route="of that test")
    for _ in range(100):
        add(1.0)
    waiting = [amounts for amounts, _ in metrics._pending if len(amounts) == 100]
    assert len(waiting) == 1
    watch = asyncio.ensure_future(metrics.watch_loop())
    await asyncio.sleep(0.1)
    watch.cancel()
    assert waiting == [[]]
    assert told('tweetlab_shed_total{route="of that test"}') == ['tweetlab_shed_total{route="of that test"} 100.0']


def test_counts_of_another_thread_are_all_told():
    """What is appended while the lists are summed up waits for the next time."""
    seen = metrics.observer("tweetlab_pool_wait_seconds", dependency="threads")
    threads = [threading.Thread(target=lambda: [seen(0.1) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.text()
    assert told('tweetlab_pool_wait_seconds_count{dependency="threads"}')[0].endswith(" 80000.0")


async def test_a_service_tells_its_requests_by_route_and_class_of_status():
    """The label is the row of the table, never the path that was asked; an unknown path has a label of its own."""
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
