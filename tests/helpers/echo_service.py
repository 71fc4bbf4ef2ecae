"""A service for the tests of the platform.

Answers /health, returns its environment, burns CPU in a child on request.

`python -m tests.helpers.echo_service`; standard library alone. TWEETLAB_ECHO_FAILS makes it exit during
start.
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
        variables = {name: value for name, value in os.environ.items() if name.startswith("TWEETLAB_")}
        body = json.dumps({**variables, "started_at": STARTED_AT}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Log nothing."""


if __name__ == "__main__":
    STARTED_AT = time.time()
    if os.environ.get("TWEETLAB_ECHO_FAILS"):
        raise SystemExit("the echo service fails as configured: lorem ipsum")
    host, port = os.environ["TWEETLAB_LISTEN"].rsplit(":", 1)
    HTTPServer((host, int(port)), Echo).serve_forever()
