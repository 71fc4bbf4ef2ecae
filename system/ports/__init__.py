"""The promises that services stand on. Each port has a real adapter and a memory adapter, held to one contract test.

Every method states what it promises (consistency), whether it may be repeated (idempotency) and how it fails.
All raise `StoreUnavailable`: `definite=True` where certainly nothing happened, else the outcome is unknown.
Pages are ordered newest first (descending id). `before`: exclusive upper bound of ids; None = from the newest.
"""

from __future__ import annotations

from dataclasses import dataclass

from system.ports.blobs import Blob, BlobStore
from system.ports.index import Document, SearchIndex
from system.ports.keys import KeyStore, Reservation
from system.ports.log import Consumer, EventLog, Record
from system.ports.timelines import Chunk, Entry, HomePage, Kind, ListPage, TimelineCache, TweetCache
from system.ports.tweets import OutboxRow, TweetStore
from system.ports.users import AuthorMode, Edge, LeaseStore, Mode, Publish, User, UserDirectory

__all__ = [
    "AuthorMode",
    "Blob",
    "BlobStore",
    "Chunk",
    "Consumer",
    "Document",
    "Edge",
    "Entry",
    "EventLog",
    "HomePage",
    "KeyStore",
    "Kind",
    "LeaseStore",
    "ListPage",
    "Mode",
    "OutboxRow",
    "Ports",
    "Publish",
    "Record",
    "Reservation",
    "SearchIndex",
    "TimelineCache",
    "TweetCache",
    "TweetStore",
    "User",
    "UserDirectory",
]


@dataclass(frozen=True)
class Ports:
    """Everything a service may stand on. `bootstrap` fills what a service needs; the rest is absent."""

    tweets: TweetStore
    timelines: TimelineCache
    hot: TweetCache
    users: UserDirectory
    leases: LeaseStore
    keys: KeyStore
    log: EventLog
    index: SearchIndex
    blobs: BlobStore
