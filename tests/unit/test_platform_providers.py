"""Which provider a lab has, and what the provider docker reads from the engine and the kernel."""

import asyncio
import io
import os
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform import blueprint, native, runtimes
from system.platform.containers import api, child, images, runtime
from system.platform.paths import Paths
from system.platform.process import procs


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    paths = Paths(tmp_path / "checkout", 21)
    paths.data_dir.mkdir(parents=True)
    return paths


def test_a_start_uses_the_provider_of_the_data_and_else_native(lab):
    """So a later `run` starts the same kind of lab again."""
    fresh = runtimes.choose(lab, None)
    runtimes.keep(lab, "docker")

    assert (fresh, runtimes.choose(lab, None), runtimes.choose(lab, "docker")) == ("native", "docker", "docker")


def test_a_lab_of_the_other_provider_is_refused(lab):
    """Its servers hold the data in other versions and under other users."""
    runtimes.keep(lab, "docker")
    with pytest.raises(CouldNotRun, match=r"has data, on the provider 'docker'.*tweetlab down --purge"):
        runtimes.choose(lab, "native")


def test_data_without_a_provider_is_that_of_a_native_lab(lab):
    """A data directory of an earlier version."""
    lab.layout.write_text("{}")
    with pytest.raises(CouldNotRun, match="on the provider 'native'"):
        runtimes.choose(lab, "docker")


@pytest.mark.parametrize("name", ["podman", "", "Docker"])
def test_an_unknown_provider_is_refused(lab, name):
    """With the known ones."""
    with pytest.raises(WrongInput, match="is unknown; known are native, docker"):
        runtimes.choose(lab, name)


def test_the_control_group_of_a_container_is_found_in_both_versions(tmp_path, monkeypatch):
    """Version 1 has a tree per controller, version 2 one for all."""
    real = Path.read_text

    def read(path, *words):
        return text if str(path) == "/proc/7/cgroup" else real(path, *words)

    monkeypatch.setattr(Path, "read_text", read)
    for folder in ("cpuacct/docker/abc", "freezer/docker/abc", "system.slice/docker-abc.scope"):
        (tmp_path / folder).mkdir(parents=True)

    text = "12:cpu,cpuacct:/docker/abc\n6:freezer:/docker/abc\n0::/\n"
    first = [api.cgroup(7, name, tmp_path) for name in ("cpuacct", "freezer")]
    text = "0::/system.slice/docker-abc.scope\n"
    second = [api.cgroup(7, name, tmp_path) for name in ("cpuacct", "freezer")]
    text = "0::/\n"

    assert first == [tmp_path / "cpuacct/docker/abc", tmp_path / "freezer/docker/abc"]
    assert second == [tmp_path / "system.slice/docker-abc.scope"] * 2
    assert api.cgroup(7, "cpuacct", tmp_path) is None


@pytest.mark.parametrize(("file", "text", "frozen"), [
    ("freezer.state", "FROZEN\n", True), ("freezer.state", "FREEZING\n", False), ("freezer.state", "THAWED\n", False),
    ("cgroup.events", "populated 1\nfrozen 1\n", True), ("cgroup.events", "populated 1\nfrozen 0\n", False),
])  # fmt: skip
def test_a_container_is_paused_once_the_kernel_has_frozen_all_of_it(tmp_path, monkeypatch, file, text, frozen):
    """FREEZING is not enough: some of its processes still run."""
    (tmp_path / file).write_text(text)
    monkeypatch.setattr(api, "cgroup", lambda pid, controller: tmp_path)

    assert api.is_frozen(7) is frozen


def test_only_the_containers_user_may_read_its_configuration():
    """A start script of a service contains the key that signs tokens."""
    raw = child._archive({Path("/lab/users-1/start"): "export SECRET=1\n", Path("/lab/users-1/copied/a"): "b"}, "1000:1001")
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        rows = {entry.name: (entry.mode, entry.uid, entry.gid) for entry in tar}

    assert rows["lab/users-1/start"] == (0o400, 1000, 1001)
    assert rows["lab/users-1"] == rows["lab/users-1/copied"] == (0o700, 1000, 1001)
    assert rows["lab"][0] == 0o755


class Engine:
    """A fake engine that has no image; `pulls`: what a pull answers."""

    def __init__(self, problem):
        import docker.errors

        def get(tag):
            raise docker.errors.ImageNotFound("no such image")

        def pull(tag):
            raise docker.errors.APIError(problem, explanation=problem)

        self.images = SimpleNamespace(get=get, pull=pull)


def test_missing_images_are_listed_with_what_to_build(monkeypatch):
    """Ours are built, official ones pulled; without a registry the stand-ins help."""
    monkeypatch.setenv("TWEETLAB_IMAGES", "official")
    wanted = [images.of_kind(kind) for kind in ("redis", "limits", "users")]
    with pytest.raises(CouldNotRun) as refused:
        runtime.ensure_images(Engine("lookup registry: no such host"), wanted)

    text = refused.value.detail
    assert "redis:7.2.16-bookworm (redis, limits, sentinel): Docker could not pull: lookup registry: no such host" in text
    assert "tweetlab/services:0.1.0 (gateway, users, tweets, …): it is built, not pulled" in text
    assert text.count("redis:7") == 1 and "make docker-images" in text and "TWEETLAB_IMAGES=ours" in text


def test_a_blueprint_without_images_does_not_run_in_containers():
    """The error names the kinds of nodes that have none, before anything starts."""
    with pytest.raises(WrongInput, match="'cluster' does not run in containers: no image for etcd"):
        native._in_containers(blueprint.load("cluster"))


def test_a_process_knows_its_own_pid():
    """Outside of a container it is the one of this machine."""
    assert (procs.own_pid(os.getpid()), procs.own_pid(2**22 + 1)) == (os.getpid(), 0)


async def test_a_cancelled_request_is_waited_for():
    """A container that appears after the cleanup of a failed start would be left over."""
    done = []

    def create():
        time.sleep(0.2)
        done.append("created")

    task = asyncio.ensure_future(api.in_thread(create))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert done == ["created"]
