"""A lab started by `docker compose` alone, as a user would start it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from system.platform.addresses import Plan
from system.platform.containers import engine, stand_ins
from tests.helpers import containers

ROOT = Path(__file__).resolve().parents[2]


class ComposeLab:
    """The project of one range. `images`: `ours` adds docker-compose.standin.yml."""

    def __init__(self, found: engine.Found, range_: int, port: int, images: str) -> None:
        self.found, self.range, self.port = found, range_, port
        self.files = stand_ins.FILES if images == "ours" else stand_ins.FILES[:1]
        self.url = f"http://127.0.0.1:{port}"
        self.address = Plan(range_, bridge=True).of("haproxy")

    @property
    def label(self) -> str:
        return f"tweetlab.lab={self.range}"

    def compose(self, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` with the profile `small`; its output is text."""
        files = [word for file in self.files for word in ("-f", str(ROOT / file))]
        own = {**self.found.environment(), "TWEETLAB_RANGE": str(self.range), "TWEETLAB_PORT": str(self.port), **env}
        done = subprocess.run(["docker", "compose", *files, "--profile", "small", *words], env=own, cwd=os.sep,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0 or not check, f"{words}: {(done.stdout + done.stderr)[-3000:]}\n{self.logs_of_failed()}"
        return done

    def up(self) -> None:
        self.compose("up", "--no-build", "--quiet-pull", "--wait")

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans")

    def logs_of_failed(self) -> str:
        """Return the last lines of containers that exited with an error or are not healthy."""
        listed = containers.docker(self.found, "ps", "-a", "--filter", f"label={self.label}",
                                   "--format", "{{.Names}} {{.Status}}").stdout
        bad = [line.split()[0] for line in listed.splitlines() if "Exited (0)" not in line and "(healthy)" not in line]
        return "\n".join(f"{name}: {containers.docker(self.found, 'logs', '--tail', '8', name).stdout}" for name in bad[:4])

    def left(self) -> list[str]:
        """Return what exists of this lab: containers, networks, volumes."""
        kinds = ("ps -aq", "network ls -q", "volume ls -q")
        return [word for kind in kinds
                for word in containers.docker(self.found, *kind.split(), "--filter", f"label={self.label}").stdout.split()]
