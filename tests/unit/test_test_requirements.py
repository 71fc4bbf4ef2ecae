"""A test run that installed its requirements or brought up its own lab does not pass where they are missing."""

import pytest

from system.platform.install import packages
from system.platform.install.packages import Debian
from tests.helpers import requirements

PARROT = Debian("parrot", "a-program-that-nobody-has", "parrot")


@pytest.mark.parametrize(("run", "ends"), [("", pytest.skip.Exception), (requirements.SET_UP, pytest.skip.Exception),
                                           (requirements.LAB, pytest.fail.Exception)])
def test_a_missing_lab_skips_alone_and_fails_in_a_run_that_brought_one_up(monkeypatch, run, ends):
    """Four hundred skipped tests would look like a good end."""
    monkeypatch.setenv(requirements.RUN, run)
    with pytest.raises(ends, match="no parrot"):
        requirements.lab_missing("no parrot")


@pytest.mark.parametrize(("run", "out_of_reach", "ends"), [
    ("", False, pytest.skip.Exception), (requirements.SET_UP, False, pytest.fail.Exception),
    (requirements.SET_UP, True, pytest.skip.Exception)])
def test_a_missing_program_is_a_failure_after_the_set_up_unless_the_machine_cannot_have_it(monkeypatch, run, out_of_reach, ends):
    """A skip would hide that the set-up forgot a package."""
    monkeypatch.setenv(requirements.RUN, run)
    monkeypatch.setattr(packages, "is_out_of_reach", lambda package: out_of_reach)
    with pytest.raises(ends, match="install the package parrot"):
        requirements.check(PARROT)


def test_a_package_without_root_or_not_offered_is_out_of_reach(monkeypatch):
    """What a user cannot install is no fault of the set-up; what is compiled or fetched into the cache can be had by everyone."""
    monkeypatch.setattr(packages, "is_offered", lambda package: False)

    assert packages.is_out_of_reach(PARROT)
    assert not packages.is_out_of_reach(packages.JAEGER)
