"""Fixtures of the drills: a whole cluster, started once for all of them in the range of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from system.platform import native
from tests.helpers.labs import lab_of_blueprint
from tweetlab import home


@pytest.fixture(scope="session")
def cluster() -> Iterator[native.Lab]:
    """A lab of the blueprint `cluster` with all nodes healthy; stopped at the end, its data removed.

    A lab that runs already in this range is used, and left running.
    """
    yield from lab_of_blueprint("cluster", home.lab_range())


