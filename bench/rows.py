"""The rows of the bench: name, what is measured, the bar (the accepted range), and the measuring function.

To add a row, add it here only. Ratios are fractions. `ROW=name make bench` runs one row and merges it into
`runs/bench/latest.json`. Rows that need a lab start one, use it and stop it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

Measure = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """`low`, `high`: the bar, both ends included; None: no bound on that side. `unit`: of the value."""

    name: str
    what: str
    unit: str
    low: float | None
    high: float | None
    measure: Measure

    @property
    def bar(self) -> str:
        """The bar as text."""
        if self.low is None and self.high is None:
            return "none"
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f">= {self.low:g}" if self.low is not None else f"<= {self.high:g}"

    def holds(self, value: float) -> bool:
        """Return whether `value` is within the bar. NaN never is."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high) and value == value


def _up_small() -> float:
    from bench import platform_rows

    return asyncio.run(platform_rows.up_small_s())


def _rss_small() -> float:
    from bench import platform_rows

    return asyncio.run(platform_rows.rss_small_gib())


def _home_ratio() -> float:
    from bench import home_read

    return asyncio.run(home_read.cpu_ratio())


def _sweep_seconds() -> float:
    from bench.notebooks import measured

    return measured.sweep_100_points_s()


def _notebook_seconds() -> float:
    from bench.notebooks import measured

    return measured.notebooks_s()


def _first_answer() -> float:
    from bench.notebooks import measured

    return measured.api_first_answer_s()


def _home_rps() -> float:
    from bench import load_rows

    return asyncio.run(load_rows.capacity("home"))


def _post_rps() -> float:
    from bench import load_rows

    return asyncio.run(load_rows.capacity("post"))


def _deliveries() -> float:
    from bench import fanout

    return asyncio.run(fanout.measured()).deliveries_per_s


def _zadd_ratio() -> float:
    from bench import fanout

    return asyncio.run(fanout.measured()).vs_zadd


def _delivery_p99() -> float:
    from bench import load_rows

    return asyncio.run(load_rows.delivery_p99_s())


def _freeze() -> float:
    from bench.selfchecks import load_selfcheck

    return load_selfcheck.freeze_p95_ratio()


def _start_lag() -> float:
    from bench.selfchecks import load_selfcheck

    return load_selfcheck.start_lag_p99_ms()


def _seed() -> float:
    from bench import platform_rows

    return asyncio.run(platform_rows.seed_100k_s())


def _reset() -> float:
    from bench import platform_rows

    return asyncio.run(platform_rows.reset_small_s())


def _media_put() -> float:
    from bench import media_rows

    return asyncio.run(media_rows.ratios())[0]


def _media_upload() -> float:
    from bench import media_rows

    return asyncio.run(media_rows.ratios())[1]


def _cdn_hit() -> float:
    from bench import media_rows

    return asyncio.run(media_rows.hit_vs_lru())


def _telemetry() -> float:
    from bench import telemetry

    return asyncio.run(telemetry.overhead())


def _rss_observed() -> float:
    from bench import telemetry

    return asyncio.run(telemetry.rss_observed_gib())


def _false_changes() -> float:
    from bench.selfchecks import compare_selfcheck

    return float(compare_selfcheck.compare_false_changes())


def _found_changes() -> float:
    from bench.selfchecks import compare_selfcheck

    return float(compare_selfcheck.compare_found_changes())


def _exact_bounds() -> float:
    from bench.selfchecks import bounds_selfcheck

    return float(bounds_selfcheck.exact_bounds_wrong())


def _search_p95() -> float:
    from bench import search

    return asyncio.run(search.p95_ms())


def _index_visible() -> float:
    from bench import search

    return asyncio.run(search.visible_p99_s())


def _conformance() -> float:
    from bench.text import conformance

    return conformance.share()


def _mention_visible() -> float:
    from bench.text import mentions

    return asyncio.run(mentions.visible_p99_s())


def _scale_out() -> float:
    from bench import scale_rows

    return asyncio.run(scale_rows.doubled())[0]


def _scale_failed() -> float:
    from bench import scale_rows

    return asyncio.run(scale_rows.doubled())[1]


def _not_finite() -> float:
    from bench import check_rows

    return float(len(check_rows.accepted()))


def _graph_seconds() -> float:
    from bench import graphs

    return graphs.measured()[0]


def _graph_memory() -> float:
    from bench import graphs

    return graphs.measured()[1]


def _client_methods() -> float:
    from bench.clients import row

    return asyncio.run(row.ignored())


def _docker_p50() -> float:
    from bench.containers import provider_rows

    return asyncio.run(provider_rows.home_read_p50_ratio())


def _docker_cpu() -> float:
    from bench.containers import provider_rows

    return asyncio.run(provider_rows.home_read_cpu_ratio())


def _docker_rss() -> float:
    from bench.containers import provider_rows

    return asyncio.run(provider_rows.rss_ratio())


def _compose_up() -> float:
    from bench.containers import compose_rows

    return asyncio.run(compose_rows.compose_small_up_s())


def _services_image() -> float:
    from bench.containers import compose_rows

    return compose_rows.services_image_mib()


def _twin_speed() -> float:
    from bench.twin import speed

    return speed.twin_requests_per_s()


def _simpy_speed() -> float:
    from bench.twin import speed

    return speed.simpy_requests_per_s()


def _mm2_ciw() -> float:
    from bench.twin import speed

    return speed.mm2_vs_ciw()


def _mm2_simpy() -> float:
    from bench.twin import speed

    return speed.mm2_vs_simpy()


def _twin_answer() -> float:
    from bench.twin import speed

    return speed.twin_answer_s()


ROWS: tuple[Row, ...] = (
    Row("up_small_s", "`up` of small on empty data until all services are healthy", "s", None, 30, _up_small),
    Row("rss_small_gib", "resident memory of all processes of small after `first_run`", "GiB", None, 3.5, _rss_small),
    Row("home_read_cpu_ratio", "CPU of the Python services and HAProxy per home read ÷ that of a bare FastAPI app", "ratio",
        None, 2.5, _home_ratio),
    Row("home_read_rps_at_p99_100ms", "capacity for home reads, p99 <= 100 ms", "1/s", 700, None, _home_rps),
    Row("post_rps_at_p99_100ms", "capacity for posts, p99 <= 100 ms", "1/s", 250, None, _post_rps),
    Row("fanout_deliveries_per_s", "rate of Kafka event to id in full timelines, 10,000 followers per author", "1/s",
        150_000, None, _deliveries),
    Row("fanout_vs_zadd_ratio",
        "fanout_deliveries_per_s ÷ redis-benchmark's pipelined ZADD in the same run", "ratio", 0.35, None, _zadd_ratio),
    Row("delivery_p99_s", "time from acknowledged post to all followers' timelines, 50 posts/s", "s", None, 1, _delivery_p99),
    Row("generator_freeze_p95_ratio", "reported ÷ true p95, server frozen for 2 s at 100/s", "ratio", 0.95, 1.05, _freeze),
    Row("generator_start_lag_p99_ms", "p99 of actual minus intended start at 100/s", "ms", None, 3, _start_lag),
    Row("seed_100k_s", "time to seed 100,000 users, 4 million follows and 1 million tweets", "s", None, 300, _seed),
    Row("reset_small_s",
        "reset of small to its seeded state until the probe finds nothing of an earlier run", "s", None, 10,
        _reset),
    Row("search_p95_ms", "20 searches/s of all kinds through the API, 1 million indexed tweets", "ms", None, 100, _search_p95),
    Row("index_visible_p99_s", "time from acknowledged post to search hit, 20 posts/s", "s", None, 3, _index_visible),
    Row("mention_visible_p99_s", "time from acknowledged post to the mentions of the mentioned user, 20 posts/s", "s", None, 2,
        _mention_visible),
    Row("twitter_text_conformance", "twitter-text's cases of extraction, validation and counting in CASES that pass", "ratio",
        0.99, None, _conformance),
    Row("media_put_ratio", "PUTs of 1 MiB to signed upload URLs, finalized afterwards ÷ plain S3 PUTs, same run", "ratio",
        0.9, None, _media_put),
    Row("media_upload_ratio", "complete uploads of 1 MiB with initialize and finalize ÷ plain S3 PUTs, same run", "ratio",
        None, None, _media_upload),
    Row("client_methods_ignored", "methods of tweepy and twitter-api-v2 that are neither served nor refused as the table says",
        "methods", None, 0, _client_methods),
    Row("cdn_hit_vs_lru",
        "edge's hit ratio (Zipf 0.8, 10,000 objects, cache for 10 % of the bytes) ÷ Che's approximation for LRU",
        "ratio", 0.9, 1.1, _cdn_hit),
    Row("telemetry_overhead", "CPU of a home read in gateway and timelines with metrics and 1 % traces ÷ without", "ratio",
        None, 1.10, _telemetry),
    Row("rss_small_observed_gib", "rss_small_gib plus Prometheus, Alertmanager, Jaeger, nginx and the console", "GiB",
        None, 4, _rss_observed),
    Row("scale_out_s", "home reads double instantly, instances of 0.2 core: time until p99 is under 250 ms again", "s", None, 20,
        _scale_out),
    Row("scale_out_failed", "operations that failed in the run of scale_out_s", "operations", None, 0, _scale_failed),
    Row("checks_of_nan_accepted", "pairs of a numeric scenario key and nan, inf or -inf that `check` accepts",
        "values", None, 0, _not_finite),
    Row("graph_5m_edges_s", "5 million follows with numeric ids, from the file to a graph in memory", "s",
        None, 10, _graph_seconds),
    Row("graph_5m_edges_gib", "peak memory of the process that reads that file", "GiB", None, 2, _graph_memory),
    Row("compose_small_up_s", "`docker compose up` of small on empty volumes until a follower reads the first tweet, median of 3",
        "s", None, 60, _compose_up),
    Row("services_image_mib", "uncompressed size of the image of our services", "MiB", None, 350, _services_image),
    Row("compare_false_changes", "of 100 A/A pairs, those that `compare` reports as changed", "pairs", None, 8, _false_changes),
    Row("compare_found_changes", "of 100 pairs 10 % apart, those that `compare` reports as changed", "pairs", 90, None,
        _found_changes),
    Row("docker_vs_native_home_read_p50", "median latency of 100 home reads/s in containers ÷ native, A B A B", "ratio",
        None, 1.5, _docker_p50),
    Row("docker_vs_native_home_read_cpu", "CPU of all nodes per home read in containers ÷ native, same blocks", "ratio",
        None, 1.25, _docker_cpu),
    Row("docker_rss_vs_native", "resident memory of small in containers ÷ native, after the same reads", "ratio",
        None, 1.15, _docker_rss),
    Row("sweep_100_points_s",
        "a sweep of 100 rates of first_run's mix, 20,000 operations each, 10 replications, on all cores", "s", None, 120,
        _sweep_seconds),
    Row("notebooks_s", "every notebook executed, without a server", "s", None, 300, _notebook_seconds),
    Row("api_first_answer_s", "a process that imports tweetlab.api and predicts first_run, caches warm", "s", None, 5,
        _first_answer),
    Row("exact_bounds_wrong", "of 10,000 random share bounds, those that get a wrong verdict", "bounds", None, 0,
        _exact_bounds),
    Row("twin_requests_per_s", "operations of `first_run`'s steady mix at 0.7 of the machine, compiled engine, one core", "1/s",
        500_000, None, _twin_speed),
    Row("simpy_requests_per_s", "the same load on the reference engine", "1/s", 3_000, None, _simpy_speed),
    Row("mm2_vs_ciw", "speed of M/M/2 on the compiled engine ÷ in Ciw", "ratio", 50, None, _mm2_ciw),
    Row("mm2_vs_simpy", "speed of M/M/2 on the compiled engine ÷ in plain SimPy", "ratio", 30, None, _mm2_simpy),
    Row("twin_answer_s", "`run first_run --on twin`, 20 replications, from command to report", "s", None, 6, _twin_answer),
)
