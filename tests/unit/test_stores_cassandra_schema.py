"""Which node of a cluster creates the tables, and what must hold before they count as created."""

import types

import cassandra
import pytest

from system.kernel.errors import StoreUnavailable
from system.stores.cassandra import tweets as cassandra_tweets
from system.stores.cassandra.tweets import CassandraTweets


class Cluster:
    """Three nodes, each of which knows only the tables created through it, until they agree.

    Requests rotate over the nodes.
    """

    def __init__(self, peers=(2,), agrees=True, columns=()):
        self.columns, self.altered = list(columns), []
        self.peers, self.agrees, self.turn, self.created = list(peers), agrees, 0, {n: [] for n in range(3)}
        self.cluster = types.SimpleNamespace(refresh_schema_metadata=self.refresh)

    def refresh(self, max_schema_agreement_wait):
        assert max_schema_agreement_wait > 60
        if not self.agrees:
            raise cassandra.DriverException("Schema metadata was not refreshed. See log for details.")

    def execute(self, cql, values=None, timeout=0, host=None):
        self.turn += 1
        node = self.turn % 3 if host is None else host
        rows = []
        if cql.startswith("CREATE KEYSPACE"):
            self.created[node].append("tweetlab")
        elif cql.startswith("CREATE TABLE"):
            if "tweetlab" not in self.created[node]:
                raise cassandra.InvalidRequest("Keyspace 'tweetlab' doesn't exist")
            self.created[node].append(cql.split('"tweetlab".')[1].split()[0])
        elif cql.startswith("ALTER TABLE"):
            self.altered.append(cql)
        elif "system_schema.columns" in cql:
            rows = self.columns
        elif "system.peers" in cql:
            rows = [("v",)] * (self.peers.pop(0) if len(self.peers) > 1 else self.peers[0])
        attributes = {"response_future": types.SimpleNamespace(coordinator_host=node)}
        return type("Rows", (list,), attributes)(rows)


def store(cluster):
    return CassandraTweets(types.SimpleNamespace(session=cluster), "tweetlab", 3)


async def test_all_tables_are_created_by_the_node_that_created_the_keyspace():
    """The next node may not know the keyspace yet: "Keyspace doesn't exist" in a cluster with slow links."""
    cluster = Cluster()
    await store(cluster).prepare()

    (created,) = filter(None, cluster.created.values())
    assert created == ["tweetlab", *(name for name, _ in cassandra_tweets.tables())]


async def test_creation_waits_until_the_nodes_know_each_other(monkeypatch):
    """A node announces a table only to known peers; one that misses it fetches it a minute later."""
    monkeypatch.setattr(cassandra_tweets.time, "sleep", lambda seconds: None)
    cluster = Cluster(peers=(0, 1, 1, 2))
    await store(cluster).prepare()

    assert cluster.peers == [2]


async def test_nodes_that_never_agree_are_an_error():
    """Otherwise the start would continue and fail at the first post."""
    with pytest.raises(StoreUnavailable, match="did not agree on the tables within 90 s"):
        await store(Cluster(agrees=False)).prepare()


async def test_tables_of_an_earlier_version_get_the_new_column():
    """Once: their rows read as null in it. A table that has the column is not altered."""
    cluster = Cluster(columns=[("tweets_by_id", "id", "bigint"), ("tweets_by_author", "entities", "text")])
    await store(cluster).prepare()

    assert cluster.altered == ['ALTER TABLE "tweetlab".tweets_by_id ADD entities text']
    created = [name for names in cluster.created.values() for name in names]
    assert "tweets_by_id" not in created and "mentions" in created
