"""Delivery delay: from the acknowledgement of a tweet until it is in every follower's timeline.

The delay is the worker's timestamp (after its last chunk) minus the moment that the client received the
acknowledgement, matched by tweet id. Only pushed tweets count, since a pulled tweet needs no delivery. If the
worker finished before the acknowledgement, the delay is 0. `measure` covers delivered tweets; objectives also
cover tweets that were not delivered by the end of observation (`due`).

API probes check that timestamp from outside: polling confines the moment at which a follower could first see
the tweet to (seen - gap, seen]. `gap` runs from sending the last poll without the tweet to the reply of the
first poll with it. A probe agrees if it saw the tweet no later than one gap after the timestamp; otherwise
the timestamp claims a delivery that a reader did not find. The verdict is `pass` if all probes agree. It is
`unknown` without probes or timestamps, and also if one disagrees: that discredits the measurement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports import columns
from reports.judge import verdict
from reports.operations import NS_PER_S
from reports.stats import histogram

WRITES = ("post", "reply")
TOPIC = "new_tweet"
FAN_OUT_PATHS = ("push", "pull", "skip")


def measure(history: pd.DataFrame, effects: pd.DataFrame, probes: pd.DataFrame, start_ns: int) -> dict[str, Any]:
    """Return the `delivery` block.

    `n`: tweets pushed and delivered; their delays in s (p50_s .. p9999_s, max_s, mean_s). `undelivered`:
    acknowledged tweets whose delivery was due and not observed. `without_stamp`: acknowledged tweets that the
    fan-out never reported.
    """
    acked, stamps = acknowledged(history), first_stamps(effects)
    delays = _delays(acked, stamps, start_ns)
    figures = histogram.describe(delays["delay_s"].to_numpy())
    return {
        "n": len(delays),
        **{f"{name}_s": None if value is None else round(value, 6) for name, value in figures.items()},
        "acknowledged": len(acked),
        "undelivered": int((_due(history, acked, stamps, start_ns)["outcome"] != columns.OK).sum()),
        "without_stamp": len(set(acked.index) - set(stamps["tweet_id"])),
        "probes": judge_probes(probes, stamps),
    }


def table(history: pd.DataFrame, effects: pd.DataFrame, start_ns: int) -> pd.DataFrame:
    """Return one row per pushed and acknowledged tweet, ordered by acked_s.

    Columns: tweet_id, acked_s (from the run's start), delay_s.
    """
    return _delays(acknowledged(history), first_stamps(effects), start_ns)


def _delays(acked: pd.Series[Any], stamps: pd.DataFrame, start_ns: int) -> pd.DataFrame:
    pushed = stamps[(stamps["path"] == "push") & (stamps["at_ns"] > 0) & stamps["tweet_id"].isin(acked.index)]
    acked_ns = acked.reindex(pushed["tweet_id"]).to_numpy()
    behind_ns = np.maximum(pushed["at_ns"].to_numpy() - acked_ns, 0)
    rows = pd.DataFrame(
        {
            "tweet_id": pushed["tweet_id"].to_numpy(),
            "acked_s": (acked_ns - start_ns) / NS_PER_S,
            "delay_s": behind_ns / NS_PER_S,
        }
    )
    return rows.sort_values("acked_s", kind="stable", ignore_index=True)


def due(history: pd.DataFrame, effects: pd.DataFrame, start_ns: int) -> pd.DataFrame:
    """Return one row per acknowledged tweet whose delivery is due, with columns like those of operations.

    Columns: due_ns, due_s (when it was acknowledged), response_ns (-1 if it was not delivered), outcome (ok or
    info), refused (always False). Delivery is due for pushed tweets, and for tweets that the fan-out never
    reported, unless the author's other tweets are pulled: those need no delivery.
    """
    return _due(history, acknowledged(history), first_stamps(effects), start_ns)


def _due(history: pd.DataFrame, acked: pd.Series[Any], stamps: pd.DataFrame, start_ns: int) -> pd.DataFrame:
    stamps = stamps.set_index("tweet_id")
    path = stamps["path"].reindex(acked.index)
    writes = history[history["tweet_id"].isin(acked.index) & history["route"].isin(WRITES)]
    authors = writes.groupby("tweet_id")["user"].first().reindex(acked.index)
    pulled = set(authors[path == "pull"]) - set(authors[path == "push"]) - {columns.NOBODY}
    is_due = ((path == "push") | (path.isna() & ~authors.isin(pulled))).to_numpy()
    acked_ns = acked.to_numpy(dtype=np.int64)[is_due]
    at_ns = stamps["at_ns"].reindex(acked.index[is_due], fill_value=0).to_numpy(dtype=np.int64)
    return pd.DataFrame(
        {
            "due_ns": acked_ns,
            "due_s": (acked_ns - start_ns) / NS_PER_S,
            "response_ns": np.where(at_ns > 0, np.maximum(at_ns - acked_ns, 0), -1),
            "outcome": np.where(at_ns > 0, columns.OK, columns.INFO),
            "refused": np.zeros(len(acked_ns), dtype=np.bool_),
        }
    )


def acknowledged(history: pd.DataFrame) -> pd.Series[Any]:
    """Return tweet id -> done_ns of its first acknowledgement."""
    rows = history[history["route"].isin(WRITES) & (history["outcome"] == columns.OK) & (history["tweet_id"] > 0)]
    return rows.groupby("tweet_id")["done_ns"].min()


def handled(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the fan-out effects of new tweets, with `tweet_id`; one row per completed fan-out.

    Workers write the topic to `kind` and the tweet to `event`; a twin writes the topic to `event` and the tweet to
    `key`. Other consumers of the same topic (the indexer) are excluded by their path.
    """
    by_worker = effects["kind"] == TOPIC
    rows = effects[(by_worker | (effects["event"] == TOPIC)) & effects["path"].isin(FAN_OUT_PATHS)]
    texts = rows["event"].where(rows["kind"] == TOPIC, rows["key"])
    ids = texts.str.extract(r"(\d+)\s*$", expand=False).dropna().astype("int64")
    return rows.loc[ids.index].assign(tweet_id=ids)


def first_stamps(effects: pd.DataFrame) -> pd.DataFrame:
    """Return one row per tweet: tweet_id, path, at_ns of its first completed fan-out (0 = never completed)."""
    rows = handled(effects)
    done = rows.assign(never=rows["at_ns"] <= 0).sort_values(["never", "at_ns"], kind="stable")
    return done.drop_duplicates("tweet_id")[["tweet_id", "path", "at_ns"]]


def judge_probes(probes: pd.DataFrame, stamps: pd.DataFrame) -> dict[str, Any]:
    """Return pairs (probes whose tweet was pushed and stamped), agree (those that the API confirms), and the verdict.

    The module's docstring defines when a probe agrees. `never_seen`: pairs whose tweet no poll returned.
    """
    pairs = probes.merge(stamps[stamps["path"] == "push"], on="tweet_id", how="inner")
    agree = int(((pairs["seen_ns"] > 0) & (pairs["seen_ns"] <= pairs["at_ns"] + pairs["gap_ns"])).sum())
    word = verdict.PASS if len(pairs) and agree == len(pairs) else verdict.UNKNOWN
    return {"pairs": len(pairs), "agree": agree, "never_seen": int((pairs["seen_ns"] <= 0).sum()), "verdict": word}
