"""The demo's calibration run: repeated if it is void, and replaced by the shipped one if that is void too."""

from types import SimpleNamespace

import pytest

from scenarios import loader
from sim import calibration
from tweetlab.run import run_request


class Screen:
    """A screen that records its lines."""

    def __init__(self):
        self.said, self.warned = [], []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)


@pytest.fixture
def verdicts(monkeypatch, tmp_path):
    """The verdicts of the runs, in order; a valid run gives the calibration of the shipped file."""
    pending: list[str] = []

    async def run(*_, **__):
        return pending.pop(0)

    monkeypatch.setattr(run_request.runner, "run", run)
    monkeypatch.setattr(run_request.runner, "finished", lambda verdict, _: SimpleNamespace(
        document={"validity": {"verdict": verdict}}, path="runs/x"))
    monkeypatch.setattr(run_request.calibrate, "quick", lambda run: calibration.default())
    monkeypatch.setattr(run_request.home, "ROOT", tmp_path)
    return pending


async def calibrate(screen):
    lab = SimpleNamespace(lab=None)
    return await run_request.quick_calibration(lab, screen, loader.load("first_run").population, 7)


@pytest.mark.asyncio
async def test_a_void_calibration_run_is_repeated_once(verdicts, tmp_path):
    """A neighbor that took the CPU for a moment does not end the demo."""
    verdicts += ["VOID", "VALID"]
    screen = Screen()

    await calibrate(screen)

    assert verdicts == [] and len(screen.warned) == 1
    assert (tmp_path / ".tweetlab" / "calibration.json").exists()


@pytest.mark.asyncio
async def test_after_two_void_runs_the_shipped_calibration_is_used_and_reported(verdicts, tmp_path):
    """Nothing of a void run is kept."""
    verdicts += ["VOID", "VOID"]
    screen = Screen()

    result = await calibrate(screen)

    assert result.label == calibration.default().label
    assert calibration.default().label in screen.warned[-1]
    assert not (tmp_path / ".tweetlab").exists()
