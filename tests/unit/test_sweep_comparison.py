"""Comparison of two sweeps, their folders, the catalog's own settings, and the reader's predictions."""

import json

import pytest

from scenarios import loader
from system.kernel.errors import NotFound, WrongInput
from tweetlab import cli
from tweetlab.api import course
from tweetlab.sweep import comparison, folder, grid


def made(root, values, *, seed=7, on="twin", path="rate"):
    """Write a sweep with the home p99 (ms) of each point's replications."""
    document = {
        "schema_version": 1, "kind": "sweep", "identity": "x", "state": "complete", "on": on, "seed": seed, "figure": "home p99",
        "over": [{"key": path, "path": path, "values": [], "span": None}],
        "points": [{"number": n, "values": {path: f"{n}"}} for n in range(len(values))],
    }
    made_ = folder.create(root, "steady_home", document)
    for point, series in enumerate(values):
        for replication, value in enumerate(series):
            home = {"mean_ms": 1.0, "p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": value}
            made_.append({"point": point, "replication": replication, "routes": {"home": home}, "cores": {}})
    return made_.path


NOISY = [[10.0, 30.0, 12.0, 25.0, 18.0], [20.0, 60.0, 24.0, 50.0, 36.0]]


def test_equal_sweeps_have_not_changed(tmp_path):
    """However much their replications scatter."""
    a, b = made(tmp_path, NOISY), made(tmp_path, NOISY)

    assert comparison.compare(a, b)["answer"] == "not changed"


def test_a_small_shift_of_every_replication_is_found(tmp_path):
    """Two percent, where a replication scatters by a factor of three."""
    shifted = [[value * 1.02 + 0.001 * n for n, value in enumerate(series)] for series in NOISY]
    found = comparison.compare(made(tmp_path, NOISY), made(tmp_path, shifted))

    assert found["answer"] == "changed" and found["exit_code"] == 1
    assert found["rows"][0]["low"] > 0


def test_noise_of_unpaired_replications_cannot_tell(tmp_path):
    """The same figures in another order."""
    other = [[12.0, 10.0, 30.0, 18.0, 25.0], [24.0, 20.0, 60.0, 36.0, 50.0]]

    assert comparison.compare(made(tmp_path, NOISY), made(tmp_path, other))["answer"] == "cannot tell"


@pytest.mark.parametrize(("options", "message"), [
    ({"path": "push_limit"}, "vary different settings .rate and push_limit."),
    ({"seed": 8}, "the seeds 7 and 8.*--set seed=7"),
    ({"on": "system"}, "on the system has runs that are not paired"),
])
def test_sweeps_that_are_not_comparable_are_refused(tmp_path, options, message):
    """With the fix."""
    with pytest.raises(WrongInput, match=message):
        comparison.compare(made(tmp_path, NOISY), made(tmp_path, NOISY, **options))


def test_the_command_compares_two_sweeps(tmp_path, capsys):
    """And refuses a sweep beside a run."""
    a, b = made(tmp_path, NOISY), made(tmp_path, NOISY)

    assert cli.run(["compare", str(a), str(b)]) == 0
    assert capsys.readouterr().out.startswith("not changed: home p99, 2 points")
    assert cli.run(["compare", str(a), "nothing"]) == 64
    assert "give exactly two sweeps" in capsys.readouterr().err


def test_a_truncated_row_is_left_out(tmp_path):
    """A full disk in the middle of a line: that replication is played again."""
    path = made(tmp_path, NOISY)
    file = path / folder.ROWS
    file.write_text(file.read_text()[:-20])

    assert len(folder.Folder(path).rows()) == 9


def test_a_sweep_is_found_by_name(tmp_path):
    """The newest of all, or that of a scenario."""
    path = made(tmp_path, NOISY)

    assert folder.find("sweep", tmp_path) == folder.find("sweep:steady_home", tmp_path) == path.resolve()
    assert folder.find("sweep:other", tmp_path) is None
    with pytest.raises(NotFound, match="tweetlab sweep"):
        folder.read(tmp_path / "none")
    (path / folder.DOCUMENT).write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(WrongInput, match="schema_version 99; this Tweetlab reads 1"):
        folder.read(path)


@pytest.mark.parametrize("name", [name for name in loader.names() if loader.load(name).sweep])
def test_the_settings_that_a_question_varies_are_valid(name):
    """`tweetlab sweep NAME` needs no --over."""
    assert 3 <= len(grid.points(name, grid.axes(loader.load(name).sweep))) <= 12


def test_at_least_eight_questions_have_settings_and_an_expectation():
    """Written before the answer."""
    questions = [scenario for scenario in map(loader.load, loader.names()) if scenario.sweep]

    assert len(questions) >= 8 and all(len(scenario.expect) > 60 for scenario in questions)


def test_the_first_prediction_of_a_reader_counts(tmp_path):
    """A later one is recorded as such."""
    file = tmp_path / "predictions.jsonl"
    assert "No prediction yet" in repr(course.predict("how many, 1/s", None, file)) and not file.exists()
    first, again = course.predict("how many, 1/s", 400, file), course.predict("how many, 1/s", 500, file)

    assert repr(first) == "Recorded: how many, 1/s: 400" and repr(again) == "Recorded: how many, 1/s: 500 (first: 400)"
    assert course.compare(first, 800) == "how many, 1/s: you predicted 400, the simulation says 800 (off by -50 %)."
    assert "you wrote no prediction" in course.compare(course.predict("x, s"), 3.0)
