"""Autoscaling in the model: the system's own decisions, seats in the mesh, ejection and drain."""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from reports import finish
from reports.page import charts, render
from reports.page.view import View
from scenarios import loader
from sim import autoscaling, services
from sim import fleet as fleets
from sim.autoscaling import Autoscaler
from sim.clock import call_after
from sim.disciplines import ProcessorSharing
from sim.engine import Engine
from sim.fleet import Fleet, Instance, Seats
from sim.jobs import OF_MESH, Context, Job, Unit
from sim.model import Model
from sim.program import Acquire, Cpu, Release
from sim.resources import Failed
from sim.streams import NS, constant, ns
from system.kernel.policies import AutoscaleKnobs, BulkheadKnobs, DeadlineKnobs, MeshKnobs, Policies
from system.platform.scaling import autoscaler, haproxy_runtime
from system.platform.servers import haproxy
from tests.helpers.predictions import predict
from tests.twin.test_sim_limits import statuses

GATEWAY = services.GATEWAY
COST_S, QUOTA = 0.010, 0.2
KNOBS = AutoscaleKnobs(max=4, cpu=0.5, cool_down_s=3.0, calm_s=12.0)


def context() -> Context:
    """Return a request."""
    return Context(0, "r", 0, 0, 0, 0)


class Lab:
    """One scaled service under a constant rate of requests of 10 ms, and an autoscaler."""

    def __init__(self, knobs: AutoscaleKnobs = KNOBS, mesh_knobs: MeshKnobs | None = None, quota: float = QUOTA) -> None:
        self.engine = Engine(64, ProcessorSharing)
        for name in services.QUOTED:
            self.engine.node(name, 1)
        self.engine.bindings.units[f"{GATEWAY}.work"] = Unit("work", COST_S, 0.0, constant(1.0))
        self.fleet = Fleet(GATEWAY, self.instance)
        self.engine.bindings.fleets[GATEWAY] = self.engine.bindings.pools[f"{GATEWAY}.seat"] = self.fleet
        policies = dataclasses.replace(Policies(), autoscale=knobs, mesh=mesh_knobs or MeshKnobs())
        self.autoscaler = Autoscaler(self.engine, {GATEWAY: self.fleet}, policies, quota, {}, itertools.repeat(0.0).__next__)
        self.statuses: list[int] = []
        seat = f"{GATEWAY}.seat"
        self.steps = self.engine.link((Acquire(seat), Cpu(GATEWAY, "work"), Release(seat)))

    def instance(self, name: str, number: int) -> Instance:
        """Return one process of the service."""
        node = self.engine.bindings.nodes.get(name) or self.engine.node(name, 1)
        return Instance(name, number, node, Seats(self.engine.env))

    def load(self, rate_per_s: float, from_s: float, until_s: float) -> None:
        """Schedule requests at even gaps."""
        self.engine.env.process(self._arrivals(rate_per_s, from_s, until_s))

    def _arrivals(self, rate_per_s: float, from_s: float, until_s: float) -> Any:
        at_s = from_s
        while at_s < until_s:
            yield self.engine.env.timeout(ns(at_s) - self.engine.env.now)
            self.engine.env.process(self.request())
            at_s += 1 / rate_per_s

    def request(self) -> Any:
        """Run one request and keep its status."""
        job = Job(context(), 0)
        self.statuses.append((yield self.engine.env.process(self.engine.run(job, self.steps))))

    def instances_by_second(self) -> dict[int, int]:
        """Return the number of instances by second."""
        return {round(t_s): count for t_s, kind, count in self.autoscaler.counts if kind == "gateway"}


def test_constants_equal_those_of_the_system() -> None:
    """Sim may not import the platform, which defines them."""
    assert (autoscaling.EVERY_S, autoscaling.MOST) == (autoscaler.EVERY_S, autoscaler.MOST)
    assert (autoscaling.DRAIN_S, autoscaling.LOOK_S) == (haproxy_runtime.DRAIN_S, haproxy_runtime.LOOK_S)
    assert set(autoscaling.FIXED) == set(autoscaler.WORKERS)
    assert (fleets.SEATS, fleets.QUEUED_SEATS) == (haproxy.PLACES, haproxy.MAX_IN_FLIGHT_QUEUED)
    assert f"maxconn {fleets.SEATS}" in haproxy.SERVER
    assert {one.rpartition("-")[0] for one in services.SCALED} == {"gateway", *haproxy.MESH_PORTS}


@pytest.mark.parametrize(
    ("rate_per_s", "instances"),
    [
        (9, 1),    # 0.09 core of 0.2: 0.9 of the target
        (10, 1),   # 1.0, within the hysteresis of the target
        (15, 2),   # 1.5, so ceil(1.5) of one; then 0.75 each
        (25, 3),   # one instance is saturated and shows at most 2.0; 2 instances at 1.25, ceil(2.5) = 3, then 0.83
        (35, 4),   # 2 at 1.75, ceil(3.5) = 4
        (60, 4),   # 6 would be needed; 4 is the bound
    ],
)  # fmt: skip
def test_a_steady_load_settles_at_the_computed_number_of_instances(rate_per_s: float, instances: int) -> None:
    """Requests of 10 ms, a fifth of a core per instance, a target of half of it: n = the first with rate *
    0.1 / n <= 1.1.
    """
    lab = Lab()
    lab.load(rate_per_s, 0.013, 40.0)

    lab.engine.env.run(until=ns(40.0))

    assert lab.instances_by_second()[39] == instances


def test_an_instance_is_added_after_three_samples_and_removed_after_the_calm() -> None:
    """15/s from 0 to 20 s.

    Samples at 0 (empty), 1, 2 and 3 s; the third full one decides, 0.7 s later the second is ready.

    From 20 s on there is no load; the 12 s of calm start at the first sample in which one instance would be
    enough.
    """
    lab = Lab()
    lab.load(15, 0.013, 20.0)

    lab.engine.env.run(until=ns(45.0))
    counted = lab.instances_by_second()

    start_s = autoscaling.START_CPU_S + autoscaling.START_WAIT_S
    (added_s, kind, added, reason), (removed_s, _, removed, _) = lab.autoscaler.decisions
    assert (kind, added, removed) == ("gateway", f"1 -> 2 in {start_s:.1f} s", "2 -> 1 in 0.1 s")
    assert reason == "cpu at 0.75 of 0.50"
    assert added_s == pytest.approx(3.0 + start_s)
    assert [counted[t] for t in (3, 4, 20, 32)] == [1, 2, 2, 2]
    assert 32.0 <= removed_s <= 35.0
    assert set(lab.statuses) == {0}


def test_requests_go_to_the_instance_with_the_fewest_inside() -> None:
    """Four concurrent requests on two instances: two each; a draining one gets none."""
    lab = Lab()
    second = lab.fleet.add()
    second.open = True
    seats = [one.seats for one in lab.fleet.instances]

    def enters(many: int) -> None:
        for _ in range(many):
            lab.fleet.enter(context()).request()

    enters(4)
    assert [one.inside for one in seats] == [2, 2]
    second.open = False
    enters(3)
    assert [one.inside for one in seats] == [5, 2]


def test_a_request_that_waits_too_long_for_a_seat_gets_503() -> None:
    """256 inside, 10 ms each at a fifth of a core: 40 get a seat within the 2 s timeout, the others the
    mesh's 503.
    """
    lab = Lab(AutoscaleKnobs())
    for _ in range(400):
        lab.engine.env.process(lab.request())

    lab.engine.env.run()

    served = lab.statuses.count(0)
    assert lab.statuses.count(OF_MESH) == 400 - served
    assert served == fleets.SEATS + int(fleets.PATIENCE_S * QUOTA / COST_S)


@pytest.mark.parametrize(("knobs", "seats"), [
    (AutoscaleKnobs(), 256), (AutoscaleKnobs(max=4), 256), (AutoscaleKnobs(queue_s=0.1), 256),
    (AutoscaleKnobs(max=4, queue_s=0.1), 32),
])  # fmt: skip
async def test_with_a_queue_target_instances_have_few_seats_as_in_the_autoscaler(knobs: AutoscaleKnobs, seats: int) -> None:
    """The model's instances and the HAProxy settings of the lab's autoscaler, from the same knobs."""
    real = autoscaler.Autoscaler(SimpleNamespace(children={}, blueprint=SimpleNamespace(of_kind=lambda kind: ())))
    real.kinds = list  # type: ignore[method-assign]
    await real.configure(Policies(autoscale=knobs), None)
    scenario = dataclasses.replace(loader.load("first_run"), policies=dataclasses.replace(Policies(), autoscale=knobs))
    instance = Model(Engine(2), SimpleNamespace(), scenario)._instance("tweets-1", 1)  # type: ignore[arg-type]

    assert (instance.seats.places, real._outliers.max_in_flight) == (seats, seats)


def test_a_slow_service_fills_only_its_own_slots_in_a_gateway() -> None:
    """A job without a slot waits for `deadline.store_s`, then gives up.

    A job that leaves earlier frees a slot.
    """
    lab, results = Lab(), []
    env = lab.engine.env
    knobs = dataclasses.replace(Policies(), bulkhead=BulkheadKnobs(service=2), deadline=DeadlineKnobs(store_s=0.5))
    places = fleets.bulkheads(env, ("tweets-1", "users-1"), knobs)

    def waits(pool: str, name: str) -> Any:
        try:
            slot = places[pool].request()
            if slot is not None:
                yield from places[pool].wait(slot)
            results.append((name, "in", env.now / NS))
        except Failed as failure:
            results.append((name, failure.status, env.now / NS))

    for number in range(4):
        env.process(waits("tweets-1.place", f"tweets {number}"))
    env.process(waits("users-1.place", "users"))
    call_after(env, ns(0.3), lambda _event: places["tweets-1.place"].release())
    env.run(until=ns(2.0))

    assert results == [("tweets 0", "in", 0.0), ("tweets 1", "in", 0.0), ("users", "in", 0.0), ("tweets 2", "in", 0.3),
                       ("tweets 3", OF_MESH, 0.5)]  # fmt: skip


def test_requests_without_a_slot_in_the_gateway_are_answered_503() -> None:
    """One slot per service and a timeout of a millisecond; without a bound no request is refused."""
    narrow = ("policies.deadline.store=1 ms", "policies.retry.attempts=1")
    bound, free = (statuses(*narrow, f"policies.bulkhead.service={places}") for places in (1, 0))

    assert bound[503] > 0 and free[503] == 0


def test_an_instance_stops_only_without_requests_in_flight() -> None:
    """Requests in flight at the drain are answered."""
    lab = Lab()
    instance = lab.fleet.add()
    service = lab.autoscaler._services["gateway"]
    instance.open = True
    instance.seats.request()
    removed_s: list[float] = []

    lab.autoscaler._remove(service, [instance], lambda: removed_s.append(lab.engine.env.now / NS))
    call_after(lab.engine.env, ns(1.04), lambda _event: instance.seats.release())
    lab.engine.env.run(until=ns(5.0))

    assert removed_s == [pytest.approx(1.1 + autoscaling.STOP_S)]
    assert lab.fleet.instances == [lab.fleet.instances[0]]


def test_an_instance_with_only_errors_is_ejected_for_a_while() -> None:
    """Ten errors per second, its sibling none: after three samples it gets no requests for `eject_s`, then
    again.
    """
    lab = Lab(mesh_knobs=MeshKnobs(eject_s=4.0))
    outlier, _ = lab.fleet.instances[0], lab.fleet.add()
    lab.fleet.instances[1].open = True

    def answers(_event: Any) -> None:
        for one in lab.fleet.instances:
            one.seats.answers += 10
        outlier.seats.errors += 10
        if lab.engine.env.now < 2 * NS:
            call_after(lab.engine.env, NS, answers)

    call_after(lab.engine.env, NS // 2, answers)
    lab.engine.env.run(until=ns(4.5))
    assert not outlier.open
    lab.engine.env.run(until=ns(9.5))

    assert outlier.open
    assert [(change, round(t_s)) for t_s, _, change, _ in lab.autoscaler.decisions if "ejected" in change] == [
        ("gateway-1 ejected for 4 s", 3)]


@pytest.fixture(scope="module")
def evening() -> Any:
    """Return a shorter run of the shipped scenario: as steep, with a smaller population."""
    scenario = loader.load("evening_spike", (
        "population.users=700", "workload.stages.0.for=5 s", "workload.stages.1.for=10 s", "workload.stages.2.for=15 s",
        "workload.stages.2.rate=400/s", "workload.stages.1.rate=60/s..400/s", "workload.stages.3.for=20 s"))  # fmt: skip
    return scenario, predict(scenario)


def test_instances_are_added_for_the_evening_peak_and_removed_after_it(evening: Any) -> None:
    """The record's series have the format of the real run: name, node = service, one value per second."""
    _, prediction = evening
    series = prediction.facts.series
    counts = series[series["name"] == "instances"].pivot(index="t_s", columns="node", values="value")

    assert set(counts.columns) == {"fanout", "gateway", "indexer", "likes", "media", "search", "timelines", "tweets", "users"}
    assert len(counts) == 50
    assert counts["gateway"].iloc[0] == 1
    assert 2 <= counts["gateway"].max() <= 4
    assert counts["gateway"].iloc[-1] < counts["gateway"].max()
    assert (counts["fanout"] == 1).all()
    assert prediction.facts.platform["twin"]["scaling"]
    assert prediction.laws["hold"] is True


def test_no_instance_exceeds_its_quota(evening: Any) -> None:
    """A second has 50 periods of 4 ms; a slice that ends in the next second may shift one budget."""
    _, prediction = evening
    cpu = prediction.facts.series[prediction.facts.series["name"] == "cpu_cores"]
    limited = cpu[cpu["node"].str.rpartition("-")[0].isin(["timelines", "tweets", "fanout"]) & (cpu["node"].str.endswith("-1"))]

    assert limited["value"].max() <= 0.2 + 0.004
    assert limited["value"].max() > 0.1


def test_without_a_quota_the_same_evening_needs_no_second_instance(evening: Any) -> None:
    """Whole cores suffice for the load; and without an autoscaler the record has no series of instances."""
    scenario, _ = evening
    free = predict(dataclasses.replace(scenario, cpu_quota=None))
    fixed = predict(dataclasses.replace(scenario, policies=dataclasses.replace(scenario.policies, autoscale=AutoscaleKnobs())))

    counts = free.facts.series[free.facts.series["name"] == "instances"]
    assert counts["value"].max() == 1
    assert not (fixed.facts.series["name"] == "instances").any()


def test_the_report_draws_the_models_instances_over_the_measured_ones(evening: Any, tmp_path: Any) -> None:
    """As a dashed step line of the same color."""
    _, prediction = evening
    run = finish.finish(tmp_path, dataclasses.replace(prediction.facts, kind="system"), prediction.facts, prediction.label)

    figure = charts.CHARTS["instances"](View(run))

    assert figure is not None
    assert "c1 model" in figure.svg
    assert render.render(run)


def test_a_killed_instance_is_restarted_and_its_sibling_serves_in_the_meantime() -> None:
    """One of two gateways dies for two seconds: new requests go to the other.

    The autoscaler does not add a third.
    """
    prediction = predict(loader.load("evening_spike", (
        "population.users=700", "workload.stages=[{for: 14 s, rate: 60/s}]", "measure.warm_up=2 s",
        "policies.autoscale={min: 2, max: 2}", "faults=[{at: 7 s, kind: kill, target: gateway-1}]")))  # fmt: skip
    history = prediction.facts.history[prediction.facts.history["route"] != "null"]
    due_s = (history["due_ns"] - prediction.facts.windows.start_ns) / 1e9
    series = prediction.facts.series
    counts = series[(series["name"] == "instances") & (series["node"] == "gateway")]

    assert set(history[(due_s > 7.1) & (due_s < 8.9)]["outcome"]) == {"ok"}
    assert dict(zip(counts["t_s"], counts["value"], strict=True))[8.0] == 1
    assert counts["value"].iloc[-1] == 2
    assert prediction.facts.platform["twin"]["scaling"] == []
