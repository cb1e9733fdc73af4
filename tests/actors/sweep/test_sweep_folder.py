"""The folder of a sweep: what is finished is found again by what it follows from; nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.sweep import sweep_folder
from actors.sweep.combinations import Sweep, read_sweep
from actors.sweep.sweep_folder import SweepFolder
from actors.sweep.sweeping import run_combination, sweep
from coordinator.service.errors import ConfigurationError
from tests.actors.support import two_buses
from tests.actors.sweep.support import sweep_file
from topology.case_files import read_case
from topology.grid import CostRow, Resource, SeriesRow


def small_sweep(folder: Path) -> tuple[Sweep, Path]:
    """Two combinations, and the folder of their case."""
    unit, cost = Resource("G", "a", 0.0, 90.0), CostRow("G", polynomial=(0.0, 10.0))
    series = [SeriesRow("2020-05-01T00:00:00+00:00", "demand", "b", 50.0)]
    case = two_buses(folder / "case", units=[unit], costs=[cost], demand_mw=50.0, series=series)
    (folder / "base.yaml").write_text("{name: base, case: case, devices: {meters: 3}}", encoding="utf-8")
    (folder / "sweep.yaml").write_text(
        "{name: s, scenario: base.yaml, parameters: {devices.flexible_share: [0, 0.5]}}", encoding="utf-8"
    )
    return read_sweep(folder / "sweep.yaml"), case


def keep_all(plan: Sweep, kept: SweepFolder) -> None:
    for combination in plan.combinations:
        kept.keep(combination, run_combination(combination, read_case(combination.scenario.case)))


def test_what_is_finished_is_not_run_again_and_becomes_the_table(tmp_path: Path) -> None:
    plan, _ = small_sweep(tmp_path)
    kept = SweepFolder(tmp_path / "results")
    kept.begin(plan, resume=False)
    keep_all(plan, kept)
    seen: list[tuple[int, bool]] = []
    # Ray does not even start: nothing is left to run.
    table = sweep(plan, kept.path, resume=True, listener=lambda one: seen.append((one.number, one.kept)))
    assert seen == [(0, True), (1, True)]
    assert table.column("objective").to_pylist() == pytest.approx([500.0, 500.0])
    assert kept.results.is_file()
    assert json.loads((kept.path / "manifest.json").read_text(encoding="utf-8"))["state"] == "complete"


def test_another_case_is_another_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, case = small_sweep(tmp_path)
    kept = SweepFolder(tmp_path / "results")
    kept.begin(plan, resume=False)
    keep_all(plan, kept)
    assert all(kept.row(one) is not None for one in plan.combinations)
    sweep_folder._inputs_digest.cache_clear()
    series = case / "series.csv"
    series.write_text(series.read_text(encoding="utf-8").replace("50", "60"), encoding="utf-8")
    assert all(kept.row(one) is None for one in plan.combinations)
    series.write_text(series.read_text(encoding="utf-8").replace("60", "50"), encoding="utf-8")
    sweep_folder._inputs_digest.cache_clear()
    monkeypatch.setattr(sweep_folder, "_versions", lambda: {"gridaccord": "another"})
    assert all(kept.row(one) is None for one in plan.combinations)


def test_a_folder_is_new_or_a_sweeps(tmp_path: Path) -> None:
    plan, case = small_sweep(tmp_path)
    with pytest.raises(FileExistsError, match="not empty; give a new folder, or --resume"):
        SweepFolder(case).begin(plan, resume=False)
    with pytest.raises(ConfigurationError, match="not the folder of a sweep"):
        SweepFolder(case).begin(plan, resume=True)
    assert {path.name for path in case.iterdir() if path.suffix != ".csv"} == set()


def test_what_cannot_be_cleared_says_why(tmp_path: Path) -> None:
    plan = read_sweep(sweep_file(tmp_path, intervals=1, parameters={"market.round_limit": [1]}, seeds=[1]))
    (combination,) = plan.combinations
    row = run_combination(combination, read_case(combination.scenario.case))
    assert str(row["error"]).startswith("no agreement within 1 rounds")
    assert "objective" not in row
