"""A service for the tests of scaling: the lab's own HTTP server with keep-alive.

`python -m tests.helpers.busy_service`.

GET /work?ms=N uses N ms of CPU, GET /wait?ms=N waits, GET /fail answers 500 on the instance that
TWEETLAB_BUSY_FAILS names; after GET /fall-ill, /health answers 503.
"""

import asyncio
import os
import time

from system.kernel.http import asgi, serving
from system.kernel.http.asgi import Answer

INSTANCE = os.environ.get("TWEETLAB_INSTANCE", "")


async def work(call):
    """Use CPU time."""
    end = time.thread_time() + int(call.query().get("ms", "1")) / 1e3
    while time.thread_time() < end:
        pass
    return Answer({"instance": INSTANCE})


async def wait(call):
    """Take time without CPU."""
    await asyncio.sleep(int(call.query().get("ms", "1")) / 1e3)
    return Answer({"instance": INSTANCE})


async def fail(call):
    """Fail on the configured instance."""
    return Answer({"instance": INSTANCE}, 500 if os.environ.get("TWEETLAB_BUSY_FAILS") == INSTANCE else 200)


async def fall_ill(call):
    """Fail health checks from now on."""
    app._ready = lambda: False
    return Answer({"instance": INSTANCE})


if __name__ == "__main__":
    host, port = os.environ["TWEETLAB_LISTEN"].rsplit(":", 1)
    rows = [("GET", "/work", work), ("GET", "/wait", wait), ("GET", "/fail", fail), ("GET", "/fall-ill", fall_ill)]
    app = asgi.App("busy", rows, INSTANCE)
    serving.serve(app, host, int(port))
