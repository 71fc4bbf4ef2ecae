"""Delays without CPU, by hop, fitted so that the model reproduces each hop's times at low load.

A response consists of hops that the record states: the generator's start lag, the way to the gateway and back,
gateway, service, stores. Each hop has a delay of its own (the wake-up of a sleeping process, a timer, a disk), the
same for every route. Each round plays the run's operations through the model and adds the gap between measured
and simulated quantiles of a hop to the quantiles of its delay (never below zero, in rising order). At low load the
two are nearly additive, so a few rounds suffice.

| delay | fitted on |
|---|---|
| `tick` | due time to first byte sent |
| `net` | time outside the gateway |
| `mesh` | gateway less service |
| `service` | service of a page from the cache |
| `redis` | service of a tweet from the cache: one round trip |
| `postgres` | service of a profile: one statement |
| `elasticsearch` | service of a search |
| `cassandra.flush` | service of a post: one write to the commit log |
| `postgres.flush` | service of a follow: one transaction |
| `cassandra` | service of a reply: one read more than a post |
| `minio` | the exchanges of a picture |
| `fanout.poll` | acknowledgment to delivery of a pushed tweet |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import delivery, record
from scenarios import spec, workload
from sim import services, stores
from sim.calibration import Calibration, DelayShape
from sim.replication import Played, Replication
from sim.state import Seeded

Floats = NDArray[np.float64]

ROUNDS = 6
SEEDS = 1
LEAST = 30  # samples of a hop below which its delay is not changed
STEPS = np.linspace(0.0, 1.0, 101)  # of a delay: the last one, which has the longest of all, is one in a hundred
HIGHEST = 0.995  # the extremes of two samples say little about a delay
FLUSHES = 0.95  # the same of a flush: a disk that stalls once makes all writes wait that come meanwhile, in the model once each
MOST_OFF_PATH = 0.7
LEAD_S = 2.0  # played before each span, so that its queues are as they were
DELIVERY = "fanout.poll"


@dataclass(frozen=True)
class Hop:
    """Where a delay is seen: on `routes` (none: all but pictures), with a page from the cache if `hit`.

    `of`: takes the columns of a table of operations (due, sent, done, gateway, service, store; ms) and returns the
    hop's time, ms. `nodes`: the processes in it.
    """

    delay: str
    of: Callable[[pd.DataFrame], pd.Series]
    nodes: tuple[str, ...]
    routes: tuple[str, ...] = ()
    hit: bool = False


HOPS: tuple[Hop, ...] = (
    Hop("tick", lambda t: t.sent - t.due, ()),
    Hop("net", lambda t: t.done - t.sent - t.gateway, (services.HAPROXY,)),
    Hop("mesh", lambda t: t.gateway - t.service, (services.GATEWAY,)),
    Hop("service", lambda t: t.service, services.BEHIND, ("home", "user_tweets"), hit=True),
    Hop("redis", lambda t: t.service, (stores.REDIS,), ("tweet",)),
    Hop("postgres", lambda t: t.service, (stores.POSTGRES,), ("profile",)),
    Hop("postgres.flush", lambda t: t.service, (), ("follow", "unfollow")),
    Hop("cassandra.flush", lambda t: t.service, (stores.CASSANDRA,), ("post",)),
    Hop("cassandra", lambda t: t.service, (), ("reply",)),
    Hop("elasticsearch", lambda t: t.service, (stores.ELASTIC,), ("search",)),
    Hop("minio", lambda t: t.done - t.sent, (stores.MINIO,), ("media",)),
)
"""In the order of the table above."""

COLUMNS = ("route", "source", "due", "sent", "done", "gateway", "service", "store")


def fit(run: record.Run, scenario: spec.Scenario, start: Calibration, seeded: Seeded, tape: workload.Tape,
        spans: Sequence[tuple[float, float]], slowness: Callable[[float], float] | None = None, *, shift: bool = False,
        ) -> tuple[dict[str, DelayShape], dict[str, float], dict[str, Any]]:
    """Return (delays, share of CPU off the path by node, remaining gap by hop) for a run.

    `spans`: (start, end) of its low-load parts, s. Hops with few samples keep the delay of `start`. Where a hop takes
    longer in the model than measured although its delay is zero, part of the CPU of its processes is not waited for.
    `slowness`: factor on all CPU by time, s. `shift`: keep the form of each delay of `start` and move it by one value,
    because a short run says little about a tail.
    """
    moved = _shifted if shift else _moved
    measured = _cut(operations(run), spans)
    behind = _behind(run)
    shapes, off_path = dict(start.delays), dict(start.off_path)
    tape = _within(tape, spans)
    wanted = {hop.delay: samples for hop in HOPS if len(samples := _samples(hop, measured)) >= LEAST}
    gaps: dict[str, Any] = {}
    for turn in range(ROUNDS + 1):
        current = dataclasses.replace(start, delays=shapes, off_path=off_path)
        played = [Replication(scenario, current, seeded, 1000 + seed, slowness=slowness).play(tape)
                  for seed in range(SEEDS)]
        simulated = _cut(pd.concat([table_of(one) for one in played]), spans)
        found = {hop.delay: _samples(hop, simulated) for hop in HOPS if hop.delay in wanted}
        late = np.sort(np.concatenate([_late(one) for one in played]))
        gaps = {name: _gap(wanted[name], samples) for name, samples in found.items() if len(samples)}
        if turn == ROUNDS:
            break
        for hop in HOPS:
            if hop.delay in found and len(found[hop.delay]):
                off_path |= _off_path(hop, shapes[hop.delay], off_path, wanted[hop.delay], found[hop.delay])
        for name, samples in found.items():
            if len(samples):
                highest = FLUSHES if name in stores.DEVICES else HIGHEST
                shapes[name] = _shape(np.maximum(moved(shapes[name], wanted[name], samples, highest), 0.0), run.run_id)
        if len(behind) >= LEAST and len(late):
            shapes[DELIVERY] = _shape(np.maximum(moved(shapes[DELIVERY], behind, late), 0.0), run.run_id)
    return shapes, off_path, {"gap_ms": gaps}


def _off_path(hop: Hop, shape: DelayShape, known: Mapping[str, float], measured: Floats, simulated: Floats) -> dict[str, float]:
    """Return the new shares of the hop's processes: more where the model's median is above the measured one with no
    delay left to take away.
    """
    gap = float(np.median(simulated) - np.median(measured)) - float(np.median(shape.quantiles_ms))
    if gap <= 0.0:
        return {}
    step = 0.7 * gap / float(np.median(simulated))
    return {node: round(min(MOST_OFF_PATH, known.get(node, 0.0) + step * (1.0 - known.get(node, 0.0))), 4) for node in hop.nodes}


def _within(tape: workload.Tape, spans: Sequence[tuple[float, float]]) -> workload.Tape:
    """Return the operations of the spans, and of a little time before each: the rest would only take time."""
    kept = np.zeros(len(tape), dtype=np.bool_)
    for start_s, end_s in spans:
        kept |= (tape.due_ns >= (start_s - LEAD_S) * 1e9) & (tape.due_ns < end_s * 1e9)
    return dataclasses.replace(tape, due_ns=tape.due_ns[kept], route=tape.route[kept], user=tape.user[kept],
                               target=tape.target[kept], second_page=tape.second_page[kept])


def operations(run: record.Run) -> pd.DataFrame:
    """Return the OK operations of a run: columns COLUMNS, times in ms from the start of the load."""
    history = run.history
    rows = history[(history["outcome"] == "ok") & (history["attempt"] == 0) & (history["route"] != "null")]
    start_ns = int(run.document["clock"]["start_monotonic_ns"])
    times = {name: (rows[f"{name}_ns"].to_numpy(np.int64) - start_ns) / 1e6 for name in ("due", "sent", "done")}
    hops = {name: rows[f"{name}_us"].to_numpy(np.float64) / 1e3 for name in ("gateway", "service", "store")}
    return pd.DataFrame({"route": rows["route"].astype(str).to_numpy(), "source": rows["source"].astype(str).to_numpy(),
                         **times, **hops})


def table_of(played: Played) -> pd.DataFrame:
    """Return the OK operations of a replication in the same form."""
    one = played.attempts
    good = (one["status"] == 200) & (one["attempt"] == 0)
    times = {name: one[f"{name}_ns"][good] / 1e6 for name in COLUMNS[2:]}
    return pd.DataFrame({"route": one.route[good], "source": one.source[good], **times})


def _cut(table: pd.DataFrame, spans: Sequence[tuple[float, float]]) -> pd.DataFrame:
    inside = np.zeros(len(table), dtype=np.bool_)
    for start_s, end_s in spans:
        inside |= ((table["due"] >= start_s * 1e3) & (table["due"] < end_s * 1e3)).to_numpy()
    return table[inside]


def _samples(hop: Hop, table: pd.DataFrame) -> Floats:
    """Return the hop's times, ms, ascending."""
    chosen = table["route"].isin(hop.routes) if hop.routes else table["route"] != "media"
    if hop.hit:
        chosen &= table["source"].str.startswith("hit")
    values = hop.of(table[chosen]).to_numpy(np.float64)
    return np.sort(values[np.isfinite(values)])


def _behind(run: record.Run) -> Floats:
    """Return delivery times of pushed tweets after their acknowledgement (ms), sorted."""
    start_ns = int(run.document["clock"]["start_monotonic_ns"])
    return np.sort(delivery.table(run.history, run.effects, start_ns)["delay_s"].to_numpy(dtype=np.float64) * 1e3)


def _late(played: Played) -> Floats:
    acked = played.attempts.acknowledged()
    pushed = [row for row in played.effects if row.path == "push" and row.key in acked]
    return np.asarray([max(0.0, row.at_s - acked[row.key]) * 1e3 for row in pushed])


def _moved(shape: DelayShape, measured: Floats, simulated: Floats, highest: float = HIGHEST) -> Floats:
    """Return the delay's quantiles with the gap between the two samples' quantiles added, in rising order.

    `highest`: the quantile whose gap also moves all above it.
    """
    old = np.interp(STEPS, np.linspace(0.0, 1.0, len(shape.quantiles_ms)), shape.quantiles_ms)
    inner = np.clip(STEPS, 0.005, highest)
    gap = np.quantile(measured, inner) - np.quantile(simulated, inner)
    return np.asarray(np.sort(old + gap), dtype=np.float64)


def _shifted(shape: DelayShape, measured: Floats, simulated: Floats, highest: float = HIGHEST) -> Floats:
    """Return the delay's quantiles plus the gap between the two samples' medians."""
    return np.asarray(shape.quantiles_ms) + float(np.median(measured) - np.median(simulated))


def _shape(quantiles_ms: Floats, source: str) -> DelayShape:
    return DelayShape(tuple(round(float(value), 4) for value in quantiles_ms), source)


def _gap(measured: Floats, simulated: Floats) -> dict[str, float]:
    """Return the number of samples, and simulated minus measured median and p95, ms."""
    return {"n": len(measured), **{name: round(float(np.quantile(simulated, q) - np.quantile(measured, q)), 3)
                                   for name, q in (("p50", 0.5), ("p95", 0.95))}}
