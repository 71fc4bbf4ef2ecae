"""How many instances, which to eject, which to replace: pure decisions, as tables and as simulated seconds."""

from __future__ import annotations

import itertools
import random

import pytest

from system.kernel.policies import AutoscaleKnobs, MeshKnobs
from system.kernel.resilience.scaling import InstanceSample, LoadSample, Scaler, ejected, is_hung, ratio

KNOBS = AutoscaleKnobs(min=1, max=4, cpu=0.6, cool_down_s=3.0, calm_s=15.0, hysteresis=0.1)
MESH = MeshKnobs(eject_errors=5, eject_s=5.0, heal_s=5.0)


def simulate(demand, seconds, knobs=KNOBS, ready=1, noise=0.0):
    """Run a scaler on `demand(t)` (in instances' worth of CPU) once per second.

    Return the number at each second.
    """
    scaler, draw, counts = Scaler(knobs), random.Random(1), []
    for t in range(seconds):
        share = min(1.0, demand(t) / ready) * (1 + draw.uniform(-noise, noise))
        desired = scaler.look(LoadSample(ready, cpu=share), float(t))
        if desired.wanted != ready:
            ready = desired.wanted
            scaler.changed(float(t))
        counts.append(ready)
    return counts


def changes(counts):
    return sum(a != b for a, b in itertools.pairwise(counts))


def test_a_doubled_load_doubles_the_instances_within_seconds():
    """0.5 of one quota, then 1.0: two instances three samples after the load has doubled."""
    counts = simulate(lambda t: 0.5 if t < 10 else 1.0, 20)

    assert counts[9] == 1
    assert counts[13] == 2 and counts[-1] == 2


def test_a_saturated_cpu_is_followed_step_by_step():
    """A demand of 2.2 quotas shows as 100 %: 1, 2, 4; never more than doubled in one step."""
    counts = simulate(lambda t: 2.2, 30)

    assert sorted(set(counts)) == [1, 2, 4]


def test_instances_are_removed_one_by_one_after_a_calm():
    """The load drops at second 20: the first is removed 15 s later, the next after another 15 s."""
    counts = simulate(lambda t: 2.0 if t < 20 else 0.2, 120)

    assert counts[19] == 4
    drops = [t for t, (a, b) in enumerate(itertools.pairwise(counts), 1) if b < a]
    assert [counts[t] for t in drops] == [3, 2, 1]
    assert drops[0] >= 35 and all(b - a >= 15 for a, b in itertools.pairwise(drops))


def test_a_short_dip_removes_no_instance():
    """Ten seconds of low load are shorter than `calm_s` of 15."""
    counts = simulate(lambda t: 0.1 if 30 <= t < 40 else 1.1, 80)

    assert set(counts[25:]) == {2}


@pytest.mark.parametrize("demand", [0.3, 0.55, 0.6, 0.9, 1.1, 1.2, 1.7, 2.3])
def test_noise_around_any_load_causes_no_oscillation(demand):
    """Ten minutes with 15 % of noise: the number may rise once, and never falls again."""
    counts = simulate(lambda t: demand, 600, noise=0.15)

    assert changes(counts[60:]) <= 1 and counts == sorted(counts)


def test_the_number_remains_between_its_bounds():
    """`max` 4 under any load; `min` 2 without load."""
    assert max(simulate(lambda t: 50.0, 60)) == 4
    assert min(simulate(lambda t: 0.0, 60, AutoscaleKnobs(min=2, max=4), ready=2)) == 2
    assert simulate(lambda t: 0.0, 3, AutoscaleKnobs(min=2, max=4))[0] == 2


def test_after_a_change_it_cools_down():
    """Nothing is added for 10 s after a change, however high the load."""
    counts = simulate(lambda t: 9.0, 40, AutoscaleKnobs(max=4, cool_down_s=10.0))
    ups = [t for t, (a, b) in enumerate(itertools.pairwise(counts), 1) if b > a]

    assert len(ups) == 2 and ups[1] - ups[0] >= 10


@pytest.mark.parametrize(("look", "knobs", "worst"), [
    (LoadSample(1, cpu=0.3), AutoscaleKnobs(), (0.5, "cpu")),
    (LoadSample(1, cpu=0.3, in_flight=64), AutoscaleKnobs(in_flight=32), (2.0, "in flight")),
    (LoadSample(1, cpu=0.9, queue_s=0.01), AutoscaleKnobs(queue_s=0.1), (1.5, "cpu")),
    (LoadSample(1, cpu=0.3, queue_s=0.2), AutoscaleKnobs(cpu=0.0, queue_s=0.1), (2.0, "queue")),
    (LoadSample(1, cpu=5.0), AutoscaleKnobs(cpu=0.0), (1.0, "")),
])
def test_the_most_exceeded_target_decides(look, knobs, worst):
    """CPU, in-flight and queue are each used / target; a target of 0 is ignored."""
    used, why = ratio(look, knobs)

    assert used == pytest.approx(worst[0]) and why.startswith(worst[1])


@pytest.mark.parametrize(("seen", "out"), [
    ([InstanceSample("a", 100, 90)], set()),
    ([InstanceSample("a", 100, 90), InstanceSample("b", 100, 0)], {"a"}),
    ([InstanceSample("a", 100, 90), InstanceSample("b", 100, 85)], set()),
    ([InstanceSample("a", 100, 90, inside=80), InstanceSample("b", 100, 0)], set()),
    ([InstanceSample("a", 6, 4), InstanceSample("b", 100, 0)], set()),
    ([InstanceSample("a", 100, 20), InstanceSample("b", 100, 0)], set()),
    ([InstanceSample("a", 0, 0, checked=False), InstanceSample("b", 100, 0)], {"a"}),
    ([InstanceSample("a", 0, 0, checked=False)], set()),
    ([InstanceSample("a", 0, 0, checked=False), InstanceSample("b", 0, 0, checked=False), InstanceSample("c", 9, 0)], {"a"}),
    ([InstanceSample("a", 50, 40), InstanceSample("b", 50, 50), InstanceSample("c", 99, 0),
      InstanceSample("d", 99, 0)], {"a", "b"}),
], ids=["only", "one of two", "both alike", "sheds load", "too few", "a fifth", "silent", "only and silent", "half at most",
        "two of four"])
def test_an_outlier_is_ejected_but_never_more_than_half(seen, out):
    """Five errors in a second, half of its responses, and siblings with at most half its error rate.

    Never the only one.
    """
    assert ejected(seen, MESH) == out


def test_ejected_instances_count_towards_the_half():
    """Two of three are outliers: the second stays in while the first is out.

    Of four, two may be ejected in turn.
    """
    rest = [InstanceSample("b", 100, 90), InstanceSample("c", 100, 0)]
    assert ejected(rest, MESH, out=1) == set()
    assert ejected([*rest, InstanceSample("d", 100, 0)], MESH, out=1) == {"b"}
    assert ejected(rest, MESH, out=5) == set()


def test_ejection_can_be_disabled():
    """`eject_errors` 0."""
    assert ejected([InstanceSample("a", 100, 90), InstanceSample("b", 100, 0)], MeshKnobs(eject_errors=0)) == set()


@pytest.mark.parametrize(("silent_s", "cores", "knobs", "hung"), [
    (4.9, 0.0, MESH, False),
    (5.0, 0.0, MESH, True),
    (29.0, 0.2, MESH, False),
    (30.0, 0.2, MESH, True),
    (600.0, 0.0, MeshKnobs(heal_s=0.0), False),
])
def test_a_stopped_instance_is_replaced_soon_and_a_busy_one_late(silent_s, cores, knobs, hung):
    """A busy one is overloaded and gets six times as long. 0 disables replacement."""
    assert is_hung(silent_s, cores, knobs) is hung
