"""The canary of a load: every reply to the generator is searched, and one leak fails the invariant."""

import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from chaos.evidence.bundle import Canary, Evidence, RunClock
from chaos.invariants import privacy
from tests.unit.test_chaos_privacy import GRAPH
from tweetlab.load.generator import wire

WORD = "canary0123456789abcdef"


class Leaky(BaseHTTPRequestHandler):
    """A system that leaks the word in some replies, including refusals."""

    def do_GET(self):
        body = f'{{"detail": "{WORD if "leak" in self.path else "nothing"}"}}'.encode()
        self.send_response(403 if "refused" in self.path else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Log nothing."""


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Leaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_every_reply_to_a_load_is_searched_whatever_its_status(address):
    """Pages and refusals alike; without a canary no reply is searched."""
    scanning, plain = (wire.Wire(address, 2, 5.0, canary) for canary in (WORD.encode(), b""))

    for path in ("/2/a", "/2/leak", "/2/refused/leak", "/2/b"):
        scanning.exchange("GET", path)
        plain.exchange("GET", path)

    assert (scanning.scanned, scanning.leaks) == (4, ["GET /2/leak", "GET /2/refused/leak"])
    assert (plain.scanned, plain.leaks) == (0, [])


@pytest.mark.parametrize(("leaks", "verdict"), [((), "pass"), (("GET /2/tweets/search/recent?query=ba",), "fail")])
def test_one_reply_that_contains_the_canary_fails_the_invariant(leaks, verdict):
    """Even without final reads."""
    finding = privacy.check(dataclasses.replace(bare(), load_canary=Canary(900, leaks, True)))

    assert (finding.verdict, finding.found) == (verdict, len(leaks))
    assert finding.checked == 900


def bare():
    frame = pd.DataFrame([])
    return Evidence(frame, pd.DataFrame(), None, GRAPH, RunClock(0, 0))
