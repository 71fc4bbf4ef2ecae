"""Every configured image keeps the contract of images.yaml: stand-ins here, official images where they can be pulled.

    make test-docker IMAGES=official
"""

from __future__ import annotations

import dataclasses

import pytest

from system.platform.containers import contract, images
from tests.helpers import containers

ROWS = images.table()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_an_image_has_the_programs_paths_and_user_that_its_container_needs(name, docker_engine):
    """Programs, tools of the health check, a volume that the user owns, the stop signal, a recent Java."""
    image = ROWS[name]
    tag = containers.tag_or_skip(docker_engine, image)

    assert contract.check(docker_engine, image, tag, strict=True) == []


def test_an_image_that_breaks_the_contract_is_described(docker_engine):
    """A Redis is no PostgreSQL: each difference is one sentence."""
    tag = containers.tag_or_skip(docker_engine, ROWS["redis"])

    found = contract.check(docker_engine, ROWS["postgres"], tag, strict=False)

    assert f"{tag} stops on SIGTERM, not SIGINT" in found
    assert f"{tag} lacks the program initdb" in found


def test_the_image_of_our_services_holds_neither_the_twin_nor_a_compiler(docker_engine):
    """It installs its own requirements: what simulates, draws or tests is not in it."""
    image = dataclasses.replace(ROWS["services"], absent=("gcc", "locust", "pytest", "jupyter"))
    tag = containers.tag_or_skip(docker_engine, image)
    modules = ("simpy", "pandas", "matplotlib", "numba", "scipy", "locust", "pytest")
    line = f"import importlib.util as u; print([m for m in {modules} if u.find_spec(m)])"

    assert contract.check(docker_engine, image, tag, strict=True) == []
    done = containers.docker(docker_engine, "run", "--rm", "--network", "none", "--entrypoint", "python", tag, "-c", line)
    assert done.stdout.strip() == "[]"
