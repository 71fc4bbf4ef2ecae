"""tweepy's `Client`, unpatched: an adapter on its session sends requests for Twitter to the lab instead."""

from __future__ import annotations

from typing import Any

import pytest
import tweepy
from requests.adapters import HTTPAdapter

from tests.helpers.people import GATEWAY, Person, until

pytestmark = pytest.mark.real

TWITTER = "https://api.twitter.com"


class LabAdapter(HTTPAdapter):
    """Sends requests for Twitter's host to the lab's gateway."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        request.url = request.url.replace(TWITTER, GATEWAY, 1)
        return super().send(request, *args, **kwargs)


def client_of(person: Person) -> tweepy.Client:
    """Return a client that acts for `person` with their OAuth 2 token."""
    client = tweepy.Client(bearer_token=person.token)
    client.session.mount(TWITTER, LabAdapter())
    return client


def test_a_tweet_is_posted_read_answered_and_deleted(someone: Person, other: Person) -> None:
    """create_tweet, get_tweet(s), a reply with its conversation, delete_tweet."""
    ann, bob = client_of(someone), client_of(other)

    made = ann.create_tweet(text="the first of many", user_auth=False).data["id"]
    reply = bob.create_tweet(text="and an answer", in_reply_to_tweet_id=made, user_auth=False).data["id"]
    read = ann.get_tweet(reply, tweet_fields=["conversation_id", "author_id", "created_at"], expansions=["author_id"])
    both = ann.get_tweets([made, reply])
    deleted = ann.delete_tweet(made, user_auth=False)

    assert (read.data.text, str(read.data.conversation_id)) == ("and an answer", str(made))
    assert [user.username for user in read.includes["users"]] == [other.username]
    assert {str(tweet.id) for tweet in both.data} == {made, reply}
    assert deleted.data["deleted"] is True
    missing = ann.get_tweet(made).errors if _exists(ann, made) else []
    assert _exists(ann, made) is False or missing


def _exists(client: tweepy.Client, tweet_id: str) -> bool:
    try:
        return client.get_tweet(tweet_id).data is not None
    except tweepy.NotFound:
        return False


def test_a_tweet_of_another_user_cannot_be_deleted(someone: Person, other: Person) -> None:
    """tweepy maps 403 to its own Forbidden, with the lab's reason in it."""
    made = client_of(someone).create_tweet(text="mine", user_auth=False).data["id"]

    with pytest.raises(tweepy.Forbidden) as refusal:
        client_of(other).delete_tweet(made, user_auth=False)

    assert refusal.value.response.json()["detail"] == "Only its author may delete a tweet."


def test_followed_users_fill_the_home_timeline(someone: Person, other: Person) -> None:
    """follow_user, get_home_timeline, get_users_followers and _following, unfollow_user."""
    reader, author = client_of(someone), client_of(other)

    followed = reader.follow_user(other.id, user_auth=False)
    made = author.create_tweet(text="to all it may concern", user_auth=False).data["id"]
    until(lambda: made in [str(t.id) for t in reader.get_home_timeline(user_auth=False).data or []])
    followers = author.get_users_followers(other.id)
    following = reader.get_users_following(someone.id)
    left = reader.unfollow_user(other.id, user_auth=False)
    until(lambda: made not in [str(t.id) for t in reader.get_home_timeline(user_auth=False).data or []])

    assert followed.data == {"following": True, "pending_follow": False}
    assert [user.id for user in followers.data] == [someone.id]
    assert [user.username for user in following.data] == [other.username]
    assert left.data["following"] is False


def test_a_like_is_visible_and_counted(someone: Person, other: Person) -> None:
    """like, get_liking_users, get_liked_tweets, the count in public_metrics, unlike."""
    fan, author = client_of(someone), client_of(other)
    made = author.create_tweet(text="like me", user_auth=False).data["id"]

    liked = fan.like(made, user_auth=False)
    fans = author.get_liking_users(made)
    listed = fan.get_liked_tweets(someone.id)
    until(lambda: author.get_tweet(made, tweet_fields=["public_metrics"]).data.public_metrics["like_count"] == 1)
    unliked = fan.unlike(made, user_auth=False)
    until(lambda: author.get_tweet(made, tweet_fields=["public_metrics"]).data.public_metrics["like_count"] == 0)

    assert (liked.data, unliked.data) == ({"liked": True}, {"liked": False})
    assert [user.id for user in fans.data] == [someone.id]
    assert [str(tweet.id) for tweet in listed.data] == [made]


def test_a_word_is_found_by_search(someone: Person) -> None:
    """search_recent_tweets by word, tag and author."""
    client = client_of(someone)
    word = f"w{someone.id}x"
    made = client.create_tweet(text=f"{word} with a #tag{word}", user_auth=False).data["id"]

    for query in (word, f"#tag{word}", f"{word} from:{someone.username}", f'"{word} with"'):
        results = until(lambda query=query: client.search_recent_tweets(query).data)
        assert [str(tweet.id) for tweet in results] == [made]


def test_users_are_found_by_id_and_by_name(someone: Person, other: Person) -> None:
    """get_me, get_user by id and username, get_users by ids."""
    client = client_of(someone)

    assert client.get_me(user_auth=False).data.id == someone.id
    assert client.get_user(id=other.id).data.username == other.username
    assert client.get_user(username=other.username.upper()).data.id == other.id
    assert {user.id for user in client.get_users(ids=[someone.id, other.id]).data} == {someone.id, other.id}


def test_the_paginator_reads_all_pages(someone: Person) -> None:
    """Paginator over get_users_tweets: disjoint pages, every tweet once, newest first.

    And over a search, which pages only forward.
    """
    client = client_of(someone)
    made = [client.create_tweet(text=f"number {n}", user_auth=False).data["id"] for n in range(23)]

    flat = [str(tweet.id) for tweet in tweepy.Paginator(client.get_users_tweets, someone.id, max_results=5).flatten()]
    pages = [len(page.data or []) for page in tweepy.Paginator(client.get_users_tweets, someone.id, max_results=10)]
    searched = until(lambda: len(_all_found(client, someone)) == 23 and _all_found(client, someone))

    assert flat == made[::-1]
    assert pages[:3] == [10, 10, 3] and sum(pages) == 23
    assert sorted(searched) == sorted(made)


def test_paging_back_returns_the_same_pages(someone: Person, other: Person) -> None:
    """previous_token, by reversed(Paginator).

    Tweets of a user, home, liked tweets, followers, following, liking users.
    """
    from tests.helpers.people import sign_up

    author, fans = client_of(someone), [other, *(sign_up() for _ in range(3))]
    reader = client_of(other)
    made = [author.create_tweet(text=f"step {n}", user_auth=False).data["id"] for n in range(18)]
    for fan in fans:
        client_of(fan).follow_user(someone.id, user_auth=False)
        client_of(fan).like(made[0], user_auth=False)
        author.follow_user(fan.id, user_auth=False)
    for each in made[1:4]:
        reader.like(each, user_auth=False)
    until(lambda: len(_home(reader)) == 18)

    tweets = forward_and_back(author.get_users_tweets, someone.id, max_results=5)
    bounded = forward_and_back(author.get_users_tweets, someone.id, max_results=5, since_id=made[0], until_id=made[-1])
    home = forward_and_back(reader.get_home_timeline, max_results=5, user_auth=False)
    liked = forward_and_back(reader.get_liked_tweets, other.id, max_results=1)
    people = [forward_and_back(author.get_users_followers, someone.id, max_results=1),
              forward_and_back(author.get_users_following, someone.id, max_results=1),
              forward_and_back(author.get_liking_users, made[0], max_results=1)]

    assert [str(each) for page in tweets for each in page] == made[::-1] == [str(each) for page in home for each in page]
    assert [str(each) for page in bounded for each in page] == made[-2:0:-1]
    assert [str(each) for page in liked for each in page] == made[3::-1]
    assert [[each for page in pages for each in page] for pages in people] == [sorted(fan.id for fan in fans)] * 3


def forward_and_back(method: Any, *args: Any, **more: Any) -> list[list[int]]:
    """Return all pages, after paging back from the last one: the same pages, and none before the first."""
    answers = list(tweepy.Paginator(method, *args, **more))
    last_token = answers[-1].meta["previous_token"]
    back = list(reversed(tweepy.Paginator(method, *args, pagination_token=last_token, **more)))
    pages = [[each.id for each in answer.data or []] for answer in answers]
    assert len(pages) >= 4 and "previous_token" not in answers[0].meta
    assert [[each.id for each in answer.data or []] for answer in back] == pages[-2::-1]
    assert "previous_token" not in back[-1].meta and back[-1].meta == answers[0].meta
    return pages


def _all_found(client: tweepy.Client, person: Person) -> list[str]:
    pages = tweepy.Paginator(client.search_recent_tweets, f"number from:{person.username}", max_results=10)
    return [str(tweet.id) for tweet in pages.flatten()]


def test_the_paginator_reads_followers_and_home(someone: Person, other: Person) -> None:
    """Paginator over get_users_followers, get_home_timeline and get_liking_users."""
    from tests.helpers.people import sign_up

    author, fans = client_of(someone), [other, sign_up(), sign_up()]
    for fan in fans:
        client_of(fan).follow_user(someone.id, user_auth=False)
    made = [author.create_tweet(text=f"part {n}", user_auth=False).data["id"] for n in range(12)]
    for fan in fans:
        client_of(fan).like(made[0], user_auth=False)
    reader = client_of(other)
    until(lambda: len(_home(reader)) == 12)

    followers = [u.id for u in tweepy.Paginator(author.get_users_followers, someone.id, max_results=1).flatten()]
    likers = [u.id for u in tweepy.Paginator(author.get_liking_users, made[0], max_results=1).flatten()]

    assert _home(reader) == made[::-1]
    assert sorted(followers) == sorted(likers) == sorted(fan.id for fan in fans)


def _home(client: tweepy.Client) -> list[str]:
    pages = tweepy.Paginator(client.get_home_timeline, max_results=5, user_auth=False)
    return [str(tweet.id) for tweet in pages.flatten()]
