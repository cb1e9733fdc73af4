"""The RTS-GMLC example: what is checked in is what the converter writes, and it is the system it says it is."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "rts_gmlc"
SCENARIOS = {
    "2020-01-27": ["2020-01-27"],
    "2020-07-06-ties-0.4": ["2020-07-06", "--tie-scale", "0.4"],
}
TIES = {("107", "203"), ("113", "215"), ("123", "217"), ("325", "121"), ("318", "223")}


def convert(output: Path, instance: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the converter as its documentation says."""
    command = [sys.executable, str(EXAMPLE / "convert.py"), instance, str(output), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    """A table of a case folder."""
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_converter_writes_what_is_checked_in_byte_for_byte(scenario: str, tmp_path: Path) -> None:
    result = convert(tmp_path / "case", *SCENARIOS[scenario])
    assert result.returncode == 0, result.stderr
    written = {path.name: path.read_bytes() for path in (tmp_path / "case").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (EXAMPLE / scenario).iterdir()}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_three_areas_73_buses_154_units_48_hours(scenario: str) -> None:
    folder = EXAMPLE / scenario
    buses, units, series = (rows(folder, table) for table in ("buses", "units", "series"))
    assert Counter(bus["area"] for bus in buses) == {"1": 24, "2": 24, "3": 25}
    assert len(units) == len({unit["id"] for unit in units}) == 154
    assert {unit["bus"] for unit in units} <= {bus["id"] for bus in buses}
    assert all(unit["id"].startswith(f"{unit['bus']}_") for unit in units)
    assert {(tie["from_bus"], tie["to_bus"]) for tie in rows(folder, "tie_lines")} == TIES
    hours = {row["time"] for row in series}
    assert len(hours) == 48
    assert all(hour.endswith(":00:00-07:00") for hour in hours)
    counts = Counter((row["element"], row["id"]) for row in series)
    assert set(counts.values()) == {48}
    assert Counter(element for element, _ in counts) == {"demand": 51, "available": 81, "must_take": 51}


def test_demand_of_the_buses_adds_up_to_the_published_total() -> None:
    demand: dict[str, Decimal] = {}
    for row in rows(EXAMPLE / "2020-01-27", "series"):
        if row["element"] == "demand":
            demand[row["time"]] = demand.get(row["time"], Decimal()) + Decimal(row["value_mw"])
    assert demand["2020-01-27T00:00:00-07:00"] == Decimal("3262.31")
    assert demand["2020-01-27T18:00:00-07:00"] == Decimal("4502.07")
    assert demand["2020-01-28T23:00:00-07:00"] == Decimal("3343.47")


def test_what_must_be_taken_is_available() -> None:
    for scenario in SCENARIOS:
        value = {(r["element"], r["id"], r["time"]): float(r["value_mw"]) for r in rows(EXAMPLE / scenario, "series")}
        must_take = {key[1:]: mw for key, mw in value.items() if key[0] == "must_take"}
        assert all(0 <= mw <= value["available", *key] for key, mw in must_take.items())


def test_derated_ties_and_nothing_else(tmp_path: Path) -> None:
    assert convert(tmp_path / "published", "2020-07-06").returncode == 0
    published, derated = tmp_path / "published", EXAMPLE / "2020-07-06-ties-0.4"
    for before, after in zip(rows(published, "tie_lines"), rows(derated, "tie_lines"), strict=True):
        ratings = {name for name in before if "rating" in name and before[name]}
        assert {name for name in before if before[name] != after[name]} == ratings
        assert all(float(after[name]) == pytest.approx(0.4 * float(before[name])) for name in ratings)
    for table in ("buses", "branches", "units", "costs", "series"):
        assert (derated / f"{table}.csv").read_bytes() == (published / f"{table}.csv").read_bytes()
    assert any("synthetic" in row["value"] for row in rows(derated, "system"))


def test_an_unknown_instance_is_refused_with_the_ones_there_are(tmp_path: Path) -> None:
    result = convert(tmp_path / "case", "2020-02-30")
    assert result.returncode != 0
    assert "no such instance" in result.stderr
    assert "2020-01-27" in result.stderr
    assert not (tmp_path / "case").exists()
