"""Calibration files, and the regression behind them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sim import calibration, demand
from system.kernel.errors import WrongInput


def test_a_file_round_trips(tmp_path: Path) -> None:
    """Nothing is lost on disk."""
    shipped = calibration.default()

    shipped.save(tmp_path / "mine.json")

    assert calibration.load(tmp_path / "mine.json") == shipped


def test_every_shipped_number_names_its_source() -> None:
    """A number without a source cannot be trusted or replaced."""
    shipped = calibration.default()

    assert shipped.provenance["kind"] in ("literature", "measured")
    assert all(cost.source for cost in shipped.units.values())
    assert all(shape.source for shape in shipped.delays.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a calibration file"), ("[]", "schema_version None"), ('{"schema_version": 99}', "schema_version 99"),
     ('{"schema_version": 1}', "not a calibration file")],
)  # fmt: skip
def test_an_invalid_calibration_is_rejected_with_a_fix(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file, the problem and the command that creates a valid one."""
    path = tmp_path / "broken.json"
    path.write_text(text)

    with pytest.raises(WrongInput, match="make demo") as caught:
        calibration.load(path)

    assert message in str(caught.value)


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    """A clear error instead of a traceback."""
    with pytest.raises(WrongInput, match="not a calibration file"):
        calibration.load(tmp_path / "nowhere.json")


def test_the_shipped_file_is_sorted_json() -> None:
    """Two calibrations can be compared line by line."""
    text = calibration.DEFAULT.read_text(encoding="utf-8")

    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


PRIOR = demand.Prior(idle_cores=0.02, exponent=0.1, exponent_spread=0.2)


def _windows(factors: list[float], exponent: float = 0.0, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return the cores that the prior expects in n windows with a varying mix and load, and measured ones with the
    true factors, of which work at twice the load costs 2^-exponent per unit.
    """
    random = np.random.default_rng(5)
    design = random.uniform(0.0, 0.05, (n, len(factors))) * np.repeat([0.3, 1.0, 3.0], n // 3)[:, None]
    work = design @ np.asarray(factors)
    measured = 0.02 + work * (work / 0.05) ** -exponent
    return design, measured * random.normal(1.0, 0.01, n)


def test_costs_that_vary_independently_are_recovered_and_identified() -> None:
    """Three units of work in changing shares at constant cost: factors are recovered, the exponent is about zero."""
    design, measured = _windows([2.0, 0.5, 1.0])

    fitted = demand.fit(design, measured, PRIOR)

    assert fitted.cores(design, 0.02) == pytest.approx(measured, rel=0.08)
    assert fitted.factors / fitted.factors.sum() == pytest.approx(np.asarray([2.0, 0.5, 1.0]) / 3.5, abs=0.03)
    assert fitted.exponent <= 0.04
    assert fitted.identified.tolist() == [True, True, True]
    assert fitted.condition < 10


def test_work_that_gets_cheaper_with_load_is_recognized() -> None:
    """Cost falls as load^-0.3 over a tenfold range of loads: the exponent is found within 0.06, with bounds around it."""
    design, measured = _windows([2.0, 0.5, 1.0], exponent=0.3)

    fitted = demand.fit(design, measured, PRIOR)

    assert fitted.exponent == pytest.approx(0.3, abs=0.06)
    assert fitted.exponent_low <= fitted.exponent <= fitted.exponent_high
    assert fitted.residual < 0.02


def test_beyond_the_highest_measured_load_the_cost_no_longer_falls() -> None:
    """At 1.3 times the highest rung the factor is frozen: an extrapolated exponent would promise too much."""
    design, measured = _windows([1.0], exponent=0.3)
    fitted = demand.fit(design, measured, PRIOR)

    work = np.asarray([fitted.highest, 10 * fitted.highest])
    far = demand.multiplier(work, fitted.reference, fitted.lowest, fitted.highest, 0.3)

    assert fitted.highest == pytest.approx(1.3 * (design @ fitted.factors).max())
    assert far[0] == far[1]


def test_two_units_that_always_occur_together_are_not_identified() -> None:
    """Their sum is known, their split is not: both are marked, and the condition number shows why."""
    design, measured = _windows([2.0])
    twins = np.column_stack([design[:, 0], design[:, 0]]) / 2

    fitted = demand.fit(twins, measured, PRIOR)

    assert fitted.factors[0] == pytest.approx(fitted.factors[1])
    assert not fitted.identified.any()
    assert fitted.condition > 1e6


def test_a_unit_that_never_occurred_keeps_the_common_factor() -> None:
    """Work that did not occur is scaled like the rest of its process and is not marked as measured."""
    design, measured = _windows([2.0, 2.0])
    design = np.column_stack([design, np.zeros(len(design))])

    fitted = demand.fit(design, measured, PRIOR)

    assert fitted.factors[2] == pytest.approx(fitted.factors[:2].mean(), rel=0.1)
    assert not fitted.identified[2]


def test_work_is_spread_over_its_windows() -> None:
    """A window of half a second in a second with ten units contains five, at ten per second."""
    work = demand.work_in([(0.5, 1.0), (1.0, 2.0), (0.0, 2.0)], [10.0, 4.0])

    assert work.tolist() == [10.0, 4.0, 7.0]
