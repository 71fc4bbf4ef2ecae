"""Security misconfiguration (OWASP API8): which sockets the lab's processes listen on.

The stores trust whoever reaches them, so that nobody can reach them from another machine is all that protects them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from system.platform import native
from system.platform.provider import NodeStatus
from tests.helpers.people import RANGE
from tweetlab import home

pytestmark = pytest.mark.real


def listening() -> dict[str, set[IPv4Address | IPv6Address]]:
    """Return what each socket that listens is bound to, by its inode: of both families, since Java binds IPv6 ones."""
    found: dict[str, set[IPv4Address | IPv6Address]] = {}
    for family in ("tcp", "tcp6"):
        for row in (line.split() for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]):
            words = bytes.fromhex(row[1].partition(":")[0])  # each of four bytes in the machine's order
            address = ip_address(b"".join(words[at:at + 4][::-1] for at in range(0, len(words), 4)))
            if row[3] == "0A":
                found.setdefault(row[9], set()).add(getattr(address, "ipv4_mapped", None) or address)
    return found


def inodes_of(nodes: Iterable[NodeStatus]) -> dict[str, str]:
    """Return the sockets that processes of these nodes hold, inode -> node; what they started included."""
    above = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            above[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    node_of = {node.pid: node.name for node in nodes if node.pid}
    held = {}
    for pid in above:
        at = pid
        while at and at not in node_of:
            at = above.get(at, 0)
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir() if at else ():
                with contextlib.suppress(OSError):
                    held[os.readlink(link).removeprefix("socket:[").rstrip("]")] = node_of[at]
    return held


def test_every_socket_of_the_lab_is_on_loopback(door: str) -> None:
    """All of every node, whatever its port; Cassandra's, Kafka's and Elasticsearch's are sockets of IPv6."""
    nodes = asyncio.run(native.Lab(home.ROOT, RANGE).status())
    held, bound = inodes_of(nodes), listening()
    ours = {(held[inode], address) for inode, addresses in bound.items() if inode in held for address in addresses}

    assert {node for node, _ in ours} >= {node.name for node in nodes if node.role == "store"}  # each is seen at all
    assert {(node, str(address)) for node, address in ours if not address.is_loopback} == set()
