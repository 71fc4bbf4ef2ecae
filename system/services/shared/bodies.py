"""Response bodies of tweets: `data`, what `expansions` adds under `includes`, and `errors` for what it cannot add.

The rules of Twitter's API v2: an expansion brings the field that it expands into `data`, whatever `tweet.fields`
says, and each included object appears once. Included tweets have the same fields as those in `data`. What the
viewer must not see is not included: a referenced tweet that is deleted or hidden is an entry in `errors`.

A request without expansions costs nothing here. Neither does one that names no field that has to be looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from system.kernel import cdn_links
from system.kernel.errors import WrongInput
from system.kernel.events import Tweet
from system.kernel.http.asgi import Spent
from system.kernel.text import entities
from system.ports import MediaState, Medium, Ports, TweetStore
from system.services.shared import shapes
from system.services.shared.public_metrics import PublicMetrics, TweetCounts
from system.services.shared.read_through import Profiles, Tweets, Usernames
from system.services.shared.shapes import Json
from system.services.shared.visibility import Visibility

AUTHOR, REPLIED_TO_USER = "author_id", "in_reply_to_user_id"
REFERENCED, REFERENCED_AUTHOR = "referenced_tweets.id", "referenced_tweets.id.author_id"
MEDIA, MENTIONED, HISTORY = "attachments.media_keys", "entities.mentions.username", "edit_history_tweet_ids"
EXPANSIONS: Mapping[str, str] = {
    MEDIA: "attachments", "attachments.poll_ids": "attachments", AUTHOR: "author_id", HISTORY: "edit_history_tweet_ids",
    MENTIONED: "entities", "geo.place_id": "geo", REPLIED_TO_USER: "in_reply_to_user_id", REFERENCED: "referenced_tweets",
    REFERENCED_AUTHOR: "referenced_tweets",
}
"""Expansion -> the field that it expands. No tweet of the lab has a poll or a place."""
MEDIA_FIELDS = (
    "alt_text", "duration_ms", "height", "media_key", "non_public_metrics", "organic_metrics", "preview_image_url",
    "promoted_metrics", "public_metrics", "type", "url", "variants", "width",
)
POLL_FIELDS = ("duration_minutes", "end_datetime", "id", "options", "voting_status")
PLACE_FIELDS = ("contained_within", "country", "country_code", "full_name", "geo", "id", "name", "place_type")
PARAMETERS = ("tweet.fields", "expansions", "user.fields", "media.fields", "poll.fields", "place.fields")


@dataclass(frozen=True, slots=True)
class View:
    """What a request wants to see of tweets.

    `fields`: of a tweet, None for all that need no look-up. `users`, `media`: the fields of included users and
    pictures, None for all.
    """

    fields: frozenset[str] | None = None
    expansions: frozenset[str] = frozenset()
    users: frozenset[str] | None = None
    media: frozenset[str] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a tweet is all that is needed."""
        return not self.expansions and (self.fields is None or self.fields.isdisjoint((shapes.METRICS, REPLIED_TO_USER)))

    @property
    def wants_replied_to_users(self) -> bool:
        """Whether the author of the tweet that a reply replies to is needed."""
        return REPLIED_TO_USER in self.expansions or (self.fields is not None and REPLIED_TO_USER in self.fields)

    @property
    def wants_references(self) -> bool:
        """Whether the tweets that replies reply to are needed."""
        return not self.expansions.isdisjoint((REFERENCED, REFERENCED_AUTHOR))


def view_of(query: Mapping[str, str]) -> View:
    """Return what the parameters of a request name. Raises WrongInput on a name that the API does not have."""
    return _view(*map(query.get, PARAMETERS))


@lru_cache(maxsize=512)
def _view(fields: str | None, expansions: str | None, users: str | None, media: str | None, polls: str | None,
          places: str | None) -> View:
    named = _names("expansions", expansions, EXPANSIONS) or frozenset()
    shown = shapes.fields_of({"tweet.fields": fields} if fields is not None else {})
    if shown is not None or REPLIED_TO_USER in named:
        shown = (shown or frozenset(shapes.TWEET_FIELDS) - {shapes.METRICS}).union(EXPANSIONS[name] for name in named)
    _names("poll.fields", polls, POLL_FIELDS)
    _names("place.fields", places, PLACE_FIELDS)
    pictures = _names("media.fields", media, MEDIA_FIELDS)
    user_fields = shapes.user_fields_of({"user.fields": users} if users is not None else {})
    return View(shown, named, user_fields, None if pictures is None else pictures | {"media_key", "type"})


def _names(parameter: str, text: str | None, known: Iterable[str]) -> frozenset[str] | None:
    if text is None:
        return None
    named = frozenset(part for part in text.split(",") if part)
    unknown = sorted(named.difference(known))
    if unknown:
        raise WrongInput(f"`{parameter}` names {unknown[0][:40]!r}; it may name {', '.join(sorted(known))}.")
    return named


class Readers(Protocol):
    """The readers that bodies need, each built at its first use: `Reads`."""

    ports: Ports

    @property
    def tweets(self) -> Tweets:
        """Tweets by id."""
        ...

    @property
    def profiles(self) -> Profiles:
        """Users by id."""
        ...

    @property
    def usernames(self) -> Usernames:
        """Ids of users by name."""
        ...

    @property
    def visibility(self) -> Visibility:
        """Who may see whose tweets."""
        ...

    @property
    def metrics(self) -> PublicMetrics:
        """`public_metrics` of tweets."""
        ...

    @property
    def tweet_counts(self) -> TweetCounts:
        """How many tweets users have."""
        ...


class Bodies:
    """Builds the bodies of one service, from its readers and the ports `media`, `edge` and `tweets`."""

    def __init__(self, reads: Readers, store: TweetStore, link_s: int) -> None:
        self._reads, self._store, self._link_s = reads, store, link_s

    async def one(self, viewer_id: int, view: View, tweet: Tweet, spent: Spent) -> Json:
        """Return the body of a single tweet, which the viewer may read."""
        body = await self.many(viewer_id, view, [tweet], spent)
        return body | {"data": body["data"][0]}

    async def many(self, viewer_id: int, view: View, tweets: Sequence[Tweet], spent: Spent) -> Json:
        """Return `data`, `includes` and `errors`, each unless it is empty. The viewer may read the `tweets`."""
        if view.is_plain:
            return {"data": [shapes.tweet(tweet, view.fields) for tweet in tweets]} if tweets else {}
        parents = await self._parents(viewer_id, view, tweets, spent)
        included = self._included_tweets(view, tweets, parents)
        metrics = await self._metrics(view, [*tweets, *included])

        def shape(tweet: Tweet) -> Json:
            shaped = shapes.tweet(tweet, view.fields, metrics)
            author = parents.authors.get(tweet.in_reply_to or 0)
            if author is not None and view.wants_replied_to_users:
                shaped[REPLIED_TO_USER] = str(author)
            return shaped

        users = await self._reads.profiles.get(await self._user_ids(view, tweets, parents)) if view.expansions else []
        counts = await self._reads.tweet_counts.of([user.id for user in users], view.users) if users else {}
        includes: Json = {
            "users": [shapes.user(user, view.users, counts) for user in users],
            "tweets": [shape(tweet) for tweet in included],
            "media": await self._pictures(view, tweets),
        }
        errors = [shapes.missing("tweet", str(parent), REFERENCED) for parent in parents.hidden]
        return _filled({"data": [shape(tweet) for tweet in tweets],
                        "includes": _filled(includes), "errors": errors if REFERENCED in view.expansions else []})

    async def page(self, viewer_id: int, view: View, tweets: Sequence[Tweet], spent: Spent, next_token: str | None,
                   previous_token: str | None = None) -> Json:
        """Return the body of a page, newest first. An empty page has no `data`."""
        body = await self.many(viewer_id, view, tweets, spent)
        body["meta"] = shapes.page_meta([tweet.id for tweet in tweets], next_token, previous_token)
        return body

    async def _metrics(self, view: View, tweets: Sequence[Tweet]) -> Mapping[int, Json] | None:
        if view.fields is None or shapes.METRICS not in view.fields:
            return None
        return await self._reads.metrics.of(tweets)

    async def _parents(self, viewer_id: int, view: View, tweets: Sequence[Tweet], spent: Spent) -> _Parents:
        """Look up the tweets that replies among `tweets` reply to, as far as the view needs them."""
        ids = list(dict.fromkeys(tweet.in_reply_to for tweet in tweets if tweet.in_reply_to is not None))
        if not ids or not (view.wants_replied_to_users or view.wants_references):
            return _Parents({}, {}, ())
        live = await self._reads.tweets.live(ids, spent)
        known = dict(live)
        if view.wants_replied_to_users and len(live) < len(ids):  # the author of a deleted tweet is still named
            known |= await self._store.get([parent for parent in ids if parent not in live])
        readable = await self._reads.visibility.readable(viewer_id, known)
        shown = {key: tweet for key, tweet in readable.items() if key in live}
        authors = {key: tweet.author_id for key, tweet in readable.items()}
        return _Parents(shown, authors, tuple(key for key in ids if key not in shown))

    def _included_tweets(self, view: View, tweets: Sequence[Tweet], parents: _Parents) -> list[Tweet]:
        included: dict[int, Tweet] = dict(parents.shown) if view.wants_references else {}
        if HISTORY in view.expansions:  # a tweet cannot be edited, so it is its own only version
            included |= {tweet.id: tweet for tweet in tweets}
        return list(included.values())

    async def _user_ids(self, view: View, tweets: Sequence[Tweet], parents: _Parents) -> list[int]:
        wanted: dict[int, None] = {}
        if AUTHOR in view.expansions:
            wanted.update((tweet.author_id, None) for tweet in tweets)
        if REPLIED_TO_USER in view.expansions:
            wanted.update((parents.authors[parent], None) for tweet in tweets
                          if (parent := tweet.in_reply_to or 0) in parents.authors)
        if REFERENCED_AUTHOR in view.expansions:
            wanted.update((tweet.author_id, None) for tweet in parents.shown.values())
        if MENTIONED in view.expansions:
            names = dict.fromkeys(name for tweet in tweets for name in entities.mentioned(entities.of(tweet)))
            user_ids = await self._reads.usernames.ids_of(list(names))
            wanted.update((user_ids[name], None) for name in names if name in user_ids)
        return list(wanted)

    async def _pictures(self, view: View, tweets: Sequence[Tweet]) -> list[Json]:
        """Return the pictures of tweets, each with a signed link. Deleted pictures are left out."""
        if MEDIA not in view.expansions:
            return []
        keys = list(dict.fromkeys(key for tweet in tweets for key in tweet.media_keys))
        media = await self._reads.ports.media.get(keys) if keys else {}
        return [self._picture(media[key], view) for key in keys if key in media and media[key].state is MediaState.ATTACHED]

    def _picture(self, medium: Medium, view: View) -> Json:
        url = self._reads.ports.edge.link(cdn_links.object_key(medium.id), self._link_s)
        shape: Json = {"media_key": medium.id, "type": "photo", "url": url}
        return shape if view.media is None else {name: part for name, part in shape.items() if name in view.media}


@dataclass(frozen=True, slots=True)
class _Parents:
    """Tweets that others reply to.

    `shown`: those that the viewer may read. `authors`: their authors, and of deleted ones too. `hidden`: those
    that are deleted or that the viewer may not read.
    """

    shown: Mapping[int, Tweet]
    authors: Mapping[int, int]
    hidden: tuple[int, ...]


def _filled(parts: Json) -> Json:
    return {name: part for name, part in parts.items() if part}
