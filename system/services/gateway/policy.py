"""Which requests the gateway admits, which service receives them, and how long they may take.

Pure: reads no clock, no socket.

Order of the checks: load shedding by requests in flight and by queueing time (503), the token (401) and its
revocation (401, or 503 if revocations are unknown), its scope (403), the caller's rate limits (429), the size
of the body (413), the names of its query parameters (400); then the request is forwarded. A request that is
refused here was certainly not executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from system.kernel import numbers
from system.kernel.policies import LimitKnobs, ShedKnobs
from system.kernel.resilience.rate_window import Quota

MAX_BODY_BYTES = 64 * 1024   # a tweet has at most 10,000 code points, 40 KB; pictures go to a signed URL
MAX_TOKEN_BYTES = 4 * 1024
MIN_DEADLINE_MS = 1
MAX_WAITED_S = 60.0         # a longer wait since arrival indicates a wrong clock, and counts as 0
PROBE_KEY = "probe"          # key of the probes by which gateways test whether the limit store answers
MAX_FIELDS = 16              # in the form of a token request
MAX_LOGIN = 15               # characters of a username that form a rate-limit key


@dataclass(frozen=True)
class Route:
    """One route of the public API.

    `name`: as in the mix of a scenario, if it occurs there. `scope`: scope that the token needs
    (`kernel/scopes.py`); "" for a route without a token. `limit`: class of its rate limit, a field of
    `policies.limits`; "" is read for GET, else write. Parameters and responses of a route are described in
    `openapi/`.
    """

    name: str
    method: str
    path: str
    service: str
    scope: str
    limit: str = ""

    @property
    def limit_class(self) -> str:
        """Class of the rate limit."""
        return self.limit or ("read" if self.method == "GET" else "write")

    @property
    def open(self) -> bool:
        """Whether the route needs no token."""
        return not self.scope


ROUTES: tuple[Route, ...] = (
    Route("counts", "GET", "/2/tweets/counts/recent", "search", "tweet.read", "search"),
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
    Route("mentions", "GET", "/2/users/{id}/mentions", "tweets", "tweet.read"),
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
    Route("usernames", "GET", "/2/users/by", "users", "users.read"),
    Route("username", "GET", "/2/users/by/username/{name}", "users", "users.read"),
    Route("users", "GET", "/2/users", "users", "users.read"),
)


def admits(in_flight: int, max_in_flight: int) -> bool:
    """Return whether one more request is admitted; a `max_in_flight` of 0 disables the check."""
    return not max_in_flight or in_flight < max_in_flight


def waited_s(arrival_us: bytes | None, now_s: float) -> float:
    """Return the seconds since the load balancer stamped the request (µs since 1970); 0 for an invalid stamp."""
    if arrival_us is None or not (arrival_us.isascii() and arrival_us.isdigit() and len(arrival_us) <= 17):
        return 0.0
    waited = now_s - int(arrival_us) / 1e6
    return waited if 0.0 < waited <= MAX_WAITED_S else 0.0


NOT_ABOVE = -1.0
"""Instead of a time: the last request did not wait too long in the queue."""


class Queue:
    """Detects a standing queue in front of the gateway: CoDel's rule, for requests instead of packets.

    A queue that fills in a burst and drains again is useful. A queue in which *every* request of an interval
    waited longer than the target only adds that wait to each response. In that case, requests that waited
    longer than the target are refused until one arrives that did not.
    """

    def __init__(self, knobs: ShedKnobs) -> None:
        self._target_s, self._interval_s = knobs.queue_target_s, knobs.queue_interval_s
        self._above_since_s = NOT_ABOVE

    def sheds(self, waited: float, now_s: float) -> bool:
        """Return whether to refuse a request that waited `waited` seconds.

        Call it for every request. `now_s`: monotonic.
        """
        refused, self._above_since_s = sheds(waited, now_s, self._above_since_s, self._target_s, self._interval_s)
        return refused


def sheds(waited_s: float, now_s: float, above_since_s: float, target_s: float, interval_s: float) -> tuple[bool, float]:
    """Return (whether to refuse, since when every request has waited too long). The twin compiles this function.

    `above_since_s`: NOT_ABOVE if the last request did not wait too long. `target_s`: 0 never refuses.
    """
    if target_s <= 0.0 or waited_s <= target_s:
        return False, NOT_ABOVE
    since_s = now_s if above_since_s == NOT_ABOVE else above_since_s
    return now_s - since_s >= interval_s, since_s


def quotas(route: Route, caller: str, knobs: LimitKnobs) -> list[Quota]:
    """Return the quotas of a request, [] if it is not limited.

    `caller`: a user, or an address on an open route.
    """
    limits = []
    if knobs.window_s:
        if limit := getattr(knobs, route.limit_class):
            limits.append(Quota(f"{route.name}:{caller}", limit))
        if not route.open and knobs.user:
            limits.append(Quota(f"u:{caller}", knobs.user))
    return limits


def username_in(body: bytes, content_type: bytes) -> str:
    """Return the username in a token request, "" if there is none.

    The content type alone decides how the body is read, as in the users service: read in another way, a body
    could name one user to the limit and another one to the sign-in.
    """
    try:
        if content_type.partition(b";")[0].strip().lower() == b"application/json":
            fields = numbers.parse_json(body)
            username = fields.get("username") if isinstance(fields, dict) else ""
            return username if isinstance(username, str) else ""
        return parse_qs(body.decode("latin-1"), max_num_fields=MAX_FIELDS).get("username", [""])[-1]
    except ValueError:
        return ""


def login_quotas(username: str, knobs: LimitKnobs) -> list[Quota]:
    """Return the quota of a token request by its username, in addition to the one by its address.

    It also limits guessing a password from many addresses. Usernames are case-insensitive, so the key is
    lower case.
    """
    if not (username and knobs.window_s and knobs.login):
        return []
    return [Quota(f"login:{username[:MAX_LOGIN].lower()}", knobs.login)]


def shares(quotas: Sequence[Quota], max_gateways: int) -> list[Quota]:
    """Return the share of each quota that one gateway may admit on its own."""
    return [Quota(quota.key, quota.limit // max(1, max_gateways)) for quota in quotas]


def deadline_ms(requested: str | None, request_s: float) -> int:
    """Return the time limit of a request in ms: the one that the client requested, at most `request_s`.

    An invalid or absent value means `request_s`.
    """
    most = int(request_s * 1_000)
    if requested is None or not (requested.isascii() and requested.isdigit() and len(requested) <= 9):
        return most
    return max(MIN_DEADLINE_MS, min(int(requested), most))


def is_service_timeout(waited_s: float, request_s: float) -> bool:
    """Return whether a timeout after `waited_s` counts as a failure of the service.

    It does not if the client requested a short deadline: an `x-deadline-ms: 1` of one client must not open
    the circuit breaker for all. `request_s`: the longest time limit of a request.
    """
    return waited_s >= min(1.0, request_s / 2)


def is_from_mesh(status: int, instance: str | None) -> bool:
    """Return whether HAProxy itself sent the response, because it reached no instance of the service.

    `instance`: `x-tweetlab-instance` of the response, which every instance sets; None if absent.
    """
    return instance is None and status in (502, 503, 504)


def may_retry(method: str, status: int | None, attempts: int, most: int, refused: bool) -> bool:
    """Return whether a request may be sent again.

    Only a GET, and only after a failed connection (`status` None) or a 503 without `retry-after`. `attempts`:
    made so far, at most `most`. `refused`: the response has `retry-after`, so the service refuses an
    immediate retry.
    """
    return retries(method == "GET", NO_RESPONSE if status is None else status, attempts, most, refused)


NO_RESPONSE = 0


def retries(is_get: bool, status: int, attempts: int, most: int, refused: bool) -> bool:
    """Return `may_retry` for numbers; `status` NO_RESPONSE: the connection failed. The twin compiles this function."""
    return is_get and attempts < most and (status == NO_RESPONSE or status == 503) and not refused
