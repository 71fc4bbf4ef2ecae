"""Instances that come and go in the model: the system's own decisions, seats in the mesh, ejection and drain."""

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
from sim.engine import Engine
from sim.fleet import Fleet, Instance, Seats
from sim.jobs import OF_MESH, Context, Job, Unit
from sim.model import Model
from sim.program import Acquire, Cpu, Release, flatten
from sim.stations import call_after
from system.kernel.policies import AutoscaleKnobs, BulkheadKnobs, DeadlineKnobs, MeshKnobs, Policies
from system.platform.scaling import autoscaler, haproxy_runtime
from system.platform.servers import haproxy
from tests.helpers.predictions import predict
from tests.twin.test_sim_limits import statuses

GATEWAY = services.GATEWAY
COST_S, QUOTA = 0.010, 0.2
KNOBS = AutoscaleKnobs(max=4, cpu=0.5, cool_down_s=3.0, calm_s=12.0)


class House:
    """One scaled service, to which requests of 10 ms come at an even rate, and a autoscaler."""

    def __init__(self, knobs: AutoscaleKnobs = KNOBS, mesh_knobs: MeshKnobs | None = None, quota: float = QUOTA) -> None:
        self.engine = Engine(64.0)
        for name in services.QUOTED:
            self.engine.node(name, 1)
        self.engine.bindings.units[f"{GATEWAY}.work"] = Unit("work", COST_S, 0.0, itertools.repeat(1.0))
        self.fleet = Fleet(GATEWAY, self.instance)
        self.engine.bindings.fleets[GATEWAY] = self.engine.bindings.pools[f"{GATEWAY}.seat"] = self.fleet
        policies = dataclasses.replace(Policies(), autoscale=knobs, mesh=mesh_knobs or MeshKnobs())
        self.autoscaler = Autoscaler(self.engine, {GATEWAY: self.fleet}, policies, quota, {}, itertools.repeat(0.0).__next__)
        self.statuses: list[int] = []
        seat = f"{GATEWAY}.seat"
        self.code = self.engine.link(flatten((Acquire(seat), Cpu(GATEWAY, "work"), Release(seat))))

    def instance(self, name: str, number: int) -> Instance:
        """One process of the service."""
        node = self.engine.bindings.nodes.get(name) or self.engine.node(name, 1)
        return Instance(name, number, node, Seats(self.engine.env, name, self.engine.advance, self.engine.refuse))

    def load(self, rate_per_s: float, from_s: float, until_s: float) -> None:
        """Let requests come at even gaps."""
        def arrive(event: Any) -> None:
            self.engine.start(self.code, Context(0, "r", 0, 0, self.engine.env.now), lambda _job, s: self.statuses.append(s))
            if self.engine.env.now + 1 / rate_per_s < until_s:
                call_after(self.engine.env, 1 / rate_per_s, arrive)

        call_after(self.engine.env, from_s, arrive)

    def counted(self) -> dict[int, int]:
        """Instances by second."""
        return {round(t_s): count for t_s, kind, count in self.autoscaler.counts if kind == "gateway"}


def test_numbers_that_the_system_sets_too_are_the_same() -> None:
    """The twin may not import the platform, where they stand."""
    assert (autoscaling.EVERY_S, autoscaling.MOST) == (autoscaler.EVERY_S, autoscaler.MOST)
    assert (autoscaling.DRAIN_S, autoscaling.LOOK_S) == (haproxy_runtime.DRAIN_S, haproxy_runtime.LOOK_S)
    assert set(autoscaling.FIXED) == set(autoscaler.WORKERS)
    assert (fleets.SEATS, fleets.QUEUED_SEATS) == (haproxy.PLACES, haproxy.QUEUED_PLACES)
    assert f"maxconn {fleets.SEATS}" in haproxy.SERVER
    assert {one.rpartition("-")[0] for one in services.SCALED} == {"gateway", *haproxy.MESH_PORTS}


@pytest.mark.parametrize(
    ("rate_per_s", "instances"),
    [
        (9, 1),    # 0.09 core of 0.2: 0.9 of the target
        (10, 1),   # 1.0, within the hysteresis of the target
        (15, 2),   # 1.5, so ceil(1.5) of one; then 0.75 each
        (25, 3),   # the one is full and shows at most 2.0; 2 stand at 1.25, ceil(2.5) = 3, then 0.83
        (35, 4),   # 2 at 1.75, ceil(3.5) = 4
        (60, 4),   # 6 would be wanted; 4 are the bound
    ],
)  # fmt: skip
def test_a_steady_load_ends_with_as_many_instances_as_the_rule_says(rate_per_s: float, instances: int) -> None:
    """Requests of 10 ms, a fifth of a core each instance, a target of half of it: n = the first with rate * 0.1 / n <= 1.1."""
    house = House()
    house.load(rate_per_s, 0.013, 40.0)

    house.engine.env.run(until=40.0)

    assert house.counted()[39] == instances


def test_an_instance_comes_after_three_looks_and_its_start_and_leaves_after_the_calm() -> None:
    """15/s from 0 to 20 s. Looks at 0 (nothing yet), 1, 2 and 3 s; the third full one decides, 0.7 s later the second stands.

    From 20 s on nothing comes; at the first look that sees a second alone below the bound 12 s of calm begin.
    """
    house = House()
    house.load(15, 0.013, 20.0)

    house.engine.env.run(until=45.0)
    counted = house.counted()

    start_s = autoscaling.START_CPU_S + autoscaling.START_WAIT_S
    (came_s, kind, came, why), (left_s, _, left, _) = house.autoscaler.decisions
    assert (kind, came, left) == ("gateway", f"1 -> 2 in {start_s:.1f} s", "2 -> 1 in 0.1 s")
    assert why == "cpu at 0.75 of 0.50"
    assert came_s == pytest.approx(3.0 + start_s)
    assert [counted[t] for t in (3, 4, 20, 32)] == [1, 2, 2, 2]
    assert 32.0 <= left_s <= 35.0
    assert set(house.statuses) == {0}


def test_requests_go_to_the_instance_with_the_fewest_inside() -> None:
    """Four at once on two instances: two each; one that is drained gets none."""
    house = House()
    second = house.fleet.add()
    second.open = True
    seats = [one.seats for one in house.fleet.instances]

    def enters(many: int) -> None:
        for _ in range(many):
            job = Job([], Context(0, "r", 0, 0, 0.0), None, None)
            house.fleet.entered(job).acquire(job)

    enters(4)
    assert [one.inside for one in seats] == [2, 2]
    second.open = False
    enters(3)
    assert [one.inside for one in seats] == [5, 2]


def test_who_waits_too_long_for_a_seat_is_told_that_nobody_is_free() -> None:
    """256 inside, 10 ms each at a fifth of a core: 40 in the 2 s of patience get a seat, the others the mesh's 503."""
    house = House(AutoscaleKnobs())
    for _ in range(400):
        house.engine.start(house.code, Context(0, "r", 0, 0, 0.0), lambda _job, status: house.statuses.append(status))

    house.engine.env.run()

    served = house.statuses.count(0)
    assert house.statuses.count(OF_MESH) == 400 - served
    assert served == fleets.SEATS + int(fleets.PATIENCE_S * QUOTA / COST_S)


@pytest.mark.parametrize(("knobs", "seats"), [
    (AutoscaleKnobs(), 256), (AutoscaleKnobs(max=4), 256), (AutoscaleKnobs(queue_s=0.1), 256),
    (AutoscaleKnobs(max=4, queue_s=0.1), 32),
])  # fmt: skip
async def test_where_the_wait_is_aimed_at_there_are_few_seats_as_the_keeper_says(knobs: AutoscaleKnobs, seats: int) -> None:
    """The model's instances and what the lab's own autoscaler asks HAProxy for, from the same knobs."""
    keeps = autoscaler.Autoscaler(SimpleNamespace(children={}, blueprint=SimpleNamespace(of_kind=lambda kind: ())))
    keeps.kinds = list  # type: ignore[method-assign]
    await keeps.configure(Policies(autoscale=knobs), None)
    scenario = dataclasses.replace(loader.load("first_run"), policies=dataclasses.replace(Policies(), autoscale=knobs))
    made = Model(Engine(2.0), SimpleNamespace(), scenario)._instance("tweets-1", 1)  # type: ignore[arg-type]

    assert (made.seats.places, keeps._outliers.max_in_flight) == (seats, seats)


def test_a_slow_service_fills_its_own_places_in_a_gateway_and_no_others() -> None:
    """Who finds none waits for the time of a store, then is told; who left meanwhile made room."""
    house, told = House(), []
    knobs = dataclasses.replace(Policies(), bulkhead=BulkheadKnobs(service=2), deadline=DeadlineKnobs(store_s=0.5))
    places = fleets.bulkheads(house.engine.env, ("tweets-1", "users-1"), knobs, lambda job: told.append((job, "in")),
                              lambda job: told.append((job, "away")))  # fmt: skip
    jobs = [Job([], Context(n, "r", 0, 0, 0.0), None, None) for n in range(5)]

    assert [places["tweets-1.place"].acquire(job) for job in jobs[:4]] == [True, True, False, False]
    assert places["users-1.place"].acquire(jobs[4]) is True
    call_after(house.engine.env, 0.3, lambda _event: places["tweets-1.place"].release())
    house.engine.env.run(until=2.0)

    assert told == [(jobs[2], "in"), (jobs[3], "away")]


def test_requests_without_a_place_in_the_gateway_are_answered_503() -> None:
    """One place for each service and a millisecond of patience; without a bound nobody is refused."""
    narrow = ("policies.deadline.store=1 ms", "policies.retry.attempts=1")
    bound, free = (statuses(*narrow, f"policies.bulkhead.service={places}") for places in (1, 0))

    assert bound[503] > 0 and free[503] == 0


def test_an_instance_leaves_only_when_nobody_is_inside() -> None:
    """Who is inside when it is closed gets his answer."""
    house = House()
    one = house.fleet.add()
    each = house.autoscaler._services["gateway"]
    one.open = True
    job = Job([], Context(0, "r", 0, 0, 0.0), None, None)
    one.seats.acquire(job)
    gone: list[float] = []

    house.autoscaler._remove(each, [one], lambda: gone.append(house.engine.env.now))
    call_after(house.engine.env, 1.04, lambda _event: one.seats.release())
    house.engine.env.run(until=5.0)

    assert gone == [pytest.approx(1.1 + autoscaling.STOP_S)]
    assert house.fleet.instances == [house.fleet.instances[0]]


def test_an_instance_that_answers_errors_alone_is_ejected_for_a_while() -> None:
    """Ten errors a second beside a sibling without: after three looks it gets nothing for `eject_s`, then it is back."""
    house = House(mesh_knobs=MeshKnobs(eject_s=4.0))
    ill, _ = house.fleet.instances[0], house.fleet.add()
    house.fleet.instances[1].open = True

    def answers(_event: Any) -> None:
        for one in house.fleet.instances:
            one.seats.answers += 10
        ill.seats.errors += 10
        if house.engine.env.now < 2.0:
            call_after(house.engine.env, 1.0, answers)

    call_after(house.engine.env, 0.5, answers)
    house.engine.env.run(until=4.5)
    assert not ill.open
    house.engine.env.run(until=9.5)

    assert ill.open
    assert [(what, round(t_s)) for t_s, _, what, _ in house.autoscaler.decisions if "ejected" in what] == [
        ("gateway-1 ejected for 4 s", 3)]


@pytest.fixture(scope="module")
def evening() -> Any:
    """The shipped evening, shorter: as steep, on a smaller population."""
    scenario = loader.load("evening_spike", (
        "population.users=700", "workload.stages.0.for=5 s", "workload.stages.1.for=10 s", "workload.stages.2.for=15 s",
        "workload.stages.2.rate=400/s", "workload.stages.1.rate=60/s..400/s", "workload.stages.3.for=20 s"))  # fmt: skip
    return scenario, predict(scenario)


def test_the_evening_is_carried_by_instances_that_come_and_go_again(evening: Any) -> None:
    """The shape of the record's series is the real run's: name, node = service, one value a second."""
    _, told = evening
    counts = told.facts.series[told.facts.series["name"] == "instances"].pivot(index="t_s", columns="node", values="value")

    assert set(counts.columns) == {"fanout", "gateway", "indexer", "likes", "media", "search", "timelines", "tweets", "users"}
    assert len(counts) == 50
    assert counts["gateway"].iloc[0] == 1
    assert 2 <= counts["gateway"].max() <= 4
    assert counts["gateway"].iloc[-1] < counts["gateway"].max()
    assert (counts["fanout"] == 1).all()
    assert told.facts.platform["twin"]["scaling"]
    assert told.laws["hold"] is True


def test_no_instance_burns_more_than_its_quota(evening: Any) -> None:
    """A second holds 50 periods of 4 ms; a slice that ends in the next second may move one budget."""
    _, told = evening
    cpu = told.facts.series[told.facts.series["name"] == "cpu_cores"]
    ours = cpu[cpu["node"].str.rpartition("-")[0].isin(["timelines", "tweets", "fanout"]) & (cpu["node"].str.endswith("-1"))]

    assert ours["value"].max() <= 0.2 + 0.004
    assert ours["value"].max() > 0.1


def test_without_a_quota_the_same_evening_needs_no_second_instance(evening: Any) -> None:
    """Whole cores carry the load; and without a autoscaler the record tells no numbers of instances."""
    scenario, _ = evening
    free = predict(dataclasses.replace(scenario, cpu_quota=None))
    fixed = predict(dataclasses.replace(scenario, policies=dataclasses.replace(scenario.policies, autoscale=AutoscaleKnobs())))

    counts = free.facts.series[free.facts.series["name"] == "instances"]
    assert counts["value"].max() == 1
    assert not (fixed.facts.series["name"] == "instances").any()


def test_the_report_draws_the_models_instances_over_the_measured_ones(evening: Any, tmp_path: Any) -> None:
    """As dashed stairs of the same colour."""
    _, told = evening
    run = finish.finish(tmp_path, dataclasses.replace(told.facts, kind="system"), told.facts, told.label)

    figure = charts.CHARTS["instances"](View(run))

    assert figure is not None
    assert "c1 model" in figure.svg
    assert render.render(run)


def test_a_killed_instance_is_healed_not_replaced_and_its_siblings_serve_meanwhile() -> None:
    """One of two gateways dies for two seconds: new requests go to the other; the autoscaler starts no third for it."""
    told = predict(loader.load("evening_spike", (
        "population.users=700", "workload.stages=[{for: 14 s, rate: 60/s}]", "measure.warm_up=2 s",
        "policies.autoscale={min: 2, max: 2}", "faults=[{at: 7 s, kind: kill, target: gateway-1}]")))  # fmt: skip
    history = told.facts.history[told.facts.history["route"] != "null"]
    due_s = (history["due_ns"] - told.facts.windows.start_ns) / 1e9
    counts = told.facts.series[(told.facts.series["name"] == "instances") & (told.facts.series["node"] == "gateway")]

    assert set(history[(due_s > 7.1) & (due_s < 8.9)]["outcome"]) == {"ok"}
    assert dict(zip(counts["t_s"], counts["value"], strict=True))[8.0] == 1
    assert counts["value"].iloc[-1] == 2
    assert told.facts.platform["twin"]["scaling"] == []
