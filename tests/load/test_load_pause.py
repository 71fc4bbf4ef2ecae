"""The generator during a pause: it sends nothing, and starts the next request on time."""

import asyncio

from bench.selfchecks import load_selfcheck
from scenarios import loader, workload
from scenarios.world import population
from tweetlab.load import driver


def test_the_generator_sends_nothing_in_a_pause_and_is_on_time_after_it(tmp_path):
    """2 s of 30/s, 3 s of 0/s, 2 s of 30/s and a pause at the end: the load lasts as long as planned."""
    busy = "{for: 2 s, rate: 30/s}"
    scenario = loader.load(
        "first_run",
        [
            "population.users=200",
            "population.follows={mean: 10, max: 100}",
            "faults=[]",
            "objectives=[]",
            "measure.warm_up=0",
            f"workload.stages=[{busy}, {{for: 3 s, rate: 0/s}}, {busy}, {{for: 1 s, rate: 0/s}}]",
            "workload.mix={home: 1}",
        ],
    )
    tape = workload.draw(scenario, population.graph_of(scenario.population, scenario.seed))
    seconds = []

    async def play(base_url):
        return await driver.run(
            scenario,
            tape,
            driver.Target(base_url, load_selfcheck.SECRET),
            tmp_path,
            stop=asyncio.Event(),
            on_second=seconds.append,
        )

    with load_selfcheck.stand_in() as base_url:
        result = asyncio.run(play(base_url))
    rows = driver.history(result)
    home = rows[(rows["route"] == "home") & (rows["op"] < len(tape))]
    due_s = (home["due_ns"].to_numpy() - result.start_ns) / 1e9

    assert len(home) == len(tape)
    assert set(home["outcome"]) == {"ok"}
    assert not ((due_s > 2) & (due_s < 5)).any()
    assert (home["sent_ns"] >= home["due_ns"]).all()
    assert [tick.planned for tick in seconds[2:5]] == [0, 0, 0]
    assert len(seconds) >= 7
    assert (result.generator.lost, result.died) == (0, "")
