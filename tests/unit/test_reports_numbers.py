"""Percentiles, histograms, operations, windows and the summary of a run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import columns, delivery, facts, operations, summary
from reports.stats import histogram
from system.kernel import errors
from tests.helpers import report_runs

START = 1_000_000_000
MS = 1_000_000


def attempts(*rows: dict) -> pd.DataFrame:
    """Return a history of attempts, times in ms from the start of the run; None = did not happen."""
    completed = []
    for number, row in enumerate(rows):
        attempt = {"op": number, "route": "home", "outcome": "ok", **row}
        for name in ("due", "sent", "done"):
            at_ms = attempt.pop(name)
            attempt[f"{name}_ns"] = 0 if at_ms is None else START + int(at_ms * MS)
        completed.append(attempt)
    return columns.conform("history", pd.DataFrame(completed))


@pytest.mark.parametrize(
    ("quantile", "expected"), [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_a_percentile_is_a_measured_value(quantile: float, expected: float) -> None:
    """Of 1..100, the p-th percentile is the value at rank ceil(p * 100): no interpolation."""
    values = np.arange(100, 0, -1, dtype=float)
    assert histogram.percentile(values, quantile) == expected


def test_the_median_of_two_values_is_the_lower_one() -> None:
    """Nearest rank of p50 among two values is rank 1."""
    assert histogram.describe(np.array([7.0, 3.0]))["p50"] == 3.0


def test_no_values_have_no_percentiles() -> None:
    """Without values every number is None, and a single percentile is NaN."""
    assert set(histogram.describe(np.array([])).values()) == {None}
    assert math.isnan(histogram.percentile(np.array([]), 0.5))


def test_the_percentile_of_repeats_is_the_median_of_their_percentiles() -> None:
    """Three repeats with p99 of 10, 30 and 20 ms have p99 = 20 ms; a percentile that none has is None."""
    percentiles = histogram.of_repeats([{"p99": 10.0}, {"p99": 30.0}, {"p99": 20.0, "p999": None}])
    assert percentiles == {"p99": 20.0, "p999": None}


@pytest.mark.parametrize(("metric", "needed"), [("p50", 10), ("p95", 20), ("p99", 100), ("p999", 1000), ("max", 10)])
def test_a_percentile_needs_enough_values(metric: str, needed: int) -> None:
    """p99 needs 100 values, p99.9 needs 1000, and every figure at least 10."""
    assert histogram.enough(needed, metric)
    assert not histogram.enough(needed - 1, metric)


def test_a_histogram_log_is_read_with_every_value(tmp_path: Path) -> None:
    """A V2 log of two intervals has all values; the error of p50 is at most 0.1 %; each line has the tag."""
    first = histogram.Interval(0.0, 5.0, np.array([1000.0, 2000.0]))
    second = histogram.Interval(5.0, 5.0, np.array([3000.0]))
    text = histogram.log_text([first, second], 1_795_370_940_000, "parrot.response")
    (tmp_path / "parrot.hlog").write_text(text)
    total = histogram.read_log(tmp_path / "parrot.hlog")
    assert total.get_total_count() == 3
    assert total.get_value_at_percentile(50) == pytest.approx(2000, rel=0.001)
    assert text.count("Tag=parrot.response,") == 2
    assert "#[StartTime: 1795370940.000 (seconds since epoch)]" in text


def test_latencies_outside_the_histogram_range_are_clipped() -> None:
    """Values outside 1 µs..120 s are clipped instead of being lost."""
    clipped = histogram.hdr(np.array([0.2, 500_000_000.0]))
    assert clipped.get_total_count() == 2
    assert clipped.get_min_value() == 1
    assert clipped.get_max_value() == pytest.approx(120_000_000, rel=0.001)


def test_response_is_from_the_intended_start_and_service_from_the_send() -> None:
    """Due at 0 ms, sent at 30 ms, answered at 50 ms: response 50 ms, service 20 ms, lag 30 ms."""
    done = operations.operations(attempts({"due": 0, "sent": 30, "done": 50}), START)
    assert done["response_ms"].tolist() == [50.0]
    assert done["service_ms"].tolist() == [20.0]
    assert done["lag_ms"].tolist() == [30.0]


def test_a_retried_operation_is_one_operation_with_its_last_outcome() -> None:
    """Its intended start is that of the first attempt, its outcome and service time those of the last."""
    done = operations.operations(
        attempts(
            {"op": 4, "due": 0, "sent": 1, "done": 11, "outcome": "info"},
            {"op": 9, "retry_of": 4, "attempt": 1, "due": 20, "sent": 21, "done": 25},
        ),
        START,
    )
    assert len(done) == 1
    assert done["outcome"].tolist() == ["ok"]
    assert done["response_ms"].tolist() == [25.0]
    assert done["service_ms"].tolist() == [4.0]
    assert done["attempts"].tolist() == [2]


def test_an_operation_never_sent_has_no_latency_but_counts_as_planned() -> None:
    """sent_ns = 0: planned 1, sent 0, and no percentile."""
    done = operations.operations(attempts({"due": 5, "sent": None, "done": None, "outcome": "info"}), START)
    table = summary.routes(done, done[["route", "due_s"]], facts.Windows(START, 0.0, 1.0))
    assert (table["home"]["planned"], table["home"]["sent"], table["home"]["info"]) == (1, 0, 1)
    assert table["home"]["response_ms"]["p50"] is None


def test_the_null_route_is_not_part_of_the_workload() -> None:
    """Its probes, which HAProxy answers itself, are reported separately."""
    done = operations.operations(attempts({"route": "null", "due": 0, "sent": 0.1, "done": 0.4}), START)
    assert len(done) == 0


def test_summary_percentiles_cover_ok_operations_only() -> None:
    """A failed operation of 900 ms does not change the maximum of the others."""
    rows = [{"due": i, "sent": i, "done": i + 10} for i in range(3)]
    bad = {"due": 4, "sent": 4, "done": 904, "outcome": "fail"}
    done = operations.operations(attempts(*rows, bad), START)
    block = summary.block(done, 4)
    assert block["response_ms"]["max"] == 10.0
    assert (block["ok"], block["fail"]) == (3, 1)


def spans(found: list[operations.Span]) -> list[tuple[float, float]]:
    return [(span.start_s, span.end_s) for span in found]


def test_steady_time_excludes_warm_up_fault_and_recovery() -> None:
    """Warm-up 10 s, a fault held 30..35 s and recovered at 41 s, load of 60 s: steady is 10..30 and 41..60."""
    windows = facts.Windows(START, 10.0, 60.0, (facts.FaultWindow("kill", "polly", 30.0, 35.0, 41.0, held=True),))
    assert spans(operations.steady(windows)) == [(10.0, 30.0), (41.0, 60.0)]
    assert spans(operations.during_faults(windows)) == [(30.0, 35.0)]
    assert spans(operations.after_faults(windows, 10.0)) == [(45.0, 60.0)]


def test_an_instant_fault_lasts_until_its_recovery_and_after_fault_counts_from_its_start() -> None:
    """A cache loss at 30 s that recovered at 36 s: `during` is 30..36, `within 10 s` starts at 40 s."""
    windows = facts.Windows(START, 0.0, 60.0, (facts.FaultWindow("cache_loss", "redis", 30.0, None, 36.0),))
    assert spans(operations.during_faults(windows)) == [(30.0, 36.0)]
    assert spans(operations.after_faults(windows, 10.0)) == [(40.0, 60.0)]


def test_a_fault_without_recovery_excludes_ten_seconds_of_steady_time() -> None:
    """If no recovery was observed, the 10 s after an instant fault are not steady time."""
    windows = facts.Windows(START, 0.0, 60.0, (facts.FaultWindow("cache_loss", "redis", 30.0),))
    assert spans(operations.steady(windows)) == [(0.0, 30.0), (40.0, 60.0)]


def test_fault_windows_are_read_from_the_undo_log() -> None:
    """Times in ns become seconds from the start of the run; a fault that was never injected has no window."""
    entries = [
        {"kind": "kill", "target": "redis-1", "start_ns": START, "injected_ns": START + 2_000 * MS,
         "undone_ns": START + 5_000 * MS, "recovered_ns": None, "held": True, "void": ""},
        {"kind": "kill", "target": "kafka-1", "start_ns": START, "injected_ns": None, "held": True,
         "void": "no such process"},
    ]  # fmt: skip
    assert facts.fault_windows(entries, START) == (facts.FaultWindow("kill", "redis-1", 2.0, 5.0, None, True),)


def test_delivery_delay_is_the_workers_timestamp_minus_the_acknowledgement() -> None:
    """Acknowledged at 10 ms and in all timelines at 60 ms: 50 ms; 0 if the worker was faster than the response."""
    history = attempts(
        {"route": "post", "due": 0, "sent": 0, "done": 10, "tweet_id": 1900000000000000001},
        {"route": "post", "due": 0, "sent": 0, "done": 90, "tweet_id": 1900000000000000002},
    )
    stamps = columns.conform("effects", pd.DataFrame({
        "kind": "new_tweet", "event": ["1900000000000000001", "1900000000000000002"], "path": "push",
        "at_ns": [START + 60 * MS, START + 70 * MS]}))  # fmt: skip
    table = delivery.table(history, stamps, START)
    assert table["delay_s"].tolist() == [0.05, 0.0]
    assert delivery.measure(history, stamps, columns.conform("probes", None), START)["without_stamp"] == 0


def test_a_twin_may_name_the_topic_as_event_and_the_tweet_as_key() -> None:
    """Both forms give the same delay."""
    history = attempts({"route": "post", "due": 0, "sent": 0, "done": 10, "tweet_id": 7})
    effect = {"event": ["new_tweet"], "key": ["7"], "kind": "created", "path": "push", "at_ns": START + 30 * MS}
    effects = columns.conform("effects", pd.DataFrame(effect))
    assert delivery.table(history, effects, START)["delay_s"].tolist() == [0.02]


def test_only_the_first_timestamp_of_a_pushed_tweet_counts() -> None:
    """The indexer, a redelivered event and a pulled tweet do not affect the delivery delay."""
    history = attempts(*({"route": "post", "due": 0, "sent": 0, "done": 10, "tweet_id": tweet} for tweet in (7, 8)))
    stamps = columns.conform("effects", pd.DataFrame({
        "kind": "new_tweet", "event": ["7", "7", "7", "8"], "path": ["index", "push", "push", "pull"],
        "at_ns": [START + 20 * MS, START + 30 * MS, START + 900 * MS, START + 20 * MS]}))  # fmt: skip
    assert delivery.table(history, stamps, START)["delay_s"].tolist() == [0.02]


@pytest.mark.parametrize(("late_ms", "verdict"), [(0.0, "pass"), (45.0, "unknown")])
def test_probes_that_contradict_the_timestamp_make_delivery_unknown(late_ms: float, verdict: str) -> None:
    """With a poll gap of 50 ms: seen 10 ms after the timestamp agrees, seen 55 ms after it does not."""
    stamped = columns.conform("effects", report_runs.effects(report_runs.history(10.0)))
    probes = columns.conform("probes", report_runs.probes(stamped, late_ms))
    block = delivery.judge_probes(probes, delivery.first_stamps(stamped))
    assert block["verdict"] == verdict
    assert block["pairs"] == len(probes)


def test_delivery_without_probes_is_unknown() -> None:
    """Delivery was not checked from outside: unknown is not pass."""
    stamped = columns.conform("effects", report_runs.effects(report_runs.history(10.0)))
    block = delivery.judge_probes(columns.conform("probes", None), delivery.first_stamps(stamped))
    assert (block["pairs"], block["verdict"]) == (0, "unknown")


def test_paths_are_counted_from_source_headers_effects_and_attempts() -> None:
    """hit, rebuild and tail by source; pull if a page merged pulled authors; retries of clients and workers."""
    history = attempts(
        {"due": 0, "sent": 0, "done": 1, "source": "hit"},
        {"due": 0, "sent": 0, "done": 1, "source": "hit,pull"},
        {"due": 0, "sent": 0, "done": 1, "source": "rebuild,pull"},
        {"due": 0, "sent": 0, "done": 1, "source": "tail"},
        {"due": 0, "sent": 0, "done": 1, "retry_of": 3, "attempt": 1, "source": "tail"},
    )
    effect = {"kind": ["new_tweet"], "path": ["push"], "event": ["5"], "retries": [2]}
    effects = columns.conform("effects", pd.DataFrame(effect))
    counts = summary.paths(operations.operations(history, START), effects)
    assert counts == {"push": 1, "pull": 2, "hit": 2, "rebuild": 1, "direct": 0, "tail": 1, "retry": 3}


def test_hops_add_up_to_the_mean_response() -> None:
    """Due 0, sent 2, done 12 ms; gateway 9, service 6, stores 4 ms: 2 + 1 + 3 + 2 + 4 = 12 ms."""
    times = {"gateway_us": 9000, "service_us": 6000, "store_us": 4000}
    history = attempts({"due": 0, "sent": 2, "done": 12, **times})
    hops = summary.hops(operations.operations(history, START), facts.Windows(START, 0.0, 1.0))
    mean_ms = {"wait": 2.0, "network": 1.0, "gateway": 3.0, "service": 2.0, "store": 4.0}
    assert hops == {"home": {"n": 1, "mean_ms": mean_ms}}


def test_cpu_of_a_process_is_the_sum_of_its_windows() -> None:
    """Half a core for four windows of 2 s is 4 core seconds."""
    windows = {"t_s": [0.0, 2.0, 4.0, 6.0], "name": "cpu_cores", "node": "polly", "value": 0.5}
    series = columns.conform("series", pd.DataFrame(windows))
    assert summary.cpu(series) == {"polly": {"core_s": 4.0, "share": 1.0}}


def test_an_unknown_column_is_refused_by_name() -> None:
    """A misspelled column is an error."""
    with pytest.raises(errors.WrongInput, match="colour"):
        columns.conform("history", pd.DataFrame({"op": [1], "colour": ["green"]}))
