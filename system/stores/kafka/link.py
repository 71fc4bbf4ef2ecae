"""Calls to Kafka with a deadline, and the mapping of aiokafka's errors to ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from aiokafka import admin
from aiokafka import errors as kafka

from system.kernel.errors import LabError, StoreUnavailable

T = TypeVar("T")

JOIN_S = 20.0  # longest wait for a group's assignment: a dead member's session, and a rebalance

# Whether the operation certainly did not happen. The entry of the nearest base class applies.
DEFINITE: dict[type[BaseException], bool] = {
    kafka.KafkaError: False,
    kafka.ConsumerStoppedError: True,
    kafka.IllegalOperation: True,
    # refused by the client or the broker before anything was done
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
    # the group is in another generation: nothing was committed
    kafka.CommitFailedError: True,
    kafka.IllegalGenerationError: True,
    kafka.UnknownMemberIdError: True,
    kafka.RebalanceInProgressError: True,
}

LOST_PRODUCER = (  # the producer's sequence is permanently broken; a new producer is needed
    kafka.ProducerClosed,
    kafka.ProducerFenced,
    kafka.OutOfOrderSequenceNumber,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.UnknownProducerId,
)


def mapped(error: BaseException, doing: str, definite: bool | None = None) -> LabError:
    """Map a client error to a LabError.

    `definite` overrides what the error class says (for example: nothing was sent yet).
    """
    if isinstance(error, LabError):
        return error
    if definite is None:
        definite = next((DEFINITE[base] for base in type(error).__mro__ if base in DEFINITE), False)
    outcome = "nothing was done" if definite else "it may have been done"
    text = " ".join(str(error).split())[:300]
    return StoreUnavailable(f"Kafka did not {doing} ({type(error).__name__}: {text}); {outcome}.", definite=definite)


async def call(request: Awaitable[T], doing: str, timeout_s: float, definite: bool | None = None) -> T:
    """Await `request` for at most `timeout_s` and return its result.

    Raises StoreUnavailable; `definite` overrides what the error class says, None leaves it.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await request
    except TimeoutError as error:
        raise mapped(error, f"{doing} within {timeout_s} s", definite) from error
    except (kafka.KafkaError, kafka.ConsumerStoppedError, kafka.IllegalOperation, OSError) as error:
        raise mapped(error, doing, definite) from error


async def start_client(client: Any, doing: str) -> None:
    """Start a client of aiokafka; close it where that fails. Raises StoreUnavailable (definite)."""
    try:
        await call(client.start(), doing, JOIN_S, definite=True)
    except BaseException:
        await await_close(client.close() if isinstance(client, admin.AIOKafkaAdminClient) else client.stop(), 2.0)
        raise


async def await_close(closing: Coroutine[Any, Any, None], within_s: float) -> bool:
    """Run the close of a client for at most `within_s`, then cancel it and wait as long again.

    Its errors are dropped.

    Returns False where it was cancelled, by aiokafka or by us: aiokafka may leak a cancellation of its own
    tasks, which must not cancel the caller.
    """
    task = asyncio.ensure_future(closing)
    await asyncio.wait({task}, timeout=within_s)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=within_s)
    if not task.done() or task.cancelled():
        return False
    task.exception()
    return True
