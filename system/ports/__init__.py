"""The interfaces that services use.

Each port has a real and an in-memory adapter that pass the same contract tests.

Every method states its guarantees (consistency), whether it may be repeated (idempotency) and how it fails.
All raise `StoreUnavailable`: `definite=True` if certainly nothing happened, else the outcome is unknown.
Pages are ordered newest first (descending id). `before`: exclusive upper bound of ids; None: from the newest.
"""

from __future__ import annotations

from dataclasses import dataclass

from system.ports.blobs import Blob, BlobStore, SignedPut
from system.ports.index import MAX_HIDDEN, Ask, Document, Found, Hit, Indexed, SearchIndex
from system.ports.keys import KeyStore, Reservation
from system.ports.likes import Like, LikeCount, LikeCounts, LikeStore
from system.ports.limits import LimitStore, Quota, QuotaState
from system.ports.log import Consumer, EventLog, Record
from system.ports.media import MediaEdge, MediaState, MediaStore, Medium
from system.ports.timelines import IS_COMPLETE, Chunk, Entry, HomePage, Kind, ListPage, TimelineCache, TweetCache
from system.ports.tokens import Grant, TokenStore
from system.ports.tweets import OutboxRow, TweetStore
from system.ports.users import AuthorMode, Edge, LeaseStore, Mode, ProtectedUsers, Publish, User, UserDirectory

__all__ = [
    "IS_COMPLETE",
    "MAX_HIDDEN",
    "Ask",
    "AuthorMode",
    "Blob",
    "BlobStore",
    "Chunk",
    "Consumer",
    "Document",
    "Edge",
    "Entry",
    "EventLog",
    "Found",
    "Grant",
    "Hit",
    "HomePage",
    "Indexed",
    "KeyStore",
    "Kind",
    "LeaseStore",
    "Like",
    "LikeCount",
    "LikeCounts",
    "LikeStore",
    "LimitStore",
    "ListPage",
    "MediaEdge",
    "MediaState",
    "MediaStore",
    "Medium",
    "Mode",
    "OutboxRow",
    "Ports",
    "ProtectedUsers",
    "Publish",
    "Quota",
    "QuotaState",
    "Record",
    "Reservation",
    "SearchIndex",
    "SignedPut",
    "TimelineCache",
    "TokenStore",
    "TweetCache",
    "TweetStore",
    "User",
    "UserDirectory",
]


@dataclass(frozen=True)
class Ports:
    """All ports that a service may use.

    `bootstrap` opens those that a service needs; the others are absent.
    """

    tweets: TweetStore
    timelines: TimelineCache
    hot: TweetCache
    users: UserDirectory
    leases: LeaseStore
    keys: KeyStore
    likes: LikeStore
    like_counts: LikeCounts
    log: EventLog
    index: SearchIndex
    blobs: BlobStore
    media: MediaStore
    edge: MediaEdge
    limits: LimitStore
    tokens: TokenStore
