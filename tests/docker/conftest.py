"""Every test here needs a Docker engine; where none answers it is skipped with the cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from system.platform.containers import engine
from tests.helpers import containers

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session")
def docker_engine() -> engine.Found:
    """The engine that answers."""
    return containers.engine_or_skip()
