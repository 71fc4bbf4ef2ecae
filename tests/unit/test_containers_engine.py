"""Which engine is used, and what a user reads when there is none: the cause and the fix."""

from __future__ import annotations

import json
import os
import socketserver
import stat
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from system.kernel.errors import CouldNotRun
from system.platform.containers import contract, engine, images, stand_ins


@contextmanager
def answering(path, api="1.45", version="26.1.5"):
    """An engine that answers /version on a Unix socket."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"ApiVersion": api, "Version": version}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

        def address_string(self):
            return "parrot"

    server = socketserver.UnixStreamServer(str(path), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_engine_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "DEFAULT_SOCKET", str(tmp_path / "default.sock"))
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)


def test_the_default_socket_comes_before_the_private_engine(tmp_path):
    """An engine of this machine is used as it is."""
    engine.data().mkdir()
    with answering(engine.data() / "docker.sock", version="private"):
        assert engine.find() == engine.Found(engine.private_host(), "private", "1.45", True)
        with answering(tmp_path / "default.sock", version="own"):
            assert engine.find().version == "own" and not engine.find().private


def test_docker_host_is_the_only_one_asked(tmp_path, monkeypatch):
    """A user that names an engine gets that one or an error."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/named.sock")
    with answering(tmp_path / "default.sock"), pytest.raises(CouldNotRun, match=r"named.sock does not exist"):
        engine.find()
    with answering(tmp_path / "named.sock", version="named"):
        assert engine.find().version == "named"


def test_without_an_engine_the_error_names_the_socket_and_the_fix(tmp_path):
    """Start Docker, or the private engine."""
    with pytest.raises(CouldNotRun) as problem:
        engine.find()

    assert f"{tmp_path}/default.sock does not exist" in problem.value.detail and "make docker-engine" in problem.value.detail


def test_an_old_engine_is_refused_with_both_versions(tmp_path):
    """Engine 20.10 has no `start_interval`, so that a start would take minutes."""
    with answering(tmp_path / "default.sock", api="1.41", version="20.10.24"), pytest.raises(CouldNotRun) as problem:
        engine.find()

    assert "20.10.24 (API 1.41)" in problem.value.detail and "Engine 25" in problem.value.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_an_engine_without_permission_names_the_group(tmp_path):
    """The usual cause on a fresh machine."""
    with answering(tmp_path / "default.sock"):
        (tmp_path / "default.sock").chmod(stat.S_IRUSR)
        with pytest.raises(CouldNotRun, match="group `docker`"):
            engine.find()


def test_a_refused_permission_is_not_taken_for_a_missing_engine(tmp_path, monkeypatch):
    """The same, as root sees it: connect() is refused."""
    def refused(self, path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.connect", refused)
    (tmp_path / "default.sock").touch()
    with pytest.raises(CouldNotRun, match="may not use the Docker engine"):
        engine.find()


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "ssh://norwegian@blue"])
def test_a_remote_engine_is_refused(host, monkeypatch):
    """The lab's addresses are on a bridge of this machine."""
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(CouldNotRun, match="an engine on this machine"):
        engine.find()


def test_something_else_on_the_socket_is_named(tmp_path):
    """A socket that nobody serves, such as one that a crash left."""
    import socket

    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "default.sock"))
    left.close()
    with pytest.raises(CouldNotRun, match="does not answer"):
        engine.find()


def test_a_private_engine_needs_root(monkeypatch):
    """The error comes before anything is downloaded."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(CouldNotRun, match="needs root"):
        engine.start(lambda text: None)


def test_stopping_without_a_private_engine_does_nothing():
    """Also with a pid file of a process that is not the engine."""
    said = []
    engine.stop(said.append)
    engine.data().mkdir()
    (engine.data() / "docker.pid").write_text(str(os.getpid()))
    engine.stop(said.append)

    assert said == ["no private engine runs"] * 2


def test_a_missing_image_names_what_to_pull_or_to_build():
    """Official: the pull, and the stand-ins. Ours: the build."""
    redis = images.table()["redis"]

    assert f"docker pull {redis.official}" in contract.missing(redis, redis.official)
    assert "docker-compose.standin.yml" in contract.missing(redis, redis.official)
    assert contract.missing(redis, redis.ours) == f"The image {redis.ours} is not built. To fix: make docker-images"


def test_the_build_takes_the_configuration_of_this_machine_and_stores_none():
    """pip's configuration and the certificates are secrets of the build."""
    assert set(stand_ins.build_environment()) == {"TWEETLAB_SERVERS", "TWEETLAB_PIP_CONF", "TWEETLAB_RANGE"}
    assert "--profile" in stand_ins.compose_command("build") and stand_ins.compose_command("build")[-1] == "build"
