"""Numbers are parsed in one place, which rejects NaN, infinity and values that are too large."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as strategies

from system.kernel import numbers, policies, settings
from system.kernel.errors import WrongInput
from system.kernel.http.asgi import Answer, App
from system.observe import stores
from system.platform.install import preflight
from system.platform.servers import wan
from tests.unit.test_services_on_memory import call, services


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**63, -(2**63), 10**400, True, "1", None])
def test_values_that_no_store_can_hold_are_not_numbers(value):
    """NaN, infinity, an int beyond 63 bits, a bool and a text."""
    assert not numbers.is_number(value)


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, 0.5, 1e308, -0.0])
def test_a_finite_float_and_an_int_of_63_bits_are_numbers(value):
    """The bounds themselves are accepted."""
    assert numbers.is_number(value)


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "-1e999",
        "9" * 400,
        "9" * 5_000,
        "1_000",
        "\u0663",
        "",
        "0x10",
    ],
)
def test_a_text_that_is_not_a_finite_decimal_number_is_rejected(text):
    """Python's own float() accepts nan, inf, 1_000 and the digits of every script."""
    with pytest.raises(ValueError, match="finite"):
        numbers.parse_decimal(text)


@pytest.mark.parametrize("text", ["nan", "inf", "1e3", "1.0", "-1", "11", "9" * 5_000, "\u00b2", "", " 1"])
def test_a_whole_number_out_of_bounds_is_rejected(text):
    """Also one so long that Python refuses to parse it."""
    with pytest.raises(ValueError, match="whole number from 0 to 10"):
        numbers.parse_int(text, 0, 10)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ('{"retry": {"budget": NaN}}', "retry.budget", "NaN"),
        ('{"a": [1, {"b": -Infinity}]}', "a.1.b", "-Infinity"),
        ('{"a": 1e999}', "a", "1e999"),
        ('{"a": ' + "9" * 400 + "}", "a", "9" * 40),
        ("Infinity", "the value", "Infinity"),
    ],
)
def test_a_json_number_that_is_not_finite_is_rejected_with_its_key(text, key, value):
    """Python's own json module accepts NaN, Infinity and 1e999."""
    with pytest.raises(numbers.NotFinite) as caught:
        numbers.parse_json(text)

    assert str(caught.value) == f"`{key}` is {value}; it must be a finite number."


@given(
    strategies.recursive(
        strategies.none()
        | strategies.booleans()
        | strategies.integers(-(2**53), 2**53)
        | strategies.text()
        | strategies.floats(allow_nan=False, allow_infinity=False),
        lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
        max_leaves=8,
    )
)
def test_any_json_without_such_a_number_round_trips(value):
    """Nothing else is rejected, not even the text "NaN"."""
    assert numbers.parse_json(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize("text", ['{"text": "\\ud800"}', "[" * 5_000, "{", "\ud800", '{"a": NaN'])
def test_a_text_that_is_not_json_is_a_plain_value_error(text):
    """The parser raises no other error."""
    with pytest.raises(ValueError, match="not JSON"):
        numbers.parse_json(text)


@pytest.mark.parametrize("value", [10**5_000, "x" * 500, math.nan], ids=["int", "text", "nan"])
def test_any_value_can_be_shown_in_an_error(value):
    """Python refuses to write an int of more than 4,300 digits; an error message about it must still work."""
    assert 0 < len(numbers.short_repr(value)) <= 80


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
@pytest.mark.parametrize(
    ("group", "name"), [("retry", "budget"), ("fanout", "push_limit"), ("deadline", "request_s")]
)
def test_a_policy_that_is_not_finite_is_rejected_by_name(group, name, value):
    """A process reads its policies from its environment."""
    with pytest.raises(WrongInput, match=f"policies.{group}.{name}` is"):
        policies.from_dict({group: {name: value}})


ENVIRONMENT = {
    "TWEETLAB_RANGE": settings.from_env,
    "TWEETLAB_LISTEN": settings.from_env,
    "TWEETLAB_TRACE_RATIO": settings.from_env,
    "TWEETLAB_POLICIES": settings.from_env,
    "TWEETLAB_STORES": settings.from_env,
    "TWEETLAB_MESH": settings.from_env,
}


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "9" * 5_000])
@pytest.mark.parametrize("name", ENVIRONMENT)
def test_an_environment_variable_that_is_not_finite_is_rejected_by_name(name, value):
    """Each variable that contains a number, alone or inside JSON."""
    values = {
        "TWEETLAB_LISTEN": f"127.0.0.1:{value}",
        "TWEETLAB_POLICIES": f'{{"retry": {{"budget": {value}}}}}',
        "TWEETLAB_STORES": f'{{"near": {value}}}',
        "TWEETLAB_MESH": f'{{"users": {value}}}',
    }

    with pytest.raises(WrongInput, match=name):
        ENVIRONMENT[name]({name: values.get(name, value)})


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "9" * 5_000, "\u0663"])
def test_variables_of_the_platform_are_rejected_by_name_too(monkeypatch, value):
    """Delay between regions, minimum free space, members of a lab."""
    monkeypatch.setenv("TWEETLAB_WAN_MS", value)

    with pytest.raises(WrongInput, match=r"TWEETLAB_WAN_MS is .* from 0 to 1000"):
        wan.delay_s()
    with pytest.raises(WrongInput, match=r"TWEETLAB_MIN_FREE_MIB is .* from 0 to"):
        preflight._min_free_mib(value)
    with pytest.raises(ValueError, match=r"finite|JSON"):
        stores.zones({"TWEETLAB_MEMBERS": f'[["redis", "127.1.30.1:6379", "redis-1", {value}]]'})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
async def test_a_request_body_with_such_a_number_is_400_and_names_its_key(value):
    """For every route that reads a body."""

    async def echo(request):
        return Answer({"body": await request.json()})

    app = App("any", [("POST", "/x", echo)], "any-1")
    status, answer = await call(app, "POST", "/x", body=f'{{"media": {{"total_bytes": {value}}}}}'.encode())

    assert status == 400
    assert f"`media.total_bytes` is {value[:40]}; it must be a finite number" in answer["detail"]


PARAMETERS = [
    ("tweets", "/2/users/1/tweets", "max_results"),
    ("tweets", "/2/users/1/tweets", "since_id"),
    ("tweets", "/2/users/1/tweets", "until_id"),
    ("timelines", "/2/users/1/timelines/reverse_chronological", "max_results"),
    ("search", "/2/tweets/search/recent", "max_results"),
    ("users", "/2/users/1/followers", "max_results"),
    ("users", "/2/users/1/following", "max_results"),
    ("likes", "/2/tweets/1/liking_users", "max_results"),
]
NOT_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "inf", "1e1", "9" * 5_000, "%C2%B2"]
BODIES = [
    ("tweets", "POST", "/2/tweets", "text"),
    ("users", "POST", "/2/users", "username"),
    ("media", "POST", "/2/media/upload/initialize", "total_bytes"),
    ("users", "POST", "/2/users/1/following", "target_user_id"),
    ("likes", "POST", "/2/users/1/likes", "tweet_id"),
    ("users", "PUT", "/2/users/me", "protected"),
]


async def test_no_parameter_and_no_body_of_the_api_accepts_such_a_number():
    """400 that names the parameter or the key, from the services themselves."""
    async with services() as lab:
        for value in NOT_NUMBERS:
            for service, path, parameter in PARAMETERS:
                status, answer = await lab.ask(service, "GET", f"{path}?query=x&{parameter}={value}", 1)
                assert (status, parameter in answer["detail"]) == (400, True), (
                    path,
                    parameter,
                    value,
                    answer,
                )
        for value in ("NaN", "-Infinity", "1e999"):
            for service, method, path, key in BODIES:
                status, answer = await lab.ask(service, method, path, 1, f'{{"{key}": {value}}}'.encode())
                assert (status, f"`{key}` is {value};" in answer["detail"]) == (400, True), (
                    path,
                    value,
                    answer,
                )
