"""Prometheus exporter of the stores: `python -m system.observe.exporter`.

MinIO and HAProxy have native endpoints.

Each store is queried every `EVERY_S` seconds, independent of scrapes. If a store does not answer in time,
`tweetlab_store_up` is 0, and its other series disappear instead of keeping their last values.
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
EXPECTED_EVERY_S = 1.0  # a planned stop must be known before the alert for a silent process fires
HELD_S = 5.0  # a stop and a start between two scrapes must be visible
GRACE_S = 20.0  # before a store that never answered counts as down: a first connection is slow on a busy machine
PRUNE_EVERY_S = 60.0

_log = logging.getLogger("tweetlab")


class Exporter:
    """Queries the stores of `config` until stopped.

    `asked`: (store, address, node), None for all in `config`.
    """

    def __init__(self, config: Settings, asked: list[tuple[str, str, str]] | None = None) -> None:
        self._config = config
        self._targets = list(stores.addresses(config)) if asked is None else asked
        self._samples: dict[str, list[Sample]] = {}
        self._readers: dict[str, Reader] = {}
        self._zones = {node: str(zone) for kind, _, node, zone in stores.zones()
                       if zone and kind in stores.READERS}
        self._primaries: dict[str, str] = {}
        self._down: set[str] = set()
        self._answered: set[str] = set()
        self._known: set[str] = set()
        self._unexpected_s: dict[str, float] = {}
        self._started_s = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start polling."""
        self._tasks = [asyncio.create_task(background.run_forever(partial(self._poll, *row), "exporter"))
                       for row in self._targets]
        if path := os.environ.get("TWEETLAB_EXPECTED"):
            self._tasks.append(asyncio.create_task(background.run_forever(
                partial(self._poll_expected, Path(path)), "expected nodes")))
        if self._config.stores.elasticsearch_urls:
            index = LogIndex(self._config.stores.elasticsearch_urls[0], self._config.namespace)
            self._tasks.append(asyncio.create_task(background.run_forever(partial(prune_forever, index), "pruning")))

    async def close(self) -> None:
        """Stop polling."""
        for task in self._tasks:
            task.cancel()
        for node in list(self._readers):
            await self._drop(node)

    async def ask(self, store: str, address: str, node: str) -> None:
        """Query one store once and expose its samples."""
        start_s = time.monotonic()
        try:
            reader = self._readers.setdefault(node, stores.READERS[store]())
            async with asyncio.timeout(stores.ANSWER_S):
                samples = await reader(self._config, address, node)
            up = 1.0
        except Exception as problem:  # any error of its driver: a store that cannot be read is down
            if node not in self._down:
                _log.warning("cannot read metrics of %s: %s: %s", node, type(problem).__name__, str(problem)[:300])
            samples, up = [], 0.0
            await self._drop(node)
        (self._down.discard if up else self._down.add)(node)
        if up:
            self._answered.add(node)
        if node in self._answered or time.monotonic() > self._started_s + GRACE_S:
            metrics.report("tweetlab_store_up", up, store=store, node=node)
        metrics.report("tweetlab_store_asked_seconds", time.monotonic() - start_s, store=store, node=node)
        self._replace(node, samples)
        self._count_changes(samples)
        self._report_zones()

    def _count_changes(self, samples: list[Sample]) -> None:
        """Count changes of the primary; two members that both claim the role count at every poll."""
        for sample in samples:
            if sample.name == "tweetlab_store_primary" and sample.value:
                store, node = sample.labels["store"], sample.labels["node"]
                before = self._primaries.setdefault(store, node)
                metrics.count("tweetlab_primary_changes_total", float(before != node), store=store)
                self._primaries[store] = node

    def _report_zones(self) -> None:
        """Report how many stores of each zone answer.

        A zone whose stores were not queried yet is not reported.
        """
        for zone in set(self._zones.values()):
            nodes = [node for node, at in self._zones.items() if at == zone and node in self._answered | self._down]
            down = sum(node in self._down for node in nodes)
            if nodes:
                metrics.report("tweetlab_zone_stores", len(nodes) - down, zone=zone, state="up")
                metrics.report("tweetlab_zone_stores", down, zone=zone, state="away")

    def expect(self, path: Path) -> None:
        """Report which processes the file `path` expects to run; an unreadable file changes nothing."""
        try:
            expected_by_node = {str(node): bool(expected)
                                for node, expected in json.loads(path.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return
        now_s = time.monotonic()
        self._known |= set(expected_by_node)
        for node in self._known:
            if not expected_by_node.get(node):
                self._unexpected_s[node] = now_s
            stopped = now_s - self._unexpected_s.get(node, -HELD_S) < HELD_S
            metrics.report("tweetlab_node_expected", float(not stopped), node=node)

    async def _poll_expected(self, path: Path) -> None:
        while True:
            self.expect(path)
            await asyncio.sleep(EXPECTED_EVERY_S)

    async def _drop(self, node: str) -> None:
        """Close a reader that failed; the next query creates a new one."""
        reader = self._readers.pop(node, None)
        if isinstance(reader, stores.Cassandra | stores.Kafka):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(reader.close(), 1.0)

    def _replace(self, node: str, samples: list[Sample]) -> None:
        current = {(sample.name, *sample.labels.values()) for sample in samples}
        for old in self._samples.get(node, ()):
            if (old.name, *old.labels.values()) not in current:
                metrics.forget(old.name, **old.labels)
        for sample in samples:
            metrics.report(sample.name, sample.value, **sample.labels)
        self._samples[node] = samples

    async def _poll(self, store: str, address: str, node: str) -> None:
        while True:
            await self.ask(store, address, node)
            await asyncio.sleep(EVERY_S)


async def prune_forever(index: LogIndex) -> None:
    """Keep shipped log lines within their size and age limits, until cancelled."""
    while True:
        try:
            deleted = await index.prune()
            if deleted:
                _log.info("deleted the oldest log lines: %s", ", ".join(deleted))
        except StoreUnavailable as problem:
            _log.warning("cannot delete old log lines, retrying later: %s", problem)
        await asyncio.sleep(PRUNE_EVERY_S)


def main() -> None:
    """Serve until SIGTERM, with the settings of this process' environment."""
    config = settings.from_env()
    exporter = Exporter(config)
    serving.serve(App(NAME, (), config.instance, exporter.open, exporter.close), config.listen_host, config.listen_port)


if __name__ == "__main__":
    main()
