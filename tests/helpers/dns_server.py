"""A DNS server for tests: a socket and a thread."""

import contextlib
import socket
import threading

import dns.message
import dns.rcode
import dns.rrset


class Server:
    """A DNS server that answers every query with `addresses`, or with `rcode`; `silent`: not at all."""

    def __init__(self, *addresses):
        self.addresses, self.asked, self.silent, self.rcode = addresses, 0, False, dns.rcode.NOERROR
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                raw, client = self._socket.recvfrom(4096)
                if raw == b"end":
                    return
                self.asked += 1
                question = dns.message.from_wire(raw)
                reply = dns.message.make_response(question)
                reply.set_rcode(self.rcode)
                if self.addresses:
                    reply.answer.append(dns.rrset.from_text(question.question[0].name, 1, "IN", "A", *self.addresses))
                if not self.silent:
                    self._socket.sendto(reply.to_wire(), client)

    def close(self):
        host, _, port = self.address.rpartition(":")
        self._socket.sendto(b"end", (host, int(port)))
        self._thread.join(5)
        self._socket.close()
