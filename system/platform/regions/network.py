"""Creates the regions of a lab as network namespaces, with one `tun` device in each for the WAN emulator.

Region r of a lab in range n is the network 10.<n+r-1>.0.0/16. Its processes run in their own network
namespace, so only the WAN emulator (`wan_emulator.py`) connects it to other regions. The load generator, the
console and the observability stack stay outside, on the network of this machine, where the WAN emulator has a
device too. This requires root. If the WAN emulator is killed, its devices and routes disappear; the
namespaces stay until `remove`.
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

MTU = 16_000  # large, because every packet is copied through user space, at a cost per packet
DEVICE = "wan"
NAMESPACES = Path("/run/netns")
IP_TIMEOUT_S = 20.0
# Number of TCP retransmissions: a connection over a link that was cut breaks after 6 s instead of a quarter
# of an hour. Until it breaks, Elasticsearch and MinIO treat a silent peer as slow, and wait for it in every
# request.
TCP_RETRIES = 4
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001


def namespace(paths: Paths, region: int) -> str:
    """Return the name of the namespace of a region, unique among the labs of this machine."""
    return f"tweetlab-{paths.lab_id}-{wan.NAMES[region]}"


def inside(paths: Paths, region: int) -> list[str]:
    """Return the prefix of a command that runs it inside a region; [] outside of regions."""
    return [] if region in (0, wan.OUTSIDE) else ["nsenter", f"--net={NAMESPACES / namespace(paths, region)}", "--"]


def check(plan: Plan) -> None:
    """Raise CouldNotRun if regions cannot be created here: not root, no `tun` device, or addresses in use."""
    if os.geteuid() != 0:
        raise CouldNotRun(
            "Regions are network namespaces, which only root can create: start `two_regions` as root, or use `cluster`."
        )
    if not Path("/dev/net/tun").exists():
        raise CouldNotRun("This machine has no /dev/net/tun, which carries packets between regions: run `modprobe tun`.")
    taken = [
        row
        for row in _ip("-o", "route", "show").splitlines()
        if any(row.startswith(f"{_net(plan, region)}.") for region in wan.NAMES)
    ]
    if taken:
        raise CouldNotRun(f"This machine uses addresses that the regions need: {taken[0].strip()}. Use another TWEETLAB_RANGE.")


def make(paths: Paths, plan: Plan, hosts: Mapping[str, Sequence[str]]) -> dict[int, int]:
    """Create missing namespaces, devices, addresses and routes; return region -> open, non-blocking `tun`.

    `hosts`: region -> addresses to assign to its `lo`. Only MinIO needs them: it looks for its own address on
    a device. The calling process must be single-threaded, because it enters each namespace in turn. Raises
    CouldNotRun.
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
    """Remove namespaces, addresses and the stored settings of the links. Safe to repeat, and if none exist.
    """
    paths.lines.unlink(missing_ok=True)
    for region in wan.NAMES:
        if region != wan.OUTSIDE and (NAMESPACES / namespace(paths, region)).exists():
            with contextlib.suppress(CouldNotRun):  # it was removed in the meantime
                _ip("netns", "del", namespace(paths, region))
    if os.geteuid() == 0 and f"{_net(plan, wan.OUTSIDE)}.0.1/16" in _ip("-o", "-4", "addr", "show", "dev", "lo"):
        _ip("addr", "del", f"{_net(plan, wan.OUTSIDE)}.0.1/16", "dev", "lo")


def device(plan: Plan, region: int) -> str:
    """Return the name of the device of a region; outside of regions it includes the range of the lab."""
    return f"{DEVICE}{plan.range}" if region == wan.OUTSIDE else DEVICE


def _net(plan: Plan, region: int) -> str:
    return plan.network(region).removesuffix(".0.0/16")


def _enter_new(paths: Paths, region: int) -> None:
    path = NAMESPACES / namespace(paths, region)
    if not path.exists():
        _ip("netns", "add", path.name)
    fd = os.open(path, os.O_RDONLY)
    try:
        _setns(fd)
    finally:
        os.close(fd)


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
            f"The device {name} could not be created: {problem.strerror}. Is another lab with regions up in this range?"
        ) from None
    return fd


def _address(plan: Plan, region: int) -> None:
    """Set up the current namespace: its addresses (a whole /16, on `lo`) and its routes."""
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
    """Let the regions reach each other at 127.<second octet>.0.0/16 too, for loopback-only servers."""
    own, *others = (net.replace("10.", "127.", 1) for net in (own, *others))
    Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1")
    _ip("addr", "replace", "127.0.0.1/32", "dev", "lo")
    with contextlib.suppress(CouldNotRun):  # already removed if the WAN emulator was restarted
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
