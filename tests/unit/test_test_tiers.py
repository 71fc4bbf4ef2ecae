"""The runner of the tiers: what it counts, what it prints, and that no folder of tests is forgotten."""

from pathlib import Path

import pytest

from tests import tiers

TESTS = Path(tiers.__file__).parent
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_parrot" name="test_it_talks" time="0.25"/>
<testcase classname="tests.unit.test_parrot" name="test_it_flies[far]" time="3.5">
<failure message="it rests">trace</failure></testcase>
<testcase classname="tests.unit.test_parrot" name="test_it_swims" time="0.0">
<skipped message="no water here">x</skipped></testcase>
<testcase classname="tests.unit.test_parrot" name="test_it_eats" time="0.5"><error message="no seed">trace</error></testcase>
</testsuite></testsuites>"""


def test_every_folder_of_tests_belongs_to_one_tier_and_campaigns_to_drills():
    """A folder without a tier would never run; one in two would run twice."""
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    of_make_test = [path.removeprefix("tests/") for tier in tiers.TIERS for path in tier.paths()]
    of_make_drills = [path.removeprefix("tests/") for tier in tiers.CAMPAIGNS for path in tier.paths()]

    assert len(of_make_test) == len(set(of_make_test))
    assert set(of_make_test) | set(of_make_drills) == folders


def test_a_tier_counts_passes_failures_and_skips_with_their_reasons():
    """An error in a fixture is a failure."""
    result = tiers.read(tiers.TIERS[0], JUNIT)

    assert result.passed == 1
    assert result.failures == {"tests/unit/test_parrot.py::test_it_flies[far]": "it rests",
                               "tests/unit/test_parrot.py::test_it_eats": "no seed"}
    assert result.skips == {"tests/unit/test_parrot.py::test_it_swims": "no water here"}


def test_the_summary_names_each_skip_each_failure_and_the_slowest_five():
    """The slowest first; a tier beyond its budget is marked."""
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


def test_a_run_that_left_no_report_counts_nothing():
    """Pytest that crashed is reported by its exit code."""
    assert tiers.read(tiers.TIERS[0], "").times_s == {}


def test_an_unknown_tier_is_refused_with_those_that_exist(capsys):
    """`make test TIER=unti` must not pass by running nothing."""
    assert tiers.main(["unti"]) == 64
    assert "tier 'unti' is unknown; use one of: unit, twin, load" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["unit", "twin", "load", "notebooks"])
def test_tiers_of_python_alone_need_no_lab(name):
    """They run where no server can."""
    assert not next(tier for tier in tiers.TIERS if tier.name == name).lab
