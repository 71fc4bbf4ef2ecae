"""A stub gateway for the tests of load balancers: the load generator's, as a service.

`python -m tests.helpers.gateway_stand_in`.
"""

import os

import uvicorn

from bench.selfchecks import gateway_stand_in


def with_health(app):
    """Return `app` with an endpoint for health checks."""

    async def answer(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/health":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return answer


if __name__ == "__main__":
    host, port = os.environ["TWEETLAB_LISTEN"].rsplit(":", 1)
    served = with_health(gateway_stand_in.application(gateway_stand_in.Stage({})))
    uvicorn.run(served, host=host, port=int(port), log_level="critical", lifespan="off", access_log=False, timeout_keep_alive=65)
