"""A stub gateway for the tests of monitoring.

200 for every route that they call, and /metrics as every process has.

`python -m tests.helpers.monitored_service`.
"""

from system.kernel import settings
from system.kernel.http import serving
from system.kernel.http.asgi import Answer, App, Call


async def answer(call: Call) -> Answer:
    """The parrot is always healthy."""
    return Answer({"data": "pining"})


if __name__ == "__main__":
    config = settings.from_env()
    serving.serve(App("gateway", [("GET", "/parrot", answer)], config.instance), config.listen_host, config.listen_port)
