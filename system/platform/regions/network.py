"""The regions of a lab as network namespaces, and the lines between them as one `tun` device in each.

Region r of a lab in range n is the network 10.<n+r-1>.0.0/16: its processes live in a namespace of its own, so nothing
but the carrier (`wan_emulator.py`) joins it to another. Load, console and observers stay outside, on this machine's own
network, where the carrier gives them a device too. Only root can do this, and a kill of the carrier takes devices and
routes with it; namespaces stay until `remove`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from system.kernel import wan
from system.kernel.errors import CouldNotRun
from system.platform.addresses import Plan
from system.platform.paths import Paths

MTU = 16_000  # few large packets: a copy through user space costs by the packet
DEVICE = "wan"
NAMESPACES = Path("/run/netns")
IP_TIMEOUT_S = 20.0
# How often the kernel sends again what is not acknowledged: a connection over a line that was cut breaks after 6 s instead of a
# quarter of an hour. Elasticsearch and MinIO take a silent peer for a slow one until then, and wait for it with every request.
TCP_RETRIES = 4
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001


def namespace(paths: Paths, region: int) -> str:
    """Return the name of a region's namespace; no other lab on this machine has it."""
    return f"tweetlab-{paths.lab_id}-{wan.NAMES[region]}"


def inside(paths: Paths, region: int) -> list[str]:
    """Return the words before a command that let it run in a region; none outside of them."""
    return [] if region in (0, wan.OUTSIDE) else ["nsenter", f"--net={NAMESPACES / namespace(paths, region)}", "--"]


def check(plan: Plan) -> None:
    """Raise CouldNotRun where regions cannot be made here: another user than root, no tun device, addresses in use."""
    if os.geteuid() != 0:
        raise CouldNotRun(
            "Regions are network namespaces, which only root can make: start `two_regions` as root, or take `cluster`."
        )
    if not Path("/dev/net/tun").exists():
        raise CouldNotRun("This machine has no /dev/net/tun, through which packets go between regions: `modprobe tun`.")
    taken = [
        row
        for row in _ip("-o", "route", "show").splitlines()
        if any(row.startswith(f"{_net(plan, region)}.") for region in wan.NAMES)
    ]
    if taken:
        raise CouldNotRun(f"This machine uses addresses that the regions need: {taken[0].strip()}. Take another TWEETLAB_RANGE.")


def make(paths: Paths, plan: Plan, hosts: Mapping[str, Sequence[str]]) -> dict[int, int]:
    """Make what is missing of namespaces, devices, addresses and routes; return each region's `tun`, open and non-blocking.

    `hosts`: region -> addresses of its own each; the rest of its network needs none, but MinIO looks for its own on a device.

    The calling process must have one thread: it visits each namespace. Raises CouldNotRun.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    devices: dict[int, int] = {}
    try:
        for region in wan.NAMES:
            if region != wan.OUTSIDE:
                _enter_new(paths, region)
            devices[region] = _tun(device(plan, region))
            _address(plan, region)
            for host in hosts.get(str(region), ()):
                _ip("addr", "replace", f"{host}/32", "dev", "lo")
            _setns(home)
    finally:
        os.close(home)
    return devices


def remove(paths: Paths, plan: Plan) -> None:
    """Remove namespaces and addresses, and how the lines stood; safe to repeat, and where there never were any."""
    paths.lines.unlink(missing_ok=True)
    for region in wan.NAMES:
        if region != wan.OUTSIDE and (NAMESPACES / namespace(paths, region)).exists():
            with contextlib.suppress(CouldNotRun):  # gone meanwhile
                _ip("netns", "del", namespace(paths, region))
    if os.geteuid() == 0 and f"{_net(plan, wan.OUTSIDE)}.0.1/16" in _ip("-o", "-4", "addr", "show", "dev", "lo"):
        _ip("addr", "del", f"{_net(plan, wan.OUTSIDE)}.0.1/16", "dev", "lo")


def device(plan: Plan, region: int) -> str:
    """Return the name of a region's device; outside it names the lab's range."""
    return f"{DEVICE}{plan.range}" if region == wan.OUTSIDE else DEVICE


def _net(plan: Plan, region: int) -> str:
    return plan.network(region).removesuffix(".0.0/16")


def _enter_new(paths: Paths, region: int) -> None:
    path = NAMESPACES / namespace(paths, region)
    if not path.exists():
        _ip("netns", "add", path.name)
    there = os.open(path, os.O_RDONLY)
    try:
        _setns(there)
    finally:
        os.close(there)


def _setns(fd: int) -> None:
    # os.setns came with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
        raise CouldNotRun(f"A network namespace could not be entered: {os.strerror(ctypes.get_errno())}.")


def _tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    except OSError as problem:
        os.close(fd)
        raise CouldNotRun(
            f"The device {name} could not be made: {problem.strerror}. Is another lab with regions up in this range?"
        ) from None
    return fd


def _address(plan: Plan, region: int) -> None:
    """Give the namespace that this process is in its addresses (all of a /16, on lo) and the ways to the others."""
    own, name = _net(plan, region), device(plan, region)
    _ip("link", "set", "lo", "up")
    _ip("addr", "replace", f"{own}.0.1/16", "dev", "lo")
    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    _ip("link", "set", name, "mtu", str(MTU), "up")
    others = [_net(plan, other) for other in wan.NAMES if other != region]
    for other in others:
        _ip("route", "replace", f"{other}.0.0/16", "dev", name, "src", f"{own}.0.1")
    if region != wan.OUTSIDE:
        Path("/proc/sys/net/ipv4/tcp_retries2").write_text(str(TCP_RETRIES))
        _second_addresses(own, name, others)


def _second_addresses(own: str, name: str, others: Sequence[str]) -> None:
    """Let the regions reach each other at 127.<second octet>.0.0/16 as well, for peers that insist on loopback."""
    own, *others = (each.replace("10.", "127.", 1) for each in (own, *others))
    Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1")
    _ip("addr", "replace", "127.0.0.1/32", "dev", "lo")
    with contextlib.suppress(CouldNotRun):  # a carrier that is started again finds it gone
        _ip("addr", "del", "127.0.0.1/8", "dev", "lo")
    _ip("addr", "replace", f"{own}.0.1/16", "dev", "lo")
    for other in others:
        _ip("route", "replace", f"{other}.0.0/16", "dev", name, "src", f"{own}.0.1")


def _ip(*words: str) -> str:
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=IP_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise CouldNotRun("The program `ip` was not found; install the package iproute2.") from None
    if done.returncode != 0:
        raise CouldNotRun(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout
