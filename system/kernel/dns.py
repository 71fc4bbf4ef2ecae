"""Resolve the names of a lab with zones by the lab's own DNS servers, never by those of this machine.

`Resolver` caches the newest answer for TTL_S. A server that does not answer is skipped and queried last from
then on. If no server answers, the last answer remains valid: recently good addresses are better than none. A
client notices a dead address sooner than DNS does: `failed` sorts it behind the others for SHUNNED_S.

dnspython is imported by the first query: a lab without zones makes none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from system.kernel.errors import CouldNotRun

ZONE = "tweetlab.test"  # .test is reserved (RFC 6761, 6.2): no name outside the lab ends in it
API = f"api.{ZONE}"
TTL_S = 1.0
PATIENCE_S = 0.3  # timeout of one server; an answer on loopback takes 2 to 5 ms
FIRST_TRIES = 3  # rounds over all servers, before a name that was never resolved is given up
SHUNNED_S = 3.0  # by then DNS reports it too: 1 s between checks, 1 s for a check, 1 s of TTL


def ask(server: str, name: str, timeout_s: float = PATIENCE_S) -> tuple[str, ...]:
    """Return the IPv4 addresses of `name`, sorted, as `server` (host:port) reports them now.

    Raises CouldNotRun if the server does not answer within `timeout_s` or answers with an error code.
    """
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rdatatype

    host, _, port = server.rpartition(":")
    query = dns.message.make_query(name, dns.rdatatype.A)
    try:
        reply = dns.query.udp(query, host, timeout_s, int(port), ignore_unexpected=True, ignore_errors=True)
    except (dns.exception.DNSException, OSError) as problem:
        raise CouldNotRun(f"The DNS server {server} did not answer for {name}: {problem!r}.") from None
    if reply.rcode() != dns.rcode.NOERROR:
        raise CouldNotRun(f"The DNS server {server} answered {dns.rcode.to_text(reply.rcode())} for {name}.")
    rows = [row for rows in reply.answer if rows.rdtype == dns.rdatatype.A for row in rows]
    return tuple(sorted(row.address for row in rows))


class Resolver:
    """Resolves one name by `servers` (host:port). Not thread-safe; greenlets of one process may share it."""

    def __init__(self, servers: Sequence[str], name: str = API, patience_s: float = PATIENCE_S) -> None:
        self.name = name
        self.servers, self._servers, self._patience_s = tuple(servers), list(servers), patience_s
        self._answer: tuple[str, ...] = ()
        self._shunned: dict[str, float] = {}
        self._turn = 0
        self._until_s = 0.0

    def addresses(self) -> list[str]:
        """Return the newest answer in the order to try; queries the servers if it is older than TTL_S.

        Raises CouldNotRun if no server ever answered for the name.
        """
        tries = 0
        while time.monotonic() >= self._until_s and (not tries or not self._answer):
            if tries == FIRST_TRIES:
                raise CouldNotRun(f"No DNS server of the lab answers for {self.name}; "
                                  f"queried: {', '.join(self._servers)}.")
            self.refresh()
            tries += 1
        return self.known()

    def known(self) -> list[str]:
        """Return the newest answer without a query, rotated by one per call; failed addresses come last."""
        now_s, self._turn = time.monotonic(), self._turn + 1
        start = self._turn % max(1, len(self._answer))
        rotated = self._answer[start:] + self._answer[:start]
        return sorted(rotated, key=lambda address: self._shunned.get(address, 0.0) > now_s)

    def refresh(self) -> bool:
        """Query now. Return False if no server answered with an address; the last answer then remains."""
        for server in list(self._servers):
            try:
                answer = ask(server, self.name, self._patience_s)
            except CouldNotRun:
                self._servers.remove(server)
                self._servers.append(server)
                continue
            if answer:
                self._answer, self._until_s = answer, time.monotonic() + TTL_S
                return True
        return False

    def failed(self, address: str) -> None:
        """Report that `address` did not respond; the next call of `addresses` queries again."""
        self._shunned[address] = time.monotonic() + SHUNNED_S
        self._until_s = 0.0
