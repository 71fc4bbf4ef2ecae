"""Settings: read from the environment, each error names the variable."""

import pytest

from system.kernel import settings
from system.kernel.errors import WrongInput


def test_one_variable_moves_the_whole_lab():
    """TWEETLAB_RANGE=21 puts every address into 127.21.0.0/16."""
    config = settings.from_env({"TWEETLAB_RANGE": "21"})

    assert config.stores.redis == "127.21.30.1:6379"
    assert config.mesh["timelines"] == "http://127.21.9.1:8103"
    assert config.topic("new_tweet") == "new_tweet"


def test_a_namespace_separates_tests_from_a_running_lab():
    """Another namespace has other keys and topics."""
    config = settings.from_env({"TWEETLAB_NAMESPACE": "t99"})

    assert (config.key_prefix, config.topic("new_tweet")) == ("t99:", "t99.new_tweet")


@pytest.mark.parametrize(("name", "value"), [
    ("TWEETLAB_RANGE", "0"), ("TWEETLAB_RANGE", "251"), ("TWEETLAB_RANGE", "x"), ("TWEETLAB_RANGE", "²"),
    ("TWEETLAB_LISTEN", "localhost"), ("TWEETLAB_LISTEN", "h:70000"),
    ("TWEETLAB_STORES", "{"), ("TWEETLAB_STORES", '{"redis": "x"}'), ("TWEETLAB_MESH", "[]"),
])
def test_an_invalid_variable_is_named(name, value):
    """The message starts with the variable and states what it must be."""
    with pytest.raises(WrongInput, match=name):
        settings.from_env({name: value})
