"""What an access token may be good for: the scopes of Twitter's OAuth 2, as far as the lab has routes for them."""

from __future__ import annotations

OFFLINE = "offline.access"  # asks for a refresh token beside the access token

SCOPES: dict[str, str] = {
    "follows.read": "see who follows whom",
    "follows.write": "follow and unfollow",
    "like.read": "see who likes what",
    "like.write": "like and unlike",
    "media.write": "upload pictures",
    OFFLINE: "stay signed in: get a refresh token",
    "tweet.read": "read tweets and timelines, search",
    "tweet.write": "post and delete tweets",
    "users.read": "read profiles",
}
"""Scope -> what it allows."""

MEASURED = "lab.timings"
"""Of the lab's own load alone, and in no grant: its answers tell how long each service and store took. To a stranger that would
tell what he may not see: which words stand in protected tweets, whether a hidden tweet exists."""

ALL = " ".join(SCOPES)
"""Every scope, as a token carries them: separated by blanks (RFC 6749, 3.3)."""
