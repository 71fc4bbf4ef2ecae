"""A private Docker engine, for machines that have none: unpacked, not installed, and stopped again.

    python -m system.platform.containers.engine start|stop|status

It needs root and Debian's packages. Its programs are unpacked into the cache, and its data is in a directory of its
own: no package is installed, no service is added, no firewall rule is changed, and an engine of this machine is not
touched. Ports are published by its proxy process, builds use the network of the host.

Which engine is used: DOCKER_HOST, else the default socket if an engine answers there, else the private one.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from system.kernel.errors import CouldNotRun, LabError
from system.platform import paths
from system.platform.install import packages

# Debian 12 has Docker 20.10, which has neither BuildKit nor `start_interval`. Debian 13's packages run on it too,
# except runc, which needs a newer libc: that one is of the machine's own release.
SUITE = "trixie"
FROM_SUITE = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd")
FROM_OWN = ("runc", "debootstrap")
MIN_API = (1, 44)  # Engine 25: the first with `start_interval`
DEFAULT_SOCKET = "/var/run/docker.sock"
START_S = 30.0
STOP_S = 30.0
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UNIX = "unix://"
Say = Callable[[str], None]


def home() -> Path:
    """Return the directory of the unpacked programs."""
    return packages.cache() / "engine"


def data() -> Path:
    """Return the directory of the private engine's data, socket and log."""
    return paths.data_dirs() / f"tweetlab-engine{os.geteuid()}"


def private_host() -> str:
    """Return the DOCKER_HOST of the private engine."""
    return f"{UNIX}{data()}/docker.sock"


@dataclass(frozen=True)
class Found:
    """An engine that answers. `host`: its DOCKER_HOST; `version`, `api`: as it reports them."""

    host: str
    version: str
    api: str
    private: bool

    def environment(self) -> dict[str, str]:
        """Return the environment for `docker` and its plugins."""
        env = {**os.environ, "DOCKER_HOST": self.host}
        if self.private or not packages.find("docker"):
            env |= {"PATH": f"{home()}/usr/bin:{os.environ.get('PATH', '')}", "DOCKER_CONFIG": str(home() / "config")}
        return env


def find() -> Found:
    """Return the engine to use.

    Raises CouldNotRun that names the cause (no engine, no permission, too old) and the fix.
    """
    given = os.environ.get("DOCKER_HOST", "").strip()
    private = [private_host()] if (data() / "docker.sock").exists() else []
    hosts = [given] if given else [f"{UNIX}{DEFAULT_SOCKET}", *private]
    reasons = []
    for host in hosts:
        try:
            return _checked(host)
        except CouldNotRun as problem:
            reasons.append(problem.detail)
    raise CouldNotRun("\n".join(dict.fromkeys(reasons)))


def _checked(host: str) -> Found:
    reply = _version(host)
    api = str(reply.get("ApiVersion", "0.0"))
    if tuple(map(int, api.split("."))) < MIN_API:
        raise CouldNotRun(
            f"The Docker engine at {host} is {reply.get('Version')} (API {api}); API {'.'.join(map(str, MIN_API))}, that is "
            "Engine 25, or later is required. Update it, or start a private one: make docker-engine")
    return Found(host, str(reply.get("Version")), api, host == private_host())


def _version(host: str) -> dict[str, object]:
    if not host.startswith(UNIX):
        raise CouldNotRun(f"DOCKER_HOST is {host!r}; a lab needs an engine on this machine: unix:///path/of/docker.sock.")
    path = host.removeprefix(UNIX)
    try:
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(path)
        connection.request("GET", "/version")
        return dict(json.loads(connection.getresponse().read()))
    except FileNotFoundError:
        raise CouldNotRun(f"No Docker engine: {path} does not exist. Start Docker, or as root on Debian: "
                          "make docker-engine") from None
    except PermissionError:
        raise CouldNotRun(f"This user may not use the Docker engine at {path}. Add it to the group `docker` and log in again, "
                          "or run the command as root.") from None
    except (OSError, ValueError, http.client.HTTPException) as problem:
        raise CouldNotRun(f"The Docker engine at {path} does not answer ({problem}). Start it, or as root on Debian: "
                          "make docker-engine") from None
    finally:
        connection.close()


def start(say: Say) -> Found:
    """Start the private engine, fetching it the first time, unless an engine answers already. Safe to repeat."""
    with contextlib.suppress(CouldNotRun):
        found = find()
        say(f"Docker {found.version} answers at {found.host}")
        return found
    if os.geteuid() != 0:
        raise CouldNotRun("A private Docker engine needs root. Install Docker Engine 25 or later, or run this as root.")
    folder = data()
    folder.mkdir(mode=0o711, exist_ok=True)
    with _lock(folder / "lock"):
        with contextlib.suppress(CouldNotRun):
            return _checked(private_host())
        fetch(say)
        return _spawn(folder, say)


def _spawn(folder: Path, say: Say) -> Found:
    programs = home()
    (folder / "daemon.json").write_text("{}\n")
    command = [
        str(programs / "usr/sbin/dockerd"), "--config-file", str(folder / "daemon.json"),
        "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "docker.pid"),
        "--host", private_host(), "--group", str(os.getegid()), "--log-level", "warn",
        # A lab has a network of its own, and reaches no other: no default bridge, no rule in the firewall.
        "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
        "--userland-proxy-path", str(programs / "usr/sbin/docker-proxy"), "--init-path", str(programs / "usr/bin/docker-init"),
    ]  # fmt: skip
    env = {**os.environ, "PATH": f"{programs}/usr/bin:{programs}/usr/sbin:{os.environ.get('PATH', '')}"}
    log = folder / "dockerd.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   start_new_session=True)
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            found = _checked(private_host())
            say(f"Docker {found.version} answers at {found.host} (process {process.pid})")
            return found
        except CouldNotRun as problem:
            if process.poll() is None and time.monotonic() < deadline_s:
                time.sleep(0.1)
                continue
            process.kill()
            end = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise CouldNotRun(f"The private Docker engine did not start: {problem.detail}\nEnd of {log}:\n{end}") from None


def stop(say: Say) -> None:
    """Stop the private engine and its containers. Images stay. Safe to repeat."""
    pid = _pid()
    if pid is None:
        say("no private engine runs")
        return
    os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_S
    while _pid() is not None:
        if time.monotonic() > deadline_s:
            raise CouldNotRun(f"The private engine (process {pid}) did not stop within {STOP_S:.0f} s; see {data()}/dockerd.log.")
        time.sleep(0.1)
    say("the private engine is stopped; its images stay in " + str(data()))


def _pid() -> int | None:
    """Return the pid of the private engine; None if it does not run."""
    try:
        pid = int((data() / "docker.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(data() / "data").encode() in command else None


def fetch(say: Say) -> None:
    """Unpack the engine's packages into the cache; complete or absent. Raises CouldNotRun, with the fix."""
    target = home()
    if (target / "usr/sbin/dockerd").exists():
        return
    apt, source = packages.find("apt-get"), debian_source()
    if apt is None or source is None or not KEYRING.exists():
        raise CouldNotRun("A private Docker engine is unpacked from Debian's packages, and this is no Debian. "
                          "Install Docker Engine 25 or later with its Compose and Buildx plugins.")
    work = target.with_name(f".engine.{os.getpid()}.part")
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "root"):
        (work / folder).mkdir(parents=True)
    try:
        (work / "suite.list").write_text(f"deb [signed-by={KEYRING}] {source} {SUITE} main\n")
        suite = ["-o", f"Dir::Etc::sourcelist={work}/suite.list", "-o", "Dir::Etc::sourceparts=/dev/null",
                 "-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::Cache={work}/cache"]
        say(f"fetching Docker from Debian's {SUITE} (100 MB, once)")
        _run([apt, "-q", *suite, "update"], work)
        _run([apt, "-q", *suite, "download", *FROM_SUITE], work)
        try:
            _run([apt, "-q", "download", *FROM_OWN], work)
        except CouldNotRun:  # the machine's own lists are empty
            _run([apt, "-q", "update"], work)
            _run([apt, "-q", "download", *FROM_OWN], work)
        for package in sorted(work.glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(work / "root")], work)
        plugins = work / "root" / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        for plugin in (work / "root/usr/libexec/docker/cli-plugins").iterdir():
            (plugins / plugin.name).symlink_to(target / "usr/libexec/docker/cli-plugins" / plugin.name)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def debian_source() -> str | None:
    """Return the first package source of this machine that serves Debian; None without one."""
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        text = file.read_text(errors="replace")
        if str(KEYRING) in text:
            return next((line.split()[1] for line in text.splitlines() if line.startswith("URIs:")), None)
    legacy = Path("/etc/apt/sources.list")
    lines = legacy.read_text(errors="replace").splitlines() if legacy.exists() else []
    words = [line.split() for line in lines if line.startswith("deb ")]
    return next((word for row in words for word in row if word.startswith("http") and "debian" in word), None)


def debian_release() -> str:
    """Return the code name of this machine's release, such as bookworm; "" if it has none."""
    lines = Path("/etc/os-release").read_text().splitlines() if Path("/etc/os-release").exists() else []
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")), "")


def debootstrap() -> tuple[str | None, dict[str, str]]:
    """Return the path of debootstrap and its environment: the machine's, else the one in the cache."""
    installed, unpacked = packages.find("debootstrap"), home() / "usr/sbin/debootstrap"
    if installed or not unpacked.exists():
        return installed, dict(os.environ)
    return str(unpacked), {**os.environ, "DEBOOTSTRAP_DIR": str(home() / "usr/share/debootstrap")}


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise CouldNotRun(f"{' '.join(command)} failed with exit code {done.returncode}:\n{end}")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def announce(text: str) -> None:
    """Print a step on stderr."""
    print(f"docker         {text}", file=sys.stderr, flush=True)


def main(words: list[str]) -> int:
    """Start, stop or show the engine. Exit: 0, or the code of the error."""
    say = announce
    try:
        if words == ["stop"]:
            stop(say)
            return 0
        found = start(say) if words == ["start"] else find()
    except LabError as problem:
        print(problem.detail, file=sys.stderr)
        return problem.exit_code
    env = found.environment()
    for name in ("DOCKER_HOST", "DOCKER_CONFIG", "PATH"):
        if env.get(name) != os.environ.get(name):
            print(f"export {name}={env[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
