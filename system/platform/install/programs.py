"""Where the programs of a node are: on this machine, or in the image of its container.

The server modules ask `Context.programs` instead of the machine, so that one module describes a server for both.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from system.platform import paths
from system.platform.install import packages
from system.platform.install.packages import Go, Maven


class Programs(Protocol):
    """The programs of one machine or image."""

    @property
    def writable(self) -> bool:
        """Whether a server may store files next to its jars."""

    @property
    def open_to_all(self) -> bool:
        """Whether every user may read the programs."""

    def require(self, binary: str) -> str:
        """Return the path of a program. Raises CouldNotRun, with the fix, if it is absent."""

    def home(self, package: Maven) -> Path:
        """Return the directory of a fetched package."""

    def jars(self, package: Maven) -> str:
        """Return the class path of a package of jars."""

    def go(self, package: Go) -> str:
        """Return the path of a Go program."""

    def java(self) -> str:
        """Return the path of Java. Raises CouldNotRun, with the fix, if it is absent."""

    def java_home(self) -> Path:
        """Return the directory that holds `bin/java`."""

    def postgres(self) -> Path | None:
        """Return the directory of PostgreSQL's programs; None without a PostgreSQL."""

    def python(self) -> str:
        """Return the Python that runs our services."""

    def code(self) -> Path:
        """Return the directory that holds the import roots."""

    def search_path(self) -> str:
        """Return the value of PATH; "" leaves it as it is."""


class OnHost:
    """The programs of this machine."""

    writable = True
    open_to_all = False

    def require(self, binary: str) -> str:
        return packages.require(binary)

    def home(self, package: Maven) -> Path:
        return packages.home(package)

    def jars(self, package: Maven) -> str:
        return f"{packages.home(package)}/lib/*"

    def go(self, package: Go) -> str:
        return str(packages.home(package) / package.name)

    def java(self) -> str:
        return packages.require_java()

    def java_home(self) -> Path:
        return Path(packages.require_java()).resolve().parent.parent

    def postgres(self) -> Path | None:
        return packages.postgres_bin()

    def python(self) -> str:
        return sys.executable

    def code(self) -> Path:
        return paths.CODE

    def search_path(self) -> str:
        return os.pathsep.join((os.environ.get("PATH", "/usr/bin:/bin"), *packages.OUTSIDE_PATH))


HOST: Programs = OnHost()
