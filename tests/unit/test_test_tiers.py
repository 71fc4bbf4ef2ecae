"""The test runner: its counts, its summary, and that every test directory belongs to a tier."""

from pathlib import Path

import pytest

from tests import tiers
from tests.helpers import containers

TESTS = Path(tiers.__file__).parent
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_parrot" name="test_it_talks" time="0.25"/>
<testcase classname="tests.unit.test_parrot" name="test_it_flies[far]" time="3.5">
<failure message="it rests">trace</failure></testcase>
<testcase classname="tests.unit.test_parrot" name="test_it_swims" time="0.0">
<skipped message="no water here">x</skipped></testcase>
<testcase classname="tests.unit.test_parrot" name="test_it_eats" time="0.5"><error message="no seed">trace</error></testcase>
</testsuite></testsuites>"""


def test_every_test_directory_belongs_to_exactly_one_tier():
    """A directory without a tier would never run; one in two tiers would run twice.

    The tier of containers runs the contract tests again, on other servers.
    """
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    in_make_test = [path.removeprefix("tests/") for tier in tiers.TIERS for path in tier.paths()]
    in_make_test.remove("contract")
    in_make_drills = [path.removeprefix("tests/") for tier in tiers.CAMPAIGNS for path in tier.paths()]

    assert len(in_make_test) == len(set(in_make_test))
    assert set(in_make_test) | set(in_make_drills) == folders


def test_a_tier_counts_passes_failures_and_skips_with_their_reasons():
    """An error in a fixture is a failure."""
    result = tiers.read(tiers.TIERS[0], JUNIT)

    assert result.passed == 1
    assert result.failures == {"tests/unit/test_parrot.py::test_it_flies[far]": "it rests",
                               "tests/unit/test_parrot.py::test_it_eats": "no seed"}
    assert result.skips == {"tests/unit/test_parrot.py::test_it_swims": "no water here"}


def test_the_summary_names_each_skip_each_failure_and_the_slowest_five():
    """The slowest first; a tier above its budget is marked."""
    result = tiers.read(tiers.TIERS[0], JUNIT)
    result.took_s = tiers.TIERS[0].budget_s + 1
    result.times_s |= {f"quick {number}": 0.01 for number in range(9)}
    lines = tiers.summary([result]).splitlines()

    assert any(line.startswith("unit") and line.endswith("over budget") for line in lines)
    slowest = lines[lines.index("slowest of unit:") + 1:][:tiers.SLOWEST]
    assert slowest[0].split() == ["3.5", "s", "tests/unit/test_parrot.py::test_it_flies[far]"]
    assert len([line for line in slowest if line.startswith("  ")]) == 5
    assert "  tests/unit/test_parrot.py::test_it_swims: no water here" in lines
    assert "  tests/unit/test_parrot.py::test_it_flies[far]: it rests" in lines


def test_without_an_engine_the_tests_on_containers_are_one_skip_with_its_reason(monkeypatch):
    """Not one line for each test; where Docker is required, every test runs and fails."""
    docker = next(tier for tier in tiers.TIERS if tier.marks == "docker")
    monkeypatch.setattr("tests.helpers.containers.absent", lambda: "No Docker engine: parrots ate the socket.")

    result = tiers._run(docker, {})

    assert result.skips == {"every test on containers": "No Docker engine: parrots ate the socket."}
    assert result.passed == 0 and not result.failures


def test_a_required_engine_is_never_a_reason_to_skip(monkeypatch):
    """A green CI cannot hide that everything was skipped."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/parrot.sock")
    monkeypatch.delenv(containers.REQUIRE, raising=False)
    assert "/nowhere/parrot.sock does not exist" in containers.absent()
    monkeypatch.setenv(containers.REQUIRE, "require")

    assert containers.absent() == ""
    with pytest.raises(pytest.fail.Exception, match="TWEETLAB_DOCKER=require, but: No Docker engine"):
        containers.engine_or_skip()


def test_a_run_without_a_report_counts_nothing():
    """A crash of pytest is reported by its exit code."""
    assert tiers.read(tiers.TIERS[0], "").times_s == {}


def test_an_unknown_tier_is_rejected_with_the_known_ones(capsys):
    """`make test TIER=unti` must not succeed by running nothing."""
    assert tiers.main(["unti"]) == 64
    assert "tier 'unti' is unknown; use one of: unit, twin, load" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["unit", "twin", "load", "notebooks"])
def test_tiers_in_pure_python_need_no_lab(name):
    """They run on machines that cannot run a server."""
    assert not next(tier for tier in tiers.TIERS if tier.name == name).lab
