"""docker-compose.yml and docker-compose.standin.yml, written from the blueprint table (`make reference`).

The files hold what a reader of Compose expects to find: images, users, volumes, health checks, order, limits, ports.
Programs, flags and configuration come from the same modules as in the native lab: the one-shot service `render`
writes them into a volume.
"""

from __future__ import annotations

import re
import signal
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from system.platform import blueprint as blueprints
from system.platform.addresses import PREPARE_HOST, RENDER_HOST, Plan
from system.platform.blueprint import Blueprint
from system.platform.containers import images, spec
from system.platform.containers.images import Image
from system.platform.containers.spec import Container

RANGE = "${TWEETLAB_RANGE:-1}"
PORT = "${TWEETLAB_PORT:-8080}"
START_INTERVAL = "500ms"  # of health checks while a container starts; needs Engine 25
INTERVAL = "10s"  # afterwards: a check costs a process
RENDER_MIB, PREPARE_MIB = 128, 256
WRITTEN = "# Written by `make reference` from system/platform/blueprint.py and containers/images.yaml. Do not edit.\n"

HEAD = WRITTEN + """#
#   docker compose --profile small up --wait          http://127.0.0.1:8080 (TWEETLAB_PORT), or 198.18.1.9:8080 on Linux
#   docker compose --profile small --profile observability up --wait
#   docker compose --profile small --profile observability down --volumes
#
# docs/how-to/containers.md explains it, and what to add on a machine that cannot pull images.

name: tweetlab-${TWEETLAB_RANGE:-1}

x-node: &node
  restart: "no"
  logging: {driver: local}
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]

services:
"""

STANDIN_HEAD = WRITTEN + """#
# For machines that reach package registries and no registry of images: replaces every official image by a stand-in
# that this machine builds.
#
#   make docker-images        the base image, then these
#   docker compose -f docker-compose.yml -f docker-compose.standin.yml --profile small up --no-build --wait

x-build: &build
  context: .
  network: host
  args: {PYTHON_BASE: "tweetlab/base:debian", DEBIAN_BASE: "tweetlab/base:debian", MINIO_PROGRAM: minio-cache}
  secrets: [pip, ca]
  additional_contexts:
    servers: ${TWEETLAB_SERVERS:-${HOME}/.cache/tweetlab/servers}
    minio-cache: ${TWEETLAB_SERVERS:-${HOME}/.cache/tweetlab/servers}/minio-20260212

services:
"""

STANDIN_TAIL = """
secrets:
  pip: {file: "${TWEETLAB_PIP_CONF:-/dev/null}"}
  ca: {file: "${TWEETLAB_CA:-/etc/ssl/certs/ca-certificates.crt}"}
"""


def text() -> str:
    """Return docker-compose.yml."""
    small = blueprints.load("small")
    lab = spec.inside(blueprints.with_observers(small))
    built = spec.containers(lab, Plan(1, bridge=True), {}, "official")
    services = [_render(), _prepare(small), _render_observed(), *(_node(one) for one in built)]
    stored = [one.name for one in built if one.volume]
    tail = {
        "networks": {"lab": {"driver": "bridge", "ipam": {"config": [{"subnet": _in_range(Plan(1, bridge=True).network())}]},
                             "labels": {images.LABEL: RANGE}}},
        "volumes": {"config": _labels(), **{name: _labels() for name in stored}},
    }
    return HEAD + "\n".join(services) + "\n" + _yaml(tail)


def standin() -> str:
    """Return docker-compose.standin.yml."""
    lab = spec.inside(blueprints.with_observers(blueprints.load("small")))
    rows: list[str] = []
    built: set[str] = set()
    one_shots = [(name, images.of_kind("gateway")) for name in ("render", "prepare", "render-observed")]
    for name, image in (*one_shots, *((node.name, images.of_kind(node.kind)) for node in lab.nodes)):
        first = image.name not in built
        built.add(image.name)
        rows += [f"  {name}:", f"    image: {_tag(image, 'ours')}", "    pull_policy: never"]
        rows += [f"    build: {{<<: *build, target: {image.target}}}"] if first else []
        rows += ["    environment: {TWEETLAB_IMAGES: ours}"] if name.startswith("render") else []
    return STANDIN_HEAD + "\n".join(rows) + "\n" + STANDIN_TAIL


def _node(one: Container) -> str:
    profile = "observability" if one.node.role == "observer" else blueprints.load("small").name
    body: dict[str, Any] = {
        "profiles": [profile],
        **_image(one.image, build=one.image.name != "services"),
        "user": one.user,
        "entrypoint": list(one.entrypoint),
        "command": [],
        "volumes": ["config:/lab:ro", *([f"{one.name}:{one.volume}"] if one.volume else [])],
        "networks": {"lab": {"ipv4_address": _in_range(one.address)}},
        **({"ports": [f"127.0.0.1:{PORT}:{inside}" for inside in one.published]} if one.published else {}),
        "healthcheck": _health(one),
        "depends_on": _waits(one),
        "stop_signal": signal.Signals(one.stop_signal).name,
        "stop_grace_period": f"{one.stop_timeout_s:g}s",
        "mem_limit": f"{one.memory_mib}m",
        **({"shm_size": f"{one.shm_mib}m"} if one.shm_mib else {}),
        **_labels(node=one.name),
    }
    return _service(one.name, body)


def _waits(one: Container) -> dict[str, Any]:
    done = {"condition": "service_completed_successfully"}
    if one.node.role == "observer":
        return {"render-observed": done}
    if one.node.role == "service":  # with observers, the services send traces
        return {"prepare": done, "render-observed": {**done, "required": False}}
    return {"render": done}


def _health(one: Container) -> dict[str, Any]:
    test = ["CMD", *(_in_range(word) for word in one.health)]
    return {"test": test, "interval": INTERVAL, "timeout": "5s", "retries": 3, "start_period": f"{one.start_timeout_s:.0f}s",
            "start_interval": START_INTERVAL}


def _render() -> str:
    return _service("render", {**_one_shot(["small"], "small", RENDER_HOST, RENDER_MIB), **_renders("small")},
                    "Writes configuration and generated secrets into the volume that all others read.")


def _render_observed() -> str:
    body = {**_one_shot(["observability"], "observability", RENDER_HOST + 2, RENDER_MIB), **_renders("small", "--observe"),
            "depends_on": {"render": {"condition": "service_completed_successfully"}}}
    return _service("render-observed", body, "The same with the observability stack; the services then send traces to it.")


def _renders(*words: str) -> dict[str, Any]:
    """Return the part of a service that runs the renderer: the one root, which may do nothing but chown."""
    return {
        "user": "0:0",
        "cap_add": ["CHOWN"],
        "command": ["system.platform.containers.render", *words],
        "environment": {"TWEETLAB_RANGE": RANGE, "TWEETLAB_IMAGES": "${TWEETLAB_IMAGES:-official}",
                        "TWEETLAB_ORIGINS": f"http://127.0.0.1:{PORT} http://localhost:{PORT}",
                        **{name: f"${{{name}:-}}" for name in ("TWEETLAB_POLICIES", "TWEETLAB_TRACE_RATIO")}},
        "volumes": ["config:/lab"],
    }


def _one_shot(profiles: list[str], name: str, host: int, memory_mib: int) -> dict[str, Any]:
    return {
        "profiles": profiles,
        **_image(images.of_kind("gateway"), build=name == "small"),
        "networks": {"lab": {"ipv4_address": _in_range(Plan(1, bridge=True).on_bridge(host))}},
        "mem_limit": f"{memory_mib}m",
        **_labels(),
    }


def _prepare(blueprint: Blueprint) -> str:
    waits = {node.name: {"condition": "service_healthy"} for node in blueprint.of_role("store")}
    body = {
        **_one_shot(["small"], "prepare", PREPARE_HOST, PREPARE_MIB),
        "user": images.of_kind("gateway").user,
        "entrypoint": ["sh", "/lab/prepare/start"],
        "command": [],
        "volumes": ["config:/lab:ro"],
        "depends_on": {"render": {"condition": "service_completed_successfully"}, **waits},
    }
    return _service("prepare", body, "Creates database, keyspace, topics, index and bucket.")


def _image(image: Image, build: bool) -> dict[str, Any]:
    """Return image and pull policy; ours are built, never pulled: nobody else may publish under their names."""
    row: dict[str, Any] = {"image": _tag(image, "official")}
    if image.official:
        return row
    return {**row, **({"build": {"context": ".", "target": image.target}} if build else {}), "pull_policy": "never"}


def _tag(image: Image, images_set: str) -> str:
    return f"${{{image.variable}:-{image.default(images_set)}}}"


def _labels(**further: str) -> dict[str, Any]:
    return {"labels": {images.LABEL: RANGE, **{f"tweetlab.{key}": value for key, value in further.items()}}}


def _in_range(text: str) -> str:
    return text.replace("198.18.1.", f"198.18.{RANGE}.")


def _service(name: str, body: Mapping[str, Any], comment: str = "") -> str:
    head = f"  # {comment}\n" if comment else ""
    container = f"    container_name: tweetlab-{RANGE}-{name}\n"
    return f"{head}  {name}:\n    <<: *node\n{container}" + textwrap.indent(_yaml(body), "    ")


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=1_000)


class _Dumper(yaml.SafeDumper):
    """Quotes uid:gid, which YAML 1.1 would read as a number to base 60, and never writes aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def quoted(self, text: str) -> yaml.Node:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if re.fullmatch(r"\d+:\d+", text) else None)


_Dumper.add_representer(str, _Dumper.quoted)


def files() -> Iterable[tuple[str, str]]:
    """Return (name, text) of both files."""
    return (("docker-compose.yml", text()), ("docker-compose.standin.yml", standin()))
