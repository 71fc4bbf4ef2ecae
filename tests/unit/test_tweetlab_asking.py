"""Which calibration a prediction rests on."""

import dataclasses

import pytest

from scenarios import loader
from sim import calibration
from system.kernel.errors import WrongInput
from tweetlab import asking, home
from tweetlab.screen import Screen


def test_a_calibration_older_than_the_model_gives_way_to_the_shipped_one(tmp_path, monkeypatch):
    """A file without a unit that the model uses now would end every prediction."""
    monkeypatch.setattr(home, "ROOT", tmp_path)
    shipped = calibration.default()
    (tmp_path / ".tweetlab").mkdir()
    file = tmp_path / ".tweetlab" / "calibration.json"

    dataclasses.replace(shipped, label="made here").save(file)
    assert asking._calibration("").label == "made here"

    fewer = dict(list(shipped.units.items())[1:])
    dataclasses.replace(shipped, label="made long ago", units=fewer).save(file)
    assert asking._calibration("").label == shipped.label


def test_the_twin_is_not_asked_about_a_quota_that_it_does_not_model():
    """A prediction of another machine beside the measurement would look like one."""
    ask = asking.Ask(loader.load("evening_spike"), "twin", "tweetlab run", False, False, 1, "", None, False)

    with pytest.raises(WrongInput, match=r"0\.2 core.*--on system"):
        asking.answer(ask, Screen())
