"""The driver against a real HTTP server: it starts requests on time, loses nothing, and measures correctly."""

import asyncio
import collections
import io
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from rich.console import Console

from bench.selfchecks import load_selfcheck
from scenarios import vocabulary
from system.kernel.errors import CouldNotRun
from tweetlab.load import driver, live, warm

MIX = {route: 1 / len(vocabulary.ROUTES) for route in vocabulary.ROUTES}


def play(base_url, folder, for_s=3.0, mix=MIX, rate=60.0, **how):
    async def go():
        return await load_selfcheck.play(base_url, folder, "poisson", for_s, mix=mix, rate_per_s=rate, **how)

    return asyncio.run(go())


def test_every_planned_operation_of_every_route_has_a_row(tmp_path):
    """Nothing is lost; every route of the mix matches the API's shapes, and pictures are returned unchanged."""
    with load_selfcheck.stand_in() as base_url:
        seconds = []
        tape, result = play(base_url, tmp_path, for_s=5.0, on_second=seconds.append)
    rows = driver.history(result)
    planned = rows[rows["op"] < len(tape)]
    second_pages = rows[(rows["op"] >= len(tape)) & (rows["route"] == "home")]

    assert planned["route"].value_counts().to_dict() == tape.planned()
    assert set(planned["outcome"]) == {"ok"}
    assert (result.generator.lost, result.died, result.stopped_early) == (0, "", False)
    assert (rows["due_ns"] <= rows["sent_ns"]).all()
    assert sum(second.sent for second in seconds) == len(tape)
    assert (second_pages["cursor_in"] != "").all()
    assert len(driver.planned(result)) == len(tape) + len(second_pages)


def test_at_each_tick_no_more_operations_are_finished_than_sent_and_no_more_ok_than_finished(tmp_path):
    """An operation counts once, with its retries, pages and uploads; its HTTP requests are counted separately.

    The mix has second pages (home), journeys of six requests (media), retries (posts) and deletes without a
    target.
    """
    sums, snapshots = live.Totals(), []

    def on_second(tick):
        sums.add(tick)
        snapshots.append((sums.planned, sums.sent + sums.unsent, sums.sent, sums.finished, sums.ok))
        assert tick.in_flight == sums.in_flight

    with load_selfcheck.stand_in(refuse_every=5) as base_url:
        mix = {"home": 0.4, "media": 0.2, "post": 0.3, "delete": 0.1}
        tape, result = play(base_url, tmp_path, for_s=5.0, mix=mix, on_second=on_second)
    rows = driver.history(result)
    unsent = rows[(rows["op"] < len(tape)) & (rows["sent_ns"] == 0)]

    assert len(snapshots) >= 5
    assert all(list(counts) == sorted(counts, reverse=True) for counts in snapshots), snapshots
    assert (sums.planned, sums.sent, sums.unsent) == (len(tape), len(tape) - len(unsent), len(unsent))
    assert sums.finished >= 0.95 * sums.sent
    assert sums.requests > 1.5 * sums.sent


def test_without_a_listener_operations_are_counted_as_not_sent(tmp_path):
    """A refused connection sends nothing, so nothing finishes either."""
    class Shown(live.Totals):
        """Totals that also record the lines to show."""

        def __call__(self, tick):
            self.add(tick)

        def note(self, text):
            notes.append(text)

    sums, notes = Shown(), []
    tape, result = play("http://127.0.0.1:9", tmp_path, for_s=2.0, mix={"home": 1.0}, on_second=sums)
    rows = driver.history(result)

    assert sums == Shown(planned=len(tape), unsent=len(tape))
    (note,) = notes  # the null route's requests are refused too
    assert note.startswith(f"connection refused by 127.0.0.1:9: {len(rows)} times between 0.0 s and 2.")


def test_the_null_route_and_the_delivery_probes_run_during_the_load(tmp_path):
    """10 null requests per second; at least 5 (tweet, follower) pairs per second, given enough posts."""
    with load_selfcheck.stand_in() as base_url:
        _, result = play(base_url, tmp_path, for_s=4.0, mix={"post": 1.0}, rate=20)
    rows, probes = driver.history(result), driver.probes(result)

    assert len(rows[rows["route"] == "null"]) == 40
    assert len(probes) >= 20
    assert (probes["seen_ns"] > 0).all()
    assert (probes["gap_ns"] > 0).all()


def test_a_refused_write_is_retried_with_the_same_key_in_a_separate_row(tmp_path):
    """503 is info, not fail: each attempt is a row, with the same key, and there is one tweet."""
    with load_selfcheck.stand_in(refuse_every=5) as base_url:
        _, result = play(base_url, tmp_path, mix={"post": 1.0}, rate=30)
    rows = driver.history(result)
    retries = rows[rows["retry_of"] >= 0]

    assert len(retries) >= 5
    assert set(rows[rows["status"] == 503]["outcome"]) == {"info"}
    for retry in retries.itertuples():
        first = rows[(rows["op"] == retry.retry_of) & (rows["attempt"] == 0)].iloc[0]
        assert (first["key"], first["due_ns"]) == (retry.key, retry.due_ns)
        assert retry.sent_ns > first["done_ns"]


def test_a_broken_connection_is_unknown_and_the_retry_finds_the_first_tweet(tmp_path):
    """The tweet was created; the retry's key finds it, so no id appears twice."""
    with load_selfcheck.stand_in(drop_every=4) as base_url:
        _, result = play(base_url, tmp_path, mix={"post": 1.0}, rate=30)
    rows = driver.history(result)
    dropped = rows[(rows["status"] == 0) & (rows["route"] == "post")]
    created = rows[rows["tweet_id"] > 0]

    assert len(dropped) >= 5
    assert set(dropped["outcome"]) == {"info"}
    assert created.groupby("tweet_id")["key"].nunique().max() == 1
    assert created.groupby("key")["tweet_id"].nunique().max() == 1


def test_without_a_listener_every_operation_definitely_fails(tmp_path):
    """A refused connection means that nothing was sent."""
    tape, result = play("http://127.0.0.1:9", tmp_path, for_s=2.0, mix={"home": 1.0})
    rows = driver.history(result)
    home = rows[rows["route"] == "home"]

    assert len(home) == len(tape)
    assert set(home["outcome"]) == {"fail"}
    assert set(home["sent_ns"]) == {0}
    assert home["error"].str.contains("ECONNREFUSED").all()


def test_stop_ends_the_load_early_and_everything_is_written(tmp_path):
    """Ctrl-C sets `stop`: started operations have rows, and the others do not count as lost."""
    async def go(base_url):
        stop = asyncio.Event()

        def on_second(tick):
            if tick.t_s == 1:
                stop.set()

        began = time.monotonic()
        played = await load_selfcheck.play(base_url, tmp_path, "even", 30.0, mix={"home": 1.0}, on_second=on_second, stop=stop)
        return (*played, time.monotonic() - began)

    with load_selfcheck.stand_in() as base_url:
        tape, result, took_s = asyncio.run(go(base_url))
    home = driver.history(result).query("route == 'home' and attempt == 0")

    assert took_s < 15
    assert result.stopped_early
    assert result.generator.lost == 0
    assert 150 <= len(home[home["op"] < len(tape)]) <= 400


def test_a_killed_generator_leaves_its_rows_and_unknowns(tmp_path):
    """SIGKILL: rows are flushed each second, sends of the last second are unknown, and the result reports the death."""
    async def go(base_url):
        def on_second(tick):
            if tick.t_s == 2:
                child = next(p for p in psutil.Process(os.getpid()).children()
                             if "tweetlab.load.generator.process" in p.cmdline())
                time.sleep(0.3)
                child.send_signal(signal.SIGKILL)

        return await load_selfcheck.play(base_url, tmp_path, "even", 20.0, mix={"post": 1.0}, on_second=on_second)

    with load_selfcheck.stand_in() as base_url:
        _, result = asyncio.run(go(base_url))
    outcomes = collections.Counter(driver.history(result)["outcome"])

    assert result.died == "its process died"
    assert result.generator.start_lag_ms_p99 is None
    assert outcomes["ok"] >= 290
    assert outcomes["info"] >= 5
    assert result.generator.lost > 0


def test_a_generator_that_cannot_start_reports_why(tmp_path, monkeypatch):
    """The error shows the end of its log."""
    monkeypatch.setattr(driver.sys, "executable", "/bin/false")

    with pytest.raises(CouldNotRun, match=r"did not start.*generator\.log"):
        play("http://127.0.0.1:9", tmp_path)


def test_the_reported_p95_during_a_freeze_is_the_true_one(tmp_path):
    """A server that freezes 2 s at 100/s: from intended starts p95 is about 1.6 s; Locust by itself says 18 ms."""
    assert load_selfcheck.freeze_p95_ratio(for_s=8.0) == pytest.approx(1, abs=0.05)


def test_requests_start_on_time():
    """The bar of 3 ms is for the bench; tests may share their cores."""
    assert load_selfcheck.start_lag_p99_ms(for_s=3.0) < 50


def test_the_load_process_imports_nothing_that_gevent_would_break():
    """No pandas, no Arrow, no driver of a store: only HTTP."""
    code = ("import sys, tweetlab.load.generator.process; "
            "print(sorted({'pandas', 'pyarrow', 'aiokafka', 'cassandra', 'psycopg', 'aiohttp', 'redis'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", code], cwd=driver.ROOT, capture_output=True, text=True, check=True, timeout=60)

    assert result.stdout.strip() == "[]"


def test_the_line_of_a_second_counts_operations_since_the_start_and_requests_separately():
    """A burst of late replies finishes more than that second sent, but never more than were sent so far."""
    console = Console(record=True, width=200, file=io.StringIO())
    show = live.progress_display(console)

    show(live.Tick(0, 60, 60, 2, 0, 0, 58, 1.0, 0.1, {}, 0, 65))
    show(live.Tick(1, 60, 58, 110, 1, 4, 1, 1.0, 0.1, {"all": {"p50": 900.0, "p99": 990.0}}, 2, 70))

    assert console.export_text().splitlines()[1].startswith(
        "   1 s  operations so far: planned 120, sent 118, finished 117 (ok 112, fail 1, info 4), "
        "in flight 1, not sent 2; HTTP requests 135; this second: p50 900.0 ms")


@pytest.mark.parametrize(("terminal", "term", "is_table"), [
    (True, "xterm-256color", True), (True, "dumb", False), (False, "xterm-256color", False)])
def test_each_second_is_shown_as_a_table_on_a_terminal_and_otherwise_as_a_line(terminal, term, is_table, monkeypatch):
    """The listener shows rates, outcomes and latency from the intended start; a terminal that cannot redraw gets lines."""
    monkeypatch.setenv("TERM", term)
    console = Console(force_terminal=terminal, record=True, width=160, file=io.StringIO())
    show = live.progress_display(console)

    show(live.Tick(4, 100, 99, 97, 1, 1, 3, 1.25, 0.1, {"all": {"p50": 2.0, "p99": 31.5}, "home": {"p50": 2.0, "p99": 31.5}}))
    show.close()

    text = console.export_text()
    assert "31.5" in text
    assert ("planned 100, sent 99" in text) is not is_table


def test_warming_reads_every_readers_home_once_the_most_active_first(tmp_path):
    """Caches are filled through the public API before a run that measures their steady state."""
    with load_selfcheck.stand_in() as base_url:
        tape, _ = play(base_url, tmp_path, for_s=1.5, mix={"home": 1.0})
        readers = warm.readers(tape)
        warmed = asyncio.run(warm.warm(base_url, load_selfcheck.SECRET, readers))

    assert warmed == warm.Warmed(len(set(tape.user.tolist())), 0)
    assert (tape.user == readers[0]).sum() >= (tape.user == readers[-1]).sum()
