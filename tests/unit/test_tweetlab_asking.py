"""Which calibration a prediction rests on."""

import dataclasses

from sim import calibration
from tweetlab import asking, home


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
