"""Builds the search index again after its mapping has changed.

The index is derived: the tweets are in Cassandra, their likes in PostgreSQL. Each document has the version of
its read, so the rebuild may run again after a crash, and beside indexers. The index of the earlier version is
removed last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from system.kernel.errors import StoreUnavailable
from system.ports import Ports
from system.services.search.handlers import Indexer, index_all
from system.services.shared import consumer_loop

BATCH = 500  # tweets read, and documents sent, at once


async def rebuild(ports: Ports, say: Callable[[str], None] = lambda line: None) -> int:
    """Fill the current index if there is one of another version; return how many documents.

    Raises StoreUnavailable if a document is refused; the index of the earlier version remains then.
    """
    adapters: Any = ports  # services use no bulk operations, so the ports do not declare them
    older = await adapters.index.older()
    if not older:
        return 0
    indexer = Indexer(ports)
    tweet_ids = sorted(tweet_id for tweet_id, _, deleted in await adapters.tweets.all_ids() if not deleted)
    say(f"the search index {older[0]} is of another version: indexing {len(tweet_ids):,} tweets again")
    refused: dict[int, str] = {}
    for start in range(0, len(tweet_ids), BATCH):
        batch = functools.partial(index_all, indexer, set(tweet_ids[start:start + BATCH]), refused)
        await consumer_loop.until_available(batch, "index")
    if refused:
        tweet_id, why = next(iter(refused.items()))
        raise StoreUnavailable(f"Elasticsearch refused {len(refused)} of {len(tweet_ids)} tweets, first {tweet_id}: {why}. "
                               "The earlier index remains.")
    await adapters.index.refresh()
    await adapters.index.remove_older()
    return len(tweet_ids)
