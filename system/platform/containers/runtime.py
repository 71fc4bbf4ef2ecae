"""Runs the nodes of a lab as containers on a bridge network of their own: `tweetlab up --provider docker`.

The supervisor stays a process of this machine. It reaches the containers at their addresses on the bridge, so no
port is published and none can be in use. An engine in a virtual machine (Docker Desktop) has no such bridge here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from system.kernel.errors import CouldNotRun
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.containers import api, images, spec
from system.platform.containers.child import ContainerChild
from system.platform.paths import Paths
from system.platform.process import procs
from system.platform.process.child import Changed, Child
from system.platform.servers.base import Context

GATEWAY = 1  # fourth octet of this machine's address on the bridge
STANDIN_FILE = "docker-compose.standin.yml"


class DockerRuntime:
    """The containers of one lab. The engine is first used by `prepare`."""

    name = "docker"

    def __init__(self, lab: Paths) -> None:
        self._paths, self.plan = lab, Plan(lab.range, bridge=True)
        self._engine: Any = None
        self._accounting = ""

    @property
    def accounting(self) -> str:
        if not self._accounting:
            self._accounting = accounting(self._client)
        return self._accounting

    @property
    def network(self) -> str:
        """The name of the lab's network."""
        return f"tweetlab-{self._paths.lab_id}"

    @property
    def _client(self) -> Any:
        if self._engine is None:
            self._engine = api.connect()
        return self._engine

    def context(self, node: Node, blueprint: Blueprint, env: Mapping[str, str]) -> Context:
        given = {"TWEETLAB_CDN": f"http://{self.plan.of('nginx')}", **env}
        return spec.context(node, spec.inside(blueprint), self.plan, given, images.chosen_set())

    async def prepare(self, nodes: tuple[Node, ...]) -> None:
        await api.in_thread(self._prepare, nodes)

    def _prepare(self, nodes: tuple[Node, ...]) -> None:
        ensure_images(self._client, [images.of_kind(node.kind) for node in nodes])
        self._ensure_network()
        found = described(self._client, nodes)
        known = read_engine(self._paths)
        self._paths.engine.write_text(json.dumps({"control_groups": self.accounting, "images": known["images"] | found}))

    def _ensure_network(self) -> None:
        import docker.errors
        import docker.types

        with api.errors("look for the lab's network"), contextlib.suppress(docker.errors.NotFound):
            self._client.networks.get(self.network)
            return
        block = self.plan.network()
        pool = docker.types.IPAMPool(subnet=block, gateway=self.plan.on_bridge(GATEWAY))
        try:
            with api.errors(f"create the network {block}"):
                self._client.networks.create(
                    self.network, driver="bridge", internal=False, labels=api.labels(self._paths),
                    ipam=docker.types.IPAMConfig(pool_configs=[pool]))
        except CouldNotRun as problem:
            if "overlap" not in problem.detail:
                raise
            raise CouldNotRun(f"The network {block} is in use{self._holder(block)}. Stop what uses it (`docker compose down`, or "
                              "`tweetlab down` in the other checkout), or set another TWEETLAB_RANGE.") from None

    def _holder(self, block: str) -> str:
        """Return as text which network of the engine has the block; "" if none says so."""
        with api.errors("list networks"):
            for network in self._client.networks.list():
                pools = (network.attrs.get("IPAM") or {}).get("Config") or []
                if any(pool.get("Subnet") == block for pool in pools):
                    return f" by Docker's network {network.name!r}"
        return " on this machine"

    def child(self, ctx: Context, changed: Changed) -> Child:
        return ContainerChild(ctx, self._paths, self._client, self.network, changed)

    def process_tree(self) -> procs.Tree | None:
        return None

    async def remove(self) -> None:
        await api.in_thread(api.sweep, self._client, self._paths)


def read_engine(lab: Paths) -> dict[str, Any]:
    """Return what the last start recorded: `control_groups`, and by kind of node the `images` with tag and digest.

    Later commands read it here, whatever images their own environment selects.
    """
    try:
        return dict(json.loads(lab.engine.read_text()))
    except (OSError, ValueError):
        return {"control_groups": "none", "images": {}}


def ensure_images(client: Any, wanted: Sequence[images.Image]) -> None:
    """Pull the images that the engine lacks.

    Raises CouldNotRun, with a list and the fix, if some are absent and cannot be pulled.
    """
    lacking = []
    for tag, image in absent(client, wanted).items():
        reason = _pull(client, image, tag)
        if reason:
            lacking.append(f"{tag} ({', '.join(image.kinds[:3])}{', …' if len(image.kinds) > 3 else ''}): {reason}")
    if lacking:
        raise CouldNotRun("\n".join((
            "Images are missing:", *lacking,
            "To build them on this machine: make docker-images, then TWEETLAB_IMAGES=ours selects the stand-ins of the official "
            f"ones ({STANDIN_FILE}). Or name another image in TWEETLAB_IMAGE_<ROW>.")))


def absent(client: Any, wanted: Sequence[images.Image]) -> dict[str, images.Image]:
    """Return the configured images that the engine lacks, by tag."""
    import docker.errors

    lacking = {}
    for tag, image in {image.tag(): image for image in wanted}.items():
        with api.errors(f"look for the image {tag}"):
            try:
                _ = client.images.get(tag)
            except docker.errors.ImageNotFound:
                lacking[tag] = image
    return lacking


def _pull(client: Any, image: images.Image, tag: str) -> str:
    """Pull an image; return "" or why it could not be pulled."""
    if tag == image.ours:
        return "it is built, not pulled"
    try:
        with api.errors("pull"):
            client.images.pull(tag)
    except CouldNotRun as problem:
        return problem.detail.splitlines()[0]
    return ""


def accounting(client: Any) -> str:
    """Return "v1" or "v2", the control groups of the engine; "none" if this machine cannot read them."""
    with api.errors("read its description"):
        version = str(client.info().get("CgroupVersion", ""))
    readable = (api.CGROUPS / "cpuacct").exists() if version == "1" else (api.CGROUPS / "cgroup.controllers").exists()
    return f"v{version}" if version and readable else "none"


def described(client: Any, nodes: Sequence[Node]) -> dict[str, dict[str, str]]:
    """Return by kind the image of each node, for the record of a run: its tag and its digest.

    The digest is the one of the registry; of an image that was built here, the id of its content.
    """
    result = {}
    for kind in sorted({node.kind for node in nodes}):
        tag = images.of_kind(kind).tag()
        with api.errors(f"read the image {tag}"):
            attrs = client.images.get(tag).attrs
        digests = attrs.get("RepoDigests") or []
        result[kind] = {"image": tag, "digest": digests[0].rpartition("@")[2] if digests else str(attrs["Id"])}
    return result
