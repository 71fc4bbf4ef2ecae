"""The workers of the system as programs: one entry per consumer group.

The fan-out handles each event separately, keys in parallel; indexer and liker gather events and handle them
as one batch (`Consumer.batch`), because a bulk costs nearly the same for one event as for ten.
"""

from __future__ import annotations

from sim import stores
from sim.program import Branch, Consumer, Cpu, Each, Effect, Loop, Publish, Step
from sim.services import FANOUT, INDEXER, LIKER, READERS, RELAY, TWEETS
from system.kernel import events

Steps = tuple[Step, ...]


def _published() -> Steps:
    """The tweets service publishes an event to Kafka in the background, possibly after the response."""
    topic = Branch("is_delete", (Publish(events.TWEET_DELETED),), (Publish(events.NEW_TWEET),))
    return (Cpu(TWEETS, "publish"), *stores.publish(), topic)


def _fan_out() -> Steps:
    chunk = (*stores.redis("push", "chunk"), Cpu(FANOUT, "chunk", "chunk"))
    pushed = (Each("absent_followers", stores.follower_list()), Loop("chunks", chunk), Effect("pushed"))
    return (
        Cpu(FANOUT, "event"),
        Effect("event_page"),
        *stores.hydrate(FANOUT),
        *stores.redis("own"),
        Effect("fan_out_decided"),
        Branch("changes_mode", stores.postgres("edge")),
        Branch("is_pushed", pushed),
        *stores.redis("hot_read", "one"),
        Effect("delivered"),
    )


def _fan_out_deleted() -> Steps:
    chunk = (*stores.redis("push", "chunk"), Cpu(FANOUT, "chunk", "chunk"))
    return (
        Cpu(FANOUT, "event"),
        *stores.redis("own"),
        *stores.redis("own"),
        Effect("fan_out_decided"),
        Each("absent_followers", stores.follower_list()),
        Loop("chunks", chunk),
    )


def _edge_changed() -> Steps:
    followed = (
        *stores.redis("own"),
        *stores.redis("own"),
        *stores.cassandra("author_read"),
        *stores.redis("complete", "author_entries"),
        Effect("back_filled"),
    )
    unfollowed = (*stores.redis("own"), Effect("lists_dropped"))
    return (
        Cpu(FANOUT, "event"),
        *stores.postgres("user"),
        Branch("is_follow", followed, unfollowed),
        *stores.postgres("user"),
    )


def _index() -> Steps:
    """A batch: the current state of its tweets, their likes, one bulk."""
    truth = (*stores.cassandra("get", "batch"), *stores.postgres("count_likes", "batch"))
    return (Cpu(INDEXER, "event", "batch"), *truth, *stores.elastic("index", "batch"), Effect("indexed"))


def _recount() -> Steps:
    counted = (*stores.postgres("count_likes", "batch"), *stores.redis("put_counts", "batch"))
    return (Cpu(LIKER, "event", "batch"), *counted)


def _privacy() -> Consumer:
    """Protected users are refreshed in the background while the last view is still valid."""
    bodies = tuple((f"{one}.privacy", (*stores.postgres("privacy"), Effect(f"{one}.privacy_read"))) for one in READERS)
    return Consumer("privacy", stores.POSTGRES, bodies, lanes=len(READERS), poll_delay="publisher.poll")


def _relayed() -> Steps:
    topic = Branch("is_like", (Publish(events.NEW_LIKE),), (Publish(events.NEW_FOLLOW),))
    return (Cpu(RELAY, "row"), *stores.postgres("drain"), *stores.publish(), topic)


def _announced() -> Steps:
    """The relay consumes the topics to learn which outbox rows were published."""
    return (Cpu(stores.KAFKA, "fetch"), Cpu(RELAY, "announced"))


def _fetched(steps: Steps) -> Steps:
    return (Cpu(stores.KAFKA, "fetch"), *steps)


CONSUMERS: tuple[Consumer, ...] = (
    Consumer(
        "fanout",
        FANOUT,
        (
            (events.NEW_TWEET, _fetched(_fan_out())),
            (events.TWEET_DELETED, _fetched(_fan_out_deleted())),
            (events.NEW_FOLLOW, _fetched(_edge_changed())),
        ),
        lanes=16,
        poll_delay="fanout.poll",
    ),
    Consumer(
        "indexer",
        INDEXER,
        tuple((topic, _fetched(_index())) for topic in events.GROUPS["indexer"]),
        lanes=1,
        poll_delay="indexer.poll",
        batch=True,
    ),
    Consumer("liker", LIKER, ((events.NEW_LIKE, _fetched(_recount())),), lanes=1, poll_delay="liker.poll", batch=True),
    Consumer("outbox", RELAY, (("outbox", _relayed()),), lanes=500, poll_delay="relay.poll"),
    Consumer("publisher", TWEETS, (("publisher", _published()),), lanes=500, poll_delay="publisher.poll"),
    Consumer(
        "relay",
        RELAY,
        ((events.NEW_TWEET, _announced()), (events.TWEET_DELETED, _announced())),
        lanes=500,
        poll_delay="relay.poll",
    ),
    _privacy(),
)
"""Every consumer group.

`publisher` is the queue inside the tweets service, `outbox` that of PostgreSQL, drained by the relay.
"""
