"""A scenario file is parsed into SI values, or refused with file, key, value, bound and fix."""

import dataclasses

import jsonschema
import pytest
import yaml

from scenarios import loader, table, vocabulary
from sim import recorded
from system.kernel import wan
from system.kernel.errors import WrongInput
from system.kernel.policies import Policies
from system.platform import blueprint
from tweetlab.commands import graphs


def test_first_run_lasts_sixty_seconds_with_a_cache_loss_in_the_middle():
    """The demo's scenario: about 60 s, one cache_loss at 30 s, every route that needs no protected user."""
    scenario = loader.load("first_run")

    assert scenario.workload.load_s == 60
    assert [(fault.at_s, fault.kind, fault.target) for fault in scenario.faults] == [(30, "cache_loss", "redis")]
    assert set(vocabulary.ROUTES) - set(scenario.workload.mix) == {"follow_request", "follow_approve"}
    assert sum(scenario.workload.mix.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", loader.names())
def test_every_scenario_of_the_catalog_loads_and_fits_the_published_schema(name):
    """Loader and JSON Schema come from one table and agree on the whole catalog."""
    scenario = loader.load(name)

    jsonschema.validate(yaml.safe_load(loader.find(name).read_text()), loader.schema())
    assert scenario.name == name


@pytest.mark.parametrize("name", loader.names())
def test_a_scenario_that_posts_exercises_every_invariant(name):
    """A check without operations is unknown, so a mix with posts also has deletes, unfollows and reads."""
    scenario = loader.load(name)
    mixes = [scenario.workload.mix, *(stage.mix for stage in scenario.workload.stages if stage.mix)]
    routes = {route for mix in mixes for route, share in mix.items() if share}

    assert "post" not in routes or {"home", "delete", "unfollow"} <= routes


def test_an_override_reaches_into_blocks_lists_and_knobs():
    """`--set key.path=value` is parsed as YAML and checked like the file."""
    scenario = loader.load("first_run", ["workload.stages.0.rate=100/s..400/s", "policies.breaker.open=300 ms", "faults=[]",
                                         "objectives=[errors < 1 % whole]", "policies.retry.budget=20 %"])

    assert (scenario.workload.stages[0].rate_from, scenario.workload.stages[0].rate_to) == (100, 400)
    assert scenario.policies.breaker.open_s == 0.3
    assert scenario.policies.retry.budget == 0.2
    assert scenario.faults == ()


WRONG = {
    "workload.mix.hom=1": ("`workload.mix.hom`", 'Did you mean "home"?'),
    "workload.mix.retweet=8": ("`workload.mix.retweet`", "give its share to another route"),
    "workload.stages.0.rate=300": ("`workload.stages.0.rate` is 300", "300 /s"),
    "workload.stages=[{for: 3 sec, rate: 1/s}]": ("'3 sec'", "duration such as `20 s`"),
    "workload.stages.7.rate=3/s": ("`7`", "index from 0 to 0"),
    "policies.fanout.push_limt=3": ("push_limt", 'Did you mean "push_limit"?'),
    "platform=smal": ("'smal'", 'Did you mean "small"?'),
    "faults.0.kind=cash_loss": ("'cash_loss'", 'Did you mean "cache_loss"?'),
    "faults.0.target=reddis": ("'reddis'", 'Did you mean "redis"?'),
    "faults.0.target=kafka": ("'kafka'", "must be redis"),
    "faults.0.for=3 s": ("`faults.0.for`", "Leave `for` out"),
    "objectives=[home p9 < 3 ms]": ("`p9`", 'Did you mean "p99"?'),
    "objectives=[hom p99 < 3 ms]": ("`hom`", 'Did you mean "home"?'),
    "objectives=[home p99 < 3 ms after fault]": ("after fault", "within 20 s"),
    "objectives=[errors < 3 ms]": ("the bound of `errors`", "share such as `10 %`"),
    "seed=seven": ("'seven'", "whole number from 0"),
    "measure.warm_up=60 s": ("'60 s'", "shorter than the load"),
    "population.graph=missing.edges": ("missing.edges", "no such file"),
    "population.undirected=true": ("`population.undirected` is True", "add `graph`, or leave this out"),
    "population.direction=followee_follower": ("`population.direction`", "add `graph`, or leave this out"),
    "population.undirected=perhaps": ("'perhaps'", "`true` or `false`"),
    "population.direction=followee_folower": ("'followee_folower'", 'Did you mean "followee_follower"?'),
    "population.follows.max=2000": ("2000", "at most 1999"),
    "population.history=20 likes": ("'20 likes'", "whole number of tweets"),
    "measure.warm_caches=perhaps": ("'perhaps'", "`true` or `false`"),
    "speed=3": ("`speed`", "allowed here: name"),
    "workload": ("'workload'", "key.path=value"),
    "workload.mix=[": ("'['", "not readable as YAML"),
}


@pytest.mark.parametrize("override", WRONG)
def test_an_invalid_value_is_refused_with_its_key_and_a_fix(override):
    """Every invalid input raises WrongInput, exit code 64, and says what to write instead."""
    named, fix = WRONG[override]

    with pytest.raises(WrongInput) as caught:
        loader.load("first_run", [override])

    assert named in str(caught.value)
    assert fix in str(caught.value)
    assert caught.value.exit_code == 64


def test_an_unknown_scenario_is_refused_with_the_nearest_name():
    """The name is neither a file nor in the catalog."""
    with pytest.raises(WrongInput, match='Did you mean "first_run"'):
        loader.load("frist_run")


@pytest.mark.parametrize(("text", "message"), [
    ("name: a\nname: b\n", "line 2"),
    ("name: [a\n", "not readable as YAML"),
    ("- 1\n", "holds list"),
    ("name: a\nquestion: b\n", "`workload` is None; it is required"),
])
def test_a_broken_file_is_refused_with_its_line_or_its_missing_key(tmp_path, text, message):
    """A duplicate key is refused, because YAML itself silently keeps the last one."""
    path = tmp_path / "broken.yaml"
    path.write_text(text)

    with pytest.raises(WrongInput) as caught:
        loader.load(path)

    assert message in str(caught.value)
    assert "broken.yaml" in str(caught.value)


@pytest.mark.parametrize(("overrides", "message"), [
    (("platform=cluster", "policies.limits.max_gateways=1"), "`policies.limits.max_gateways` is 1; it must be at least 2"),
    (("policies.autoscale.max=8", "policies.autoscale.min=6"), "`policies.autoscale.min` is 6; it must be at most 4"),
])  # fmt: skip
def test_more_gateways_than_max_gateways_are_refused(overrides, message):
    """Without the counter server each admits a share of `max_gateways`: one more would exceed the limit."""
    with pytest.raises(WrongInput, match=message):
        loader.load("steady_home", overrides)


@pytest.mark.parametrize(("override", "message"), [
    ("cache.privacy_ttl=0 s", "above 0"),
    ("cache.tweet_ttl=400 ms", "above 0"), ("search.band=0", "from 1 to 10000"), ("search.band=20000", "from 1 to 10000"),
    ("search.half_life=0 s", "above 0"), ("fanout.chunk=0", "from 1 up"), ("timeline.rebuild_concurrency=0", "from 1 up"),
    ("deadline.store=0 s", "above 0"),
])  # fmt: skip
def test_a_policy_that_would_close_a_route_is_refused(override, message):
    """Its 0 disables no feature: every read, page or write would fail."""
    with pytest.raises(WrongInput, match=message):
        loader.load("steady_home", [f"policies.{override}"])


def test_a_file_that_is_not_utf8_is_refused_with_the_byte(tmp_path):
    """A picture, or a file saved in another encoding."""
    path = tmp_path / "latin.yaml"
    path.write_bytes("question: Wie spät?\n".encode("latin-1"))

    with pytest.raises(WrongInput, match="byte 16 is not UTF-8"):
        loader.load(path)


def test_a_population_may_say_how_its_graph_file_is_read(tmp_path):
    """By `--set` as in the file; the record keeps it; by default the graph file decides."""
    path = tmp_path / "a: #1 graph.edges"
    path.write_text("1 2\n")
    options = graphs.overrides(str(path), True, "followee_follower")

    scenario = loader.load("first_run", options)

    read = scenario.population
    assert (read.graph, read.undirected, read.direction) == (path, True, "followee_follower")
    assert recorded.scenario_of({"scenario": {"resolved": scenario.resolved()}}).population == read
    left_out = loader.load("first_run", graphs.overrides(str(path), False, "")).population
    assert (left_out.undirected, left_out.direction) == (None, None)


def test_a_fault_window_without_a_fault_is_refused():
    """An objective `after fault` could never be judged in a scenario without a fault."""
    with pytest.raises(WrongInput, match="its window needs a fault"):
        loader.load("first_run", ["faults=[]"])


def test_scenarios_know_the_same_blueprints_as_the_platform():
    """The vocabulary is a layer below the platform; both must list the same nodes, zones and regions."""
    built = {name: tuple(sorted(node.name for node in plan.nodes)) for name, plan in blueprint.BLUEPRINTS.items()}
    zones = {name: tuple(sorted({f"zone-{node.zone}" for node in plan.nodes if node.zone}))
             for name, plan in blueprint.BLUEPRINTS.items()}

    assert built == vocabulary.BLUEPRINTS
    assert {name: names for name, names in zones.items() if names} == vocabulary.ZONES
    regions = {name: tuple(wan.NAMES[number] for number in sorted({node.region for node in plan.nodes} - {0}))
               for name, plan in blueprint.BLUEPRINTS.items()}
    assert {name: names for name, names in regions.items() if names} == vocabulary.REGIONS


@pytest.mark.parametrize(("override", "message"), [
    ("platform=small", "`small` has no zones"),
    ("platform=small", "write `platform: cluster`"),
    ("faults.0.target=zone-4", "must be zone-1, zone-2, zone-3"),
    ("faults.0.target=redis", "must be zone-1, zone-2, zone-3"),
    ("faults=[{at: 30 s, kind: zone_loss, target: zone-1}]", "write how long"),
])
def test_zone_loss_needs_a_blueprint_with_zones_a_zone_and_a_duration(override, message):
    """A contradictory scenario is refused before anything starts."""
    with pytest.raises(WrongInput) as caught:
        loader.load("zone_loss", [override])

    assert message in str(caught.value)


@pytest.mark.parametrize(("scenario", "override", "message"), [
    ("region_loss", "platform=cluster", "has no regions, so `region_loss` has no target; write `platform: two_regions`"),
    ("region_cut", "faults.0.target=zone-1",
     "the target of `region_cut` must be east, west, witness, or `region`: the one of the cache's primary"),
    ("region_cut", "faults.0.target=wets", 'Did you mean "west"?'),
    ("region_cut", "faults=[{at: 30 s, kind: region_cut, target: region}]", "write how long"),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: region, for: 9 s, loss: 1 %}]", "or `lines`: all WAN links"),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s}]", "it needs a strength: `delay` or `loss`"),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s, delay: 2 s}]",
     "`faults.0.delay` is '2 s'; it must be from 1 ms to 500 ms."),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s, loss: 60 %}]",
     "`faults.0.loss` is '60 %'; it must be from 0.1 % to 50 %."),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s, delay: 80}]", "Write the unit"),
    ("region_cut", "faults.0.delay=80 ms", "`region_cut` has no `delay`; leave it out, or use `wan_slow`"),
])
def test_an_invalid_fault_of_a_region_or_link_is_refused(scenario, override, message):
    """The message has the value, the bound and the fix."""
    with pytest.raises(WrongInput) as caught:
        loader.load(scenario, [override])

    assert message in str(caught.value)


def test_the_strength_of_wan_slow_is_parsed_into_si_values():
    """Seconds and shares; a parameter that is left out is absent."""
    def load(*keys):
        return loader.load("region_calm", [f"faults=[{{at: 9 s, kind: wan_slow, for: 9 s, target: {', '.join(keys)}}}]"])

    [both], [loss] = load("lines", "delay: 80 ms", "loss: 1 %").faults, load("west", "loss: 0.5 %").faults

    assert (both.strength, loss.strength) == ({"delay_s": 0.08, "loss": 0.01}, {"loss": pytest.approx(0.005)})
    assert loader.load("region_cut").faults[0].strength == {}


def test_the_bounds_of_a_strength_are_those_of_the_wan_emulator():
    """The vocabulary repeats the bounds that the emulator accepts."""
    for name, bounds in vocabulary.STRENGTHS.items():
        field = {"delay": "delay_s", "loss": "loss"}[name]
        assert [getattr(wan.Link(**{field: value}), field) for value in bounds] == list(bounds)


@pytest.mark.parametrize(("drilled", "calm"), [
    ("zone_loss", "zone_calm"), ("region_loss", "region_calm"), ("region_cut", "region_calm")])
def test_the_control_of_a_drill_differs_only_in_its_fault(drilled, calm):
    """Otherwise the two could not be compared."""
    drill, control = loader.load(drilled), loader.load(calm)

    assert (drill.population, drill.workload, drill.policies, drill.seed, drill.platform, drill.measure) == (
        control.population, control.workload, control.policies, control.seed, control.platform, control.measure)
    assert (len(drill.faults), control.faults) == (1, ())


def test_the_resolved_scenario_is_plain_json_with_defaults_filled_in():
    """The record keeps the effective values, not only those written."""
    resolved = loader.load("steady_home").resolved()

    assert resolved["policies"]["timeline"]["cap"] == 800
    assert resolved["population"]["graph"] is None
    assert "source" not in resolved


def test_policy_defaults_are_written_as_a_scenario_may_write_them():
    """What docs/reference/policies.md lists can be copied into a scenario and changes nothing."""
    groups = dataclasses.fields(Policies)
    overrides = [f"policies.{group.name}.{key}={default}" for group in groups
                 for key, default in table.policy_defaults(type(getattr(Policies(), group.name))).items()]

    assert loader.load("first_run", overrides).policies == Policies()
