"""Which calibration a prediction uses."""

import dataclasses

from scenarios import loader
from sim import calibration
from tweetlab import home
from tweetlab.run import run_request
from tweetlab.terminal import Screen


def test_a_calibration_older_than_the_model_is_replaced_by_the_shipped_one(tmp_path, monkeypatch):
    """A file without a unit that the model uses now would break every prediction."""
    monkeypatch.setattr(home, "ROOT", tmp_path)
    shipped = calibration.default()
    (tmp_path / ".tweetlab").mkdir()
    file = tmp_path / ".tweetlab" / "calibration.json"

    dataclasses.replace(shipped, label="made here").save(file)
    assert run_request._calibration("").label == "made here"

    fewer = dict(list(shipped.units.items())[1:])
    dataclasses.replace(shipped, label="made long ago", units=fewer).save(file)
    assert run_request._calibration("").label == shipped.label


def test_the_twin_predicts_quotas_and_scaling_too(monkeypatch):
    """It models both, so it can predict every scenario of the catalog."""
    request = run_request.RunRequest(loader.load("evening_spike"), "twin", "tweetlab run", False, False, 1, "", None, False)
    monkeypatch.setattr(run_request, "_predict_alone", lambda request, screen: request.scenario.cpu_quota)

    assert run_request.execute(request, Screen()) == [0.2]
