"""Requirements of tests on the machine, and how a missing one is handled.

Run directly (`pytest tests/...`), such a test is skipped with the reason. In a run that installed everything
itself (`make test` sets RUN) it fails: a skip would hide an incomplete set-up. What the machine cannot
provide (root, a package in its distribution, a kernel feature) is a skip everywhere.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from system.platform.install import packages
from system.platform.install.packages import Package

RUN = "TWEETLAB_TEST_RUN"
"""Environment variable set by the runner of the tiers.

SET_UP once everything is installed, LAB while a lab is up as well.
"""
SET_UP, LAB = "set-up", "lab"

needs_regions = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), reason="regions need root and /dev/net/tun")


def requires(*needed: Package) -> pytest.MarkDecorator:
    """Return the mark of tests that need these packages installed.

    Checked before each test (tests/conftest.py).
    """
    return pytest.mark.requires(*needed)


def check(*needed: Package) -> None:
    """Skip or fail the test if one of `needed` is missing."""
    for package in needed:
        reason = packages.missing(package)
        if reason:
            _absent(reason, may_fail=not packages.cannot_be_installed(package))


def lab_missing(reason: str) -> NoReturn:
    """Skip the test because no lab is up, or fail it if this run started one."""
    if os.environ.get(RUN) == LAB:
        pytest.fail(f"the lab of this test run no longer responds: {reason}")
    pytest.skip(reason)


def _absent(reason: str, may_fail: bool) -> NoReturn:
    if os.environ.get(RUN) and may_fail:
        pytest.fail(f"the set-up of this test run should have installed it: {reason}")
    pytest.skip(reason)
