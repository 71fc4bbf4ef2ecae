"""Scopes of access tokens: those of Twitter's OAuth 2 for which the lab has routes."""

from __future__ import annotations

OFFLINE = "offline.access"  # requests a refresh token in addition to the access token

SCOPES: dict[str, str] = {
    "follows.read": "see follows between users",
    "follows.write": "follow and unfollow",
    "like.read": "see likes",
    "like.write": "like and unlike",
    "media.write": "upload pictures",
    OFFLINE: "stay signed in: get a refresh token",
    "tweet.read": "read tweets and timelines, search",
    "tweet.write": "post and delete tweets",
    "users.read": "read profiles",
}
"""Scope -> what it allows."""

MEASURED = "lab.timings"
"""Only for the lab's own load driver, and in no grant: responses then include how long each service and store
took. To other clients such timings would reveal what they may not see: which words protected tweets contain,
whether a hidden tweet exists.
"""

ALL = " ".join(SCOPES)
"""Every scope, as a token carries them: separated by spaces (RFC 6749, 3.3)."""
