"""The workers of the system as programs: one entry per consumer group.

Every group gathers events under load, because a poll costs nearly the same for one event as for ten. The
fan-out then handles each event separately, keys in parallel; the others handle a poll as one batch
(`Consumer.batch`).
"""

from __future__ import annotations

from sim import stores
from sim.program import Branch, Consumer, Cpu, Each, Effect, Loop, Step
from sim.services import FANOUT, INDEXER, LIKER, READERS, RELAY, TWEETS
from system.kernel import events

Steps = tuple[Step, ...]


def _published() -> Steps:
    """The publisher of the tweets service: gathered events, their tweets into the hot cache, then to Kafka."""
    filled = Branch("creates", (*stores.redis("fill", "batch"), Effect("batch_is_hot")))
    return (Cpu(TWEETS, "publish", "batch"), filled, *stores.publish("batch"), Effect("published"))


def _fan_out() -> Steps:
    chunk = (*stores.redis("push", "live_chunk"), Cpu(FANOUT, "chunk", "chunk"))
    pushed = (Each("absent_followers", stores.follower_list(FANOUT)), Loop("chunks", chunk), Effect("pushed"))
    return (
        Cpu(FANOUT, "event"),
        Effect("event_page"),
        *stores.hydrate(FANOUT),
        *stores.redis("own"),
        Effect("fan_out_decided"),
        Branch("changes_mode", stores.postgres_write("edge")),
        Branch("is_pushed", pushed),
        *stores.redis("hot_read", "one"),
        Effect("delivered"),
    )


def _fan_out_deleted() -> Steps:
    chunk = (*stores.redis("remove", "removed_entries"), Cpu(FANOUT, "chunk", "chunk"))
    return (
        Cpu(FANOUT, "deleted"),
        *stores.redis("own_removed"),
        *stores.redis("own_removed"),
        Effect("fan_out_decided"),
        Each("absent_followers", stores.follower_list(FANOUT)),
        Loop("chunks", chunk),
    )


def _edge_changed() -> Steps:
    followed = (
        *stores.redis("member"),
        *stores.redis("member"),
        *stores.cassandra("author_read", "author_entries"),
        *stores.redis("complete", "author_entries"),
        Effect("back_filled"),
    )
    unfollowed = (*stores.redis("member"), Effect("lists_dropped"))
    return (
        Cpu(FANOUT, "edge"),
        *stores.postgres("user"),
        Branch("is_follow", followed, unfollowed),
        *stores.postgres("user"),
    )


def _index() -> Steps:
    """A batch: the current state of its tweets, their likes, one bulk."""
    truth = (*stores.cassandra("get", "batch"), *stores.postgres("count_likes", "batch"))
    return (Cpu(INDEXER, "event", "batch"), *truth, *stores.elastic_write("index", "batch"), Effect("indexed"))


def _recount() -> Steps:
    counted = (*stores.postgres("count_likes", "batch"), *stores.redis("put_counts", "batch"))
    return (Cpu(LIKER, "event", "batch"), *counted)


def _privacy() -> Consumer:
    """Protected users are refreshed in the background while the last view is still valid."""
    bodies = tuple((f"{one}.privacy", (*stores.postgres("privacy"), Effect(f"{one}.privacy_read"))) for one in READERS)
    return Consumer("privacy", stores.POSTGRES, bodies, lanes=len(READERS), poll_delay="publisher.poll")


def _relayed() -> Steps:
    """One drain of the outbox: rows are read, published and deleted in one transaction."""
    return (Cpu(RELAY, "row", "batch"), *stores.publish("batch"), *stores.postgres_write("drain", "batch"), Effect("published"))


def _announced() -> Steps:
    """The relay consumes the topics to learn which outbox rows were published."""
    return (Cpu(RELAY, "announced", "batch"),)


FETCH: Steps = (Cpu(stores.KAFKA, "poll", "batch", share=0.5),)
COMMIT: Steps = (Cpu(stores.KAFKA, "poll", "batch", share=0.5),)
"""The broker's part of a poll: a fetch before its records, the commit of their offsets after them."""


CONSUMERS: tuple[Consumer, ...] = (
    Consumer(
        "fanout",
        FANOUT,
        (
            (events.NEW_TWEET, _fan_out()),
            (events.TWEET_DELETED, _fan_out_deleted()),
            (events.NEW_FOLLOW, _edge_changed()),
        ),
        lanes=16,
        poll_delay="fanout.poll",
        begin=(*FETCH, Cpu(FANOUT, "poll")),
        commit=COMMIT,
    ),
    Consumer("indexer", INDEXER, tuple((topic, _index()) for topic in events.GROUPS["indexer"]), lanes=1,
             poll_delay="indexer.poll", batch=True, begin=FETCH, commit=COMMIT),
    Consumer("liker", LIKER, ((events.NEW_LIKE, _recount()),), lanes=1, poll_delay="liker.poll", batch=True, begin=FETCH,
             commit=COMMIT),
    Consumer("outbox", RELAY, (("outbox", _relayed()),), lanes=1, poll_delay="relay.poll", batch=True),
    Consumer("publisher", TWEETS, (("publisher", _published()),), lanes=1, poll_delay="publisher.poll", batch=True),
    Consumer("relay", RELAY, tuple((topic, _announced()) for topic in events.RELAYED), lanes=1, poll_delay="relay.poll",
             batch=True, begin=FETCH, commit=COMMIT),
    _privacy(),
)
"""Every consumer group.

`publisher` is the queue inside the tweets service, `outbox` that of PostgreSQL, drained by the relay.
"""

PUBLISHER_GATHER_S = 0.01  # system/services/shared/publisher.py
FANOUT_GATHER_S = 0.02     # system/services/fanout/worker.py
LISTEN_S = 0.5             # system/services/relay/worker.py
"""How long these gather events under load; sim may not import those modules, and tests keep the numbers equal."""
