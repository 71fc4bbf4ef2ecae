"""A scenario file is read into SI values, or refused with file, key, value, bound and fix."""

import jsonschema
import pytest
import yaml

from scenarios import loader, vocabulary
from sim import recorded
from system.kernel import wan
from system.kernel.errors import WrongInput
from system.platform import blueprint
from tweetlab.commands import graphs


def test_the_first_run_asks_for_sixty_seconds_with_a_cache_loss_in_the_middle():
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
def test_a_scenario_that_writes_gives_every_check_something_to_see(name):
    """A check that saw nothing is unknown, and unknown is not pass: who posts also deletes, unfollows and reads."""
    scenario = loader.load(name)
    mixes = [scenario.workload.mix, *(stage.mix for stage in scenario.workload.stages if stage.mix)]
    asked = {route for mix in mixes for route, share in mix.items() if share}

    assert "post" not in asked or {"home", "delete", "unfollow"} <= asked


def test_an_override_reaches_into_blocks_lists_and_knobs():
    """`--set key.path=value` is read as YAML and takes the same checks as the file."""
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
    "faults.0.target=kafka": ("'kafka'", "strikes redis"),
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
def test_what_does_not_fit_is_refused_with_the_key_the_value_and_a_mend(override):
    """Every wrong input ends as WrongInput, exit 64, and tells what to write instead."""
    named, fix = WRONG[override]

    with pytest.raises(WrongInput) as caught:
        loader.load("first_run", [override])

    assert named in str(caught.value)
    assert fix in str(caught.value)
    assert caught.value.exit_code == 64


def test_an_unknown_scenario_names_its_nearest_neighbour():
    """A name that is no file and not in the catalog is refused."""
    with pytest.raises(WrongInput, match='Did you mean "first_run"'):
        loader.load("frist_run")


@pytest.mark.parametrize(("text", "told"), [
    ("name: a\nname: b\n", "line 2"),
    ("name: [a\n", "not readable as YAML"),
    ("- 1\n", "holds list"),
    ("name: a\nquestion: b\n", "`workload` is None; it must be written"),
])
def test_a_broken_file_is_refused_with_its_line_or_its_missing_key(tmp_path, text, told):
    """A key written twice is refused, since YAML itself would silently keep the last."""
    path = tmp_path / "broken.yaml"
    path.write_text(text)

    with pytest.raises(WrongInput) as caught:
        loader.load(path)

    assert told in str(caught.value)
    assert "broken.yaml" in str(caught.value)


@pytest.mark.parametrize(("overrides", "told"), [
    (("platform=cluster", "policies.limits.max_gateways=1"), "`policies.limits.max_gateways` is 1; it must be at least 2"),
    (("policies.autoscale.max=8", "policies.autoscale.min=6"), "`policies.autoscale.min` is 6; it must be at most 4"),
])  # fmt: skip
def test_more_gateways_than_share_the_limits_are_refused_before_anything_starts(overrides, told):
    """While the limits are away each admits its share of `max_gateways`: a further one would admit more than the limit."""
    with pytest.raises(WrongInput, match=told):
        loader.load("steady_home", overrides)


@pytest.mark.parametrize(("override", "told"), [
    ("cache.privacy_ttl=0 s", "above 0"),
    ("cache.tweet_ttl=400 ms", "above 0"), ("search.band=0", "from 1 to 10000"), ("search.band=20000", "from 1 to 10000"),
    ("search.half_life=0 s", "above 0"), ("fanout.chunk=0", "from 1 up"), ("timeline.rebuild_concurrency=0", "from 1 up"),
    ("deadline.store=0 s", "above 0"),
])  # fmt: skip
def test_a_knob_that_would_close_a_route_is_refused(override, told):
    """Its 0 switches nothing off: every read, page or write would fail."""
    with pytest.raises(WrongInput, match=told):
        loader.load("steady_home", [f"policies.{override}"])


def test_a_file_that_is_no_text_is_refused_with_the_byte(tmp_path):
    """A picture given by mistake, or a file saved in another encoding."""
    path = tmp_path / "latin.yaml"
    path.write_bytes("question: Wie spät?\n".encode("latin-1"))

    with pytest.raises(WrongInput, match="byte 16 is not UTF-8"):
        loader.load(path)


def test_a_population_may_say_how_its_graph_file_is_read(tmp_path):
    """By `--set` as in the file; the record of the run says it again; left out, the graph file decides."""
    path = tmp_path / "a: #1 graph.edges"
    path.write_text("1 2\n")
    options = graphs.overrides(str(path), True, "followee_follower")

    scenario = loader.load("first_run", options)

    people = scenario.population
    assert (people.graph, people.undirected, people.direction) == (path, True, "followee_follower")
    assert recorded.scenario_of({"scenario": {"resolved": scenario.resolved()}}).population == people
    left_out = loader.load("first_run", graphs.overrides(str(path), False, "")).population
    assert (left_out.undirected, left_out.direction) == (None, None)


def test_a_fault_window_without_a_fault_is_refused():
    """An objective `after fault` would never be judged in a scenario that has no fault."""
    with pytest.raises(WrongInput, match="its window needs a fault"):
        loader.load("first_run", ["faults=[]"])


def test_scenarios_know_the_same_blueprints_as_the_platform():
    """The vocabulary stands one floor below the platform; both must tell the same nodes and zones."""
    built = {name: tuple(sorted(node.name for node in each.nodes)) for name, each in blueprint.BLUEPRINTS.items()}
    zones = {name: tuple(sorted({f"zone-{node.zone}" for node in each.nodes if node.zone}))
             for name, each in blueprint.BLUEPRINTS.items()}

    assert built == vocabulary.BLUEPRINTS
    assert {name: found for name, found in zones.items() if found} == vocabulary.ZONES
    regions = {name: tuple(wan.NAMES[number] for number in sorted({node.region for node in each.nodes} - {0}))
               for name, each in blueprint.BLUEPRINTS.items()}
    assert {name: found for name, found in regions.items() if found} == vocabulary.REGIONS


@pytest.mark.parametrize(("override", "told"), [
    ("platform=small", "`small` has no zones"),
    ("platform=small", "write `platform: cluster`"),
    ("faults.0.target=zone-4", "strikes zone-1, zone-2, zone-3"),
    ("faults.0.target=redis", "strikes zone-1, zone-2, zone-3"),
    ("faults=[{at: 30 s, kind: zone_loss, target: zone-1}]", "write how long"),
])
def test_a_zone_is_lost_only_where_there_are_zones_and_for_a_while(override, told):
    """A scenario that cannot mean what it says is refused before anything starts."""
    with pytest.raises(WrongInput) as caught:
        loader.load("zone_loss", [override])

    assert told in str(caught.value)


@pytest.mark.parametrize(("scenario", "override", "told"), [
    ("region_loss", "platform=cluster", "has no regions, so `region_loss` cannot strike one; write `platform: two_regions`"),
    ("region_cut", "faults.0.target=zone-1", "`region_cut` strikes east, west, witness, or `region`: the one where the cache's"),
    ("region_cut", "faults.0.target=wets", 'Did you mean "west"?'),
    ("region_cut", "faults=[{at: 30 s, kind: region_cut, target: region}]", "write how long"),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: region, for: 9 s, loss: 1 %}]", "or `lines`: all of them"),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s}]", "must say how much: `delay` or `loss`"),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s, delay: 2 s}]",
     "`faults.0.delay` is '2 s'; it must be from 1 ms to 500 ms."),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s, loss: 60 %}]",
     "`faults.0.loss` is '60 %'; it must be from 0.1 % to 50 %."),
    ("region_calm", "faults=[{at: 30 s, kind: wan_slow, target: lines, for: 9 s, delay: 80}]", "Write the unit"),
    ("region_cut", "faults.0.delay=80 ms", "`region_cut` has no `delay`; leave it out, or take `wan_slow`"),
])
def test_a_fault_of_regions_that_cannot_be_is_refused(scenario, override, told):
    """With value, bound and fix, before anything starts."""
    with pytest.raises(WrongInput) as caught:
        loader.load(scenario, [override])

    assert told in str(caught.value)


def test_the_lines_of_a_scenario_are_as_slow_as_it_asks():
    """In seconds and shares; what it does not ask for is not changed."""
    def load(*asked):
        return loader.load("region_calm", [f"faults=[{{at: 9 s, kind: wan_slow, for: 9 s, target: {', '.join(asked)}}}]"])

    [both], [one] = load("lines", "delay: 80 ms", "loss: 1 %").faults, load("west", "loss: 0.5 %").faults

    assert (both.strength, one.strength) == ({"delay_s": 0.08, "loss": 0.01}, {"loss": pytest.approx(0.005)})
    assert loader.load("region_cut").faults[0].strength == {}


def test_what_slows_a_line_may_be_asked_is_what_a_line_can_be():
    """The bounds stand one floor below the carrier's."""
    for name, bounds in vocabulary.STRENGTHS.items():
        field = {"delay": "delay_s", "loss": "loss"}[name]
        assert [getattr(wan.Line(**{field: value}), field) for value in bounds] == list(bounds)


@pytest.mark.parametrize(("drilled", "calm"), [
    ("zone_loss", "zone_calm"), ("region_loss", "region_calm"), ("region_cut", "region_calm")])
def test_the_control_of_a_drill_differs_in_its_fault_alone(drilled, calm):
    """Else the two would not be held against each other."""
    drill, control = loader.load(drilled), loader.load(calm)

    assert (drill.population, drill.workload, drill.policies, drill.seed, drill.platform, drill.measure) == (
        control.population, control.workload, control.policies, control.seed, control.platform, control.measure)
    assert (len(drill.faults), control.faults) == (1, ())


def test_the_resolved_scenario_is_plain_json_with_defaults_filled_in():
    """The record keeps what really held, not only what was written."""
    resolved = loader.load("steady_home").resolved()

    assert resolved["policies"]["timeline"]["cap"] == 800
    assert resolved["population"]["graph"] is None
    assert "source" not in resolved
