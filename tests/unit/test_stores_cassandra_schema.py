"""Which node of a cluster is told of the tables, and what must hold before they count as made."""

import types

import cassandra
import pytest

from system.kernel.errors import StoreUnavailable
from system.stores.cassandra import tweets as cassandra_tweets
from system.stores.cassandra.tweets import CassandraTweets


class Cluster:
    """Three nodes of which each knows only the tables it was told of, until they agree. Who is asked goes round."""

    def __init__(self, peers=(2,), agrees=True):
        self.peers, self.agrees, self.turn, self.made = list(peers), agrees, 0, {n: [] for n in range(3)}
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
            self.made[node].append("tweetlab")
        elif cql.startswith("CREATE TABLE"):
            if "tweetlab" not in self.made[node]:
                raise cassandra.InvalidRequest("Keyspace 'tweetlab' doesn't exist")
            self.made[node].append(cql.split('"tweetlab".')[1].split()[0])
        elif "system.peers" in cql:
            rows = [("v",)] * (self.peers.pop(0) if len(self.peers) > 1 else self.peers[0])
        answer = types.SimpleNamespace(response_future=types.SimpleNamespace(coordinator_host=node))
        return type("Rows", (list,), vars(answer))(rows)


def store(cluster):
    return CassandraTweets(types.SimpleNamespace(session=cluster), "tweetlab", 3)


async def test_all_tables_are_made_by_the_node_that_made_the_keyspace():
    """The next one in turn may not have heard of it: "Keyspace doesn't exist" at the start of a cluster of slow lines."""
    cluster = Cluster()
    await store(cluster).prepare()

    (made,) = filter(None, cluster.made.values())
    assert made == ["tweetlab", *(name for name, _ in cassandra_tweets.tables())]


async def test_nodes_that_have_not_met_are_waited_for(monkeypatch):
    """Whom a node does not know it tells nothing; who misses the news asks for it a minute later."""
    monkeypatch.setattr(cassandra_tweets.time, "sleep", lambda seconds: None)
    cluster = Cluster(peers=(0, 1, 1, 2))
    await store(cluster).prepare()

    assert cluster.peers == [2]


async def test_nodes_that_never_agree_are_told():
    """A start that went on would fail at the first post."""
    with pytest.raises(StoreUnavailable, match="did not agree on the tables within 90 s"):
        await store(Cluster(agrees=False)).prepare()
