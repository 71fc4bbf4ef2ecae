"""Shipped log lines in Elasticsearch: one index per hour, `<namespace>-logs-<date>-<hour>` (UTC).

An index template provides the mapping, so that rsyslog only writes. Only core features are used: the native
build has no ingest pipelines, lifecycle policies or data streams; instead the exporter calls `prune` every
minute, which deletes the oldest hours. The current hour is never deleted: at most `MAX_MIB` plus the lines of
one hour are stored.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from system.kernel.errors import StoreUnavailable

MAX_MIB = 256
MAX_HOURS = 24
PATIENCE_S = 10.0

KEYWORDS = ("id", "level", "service", "instance", "logger", "request_id", "trace_id", "span_id", "route", "method", "user")
PROPERTIES: dict[str, Any] = {
    **{name: {"type": "keyword", "ignore_above": 256} for name in KEYWORDS},
    "time": {"type": "date"},
    "message": {"type": "text"},
    "error": {"type": "text"},
    "path": {"type": "text"},
    "status": {"type": "integer"},
    "ms": {"type": "float"},
    "waited_ms": {"type": "float"},
}
LEVELS = ("debug", "info", "warning", "raw", "error", "critical")
"""By rising severity. `raw`: a line that is not JSON, as a crash or a library writes it."""


class LogIndex:
    """The log indices of one namespace."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._prefix = url.rstrip("/"), f"{namespace.lower()}-logs-"

    async def prepare(self) -> None:
        """Create the index template. Safe to repeat."""
        settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "1s", "codec": "best_compression",
                    "mapping.ignore_malformed": True}
        body = {"index_patterns": [f"{self._prefix}*"], "priority": 500,
                "template": {"settings": {"index": settings}, "mappings": {"dynamic": False, "properties": PROPERTIES}}}
        await self._request("PUT", f"/_index_template/{self._prefix}hours", body)

    async def remove(self) -> None:
        """Delete all lines of this namespace and the template. Safe to repeat."""
        for name, _ in await self._hours():
            await self._request("DELETE", f"/{name}", missing_ok=True)
        await self._request("DELETE", f"/_index_template/{self._prefix}hours", missing_ok=True)

    async def prune(self, now_s: float | None = None) -> list[str]:
        """Delete the hours that exceed the age or size limit; return their names."""
        deleted = outdated(await self._hours(), time.time() if now_s is None else now_s)
        for name in deleted:
            await self._request("DELETE", f"/{name}", missing_ok=True)
        return deleted

    async def find(self, ask: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        """Return the newest lines that match `query(...)`, oldest first, each once. Raises StoreUnavailable."""
        body = {"query": ask, "size": limit, "sort": [{"time": {"order": "desc", "unmapped_type": "date"}}]}
        reply = await self._request("POST", f"/{self._prefix}*/_search?ignore_unavailable=true&allow_no_indices=true", body)
        return [{**hit["_source"], "id": hit["_id"]} for hit in reversed(reply["hits"]["hits"])]

    async def refresh(self) -> None:
        """Make all written lines visible to searches."""
        await self._request("POST", f"/{self._prefix}*/_refresh?allow_no_indices=true", missing_ok=True)

    async def _hours(self) -> list[tuple[str, int]]:
        path = f"/_cat/indices/{self._prefix}*?format=json&bytes=b&h=index,store.size"
        rows = await self._request("GET", path, missing_ok=True)
        return sorted((row["index"], int(row["store.size"] or 0)) for row in rows or ())

    async def _request(self, method: str, path: str, body: Any = None, missing_ok: bool = False) -> Any:
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as web:
                async with web.request(method, self._url + path, json=body) as response:
                    if response.status == 404 and missing_ok:
                        return None
                    if response.status >= 400:
                        raise StoreUnavailable(f"Elasticsearch at {self._url} answered {response.status} to {method} {path}: "
                                               f"{(await response.text())[:300]}", definite=response.status < 500)
                    return await response.json()
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise StoreUnavailable(f"Elasticsearch at {self._url} does not answer ({problem!r}).", definite=False) from problem


def outdated(hours: Sequence[tuple[str, int]], now_s: float) -> list[str]:
    """Return the indices to delete, oldest first. `hours`: (name, bytes). The newest is never among them."""
    oldest = time.strftime("%Y-%m-%d-%H", time.gmtime(now_s - MAX_HOURS * 3600))
    total, deleted = sum(size for _, size in hours), []
    for name, size in sorted(hours)[:-1]:
        if name[-len(oldest):] < oldest or total > MAX_MIB * 2**20:
            deleted.append(name)
            total -= size
    return deleted


def query(words: str = "", trace: str = "", request: str = "", level: str = "", service: str = "",
          since_s: float | None = None, now_s: float | None = None) -> dict[str, Any]:
    """Return the query for lines that contain all `words` and match all other arguments that are set.

    `level`: this one or more severe. `service`: a service, or one instance of it. `since_s`: maximum age in
    seconds.
    """
    filters: list[dict[str, Any]] = []
    if trace:
        filters.append({"term": {"trace_id": trace}})
    if request:
        filters.append({"term": {"request_id": request}})
    if level:
        filters.append({"terms": {"level": list(LEVELS[LEVELS.index(level):])}})
    if service:
        filters.append({"bool": {"should": [{"term": {"service": service}}, {"term": {"instance": service}}]}})
    if since_s is not None:
        filters.append({"range": {"time": {"gte": int(((time.time() if now_s is None else now_s) - since_s) * 1000)}}})
    fields = [{"match": {name: {"query": words, "operator": "and"}}} for name in ("message", "error", "path")]
    must = [{"bool": {"should": fields}}] if re.search(r"\w", words) else []
    return {"bool": {"must": must, "filter": filters}}
