"""How a node runs in a container: image, user, start script, files, mounts, health check, limits.

`container` derives it from the native launch of the node (servers/*.py): the same program, arguments, environment and
configuration, with the paths of the image. docker-compose.yml, `--provider docker` and the tests with
testcontainers all use it. Entrypoints of images are bypassed: they would chown and edit the configuration, and
choose other JVM flags.

| directory in the container | holds | mounted |
|---|---|---|
| /lab/<node> | rendered configuration and the start script | read-only |
| the volume of the image | data | a volume |
| /tmp/lab | sockets, temporary files, configuration that a server rewrites | not needed |
| /effects | effect logs of workers | only for faults (`--provider docker`) |
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.containers import images
from system.platform.containers.images import Image, InImage
from system.platform.paths import Paths
from system.platform.servers import SERVERS
from system.platform.servers.base import Context, Launch, Server, Step

LAB = Path("/lab")
RUN = Path("/tmp/lab")
EFFECTS = Path("/effects")
MEMORY_FACTOR = 2  # of the blueprint's expected resident memory: page cache and bursts; a limit, not a reservation
LEAST_MEMORY_MIB = 128
SHM_MIB = 128  # PostgreSQL's parallel queries; Docker's default of 64 is smaller than one hash table
OPEN_FILES = 65_536
PUBLIC = {"haproxy": 8080}  # kind -> the port that is published on 127.0.0.1, and nothing else is


@dataclass(frozen=True)
class InContainer(Paths):
    """The paths of one node inside its container."""

    image: Image = field(kw_only=True)

    @property
    def lab_id(self) -> str:
        return f"docker-{self.range}"

    @property
    def state(self) -> Path:
        return RUN

    @property
    def data_dir(self) -> Path:
        return RUN

    @property
    def effects(self) -> Path:
        return EFFECTS

    @property
    def targets(self) -> Path:
        return LAB / "targets.json"

    @property
    def expected(self) -> Path:
        return LAB / "expected.json"

    def config(self, node: str) -> Path:
        return Path(self.image.config) if self.image.config else LAB / node

    def data(self, node: str) -> Path:
        """Return a directory inside the volume: servers replace their data directory, a mount point cannot be replaced."""
        return Path(self.image.volume or RUN / node) / "data"


@dataclass(frozen=True)
class Container:
    """One node as a container.

    `files`: path below LAB -> text, the start script included; they belong to `user` and only it may read
    them. `entrypoint`: runs the start script. `volume`: mount point of its data; "" without data.
    `health`: command of the health check. `address`: on the lab's bridge network. `published`: port of the
    container -> port on 127.0.0.1.
    """

    node: Node
    image: Image
    address: str
    entrypoint: tuple[str, ...]
    files: Mapping[Path, str]
    health: tuple[str, ...]
    stop_signal: int
    stop_timeout_s: float
    start_timeout_s: float
    memory_mib: int
    shm_mib: int | None = None
    published: Mapping[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def user(self) -> str:
        return self.image.user

    @property
    def volume(self) -> str:
        return self.image.volume if self.node.role in ("store", "mesh", "observer") else ""

    @property
    def labels(self) -> dict[str, str]:
        return {"tweetlab.node": self.node.name, "tweetlab.kind": self.node.kind}


def context(node: Node, blueprint: Blueprint, plan: Plan, env: Mapping[str, str], image_set: str) -> Context:
    """Return the context of a node in a container. Raises WrongInput for a kind without an image."""
    image = images.of_kind(node.kind)
    inside = InContainer(LAB, plan.range, image=image)
    return Context(image.adapted(node, image_set), blueprint, plan, inside, env, InImage(image))


def container(ctx: Context, server: Server | None = None) -> Container:
    """Return the container of the node of `ctx`, a context of `context`. `server`: None is that of the node's kind."""
    image, node = images.of_kind(ctx.node.kind), ctx.node
    server = server or SERVERS[node.kind]
    launch = server.launch(ctx)
    own = LAB / node.name
    files, copies = {}, {}
    for path, text in launch.files.items():
        if path.is_relative_to(own):
            files[path] = text
        else:  # a directory that the server writes to
            files[own / "copied" / path.name] = text
            copies[own / "copied" / path.name] = path
    start = own / "start"
    files[start] = script(launch, copies, node.running.timer_slack_us)
    port = PUBLIC.get(node.kind)
    return Container(
        node=node,
        image=image,
        address=ctx.host,
        entrypoint=("sh", str(start)),
        files=files,
        health=tuple(image.health_check(node.kind, ctx.host)),
        stop_signal=int(launch.stop_signal),
        stop_timeout_s=launch.stop_timeout_s,
        start_timeout_s=server.start_timeout_s,
        memory_mib=max(LEAST_MEMORY_MIB, MEMORY_FACTOR * node.memory_mib),
        shm_mib=SHM_MIB if node.kind == "postgres" else None,
        published={port: port} if port and node.instance == 1 else {},
    )


def script(launch: Launch, copies: Mapping[Path, Path], slack_us: int = 0) -> str:
    """Return the start script of a launch: environment, directories, configuration, first steps, `exec`.

    `copies`: rendered file -> where the server expects it. `slack_us`: see `blueprint.Running`.
    """
    folders = dict.fromkeys((*launch.folders, *(path.parent for path in copies.values()), RUN))
    lines = ["#!/bin/sh", "set -eu", "umask 077"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(launch.env.items())]
    lines += [f"mkdir -p {shlex.quote(str(folder))}" for folder in folders if not folder.is_relative_to(LAB)]
    lines += [f"rm -f {shlex.quote(str(path))}" for path in launch.stale]
    lines += [f"cp -f {shlex.quote(str(source))} {shlex.quote(str(target))}" for source, target in copies.items()]
    lines += [_step(step) for step in launch.before]
    lines += [f"echo {slack_us * 1_000} > /proc/$$/timerslack_ns"] if slack_us else []
    lines += [f"cd {shlex.quote(str(launch.cwd))}"] if launch.cwd else []
    return "\n".join([*lines, f"exec {shlex.join(launch.argv)}", ""])


def _step(step: Step) -> str:
    env = "".join(f"{name}={shlex.quote(value)} " for name, value in sorted(step.env.items()))
    return f"[ -e {shlex.quote(str(step.unless))} ] || {env}{shlex.join(step.argv)}"


def prepare_script(ctx: Context) -> str:
    """Return the start script of the one-shot container that creates database and schema.

    `ctx`: the context of one of our services.
    """
    launch = SERVERS[ctx.node.kind].launch(ctx)
    argv = (ctx.programs.python(), "-m", "system.bootstrap")
    return script(dataclasses.replace(launch, argv=argv, env={**launch.env, "TWEETLAB_NODE": "prepare"}), {})


def containers(blueprint: Blueprint, plan: Plan, env: Mapping[str, str], image_set: str) -> list[Container]:
    """Return the containers of a blueprint, without its nodes that have no container (see `inside`)."""
    lab = inside(blueprint)
    return [container(context(node, lab, plan, env, image_set)) for node in lab.nodes]


def inside(blueprint: Blueprint) -> Blueprint:
    """Return the blueprint of the same lab in containers: Docker collects logs and resolves names itself."""
    return dataclasses.replace(blueprint, nodes=tuple(node for node in blueprint.nodes if node.kind not in ("rsyslog", "pdns")))
