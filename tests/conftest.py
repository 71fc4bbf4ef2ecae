"""Checks the requirements of every test before it starts (tests/helpers/requirements.py)."""

import pytest

from tests.helpers import requirements


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose marks name a package that is missing."""
    for mark in item.iter_markers("requires"):
        requirements.check(*mark.args)
