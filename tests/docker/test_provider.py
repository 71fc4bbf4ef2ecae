"""`tweetlab up --provider docker`: the same commands, faults and scaling on containers; bad input; nothing is left."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from chaos import schedule
from scenarios import spec
from system.platform import blueprint, native
from system.platform.addresses import Plan
from system.platform.containers import api, images
from system.platform.containers import spec as containers_spec
from system.platform.process import procs
from tests.helpers import containers
from tests.helpers.command import ROOT, tweetlab
from tweetlab.run import smoke

RANGE, OTHER = 242, 241


class DockerLab:
    """A lab in containers, driven by commands. `env`: what selects the range and the images."""

    def __init__(self, found, range_):
        self.native = native.Lab(ROOT, range_)
        self.client = api.connect()
        self.env = {"TWEETLAB_RANGE": str(range_), "TWEETLAB_IMAGES": containers.image_set(found), "DOCKER_HOST": found.host}

    def run(self, *words, **env):
        return tweetlab(*words, **{**self.env, **env})

    def left(self):
        own = {"label": f"{api.OWNER}={self.native.paths.lab_id}"}
        return [*self.client.containers.list(all=True, filters=own), *self.client.networks.list(filters=own),
                *self.client.volumes.list(filters=own)]

    def node(self, name):
        return next(row for row in asyncio.run(self.native.status()) if row.name == name)

    def strike(self, *faults):
        started_ns = time.monotonic_ns()
        return asyncio.run(schedule.run(faults, self.native, started_ns, self.native.paths.state))


@pytest.fixture(scope="module")
def lab(docker_engine):
    """The lab `small` on Docker in a range of its own, from empty volumes."""
    for node in containers_spec.inside(blueprint.load("small")).nodes:
        containers.tag_or_skip(docker_engine, images.of_kind(node.kind))
    lab = DockerLab(docker_engine, RANGE)
    lab.run("down", "--purge")
    up = lab.run("up", "--provider", "docker")
    assert up.code == 0, up.err
    yield lab
    lab.run("down", "--purge")


def test_every_node_is_a_container_of_its_own(lab):
    """Each is healthy, has an address of the bridge, a live process of this machine, and CPU of its own."""
    rows = lab.run("status", "--json").json()
    cpu_ns = asyncio.run(lab.native.cpu_ns())
    names = {container.labels["tweetlab.node"] for container in lab.client.containers.list(
        filters={"label": f"{api.OWNER}={lab.native.paths.lab_id}"})}

    assert {row["name"] for row in rows} == names and len(names) == 20
    assert {row["health"] for row in rows} == {"healthy"}
    assert all(row["address"].startswith(f"198.18.{RANGE}.") for row in rows)
    assert all(procs.is_alive(row["pid"], row["start_ticks"]) for row in rows)
    assert all(cpu_ns[row["name"]] > 0 and row["rss_bytes"] > 2**20 for row in rows)


def test_the_whole_api_works_at_the_address_of_the_lab(lab):
    """Sign up, follow, post, read, search, like, upload a picture, delete."""
    steps = asyncio.run(smoke.journey(f"http://{lab.native.address('haproxy')}"))

    assert [(step.name, step.detail) for step in steps if not step.ok] == []


def test_later_commands_find_the_provider(lab):
    """None of them takes --provider; a start on the other one is refused with the fix."""
    status, logs, keys = lab.run("status"), lab.run("logs", "redis-1"), lab.run("keys", "rotate")
    other = lab.run("up", "--provider", "native")

    assert f"provider: docker, network 198.18.{RANGE}.0/24" in status.out
    assert logs.code == 0 and logs.out.strip()
    assert keys.code == 0, keys.err
    assert other.code == 3 and "on the provider 'docker'; to start it on 'native' run `tweetlab down --purge`" in other.err


def test_scaling_adds_and_removes_real_containers(lab):
    """The new one joins HAProxy, whose runtime socket the supervisor reaches; no request is lost on the way back."""
    up = lab.run("scale", "timelines", "3")
    added = [lab.node(f"timelines-{n}") for n in (2, 3)]
    down = lab.run("scale", "timelines", "1")
    names = {row.name for row in asyncio.run(lab.native.status())}

    assert (up.code, down.code) == (0, 0), up.err + down.err
    assert [row.health for row in added] == ["healthy", "healthy"]
    assert len({row.address for row in added} | {lab.native.address("timelines")}) == 3
    assert "timelines-1" in names and not {"timelines-2", "timelines-3"} & names
    assert len(lab.left()) == len({row.name for row in asyncio.run(lab.native.status())}) + 1 + volumes(lab)


def volumes(lab):
    return len(lab.client.volumes.list(filters={"label": f"{api.OWNER}={lab.native.paths.lab_id}"}))


@pytest.mark.parametrize("name", ["fanout-1", "redis-1"])
def test_a_killed_container_is_replaced_by_a_new_one(lab, name):
    """Effect confirmed, recovered in another process; its CPU account goes on."""
    before, used_ns = lab.node(name), asyncio.run(lab.native.cpu_ns())[name]
    [record] = lab.strike(spec.Fault(0.2, "kill", name))
    after = lab.node(name)

    assert (record.void, record.recovered_ns is not None) == ("", True)
    assert not procs.is_alive(before.pid, before.start_ticks) and after.restarts == before.restarts + 1
    assert asyncio.run(lab.native.cpu_ns())[name] >= used_ns


def test_a_paused_container_is_frozen_and_goes_on_as_the_same_process(lab):
    """`docker pause`: the kernel reports it frozen, it answers nothing, and nothing is lost."""
    before = lab.node("postgres-1")
    [record] = lab.strike(spec.Fault(0.2, "pause", "postgres-1", for_s=4.0))
    after = lab.node("postgres-1")

    assert (record.void, record.recovered_ns is not None) == ("", True)
    assert 4.0 <= (record.undone_ns - record.injected_ns) / 1e9 < 6.0
    assert (after.pid, after.restarts, after.paused) == (before.pid, before.restarts, False)


def test_a_hung_container_of_a_service_is_replaced_by_healing(lab):
    """Healing kills a frozen container, and auto-heal starts a new one, before the fault ends."""
    before = lab.node("users-1")
    [record] = lab.strike(spec.Fault(0.2, "pause", "users-1", for_s=20.0))
    after = lab.node("users-1")

    assert (record.void, record.recovered_ns is not None) == ("", True)
    assert after.pid != before.pid and after.restarts == before.restarts + 1 and not after.paused


def test_a_cache_loss_empties_the_cache_in_its_container(lab):
    """The server at the address is the node's own."""
    asyncio.run(lab.native.status())
    fault = spec.Fault(0.2, "cache_loss", "redis")
    [record] = lab.strike(dataclasses.replace(fault, recovers_within_s=2.0))

    assert record.void == "" and record.effect_ns is not None and record.facts["keys_after"] == 0


def test_down_keeps_the_volumes_and_purge_removes_everything(lab):
    """Last: the lab is down afterwards."""
    down = lab.run("down")
    kept = lab.left()
    purge = lab.run("down", "--purge")

    assert (down.code, purge.code) == (0, 0), down.err + purge.err
    assert kept and all(volume.name.startswith("tweetlab-") and "redis" not in volume.attrs.get("Labels", {}) for volume in kept)
    assert lab.left() == []


@pytest.fixture
def other(docker_engine):
    """A range without a lab."""
    containers.tag_or_skip(docker_engine, images.of_kind("redis"))
    lab = DockerLab(docker_engine, OTHER)
    yield lab
    lab.run("down", "--purge")


@pytest.mark.parametrize(("env", "words"), [
    ({"DOCKER_HOST": "unix:///nowhere/docker.sock"}, ["No Docker engine", "/nowhere/docker.sock", "make docker-engine"]),
    ({"TWEETLAB_IMAGE_REDIS": "tweetlab/nobody:0"}, ["Images are missing", "tweetlab/nobody:0", "make docker-images"]),
    ({"TWEETLAB_IMAGE_REDIS": "tweetlab/standin-haproxy:2.6"}, ["-1 died while starting", "exit code 1", "cannot create"]),
    ({"TWEETLAB_IMAGES": "mine"}, ["TWEETLAB_IMAGES is 'mine'; it must be official or ours"]),
])  # fmt: skip
def test_a_start_that_cannot_succeed_says_why_and_leaves_nothing(other, env, words):
    """No engine, no image, an image that breaks the contract, a wrong selection."""
    done = other.run("up", "--provider", "docker", "--stores-only", **env)

    assert done.code in (3, 64) and [word for word in words if word not in done.err] == [], done.err
    assert other.left() == [] and not other.native.paths.data_dir.exists()


def test_a_network_in_use_is_named(other):
    """Another lab of Docker has the addresses."""
    import docker.types

    pool = docker.types.IPAMPool(subnet=Plan(OTHER, bridge=True).network())
    network = other.client.networks.create("tweetlab-somebody", labels={images.LABEL: "tests"},
                                           ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    try:
        done = other.run("up", "--provider", "docker", "--stores-only")
    finally:
        network.remove()

    assert done.code == 3 and "in use by Docker's network 'tweetlab-somebody'" in done.err and "TWEETLAB_RANGE" in done.err
    assert other.left() == []


@pytest.mark.parametrize(("words", "text"), [
    (("up", "cluster", "--provider", "docker"), "'cluster' does not run in containers"),
    (("up", "--provider", "podman"), "The provider 'podman' is unknown; known are native, docker"),
    (("up", "--provider", "docker", "--observe"), "--observe needs a native lab"),
])  # fmt: skip
def test_what_docker_cannot_run_is_refused_before_anything_starts(other, words, text):
    done = other.run(*words)

    assert done.code in (3, 64) and text in done.err, done.err
    assert other.left() == []


def test_doctor_says_what_docker_lacks(other):
    """Docker is optional, so its absence is no failed requirement."""
    def fact(**env):
        return next(row for row in other.run("doctor", "--json", **env).json() if row["name"] == "docker")

    present, absent = fact(), fact(DOCKER_HOST="unix:///nowhere")

    assert present["ok"] and present["fact"].startswith("engine ")
    assert absent["ok"] and absent["fact"].startswith("not available: No Docker engine")
