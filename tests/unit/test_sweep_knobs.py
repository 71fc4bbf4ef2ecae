"""Short names of settings, and bare numbers that get the unit of their key."""

import pytest

from scenarios import loader
from system.kernel.errors import WrongInput
from tweetlab.sweep import knobs


@pytest.mark.parametrize(("key", "path"), [
    ("push_limit", "policies.fanout.push_limit"), ("mix.home", "workload.mix.home"), ("zipf", "workload.popularity.zipf"),
    ("policies.retry.budget", "policies.retry.budget"), ("policies__retry__budget", "policies.retry.budget"),
    ("workload.stages.1.rate", "workload.stages.1.rate"), ("seed", "seed"), ("faults", "faults"),
])
def test_a_key_is_found_by_its_last_words(key, path):
    """Where they are unambiguous."""
    assert knobs.resolve(key) == path


def test_an_ambiguous_key_is_refused_with_the_candidates():
    """`max` is a setting of the graph, of retries and of the autoscaler."""
    with pytest.raises(WrongInput, match=r"'max' is ambiguous; write one of policies.autoscale.max, .*population.follows.max"):
        knobs.resolve("max")


def test_an_unknown_key_is_refused_with_the_nearest():
    """A typing error must not become a sweep of one point."""
    with pytest.raises(WrongInput, match=r"'pushlimit' is not known.*Did you mean \"policies.fanout.push_limit\"\?"):
        knobs.resolve("pushlimit")


@pytest.mark.parametrize(("path", "value", "text"), [
    ("policies.deadline.request", 2.5, "2.5 s"), ("policies.retry.budget", 0.1, "10 %"),
    ("policies.retry.budget", "20 %", "20 %"), ("workload.stages.0.rate", 80, "80/s"),
    ("workload.stages.0.rate", "10/s..40/s", "10/s..40/s"), ("cpu_quota", 0.2, "0.2 core"),
    ("policies.fanout.push_limit", 50, "50"), ("population.history", 20, "20"), ("measure.warm_caches", True, "true"),
    ("population.cache", "cold", "cold"),
])
def test_a_number_gets_the_unit_of_its_key(path, value, text):
    """Durations are in seconds, rates per second, shares are fractions."""
    assert knobs.text_of(path, value) == text


def test_every_known_key_accepts_its_own_default():
    """So the short names name real keys of the loader."""
    scenario = loader.load("steady_home", ["policies.fanout.push_limit=7", "population.history=3", "workload.popularity.zipf=1"])

    assert (scenario.policies.fanout.push_limit, scenario.population.history_tweets, scenario.workload.zipf) == (7, 3, 1.0)
    assert len(knobs.known()) > 90
