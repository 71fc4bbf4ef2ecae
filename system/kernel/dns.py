"""The names of a lab in zones, and who answers for them: the lab's own DNS servers, never those of this machine.

`Resolver` keeps the newest answer for TTL_S. A server that is silent is passed over and asked last from then on. Where no
server answers, the last answer holds on: addresses that were good a moment ago beat none. That an address is dead shows sooner to
who connects than to DNS: `failed` puts it behind the others for SHUNNED_S.

dnspython is loaded by the first question: a lab without zones asks none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from system.kernel.errors import CouldNotRun

ZONE = "tweetlab.test"  # .test is reserved (RFC 6761, 6.2): nobody outside the lab has such a name
API = f"api.{ZONE}"
TTL_S = 1.0
PATIENCE_S = 0.3  # with a server; an answer on loopback takes 2 to 5 ms
FIRST_TRIES = 3  # of all servers, before a name that was never answered is given up
SHUNNED_S = 3.0  # by then DNS knows it too: a second between checks, one for a check, one of TTL


def ask(server: str, name: str, timeout_s: float = PATIENCE_S) -> tuple[str, ...]:
    """Return the IPv4 addresses of `name`, sorted, as `server` (host:port) has them now. Raises CouldNotRun."""
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rdatatype

    host, _, port = server.rpartition(":")
    question = dns.message.make_query(name, dns.rdatatype.A)
    try:
        reply = dns.query.udp(question, host, timeout_s, int(port), ignore_unexpected=True, ignore_errors=True)
    except (dns.exception.DNSException, OSError) as problem:
        raise CouldNotRun(f"The DNS server {server} did not answer for {name}: {problem!r}.") from None
    if reply.rcode() != dns.rcode.NOERROR:
        raise CouldNotRun(f"The DNS server {server} answered {dns.rcode.to_text(reply.rcode())} for {name}.")
    rows = [row for rows in reply.answer if rows.rdtype == dns.rdatatype.A for row in rows]
    return tuple(sorted(row.address for row in rows))


class Resolver:
    """One name, asked of `servers` (host:port). Not for threads; greenlets of one process may share it."""

    def __init__(self, servers: Sequence[str], name: str = API, patience_s: float = PATIENCE_S) -> None:
        self.name = name
        self.servers, self._servers, self._patience_s = tuple(servers), list(servers), patience_s
        self._found: tuple[str, ...] = ()
        self._shunned: dict[str, float] = {}
        self._turn = 0
        self._until_s = 0.0

    def addresses(self) -> list[str]:
        """Return the newest answer in the order to try; asks where it is older than TTL_S.

        Raises CouldNotRun where the name was never answered.
        """
        tries = 0
        while time.monotonic() >= self._until_s and (not tries or not self._found):
            if tries == FIRST_TRIES:
                raise CouldNotRun(f"No DNS server of the lab answers for {self.name}; asked: {', '.join(self._servers)}.")
            self.refresh()
            tries += 1
        return self.known()

    def known(self) -> list[str]:
        """Return the newest answer without asking, each call with another one first and those that failed last."""
        now_s, self._turn = time.monotonic(), self._turn + 1
        begin = self._turn % max(1, len(self._found))
        turned = self._found[begin:] + self._found[:begin]
        return sorted(turned, key=lambda address: self._shunned.get(address, 0.0) > now_s)

    def refresh(self) -> bool:
        """Ask now; False where no server answered with an address, and the last answer stays."""
        for server in list(self._servers):
            try:
                found = ask(server, self.name, self._patience_s)
            except CouldNotRun:
                self._servers.remove(server)
                self._servers.append(server)
                continue
            if found:
                self._found, self._until_s = found, time.monotonic() + TTL_S
                return True
        return False

    def failed(self, address: str) -> None:
        """Tell that nothing was to be had of `address`; the next call of `addresses` asks again."""
        self._shunned[address] = time.monotonic() + SHUNNED_S
        self._until_s = 0.0
