"""The model of a cluster: two instances of each service, and an honest word about what is not in it."""

from __future__ import annotations

from scenarios import loader
from sim import faults, replication
from tests.helpers.predictions import predict

SHORT = ("population.users=700", "workload.stages=[{for: 12 s, rate: 40/s}]", "measure.warm_up=2 s")


def test_both_instances_of_each_service_take_requests_from_the_start() -> None:
    """As HAProxy shares them out; of `small` there is one."""
    told = predict(loader.load("zone_calm", SHORT))
    series = told.facts.series
    busy = series[(series["name"] == "cpu_cores") & (series["t_s"] > 2.0)].groupby("node")["value"].sum()

    for kind in ("gateway", "timelines", "tweets"):
        one, two = busy[f"{kind}-1"], busy[f"{kind}-2"]
        assert 0.7 < one / two < 1.4, kind
    assert (replication.initial_instances("cluster"), replication.standing_of("small")) == (2, 1)


def test_a_dead_instance_of_the_cluster_leaves_the_other_to_serve() -> None:
    """No request fails while its sibling stands."""
    told = predict(loader.load("zone_calm", (*SHORT, "faults=[{at: 5 s, kind: kill, target: gateway-2}]")))
    history = told.facts.history
    due_s = (history["due_ns"] - told.facts.windows.start_ns) / 1e9

    assert set(history[(due_s > 5.1) & (due_s < 6.9)]["outcome"]) == {"ok"}


def test_the_record_tells_what_of_a_cluster_the_model_leaves_out() -> None:
    """And says nothing of it where nothing is left out."""
    cluster, small = predict(loader.load("zone_calm", SHORT)), predict(loader.load("steady_home", SHORT))

    assert cluster.facts.platform["twin"]["not_modelled"] == list(faults.NOT_OF_A_CLUSTER)
    assert small.facts.platform["twin"]["not_modelled"] == []
