"""Chromium on the lab that the test run started.

Without a browser or a lab these tests are skipped, with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from system.platform.addresses import Plan
from system.platform.install import packages
from tests.helpers import requirements
from tests.helpers.requirements import lab_missing
from tweetlab.console import app

ROOT = Path(__file__).resolve().parents[2]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
PATIENCE_MS = 15_000  # two cores are shared by the lab, the browser and these tests

expect.set_options(timeout=PATIENCE_MS)


@contextlib.contextmanager
def served(console: app.Console) -> Iterator[str]:
    """Serve a console in this process on a free port; yield its address."""
    listener = app.bind(0)
    console.port = listener.getsockname()[1]
    running = uvicorn.Server(uvicorn.Config(console.app, ws="none", log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://{app.HOST}:{console.port}/"
    running.should_exit = True
    thread.join(10)


def lab_range() -> int:
    return int(os.environ.get("TWEETLAB_RANGE", "1"))


@pytest.fixture(scope="session")
def web_url() -> str:
    """The public URL of the lab; the tests are skipped if no lab with services is up."""
    command = [sys.executable, "-m", "tweetlab", "status", "--json"]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if "gateway-1" not in {node["name"] for node in json.loads(status.stdout or "[]")}:
        lab_missing(f"no lab with services is up in range {lab_range()}: `tweetlab up` starts one")
    return f"http://{Plan(lab_range()).of('haproxy')}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium, headless."""
    requirements.check(packages.CHROMIUM)
    path = packages.browser()
    flags = ["--disable-dev-shm-usage", "--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()


class Windows:
    """Opens isolated windows, and records the errors of their consoles."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._open: list[BrowserContext] = []
        self.complaints: list[str] = []

    def open(self, url: str, size: dict[str, int] = DESK, scheme: str = "light") -> Page:
        context = self._browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        self._open.append(context)
        page = context.new_page()
        page.on("pageerror", lambda problem: self.complaints.append(str(problem)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._open:
            context.close()


@pytest.fixture
def windows(browser: Browser) -> Iterator[Windows]:
    """Windows that are closed after the test."""
    opened = Windows(browser)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Person:
    """A user with a window."""

    page: Page
    username: str
    name: str

    def write(self, text: str, picture: bytes | None = None) -> None:
        """Post from the home timeline, and wait until the tweet is shown."""
        page = self.page
        form = page.get_by_role("form", name="New tweet")
        form.get_by_role("textbox").fill(text)
        if picture is not None:
            form.locator("input[type=file]").set_input_files({"name": "dot.png", "mimeType": "image/png", "buffer": picture})
            expect(form.get_by_role("img", name="Chosen picture: dot.png")).to_be_visible()
        form.get_by_role("button", name="Post", exact=True).click()
        expect(page.locator("article").filter(has_text=text).first).to_be_visible()

    def go(self, place: str) -> None:
        """Go to a route of the web client, such as `u/ada`."""
        self.page.evaluate("place => { location.hash = '#/' + place; }", place)

    def tweet(self, text: str):
        return self.page.locator("article").filter(has_text=text).first


def sign_up(page: Page, name: str) -> Person:
    """Create an account with the form and wait for the home timeline."""
    username = f"{re.sub('[^a-z]', '', name.lower())[:6]}_{secrets.token_hex(3)}"
    page.get_by_role("button", name="New here? Sign up").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill("a-long-password")
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    return Person(page, username, name)


def png(side: int = 12, color: tuple[int, int, int] = (47, 111, 208)) -> bytes:
    """Return a small picture of one color."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(color) * side for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in another thread: playwright's own loop runs in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result(60)


def is_wider_than_its_window(page: Page) -> bool:
    """Return whether the page scrolls horizontally."""
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))
