"""A service for the tests of the platform: answers /health, tells its environment, burns CPU in a child when asked.

`python -m tests.helpers.echo_service`; standard library alone. TWEETLAB_ECHO_FAILS makes it die while starting.
"""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


class Echo(BaseHTTPRequestHandler):
    """GET /health, /env, /burn (0.3 s of CPU in a child that then exits)."""

    def do_GET(self):
        if self.path == "/burn":
            subprocess.run([sys.executable, "-c", BURN], check=True)
        told = {name: value for name, value in os.environ.items() if name.startswith("TWEETLAB_")}
        body = json.dumps({**told, "started_at": STARTED_AT}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Stay silent."""


if __name__ == "__main__":
    STARTED_AT = time.time()
    if os.environ.get("TWEETLAB_ECHO_FAILS"):
        raise SystemExit("the echo service was told to fail: lorem ipsum")
    host, port = os.environ["TWEETLAB_LISTEN"].rsplit(":", 1)
    HTTPServer((host, int(port)), Echo).serve_forever()
