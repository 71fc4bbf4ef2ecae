"""The model of a cluster: two instances of each service, and a statement of what it omits."""

from __future__ import annotations

from scenarios import loader
from sim import faults, reference
from tests.helpers.predictions import predict

SHORT = ("population.users=700", "workload.stages=[{for: 12 s, rate: 40/s}]", "measure.warm_up=2 s")


def test_both_instances_of_each_service_take_requests_from_the_start() -> None:
    """As HAProxy balances them; `small` has one instance."""
    prediction = predict(loader.load("zone_calm", SHORT))
    series = prediction.facts.series
    busy = series[(series["name"] == "cpu_cores") & (series["t_s"] > 2.0)].groupby("node")["value"].sum()

    for kind in ("gateway", "timelines", "tweets"):
        one, two = busy[f"{kind}-1"], busy[f"{kind}-2"]
        assert 0.7 < one / two < 1.4, kind
    assert (reference.initial_instances("cluster"), reference.initial_instances("small")) == (2, 1)


def test_when_one_instance_of_the_cluster_dies_the_other_serves() -> None:
    """No request fails while its sibling runs."""
    prediction = predict(loader.load("zone_calm", (*SHORT, "faults=[{at: 5 s, kind: kill, target: gateway-2}]")))
    history = prediction.facts.history
    due_s = (history["due_ns"] - prediction.facts.windows.start_ns) / 1e9

    assert set(history[(due_s > 5.1) & (due_s < 6.9)]["outcome"]) == {"ok"}


def test_the_record_states_what_the_model_omits_of_a_cluster() -> None:
    """The list is empty if nothing is omitted."""
    cluster, small = predict(loader.load("zone_calm", SHORT)), predict(loader.load("steady_home", SHORT))

    assert cluster.facts.platform["twin"]["not_modelled"] == list(faults.NOT_OF_A_CLUSTER)
    assert small.facts.platform["twin"]["not_modelled"] == []
