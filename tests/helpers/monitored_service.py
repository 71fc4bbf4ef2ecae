"""A gateway for the tests of what looks on: answers every route that they ask with 200, and /metrics as every process does.

`python -m tests.helpers.monitored_service`.
"""

from system.kernel import settings
from system.kernel.http import serving
from system.kernel.http.asgi import Answer, App, Call


async def answer(call: Call) -> Answer:
    """The parrot is always well."""
    return Answer({"data": "pining"})


if __name__ == "__main__":
    config = settings.from_env()
    serving.serve(App("gateway", [("GET", "/parrot", answer)], config.instance), config.listen_host, config.listen_port)
