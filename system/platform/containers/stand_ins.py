"""Builds every image of docker-compose.standin.yml on this machine, from package registries alone.

    python -m system.platform.containers.stand_ins

The base image is Debian of this machine's own release by debootstrap, with Python. Root and Debian are required.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from system.kernel.errors import CouldNotRun, LabError
from system.platform import paths
from system.platform.containers import engine
from system.platform.install import fetch, packages

BASE = "tweetlab/base:debian"
INCLUDED = ("ca-certificates", "python3", "python3-venv")
FILES = ("docker-compose.yml", "docker-compose.standin.yml")
PROJECT = "1"
PROFILES = ("small", "observability")
KEEP_NO_PACKAGES = """\
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
"""As in Debian's official image: without it each `apt-get install` leaves 80 MB in its layer."""
SERVERS = (packages.CASSANDRA, packages.KAFKA, packages.ELASTICSEARCH, packages.MINIO, packages.JAEGER)


def build(say: engine.Say) -> None:
    """Build the images that are missing or outdated. Raises CouldNotRun, with the end of the output."""
    found = engine.find()
    for package in SERVERS:
        if packages.missing(package):
            asyncio.run(fetch.fetch(package, lambda name, text: say(f"{name}: {text}")))
    if not has(found, BASE):
        _make_base(found, say)
    began = time.monotonic()
    say("building the images (minutes the first time)")
    run(found, compose_command("build", "--quiet"))
    # What these builds replaced: images without a name.
    run(found, ["docker", "image", "prune", "--force", "--filter", f"label=com.docker.compose.project=tweetlab-{PROJECT}"])
    say(f"images are built after {time.monotonic() - began:.0f} s")


def compose_command(*words: str) -> list[str]:
    """Return a `docker compose` command on both files with all profiles."""
    files = [word for file in FILES for word in ("-f", str(paths.CODE / file))]
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    return ["docker", "compose", *files, *profiles, *words]


def has(found: engine.Found, tag: str) -> bool:
    """Return whether the engine has this image."""
    command = ["docker", "image", "inspect", tag]
    return subprocess.run(command, env=found.environment(), capture_output=True, check=False).returncode == 0


def run(found: engine.Found, command: list[str], within_s: float = 3_600) -> str:
    """Run a `docker` command; return its output. Raises CouldNotRun with the end of it."""
    env = {**found.environment(), **build_environment()}
    done = subprocess.run(command, env=env, cwd=paths.CODE, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=within_s)
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise CouldNotRun(f"{' '.join(command)} failed with exit code {done.returncode}:\n{end}")
    return done.stdout


def build_environment() -> dict[str, str]:
    """Return what docker-compose.standin.yml reads: the cache of servers, pip's configuration, certificates.

    The range is fixed: Compose writes the name of the project into each image, which would differ by range.
    """
    candidates = (Path.home() / ".config/pip/pip.conf", Path("/etc/pip.conf"))
    pip_conf = next((str(path) for path in candidates if path.is_file()), "/dev/null")
    return {"TWEETLAB_RANGE": PROJECT, "TWEETLAB_SERVERS": str(packages.cache() / "servers"), "TWEETLAB_PIP_CONF": pip_conf}


def _make_base(found: engine.Found, say: engine.Say) -> None:
    program, env = engine.debootstrap()
    source, release = engine.debian_source(), engine.debian_release()
    if os.geteuid() != 0 or program is None or source is None:
        raise CouldNotRun(f"The base image {BASE} is made by debootstrap, as root on Debian. Elsewhere name another base: "
                          "docker tag debian:bookworm-slim " + BASE)
    say(f"making {BASE} from Debian's {release} (half a minute, once)")
    folder = Path(tempfile.mkdtemp(prefix="tweetlab-base-", dir=paths.data_dirs()))
    try:
        command = [program, "--variant=minbase", f"--include={','.join(INCLUDED)}", release, str(folder / "root"), source]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=1_800)
        if done.returncode != 0:
            end = "\n".join(done.stdout.splitlines()[-8:])
            raise CouldNotRun(f"{' '.join(command)} failed with exit code {done.returncode}:\n{end}{done.stderr}")
        for useless in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(folder / "root" / useless, ignore_errors=True)
        (folder / "root/var/cache/apt/archives/partial").mkdir(parents=True)
        (folder / "root/etc/dpkg/dpkg.cfg.d/lean").write_text("path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n")
        (folder / "root/etc/apt/apt.conf.d/docker-clean").write_text(KEEP_NO_PACKAGES)
        archive = folder / "base.tar"
        subprocess.run(["tar", "-C", str(folder / "root"), "-cf", str(archive), "."], check=True, timeout=600)
        change = 'ENV PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'
        run(found, ["docker", "import", "--change", change, str(archive), BASE])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Build the images. Exit: 0, or the code of the error."""
    try:
        build(engine.announce)
    except LabError as problem:
        print(problem.detail, file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
