"""Security misconfiguration (OWASP API8): which addresses the lab's processes listen on.

The stores trust every client that reaches them: that no other machine can reach them is their only
protection.
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


def listening_sockets() -> dict[str, set[IPv4Address | IPv6Address]]:
    """Return the addresses of each listening_sockets socket, by inode.

    Of both families, since Java binds IPv6 sockets.
    """
    addresses: dict[str, set[IPv4Address | IPv6Address]] = {}
    for family in ("tcp", "tcp6"):
        for row in (line.split() for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]):
            words = bytes.fromhex(row[1].partition(":")[0])  # four bytes each, in host byte order
            address = ip_address(b"".join(words[at:at + 4][::-1] for at in range(0, len(words), 4)))
            if row[3] == "0A":
                addresses.setdefault(row[9], set()).add(getattr(address, "ipv4_mapped", None) or address)
    return addresses


def inodes_of(nodes: Iterable[NodeStatus]) -> dict[str, str]:
    """Return the sockets of the processes of these nodes and their children, inode -> node."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it exited in the meantime
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    node_of = {node.pid: node.name for node in nodes if node.pid}
    node_of_inode = {}
    for pid in parents:
        ancestor = pid
        while ancestor and ancestor not in node_of:
            ancestor = parents.get(ancestor, 0)
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir() if ancestor else ():
                with contextlib.suppress(OSError):
                    node_of_inode[os.readlink(link).removeprefix("socket:[").rstrip("]")] = node_of[ancestor]
    return node_of_inode


def test_every_socket_of_the_lab_is_on_loopback(gateway_url: str) -> None:
    """All sockets of every node, on any port; Cassandra, Kafka and Elasticsearch have IPv6 sockets."""
    nodes = asyncio.run(native.Lab(home.ROOT, RANGE).status())
    held, bound = inodes_of(nodes), listening_sockets()
    ours = {(held[inode], address) for inode, addresses in bound.items() if inode in held for address in addresses}

    # Every store has at least one socket.
    assert {node for node, _ in ours} >= {node.name for node in nodes if node.role == "store"}
    assert {(node, str(address)) for node, address in ours if not address.is_loopback} == set()
