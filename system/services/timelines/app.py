"""The timelines service: `python -m system.services.timelines.app`."""

from __future__ import annotations

from system.kernel import ids
from system.kernel.errors import Forbidden
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports
from system.services.shared import hosting, paging
from system.services.shared.bodies import view_of
from system.services.shared.reads import Reads
from system.services.timelines import policy
from system.services.timelines.handlers import Timelines
from system.services.timelines.pulled_authors import PulledAuthors

NAME = "timelines"
NEEDS = ("timelines", "hot", "tweets", "users", "media", "edge", "likes", "like_counts")


class Routes:
    """HTTP in front of `Timelines`."""

    def __init__(self, timelines: Timelines, reads: Reads) -> None:
        self._timelines, self._bodies = timelines, reads.bodies

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [("GET", "/2/users/{id}/timelines/reverse_chronological", self.home)]

    async def home(self, call: Call) -> Answer:
        """`GET /2/users/{id}/timelines/reverse_chronological`, of the caller only."""
        user_id = ids.parse(call.params["id"])
        if user_id != call.user_id:
            raise Forbidden(f"The token is of user {call.user_id}; only user {user_id} may read this home timeline.")
        query = call.query()
        view, window = view_of(query), paging.window(query, policy.DEFAULT_RESULTS)
        page = await self._timelines.home(user_id, window, call.spent, call.deadline_ns)
        body = await self._bodies.page(user_id, view, page.tweets, call.spent, page.next_token, window.cursor.previous())
        headers = [(b"x-tweetlab-source", page.label().encode()), (b"x-tweetlab-scanned", b"%d" % page.scanned)]
        return Answer(body, headers=headers)


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`."""
    knobs = settings.policies.timeline
    reads = Reads(ports, settings.policies)
    pulled_authors = PulledAuthors(ports.users, knobs.mode_ttl_s)
    timelines = Timelines(ports.timelines, reads.tweets, reads.lists, pulled_authors, reads.visibility, knobs)
    return hosting.Service(Routes(timelines, reads).rows())


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
