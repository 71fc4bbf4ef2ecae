"""No number of a scenario may be NaN or infinite, in any spelling and under any key."""

import pytest

from bench import check_rows
from scenarios import loader
from system.kernel.errors import WrongInput


def test_no_key_of_the_schema_takes_nan_or_infinity():
    """Every numeric key, policies included, by `--set` and in each spelling; the refusal names the key."""
    keys = dict(check_rows.numeric_keys())

    assert {
        "seed",
        "workload.mix.home",
        "workload.stages.0.mix.post",
        "policies.retry.budget",
        "faults.0.loss",
        "objectives.0",
        "population.follows.mean",
        "workload.popularity.zipf",
    } <= set(keys)
    assert check_rows.accepted() == []


def test_a_finite_value_of_every_key_is_not_refused_as_nan():
    """Control of the test above: no refusal says that a finite value is not a number."""
    for path, good in check_rows.numeric_keys():
        errors = loader.check("first_run", [f"{path}={good}"]).errors

        assert not any(f"`{path}` is" in error and "must be a" in error for error in errors), (path, errors)


WRITTEN = {
    "workload.mix.home": "home: 44",
    "population.follows.mean": "mean: 40",
    "workload.popularity.zipf": "zipf: 0.8",
}


@pytest.mark.parametrize(
    "value",
    [
        ".nan",
        ".NaN",
        "nan",
        ".inf",
        "-.inf",
        "+.inf",
        "inf",
        "1e999",
        "1.0e+999",
        "9" * 400,
        "9" * 5_000,
        "0x" + "f" * 5_000,
        "inf s",
        "2020-13-45",
        "!!float x",
        "!!int ''",
    ],
)
@pytest.mark.parametrize("key", WRITTEN)
def test_every_yaml_spelling_of_nan_and_infinity_is_refused(tmp_path, key, value):
    """In a file as by `--set`; the message names the key and the bound."""
    path = tmp_path / "drawn.yaml"
    path.write_text(
        loader.find("first_run").read_text().replace(WRITTEN[key], f"{key.rpartition('.')[2]}: {value}")
    )

    for load in (lambda: loader.load(path), lambda: loader.load("first_run", [f"{key}={value}"])):
        with pytest.raises(WrongInput) as caught:
            load()
        assert f"`{key}` is" in str(caught.value)
        assert "it must be a number from 0" in str(caught.value)


@pytest.mark.parametrize("value", ["9" * 400 + " s", "9" * 5_000 + " s", "99999999999 s", "1e999 s", "nan s"])
def test_a_duration_above_292_years_is_refused(value):
    """292 years are the range of nanoseconds in 63 bits."""
    with pytest.raises(WrongInput, match=r"`measure.warm_up` is .*it must be a duration"):
        loader.load("first_run", [f"measure.warm_up={value}"])


def test_an_infinite_weight_does_not_turn_a_mix_into_one_route():
    """Regression: infinity divided by infinity is not a share, and the other shares became 0."""
    with pytest.raises(WrongInput, match=r"`workload.mix.post` is inf"):
        loader.load("first_run", ["workload.mix.post=.inf"])
