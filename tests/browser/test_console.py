"""The live console in Chromium: it shows a lab that works, fails, recovers, is under load, or is down."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from system.platform import native
from tests.browser.conftest import PHONE, ROOT, done, is_wider_than_its_window, lab_range

pytestmark = [pytest.mark.real, pytest.mark.slow]

LOAD = """
name: browser_look
question: Does the console see a load?
seed: 3
platform: small
population: {users: 60, follows: {shape: pareto, mean: 5, max: 20}, history: 2 tweets}
workload:
  arrivals: poisson
  stages: [{for: 8 s, rate: 30/s}]
  mix: {home: 70, post: 20, search: 10}
faults: [{at: 3 s, kind: cache_loss, target: redis}]
objectives: [home p99 <= 2 s steady]
measure: {warm_up: 2 s}
"""


@contextlib.contextmanager
def console(port: int = 0, **env: str) -> Iterator[str]:
    """Run `tweetlab console`; yield its address."""
    command = [sys.executable, "-m", "tweetlab", "console", "--port", str(port), "--json"]
    env = os.environ | {"PYTHONUNBUFFERED": "1"} | env
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["console"]
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def url(web_url) -> Iterator[str]:
    """A console of the lab in this range."""
    with console() as address:
        yield address


def test_every_node_of_a_healthy_lab_is_shown_as_healthy(windows, url):
    """Boxes, processes and the state agree with `tweetlab status`."""
    page = windows.open(url)
    nodes = done(native.Lab(ROOT, lab_range()).status())

    expect(page.locator("#state")).to_have_text("healthy")
    expect(page.locator("#nodes tr")).to_have_count(len(nodes))
    expect(page.locator(".box[data-kind]")).to_have_count(len({node.kind for node in nodes}) + 1)  # and the clients
    expect(page.locator("#nodes .chip.healthy")).to_have_count(len(nodes))
    expect(page.get_by_role("img", name=re.compile("^CPU; now: stores"))).to_be_visible()
    assert windows.complaints == []


def test_a_killed_instance_is_shown_as_dead_and_as_healthy_again(windows, url):
    """Red while it is dead, green once auto-heal has restarted it, and counted as a restart."""
    lab = native.Lab(ROOT, lab_range())
    page = windows.open(url)
    box = page.locator(".box[data-kind=search]")
    row = page.locator("#nodes tr", has=page.get_by_role("button", name="search-1", exact=True))
    expect(row.locator(".chip")).to_have_text("healthy")
    before = int(row.locator("td").last.inner_text())

    done(lab.auto_heal("search-1", False))
    try:
        done(lab.kill("search-1"))
        expect(row.locator(".chip")).to_have_text("dead")
        expect(box).to_have_class(re.compile("sick"))
        expect(page.locator("#state")).to_have_text("impaired")
    finally:
        done(lab.auto_heal("search-1", True))

    expect(row.locator(".chip")).to_have_text("healthy")
    expect(box).not_to_have_class(re.compile("sick"))
    expect(row.locator("td").last).to_have_text(str(before + 1))
    expect(page.locator("#state")).to_have_text("healthy")


def test_a_box_opens_the_log_and_the_metrics_of_its_node(windows, url):
    """From a box to the log of its process, by keyboard too."""
    page = windows.open(url)
    page.locator(".box[data-kind=gateway]").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("heading", name="gateway-1: healthy")).to_be_visible()
    expect(page.locator("#detail-log")).not_to_have_text("…")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_running_load_shows_its_rates_its_fault_and_then_its_report(windows, url, tmp_path):
    """The question, the seconds, the rate on each hop, the fault, and finally the run with its report."""
    page = windows.open(url)
    scenario = tmp_path / "browser_look.yaml"
    scenario.write_text(LOAD)
    run = subprocess.Popen([sys.executable, "-m", "tweetlab", "run", str(scenario), "--on", "system"], cwd=ROOT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        expect(page.get_by_text("Does the console see a load?").first).to_be_visible(timeout=90_000)
        expect(page.locator("#load .chip")).to_have_text("under load")
        expect(page.locator("#faults")).to_contain_text("cache_loss", timeout=30_000)
        for box in ("haproxy", "gateway", "timelines", "redis", "kafka", "fanout"):
            expect(page.locator(f".box[data-kind={box}] .main")).to_have_text(re.compile(r"^[1-9][\d,.]*/s$"))
        expect(page.locator(".tile[data-name=rate] b")).to_have_text(re.compile(r"^[1-9]"))
        expect(page.locator("#routes tr", has_text="home")).to_be_visible()
        expect(page.get_by_role("img", name=re.compile("Latency; now: p50 at the client"))).to_be_visible()
    finally:
        code = run.wait(90)

    assert code in (0, 1, 2, 3)
    link = page.locator("#runs a", has_text="browser_look").first
    expect(link).to_be_visible()
    with page.context.expect_page() as opened:
        link.click()
    expect(opened.value.get_by_text("Does the console see a load?").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_console_is_readable_on_a_phone(windows, url, scheme):
    """390 px wide: no horizontal scrolling, the hops as figures in their boxes."""
    page = windows.open(url, PHONE, scheme)
    expect(page.locator(".box[data-kind=gateway]")).to_be_visible()

    assert not is_wider_than_its_window(page)
    expect(page.locator(".hops")).to_be_hidden()
    assert page.locator("text=undefined").count() + page.locator("text=NaN").count() == 0


def test_a_console_that_stops_is_reported_and_the_page_reconnects(windows, web_url):
    """The page never shows stale data as live."""
    with console() as first:
        page = windows.open(first)
        expect(page.locator("#state")).to_have_text("healthy")
    expect(page.get_by_role("alert")).to_contain_text("The console has not answered")

    with console(int(first.rstrip("/").rpartition(":")[2])):
        expect(page.locator("#state")).to_have_text("healthy")
        expect(page.get_by_role("alert")).to_be_hidden()


def test_a_range_without_a_lab_says_how_to_start_one(windows, browser):
    """Down is a state like any other."""
    with console(TWEETLAB_RANGE="249") as url:
        page = windows.open(url)

        expect(page.locator("#state")).to_have_text("the lab is down")
        expect(page.get_by_role("alert")).to_contain_text("tweetlab up --seed")


def test_a_watched_console_costs_less_than_three_hundredths_of_a_core(windows, web_url):
    """Monitoring must not change what it measures."""
    with console() as url:
        page = windows.open(url)
        expect(page.locator("#state")).to_have_text("healthy")
        pid = _listener(int(url.rstrip("/").rpartition(":")[2]))
        time.sleep(2)
        before, began = time.clock_gettime_ns(~pid << 3 | 2), time.monotonic_ns()
        time.sleep(6)
        share = (time.clock_gettime_ns(~pid << 3 | 2) - before) / (time.monotonic_ns() - began)

    assert share < 0.03


def _listener(port: int) -> int:
    import psutil

    return next(socket.pid for socket in psutil.net_connections("tcp")
                if socket.status == "LISTEN" and socket.laddr.port == port)
