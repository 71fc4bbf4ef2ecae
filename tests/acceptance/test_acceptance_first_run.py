"""The first run of a newcomer: real servers, a fault in the middle, invariants, the twin, one report."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.command import tweetlab

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.usefixtures("lab")]


@pytest.fixture(scope="module")
def runs(traffic):
    """All tries of `first_run`: the invariants are asserted on each of them."""
    return traffic.runs


@pytest.fixture(scope="module")
def run(runs):
    """The last one."""
    return runs[-1]


def test_the_run_is_valid(run):
    """The run judges itself first; a VOID run proves nothing."""
    broken = [c for c in run["validity"]["criteria"] if not c["holds"]]

    assert run["validity"]["verdict"] == "VALID", broken


def test_every_invariant_holds_through_the_cache_loss(runs):
    """Acknowledged tweets are there, in order, once, for every follower, although the cache was lost during the run."""
    findings = [f for run in runs for f in run["invariants"]]

    assert [(f["name"], f["verdict"], f["note"], f["violations"][:2]) for f in findings if f["verdict"] != "pass"] == []
    assert len(findings) >= 8 and all(f["checked"] > 0 for f in findings)


def test_the_objectives_are_met_and_the_exit_code_is_0(run):
    """PASS, and 0."""
    assert [(o["text"], o["verdict"], o["value"]) for o in run["objectives"] if o["verdict"] != "pass"] == []
    assert (run["verdict"], run["code"]) == ("PASS", 0)


@pytest.mark.parametrize("path", ["push", "pull", "rebuild", "hit", "tail", "retry"])
def test_every_path_was_taken(run, path):
    """A run without a pull or a rebuild says nothing about pulling or rebuilding."""
    assert run["summary"]["paths"][path] > 0


def test_at_least_five_authors_are_pulled(run):
    """`first_run` sets push_limit accordingly."""
    effects = pd.read_parquet(Path(run["run"]) / "effects.parquet")
    pulled = effects[(effects["group"] == "fanout") & (effects["path"] == "pull")]

    assert pulled["key"].nunique() >= 5


def test_the_fault_took_effect_and_recovered(run):
    """The effect probe and the recovery probe confirmed it."""
    faults = json.loads((Path(run["run"]) / "faults.json").read_text())

    assert [(f["kind"], f["void"]) for f in faults] == [("cache_loss", "")]
    assert faults[0]["effect_ns"] and faults[0]["recovered_ns"]


def test_delivery_was_measured_by_the_worker_and_by_the_api(run):
    """The worker's timestamps and the API probes agree."""
    delivery = run["summary"]["delivery"]

    assert delivery["n"] > 50
    assert delivery["probes"]["verdict"] == "pass", delivery["probes"]


def test_the_record_contains_the_cpu_of_every_process(run):
    """A figure without the CPU of each process explains nothing."""
    cpu = run["summary"]["cpu"]

    assert {"redis-1", "cassandra-1", "postgres-1", "kafka-1", "elasticsearch-1", "minio-1", "haproxy-1", "gateway-1",
            "timelines-1", "fanout-1", "load-generator"} <= set(cpu)
    assert all(run["versions"][kind] for kind in ("redis", "cassandra", "postgres", "kafka", "elasticsearch", "minio", "haproxy"))


def test_the_twin_predicted_the_same_scenario(run):
    """Its prediction is next to the measurement, with its label and error."""
    assert run["prediction"]["label"]
    assert {"home", "post"} <= set(run["prediction"]["routes"])


def test_the_report_is_one_file_that_needs_no_network(run):
    """No external script, style or picture."""
    page = Path(run["report"]).read_text()

    assert re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*["']""", page) == []
    assert "<svg" in page and "cache_loss" in page
    assert len(page) < 3_000_000


def test_the_run_can_be_exported(run):
    """Markdown for readers, JUnit for CI servers, HdrHistogram logs for other tools."""
    assert tweetlab("report", run["run"], "--md").out.startswith("#")
    assert "<testsuite" in tweetlab("report", run["run"], "--junit").out
    logs = list((Path(run["run"]) / "histograms").glob("home.*.hlog"))
    assert {p.name for p in logs} == {"home.response.hlog", "home.service.hlog"}
