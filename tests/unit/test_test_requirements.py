"""A test run that installed its requirements or started its own lab fails if they are missing."""

import pytest

from system.platform.install import packages
from system.platform.install.packages import Debian
from tests.helpers import requirements

PARROT = Debian("parrot", "a-program-that-nobody-has", "parrot")


@pytest.mark.parametrize(("run", "outcome"), [("", pytest.skip.Exception), (requirements.SET_UP, pytest.skip.Exception),
                                           (requirements.LAB, pytest.fail.Exception)])
def test_a_missing_lab_skips_by_default_and_fails_in_a_run_that_started_one(monkeypatch, run, outcome):
    """Four hundred skipped tests would look like success."""
    monkeypatch.setenv(requirements.RUN, run)
    with pytest.raises(outcome, match="no parrot"):
        requirements.lab_missing("no parrot")


@pytest.mark.parametrize(("run", "out_of_reach", "outcome"), [
    ("", False, pytest.skip.Exception), (requirements.SET_UP, False, pytest.fail.Exception),
    (requirements.SET_UP, True, pytest.skip.Exception)])
def test_a_missing_program_fails_after_setup_unless_it_cannot_be_installed(monkeypatch, run, out_of_reach, outcome):
    """A skip would hide that setup forgot a package."""
    monkeypatch.setenv(requirements.RUN, run)
    monkeypatch.setattr(packages, "cannot_be_installed", lambda package: out_of_reach)
    with pytest.raises(outcome, match="install the package parrot"):
        requirements.check(PARROT)


def test_a_package_without_root_or_not_offered_is_out_of_reach(monkeypatch):
    """Setup cannot install it without root; packages that are compiled or fetched into the cache need none."""
    monkeypatch.setattr(packages, "is_offered", lambda package: False)

    assert packages.cannot_be_installed(PARROT)
    assert not packages.cannot_be_installed(packages.JAEGER)
