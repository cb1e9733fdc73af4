"""`gridaccord couple`: the example's known figures, series semantics, the commitment report, the folder of results."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.actors.support import EXAMPLE, JANUARY, ROOT, gridaccord, hour, rows, two_buses
from topology.grid import CostRow, Resource, SeriesRow

OUTPUT_FILES = ("dispatch", "events", "flows", "intervals", "prices")


@cache
def example() -> dict[str, dict[str, Any]]:
    """Both scenarios of the example, all 48 hours."""
    scenarios = gridaccord("couple", EXAMPLE, "--json", "--quiet").json["scenarios"]
    return {Path(scenario["folder"]).name: scenario for scenario in scenarios}


def test_the_main_scenario_separates_as_an_independent_program_found() -> None:
    january = example()["2020-01-27"]
    assert january["intervals"] == january["hours"] == 48
    assert january["objective"] == pytest.approx(959_826.84, abs=0.05)
    assert january["tie_bound_hours"] == 18
    assert january["tie_hours"] == {"tie-line 119 (318-223)": 18}
    assert (january["lmp_min"], january["lmp_max"]) == pytest.approx((-2.59, 36.05), abs=0.005)
    assert january["region_lmp_mean"] == pytest.approx({"1": 19.44, "2": 21.50, "3": 13.49}, abs=0.01)
    assert sum(january["curtailed_mwh"].values()) == pytest.approx(18_667.08, abs=0.1)
    assert january["shed_mwh"] == january["violation_mwh"] == {}
    assert january["gap_relative_max"] <= 1e-6


def test_the_synthetic_scenario_too() -> None:
    july = example()["2020-07-06-ties-0.4"]
    assert july["objective"] == pytest.approx(3_615_018.19, abs=0.05)
    assert july["tie_bound_hours"] == 34
    assert (july["lmp_min"], july["lmp_max"]) == pytest.approx((21.55, 30.37), abs=0.005)
    assert july["curtailed_mwh"] == july["shed_mwh"] == {}


def test_the_main_scenario_comes_first_and_intervals_add_up() -> None:
    assert list(example()) == ["2020-01-27", "2020-07-06-ties-0.4"]
    for scenario in example().values():
        intervals = scenario["interval_results"]
        assert len(intervals) == 48
        assert sum(interval["objective"] for interval in intervals) == pytest.approx(scenario["objective"])
        assert sum(interval["bytes"] for interval in intervals) == scenario["bytes"]
        assert max(interval["rounds"] for interval in intervals) == scenario["rounds_max"]
        assert 0 < scenario["disclosed_share"] < 1


def test_the_relaxed_commitment_is_reported() -> None:
    for scenario in example().values():
        report = scenario["commitment"]
        assert report["note"] == "relaxed commitment: no start-up costs"
        assert 0 < report["below_minimum_unit_hours"] < report["running_unit_hours"]
        assert report["ramp_breaches"] > 0


def test_a_line_an_interval_then_the_totals() -> None:
    ran = gridaccord("couple", JANUARY, "--hours", "3")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line[:19] for line in lines if line.startswith("2020-01-27T")] == [
        f"2020-01-27T0{number}:00:00" for number in range(3)
    ]
    for text in ("region 3 min/mean/max", "EUR in 3 hours", "ties bind", "relaxed commitment: no start-up costs"):
        assert text in ran.out


def test_with_json_the_lines_are_progress_and_quiet_stops_them() -> None:
    loud, quiet = (gridaccord("couple", JANUARY, "--hours", "2", "--json", *more) for more in ([], ["--quiet"]))
    assert loud.err.count("\n2020-01-27T") == 2
    assert quiet.err == ""
    (first,), (second,) = loud.json["scenarios"], quiet.json["scenarios"]
    assert first["objective"] == second["objective"]
    assert gridaccord("couple", JANUARY, "--hours", "2", "--quiet").out.startswith("\nRTS-GMLC 2020-01-27\nobjective")


def test_an_interval_of_a_run_costs_what_it_costs_alone() -> None:
    interval = example()["2020-01-27"]["interval_results"][12]
    alone = gridaccord("clear", JANUARY, "--time", interval["time"], "--json").json
    assert alone["objective"] == pytest.approx(interval["objective"], rel=1e-8)


def test_must_take_runs_first_then_what_is_cheap_up_to_what_is_available(tmp_path: Path) -> None:
    units = [
        Resource("hydro", "a", 0.0, 50.0),
        Resource("wind", "a", 0.0, 80.0),
        Resource("coal", "b", 20.0, 100.0),
    ]
    powers = {
        ("demand", "b"): 100.0,
        ("must_take", "hydro"): 30.0,
        ("available", "hydro"): 40.0,
        ("available", "wind"): 45.0,
    }
    series = [SeriesRow(hour(0), *element, value) for element, value in powers.items()]
    costs = [
        CostRow("coal", points=((20.0, 800.0), (100.0, 3200.0))),
        CostRow("hydro", points=((0.0, 0.0), (50.0, 250.0))),
    ]
    case = two_buses(tmp_path / "case", units=units, rating_mw=90.0, costs=costs, series=series)
    assert gridaccord("couple", case, "--output", tmp_path / "out").code == 0
    dispatch = {row["unit"]: row for row in rows(tmp_path / "out" / "dispatch.csv")}
    assert {unit: float(row["dispatched_mw"]) for unit, row in dispatch.items()} == {
        "hydro": 40,
        "wind": 45,
        "coal": 15,
    }
    assert {unit: float(row["offered_mw"]) for unit, row in dispatch.items()} == {"hydro": 40, "wind": 45, "coal": 100}
    (interval,) = rows(tmp_path / "out" / "intervals.csv")
    # Coal at 32 per MWh, the envelope from zero to its maximum; hydro's 150 for what it must take and 50 beyond it.
    assert float(interval["objective"]) == pytest.approx(15 * 32.0 + 150 + 50)


def test_wind_that_does_not_fit_is_curtailed_and_costs_nothing(tmp_path: Path) -> None:
    units = [Resource("wind", "a", 0.0, 80.0), Resource("gas", "b", 0.0, 100.0)]
    series = [
        SeriesRow(hour(number), element, name, value)
        for number in range(2)
        for element, name, value in (("demand", "b", 60.0), ("available", "wind", 70.0))
    ]
    costs = [CostRow("gas", points=((0.0, 0.0), (100.0, 5000.0)))]
    case = two_buses(tmp_path / "case", units=units, rating_mw=40.0, costs=costs, series=series)
    (scenario,) = gridaccord("couple", case, "--json").json["scenarios"]
    assert scenario["curtailed_mwh"] == {"unit wind at bus a": 60.0}
    assert scenario["objective"] == pytest.approx(2 * 20 * 50.0)
    assert scenario["tie_bound_hours"] == 2
    assert scenario["region_lmp_mean"] == pytest.approx({"north": 0.0, "south": 50.0}, abs=1e-5)


def test_running_below_the_minimum_and_ramping_too_fast_are_counted(tmp_path: Path) -> None:
    units = [Resource("slow", "a", 50.0, 100.0, ramp_mw_per_h=10.0)]
    # Between hours 2 and 4 there is a gap: they are not compared.
    demand = {0: 20.0, 1: 25.0, 2: 70.0, 4: 20.0}
    series = [SeriesRow(hour(number), "demand", "b", value) for number, value in demand.items()]
    case = two_buses(tmp_path / "case", units=units, costs=[CostRow("slow", polynomial=(0.0, 10.0))], series=series)
    (scenario,) = gridaccord("couple", case, "--json").json["scenarios"]
    report = scenario["commitment"]
    assert report["running_unit_hours"] == 4
    assert report["below_minimum_unit_hours"] == 3
    assert report["ramp_breaches"] == 1


def test_quarter_hours_are_a_quarter_of_the_money(tmp_path: Path) -> None:
    times = [f"2030-05-01T00:{minute:02}:00+00:00" for minute in (0, 15, 30, 45)]
    series = [SeriesRow(time, "demand", "b", 40.0) for time in times]
    costs = [CostRow("u", polynomial=(0.0, 10.0))]
    case = two_buses(tmp_path / "case", units=[Resource("u", "a", 0.0, 50.0)], costs=costs, series=series)
    (scenario,) = gridaccord("couple", case, "--json").json["scenarios"]
    assert (scenario["intervals"], scenario["hours"]) == (4, 1.0)
    assert scenario["objective"] == pytest.approx(400.0)
    (part,) = gridaccord("couple", case, "--hours", "1", "--json").json["scenarios"]
    assert part["intervals"] == 4


def test_the_folder_of_results_is_complete_and_documented(tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert gridaccord("couple", JANUARY, "--hours", "3", "--seed", "5", "--output", out).code == 0
    assert {path.name for path in out.iterdir()} == {*(f"{name}.csv" for name in OUTPUT_FILES), "manifest.json"}
    counts = {name: len(rows(out / f"{name}.csv")) for name in OUTPUT_FILES}
    assert (counts["intervals"], counts["prices"], counts["dispatch"]) == (3, 3 * 73, 3 * 154)
    assert counts["flows"] >= 3 * 5
    documentation = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
    for name in OUTPUT_FILES:
        header = (out / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
        (line,) = (line for line in documentation.splitlines() if line.startswith(f"| `{name}.csv`"))
        assert all(f"`{column}`" in line for column in header)


def test_the_manifest_says_what_was_run(tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert gridaccord("couple", JANUARY, "--hours", "1", "--seed", "5", "--output", out).code == 0
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["gridaccord"] == version("gridaccord")
    assert manifest["solver"].startswith("highspy ")
    assert (manifest["seed"], manifest["options"]["hours"], manifest["options"]["regions"]) == (5, 1, "area")
    assert manifest["started"] <= manifest["finished"]
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in JANUARY.glob("*.csv")}
    assert manifest["inputs"] == files


def test_results_of_the_same_run_are_the_same(tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert gridaccord("couple", JANUARY, "--hours", "2", "--output", tmp_path / name, "--quiet").code == 0
    for table in ("prices", "dispatch", "flows", "events"):
        first, second = ((tmp_path / name / f"{table}.csv").read_bytes() for name in ("first", "second"))
        assert first == second


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    ran = gridaccord("couple", JANUARY, "--hours", "1", "--output", tmp_path)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "not empty" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_each_scenario_has_its_own_folder(tmp_path: Path) -> None:
    assert gridaccord("couple", EXAMPLE, "--hours", "1", "--output", tmp_path / "out", "--quiet").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["2020-01-27", "2020-07-06-ties-0.4"]
    assert (tmp_path / "out" / "2020-01-27" / "manifest.json").is_file()


def test_other_regions_than_the_areas() -> None:
    (scenario,) = gridaccord("couple", JANUARY, "--hours", "2", "--regions", "4", "--json").json["scenarios"]
    assert len(scenario["region_lmp_mean"]) == 4
    by_area = example()["2020-01-27"]["interval_results"][:2]
    assert scenario["objective"] == pytest.approx(sum(interval["objective"] for interval in by_area), rel=1e-8)
