"""The grid of a sweep: which combinations its file names, and which keys it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.sweep.combinations import read_sweep
from coordinator.service.errors import ConfigurationError
from tests.actors.sweep.support import sweep_file


def test_every_combination_of_values_with_every_seed(tmp_path: Path) -> None:
    parameters = {"devices.flexible_share": [0, 0.05], "batteries.hill.energy_mwh": [100, 400]}
    sweep = read_sweep(sweep_file(tmp_path, parameters=parameters))
    points = [tuple(one.parameters.values()) for one in sweep.combinations]
    assert points == [(share, energy, seed) for share in (0, 0.05) for energy in (100, 400) for seed in (1, 2, 3)]
    last = sweep.combinations[-1].scenario
    assert (last.seed, last.devices.flexible_share) == (3, 0.05)
    assert {battery.name: battery.energy_mwh for battery in last.batteries} == {"west": 800, "hill": 400}
    assert len({one.digest for one in sweep.combinations}) == len(points)


def test_without_seeds_the_scenarios_own(tmp_path: Path) -> None:
    (combination,) = read_sweep(sweep_file(tmp_path, parameters={}, seeds=None)).combinations
    assert combination.scenario.seed == 1


def test_paths_among_values_are_relative_to_the_sweep(tmp_path: Path) -> None:
    parameters = {"case": ["cases/one"], "regions": ["cut.csv", "area"]}
    first, second = read_sweep(sweep_file(tmp_path, parameters=parameters, seeds=[1])).combinations
    assert first.scenario.case == tmp_path / "cases" / "one"
    assert first.scenario.regions == str(tmp_path / "cut.csv")
    assert second.scenario.regions == "area"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"parameters": {"devices.flexible": [1]}}, "devices.flexible"),
        ({"parameters": {"batteries.lake.energy_mwh": [1]}}, "there is no lake"),
        ({"parameters": {"batteries.hill.energy": [1]}}, "there is no energy"),
        ({"parameters": {"study.tie_scale": [1]}}, "there is no tie_scale"),
        ({"parameters": {"market.imbalance_spread_per_mwh": [1]}}, "imbalance_spread_per_mwh: no key that a market"),
        ({"parameters": {"seed": [1]}}, "give seeds"),
        ({"parameters": {"devices.flexible_share": [2]}}, "devices.flexible_share"),
        ({"parameters": {"study.exchange": ["barter"]}}, "exchange"),
        ({"parameters": {"devices.flexible_share": []}}, "devices.flexible_share"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seed": [1]}, "seed"),
    ],
)
def test_what_cannot_be_swept_is_named(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read_sweep(sweep_file(tmp_path, **changes))
