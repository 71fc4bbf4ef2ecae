"""Where a lab stores its files: one directory inside the checkout and one outside.

| directory | holds | access |
|---|---|---|
| state: <checkout>/.tweetlab/<range> | list of children, logs, rendered configuration, effect logs | the user only |
| data directory: /var/tmp/tweetlab-<range>-<hash of checkout> | data of the servers, sockets | the user that servers drop to |

The data directory exists because a checkout may be 0700 and deep: an unprivileged server could not enter it,
and the path of a Unix socket must be shorter than 108 bytes. The file `owner` in it names the checkout.
TWEETLAB_DATA moves data directories to another directory, for example on another disk.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from system.kernel.errors import CouldNotRun

PREFIX = "tweetlab-"
CODE = Path(__file__).resolve().parents[2]  # the directory that holds the import roots
UNPRIVILEGED_USERS = ("postgres", "nobody")  # Debian's PostgreSQL package creates the first


def data_dirs() -> Path:
    """Return the parent of the data directories of all labs: TWEETLAB_DATA, by default /var/tmp."""
    return Path(os.environ.get("TWEETLAB_DATA", "").strip() or "/var/tmp")


@dataclass(frozen=True)
class Paths:
    """The paths of the lab of checkout `root` in range `range`."""

    root: Path
    range: int

    @property
    def lab_id(self) -> str:
        """Return a short name that no other lab on this machine has."""
        text = f"{self.root.resolve()}|{self.range}|{os.geteuid()}"
        return f"{self.range}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def state(self) -> Path:
        return self.root / ".tweetlab" / str(self.range)

    @property
    def data_dir(self) -> Path:
        return data_dirs() / f"{PREFIX}{self.lab_id}"

    @property
    def socket(self) -> Path:
        return self.data_dir / "supervisor.sock"

    @property
    def children(self) -> Path:
        return self.state / "children.json"

    @property
    def targets(self) -> Path:
        """Where our processes serve /metrics, in the format of Prometheus' file discovery."""
        return self.data_dir / "targets.json"

    @property
    def expected(self) -> Path:
        """Our processes, name -> whether it is expected to answer."""
        return self.data_dir / "expected.json"

    @property
    def addresses(self) -> Path:
        """Where each node listens, name -> host:port."""
        return self.data_dir / "addresses.json"

    @property
    def lines(self) -> Path:
        """The current state of the lines between regions."""
        return self.data_dir / "lines.json"

    @property
    def layout(self) -> Path:
        """The number of members of each kind with data in the data directory."""
        return self.data_dir / "layout.json"

    @property
    def provider(self) -> Path:
        """The name of the provider whose data the data directory holds."""
        return self.data_dir / "provider"

    @property
    def engine(self) -> Path:
        """What runs the containers of a lab on Docker: control groups, and the image of each kind of node."""
        return self.state / "engine.json"

    @property
    def effects(self) -> Path:
        return self.state / "effects"

    def log(self, name: str) -> Path:
        """Return the log file of a node, or of `supervisor`."""
        return self.state / "logs" / f"{name}.log"

    def config(self, node: str) -> Path:
        """Return the directory of a node's rendered configuration, readable by the user it runs as."""
        return self.data_dir / node / "config"

    def data(self, node: str) -> Path:
        return self.data_dir / node / "data"

    def make(self) -> None:
        """Create both directories. Raises CouldNotRun if the data directory belongs to another user."""
        for folder in (self.state / "logs", self.effects):
            folder.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(mode=0o711, exist_ok=True)
        if self.data_dir.is_symlink() or self.data_dir.stat().st_uid != os.geteuid():
            raise CouldNotRun(f"{self.data_dir} belongs to another user; remove it, or set another TWEETLAB_RANGE.")
        (self.data_dir / "owner").write_text(f"{self.root.resolve()}\n")

    def remove_data(self) -> None:
        """Remove the data of all servers; logs and effect logs stay."""
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything the lab has stored."""
        self.remove_data()
        shutil.rmtree(self.state, ignore_errors=True)


def unprivileged() -> tuple[int, int] | None:
    """Return uid and gid that servers drop to if this process is root; None if it is not.

    Raises CouldNotRun if this is root and none of the users exists.
    """
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise CouldNotRun(
        f"PostgreSQL and Elasticsearch refuse to run as root, and none of the users {UNPRIVILEGED_USERS} exists; "
        "install the package postgresql, which creates one."
    )


def abandoned() -> list[Path]:
    """Return data directories of this user whose checkout no longer exists."""
    directories = []
    for data_dir in data_dirs().glob(f"{PREFIX}*-*"):
        owner = data_dir / "owner"
        try:
            orphaned = data_dir.stat().st_uid == os.geteuid() and not Path(owner.read_text().strip()).exists()
        except OSError:
            continue  # not one of our data directories, or being removed now
        if orphaned:
            directories.append(data_dir)
    return directories
