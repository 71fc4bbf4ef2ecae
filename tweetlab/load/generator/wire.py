"""One HTTP exchange with its timestamps: when it was sent, and when the reply was fully read.

geventhttpclient (the client of Locust's FastHttpUser) silently repeats a request when a kept-alive connection
turns out dead. A history needs one row per attempt, so the exchange is implemented here over its pool and
parser, and repeats nothing. Runs in Locust's process.

In a lab in zones, requests go round-robin to the addresses of the newest DNS reply. If an address refuses the
connection, nothing was sent, and the same attempt continues with the next address. An address that breaks the
connection or times out ends the attempt and is tried last for a while.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.response import HTTPSocketPoolResponse

from system.kernel.dns import API, Resolver
from system.kernel.telemetry import connection_errors

BLOCK_BYTES = 32_768  # a home page of 20 tweets is about 6 kB: one read
LEAKS = 50
CONNECT_S = 1.0  # timeout of a connection to one of several addresses
OK, FAIL, INFO = "ok", "fail", "info"
MAYBE_DONE = frozenset({408, 409, 499})  # 4xx after which the request may have taken effect


@dataclass(frozen=True)
class Answer:
    """The result of an exchange.

    `status` 0: no reply. `sent_ns` 0: nothing was sent. `outcome`: ok, fail or info.

    `address`: host:port that was connected to if there are several; else "".
    """

    outcome: str
    status: int
    sent_ns: int
    done_ns: int
    body: bytes = b""
    error: str = ""
    headers: Any = field(default_factory=dict)
    address: str = ""


def outcome_of(status: int) -> str:
    """Return ok for 2xx, fail if the request definitely had no effect, info for everything else."""
    if 200 <= status < 300:
        return OK
    return FAIL if 400 <= status < 500 and status not in MAYBE_DONE else INFO


class Pool(ConnectionPool):
    """Connections to one address.

    Detects a dead idle connection by a peek: select() refuses descriptors above 1023.
    """

    def _is_socket_alive(self, sock: Any) -> bool:
        try:
            return bool(sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) is None)
        except BlockingIOError:
            return True
        except OSError:
            return False

    def after_connect(self, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Wire:
    """Sends requests to one `host:port`, or to the addresses that `names` resolves to, at that port.

    `size`: maximum connections per address; further requests wait, which is visible as start lag. `canary`:
    bytes that no reply may contain. `scanned`: replies that were searched for it; `leaks`: the first LEAKS
    requests whose reply contained it. `errors`: connection errors by kind and address.
    """

    def __init__(self, address: str, size: int, timeout_s: float, canary: bytes = b"",
                 names: Resolver | None = None, errors: connection_errors.Counter | None = None) -> None:
        self.errors = errors if errors is not None else connection_errors.Counter()
        self._canary, self.scanned, self.leaks = canary, 0, list[str]()
        host, _, port = address.partition(":")
        self._port, self._size, self._timeout_s, self._names = int(port or 80), size, timeout_s, names
        self.address = address
        self._pools: dict[str, Pool] = {}
        if names is None:
            self._only = self._pool(host, timeout_s)
        else:
            self.address = f"{API}:{self._port}"
            names.addresses()  # raises CouldNotRun before anything is sent

    def exchange(self, method: str, path: str, headers: str = "", body: bytes = b"",
                 before_send: Callable[[int], None] | None = None) -> Answer:
        """Send one request and read the complete reply. Never raises for network errors.

        `headers`: lines that end with CRLF. `before_send(now_ns)` is called when the connection is
        established and nothing has been sent yet: what it records survives if this process is killed while it
        waits.
        """
        length = f"content-length: {len(body)}\r\n" if body or method in ("POST", "PUT") else ""
        data = f"{method} {path} HTTP/1.1\r\nhost: {self.address}\r\n{headers}{length}\r\n".encode("latin-1") + body
        try:
            host, pool, sock = self._connected()
        except (OSError, gevent.Timeout) as problem:
            if self._names is None:
                self._count(problem, self.address)
            return Answer(FAIL, 0, 0, time.monotonic_ns(), error=f"no connection: {_error_name(problem)}")
        address = f"{host}:{self._port}" if host else ""
        sent_ns = time.monotonic_ns()
        if before_send is not None:
            before_send(sent_ns)
        try:
            sock.sendall(data)
        except (OSError, gevent.Timeout) as problem:
            pool.release_socket(sock)
            self._count(problem, address or self.address)
            error = f"while sending: {_error_name(problem)}"
            return self._broken(host, Answer(INFO, 0, sent_ns, time.monotonic_ns(), b"", error, {}, address))
        try:
            response = HTTPSocketPoolResponse(sock, pool, block_size=BLOCK_BYTES, method=method)
            content = response.read()
        except (OSError, gevent.Timeout, HTTPParseError) as problem:
            self._count(problem, address or self.address)
            error = f"while reading: {_error_name(problem)}"
            return self._broken(host, Answer(INFO, 0, sent_ns, time.monotonic_ns(), b"", error, {}, address))
        done_ns, status = time.monotonic_ns(), response.get_code()
        if self._canary:
            self._scan(content, f"{method} {path}")
        return Answer(outcome_of(status), status, sent_ns, done_ns, content, "", response.info(), address)

    def _pool(self, host: str, connect_s: float) -> Pool:
        return Pool(host, self._port, host, self._port, size=self._size, connection_timeout=connect_s,
                    network_timeout=self._timeout_s)

    def _connected(self) -> tuple[str, Pool, Any]:
        """Return the host ("" if there is only one), its pool and a connection.

        Raises the error of the last host tried.
        """
        if self._names is None:
            return "", self._only, self._only.get_socket()
        refused: BaseException = OSError(errno.EHOSTUNREACH, "no address is known")
        for host in self._names.known():
            pool = self._pools.get(host) or self._pools.setdefault(host, self._pool(host, min(CONNECT_S, self._timeout_s)))
            try:
                return host, pool, pool.get_socket()
            except (OSError, gevent.Timeout) as problem:
                self._names.failed(host)
                self._count(problem, f"{host}:{self._port}")
                refused = problem
        raise refused

    def _broken(self, host: str, answer: Answer) -> Answer:
        """Mark `host` as failed, so that the next requests try other hosts first; return `answer`."""
        if self._names is not None:
            self._names.failed(host)
        return answer

    def _count(self, problem: BaseException, address: str) -> None:
        error = connection_errors.connection_error(_error_name(problem))
        words = f"{error.kind if error else 'unreadable reply from'} {address}"
        self.errors.add(words, words, time.monotonic())

    def _scan(self, content: bytes, request: str) -> None:
        self.scanned += 1
        if self._canary in content and len(self.leaks) < LEAKS:
            self.leaks.append(request)

    def close(self) -> None:
        """Close the idle connections."""
        for pool in self._pools.values() if self._names is not None else (self._only,):
            pool.close()


def _error_name(problem: BaseException) -> str:
    """Return a short, stable name of a network error."""
    if isinstance(problem, (socket.timeout, gevent.Timeout)):
        return "timeout"
    code = getattr(problem, "errno", None)
    return errno.errorcode.get(code, str(problem)) if isinstance(code, int) else str(problem) or type(problem).__name__
