"""Calls to Kafka with a deadline, and the client's errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from aiokafka import admin
from aiokafka import errors as kafka

from system.kernel.errors import LabError, StoreUnavailable

T = TypeVar("T")

JOIN_S = 20.0  # longest wait for a group's assignment: a dead member's session, and a rebalance

# Whether the operation certainly did not happen. The nearest base of an error's class holds.
DEFINITE: dict[type[BaseException], bool] = {
    kafka.KafkaError: False,
    kafka.ConsumerStoppedError: True,
    kafka.IllegalOperation: True,
    # refused by the client or the broker as it is
    kafka.IllegalStateError: True,
    kafka.IllegalArgumentError: True,
    kafka.RecordTooLargeError: True,
    kafka.MessageSizeTooLargeError: True,
    kafka.RecordListTooLargeError: True,
    kafka.InvalidTopicError: True,
    kafka.UnsupportedVersionError: True,
    kafka.UnsupportedCodecError: True,
    kafka.TopicAuthorizationFailedError: True,
    kafka.GroupAuthorizationFailedError: True,
    kafka.ClusterAuthorizationFailedError: True,
    kafka.AuthenticationFailedError: True,
    kafka.AuthenticationMethodNotSupported: True,
    kafka.PolicyViolationError: True,
    kafka.ProducerClosed: True,
    kafka.NotEnoughReplicasError: True,
    # another generation of the group stands: nothing was committed
    kafka.CommitFailedError: True,
    kafka.IllegalGenerationError: True,
    kafka.UnknownMemberIdError: True,
    kafka.RebalanceInProgressError: True,
}

LOST_PRODUCER = (  # the producer's sequence is broken for good; a new one is needed
    kafka.ProducerClosed,
    kafka.ProducerFenced,
    kafka.OutOfOrderSequenceNumber,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.UnknownProducerId,
)


def mapped(error: BaseException, doing: str, definite: bool | None = None) -> LabError:
    """Return `error` as ours. `definite` overrides what the error itself says (nothing was sent yet)."""
    if isinstance(error, LabError):
        return error
    sure = definite
    if sure is None:
        sure = next((DEFINITE[base] for base in type(error).__mro__ if base in DEFINITE), False)
    happened = "nothing was done" if sure else "it may have been done"
    text = " ".join(str(error).split())[:300]
    return StoreUnavailable(f"Kafka did not {doing} ({type(error).__name__}: {text}); {happened}.", definite=sure)


async def asked(work: Awaitable[T], doing: str, timeout_s: float, definite: bool | None = None) -> T:
    """Return what `work` returns. Raises StoreUnavailable; `definite` overrides what the error itself says."""
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError as error:
        raise mapped(error, f"{doing} within {timeout_s} s", definite) from error
    except (kafka.KafkaError, kafka.ConsumerStoppedError, kafka.IllegalOperation, OSError) as error:
        raise mapped(error, doing, definite) from error


async def started(client: Any, doing: str) -> None:
    """Start a client of aiokafka, or close it. Raises StoreUnavailable (definite)."""
    try:
        await asked(client.start(), doing, JOIN_S, definite=True)
    except BaseException:
        await ended(client.close() if isinstance(client, admin.AIOKafkaAdminClient) else client.stop(), 2.0)
        raise


async def ended(work: Coroutine[Any, Any, None], within_s: float) -> bool:
    """Let the end of a client run for at most `within_s`, and as long again to give up. Its errors are dropped.

    False where it was cancelled, by itself or by us: aiokafka may let a cancel of its own tasks out, which is not the caller's.
    """
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=within_s)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=within_s)
    if not task.done() or task.cancelled():
        return False
    task.exception()
    return True
