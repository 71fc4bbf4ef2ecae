"""What the edge lets through, where it goes and how long it may take. Decides; reads no clock, no socket.

Order of the checks: room in the house (503), the token (401), the body's size (413), then the way. A
request that is refused here was certainly not done.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_BODY_BYTES = 64 * 1024   # a tweet is at most 280 characters; pictures go to a signed URL
MAX_TOKEN_BYTES = 4 * 1024
LEAST_DEADLINE_MS = 1


@dataclass(frozen=True)
class Route:
    """One way through the gateway.

    `name`: as in a scenario's mix where it stands there. `scope`: what a token must be good for (`kernel/scopes.py`);
    "" needs no token. What a route takes and gives is told in `describe_*.py`.
    """

    name: str
    method: str
    path: str
    service: str
    scope: str

    @property
    def open(self) -> bool:
        """Does the route need no token?"""
        return not self.scope


ROUTES: tuple[Route, ...] = (
    Route("delete", "DELETE", "/2/tweets/{id}", "tweets", "tweet.write"),
    Route("follow", "POST", "/2/users/{id}/following", "users", "follows.write"),
    Route("followers", "GET", "/2/users/{id}/followers", "users", "follows.read"),
    Route("following", "GET", "/2/users/{id}/following", "users", "follows.read"),
    Route("home", "GET", "/2/users/{id}/timelines/reverse_chronological", "timelines", "tweet.read"),
    Route("me", "GET", "/2/users/me", "users", "users.read"),
    Route("media", "GET", "/2/media/{id}", "media", "tweet.read"),
    Route("media_finalize", "POST", "/2/media/upload/{id}/finalize", "media", "media.write"),
    Route("media_initialize", "POST", "/2/media/upload/initialize", "media", "media.write"),
    Route("post", "POST", "/2/tweets", "tweets", "tweet.write"),
    Route("profile", "GET", "/2/users/{id}", "users", "users.read"),
    Route("search", "GET", "/2/tweets/search/recent", "search", "tweet.read"),
    Route("sign_up", "POST", "/2/users", "users", ""),
    Route("token", "POST", "/2/oauth2/token", "users", ""),
    Route("tweet", "GET", "/2/tweets/{id}", "tweets", "tweet.read"),
    Route("tweets", "GET", "/2/tweets", "tweets", "tweet.read"),
    Route("unfollow", "DELETE", "/2/users/{id}/following/{target}", "users", "follows.write"),
    Route("user_tweets", "GET", "/2/users/{id}/tweets", "tweets", "tweet.read"),
    Route("username", "GET", "/2/users/by/username/{name}", "users", "users.read"),
    Route("users", "GET", "/2/users", "users", "users.read"),
)


def admits(in_flight: int, max_in_flight: int) -> bool:
    """May one more request enter? `max_in_flight` 0 switches shedding off."""
    return not max_in_flight or in_flight < max_in_flight


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


def may_retry(method: str, status: int | None, attempts: int, most: int, refused: bool) -> bool:
    """May a request be sent again? Only a GET, only after a failed connection (`status` None) or a plain 503.

    `attempts`: made so far. `refused`: the answer carried `retry-after`: the service asks to be left alone.
    """
    return method == "GET" and attempts < most and status in (None, 503) and not refused
