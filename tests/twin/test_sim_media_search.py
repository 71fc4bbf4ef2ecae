"""Media requests, views of searches and batches of the indexer: counted exactly, or compared with theory."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import simpy

from scenarios import spec, workload
from scenarios.world import population
from sim import calibration, outcome, views
from sim.clock import call_after
from sim.queues import PollLoop
from sim.replication import Played, Replication
from sim.state import Seeded
from sim.streams import NS, ns
from system.services.search import handlers as search_handlers
from system.services.shared import ttl_value as shared_views
from system.stores.elasticsearch import index as elastic_index
from tests.helpers import twin_harness as harness
from tests.helpers.predictions import CALM, asked, predict
from tweetlab.load.generator import journeys


def played(mix: str, *overrides: str) -> tuple[Played, workload.Tape, spec.Scenario]:
    """Simulate a short run of one route and count its work."""
    scenario = asked(CALM, f"workload.mix={mix}", "objectives=[errors < 5 % whole]", *overrides)
    graph = population.graph_of(scenario.population, scenario.seed)
    tape = workload.draw(scenario, graph)
    known = calibration.load(harness.LITERATURE)
    return Replication(scenario, known, Seeded.of(scenario, graph), scenario.seed, count_work=True).play(tape), tape, scenario


def counts(result: Played) -> Counter[str]:
    """Return unit -> how often it was done."""
    return Counter({name: round(sum(by_second)) for name, (by_second, _) in result.work.items()})


def test_constants_equal_those_of_the_system() -> None:
    """Sim may not import those modules; this test keeps the numbers equal."""
    assert views.REFRESH_AT == shared_views.REFRESH_AT
    assert views.VIEW_SHARED_S == elastic_index.SHARED_S
    assert views.BAND_TTL_S == search_handlers.BREADTH_TTL_S
    assert 1 / views.OWN_WORDS == journeys.OWN_WORD_SHARE
    schema = json.loads(elastic_index.SCHEMA.read_text())
    assert schema["settings"]["refresh_interval"] == f"{views.REFRESH_S:g}s"


# ---- media -----------------------------------------------------------------------------------------------

def test_a_picture_costs_the_work_of_its_requests() -> None:
    """Three requests to the API, a PUT, a miss and a hit at the edge; four statements.

    The object is read twice.
    """
    result, tape, _ = played("{media: 100}", "workload.stages.0.rate=10/s", "workload.stages.0.for=6 s", "measure.warm_up=1 s")
    pictures, done = len(tape), counts(result)

    for unit, times in {
        "haproxy-1.public": 3, "haproxy-1.mesh": 3, "gateway-1.media": 1, "media-1.media": 1, "load-generator.media": 1,
        "postgres-1.media_write": 2, "postgres-1.media_read": 2, "minio-1.put": 1, "minio-1.head": 1, "minio-1.get": 2,
        "cdn-1.miss": 1, "cdn-1.hit": 1,
    }.items():  # fmt: skip
        assert done[unit] == times * pictures, unit
    assert {ctx.status for ctx in result.operations} == {200}


def test_the_edge_caches_what_it_fetched() -> None:
    """Slow storage affects only the first of the two reads: an upload waits for it three times, not four."""
    known = calibration.load(harness.LITERATURE)
    slow = {**known.delays, "minio": calibration.DelayShape((1000.0,))}
    result = predict(asked(CALM, "workload.mix={media: 100}", "objectives=[errors < 5 % whole]", "workload.stages.0.rate=2/s",
                         "policies.deadline.request=10 s"), dataclasses.replace(known, delays=slow))  # fmt: skip

    rows = result.facts.history[result.facts.history["route"] == "media"]
    took_s = (rows["done_ns"] - rows["due_ns"]) / 1e9
    assert took_s.min() > 3.0   # put, the slower of head and first bytes, the miss
    assert took_s.max() < 3.2
    assert rows["gateway_us"].isna().all()


# ---- search ----------------------------------------------------------------------------------------------

def test_searches_that_start_together_share_a_view_of_the_index() -> None:
    """A view is shared for 0.2 s, then the next search opens one: at rate r that is r / (1 + 0.2 r) views per
    second.

    Openings are a renewal process: the time between two is 0.2 s plus an exponential gap, so the count over t has variance
    t * sd^2 / mean^3; four standard errors.
    """
    rate_per_s, load_s = 20.0, 40.0
    result, tape, _ = played("{search: 100}", f"workload.stages.0.rate={rate_per_s:g}/s", f"workload.stages.0.for={load_s:g} s")

    mean_s, sd_s = views.VIEW_SHARED_S + 1 / rate_per_s, 1 / rate_per_s
    opened = counts(result)["elasticsearch-1.view"]
    assert abs(opened - load_s / mean_s) <= 4 * math.sqrt(load_s * sd_s**2 / mean_s**3) + 1
    assert counts(result)["elasticsearch-1.search"] == len(tape)


def test_the_end_of_a_band_is_queried_once_per_common_word_and_always_for_own_words() -> None:
    """The tape determines which words were searched before; overlapping searches of one word may query twice."""
    result, tape, _ = played("{search: 100}", "workload.stages.0.rate=10/s", "workload.stages.0.for=25 s")

    own = sum(number % views.OWN_WORDS == 0 for number in range(len(tape)))
    words = {int(word) for number, word in enumerate(tape.target) if number % views.OWN_WORDS}
    assert own + len(words) <= counts(result)["elasticsearch-1.band"] <= own + len(words) + 3


def test_a_busy_process_refreshes_protected_users_twice_per_second_in_the_background() -> None:
    """Every quarter of the TTL of 2 s, independent of load; only the first read delays a request."""
    result, _, _ = played("{home: 100}", "workload.stages.0.rate=100/s", "workload.stages.0.for=10 s")
    slower, _, _ = played("{home: 100}", "workload.stages.0.rate=100/s", "workload.stages.0.for=10 s",
                          "policies.cache.privacy_ttl=8 s")  # fmt: skip

    # Delivery probes may continue after the load; at 100 reads/s an expiry is noticed within about 10 ms.
    assert 10 / (0.5 + 0.02) - 1 <= counts(result)["postgres-1.privacy"] <= 10 / 0.5 + 2
    assert 10 / (2.0 + 0.02) - 1 <= counts(slower)["postgres-1.privacy"] <= 10 / 2.0 + 2


# ---- the indexer -----------------------------------------------------------------------------------------

def test_an_idle_indexer_handles_an_event_immediately_and_gathers_under_load() -> None:
    """Gathering for 150 ms, 5 ms of work per batch: the times are exact."""
    env = simpy.Environment(initial_time=0)
    started: list[tuple[float, tuple[str, ...]]] = []

    def handle(batch: tuple[str, ...]) -> Generator[Any, Any, int]:
        started.append((env.now / NS, batch))
        yield env.timeout(5_000_000)
        return 0

    loop = PollLoop(env, lambda: 0, handle, 1, bundle=tuple, gather_ns=150_000_000)
    for at_s, event in ((0.0, "a"), (0.01, "b"), (0.02, "c"), (0.149, "d"), (0.151, "e"), (0.50, "f")):
        call_after(env, ns(at_s), lambda event: loop.append(0, event.value), event)
    env.run()

    assert started == [(0.0, ("a",)), (0.15, ("b", "c", "d")), (0.30, ("e",)), (0.50, ("f",))]
    assert loop.lag == 0


def test_a_batch_of_a_killed_indexer_is_repeated_in_order() -> None:
    """None of it was committed."""
    env = simpy.Environment(initial_time=0)
    started: list[tuple[Any, ...]] = []

    def handle(batch: tuple[str, ...]) -> Generator[Any, Any, int]:
        started.append(batch)
        yield env.event()
        return 0

    loop = PollLoop(env, lambda: 0, handle, 1, bundle=tuple)
    loop.append(0, "a")
    env.run()

    loop.stop()
    loop.append(0, "b")
    loop.resume()
    env.run()

    assert started == [("a",), ("a", "b")]


@pytest.mark.parametrize(("indexed_s", "visible_s"), [(0.0, 1.0), (0.4, 1.0), (0.999, 1.0), (1.0, 2.0), (7.3, 8.0)])
def test_a_document_is_visible_after_the_next_refresh(indexed_s: float, visible_s: float) -> None:
    """The index refreshes once per second."""
    assert views.visible_s(indexed_s) == visible_s


def test_posts_are_indexed_in_fewer_bulks_than_events_and_visible_as_computed() -> None:
    """40 posts/s gathered for 150 ms: at most one bulk in 150 ms.

    The time from bulk to refresh is uniform in [0, 1] s.

    So the median from acknowledgement to visibility is about half a second plus gathering and the bulk; with
    n posts the standard error of the mean of a uniform draw is 0.29 / sqrt(n).
    """
    result, tape, _ = played("{post: 100}", "workload.stages.0.rate=40/s", "workload.stages.0.for=20 s")

    done, visible = counts(result), outcome.index_visible_s(result)
    rows = [row for row in result.effects if row.path == "index"]
    assert len(rows) == len(tape)
    assert 20 / 0.2 < done["elasticsearch-1.index"] <= 20 / 0.15 + 2
    assert sum(result.work["elasticsearch-1.index"][1]) == pytest.approx(len(tape))
    waits = np.asarray([views.visible_s(row.at_s) - row.at_s for row in rows])
    assert abs(float(waits.mean()) - 0.5) <= 4 * 0.29 / math.sqrt(done["elasticsearch-1.index"])  # a bulk is one draw
    assert visible is not None
    assert visible["n"] == len(tape)
    assert visible["p50"] == pytest.approx(0.5 + 0.075, abs=0.1)
    assert visible["p99"] < 1.0 + 0.150 + 0.1


def test_the_indexers_effects_are_logged_like_the_real_ones() -> None:
    """Path `index`, one row per event, distinct from fan-out."""
    effects = predict(asked(CALM, "workload.mix={post: 100}", "objectives=[errors < 5 % whole]")).facts.effects
    indexed = effects[effects["group"] == "indexer"]

    assert set(indexed["path"]) == {"index"}
    assert set(effects[effects["group"] == "fanout"]["path"]) <= {"push", "pull"}
