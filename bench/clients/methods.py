"""Every public method of tweepy's `Client` and of twitter-api-v2's clients, and what the lab does with it.

Three outcomes: *served*; *refused* with a 4xx status and a sentence that says why; *not tried* (streaming, OAuth
1.0a, and helpers that send no request of their own). A fourth one, ignored, is a defect: the bench row
`client_methods_ignored` counts the methods whose outcome is another one than the table says.

Arguments may contain names in braces, which `world.World` replaces: `{me}` and `{other}` (user ids), `{name}`
(the other's username), `{tweet}` (the other's tweet), `{own}` (a tweet of the caller), `{spare}` (another one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SERVED, REFUSED, NOT_TRIED = "served", "refused", "not tried"

NINE = ["author_id", "in_reply_to_user_id", "referenced_tweets.id", "referenced_tweets.id.author_id", "attachments.media_keys",
        "attachments.poll_ids", "entities.mentions.username", "geo.place_id", "edit_history_tweet_ids"]
TWEET_FIELDS = ["created_at", "public_metrics", "conversation_id", "in_reply_to_user_id", "entities", "lang"]
USER_FIELDS = ["created_at", "public_metrics", "verified"]
FROM, TO = "2020-01-01T00:00:00Z", "2037-01-01T00:00:00Z"


@dataclass(frozen=True)
class Method:
    """One method. `args`, `named`: what it is called with. `why`: for the page, where it is not obvious."""

    outcome: str
    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


def served(*args: Any, **named: Any) -> Method:
    """Return a method that the lab serves, with the arguments of its call."""
    return Method(SERVED, args, named)


def refused(*args: Any, **named: Any) -> Method:
    """Return a method that the lab refuses, with the arguments of its call."""
    return Method(REFUSED, args, named)


def not_tried(why: str) -> Method:
    """Return a method that is not tried, with the reason."""
    return Method(NOT_TRIED, why=why)


def _as_user(method: Method) -> Method:
    """Return a tweepy method that is called with the user's OAuth 2 token, not with OAuth 1.0a."""
    return Method(method.outcome, method.args, {**method.named, "user_auth": False}, method.why)


_VIEW = {"tweet_fields": TWEET_FIELDS, "expansions": NINE, "user_fields": USER_FIELDS, "media_fields": ["url", "type"],
         "poll_fields": ["id"], "place_fields": ["id"]}
_WINDOW = {**_VIEW, "max_results": 5, "start_time": FROM, "end_time": TO}
_USERS = {"user_fields": USER_FIELDS, "tweet_fields": ["created_at"], "expansions": ["pinned_tweet_id"]}

TWEEPY: dict[str, Method] = {
    "add_list_member": _as_user(refused("1", "{other}")),
    "bookmark": refused("{tweet}"),
    "create_compliance_job": refused("tweets"),
    "create_direct_message": _as_user(refused(participant_id="{other}", text="hello")),
    "create_direct_message_conversation": _as_user(refused(text="hello", participant_ids=["{other}"])),
    "create_dm": _as_user(refused(participant_id="{other}", text="hello")),
    "create_dm_conversation": _as_user(refused(text="hello", participant_ids=["{other}"])),
    "create_list": _as_user(refused("a list")),
    "create_tweet": _as_user(served(text="hello", in_reply_to_tweet_id="{tweet}")),
    "delete_list": _as_user(refused("1")),
    "delete_tweet": _as_user(served("{spare}")),
    "follow": _as_user(served("{other}")),
    "follow_list": _as_user(refused("1")),
    "follow_user": _as_user(served("{other}")),
    "get_all_tweets_count": refused("hello"),
    "get_blocked": _as_user(refused()),
    "get_bookmarks": refused(),
    "get_compliance_job": refused("1"),
    "get_compliance_jobs": refused("tweets"),
    "get_direct_message_events": _as_user(refused()),
    "get_dm_events": _as_user(refused()),
    "get_followed_lists": refused("{me}"),
    "get_home_timeline": _as_user(served(**_WINDOW, exclude=["replies", "retweets"])),
    "get_liked_tweets": served("{me}", **_VIEW, max_results=5),
    "get_liking_users": served("{tweet}", **_USERS),
    "get_list": refused("1"),
    "get_list_followers": refused("1"),
    "get_list_members": refused("1"),
    "get_list_memberships": refused("{me}"),
    "get_list_tweets": refused("1"),
    "get_me": _as_user(served(**_USERS)),
    "get_muted": _as_user(refused()),
    "get_owned_lists": refused("{me}"),
    "get_pinned_lists": _as_user(refused()),
    "get_quote_tweets": refused("{tweet}"),
    "get_recent_tweets_count": served("hello", granularity="day"),
    "get_retweeters": refused("{tweet}"),
    "get_space": refused("1"),
    "get_space_buyers": refused("1"),
    "get_space_tweets": refused("1"),
    "get_spaces": refused(ids=["1"]),
    "get_tweet": served("{tweet}", **_VIEW),
    "get_tweets": served(["{tweet}", "{own}"], **_VIEW),
    "get_user": served(username="{name}", **_USERS),
    "get_users": served(usernames=["{name}"], **_USERS),
    "get_users_followers": served("{me}", **_USERS, max_results=5),
    "get_users_following": served("{me}", **_USERS, max_results=5),
    "get_users_mentions": served("{me}", **_WINDOW),
    "get_users_tweets": served("{me}", **_WINDOW, exclude=["replies", "retweets"]),
    "hide_reply": _as_user(refused("{tweet}")),
    "like": _as_user(served("{tweet}")),
    "mute": _as_user(refused("{other}")),
    "pin_list": _as_user(refused("1")),
    "remove_bookmark": refused("{tweet}"),
    "remove_list_member": _as_user(refused("1", "{other}")),
    "request": served("GET", "/2/users/me"),
    "retweet": _as_user(refused("{tweet}")),
    "search_all_tweets": refused("hello"),
    "search_recent_tweets": served("hello", **_VIEW, max_results=10, start_time=FROM, end_time=TO, sort_order="recency"),
    "search_spaces": refused("hello"),
    "unfollow": _as_user(served("{other}")),
    "unfollow_list": _as_user(refused("1")),
    "unfollow_user": _as_user(served("{other}")),
    "unhide_reply": _as_user(refused("{tweet}")),
    "unlike": _as_user(served("{tweet}")),
    "unmute": _as_user(refused("{other}")),
    "unpin_list": _as_user(refused("1")),
    "unretweet": _as_user(refused("{tweet}")),
    "update_list": _as_user(refused("1", name="another name")),
}
"""Methods of `tweepy.Client`."""

_V2_VIEW = {"tweet.fields": TWEET_FIELDS, "expansions": NINE, "user.fields": USER_FIELDS, "media.fields": ["url", "type"],
            "poll.fields": ["id"], "place.fields": ["id"]}
_V2_WINDOW = {**_V2_VIEW, "max_results": 5, "start_time": FROM, "end_time": TO}
_V2_USERS = {"user.fields": USER_FIELDS, "tweet.fields": ["created_at"], "expansions": ["pinned_tweet_id"]}
_STREAM, _OAUTH1 = "streaming", "OAuth 1.0a"

NPM_V2: dict[str, Method] = {
    "addListMember": refused("1", "{other}"),
    "block": refused("{me}", "{other}"),
    "bookmark": refused("{tweet}"),
    "bookmarks": refused(),
    "community": refused("1"),
    "complianceJob": refused("1"),
    "complianceJobResult": not_tried("downloads the result of a job from another host; the lab has no such jobs"),
    "complianceJobs": refused({"type": "tweets"}),
    "createDmConversation": refused({"conversation_type": "Group", "participant_ids": ["{other}"], "message": {"text": "hello"}}),
    "createList": refused({"name": "a list"}),
    "createMediaMetadata": refused("{me}_1", {"alt_text": {"text": "a walrus"}}),
    "deleteBookmark": refused("{tweet}"),
    "deleteTweet": served("{spare}"),
    "follow": served("{me}", "{other}"),
    "followers": served("{me}", _V2_USERS),
    "following": served("{me}", _V2_USERS),
    "hideReply": refused("{tweet}", True),
    "homeTimeline": served({**_V2_WINDOW, "exclude": ["replies", "retweets"]}),
    "like": served("{me}", "{tweet}"),
    "list": refused("1"),
    "listDmEvents": refused(),
    "listDmEventsOfConversation": refused("1"),
    "listDmEventsWithParticipant": refused("{other}"),
    "listFollowed": refused("{me}"),
    "listFollowers": refused("1"),
    "listMembers": refused("1"),
    "listMemberships": refused("{me}"),
    "listTweets": refused("1"),
    "listsOwned": refused("{me}"),
    "me": served(_V2_USERS),
    "mute": refused("{me}", "{other}"),
    "pinList": refused("{me}", "1"),
    "quote": refused("hello", "{tweet}"),
    "quotes": refused("{tweet}"),
    "removeList": refused("1"),
    "removeListMember": refused("1", "{other}"),
    "reply": served("hello", "{tweet}"),
    "retweet": refused("{me}", "{tweet}"),
    "sample10Stream": not_tried(_STREAM),
    "sampleStream": not_tried(_STREAM),
    "search": served("hello", {**_V2_VIEW, "start_time": FROM, "end_time": TO, "sort_order": "recency"}),
    "searchAll": refused("hello"),
    "searchCommunities": refused("walrus"),
    "searchSpaces": refused({"query": "walrus", "state": "live"}),
    "searchStream": not_tried(_STREAM),
    "sendComplianceJob": refused({"type": "tweets", "ids": ["{tweet}"]}),
    "sendDmInConversation": refused("1", {"text": "hello"}),
    "sendDmToParticipant": refused("{other}", {"text": "hello"}),
    "singleTweet": served("{tweet}", _V2_VIEW),
    "space": refused("1"),
    "spaceBuyers": refused("1"),
    "spaceTweets": refused("1"),
    "spaces": refused(["1"]),
    "spacesByCreators": refused(["{other}"]),
    "streamRules": not_tried(_STREAM),
    "subscribeToList": refused("{me}", "1"),
    "tweet": served("hello"),
    "tweetCountAll": refused("hello"),
    "tweetCountRecent": served("hello", {"granularity": "day"}),
    "tweetLikedBy": served("{tweet}", _V2_USERS),
    "tweetRetweetedBy": refused("{tweet}"),
    "tweetThread": served(["one", "two"]),
    "tweets": served(["{tweet}", "{own}"], _V2_VIEW),
    "unblock": refused("{me}", "{other}"),
    "unfollow": served("{me}", "{other}"),
    "unlike": served("{me}", "{tweet}"),
    "unmute": refused("{me}", "{other}"),
    "unpinList": refused("{me}", "1"),
    "unretweet": refused("{me}", "{tweet}"),
    "unsubscribeOfList": refused("{me}", "1"),
    "updateList": refused("1", {"name": "another name"}),
    "updateStreamRules": not_tried(_STREAM),
    "uploadMedia": refused("{picture}", {"media_type": "image/png"}),
    "usage": refused(),
    "user": served("{other}", _V2_USERS),
    "userBlockingUsers": refused("{me}"),
    "userByUsername": served("{name}", _V2_USERS),
    "userLikedTweets": served("{me}", {**_V2_VIEW, "max_results": 5}),
    "userMentionTimeline": served("{me}", _V2_WINDOW),
    "userMutingUsers": refused("{me}"),
    "userTimeline": served("{me}", {**_V2_WINDOW, "exclude": ["replies", "retweets"]}),
    "users": served(["{me}", "{other}"], _V2_USERS),
    "usersByUsernames": served(["{name}"], _V2_USERS),
    "waitForMediaProcessing": not_tried("a helper of uploadMedia"),
}
"""Methods of twitter-api-v2's `v2` client."""

NPM_CLIENT: dict[str, Method] = {
    "appLogin": not_tried("needs the consumer keys of OAuth 1.0a"),
    "currentUser": refused(),
    "currentUserV2": served(),
    "generateAuthLink": not_tried(_OAUTH1),
    "generateOAuth2AuthLink": not_tried("computes a link; sends no request"),
    "login": not_tried(_OAUTH1),
    "loginWithOAuth2": refused({"code": "1", "codeVerifier": "2", "redirectUri": "http://localhost"}),
    "parseOAuth2AccessTokenResult": not_tried("parses a response; sends no request"),
    "refreshOAuth2Token": served("{refresh}"),
    "revokeOAuth2Token": served("{revocable}"),
    "search": served("hello"),
}
"""Methods of twitter-api-v2's root client."""

NPM_V1 = "the `v1` client (Twitter's API v1.1): every method is refused with 404"
