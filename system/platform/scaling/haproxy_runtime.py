"""HAProxy's runtime socket: who serves a backend now, and instances in and out of it without a failed request.

    add:     register (in maintenance) -> health checks on -> traffic on
    remove:  no new requests (drain) -> wait until none is inside -> maintenance -> the instance ends -> forget it

What was added this way is gone when HAProxy starts again; the autoscaler adds it again. A lab may have several of them:
`doors` speaks to all. Commands and their order:
HAProxy 2.6, management guide 9.3; measured here: `add server` takes no default of the configuration's `default-server`,
and without `pool-purge-delay` an added server keeps no idle connection.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.platform.servers import haproxy

TIMEOUT_S = 3.0
DRAIN_S = 10.0    # longest wait for the requests inside; twice what a request may take (5 s)
FORGET_S = 5.0    # longest wait for the last connection to an instance that has ended
LOOK_S = 0.1
SILENT = ("L4TOUT", "L4CON", "L6TOUT", "L7TOUT")  # ends of a check that nobody answered


@dataclass(frozen=True)
class Server:
    """One server of a backend, now. `checks`: HAProxy's words, UP, "UP 2/3" (a check failed), DOWN, DRAIN, MAINT.

    `inside`: requests in it. `waiting`: requests that wait for it. `answers`, `errors`: since it was added.
    `passed`: its last health check was answered. `places`: requests that it may have inside. `apart`: of several HAProxies some
    see it up and some do not, as where the lines between regions are cut.
    """

    backend: str
    name: str
    checks: str
    inside: int
    waiting: int
    answers: int
    errors: int
    passed: bool
    places: int = haproxy.PLACES
    apart: bool = False

    @property
    def down(self) -> bool:
        """Whether HAProxy sends it nothing because its checks failed."""
        return self.checks.startswith("DOWN")


@dataclass(frozen=True)
class Backend:
    """A service's servers. `waiting`: requests that wait for any of them."""

    servers: dict[str, Server]
    waiting: int = 0


class Silent(CouldNotRun):
    """HAProxy does not answer: it is down, or hangs."""


class Mesh:
    """One HAProxy, by the path of its socket."""

    def __init__(self, socket: str) -> None:
        self._socket = Path(socket)

    async def ask(self, command: str) -> str:
        """Send one command and return the answer. Raises Silent where HAProxy does not answer."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(command.encode() + b"\n")
                    return (await reader.read()).decode(errors="replace").strip()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as problem:
            raise Silent(f"HAProxy does not answer on {self._socket} ({problem or 'too slow'}).") from None

    async def backends(self) -> dict[str, Backend]:
        """Return every backend and its servers, the last resorts left out. Raises CouldNotRun."""
        found: dict[str, Backend] = {}
        for row in csv.DictReader(io.StringIO((await self.ask("show stat -1 6 -1")).lstrip("# "))):
            if row["pxname"] == haproxy.HERE:
                continue
            try:
                name, backend = row["svname"], found.setdefault(row["pxname"], Backend({}))
                if name == "BACKEND":
                    found[row["pxname"]] = Backend(backend.servers, int(row["qcur"] or 0))
                elif not name.startswith(haproxy.LAST_RESORT):
                    backend.servers[name] = _server(row)
            except (KeyError, TypeError, ValueError, AttributeError):  # it died while it told
                raise Silent(f"HAProxy's answer on {self._socket} broke off.") from None
        return found

    async def add(self, backend: str, name: str, address: str) -> None:
        """Let an instance that is well take requests. Raises CouldNotRun where HAProxy refuses."""
        await self._order(f"add server {backend}/{name} {address} {haproxy.SERVER}", _is_known)
        for command in ("enable health", "enable server"):
            await self._order(f"{command} {backend}/{name}")

    async def resize(self, backend: str, name: str, places: int) -> None:
        """Let it have so many requests inside; the others wait in HAProxy."""
        await self._order(f"set maxconn server {backend}/{name} {places}")

    async def close(self, backend: str, name: str) -> None:
        """Put a drained instance into maintenance: its process may end now."""
        await self._order(f"set server {backend}/{name} state maint")

    async def eject(self, backend: str, name: str) -> None:
        """Send no new request there for the time being."""
        await self._order(f"set server {backend}/{name} state drain")

    async def readmit(self, backend: str, name: str) -> None:
        """Take it in again."""
        await self._order(f"set server {backend}/{name} state ready")

    async def forget(self, backend: str, name: str) -> None:
        """Delete a server in maintenance; waits for its last connection. Raises CouldNotRun after 5 s."""
        ends_s = asyncio.get_running_loop().time() + FORGET_S
        while True:
            said = await self.ask(f"del server {backend}/{name}")
            if "deleted" in said or "No such server" in said:
                return
            if asyncio.get_running_loop().time() > ends_s:
                raise CouldNotRun(f"HAProxy did not delete {backend}/{name}: {said}")
            await asyncio.sleep(LOOK_S)

    async def _order(self, command: str, obeyed: Callable[[str], bool] = lambda said: not said) -> None:
        said = await self.ask(command)
        if not obeyed(said):
            raise CouldNotRun(f"HAProxy refused `{command}`: {said}")


def _is_known(said: str) -> bool:
    return "registered" in said or "Already exists" in said


def _server(row: dict[str, str]) -> Server:
    codes = [int(row[f"hrsp_{digit}xx"] or 0) for digit in (1, 2, 3, 4, 5)]
    broken = int(row["econ"] or 0) + int(row["eresp"] or 0)
    passed = not row["check_status"].lstrip("* ").startswith(SILENT)
    return Server(
        backend=row["pxname"], name=row["svname"], checks=row["status"], inside=int(row["scur"]), waiting=int(row["qcur"]),
        answers=sum(codes) + broken, errors=codes[4] + broken, passed=passed, places=int(row["slim"] or 0))
