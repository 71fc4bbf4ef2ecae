"""Writes configuration, start scripts and secrets of a lab into the volume that its containers read.

    python -m system.platform.containers.render small [--observe]

The one-shot service `render` of docker-compose.yml. It runs as root with the one capability CHOWN: each file
belongs to the user of its container, and nobody else may read it. Safe to repeat: secrets are kept.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from system.kernel import settings
from system.kernel.errors import LabError
from system.kernel.policies import Policies
from system.platform import blueprint as blueprints
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint
from system.platform.containers import images, spec
from system.platform.containers.images import Image
from system.platform.containers.spec import Container

SECRET_BYTES = 32
SECRETS = ("TWEETLAB_JWT_SECRET", "TWEETLAB_EDGE_SECRET")
PASSED = ("TWEETLAB_POLICIES", "TWEETLAB_TRACE_RATIO", "TWEETLAB_METRICS", "TWEETLAB_ORIGINS")


def main(words: list[str], folder: Path = spec.LAB, env: Mapping[str, str] | None = None) -> int:
    """Render a blueprint. Exit: 0 written, else the code of the error, with one line that names the fix."""
    env = os.environ if env is None else env
    try:
        names = [word for word in words if not word.startswith("-")]
        blueprint = blueprints.load(names[0] if names else "small")
        if "--observe" in words:
            blueprint = blueprints.with_observers(blueprint)
        plan = Plan(settings.range_of(env.get("TWEETLAB_RANGE", "1")), bridge=True)
        ours = services_env(folder, plan, env)
        built = spec.containers(blueprint, plan, ours, images.chosen_set(env))
        write(folder, built)
        service = spec.inside(blueprint).of_role("service")[0]
        ctx = spec.context(service, spec.inside(blueprint), plan, ours, images.chosen_set(env))
        put(folder / "prepare" / "start", spec.prepare_script(ctx), images.of_kind(service.kind))
        write_discovery(folder, spec.inside(blueprint), plan)
    except LabError as problem:
        print(problem.detail, file=sys.stderr)
        return problem.exit_code
    print(f"rendered {len(built)} containers of {blueprint.name!r} for {plan.network()}")
    return 0


def services_env(folder: Path, plan: Plan, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of our services: secrets, the edge, and what the caller passed."""
    return {
        "TWEETLAB_POLICIES": Policies().to_json(),
        "TWEETLAB_EFFECTS": "",
        "TWEETLAB_CDN": f"http://{plan.of('nginx')}",
        **{name: env[name] for name in PASSED if env.get(name)},
        **{name: secret(folder, name) for name in SECRETS},
    }


def secret(folder: Path, name: str) -> str:
    """Return a generated secret; created at the first start, readable by its owner only."""
    path = folder / "secrets" / name
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(secrets.token_hex(SECRET_BYTES))
        part.replace(path)
    return path.read_text()


def write(folder: Path, built: Iterable[Container]) -> None:
    """Write the files of `built` below `folder`, which stands for /lab."""
    for one in built:
        for path, text in one.files.items():
            put(folder / path.relative_to(spec.LAB), text, one.image)


def put(target: Path, text: str, image: Image) -> None:
    """Write one file that only the user of `image` may read; it appears by one rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    if os.geteuid() == 0:
        part.chmod(0o400)
        os.chown(part, image.uid, image.gid)
    else:  # it cannot be given to another user, who has to read it
        part.chmod(0o444)
    part.replace(target)


def write_discovery(folder: Path, blueprint: Blueprint, plan: Plan) -> None:
    """Write the lists of our processes that Prometheus and the exporter read."""
    ours = [node for node in blueprint.nodes if node.module]
    rows = [{"targets": [plan.of(node.kind, node.instance)], "labels": {"job": node.kind, "node": node.name}} for node in ours]
    (folder / "targets.json").write_text(json.dumps(rows, indent=1))
    (folder / "expected.json").write_text(json.dumps({node.name: True for node in ours}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
