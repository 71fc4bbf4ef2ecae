"""The providers: what runs the nodes of a lab, and what each leaves.

| provider | a node is | module |
|---|---|---|
| native | a process of this machine | `process.children` |
| docker | a container on a bridge network of the lab | `containers.runtime` |

The data directory names the provider whose data it holds, so every later command finds it there.
"""

from __future__ import annotations

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.containers import api
from system.platform.containers.runtime import DockerRuntime
from system.platform.paths import Paths
from system.platform.process.child import Runtime
from system.platform.process.children import NativeRuntime

NATIVE, DOCKER = "native", "docker"
PROVIDERS = (NATIVE, DOCKER)


def runtime(name: str, paths: Paths) -> Runtime:
    """Return the runtime of a provider. Raises WrongInput for an unknown one."""
    check_name(name)
    return DockerRuntime(paths) if name == DOCKER else NativeRuntime(paths)


def check_name(name: str) -> None:
    """Raise WrongInput for an unknown provider."""
    if name not in PROVIDERS:
        raise WrongInput(f"The provider {name[:40]!r} is unknown; known are {', '.join(PROVIDERS)}.")


def of(paths: Paths) -> str | None:
    """Return the provider of the lab that runs or has data here; None if there is neither."""
    try:
        name = paths.provider.read_text().strip()
    except OSError:
        # Data without a name is of a native lab.
        return NATIVE if paths.layout.exists() else None
    return name if name in PROVIDERS else None


def choose(paths: Paths, wanted: str | None) -> str:
    """Return the provider for a start. `wanted`: None for that of the lab's data, else native.

    Raises WrongInput for an unknown one, CouldNotRun if the data is of another one.
    """
    if wanted is not None:
        check_name(wanted)
    present = of(paths)
    if wanted is not None and present is not None and wanted != present:
        raise CouldNotRun(f"The lab of range {paths.range} is up, or has data, on the provider {present!r}; to start it on "
                          f"{wanted!r} run `tweetlab down --purge` first, or set another TWEETLAB_RANGE.")
    return wanted or present or NATIVE


def keep(paths: Paths, name: str) -> None:
    """Record the provider of the data that a start creates."""
    paths.provider.write_text(f"{name}\n")


def clean_up(paths: Paths, *, purge: bool = False) -> int:
    """Remove the containers and the network that a lab here left, with `purge` its volumes; return how many containers.

    Does nothing for a native lab. Raises CouldNotRun if the engine does not answer.
    """
    if of(paths) != DOCKER and not paths.engine.exists():
        return 0
    removed = api.sweep(api.connect(), paths, volumes=purge)
    if purge:
        paths.engine.unlink(missing_ok=True)
    return removed
