"""Tests on containers: which engine, which images, and the stores of a lab started through testcontainers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from system.kernel.errors import CouldNotRun
from system.platform import blueprint as blueprints
from system.platform.addresses import Plan
from system.platform.containers import contract, engine, images, render, spec
from system.platform.servers import services

REQUIRE = "TWEETLAB_DOCKER"
"""`require`: a test that cannot use Docker fails instead of being skipped."""
RANGE = 244
LABEL = f"{images.LABEL}=tests"


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where Docker is required."""
    if os.environ.get(REQUIRE) == "require":
        pytest.fail(f"{REQUIRE}=require, but: {reason}")
    pytest.skip(reason)


def absent() -> str:
    """Return why no test can use Docker here; "" if an engine answers, or if Docker is required."""
    if os.environ.get(REQUIRE) == "require":
        return ""
    try:
        engine.find()
    except CouldNotRun as problem:
        return problem.detail
    return ""


def engine_or_skip() -> engine.Found:
    """Return the engine, or skip with the cause."""
    try:
        return engine.find()
    except CouldNotRun as problem:
        unavailable(problem.detail)


def image_set(found: engine.Found) -> str:
    """Return TWEETLAB_IMAGES; if it is not set, `ours` where these are built, else `official`."""
    if os.environ.get("TWEETLAB_IMAGES", "").strip():
        return images.chosen_set()
    return "ours" if has(found, images.table()["redis"].ours) else "official"


def tag_or_skip(found: engine.Found, image: images.Image) -> str:
    """Return the configured tag of an image that the engine has, or skip with the fix."""
    tag = image.tag({**os.environ, "TWEETLAB_IMAGES": image_set(found)})
    if not has(found, tag):
        unavailable(contract.missing(image, tag))
    return tag


def has(found: engine.Found, tag: str) -> bool:
    return docker(found, "image", "inspect", tag, check=False).returncode == 0


def docker(found: engine.Found, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], env=found.environment(), capture_output=True, text=True, check=check, timeout=300)


def sweep(found: engine.Found, label: str = LABEL) -> None:
    """Remove every container, network and volume with this label, such as those of a killed test run."""
    for ids, remove in (("ps -aq", "rm -fv"), ("network ls -q", "network rm"), ("volume ls -q", "volume rm")):
        listed = docker(found, *ids.split(), "--filter", f"label={label}").stdout.split()
        if listed:
            docker(found, *remove.split(), *listed)


@contextlib.contextmanager
def stores(found: engine.Found) -> Iterator[dict[str, Any]]:
    """Start the stores of `small` in containers; yield their addresses in the format of TWEETLAB_STORES."""
    os.environ.setdefault("DOCKER_HOST", found.host)
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image comes from a registry; we sweep by label
    os.environ["TESTCONTAINERS_HOST_OVERRIDE"] = "127.0.0.1"
    import docker as client
    from docker.types import EndpointConfig, IPAMConfig, IPAMPool
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import ExecWaitStrategy

    plan = Plan(RANGE, bridge=True)
    blueprint = blueprints.load("small").stores_only()
    wanted = spec.containers(blueprint, plan, {"TWEETLAB_EDGE_SECRET": "polly"}, image_set(found))
    tags = {one.name: tag_or_skip(found, one.image) for one in wanted}
    sweep(found)
    folder = Path(tempfile.mkdtemp(prefix="tweetlab-containers-", dir="/var/tmp"))
    api = client.DockerClient(base_url=found.host)
    network = api.networks.create("tweetlab-tests", driver="bridge", labels={images.LABEL: "tests"},
                                  ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=plan.network())]))

    def start(one: spec.Container) -> None:
        # Not a health check of Docker, which would go on while the tests run.
        healthy = ExecWaitStrategy([*one.health]).with_startup_timeout(int(one.start_timeout_s)).with_poll_interval(0.3)
        container = DockerContainer(tags[one.name]).with_volume_mapping(str(folder), str(spec.LAB), "ro")
        container.with_kwargs(
            entrypoint=list(one.entrypoint), user=one.user, mem_limit=f"{one.memory_mib}m", cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"], labels={images.LABEL: "tests", **one.labels},
            shm_size=f"{one.shm_mib}m" if one.shm_mib else None, network=network.name,
            networking_config={network.name: EndpointConfig("1.44", ipv4_address=one.address)},
        ).waiting_for(healthy)
        container.start()

    try:
        folder.chmod(0o755)
        render.write(folder, wanted)
        with ThreadPoolExecutor(len(wanted)) as pool:
            list(pool.map(start, wanted))
        yield services.stores(blueprint, plan)
    finally:
        sweep(found)
        api.close()
        shutil.rmtree(folder, ignore_errors=True)
