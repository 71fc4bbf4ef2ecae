"""Synthetic runs for the tests of `reports`: small, seeded, with every table filled.

`quiet()` is a run of 60 s at 60/s with a cache loss at 30 s that passes every objective; the others change
one thing. Names are those of the fixtures: a timeline of parrots, with Polly as the busiest process.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from reports import facts

START_NS = 5_000_000_000_000
ROUTES = {"home": 0.6, "user_tweets": 0.2, "post": 0.15, "search": 0.05}
BASE_MS = {"home": 9.0, "user_tweets": 7.0, "post": 14.0, "search": 18.0}
NODES = {
    "gateway-1": 0.21, "timelines-1": 0.17, "cassandra-1": 0.16, "tweets-1": 0.09, "kafka-1": 0.07,
    "fanout-1": 0.06, "load": 0.12, "redis-1": 0.04, "elasticsearch-1": 0.04, "haproxy-1": 0.03,
    "postgres-1": 0.02, "users-1": 0.02, "search-1": 0.02, "minio-1": 0.01, "other": 0.03,
}  # fmt: skip
RSS_MIB = {"cassandra-1": 1010, "elasticsearch-1": 760, "kafka-1": 420, "gateway-1": 88, "redis-1": 22, "minio-1": 130}

SOURCE = """name: first_run
question: Does a timeline of parrots survive the loss of its cache?
expect: p99 doubles for some seconds and recovers; nothing is lost.
seed: 7
workload: {arrivals: poisson, stages: [{for: 60 s, rate: 60/s}], mix: {home: 60, user_tweets: 20, post: 15, search: 5}}
faults: [{at: 30 s, kind: cache_loss, target: redis}]
objectives: [home p99 <= 250 ms steady, errors < 0.5 % whole, home p99 <= 250 ms after fault within 10 s]
"""

OBJECTIVES = (
    facts.Objective("home", "p99", "<=", 0.25),
    facts.Objective("all", "errors", "<", 0.005, "whole"),
    facts.Objective("home", "p99", "<=", 0.25, "after fault", 10.0),
    facts.Objective("delivery", "p95", "<=", 1.0, "whole"),
)

FINDINGS = tuple(
    {"name": name, "verdict": "pass", "checked": checked, "violations": [], "note": ""}
    for name, checked in {
        "no_acknowledged_tweet_lost": 512, "pages_in_order_without_duplicates": 2130, "every_follower_sees_it": 20480,
        "no_ghost_after_delete_or_unfollow": 31, "unique_ids": 512, "read_your_writes": 188,
    }.items()
)  # fmt: skip


def history(seconds: float = 60.0, rate: float = 60.0, seed: int = 7, slow: float = 1.0, dip_s: float = 30.0) -> pd.DataFrame:
    """Return Poisson arrivals with lognormal latencies and slow reads that decay within 5 s of `dip_s`."""
    dice = np.random.default_rng(seed)
    n = int(seconds * rate)
    due_s = np.sort(dice.uniform(0, seconds, n))
    route = dice.choice(list(ROUTES), size=n, p=list(ROUTES.values()))
    base = np.array([BASE_MS[name] for name in route]) * slow
    since = due_s - dip_s
    burst = np.where((since >= 0) & (since < 5), 1 + 14 * np.exp(-np.clip(since, 0, 9)), 1.0)
    service_ms = base * burst * dice.lognormal(0.0, 0.45, n)
    lag_ms = dice.gamma(2.0, 0.3, n)
    due_ns = START_NS + (due_s * 1e9).astype(np.int64)
    sent_ns = due_ns + (lag_ms * 1e6).astype(np.int64)
    done_ns = sent_ns + (service_ms * 1e6).astype(np.int64)
    reads = np.isin(route, ["home", "user_tweets"])
    source = np.where(reads, np.where((since >= 0) & (since < 5), "rebuild", "hit"), "")
    source = np.where(reads & (dice.random(n) < 0.2), np.char.add(source.astype(str), ",pull"), source)
    posts = route == "post"
    return pd.DataFrame(
        {
            "op": np.arange(n), "route": route, "user": dice.integers(1, 200, n), "session": "s",
            "due_ns": due_ns, "sent_ns": sent_ns, "done_ns": done_ns, "outcome": "ok", "status": np.where(posts, 201, 200),
            "tweet_id": np.where(posts, 1_900_000_000_000_000_000 + np.arange(n), 0), "source": source,
            "page_ids": [[3, 2, 1] if is_read else None for is_read in reads],
            "gateway_us": service_ms * 850, "service_us": service_ms * 600, "store_us": service_ms * 320,
        }
    )  # fmt: skip


def counted(total: int, failed: int, ms: float = 20.0) -> pd.DataFrame:
    """Return `total` home reads of `ms` each, evenly over 60 s.

    `failed` of them, also evenly, were 503 after 1 ms.
    """
    due_ns = START_NS + (np.arange(total) * 60_000_000_000 // total).astype(np.int64)
    bad = np.zeros(total, dtype=bool)
    bad[np.linspace(0, total - 1, failed).astype(int)] = True
    return pd.DataFrame({
        "op": np.arange(total), "route": "home", "user": 1, "session": "s", "due_ns": due_ns,
        "sent_ns": due_ns + 100_000, "done_ns": due_ns + np.where(bad, 1_000_000, round(ms * 1e6)),
        "outcome": np.where(bad, "info", "ok"), "status": np.where(bad, 503, 200), "tweet_id": 0,
        "page_ids": [[3, 2, 1]] * total,
    })  # fmt: skip


def effects(rows: pd.DataFrame, delay_ms: float = 40.0) -> pd.DataFrame:
    """Return one pushed fan-out per acknowledged post, about `delay_ms` after it.

    The indexer is 20 ms earlier.
    """
    posts = rows[rows["route"] == "post"]
    dice = np.random.default_rng(3)
    delays = (delay_ms * 1e6 * dice.lognormal(0, 0.5, len(posts))).astype(np.int64)
    common = {"event": posts["tweet_id"].astype(str), "key": posts["user"].astype(str), "kind": "new_tweet", "applied": True}
    stamp_ns = posts["done_ns"] + delays
    pushed = pd.DataFrame({**common, "group": "fanout", "path": "push", "targets": 40, "at_ns": stamp_ns})
    indexed = pd.DataFrame({**common, "group": "indexer", "path": "index", "targets": 1, "at_ns": stamp_ns - 20_000_000})
    return pd.concat([pushed, indexed], ignore_index=True)


def probes(stamped: pd.DataFrame, late_ms: float = 0.0) -> pd.DataFrame:
    """Return probes of every third tweet with a gap of 50 ms.

    Each is visible 10 ms + `late_ms` after its stamp.
    """
    probed = stamped[stamped["group"] == "fanout"].iloc[::3]
    seen_ns = probed["at_ns"] + int((10 + late_ms) * 1e6)
    return pd.DataFrame({"tweet_id": probed["event"].astype("int64"), "follower": 9, "seen_ns": seen_ns, "gap_ns": 50_000_000})


def series(seconds: int = 60, nodes: dict[str, float] | None = None, seed: int = 5) -> pd.DataFrame:
    """Return CPU and memory of every node, lag of two groups, host busy and steal, each second."""
    dice = np.random.default_rng(seed)
    rows: list[tuple[float, str, str, float]] = []
    for second in range(seconds):
        busy = 0.0
        for node, share in (nodes or NODES).items():
            burst = 2.2 if node.startswith("cassandra") and 30 <= second < 34 else 1.0
            value = share * burst * float(dice.uniform(0.85, 1.15))
            busy += value
            rows.append((second, "cpu_cores", node, value))
        rows.extend((second, "rss_mib", node, size + second * 0.2) for node, size in RSS_MIB.items())
        rows.append((second, "host_busy_cores", "", busy * 1.01))
        rows.append((second, "steal", "", 0.001))
        rows.append((second, "lag", "fanout", float(dice.poisson(2)) + (25 if 30 <= second < 33 else 0)))
        rows.append((second, "lag", "indexer", float(dice.poisson(4))))
    return pd.DataFrame(rows, columns=["t_s", "name", "node", "value"]).astype({"t_s": float})


def quiet(**changes: Any) -> facts.Facts:
    """Return a valid run that passes. `changes` replace fields of its facts."""
    rows = changes.pop("history", None)
    rows = history() if rows is None else rows
    stamped = effects(rows)
    base = facts.Facts(
        kind="system",
        scenario="first_run",
        windows=facts.Windows(
            START_NS, 10.0, 60.0,
            (facts.FaultWindow("cache_loss", "redis-1", 30.0, 30.1, 35.2),),
            (facts.Stage(0.0, 60.0, 60.0, 60.0),),
        ),
        history=rows,
        series=series(),
        effects=stamped,
        probes=probes(stamped),
        objectives=OBJECTIVES,
        invariants=FINDINGS,
        generator=facts.Generator(cpu_share=0.31, lost=0, smoke_ok=True),
        scenario_doc={
            "question": "Does a timeline of parrots survive the loss of its cache?",
            "expect": "p99 doubles for some seconds and recovers; nothing is lost.",
            "source": SOURCE,
        },
        seed=7,
        commit="0123abc",
        command="tweetlab run first_run --on both",
        started_at="2026-11-22T18:09:00Z",
        host={"cpu_model": "Parrot 3000", "cores": 2, "mem_mib": 24064, "kernel": "6.1", "hz": 250, "steal": 0.001,
              "python": "3.11.7"},
        versions={"cassandra": "5.0.6", "kafka": "4.1.1", "redis": "7.0.15", "postgres": "15.14"},
        platform={"blueprint": "small", "range": 1, "cgroups": "v1"},
        population={"users": 2000, "follows": 80000, "tweets": 40000, "fingerprint": "cafe" * 16},
        faults=[{"kind": "cache_loss", "target": "redis-1", "start_ns": START_NS + 30_000_000_000, "void": "",
                 "injected_ns": START_NS + 30_000_000_000, "recovered_ns": START_NS + 35_200_000_000, "held": False}],
        start_wall_ms=1_795_370_940_000,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def twin(**changes: Any) -> facts.Facts:
    """Return the twin's run of the same scenario, a little faster than the system."""
    rows = history(seed=11, slow=0.93)
    nodes = {name: share * 0.95 for name, share in NODES.items() if name not in ("load", "other")}
    base = quiet(
        history=rows, kind="twin", effects=effects(rows, delay_ms=31.0), generator=facts.Generator(), host={},
        probes=None, invariants=(), series=series(nodes=nodes),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def void() -> facts.Facts:
    """Return a run whose load generator was saturated: 93 % of a core."""
    return quiet(generator=facts.Generator(cpu_share=0.93, lost=0, smoke_ok=True))


def overloaded() -> facts.Facts:
    """Return an overloaded run: work of 1.2 s arrives each second, and the queue only grows."""
    rows = history(dip_s=1000.0)
    gap_ns = (rows["due_ns"] - START_NS) // 6
    done_ns = rows["done_ns"] + gap_ns
    promises = OBJECTIVES[:1]
    return quiet(history=rows.assign(done_ns=done_ns), objectives=promises, faults=(), windows=facts.Windows(
        START_NS, 10.0, 60.0, (), (facts.Stage(0.0, 60.0, 60.0, 60.0),)))


def failing() -> facts.Facts:
    """Return a run that lost an acknowledged tweet by Polly."""
    lost = {"name": "no_acknowledged_tweet_lost", "verdict": "fail", "checked": 512, "note": "",
            "violations": ["tweet 1900000000000000042 of polly: acknowledged at 31.2 s, in no store at the end"]}  # fmt: skip
    return quiet(invariants=(lost, *FINDINGS[1:]))


def unknown() -> facts.Facts:
    """Return a run without unfollows, so that the ghost invariant is unknown."""
    idle = {"name": "no_ghost_after_delete_or_unfollow", "verdict": "pass", "checked": 0, "violations": [], "note": ""}
    return quiet(invariants=(*FINDINGS[:3], idle))
