"""SearchIndex on Elasticsearch 8: one index of tweets, written with external versions.

A document's version is the time at which the tweet was read from the tweet store, so an indexer that pauses
with a stale tweet cannot overwrite a newer state (`external_gte`). The version of a deleted document is above
all times, so a clock that steps back can neither keep nor revive a deleted tweet. Deleted tweets stay as
documents with `deleted: true` and no text: Elasticsearch forgets the version of a document that is really
deleted after `index.gc_deletes` (60 s), and a late write would revive it. They are swept once no write can be
that late.

The index is sorted by id on disk, so newest-first stops early. A ranked search reads a *view* (a point in
time): scores depend on counts of the whole index, so without a view a tweet could move across a page
boundary. Searches within SHARED_S share a view; Elasticsearch drops it after `view_s` without a search.

The name of the index carries the version of its mapping. An index of another version is kept until its documents
are in the current one: they are built from the tweet store again (`tweetlab/lab/reindex.py`).

The native build answers 405 to `GET /`, so `client.info()` is never called. The queries:
`elasticsearch/query.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import aiohttp
import elastic_transport
import elasticsearch
import orjson

from system.kernel.errors import LabError, StoreUnavailable, Unavailable, WrongInput
from system.kernel.resilience.guard import Guard
from system.kernel.settings import Settings
from system.kernel.telemetry import metrics
from system.ports import Ask, Document, Found, Hit, Indexed
from system.stores.elasticsearch import query as render

SCHEMA = Path(__file__).with_name("tweets.json")
REVISION = int(json.loads(SCHEMA.read_text(encoding="utf-8"))["mappings"]["_meta"]["revision"])
# Documents per request when seeding: about 0.6 MB. With 2,000, the heap of the small lab's node (400 MB) reached
# the limit of its circuit breaker while a million documents were loaded.
BULK = 1_000
LOAD_TRIES, LOAD_PAUSE_S = 20, 1.0  # per request when seeding: a node whose heap is full needs a garbage collection
CONCURRENT_BULKS = 2  # when seeding: the client parses one while the server indexes the other
# 409 is version_conflict: a newer version is indexed, which keeps the guarantee.
DONE, OLDER = (200, 201), 409
BUSY = (429, 503)  # the queue or the shard could not accept this document now
SHARED_S = 0.2  # searches that start within this time share a view; the index itself refreshes once a second
IDS_PER_SEARCH = 1_000
HITS = "pit_id,hits.hits._id,hits.hits.sort"


class ElasticIndex:
    """The index `<namespace>-tweets-v<version of the mapping>`. Shared by all tasks of one event loop."""

    def __init__(self, client: elasticsearch.AsyncElasticsearch, settings: Settings) -> None:
        self._client = client
        self._name = f"{settings.namespace.lower()}-tweets"
        self._index = f"{self._name}-v{REVISION}"
        self._urls = ", ".join(settings.stores.elasticsearch_urls)
        # Per shard, not counting the primary.
        self._replicas = min(1, len(settings.stores.elasticsearch_urls) - 1)
        self._view_s = max(1, int(settings.policies.search.view_s))
        self._view, self._view_until_s = "", 0.0
        self._opening = asyncio.Lock()
        self._guard = Guard("elasticsearch", settings.policies)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Create the client; the first call connects.

        If a connection breaks it tries the next node: every call is repeatable.
        """
        urls = list(settings.stores.elasticsearch_urls)
        client = elasticsearch.AsyncElasticsearch(
            urls, request_timeout=settings.policies.timeout_s("elasticsearch"), max_retries=len(urls) - 1,
            retry_on_timeout=False, retry_on_status=())
        return cls(client, settings)

    async def close(self) -> None:
        """Close the connections. Safe to repeat."""
        await self._client.close()

    async def ready(self) -> None:
        """Return if the index exists and can be searched. Raises StoreUnavailable."""
        client = self._client.options(ignore_status=408)  # 408: the index does not exist, or is not open yet
        health = await self._call(client.cluster.health(index=self._index, wait_for_status="yellow", timeout="1s"))
        if health["timed_out"]:
            older = await self.older()
            fix = (f"it has {older[0]}, of another version: `tweetlab down` and `tweetlab up` rebuild it" if older
                   else "`tweetlab up` creates it")
            raise StoreUnavailable(f"Elasticsearch at {self._urls} has no open index {self._index}; {fix}.", definite=True)

    async def prepare(self) -> None:
        """Create the index if it does not exist. Safe to repeat, and from several processes concurrently.

        One of another version stays: `older` names it, and its documents must be built again.
        """
        schema = json.loads(SCHEMA.read_text())
        schema["settings"]["number_of_replicas"] = self._replicas
        client = self._client.options(ignore_status=400, request_timeout=30)  # 400: it already exists
        reply = await self._call(client.indices.create(index=self._index, **schema))
        kind = reply.get("error", {}).get("type", "") if isinstance(reply, dict) else ""
        if kind not in ("", "resource_already_exists_exception"):
            raise StoreUnavailable(f"Elasticsearch at {self._urls} did not create {self._index}: {kind}.", definite=True)

    async def older(self) -> list[str]:
        """Return the names of this namespace's indices of other mapping versions."""
        client = self._client.options(ignore_status=404, request_timeout=30)
        reply = await self._call(client.indices.get_mapping(index=f"{self._name},{self._name}-v*", ignore_unavailable=True))
        return sorted(name for name in reply if name.startswith(self._name) and name != self._index)

    async def remove_older(self) -> None:
        """Delete the indices of other mapping versions. Safe to repeat."""
        client = self._client.options(ignore_status=404, request_timeout=30)
        for name in await self.older():
            await self._call(client.indices.delete(index=name))

    async def index(self, documents: Sequence[Document]) -> Indexed:
        return await self._write(self._client, documents) if documents else Indexed()

    async def _write(self, client: elasticsearch.AsyncElasticsearch, documents: Sequence[Document]) -> Indexed:
        lines: list[Any] = [line for document in documents for line in render.lines(document, self._index)]
        reply = await self._call(client.bulk(operations=lines, filter_path="items.*.status,items.*.error"))
        refused: dict[int, str] = {}
        busy: list[int] = []
        counts = dict.fromkeys(("written", "older", "busy", "refused"), 0)
        for document, item in zip(documents, reply["items"]):
            status = item["index"]["status"]
            result = ("written" if status in DONE else "older" if status == OLDER else "busy" if status in BUSY or status >= 500
                      else "refused")
            counts[result] += 1
            if result == "busy":
                busy.append(document.tweet.id)
            elif result == "refused":
                refused[document.tweet.id] = _reason(item["index"])
        metrics.observe("tweetlab_index_bulk_documents", len(documents))
        for result, count in counts.items():
            if count:
                metrics.count("tweetlab_index_documents_total", count, result=result)
        return Indexed(refused, tuple(busy))

    async def search(self, ask: Ask) -> Found:
        body = render.search(ask, f"{self._view_s}s")
        try:
            reply = await self._call_if_exists(self._client.search(index=self._index_of(ask), body=body, filter_path=HITS))
        except elasticsearch.NotFoundError as problem:
            if not ask.view:
                raise mapped(problem, self._urls) from problem
            metrics.count("tweetlab_search_views_total", result="gone")
            raise WrongInput(f"The page was requested too late: its view is kept for {self._view_s} s after its last page. "
                             "Search again without `next_token`.") from problem
        hits = reply.get("hits", {}).get("hits", ())
        scores = (hit["sort"][0] if ask.rank is not None else 0.0 for hit in hits)
        return Found([Hit(int(hit["_id"]), score) for hit, score in zip(hits, scores)], reply.get("pit_id", ""))

    def _index_of(self, ask: Ask) -> str | None:
        return None if ask.view else self._index  # a view names its index itself

    async def nth_newest(self, ask: Ask, n: int) -> int | None:
        newest = Ask(ask.query, 1, ask.before, ask.since, view=ask.view, hidden=ask.hidden)
        body = render.search(newest, f"{self._view_s}s") | {"from": n - 1}
        reply = await self._call(self._client.search(index=self._index_of(ask), body=body, filter_path=HITS))
        hits = reply.get("hits", {}).get("hits", ())
        return int(hits[0]["_id"]) if hits else None

    async def histogram(self, ask: Ask, times_ms: Sequence[int]) -> list[int]:
        body = render.histogram(ask, times_ms)
        reply = await self._call_if_exists(self._client.search(index=self._index, body=body))
        return [int(bucket["doc_count"]) for bucket in reply["aggregations"]["times"]["buckets"]]

    async def view(self) -> str:
        async with self._opening:
            if self._view and time.monotonic() < self._view_until_s:
                metrics.count("tweetlab_search_views_total", result="shared")
                return self._view
            opened_s = time.monotonic()
            reply = await self._call(self._client.open_point_in_time(index=self._index, keep_alive=f"{self._view_s}s"))
            self._view, self._view_until_s = str(reply["id"]), opened_s + SHARED_S
            metrics.count("tweetlab_search_views_total", result="opened")
            return self._view

    async def found(self, tweet_ids: Sequence[int]) -> set[int]:
        searchable: set[int] = set()
        for start in range(0, len(tweet_ids), IDS_PER_SEARCH):
            batch = list(tweet_ids[start : start + IDS_PER_SEARCH])
            query = {"bool": {"filter": [{"terms": {"id": batch}}], "must_not": [{"term": {"deleted": True}}]}}
            searchable.update(await self._ids(query, len(batch)))
        return searchable

    async def sweep(self, before_ms: int, limit: int) -> int:
        old = {"bool": {"filter": [{"term": {"deleted": True}}, {"range": {"deleted_ms": {"lt": before_ms}}}]}}
        expired = await self._ids(old, limit)
        if not expired:
            return 0
        version = time.time_ns() + render.DELETED  # newer than any version so far; a later one still wins
        lines: list[Any] = [orjson.dumps({"delete": {"_index": self._index, "_id": str(i), "version": version,
                                                     "version_type": "external_gte"}}) for i in expired]
        reply = await self._call(self._client.bulk(operations=lines))
        swept = sum(item["delete"]["status"] in (200, 404) for item in reply["items"])
        metrics.count("tweetlab_index_documents_total", swept, result="swept")
        return swept

    async def _ids(self, query: dict[str, Any], limit: int) -> list[int]:
        reply = await self._call(self._client.search(index=self._index, size=limit, source=False, track_total_hits=False,
                                                      sort=render.NEWEST_FIRST, query=query, filter_path=HITS))
        return [int(hit["_id"]) for hit in reply.get("hits", {}).get("hits", ())]

    async def refresh(self) -> None:
        await self._call(self._client.indices.refresh(index=self._index))
        self._view = ""  # later searches must see the refreshed index

    async def bulk_load(self, documents: Iterable[Document]) -> int:
        """Index many documents for seeding, with refresh disabled until the end. Return how many.

        They are visible on return. Safe to repeat.
        """
        count, source, client = 0, iter(documents), self._client.options(request_timeout=60)
        await self._bulk_settings(client, "-1", "async")
        in_flight: deque[asyncio.Task[None]] = deque()
        try:
            while batch := list(islice(source, BULK)):
                in_flight.append(asyncio.ensure_future(self._load(client, batch)))
                count += len(batch)
                while len(in_flight) >= CONCURRENT_BULKS:
                    await in_flight.popleft()
            while in_flight:
                await in_flight.popleft()
        finally:
            for task in in_flight:
                task.cancel()
            await self._bulk_settings(client, "1s", "request")
        await self._call(client.indices.refresh(index=self._index))
        self._view = ""
        return count

    async def _load(self, client: elasticsearch.AsyncElasticsearch, documents: Sequence[Document]) -> None:
        """Write these documents, and again those for which the node was too busy. Safe: their versions stay the same."""
        for tries_left in reversed(range(LOAD_TRIES)):
            try:
                outcome = await self._write(client, documents)
            except Unavailable:
                if not tries_left:
                    raise
                await asyncio.sleep(LOAD_PAUSE_S)
                continue
            if outcome.refused:
                first, reason = next(iter(outcome.refused.items()))
                raise WrongInput(f"Elasticsearch refused {len(outcome.refused)} of {len(documents)} documents, "
                                 f"first {first}: {reason}.")
            if not outcome.busy:
                return
            documents = [document for document in documents if document.tweet.id in outcome.busy]
            await asyncio.sleep(LOAD_PAUSE_S)
        raise StoreUnavailable(f"Elasticsearch was too busy for {len(documents)} documents in {LOAD_TRIES} tries; repeat them.")

    async def clear(self) -> None:
        """Empty this namespace's index: remove it and create it again."""
        await self.remove()
        await self.prepare()

    async def forget(self, tweet_ids: Sequence[int]) -> None:
        """Permanently remove these documents. Resets a lab to its seeded state; safe to repeat."""
        for start in range(0, len(tweet_ids), BULK):
            batch = tweet_ids[start : start + BULK]
            lines: list[Any] = [orjson.dumps({"delete": {"_index": self._index, "_id": str(i)}}) for i in batch]
            reply = await self._call(self._client.options(request_timeout=60).bulk(operations=lines))
            problems = [item["delete"] for item in reply["items"] if item["delete"]["status"] not in (200, 404)]
            if problems:
                raise StoreUnavailable(f"Elasticsearch did not remove {len(problems)} of {len(batch)} documents, first "
                                       f"{problems[0]['_id']}: {_reason(problems[0])}; repeat them.")

    async def count(self) -> tuple[int, int]:
        """Refresh, then return (documents in the index, those of them that are marked deleted)."""
        await self.refresh()
        client = self._client.options(request_timeout=60)
        total = await self._call(client.count(index=self._index))
        deleted = await self._call(client.count(index=self._index, query={"term": {"deleted": True}}))
        return int(total["count"]), int(deleted["count"])

    async def remove(self) -> None:
        """Delete this namespace's index, and those of other versions. Safe to repeat."""
        await self.remove_older()
        client = self._client.options(ignore_status=404, request_timeout=30)
        await self._call(client.indices.delete(index=self._index))

    async def _bulk_settings(self, client: elasticsearch.AsyncElasticsearch, refresh: str, durability: str) -> None:
        settings = {"index": {"refresh_interval": refresh, "translog.durability": durability}}
        await self._call(client.indices.put_settings(index=self._index, settings=settings))

    async def _guarded(self, request: Any, send: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            return await self._guard.run(lambda: send(request))
        finally:
            request.close()  # a request that the guard refused is never awaited

    async def _call(self, request: Any) -> Any:
        return await self._guarded(request, self._send)

    async def _send(self, request: Any) -> Any:
        try:
            return (await request).body
        except (elasticsearch.ApiError, elastic_transport.TransportError) as problem:
            raise mapped(problem, self._urls) from problem

    async def _call_if_exists(self, request: Any) -> Any:
        """Do as `_call`, but raise NotFoundError unmapped, for the caller to handle."""
        return await self._guarded(request, self._send_if_exists)

    async def _send_if_exists(self, request: Any) -> Any:
        try:
            return (await request).body
        except elasticsearch.NotFoundError:
            raise
        except (elasticsearch.ApiError, elastic_transport.TransportError) as problem:
            raise mapped(problem, self._urls) from problem


def mapped(problem: Exception, urls: str) -> LabError:
    """Map any error of the client to a LabError."""
    text = f"Elasticsearch at {urls}: {problem}; see `tweetlab status` and the log of elasticsearch."
    if isinstance(problem, elasticsearch.ApiError):
        # 4xx is a refusal before anything is done; after 5xx the outcome is unknown.
        return StoreUnavailable(text, definite=400 <= problem.status_code < 500 and all(map(_never_connected, problem.errors)))
    refused = isinstance(problem, elastic_transport.ConnectionError) and all(map(_never_connected, (problem, *problem.errors)))
    return StoreUnavailable(text, definite=refused)


def _never_connected(attempt: Exception) -> bool:
    """Return whether an attempt failed before it reached a node.

    The client keeps earlier attempts in the last one's `errors`.
    """
    causes = (attempt, attempt.__cause__, attempt.__context__)
    return any(isinstance(cause, aiohttp.ClientConnectorError) for cause in causes)


def _reason(item: dict[str, Any]) -> str:
    error = item.get("error", {})
    cause = error.get("caused_by", {}).get("reason", "")
    return f"{item['status']} {error.get('type', '')}: {error.get('reason', 'no reason given')} {cause}".strip()[:200]
