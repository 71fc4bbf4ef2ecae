"""A service for the tests of scaling: our own server with keep-alive. `python -m tests.helpers.busy_service`.

GET /work?ms=N uses N ms of CPU, GET /wait?ms=N waits, GET /fail answers 500 on the instance that TWEETLAB_BUSY_FAILS names;
GET /fall-ill lets /health answer 503 from then on.
"""

import asyncio
import os
import time

from system.kernel.http import asgi, serving
from system.kernel.http.asgi import Answer

INSTANCE = os.environ.get("TWEETLAB_INSTANCE", "")


async def work(call):
    """Use CPU."""
    end = time.thread_time() + int(call.query().get("ms", "1")) / 1e3
    while time.thread_time() < end:
        pass
    return Answer({"instance": INSTANCE})


async def wait(call):
    """Take time, but no CPU."""
    await asyncio.sleep(int(call.query().get("ms", "1")) / 1e3)
    return Answer({"instance": INSTANCE})


async def fail(call):
    """Fail where told to."""
    return Answer({"instance": INSTANCE}, 500 if os.environ.get("TWEETLAB_BUSY_FAILS") == INSTANCE else 200)


async def fall_ill(call):
    """Answer health checks with an error from now on."""
    app._ready = lambda: False
    return Answer({"instance": INSTANCE})


if __name__ == "__main__":
    host, port = os.environ["TWEETLAB_LISTEN"].rsplit(":", 1)
    rows = [("GET", "/work", work), ("GET", "/wait", wait), ("GET", "/fail", fail), ("GET", "/fall-ill", fall_ill)]
    app = asgi.App("busy", rows, INSTANCE)
    serving.serve(app, host, int(port))
