"""The table of images (images.yaml), and where the programs of a node are in its image.

| variable | selects |
|---|---|
| TWEETLAB_IMAGES | `official` (default) or `ours`: which column of the table |
| TWEETLAB_IMAGE_REDIS, …_KAFKA, … | the image of one row; it must keep the row's contract |
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.blueprint import Node
from system.platform.install.packages import Go, Maven

TABLE = Path(__file__).with_name("images.yaml")
SETS = ("official", "ours")
LABEL = "tweetlab.lab"  # on every container, network and volume of a lab; its value is the range
HOST_MARK = "{host}"


@dataclass(frozen=True)
class Image:
    """One row of images.yaml, which explains the fields.

    `official`: "" if the image is ours. `volume`, `config`, `java`, `jars`, `home`: "" if it has none.
    `health`: by kind if the kinds of the row differ. `heap_mib`: None for the blueprint's.
    """

    name: str
    ours: str
    target: str
    kinds: tuple[str, ...]
    user: str
    programs: Mapping[str, str]
    stop: str
    tools: tuple[str, ...]
    absent: tuple[str, ...]
    health: Mapping[str, tuple[str, ...]]
    official: str = ""
    java: str = ""
    jars: str = ""
    home: str = ""
    volume: str = ""
    config: str = ""
    heap_mib: int | None = None

    @property
    def variable(self) -> str:
        """The environment variable that selects another image."""
        return f"TWEETLAB_IMAGE_{self.name.upper()}"

    @property
    def uid(self) -> int:
        return int(self.user.split(":")[0])

    @property
    def gid(self) -> int:
        return int(self.user.split(":")[1])

    def default(self, images: str = "official") -> str:
        """Return the tag that a set (one of SETS) names for this row."""
        return self.official if images == "official" and self.official else self.ours

    def tag(self, env: Mapping[str, str] | None = None) -> str:
        """Return the configured tag: the row's variable, else the column that TWEETLAB_IMAGES selects."""
        env = os.environ if env is None else env
        return env.get(self.variable, "").strip() or self.default(chosen_set(env))

    def health_check(self, kind: str, host: str) -> list[str]:
        """Return the command of the health check of a node of `kind` at the address `host`."""
        return [word.replace(HOST_MARK, host) for word in self.health[kind]]

    def adapted(self, node: Node, images: str) -> Node:
        """Return `node` with the heap that the official image needs, if that set is used and needs more."""
        heap = node.running.heap_mib
        if images != "official" or self.heap_mib is None or heap is None or heap >= self.heap_mib:
            return node
        running = dataclasses.replace(node.running, heap_mib=self.heap_mib)
        return dataclasses.replace(node, running=running, memory_mib=node.memory_mib + self.heap_mib - heap)


@dataclass(frozen=True)
class InImage:
    """The programs of an image (`install.programs.Programs`)."""

    image: Image
    writable: bool = field(default=False, init=False)
    open_to_all: bool = field(default=True, init=False)

    def require(self, binary: str) -> str:
        if binary not in self.image.programs:
            raise CouldNotRun(f"The image {self.image.name!r} of images.yaml names no program {binary!r}; add it to its row.")
        return self.image.programs[binary]

    def home(self, package: Maven) -> Path:
        return Path(self.image.home)

    def jars(self, package: Maven) -> str:
        return self.image.jars

    def go(self, package: Go) -> str:
        return self.require(package.name)

    def java(self) -> str:
        return f"{self.image.java}/bin/java"

    def java_home(self) -> Path:
        return Path(self.image.java)

    def postgres(self) -> Path | None:
        return Path(self.require("postgres")).parent

    def python(self) -> str:
        return self.require("python")

    def code(self) -> Path:
        return Path(self.image.home)

    def search_path(self) -> str:
        return ""


@functools.cache
def table() -> dict[str, Image]:
    """Return the rows of images.yaml by name."""
    raw: dict[str, dict[str, Any]] = yaml.safe_load(TABLE.read_text())
    return {name: _image(name, row) for name, row in raw.items()}


def of_kind(kind: str) -> Image:
    """Return the row that runs nodes of `kind`.

    Raises WrongInput for a kind that has no image: it does not run in containers.
    """
    for image in table().values():
        if kind in image.kinds:
            return image
    raise WrongInput(f"A node of the kind {kind!r} does not run in a container; kinds that do: {', '.join(sorted(kinds()))}.")


def kinds() -> set[str]:
    """Return the kinds of nodes that have an image."""
    return {kind for image in table().values() for kind in image.kinds}


def chosen_set(env: Mapping[str, str] | None = None) -> str:
    """Return the value of TWEETLAB_IMAGES, by default `official`. Raises WrongInput for another value."""
    value = (os.environ if env is None else env).get("TWEETLAB_IMAGES", "").strip() or SETS[0]
    if value not in SETS:
        raise WrongInput(f"TWEETLAB_IMAGES is {value[:40]!r}; it must be {' or '.join(SETS)}.")
    return value


def _image(name: str, row: dict[str, Any]) -> Image:
    kinds = tuple(row["kinds"])
    health = row["health"]
    by_kind = health if isinstance(health, dict) else dict.fromkeys(kinds, health)
    listed = {key: tuple(row[key]) for key in ("tools", "absent")}
    return Image(**{**row, **listed, "name": name, "kinds": kinds, "health": {k: tuple(map(str, v)) for k, v in by_kind.items()}})
