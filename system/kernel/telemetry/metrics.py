"""Counts and times of this process, told at GET /metrics in Prometheus' text format. The table is `METRICS`.

    telemetry.count("tweetlab_shed_total", route="home")
    telemetry.observe("tweetlab_dependency_seconds", 0.004, dependency="redis", result="ok")
    telemetry.gauge("tweetlab_requests_in_flight", 12)

On a hot path bind the labels once: `seen = telemetry.observer(NAME, dependency="redis", result="ok")`, then `seen(0.004)`.
A value that stands somewhere already is read at each scrape: `telemetry.read(NAME, function)`.
An unknown name or label raises WrongInput: a metric stands in the table, or it is not told.

A count or a time only goes to the end of a list; every half second, and before each scrape, the lists are summed up. An idle
process finds the library's code out of the CPU's caches: 35 µs an observation between other work, 5 µs to append, and 1 µs for
each of a list's values in a row.

TWEETLAB_METRICS=off counts nothing (the bench compares both). Counts are of the process, not of the lab: Prometheus adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import prometheus_client as prometheus
from prometheus_client import metrics_core as core

from system.kernel.errors import LabError, Unavailable, WrongInput
from system.kernel.telemetry.metric_table import METRICS, Metric

__all__ = ["METRICS", "Metric"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG_EVERY_S = 0.5

Amount = Callable[[float], None]
T = TypeVar("T")

ON = os.environ.get("TWEETLAB_METRICS", "").lower() not in ("off", "0", "no")

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each child that no rule reads
REGISTRY = prometheus.CollectorRegistry()
_made: dict[str, Any] = {}
_bound: dict[tuple[str, ...], Any] = {}
_told: dict[str, dict[tuple[str, ...], Callable[[], float]]] = {}
_waiting: list[tuple[list[float], Callable[[list[float]], None]]] = []
_NONE = Metric("gauge", "")


def count(name: str, amount: float = 1.0, **labels: str) -> None:
    """Add `amount` to a counter."""
    counter(name, **labels)(amount)


def observe(name: str, seconds: float, **labels: str) -> None:
    """Put one value into a histogram."""
    observer(name, **labels)(seconds)


def gauge(name: str, value: float, **labels: str) -> None:
    """Set a gauge."""
    if ON:
        _child("gauge", name, labels).set(value)


def counter(name: str, **labels: str) -> Amount:
    """Return the function that adds to this counter: bind once, call often. It stands at 0 from now on."""
    return _put("counter", name, labels) if ON else _nothing


def observer(name: str, **labels: str) -> Amount:
    """Return the function that puts a value into this histogram: bind once, call often."""
    return _put("histogram", name, labels) if ON else _nothing


def read(name: str, value: Callable[[], float], **labels: str) -> None:
    """Read a gauge or a counter by `value()` at each scrape; a later reader of the same series takes its place."""
    if ON:
        row = _row(name, METRICS.get(name, _NONE).kind, labels)
        _told.setdefault(name, {})[tuple(labels[label] for label in row.labels)] = value


def tell(name: str, value: float, **labels: str) -> None:
    """Tell a gauge, or a counter that another program keeps, as it stands."""
    read(name, lambda: value, **labels)


def forget(name: str, **labels: str) -> None:
    """Tell this series no more: what `read` or `tell` said of it is not known any longer."""
    if name in _told:
        _told[name].pop(tuple(labels[label] for label in METRICS[name].labels), None)


def text() -> bytes:
    """Return all that was counted, in the text format."""
    _sum_up()
    return bytes(prometheus.generate_latest(REGISTRY))


def _nothing(amount: float) -> None:
    """Metrics are off."""


def _child(kind: str, name: str, labels: dict[str, str]) -> Any:
    key = (kind, name, *labels, *labels.values())
    child = _bound.get(key)
    if child is None:
        child = _bound[key] = _make(kind, name, labels)
    return child


def _put(kind: str, name: str, labels: dict[str, str]) -> Amount:
    """Return the function that lets one more amount wait for `_sum_up`."""
    key = ("put", kind, name, *labels, *labels.values())
    put: Amount | None = _bound.get(key)
    if put is None:
        child, amounts = _make(kind, name, labels), list[float]()
        _waiting.append((amounts, functools.partial(_add if kind == "counter" else _each, child)))
        put = _bound[key] = amounts.append
    return put


def _add(child: Any, amounts: list[float]) -> None:
    child.inc(math.fsum(amounts))


def _each(child: Any, amounts: list[float]) -> None:
    for amount in amounts:
        child.observe(amount)


def _sum_up() -> None:
    """Put what waits into the counters and histograms. What comes meanwhile, from another thread, waits for the next time."""
    for amounts, into in _waiting:
        if amounts:
            taken = amounts[:]
            del amounts[:len(taken)]
            into(taken)


def _row(name: str, kind: str, labels: dict[str, str]) -> Metric:
    row = METRICS.get(name)
    if row is None:
        raise WrongInput(f"The metric {name!r} is unknown; add its row to METRICS in system/kernel/telemetry/metric_table.py.")
    if row.kind != kind or set(row.labels) != set(labels):
        raise WrongInput(f"{name} is a {row.kind} with the labels {', '.join(row.labels) or 'none'}; "
                         f"it was used as a {kind} with {', '.join(labels) or 'none'}.")
    return row


def _make(kind: str, name: str, labels: dict[str, str]) -> Any:
    row = _row(name, kind, labels)
    parent = _made.get(name)
    if parent is None:
        parent = _made[name] = _declare(name, row)
    return parent.labels(**labels) if row.labels else parent


def _declare(name: str, row: Metric) -> Any:
    if row.kind == "histogram":
        return prometheus.Histogram(name, row.help, row.labels, registry=REGISTRY, buckets=row.buckets)
    kind = prometheus.Counter if row.kind == "counter" else prometheus.Gauge
    return kind(name, row.help, row.labels, registry=REGISTRY)


class Requests:
    """Rate, errors and duration of each route of this process. `inside`: requests under way."""

    __slots__ = ("_seen", "inside")

    def __init__(self) -> None:
        self.inside = 0
        self._seen: dict[tuple[str, int], Amount] = {}
        read("tweetlab_requests_in_flight", lambda: self.inside)

    def done(self, route: str, status: int, start_ns: int) -> None:
        """A request was answered. `start_ns`: perf_counter_ns when it began."""
        seen = self._seen.get((route, status // 100))
        if seen is None:
            seen = observer("tweetlab_request_seconds", route=route, status=f"{status // 100}xx")
            self._seen[route, status // 100] = seen
        seen((time.perf_counter_ns() - start_ns) / 1e9)


class Dependency:
    """Times and errors of the calls to one store, and waits for a free place before they could be sent."""

    __slots__ = ("error", "ok", "waited")

    def __init__(self, name: str) -> None:
        self.ok = observer("tweetlab_dependency_seconds", dependency=name, result="ok")
        self.error = observer("tweetlab_dependency_seconds", dependency=name, result="error")
        self.waited = observer("tweetlab_pool_wait_seconds", dependency=name)

    async def timed(self, work: Awaitable[T]) -> T:
        """Return what `work` returns, and count it. A refusal of the input is an answer; who leaves is not counted."""
        start_ns = time.perf_counter_ns()
        try:
            result = await work
        except Unavailable:
            self.error((time.perf_counter_ns() - start_ns) / 1e9)
            raise
        except LabError:
            self.ok((time.perf_counter_ns() - start_ns) / 1e9)
            raise
        self.ok((time.perf_counter_ns() - start_ns) / 1e9)
        return result


class _Told:
    """What `read` and `tell` said, as the registry asks for it at each scrape."""

    def collect(self) -> Iterator[Any]:
        """Return the samples of now. A reader that fails leaves its series out of this scrape."""
        for name, series in list(_told.items()):
            row = METRICS[name]
            make = core.CounterMetricFamily if row.kind == "counter" else core.GaugeMetricFamily
            family = make(name.removesuffix("_total"), row.help, labels=row.labels)
            for values, value in list(series.items()):
                with contextlib.suppress(Exception):
                    family.add_metric(values, value())
            yield family


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def watch_loop() -> None:
    """Measure how late the event loop runs its timers, and sum up what was counted, until cancelled."""
    late = observer("tweetlab_loop_lag_seconds")
    while ON:
        due_s = time.monotonic() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        late(max(0.0, time.monotonic() - due_s))
        _sum_up()


if ON:
    _BEGAN_S = time.time()
    REGISTRY.register(_Told())
    read("tweetlab_process_cpu_seconds_total", time.process_time)
    read("tweetlab_process_resident_bytes", _resident_bytes)
    read("tweetlab_process_started_seconds", lambda: _BEGAN_S)
