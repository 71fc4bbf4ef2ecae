"""Whether an image keeps the contract of its row in images.yaml: what a container of ours needs from it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from system.kernel.errors import CouldNotRun
from system.platform.containers import images
from system.platform.containers.engine import Found
from system.platform.containers.images import Image

PROBE_S = 60.0
MIN_JAVA = 17

# Prints one line per fact. Only shell built-ins: nothing else is known to be in the image. In subshells, because a
# redirection that fails ends the shell of a special built-in.
PROBE = """
for word in $NEEDED; do command -v "$word" >/dev/null 2>&1 || echo "lacks $word"; done
for word in $ABSENT; do command -v "$word" >/dev/null 2>&1 && echo "has $word"; done
if [ -n "$VOLUME" ]; then
  [ -d "$VOLUME" ] || echo "no-volume $VOLUME"
  (: > "$VOLUME/probe") 2>/dev/null || echo "not-writable $VOLUME"
fi
(: > /tmp/probe) 2>/dev/null || echo "not-writable /tmp"
[ -z "$JAVA" ] || "$JAVA/bin/java" -version 2>&1 | while read -r line; do echo "java $line"; done
exit 0
"""


def check(found: Found, image: Image, tag: str, strict: bool) -> list[str]:
    """Return how `tag` breaks the contract of `image`, one sentence each; [] if it keeps it.

    `strict`: tools that the original lacks must be absent too. Raises CouldNotRun, with the fix, if the engine
    has no such image.
    """
    done = _docker(found, "image", "inspect", tag)
    if done.returncode != 0:
        raise CouldNotRun(missing(image, tag))
    inspected = json.loads(done.stdout)[0]["Config"]
    env = {"NEEDED": " ".join((*image.tools, *image.programs.values())), "ABSENT": " ".join(image.absent if strict else ()),
           "VOLUME": image.volume, "JAVA": image.java}
    options = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
    volume = ["--volume", image.volume] if image.volume else []
    done = _docker(found, "run", "--rm", "--network", "none", "--label", f"{images.LABEL}=contract", "--cap-drop", "ALL",
                   "--user", image.user, "--entrypoint", "sh", *volume, *options, tag, "-c", PROBE)
    if done.returncode != 0:
        return [f"{tag} does not run `sh` as user {image.user}: {done.stderr.strip()[-300:]}"]
    return violations(image, tag, inspected, done.stdout)


def violations(image: Image, tag: str, inspected: Mapping[str, Any], probed: str) -> list[str]:
    """Return the sentences of `check` for what the engine (`inspected`) and the probe inside the image reported."""
    found = []
    stop = str(inspected.get("StopSignal") or "SIGTERM")
    if stop != image.stop:
        found.append(f"{tag} stops on {stop}, not {image.stop}")
    for line in probed.splitlines():
        kind, _, what = line.partition(" ")
        if kind == "lacks":
            found.append(f"{tag} lacks the program {what}")
        elif kind == "has":
            found.append(f"{tag} has {what}, which the original lacks: a check that uses it would prove nothing")
        elif kind == "no-volume":
            found.append(f"{tag} has no directory {what}")
        elif kind == "not-writable":
            found.append(f"{tag}: user {image.user} cannot write to {what}")
    if image.java and not _is_new_java(probed):
        found.append(f"{tag} has no Java {MIN_JAVA} or later in {image.java}")
    return found


def missing(image: Image, tag: str) -> str:
    """Return the sentence for an image that the engine does not have."""
    if tag == image.ours:
        return f"The image {tag} is not built. To fix: make docker-images"
    return (f"The image {tag} is not on this machine. To fix: docker pull {tag}; without a registry of images: "
            "make docker-images, then TWEETLAB_IMAGES=ours, or with Compose -f docker-compose.standin.yml")


def _is_new_java(probed: str) -> bool:
    words = [line.split('"')[1] for line in probed.splitlines() if line.startswith("java ") and line.count('"') >= 2]
    majors = [word.split(".")[0] for word in words]
    return any(major.isdigit() and int(major) >= MIN_JAVA for major in majors)


def _docker(found: Found, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], env=found.environment(), capture_output=True, text=True, check=False,
                          timeout=PROBE_S)
