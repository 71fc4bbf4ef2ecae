"""What a test does where no lab answers: alone it is skipped, in a run that brought one up itself (`tests/tiers.py`) it fails."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test with the reason, or fail it."""
    if os.environ.get("TWEETLAB_LAB_STANDS"):
        pytest.fail(f"the lab of this test run does not answer any more: {reason}")
    pytest.skip(reason)
