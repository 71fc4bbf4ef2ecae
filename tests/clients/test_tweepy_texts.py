"""Texts as clients of Twitter send them, through tweepy's unpatched `Client`: entities, mentions, search."""

from __future__ import annotations

import pytest
import tweepy

from tests.clients.test_tweepy import client_of
from tests.helpers.people import Person, PrivateObjects, until

pytestmark = pytest.mark.real


def test_entities_and_mentions_reach_a_client(someone: Person, other: Person) -> None:
    """get_tweet with `entities`, get_users_mentions of the mentioned user, newest first."""
    ann, bob = client_of(someone), client_of(other)
    made = [ann.create_tweet(text=f"{n} @{other.username} #漢字 https://zoo.org/a", user_auth=False).data["id"] for n in range(2)]

    read = ann.get_tweet(made[0], tweet_fields=["entities"]).data.entities
    assert [tag["tag"] for tag in read["hashtags"]] == ["漢字"]
    assert [url["expanded_url"] for url in read["urls"]] == ["https://zoo.org/a"]
    assert [(mention["username"], mention["id"]) for mention in read["mentions"]] == [(other.username, str(other.id))]
    until(lambda: len(bob.get_users_mentions(other.id).data or ()) == 2)
    assert [str(tweet.id) for tweet in bob.get_users_mentions(other.id).data] == made[::-1]
    page = bob.get_users_mentions(other.id, since_id=made[0], expansions=["author_id"])
    assert [str(tweet.id) for tweet in page.data] == [made[1]]
    assert [user.username for user in page.includes["users"]] == [someone.username]


@pytest.mark.parametrize("query", [
    "{word} -is:retweet", "({word} OR nothing{word}) has:hashtags", "{word} has:links has:mentions -has:media -is:reply",
    "@{other} from:{author}", "url:zoo.org from:{author}", "conversation_id:{id}", "京都 from:{author}", "🦭 from:{author}",
    "STRASSE{word}", "$zoo from:{author}", "#{word}Ｔａｇ",
])
def test_the_operators_that_clients_use_are_answered(someone: Person, other: Person, query: str) -> None:
    """search_recent_tweets with the operators of Twitter's documentation."""
    client, word = client_of(someone), f"w{someone.id}x"
    text = f"{word} straße{word} 東京都 🦭 @{other.username} https://zoo.org/a $ZOO #{word}tag"
    made = client.create_tweet(text=text, user_auth=False).data["id"]
    wanted = query.format(word=word, other=other.username, author=someone.username, id=made)

    results = until(lambda: client.search_recent_tweets(wanted).data)
    assert [str(tweet.id) for tweet in results] == [made]


def test_a_reply_is_found_by_its_recipient(someone: Person, other: Person) -> None:
    """`to:`, `is:reply` and `conversation_id:`."""
    ann, bob = client_of(someone), client_of(other)
    made = ann.create_tweet(text="first", user_auth=False).data["id"]
    reply = bob.create_tweet(text="second", in_reply_to_tweet_id=made, user_auth=False).data["id"]

    for query in (f"to:{someone.username}", f"from:{other.username} is:reply", f"conversation_id:{made} second"):
        results = until(lambda query=query: ann.search_recent_tweets(query).data)
        assert [str(tweet.id) for tweet in results] == [reply]


@pytest.mark.parametrize("query", ["cat lang:en", "cat is:quote", "cat has:images", "cat place:x", "(cat", "cat OR"])
def test_what_is_not_supported_is_refused_by_name(someone: Person, query: str) -> None:
    """400 with the position: never the results of another query."""
    with pytest.raises(tweepy.BadRequest, match="wrong at character"):
        client_of(someone).search_recent_tweets(query)


@pytest.mark.parametrize(("text", "problem"), [
    ("海" * 141, "counts 282; it may count 280"), ("a" * 281, "counts 281"), ("a\ufffe", "U\\+FFFE"), ("\u200b", "is blank"),
])
def test_a_text_that_twitter_refuses_is_refused(someone: Person, text: str, problem: str) -> None:
    """400 with what it counts."""
    with pytest.raises(tweepy.BadRequest, match=problem):
        client_of(someone).create_tweet(text=text, user_auth=False)


def test_mentions_by_a_protected_user_are_private(private: PrivateObjects) -> None:
    """The canary mentions the stranger, who never reads it; approved followers do, until they are removed."""
    path = f"/2/users/{private.stranger.id}/mentions"
    until(lambda: private.tweet in private.friend.ask("GET", path).text)

    for person in (private.stranger, private.former):
        answer = person.ask("GET", path)
        assert answer.status_code == 200 and private.tweet not in answer.text
    assert private.stranger.ask("GET", f"/2/users/{private.owner.id}/mentions").status_code == 403
