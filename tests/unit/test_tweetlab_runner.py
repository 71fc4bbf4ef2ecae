"""A run of the real system, whoever starts it: a command, a calibration, a validation, a sweep."""

import contextlib
import types

import pytest

from scenarios import loader
from tweetlab.run import runner


class Prepared(Exception):
    """Ends the run once it would seed."""


@pytest.mark.parametrize("keep_data", [False, True])
async def test_the_services_run_with_the_policies_of_the_scenario(monkeypatch, keep_data):
    """A lab that was opened with others: the reset starts the services with `wanted`; without a reset they are applied."""
    scenario = loader.load("calibrate_lists")
    applied = []

    async def apply(policies):
        applied.append(policies)

    async def prepare(lab, *_):
        assert lab.wanted.fanout.push_limit == 50
        raise Prepared

    monkeypatch.setattr(runner.session, "alone", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(runner, "_prepare", prepare)
    lab = types.SimpleNamespace(lab=None, wanted=None, apply=apply)

    with pytest.raises(Prepared):
        await runner.run(lab, scenario, "a test", inputs=types.SimpleNamespace(), keep_data=keep_data)

    assert applied == ([scenario.policies] if keep_data else [])
