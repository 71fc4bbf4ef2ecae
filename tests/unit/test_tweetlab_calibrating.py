"""The demo's calibration run: made again where it is void, and replaced by the shipped one where that does not help."""

from types import SimpleNamespace

import pytest

from scenarios import loader
from sim import calibration
from tweetlab.run import run_request


class Screen:
    """Keeps what it is told."""

    def __init__(self):
        self.said, self.warned = [], []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)


@pytest.fixture
def verdicts(monkeypatch, tmp_path):
    """Give the runs these verdicts, one after the other; a good one calibrates as the shipped file does."""
    given: list[str] = []

    async def run(*_, **__):
        return given.pop(0)

    monkeypatch.setattr(run_request.runner, "run", run)
    monkeypatch.setattr(run_request.runner, "finished", lambda verdict, _: SimpleNamespace(
        document={"validity": {"verdict": verdict}}, path="runs/x"))
    monkeypatch.setattr(run_request.calibrate, "quick", lambda run: calibration.default())
    monkeypatch.setattr(run_request.home, "ROOT", tmp_path)
    return given


async def made(screen):
    lab = SimpleNamespace(lab=None)
    return await run_request.quick_calibration(lab, screen, loader.load("first_run").population, 7)


@pytest.mark.asyncio
async def test_a_void_calibration_run_is_made_once_more(verdicts, tmp_path):
    """A neighbour that took the CPU for a moment does not end the demo."""
    verdicts += ["VOID", "VALID"]
    screen = Screen()

    await made(screen)

    assert verdicts == [] and len(screen.warned) == 1
    assert (tmp_path / ".tweetlab" / "calibration.json").exists()


@pytest.mark.asyncio
async def test_after_two_void_runs_the_shipped_calibration_predicts_and_says_so(verdicts, tmp_path):
    """Nothing is kept from a run that judged itself void."""
    verdicts += ["VOID", "VOID"]
    screen = Screen()

    found = await made(screen)

    assert found.label == calibration.default().label
    assert calibration.default().label in screen.warned[-1]
    assert not (tmp_path / ".tweetlab").exists()
