"""Tells Prometheus what the stores know of themselves: `python -m system.observe.exporter`. MinIO and HAProxy tell it natively.

Each store is asked every `EVERY_S` seconds whether or not somebody scrapes; a store that does not answer in time is told as
`tweetlab_store_up` 0, and its other series vanish instead of standing still.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from functools import partial
from pathlib import Path

from system.kernel import background, settings
from system.kernel.errors import StoreUnavailable
from system.kernel.http import serving
from system.kernel.http.asgi import App
from system.kernel.settings import Settings
from system.kernel.telemetry import metrics
from system.observe import stores
from system.observe.log_index import LogIndex
from system.observe.stores import Reader, Sample

NAME = "exporter"
EVERY_S = 5.0
EXPECTED_EVERY_S = 1.0  # who left must be known to have left sooner than an alert of its silence fires
HELD_S = 5.0  # a stop and a start between two scrapes must be seen
GRACE_S = 20.0  # a store that never answered counts as away only then: on a busy machine the first connection takes a while
PRUNE_EVERY_S = 60.0

_log = logging.getLogger("tweetlab")


class Exporter:
    """Asks the stores of `config` until stopped."""

    def __init__(self, config: Settings, asked: list[tuple[str, str, str]] | None = None) -> None:
        self._config = config
        self._asked = list(stores.addresses(config)) if asked is None else asked
        self._told: dict[str, list[Sample]] = {}
        self._readers: dict[str, Reader] = {}
        self._zones = {node: str(zone) for kind, _, node, zone in stores.zones()
                       if zone and kind in stores.READERS}
        self._primaries: dict[str, str] = {}
        self._away: set[str] = set()
        self._answered: set[str] = set()
        self._known: set[str] = set()
        self._left_s: dict[str, float] = {}
        self._began_s = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start asking."""
        self._tasks = [asyncio.create_task(background.keep(partial(self._ask_on, *row), "exporter")) for row in self._asked]
        if path := os.environ.get("TWEETLAB_EXPECTED"):
            self._tasks.append(asyncio.create_task(background.keep(partial(self._expect_on, Path(path)), "expected nodes")))
        if self._config.stores.elasticsearch_urls:
            index = LogIndex(self._config.stores.elasticsearch_urls[0], self._config.namespace)
            self._tasks.append(asyncio.create_task(background.keep(partial(prune_on, index), "pruning")))

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        for node in list(self._readers):
            await self._drop(node)

    async def ask(self, store: str, address: str, node: str) -> None:
        """Ask one store once and tell what it said."""
        began_s = time.monotonic()
        try:
            reader = self._readers.setdefault(node, stores.READERS[store]())
            async with asyncio.timeout(stores.ANSWER_S):
                samples = await reader(self._config, address, node)
            up = 1.0
        except Exception as problem:  # whatever its driver raises: a store that cannot be read is away
            if node not in self._away:
                _log.warning("%s does not tell its counts: %s: %s", node, type(problem).__name__, str(problem)[:300])
            samples, up = [], 0.0
            await self._drop(node)
        (self._away.discard if up else self._away.add)(node)
        if up:
            self._answered.add(node)
        if node in self._answered or time.monotonic() > self._began_s + GRACE_S:
            metrics.tell("tweetlab_store_up", up, store=store, node=node)
        metrics.tell("tweetlab_store_asked_seconds", time.monotonic() - began_s, store=store, node=node)
        self._replace(node, samples)
        self._count_changes(samples)
        self._tell_zones()

    def _count_changes(self, samples: list[Sample]) -> None:
        """Count a primary that is another than the one before; two that both claim it are counted at every look."""
        for sample in samples:
            if sample.name == "tweetlab_store_primary" and sample.value:
                store, node = sample.labels["store"], sample.labels["node"]
                before = self._primaries.setdefault(store, node)
                metrics.count("tweetlab_primary_changes_total", float(before != node), store=store)
                self._primaries[store] = node

    def _tell_zones(self) -> None:
        """Tell how many stores of each zone answer; a zone of whose stores none was asked yet is not told."""
        for zone in set(self._zones.values()):
            here = [node for node, at in self._zones.items() if at == zone and node in self._answered | self._away]
            away = sum(node in self._away for node in here)
            if here:
                metrics.tell("tweetlab_zone_stores", len(here) - away, zone=zone, state="up")
                metrics.tell("tweetlab_zone_stores", away, zone=zone, state="away")

    def expect(self, path: Path) -> None:
        """Tell which processes are expected by `path`; a file that cannot be read leaves what was told."""
        try:
            told = {str(node): bool(expected) for node, expected in json.loads(path.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return
        now_s = time.monotonic()
        self._known |= set(told)
        for node in self._known:
            if not told.get(node):
                self._left_s[node] = now_s
            away = now_s - self._left_s.get(node, -HELD_S) < HELD_S
            metrics.tell("tweetlab_node_expected", float(not away), node=node)

    async def _expect_on(self, path: Path) -> None:
        while True:
            self.expect(path)
            await asyncio.sleep(EXPECTED_EVERY_S)

    async def _drop(self, node: str) -> None:
        """Close a reader that failed; the next question makes a new one."""
        reader = self._readers.pop(node, None)
        if isinstance(reader, stores.Cassandra | stores.Kafka):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(reader.close(), 1.0)

    def _replace(self, node: str, samples: list[Sample]) -> None:
        now = {(sample.name, *sample.labels.values()) for sample in samples}
        for old in self._told.get(node, ()):
            if (old.name, *old.labels.values()) not in now:
                metrics.forget(old.name, **old.labels)
        for sample in samples:
            metrics.tell(sample.name, sample.value, **sample.labels)
        self._told[node] = samples

    async def _ask_on(self, store: str, address: str, node: str) -> None:
        while True:
            await self.ask(store, address, node)
            await asyncio.sleep(EVERY_S)


async def prune_on(index: LogIndex) -> None:
    """Keep the shipped log lines within their bounds, until cancelled."""
    while True:
        try:
            gone = await index.prune()
            if gone:
                _log.info("deleted the oldest log lines: %s", ", ".join(gone))
        except StoreUnavailable as problem:
            _log.warning("old log lines stay for now: %s", problem)
        await asyncio.sleep(PRUNE_EVERY_S)


def main() -> None:
    """Serve until SIGTERM, with the settings of this process' environment."""
    config = settings.from_env()
    exporter = Exporter(config)
    serving.serve(App(NAME, (), config.instance, exporter.open, exporter.close), config.listen_host, config.listen_port)


if __name__ == "__main__":
    main()
