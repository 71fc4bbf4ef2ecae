"""A container is the native node with other paths: same program and flags, its image's directories, no privileges."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform import blueprint as blueprints
from system.platform.addresses import KINDS, Plan
from system.platform.containers import compose, contract, images, render, spec
from system.platform.install.packages import JAEGER
from system.platform.servers import SERVERS
from system.platform.servers.base import Launch, Step

PLAN = Plan(21, bridge=True)
SMALL = blueprints.with_observers(blueprints.load("small"))


def built(images_set: str = "ours") -> dict[str, spec.Container]:
    return {one.name: one for one in spec.containers(SMALL, PLAN, {"TWEETLAB_EDGE_SECRET": "polly"}, images_set)}


def start(one: spec.Container) -> str:
    return one.files[spec.LAB / one.name / "start"]


# ---- addresses ------------------------------------------------------------------------------------------------------


def test_the_first_instance_has_its_native_number_on_the_bridge():
    """127.21.30.1 is 198.18.21.30: rendered files differ in the prefix only."""
    assert {kind: PLAN.host(kind) for kind in KINDS} == {kind: f"198.18.21.{octet}" for kind, (octet, _) in KINDS.items()}


def test_no_two_nodes_share_an_address_on_the_bridge():
    """Further instances take numbers that no kind uses."""
    instances = {kind: 13 if octet >= 100 else 3 for kind, (octet, _) in KINDS.items()}
    hosts = []
    for kind, most in instances.items():
        for instance in range(1, most + 1):
            try:
                hosts.append(PLAN.host(kind, instance))
            except WrongInput:
                assert instance > 1

    assert len(hosts) == len(set(hosts)) > 150
    assert all(7 <= int(host.rpartition(".")[2]) <= 245 or host.endswith(".6") for host in hosts)


def test_an_instance_without_an_address_is_refused():
    """The error names the node and the bound."""
    with pytest.raises(WrongInput, match=r"gateway-14 .*at most 13"):
        PLAN.host("gateway", 14)


# ---- the container of a node ----------------------------------------------------------------------------------------


def test_every_node_of_small_and_its_observers_has_a_container_except_the_log_shipper():
    """Docker collects the logs itself."""
    assert set(built()) == {node.name for node in SMALL.nodes} - {"rsyslog-1"}


def test_a_start_script_runs_the_native_program_with_the_paths_of_the_image():
    """Cassandra keeps its heap, its collector and its flags; only paths and addresses change."""
    script = start(built()["cassandra-1"])

    assert "exec /opt/java/openjdk/bin/java " in script
    assert "-Xmx384m -XX:+UseSerialGC" in script
    assert "-cp '/opt/cassandra/lib/*' org.apache.cassandra.service.CassandraDaemon" in script
    assert "SharedArchiveFile" not in script and "ArchiveClassesAtExit" not in script
    assert "echo 1000000 > /proc/$$/timerslack_ns" in script


def test_nothing_of_this_machine_is_in_a_container():
    """No path of the checkout, the cache or the home directory, and no PATH of the caller."""
    for one in built().values():
        text = "\n".join(one.files.values())
        assert str(Path(__file__).parents[2]) not in text
        assert str(Path.home() / ".cache") not in text
        assert "export PATH=" not in text
        assert "127.21." not in text


def test_configuration_that_a_server_rewrites_is_copied_out_of_the_read_only_directory():
    """Elasticsearch makes its keystore beside it; nginx keeps it beside its cache."""
    elastic, edge = built()["elasticsearch-1"], built()["cdn-1"]

    assert "cp -f /lab/elasticsearch-1/copied/elasticsearch.yml /tmp/elasticsearch/elasticsearch.yml" in start(elastic)
    assert "export ES_PATH_CONF=/tmp/elasticsearch" in start(elastic)
    assert "cp -f /lab/cdn-1/copied/nginx.conf /var/cache/nginx/data/nginx.conf" in start(edge)


def test_data_is_below_the_mount_point():
    """PostgreSQL and Kafka replace their data directory at the first start, which a mount point does not allow."""
    assert "postgres -D /var/lib/postgresql/data/data " in start(built()["postgres-1"])
    assert "log.dirs=/var/lib/kafka/data/data" in built()["kafka-1"].files[spec.LAB / "kafka-1" / "server.properties"]


def test_every_start_script_is_valid_for_a_posix_shell(tmp_path):
    """`sh -n` reads each without an error."""
    for one in built().values():
        file = tmp_path / one.name
        file.write_text(start(one))
        assert subprocess.run(["sh", "-n", str(file)], capture_output=True, text=True).stderr == ""


def test_a_first_step_runs_once_and_before_the_server(tmp_path):
    """`unless` exists afterwards: the second start skips the step."""
    done = tmp_path / "done"
    command = 'echo step "$WHO" >> "$1"; touch "$2"'
    step = Step(("/bin/sh", "-c", command, "sh", str(tmp_path / "out"), str(done)), done, {"WHO": "it's me"})
    launch = Launch(("/bin/sh", "-c", f"echo server >> {tmp_path / 'out'}"), before=(step,), stale=(tmp_path / "stale",),
                    folders=(tmp_path / "data",))
    (tmp_path / "stale").touch()
    text = spec.script(launch, {})

    for _ in range(2):
        subprocess.run(["sh", "-c", text], check=True)

    assert (tmp_path / "out").read_text().splitlines() == ["step it's me", "server", "server"]
    assert (tmp_path / "data").is_dir() and not (tmp_path / "stale").exists()


def test_the_official_elasticsearch_gets_the_heap_that_its_modules_need():
    """512 MiB with the official image, the calibrated 400 with the stand-in."""
    path = spec.LAB / "elasticsearch-1/copied/jvm.options"
    options = {name: built(name)["elasticsearch-1"].files[path] for name in images.SETS}

    assert "-Xmx512m" in options["official"] and "-Xmx400m" in options["ours"]


def test_only_the_public_load_balancer_is_published():
    """Everything else is reachable on the bridge alone."""
    assert {name: dict(one.published) for name, one in built().items() if one.published} == {"haproxy-1": {8080: 8080}}


# ---- images ---------------------------------------------------------------------------------------------------------


def test_every_kind_that_small_starts_has_one_image():
    """A kind in two rows would have two users."""
    listed = [kind for image in images.table().values() for kind in image.kinds]

    assert len(listed) == len(set(listed))
    assert {node.kind for node in spec.inside(SMALL).nodes} <= set(listed) <= set(SERVERS)


def test_no_image_is_latest_and_no_stand_in_has_an_official_name():
    """A false official image would stay in the cache of a user's engine."""
    for image in images.table().values():
        assert image.ours.startswith("tweetlab/")
        assert all(":" in tag and not tag.endswith(":latest") for tag in (image.ours, image.official) if tag)


def test_the_variable_of_an_image_wins_over_the_set():
    """TWEETLAB_IMAGE_REDIS names any image; the rest follows TWEETLAB_IMAGES."""
    redis, kafka = images.table()["redis"], images.table()["kafka"]
    env = {"TWEETLAB_IMAGES": "ours", "TWEETLAB_IMAGE_REDIS": "valkey/valkey:8"}

    assert (redis.tag(env), kafka.tag(env), kafka.tag({})) == ("valkey/valkey:8", kafka.ours, kafka.official)


def test_an_unknown_set_of_images_is_refused():
    """The error names the value and the two that exist."""
    with pytest.raises(WrongInput, match=r"TWEETLAB_IMAGES is 'mine'; it must be official or ours"):
        images.chosen_set({"TWEETLAB_IMAGES": "mine"})


def test_a_program_that_an_image_lacks_names_the_row_to_edit():
    """A server that asks for another program must have it in images.yaml."""
    with pytest.raises(CouldNotRun, match=r"'redis' of images.yaml names no program 'jaeger'"):
        images.InImage(images.table()["redis"]).go(JAEGER)


def test_a_broken_image_is_described_in_sentences():
    """What the engine and the probe report becomes one sentence for each difference."""
    kafka = images.table()["kafka"]
    probed = 'lacks nc\nhas curl\nnot-writable /var/lib/kafka/data\njava openjdk version "11.0.2" 2019\n'

    assert contract.violations(kafka, "norwegian/blue:1", {"StopSignal": "SIGINT"}, probed) == [
        "norwegian/blue:1 stops on SIGINT, not SIGTERM",
        "norwegian/blue:1 lacks the program nc",
        "norwegian/blue:1 has curl, which the original lacks: a check that uses it would prove nothing",
        "norwegian/blue:1: user 1000:1000 cannot write to /var/lib/kafka/data",
        "norwegian/blue:1 has no Java 17 or later in /opt/java/openjdk",
    ]
    assert contract.violations(kafka, "k", {"StopSignal": ""}, 'java openjdk version "21.0.1" 2023') == []


# ---- the renderer ---------------------------------------------------------------------------------------------------


def test_secrets_are_generated_once_and_readable_by_their_owner_only(tmp_path):
    """A second start keeps them, so that tokens stay valid."""
    assert render.main(["small"], tmp_path, {"TWEETLAB_RANGE": "21", "TWEETLAB_IMAGES": "ours"}) == 0
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert render.main(["small", "--observe"], tmp_path, {"TWEETLAB_RANGE": "21", "TWEETLAB_IMAGES": "ours"}) == 0

    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == first
    assert all(len(text) == 64 for text in first.values()) and len(set(first.values())) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "secrets").iterdir())
    assert first["TWEETLAB_JWT_SECRET"] in (tmp_path / "gateway-1/start").read_text()


def test_an_observed_lab_sends_traces_and_lists_its_processes(tmp_path):
    """Prometheus reads targets.json; the services get the address of the collector."""
    render.main(["small"], tmp_path, {"TWEETLAB_RANGE": "21"})
    assert "export TWEETLAB_OTLP=''" in (tmp_path / "gateway-1/start").read_text()
    render.main(["small", "--observe"], tmp_path, {"TWEETLAB_RANGE": "21"})

    assert "export TWEETLAB_OTLP=http://198.18.21.72:4318" in (tmp_path / "gateway-1/start").read_text()
    jobs = {row["labels"]["node"]: row["targets"] for row in json.loads((tmp_path / "targets.json").read_text())}
    assert jobs["gateway-1"] == ["198.18.21.100:8000"] and "exporter-1" in jobs


@pytest.mark.parametrize(("words", "env", "text"), [
    (["smal"], {}, "The blueprint 'smal' is unknown"),
    (["small"], {"TWEETLAB_RANGE": "0"}, "TWEETLAB_RANGE is '0'; it must be a whole number from 1 to 250"),
    (["small"], {"TWEETLAB_RANGE": "x"}, "TWEETLAB_RANGE is 'x'; it must be a whole number from 1 to 250"),
    (["small"], {"TWEETLAB_IMAGES": "mine"}, "TWEETLAB_IMAGES is 'mine'"),
])
def test_bad_input_of_the_renderer_is_one_line_with_the_bound(words, env, text, tmp_path, capsys):
    """It runs inside a container, so its last line is all that a user sees."""
    assert render.main(words, tmp_path, env) == 64
    assert text in capsys.readouterr().err


# ---- docker-compose.yml ---------------------------------------------------------------------------------------------

COMPOSE = yaml.safe_load(compose.text())
STANDIN = yaml.safe_load(compose.standin())


def test_every_service_drops_its_privileges():
    """No capability, no new privileges, no root; the renderer alone is root and may do nothing but chown."""
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        root = service["user"].split(":")[0] == "0"
        assert root == name.startswith("render") and service.get("cap_add", []) == (["CHOWN"] if root else []), name
        assert "privileged" not in service and "network_mode" not in service and service["mem_limit"], name


def test_configuration_is_read_only_for_all_but_the_renderer():
    """A server that was taken over cannot change what the next start of another one runs."""
    writers = {name for name, service in COMPOSE["services"].items() if "config:/lab" in service["volumes"]}

    assert writers == {"render", "render-observed"}
    assert all("config:/lab:ro" in service["volumes"] for name, service in COMPOSE["services"].items() if name not in writers)


def test_one_port_is_published_and_on_loopback():
    """Whatever else listens is reachable on the bridge alone."""
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}

    assert ports == {"haproxy-1": ["127.0.0.1:${TWEETLAB_PORT:-8080}:8080"]}


def test_services_start_after_the_schema_and_the_schema_after_every_store():
    """The order of the native lab."""
    done, healthy = {"condition": "service_completed_successfully"}, {"condition": "service_healthy"}
    stores = {node.name for node in blueprints.load("small").of_role("store")}

    assert COMPOSE["services"]["prepare"]["depends_on"] == {"render": done, **dict.fromkeys(stores, healthy)}
    assert all(COMPOSE["services"][node.name]["depends_on"]["prepare"] == done
               for node in blueprints.load("small").of_role("service"))


def test_the_stand_ins_replace_every_official_image_and_nothing_else():
    """A machine without a registry of images asks it for none."""
    assert set(STANDIN["services"]) == set(COMPOSE["services"])
    for name, service in STANDIN["services"].items():
        assert service["pull_policy"] == "never" and ":-tweetlab/" in service["image"], name
    official = [service for service in COMPOSE["services"].values() if ":-tweetlab/" not in service["image"]]
    assert official and all("build" not in service and "pull_policy" not in service for service in official)


def test_the_image_of_a_container_matches_the_services_file():
    """compose.py and images.yaml give one tag."""
    for one in built("official").values():
        assert COMPOSE["services"][one.name]["image"] == f"${{{one.image.variable}:-{one.image.default()}}}"
        assert COMPOSE["services"][one.name]["user"] == one.user


def test_a_user_is_text_in_yaml_1_1():
    """1000:1000 without quotes is a number to base 60 for some readers."""
    assert 'user: "1000:1000"' in compose.text()
    assert isinstance(dataclasses.replace(images.table()["redis"]).user, str)
