"""SearchIndex on Elasticsearch 8: one index of tweets, written with external versions, read newest first.

A document's version is the time at which the truth was read, so an indexer that pauses with an old tweet in hand cannot
overwrite a newer state (`external_gte`). Deleted tweets stay as documents with `deleted: true` and no text: Elasticsearch
forgets the version of a document that is really deleted after `index.gc_deletes` (60 s), and a late write would revive it.
The index is sorted by id on disk, so a search stops early. Only core features are used (standard tokenizer, bool, match,
term, range): the native build has no others, and its `GET /` answers 405, so `client.info()` is never called.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import aiohttp
import elastic_transport
import elasticsearch
import orjson

from system.kernel.errors import LabError, StoreUnavailable, WrongInput
from system.kernel.settings import Settings
from system.ports import Document

SCHEMA = Path(__file__).with_name("schema") / "elastic.json"
BULK = 2_000  # documents a request when seeding: about 0.5 MB, within the 5-15 MB Elastic's own guide calls large
OLDER = 409  # version_conflict: a newer version stands; the promise is kept


class ElasticIndex:
    """The index `<namespace>-tweets`. Shared by all tasks of one event loop."""

    def __init__(self, client: elasticsearch.AsyncElasticsearch, settings: Settings) -> None:
        self._client = client
        self._index = f"{settings.namespace.lower()}-tweets"
        self._urls = ", ".join(settings.stores.elasticsearch_urls)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Make the client; the first call connects. It retries nothing by itself."""
        client = elasticsearch.AsyncElasticsearch(
            list(settings.stores.elasticsearch_urls), request_timeout=settings.policies.deadline.store_s, max_retries=0,
            retry_on_timeout=False, retry_on_status=())
        return cls(client, settings)

    async def close(self) -> None:
        """Close the connections. Safe to repeat."""
        await self._client.close()

    async def ready(self) -> None:
        """Return if the index stands and can be searched. Raises StoreUnavailable."""
        client = self._client.options(ignore_status=408)  # 408: the index is not there, or not yet open
        health = await self._asked(client.cluster.health(index=self._index, wait_for_status="yellow", timeout="1s"))
        if health["timed_out"]:
            raise StoreUnavailable(f"Elasticsearch at {self._urls} has no open index {self._index}; seeding makes it.",
                                   definite=True)

    async def prepare(self) -> None:
        """Create the index where it does not stand. Safe to repeat, and by several processes at once."""
        schema = json.loads(SCHEMA.read_text())
        client = self._client.options(ignore_status=400, request_timeout=30)  # 400: it stands already
        reply = await self._asked(client.indices.create(index=self._index, **schema))
        kind = reply.get("error", {}).get("type", "") if isinstance(reply, dict) else ""
        if kind not in ("", "resource_already_exists_exception"):
            raise StoreUnavailable(f"Elasticsearch at {self._urls} did not create {self._index}: {kind}.", definite=True)

    async def index(self, documents: Sequence[Document]) -> None:
        if documents:
            await self._write(self._client, documents)

    async def _write(self, client: elasticsearch.AsyncElasticsearch, documents: Sequence[Document]) -> None:
        lines: list[Any] = [line for document in documents for line in self._lines(document)]
        reply = await self._asked(client.bulk(operations=lines))
        problems = [item["index"] for item in reply["items"] if item["index"]["status"] not in (200, 201, OLDER)]
        if problems:
            _raise_item(problems[0], len(problems), len(documents))

    async def search(self, query: str, before: int | None, limit: int) -> list[int]:
        clauses: list[dict[str, Any]] = [{"term": {"deleted": False}}]
        if before is not None:
            clauses.append({"range": {"id": {"lt": before}}})
        reply = await self._asked(self._client.search(
            index=self._index, size=limit, source=False, track_total_hits=False, sort=[{"id": "desc"}],
            query={"bool": {"must": [{"match": {"text": {"query": query, "operator": "and"}}}], "filter": clauses}}))
        return [int(hit["_id"]) for hit in reply["hits"]["hits"]]

    async def refresh(self) -> None:
        await self._asked(self._client.indices.refresh(index=self._index))

    async def bulk_load(self, documents: Iterable[Document]) -> int:
        """Index many documents for seeding, without refreshes meanwhile; visible on return. Return how many. Safe to repeat."""
        count, source, patient = 0, iter(documents), self._client.options(request_timeout=60)
        await self._refresh_interval(patient, "-1")
        try:
            while batch := list(islice(source, BULK)):
                await self._write(patient, batch)
                count += len(batch)
        finally:
            await self._refresh_interval(patient, "1s")
        await self._asked(patient.indices.refresh(index=self._index))
        return count

    async def clear(self) -> None:
        """Empty the index of this namespace: it is removed and made anew."""
        await self.remove()
        await self.prepare()

    async def forget(self, tweet_ids: Sequence[int]) -> None:
        """Remove these documents for good. For bringing a lab back to its seeded state; safe to repeat."""
        for start in range(0, len(tweet_ids), BULK):
            batch = tweet_ids[start : start + BULK]
            lines: list[Any] = [orjson.dumps({"delete": {"_index": self._index, "_id": str(i)}}) for i in batch]
            reply = await self._asked(self._client.options(request_timeout=60).bulk(operations=lines))
            problems = [item["delete"] for item in reply["items"] if item["delete"]["status"] not in (200, 404)]
            if problems:
                _raise_item(problems[0], len(problems), len(batch))

    async def remove(self) -> None:
        """Remove the index of this namespace. Safe to repeat."""
        client = self._client.options(ignore_status=404, request_timeout=30)
        await self._asked(client.indices.delete(index=self._index))

    async def _refresh_interval(self, client: elasticsearch.AsyncElasticsearch, value: str) -> None:
        await self._asked(client.indices.put_settings(index=self._index, settings={"index": {"refresh_interval": value}}))

    def _lines(self, document: Document) -> tuple[bytes, bytes]:
        tweet = document.tweet
        action = {"_index": self._index, "_id": str(tweet.id), "version": document.version, "version_type": "external_gte"}
        body = {"id": tweet.id, "author_id": tweet.author_id, "text": "" if tweet.deleted else tweet.text,
                "created_ms": tweet.created_ms, "deleted": tweet.deleted}
        return orjson.dumps({"index": action}), orjson.dumps(body)

    async def _asked(self, request: Any) -> Any:
        try:
            return (await request).body
        except (elasticsearch.ApiError, elastic_transport.TransportError) as problem:
            raise mapped(problem, self._urls) from problem


def mapped(problem: Exception, urls: str) -> LabError:
    """Return the error of ours for anything the client raises."""
    text = f"Elasticsearch at {urls}: {problem}; see `tweetlab status` and the log of elasticsearch."
    if isinstance(problem, elasticsearch.ApiError):
        # 4xx is refused before anything is done; after 5xx nobody knows.
        return StoreUnavailable(text, definite=400 <= problem.status_code < 500)
    refused = isinstance(problem, elastic_transport.ConnectionError) and _never_connected(problem)
    return StoreUnavailable(text, definite=refused)


def _never_connected(problem: elastic_transport.TransportError) -> bool:
    causes = [problem.__cause__, problem.__context__, *problem.errors]
    return any(isinstance(cause, aiohttp.ClientConnectorError) for cause in causes)


def _raise_item(item: dict[str, Any], failed: int, total: int) -> None:
    reason = item.get("error", {}).get("reason", "no reason given")
    if item["status"] == 400:
        raise WrongInput(f"Elasticsearch refused {failed} of {total} documents, first {item['_id']}: {reason}; see elastic.json.")
    raise StoreUnavailable(f"Elasticsearch did not index {failed} of {total} documents: {item['status']} {reason}; repeat them.")
