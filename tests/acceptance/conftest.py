"""The command line as users type it, in its own process, against the lab that the test run started."""

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

import pytest

from system.kernel import settings
from system.kernel.telemetry import metrics as telemetry
from system.observe import stores
from system.observe.exporter import Exporter
from system.platform import native
from tests.helpers import data_flow
from tests.helpers.command import ROOT, tweetlab
from tests.helpers.requirements import lab_missing

TRIES = 3


@pytest.fixture(scope="session")
def lab() -> None:
    """Skip, with the reason, if no lab with services is up in this range."""
    status = tweetlab("status", "--json")
    names = {node["name"] for node in json.loads(status.out or "[]")}
    if "gateway-1" not in names:
        lab_missing(f"no lab with services is up in range {os.environ.get('TWEETLAB_RANGE', '1')}: `tweetlab up` starts one")


@dataclass
class Traffic:
    """The results of real traffic.

    `runs`: of `first_run`, the last one counts. Metrics of every process, before and after.
    """

    runs: list[dict[str, Any]]
    before: data_flow.Values
    after: data_flow.Values


@pytest.fixture(scope="session")
def traffic(lab: None) -> Traffic:
    """Runs of `first_run` on both until one passes: a busy neighbor may spoil a latency, so latency gets three tries.

    Invariants get only one: they are asserted on every run.
    """
    before, runs = metrics(), []
    while len(runs) < TRIES and not (runs and runs[-1]["verdict"] == "PASS"):
        result = tweetlab("run", "first_run", "--on", "both", "--json", timeout_s=240)
        assert result.out, result.err[-3000:]
        runs.append(result.json()[0] | {"code": result.code})
    return Traffic(runs, before, metrics())


def metrics() -> data_flow.Values:
    """Return the current metrics of every process of the lab, and those that the exporter of an observed lab would add."""
    lab = native.Lab(ROOT, settings.from_env().range)
    return {**data_flow.scraped(lab.paths), "exporter/exporter-1": asyncio.run(_of_stores())}


async def _of_stores() -> dict[str, float]:
    config = settings.from_env()
    exporter = Exporter(config, asked=[])
    try:
        for row in stores.addresses(config):
            await exporter.ask(*row)
        return data_flow.read(telemetry.text().decode())
    finally:
        await exporter.close()
