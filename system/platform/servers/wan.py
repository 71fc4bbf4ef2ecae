"""The WAN emulator between the regions of a lab, as a node: `wan-1`.

See `system/platform/regions/wan_emulator.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from system.kernel import numbers
from system.kernel.errors import CouldNotRun, WrongInput
from system.platform import health, paths
from system.platform.regions import wan_emulator
from system.platform.servers.base import Context, Launch, base_env

REQUEST_TIMEOUT_S = 3.0


class Wan:
    """One process for all lines. It needs root and /dev/net/tun."""

    package = None
    start_timeout_s = 15.0

    def launch(self, ctx: Context) -> Launch:
        config = ctx.config / "carrier.json"
        settings = {"root": str(ctx.paths.root), "range": ctx.plan.range, "socket": str(control(ctx.paths)), "delay_s": delay_s(),
                "state": str(ctx.paths.lines), "hosts": hosts(ctx)}
        return Launch(
            argv=(sys.executable, "-m", "system.platform.regions.wan_emulator", str(config)),
            env={**base_env(ctx), "PYTHONUNBUFFERED": "1"},
            files={config: json.dumps(settings)},
            folders=(ctx.data,),
            cwd=paths.CODE,
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        try:
            rows = await ask(ctx.paths, {"op": "look"})
        except CouldNotRun as problem:
            raise health.Unhealthy(problem.detail) from None
        cut = sum(row["cut"] for row in rows)
        return f"{len(rows)} lines, {cut} of them cut" if cut else f"{len(rows)} lines"

    def version(self) -> str:
        return f"Python {platform.python_version()}"


def hosts(ctx: Context) -> dict[str, list[str]]:
    """Return the addresses to assign to a device, by region: MinIO's, which refuses to start otherwise."""
    addresses: dict[str, list[str]] = {}
    for node in ctx.blueprint.of_kind("minio"):
        addresses.setdefault(str(node.region), []).append(ctx.plan.host(node.kind, node.instance, node.region))
    return addresses


def delay_s() -> float:
    """Return the delay between two regions, one way, in seconds: TWEETLAB_WAN_MS, by default 10 ms.

    Raises WrongInput.
    """
    text = os.environ.get("TWEETLAB_WAN_MS", "").strip()
    try:
        value = numbers.parse_decimal(text) / 1_000 if text else wan_emulator.DEFAULT_DELAY_S
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise WrongInput(f"TWEETLAB_WAN_MS is {text!r}; it must be a number of milliseconds from 0 to 1000, one way.")
    return value


def control(at: paths.Paths) -> Path:
    """Return the path of the WAN emulator's socket."""
    return at.data_dir / "wan.sock"


async def ask(at: paths.Paths, request: dict[str, Any]) -> Any:
    """Return the WAN emulator's reply. Raises CouldNotRun if it does not answer, WrongInput if it refuses."""
    return await request_at(control(at), request)


async def request_at(socket: Path, request: dict[str, Any]) -> Any:
    """Return the reply of the WAN emulator at a socket.

    Raises CouldNotRun if it does not answer, WrongInput if it refuses.
    """
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(socket, limit=2**20)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                reply = json.loads(await reader.readline())
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        raise CouldNotRun("The WAN emulator does not answer; see wan-1 in `tweetlab status`.") from None
    if "error" in reply:
        raise WrongInput(str(reply["error"]))
    return reply["result"]
