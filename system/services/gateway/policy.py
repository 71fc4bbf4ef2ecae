"""What the edge lets through, where it goes and how long it may take. Decides; reads no clock, no socket.

Order of the checks: room in the house and time in its queue (503), the token (401) and its revocation (401, or 503 where
nobody can tell), its scope (403), the caller's limits (429), the body's size (413), then the way. A request that is refused
here was certainly not done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from system.kernel.policies import LimitKnobs, ShedKnobs
from system.kernel.resilience.rate_window import Quota

MAX_BODY_BYTES = 64 * 1024   # a tweet is at most 280 characters; pictures go to a signed URL
MAX_TOKEN_BYTES = 4 * 1024
LEAST_DEADLINE_MS = 1
MOST_WAITED_S = 60.0         # a longer wait since arrival is a clock that is off, and counts as none
PROBE_KEY = "probe"          # counts what gateways ask to see whether the store of limits answers
MAX_FIELDS = 16              # of a token request's form
MAX_LOGIN = 15               # characters of a user name that are counted by


@dataclass(frozen=True)
class Route:
    """One way through the gateway.

    `name`: as in a scenario's mix where it stands there. `scope`: what a token must be good for (`kernel/scopes.py`);
    "" needs no token. `limit`: class of its rate limit, a field of `policies.limits`; "" is read for GET, else write.
    What a route takes and gives is told in `describe_*.py`.
    """

    name: str
    method: str
    path: str
    service: str
    scope: str
    limit: str = ""

    @property
    def limit_class(self) -> str:
        """Class of its rate limit."""
        return self.limit or ("read" if self.method == "GET" else "write")

    @property
    def open(self) -> bool:
        """Does the route need no token?"""
        return not self.scope


ROUTES: tuple[Route, ...] = (
    Route("delete", "DELETE", "/2/tweets/{id}", "tweets", "tweet.write"),
    Route("follow", "POST", "/2/users/{id}/following", "users", "follows.write"),
    Route("follow_approve", "POST", "/2/users/{id}/follow_requests/{requester}", "users", "follows.write"),
    Route("follow_refuse", "DELETE", "/2/users/{id}/follow_requests/{requester}", "users", "follows.write"),
    Route("follow_requests", "GET", "/2/users/{id}/follow_requests", "users", "follows.read"),
    Route("follower_remove", "DELETE", "/2/users/{id}/followers/{follower}", "users", "follows.write"),
    Route("followers", "GET", "/2/users/{id}/followers", "users", "follows.read"),
    Route("following", "GET", "/2/users/{id}/following", "users", "follows.read"),
    Route("home", "GET", "/2/users/{id}/timelines/reverse_chronological", "timelines", "tweet.read"),
    Route("like", "POST", "/2/users/{id}/likes", "likes", "like.write"),
    Route("liked_tweets", "GET", "/2/users/{id}/liked_tweets", "likes", "like.read"),
    Route("liking_users", "GET", "/2/tweets/{id}/liking_users", "likes", "like.read"),
    Route("me", "GET", "/2/users/me", "users", "users.read"),
    Route("me_change", "PUT", "/2/users/me", "users", "follows.write"),
    Route("media", "GET", "/2/media/{id}", "media", "tweet.read"),
    Route("media_delete", "DELETE", "/2/media/{id}", "media", "media.write"),
    Route("media_finalize", "POST", "/2/media/upload/{id}/finalize", "media", "media.write"),
    Route("media_initialize", "POST", "/2/media/upload/initialize", "media", "media.write"),
    Route("post", "POST", "/2/tweets", "tweets", "tweet.write"),
    Route("profile", "GET", "/2/users/{id}", "users", "users.read"),
    Route("revoke", "POST", "/2/oauth2/revoke", "users", "", "token"),
    Route("search", "GET", "/2/tweets/search/recent", "search", "tweet.read", "search"),
    Route("sign_up", "POST", "/2/users", "users", "", "sign_up"),
    Route("token", "POST", "/2/oauth2/token", "users", "", "token"),
    Route("tweet", "GET", "/2/tweets/{id}", "tweets", "tweet.read"),
    Route("tweets", "GET", "/2/tweets", "tweets", "tweet.read"),
    Route("unlike", "DELETE", "/2/users/{id}/likes/{tweet_id}", "likes", "like.write"),
    Route("unfollow", "DELETE", "/2/users/{id}/following/{target}", "users", "follows.write"),
    Route("user_tweets", "GET", "/2/users/{id}/tweets", "tweets", "tweet.read"),
    Route("username", "GET", "/2/users/by/username/{name}", "users", "users.read"),
    Route("users", "GET", "/2/users", "users", "users.read"),
)


def admits(in_flight: int, max_in_flight: int) -> bool:
    """May one more request enter? `max_in_flight` 0 switches shedding off."""
    return not max_in_flight or in_flight < max_in_flight


def waited_s(arrival_us: bytes | None, now_s: float) -> float:
    """Return how long a request waited since the public door stamped it (µs since 1970). Nonsense counts as 0."""
    if arrival_us is None or not (arrival_us.isascii() and arrival_us.isdigit() and len(arrival_us) <= 17):
        return 0.0
    waited = now_s - int(arrival_us) / 1e6
    return waited if 0.0 < waited <= MOST_WAITED_S else 0.0


class Queue:
    """Does the queue in front of the gateway stand? CoDel's rule, over requests instead of packets.

    A burst fills a queue and the queue empties again: that is what it is for. A queue in which *every* request of an interval
    waited longer than the target only adds that wait to each answer; then those that waited longer are refused until one
    comes that did not.
    """

    def __init__(self, knobs: ShedKnobs) -> None:
        self._target_s, self._interval_s = knobs.queue_target_s, knobs.queue_interval_s
        self._above_since_s: float | None = None

    def sheds(self, waited: float, now_s: float) -> bool:
        """Is a request refused that waited so long? Told of every request. `now_s`: monotonic."""
        if not self._target_s or waited <= self._target_s:
            self._above_since_s = None
            return False
        if self._above_since_s is None:
            self._above_since_s = now_s
        return now_s - self._above_since_s >= self._interval_s


def quotas(route: Route, caller: str, knobs: LimitKnobs) -> list[Quota]:
    """Return what a request counts against; nothing where it is not limited. `caller`: a user, or an address on an open route."""
    found = []
    if knobs.window_s:
        if limit := getattr(knobs, route.limit_class):
            found.append(Quota(f"{route.name}:{caller}", limit))
        if not route.open and knobs.user:
            found.append(Quota(f"u:{caller}", knobs.user))
    return found


def username_in(form: bytes) -> str:
    """Return the user name in the form of a token request, "" where there is none."""
    try:
        return parse_qs(form.decode("latin-1"), max_num_fields=MAX_FIELDS).get("username", [""])[-1]
    except ValueError:
        return ""


def login_quotas(username: str, knobs: LimitKnobs) -> list[Quota]:
    """Return what a token request counts against besides its address: its user name, so that a password cannot be guessed
    from many addresses. Case does not matter, as it does not for the user's name."""
    if not (username and knobs.window_s and knobs.login):
        return []
    return [Quota(f"login:{username[:MAX_LOGIN].lower()}", knobs.login)]


def shares(asked: Sequence[Quota], max_gateways: int) -> list[Quota]:
    """Return what one gateway may admit of each quota by itself."""
    return [Quota(quota.key, quota.limit // max(1, max_gateways)) for quota in asked]


def deadline_ms(asked: str | None, request_s: float) -> int:
    """Return the milliseconds a request has: what the caller asked for, at most `request_s`. Nonsense is ignored."""
    most = int(request_s * 1_000)
    if asked is None or not (asked.isascii() and asked.isdigit() and len(asked) <= 9):
        return most
    return max(LEAST_DEADLINE_MS, min(int(asked), most))


def blames(waited_s: float, request_s: float) -> bool:
    """Does a silence of `waited_s` speak against the service? Not where its caller had no patience: his `x-deadline-ms: 1`
    must not open the breaker for everybody. `request_s`: time a request has in the house."""
    return waited_s >= min(1.0, request_s / 2)


def is_of_mesh(status: int, instance: str | None) -> bool:
    """Did the load balancer answer in the place of a service? Then none of its instances did, and each would name itself.

    `instance`: the answer's `x-tweetlab-instance`, None without one.
    """
    return instance is None and status in (502, 503, 504)


def may_retry(method: str, status: int | None, attempts: int, most: int, refused: bool) -> bool:
    """May a request be sent again? Only a GET, only after a failed connection (`status` None) or a plain 503.

    `attempts`: made so far. `refused`: the answer carried `retry-after`: the service asks to be left alone.
    """
    return method == "GET" and attempts < most and status in (None, 503) and not refused
