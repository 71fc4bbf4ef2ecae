"""docker-compose.yml alone, with nothing else of ours on the host: a tweet end to end, no privileges, nothing left."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest
import yaml

from system.platform.containers import images, stand_ins
from tests.helpers import containers
from tests.helpers.compose_lab import ComposeLab
from tweetlab.run import smoke

RANGE, PORT = 243, 18743


@pytest.fixture(scope="module")
def lab(docker_engine):
    """The lab `small`, started by Compose in a range of its own, from empty volumes."""
    chosen = containers.image_set(docker_engine)
    wanted = stand_ins_rows() if chosen == "ours" else images.table().values()
    for image in wanted:
        containers.tag_or_skip(docker_engine, image)
    lab = ComposeLab(docker_engine, RANGE, PORT, chosen)
    lab.down()
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


def stand_ins_rows():
    return [image for image in images.table().values() if image.name not in ("prometheus", "alertmanager", "jaeger")]


def test_a_lab_of_compose_serves_the_whole_api(lab):
    """Sign up, follow, post, read, search, like, upload a picture, delete: at the published port."""
    steps = asyncio.run(smoke.journey(lab.url))

    assert [(step.name, step.detail) for step in steps if not step.ok] == []
    assert len(steps) > 5


def test_a_lab_of_compose_shows_the_web_client(lab):
    """The page comes from the gateway, and allows the media origins of the bridge."""
    with urllib.request.urlopen(f"{lab.url}/", timeout=5) as reply:
        page, policy = reply.read().decode(), reply.headers["content-security-policy"]

    assert "<html" in page.lower()
    assert f"http://198.18.{RANGE}.50:9000" in policy


def test_the_host_reaches_the_bridge_address_and_only_one_published_port(lab):
    """On Linux the native address plan works from the host; nothing but the load balancer is published."""
    with urllib.request.urlopen(f"http://{lab.address}/null", timeout=5) as reply:
        assert reply.status == 200
    rows = containers.docker(lab.found, "ps", "--filter", f"label={lab.label}", "--format", "{{.Names}} {{.Ports}}").stdout
    published = [row for row in rows.splitlines() if "->" in row]

    assert len(published) == 1 and f"127.0.0.1:{PORT}->8080/tcp" in published[0] and "0.0.0.0" not in published[0]


def test_no_server_has_a_capability_or_is_root(lab):
    """Read from the process itself, not from the file that asks for it."""
    names = containers.docker(lab.found, "ps", "--filter", f"label={lab.label}", "--format", "{{.Names}}").stdout.split()
    for name in names:
        status = containers.docker(lab.found, "exec", name, "cat", "/proc/1/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0, name
        assert fields["NoNewPrivs"].strip() == "1" and "0" not in fields["Uid"].split(), name


def test_a_server_can_read_only_its_own_configuration(lab):
    """The key that signs tokens is readable by the services, and by no store."""
    def reads(name: str, path: str) -> bool:
        return containers.docker(lab.found, "exec", f"tweetlab-{RANGE}-{name}", "cat", path, check=False).returncode == 0

    assert reads("redis-1", "/lab/redis-1/redis.conf") and reads("gateway-1", "/lab/gateway-1/start")
    assert not reads("redis-1", "/lab/gateway-1/start") and not reads("cassandra-1", "/lab/secrets/TWEETLAB_JWT_SECRET")


def test_no_container_is_near_its_memory_limit_after_a_start(lab):
    """At most 80 %: the limits leave room for a run."""
    names = containers.docker(lab.found, "ps", "--filter", f"label={lab.label}", "--format", "{{.Names}}").stdout.split()
    rows = containers.docker(lab.found, "stats", "--no-stream", "--format", "{{json .}}", *names).stdout.splitlines()
    used = {row["Name"]: float(row["MemPerc"].rstrip("%")) for row in map(json.loads, rows)}

    assert len(used) == 20 and {name: share for name, share in used.items() if share > 80} == {}


def test_a_store_keeps_its_data_over_a_restart(lab):
    """PostgreSQL and the services come back with their data, and the whole API works again."""
    steps = asyncio.run(smoke.journey(lab.url))
    assert all(step.ok for step in steps)
    lab.compose("restart", "gateway-1", "postgres-1", "users-1")
    lab.up()

    assert [step.name for step in asyncio.run(smoke.journey(lab.url)) if not step.ok] == []


def test_down_leaves_nothing(lab):
    """No container, no network, no volume with the lab's label. Last: the lab is down afterwards."""
    assert lab.left()
    lab.down()

    assert lab.left() == []


def test_a_missing_image_names_the_file_to_add(docker_engine):
    """Without the stand-ins file, an engine that cannot pull fails, and says why, and nothing runs."""
    lab = ComposeLab(docker_engine, RANGE + 3, PORT + 3, "official")
    done = lab.compose("up", "--no-build", "--pull", "never", "redis-1", check=False, TWEETLAB_IMAGE_REDIS="tweetlab/nobody:0")
    lab.down()

    assert done.returncode != 0 and "tweetlab/nobody:0" in done.stderr
    assert lab.left() == []


def test_both_files_are_valid_for_compose(docker_engine):
    """`docker compose config` resolves every variable, anchor and dependency."""
    for which in images.SETS:
        lab = ComposeLab(docker_engine, RANGE, PORT, which)
        services = yaml.safe_load(lab.compose("--profile", "observability", "config").stdout)["services"]
        assert services["redis-1"]["networks"]["lab"]["ipv4_address"] == f"198.18.{RANGE}.30"
        assert len(services) == 28
    assert stand_ins.FILES[0] == "docker-compose.yml"
