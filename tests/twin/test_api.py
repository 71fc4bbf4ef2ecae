"""The Python API on the twin: tables, figures, sweeps, and a process in which no server can be found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from system.kernel.errors import NotFound, WrongInput
from tweetlab import api
from tweetlab.api import figures, pages

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"population__users": 300, "population__follows": "{shape: even, mean: 5, max: 5}",
         "objectives": "[home p90 <= 250 ms steady]"}
SHORT = "[{for: 12 s, rate: 40/s}]"


@pytest.fixture(scope="module")
def run():
    """A short prediction with a cache loss."""
    return api.simulate("first_run", replications=2, workload__stages=SHORT, measure__warm_up=2,
                        faults="[{at: 6 s, kind: cache_loss, target: redis}]", **SMALL)


def test_every_table_has_units_in_its_column_names(run):
    """Counts and shares of counts apart."""
    latency, cpu, history, throughput = run.latency(), run.cpu(), run.history(), run.throughput()

    assert list(latency.columns[:8]) == ["planned", "ok", "errors_percent", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms"]
    assert "p99_low_ms" not in latency.columns  # the range of the replications does not leave the fault out
    assert list(cpu.columns) == ["mean_cores", "share_percent"] and cpu["share_percent"].sum() == pytest.approx(100.0)
    assert {"due_s", "lag_ms", "response_ms", "service_ms"} <= set(history.columns)
    assert list(throughput.columns) == ["planned_per_s", "ok_per_s", "failed_per_s"] and throughput.index.name == "t_s"
    assert all(isinstance(table, pd.DataFrame) for table in (latency, cpu, history, throughput, run.objectives()))


def test_the_tables_agree_with_each_other_and_with_the_record(run):
    """One run, one truth."""
    home = run.history().query("route == 'home' and outcome == 'ok'")

    assert run.throughput()["planned_per_s"].sum() == len(run.history()) == run.record.summary["totals"]["planned"]
    assert len(run.responses_ms("home", "whole")) == len(home) == run.latency("whole").loc["home", "ok"]
    assert run.latency("whole").loc["home", "p50_ms"] == pytest.approx(np.sort(home["response_ms"])[(len(home) + 1) // 2 - 1])
    assert run.cpu(by_second=True).shape[0] == 12
    assert run.cpu(by_second=True).filter(like="gateway").columns[0] == "gateway-1_cores"


def test_a_prediction_without_faults_has_the_range_of_its_replications():
    """Around the recorded one."""
    table = api.simulate("steady_home", rate=30, replications=3, workload__stages=SHORT, measure__warm_up=2, **SMALL).latency()

    assert (table.loc["home", "p50_low_ms"] <= table.loc["home", "p50_ms"] <= table.loc["home", "p50_high_ms"])
    assert table.loc["home", "p99_low_ms"] < table.loc["home", "p99_high_ms"]


def test_a_saved_run_is_read_back_equal(run, tmp_path):
    """`save` writes record and report; `load` reads them."""
    path = run.save(tmp_path)
    again = api.load(path)

    assert (path / "report.html").exists() and run.path == path == run.save(tmp_path)
    pd.testing.assert_frame_equal(again.latency()[["planned", "p99_ms"]], run.latency()[["planned", "p99_ms"]])
    assert again.is_predicted and again.verdict == run.verdict


def test_a_knob_changes_the_run(run):
    """Half of the authors pulled is another system."""
    pulled = api.simulate("first_run", replications=1, workload__stages=SHORT, push_limit=0, measure__warm_up=2, zipf=2,
                          faults="[{at: 6 s, kind: cache_loss, target: redis}]", **SMALL)

    assert run.record.summary["paths"]["pull"] == 0 < pulled.record.summary["paths"]["pull"]
    assert set(run.differences(pulled).columns) == {"mean_percent", "p50_percent", "p95_percent", "p99_percent"}


@pytest.mark.parametrize(("call", "message"), [
    (lambda: api.simulate("first_run", pushlimit=3), "'pushlimit' is not known"),
    (lambda: api.simulate("first_rum"), "'first_rum' is unknown.*first_run"),
    (lambda: api.simulate("first_run", rate=0), "rate is 0/s; it must be above 0"),
    (lambda: api.simulate("first_run", replications=0), "replications is 0; it must be from 1 to 1000"),
    (lambda: api.simulate("first_run", calibration="none.json"), "none.json is not a calibration file"),
    (lambda: api.run("first_run", on="twin"), "on is 'twin'.*simulate"),
])
def test_wrong_arguments_are_refused_with_the_fix(call, message):
    """Before anything runs."""
    with pytest.raises(WrongInput, match=message):
        call()


def test_a_run_that_does_not_exist_is_not_found():
    """With the command that lists runs."""
    with pytest.raises(NotFound, match=r"no run and no sweep 'nothing_here'.*tweetlab list runs"):
        api.load("nothing_here")


def test_an_unknown_route_or_window_is_refused(run):
    """With the words that are allowed."""
    with pytest.raises(WrongInput, match="route is 'hom'; it must be one of home"):
        run.plot.cdf("hom")
    with pytest.raises(WrongInput, match="window is 'all'; it must be one of steady, whole"):
        run.latency("all")


@pytest.mark.parametrize("draw", [
    lambda run: run.plot.latency(), lambda run: run.plot.cdf(window="whole"), lambda run: run.plot.cpu(),
    lambda run: run.plot.throughput(), lambda run: run.compare(run),
], ids=["latency", "cdf", "cpu", "throughput", "compare"])
def test_a_figure_has_labeled_axes_and_shows_itself(run, draw, tmp_path):
    """With units, a transparent background, and one color scheme for light and dark pages."""
    figure = draw(run)

    for ax in figure.axes:
        assert ax.get_xlabel(), "an axis without a label"
        assert "," in ax.get_xlabel() or "%" in ax.get_xlabel()
    assert figure._repr_png_()[:4] == b"\x89PNG"
    assert figure.svg().startswith("<svg") and figure.save(tmp_path / "one.png").stat().st_size > 5_000
    assert figure.patch.get_alpha() == 0.0


@pytest.mark.parametrize("color", [figures.INK, figures.BAD, *figures.COLORS])
def test_every_color_is_readable_on_a_light_and_on_a_dark_page(color):
    """WCAG 2.2 asks for 3 : 1 for graphics."""
    assert all(figures.contrast(color, page) >= 3.0 for page in figures.PAGES)


# ---- sweeps ----------------------------------------------------------------------------------------------

OVER = {"rate": [20, 60], "push_limit": [0, 300]}
FEW = {"operations": 300, "search": False,
       "overrides": ["population.users=300", "population.follows={shape: even, mean: 5, max: 5}"]}


@pytest.fixture
def own_runs(tmp_path, monkeypatch):
    """Sweeps of this test are below its own folder."""
    from tweetlab import home

    monkeypatch.setattr(home, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def test_a_sweep_has_one_row_per_point_with_intervals(own_runs):
    """In the order of the grid, on several processes."""
    few = {**FEW, "overrides": [*FEW["overrides"], "workload.popularity.zipf=2"]}  # one author posts most, and is soon pulled
    found = api.sweep("steady_home", OVER, replications=3, workers=2, **few)
    table = found.table("writes per tweet")

    assert list(table[["rate", "push_limit"]].itertuples(index=False, name=None)) == [(20, 0), (20, 300), (60, 0), (60, 300)]
    assert (table["home_p99_low_ms"] <= table["home_p99_ms"]).all() and (table["replications"] == 3).all()
    assert table["state"].eq("ok").all() and found.missing.empty
    pulled, pushed = (table.loc[table["push_limit"] == limit, "writes_per_tweet"] for limit in (0, 300))
    assert pulled.max() < 0.7 * pushed.min() and pushed.gt(4).all()  # everybody starts with five followers
    assert (found.path / "report.html").exists() and len(pd.read_parquet(found.path / "replications.parquet")) > 100
    assert found.bottleneck().loc[0, "station"] == "the machine"
    published = pages.publish(found, "grid", own_runs / "gallery")
    assert sorted(path.name for path in published.iterdir()) == ["report.html", "sweep.json"]
    assert str(own_runs) not in (published / "sweep.json").read_text() and "<svg" in (published / "report.html").read_text()


def test_common_random_numbers_narrow_the_difference(own_runs):
    """Twice the CPU in a process: the paired interval is narrower than those of the two points together."""
    found = api.sweep("steady_home", {"cost.timelines-1": [1, 1.5], "rate": [60]}, replications=6, workers=0,
                      figure="home mean", **FEW)
    paired = found.against(0).iloc[1]
    low, high = (found.table().loc[n, ["home_mean_low_ms", "home_mean_high_ms"]] for n in (0, 1))
    apart = (low.iloc[1] - low.iloc[0]) + (high.iloc[1] - high.iloc[0])

    assert paired["differs"] and paired["difference"] > 0
    assert paired["high"] - paired["low"] < apart


def test_a_sweep_is_repeated_exactly(own_runs):
    """Number of processes and order do not matter."""
    one, two = (api.sweep("steady_home", {"rate": [40]}, replications=2, workers=workers, fresh=True, **FEW)
                for workers in (0, 2))

    pd.testing.assert_frame_equal(one.table(), two.table())


def test_a_failed_point_is_missing_and_the_others_are_there(own_runs, monkeypatch):
    """Never a smaller sweep."""
    from tweetlab.sweep import replicate

    original = replicate.play
    monkeypatch.setattr(replicate, "play", lambda task, known: 1 / 0 if task.scenario.policies.fanout.push_limit == 0 else
                        original(task, known))
    found = api.sweep("steady_home", {"push_limit": [0, 300]}, replications=1, workers=0, overrides=[*FEW["overrides"],
                      "workload.stages=[{for: 12 s, rate: 20/s}]"], search=False)

    assert list(found.table()["state"]) == ["missing", "ok"]
    assert found.missing.to_dict("records") == [{"push_limit": 0, "why": "ZeroDivisionError: division by zero"}] or \
        found.missing.iloc[0]["why"] == "ZeroDivisionError: division by zero"
    assert any("missing: 1 of 2 points (ZeroDivisionError" in line for line in found.sentences())


def test_an_interrupted_sweep_resumes_without_repeating_what_it_has(own_runs, monkeypatch):
    """Ctrl-C in the middle: the record says interrupted; the same call plays only the rest."""
    from tweetlab.sweep import replicate

    original, played = replicate.play, []

    def play(task, known):
        if len(played) == 3:
            raise KeyboardInterrupt
        played.append((task.point, task.replication))
        return original(task, known)

    call = {"over": {"push_limit": [0, 300]}, "replications": 2, "workers": 0, "search": False,
            "overrides": [*FEW["overrides"], "workload.stages=[{for: 12 s, rate: 20/s}]"]}
    monkeypatch.setattr(replicate, "play", play)
    first = api.sweep("steady_home", **call)
    assert first.document["state"] == "interrupted" and len(first.missing) >= 1
    played.clear()
    played.append("the rest may all be played")
    monkeypatch.setattr(replicate, "play",
                        lambda task, known: played.append((task.point, task.replication)) or original(task, known))
    second = api.sweep("steady_home", **call)

    assert second.path == first.path and second.document["state"] == "complete" and second.missing.empty
    assert len(played) - 1 == 4 - len(first.rows())
    assert sorted((row["point"], row["replication"]) for row in second.rows()) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_worker_that_dies_loses_its_point_only(own_runs, monkeypatch):
    """The next task gets a new process."""
    from sim import calibration
    from tweetlab.sweep import grid
    from tweetlab.sweep.replicate import Task
    from tweetlab.sweep.workers import Failed, Workers

    point = grid.points("steady_home", grid.axes({"rate": [20]}), overrides=FEW["overrides"], operations=100)[0]
    with Workers(calibration.default(), 1) as pool:
        assert pool.submit(Task(0, 0, point.scenario)).result(60)["operations"] > 50
        for child in list(pool._children):
            child.kill()
            child.wait()
        with pytest.raises(Failed, match="the worker process ended with code -9"):
            pool.submit(Task(0, 1, point.scenario)).result(60)
        assert pool.submit(Task(0, 1, point.scenario)).result(60)["operations"] > 50


def test_a_rate_far_beyond_the_machine_is_reported_and_not_played(own_runs):
    """With the rate, the bound of the utilization law, and what to change."""
    found = api.sweep("steady_home", {"rate": [20, 50_000]}, replications=1, workers=0, **FEW)

    assert list(found.table()["state"]) == ["ok", "cannot be served"]
    assert any("rate=50000/s cannot be served" in line and "fully used at about" in line and "--over cores=4" in line
               for line in found.sentences())


def test_the_knee_is_that_of_the_search_for_capacity(own_runs):
    """With a twentieth of a core for each service, the knee is far below that of the machine, and a service limits it."""
    found = api.sweep("steady_home", {"rate": [5, 30]}, replications=1, workers=2, operations=200,
                      overrides=[*FEW["overrides"], "cpu_quota=0.05 core", "measure.warm_up=1 s",
                                 "objectives=[home p90 <= 100 ms steady, errors < 0.5 % steady]"])
    knee = found.knees().iloc[0]

    assert 2 <= knee["knee_per_s"] < 40 and knee["refused_per_s"] <= 1.031 * knee["knee_per_s"]
    assert knee["bottleneck"] in ("timelines-1", "gateway-1") and knee["knee_per_s"] < knee["bound_per_s"]
    assert found.plot().axes[0].get_xlabel() == "rate, operations per second"


# ---- Python alone ----------------------------------------------------------------------------------------

ALONE = """
import json, shutil, sys
assert not any(shutil.which(name) for name in ("redis-server", "haproxy", "java", "postgres", "nginx")), "a server is on the path"
from tweetlab import api
run = api.simulate("first_run", replications=1, workload__stages="[{for: 12 s, rate: 20/s}]", measure__warm_up=1,
                   faults=[], objectives=[], population__users=200, population__follows="{shape: even, mean: 5, max: 5}")
found = api.sweep("steady_home", {"rate": [10, 20]}, replications=1, operations=60, search=False,
                  overrides=["population.users=200", "population.follows={shape: even, mean: 5, max: 5}"])
clients = ("cassandra", "aiokafka", "psycopg", "redis", "elasticsearch", "minio", "locust", "docker")
print(json.dumps({"home": int(run.latency().loc["home", "ok"]), "points": len(found.table()),
                  "png": len(run.plot.cdf()._repr_png_()), "clients": [name for name in clients if name in sys.modules]}))
"""


def test_it_needs_python_alone(tmp_path):
    """No server on the path, no Java, no client library of a server imported, and nobody's home to read from."""
    env = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"),
           "TWEETLAB_DATA": str(tmp_path / "data")}
    own = f"import pathlib; import tweetlab.home as h; h.RUNS = pathlib.Path({str(tmp_path / 'runs')!r})\n"
    code = own + ALONE
    done = subprocess.run([sys.executable, "-P", "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["home"] > 30 and result["points"] == 2 and result["png"] > 5_000 and result["clients"] == []
    assert os.listdir(tmp_path / "runs") == ["sweeps"]
