"""`gridaccord clear` and `validate`: the JSON object, regions, prices, and everything that is not served by name."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.actors.support import JANUARY, ROOT, gridaccord, pglib, two_buses
from topology.csv_folder import write_csv_folder
from topology.grid import Branch, Bus, Case, CostRow, Grid, Ratings, Resource

KEYS = {
    "objective",
    "rounds",
    "regions",
    "bytes",
    "gap",
    "seconds",
    "lmp_min",
    "lmp_max",
    "congested",
    "shed",
    "curtailed",
    "violations",
    "warnings",
    "version",
    "seed",
}


def test_json_has_the_published_objective_and_all_keys() -> None:
    cleared = gridaccord("clear", pglib("5_pjm"), "--regions", "2", "--check", "--json").json
    assert cleared.keys() >= KEYS
    assert cleared["objective"] == pytest.approx(17479.9, rel=1e-6)
    assert cleared["objective"] == pytest.approx(cleared["central"]["objective"], rel=1e-8)
    assert abs(cleared["central"]["relative_difference"]) <= 1e-8
    assert cleared["regions"] == len(cleared["by_region"]) == 2
    assert 1 <= cleared["rounds"] <= 6
    assert cleared["bytes"] == cleared["bytes_setup"] + sum(cleared["bytes_by_sender"].values())
    assert 0 <= cleared["gap_relative"] <= 1e-6
    assert 0 < cleared["seconds"] < 10
    assert cleared["lmp_min"] == pytest.approx(10.0)
    assert cleared["lmp_max"] == pytest.approx(39.9427, abs=1e-3)
    assert cleared["shed"] == cleared["curtailed"] == cleared["violations"] == []


def test_congested_lines_are_at_their_limit_and_worth_something() -> None:
    (line,) = gridaccord("clear", pglib("5_pjm"), "--json").json["congested"]
    assert line["name"] == "branch 6 (4-5)"
    assert line["shadow_price"] == pytest.approx(62.322, abs=1e-3)
    assert line["flow_mw"] == pytest.approx(line["limit_mw"]) == pytest.approx(-240.0)


def test_regions_by_number_area_and_file_reach_the_same_optimum(tmp_path: Path) -> None:
    mapping = tmp_path / "regions.csv"
    mapping.write_text("bus,region\n1,west\n2,west\n3,east\n4,east\n5,west\n", encoding="utf-8")
    by_choice = {
        choice: gridaccord("clear", pglib("5_pjm"), "--regions", choice, "--json").json
        for choice in ("1", "2", "area", str(mapping))
    }
    names = [{region["name"] for region in cleared["by_region"]} for cleared in by_choice.values()]
    assert names == [{"R1"}, {"R1", "R2"}, {"1"}, {"west", "east"}]
    objectives = [cleared["objective"] for cleared in by_choice.values()]
    assert objectives == pytest.approx([objectives[0]] * 4, rel=1e-8)
    (line,) = by_choice[str(mapping)]["congested"]
    assert (line["name"], line["tie"]) == ("tie-line 6 (4-5)", True)


def test_prices_split_into_energy_and_congestion() -> None:
    cleared = gridaccord("clear", pglib("5_pjm"), "--prices", "--json").json
    prices = cleared["prices"]
    assert [price["bus"] for price in prices] == ["1", "2", "3", "4", "5"]
    assert all(p["lmp"] == pytest.approx(p["energy"] + p["congestion"] + p["loss"]) for p in prices)
    assert {price["loss"] for price in prices} == {0.0}
    assert {price["energy"] for price in prices} == {prices[0]["lmp"]}
    assert min(price["lmp"] for price in prices) == cleared["lmp_min"]
    assert max(price["lmp"] for price in prices) == cleared["lmp_max"]
    assert "prices" not in gridaccord("clear", pglib("5_pjm"), "--json").json


def test_regions_balance_with_their_exports() -> None:
    cleared = gridaccord("clear", pglib("118_ieee"), "--regions", "4", "--json").json
    regions = cleared["by_region"]
    assert sum(region["buses"] for region in regions) == 118
    assert sum(region["net_position_mw"] for region in regions) == pytest.approx(0.0, abs=1e-5)
    for region in regions:
        assert region["supply_mw"] - region["demand_mw"] == pytest.approx(region["net_position_mw"], abs=1e-5)
        assert region["lmp_min"] <= region["lmp_mean"] <= region["lmp_max"]


def test_the_conventions_differ() -> None:
    pglib_way, matpower_way = (
        gridaccord("clear", pglib("118_ieee"), "--convention", convention, "--json").json
        for convention in ("pglib", "matpower")
    )
    assert (pglib_way["convention"], matpower_way["convention"]) == ("pglib", "matpower")
    assert pglib_way["objective"] != pytest.approx(matpower_way["objective"], rel=1e-6)


def test_the_seed_does_not_matter() -> None:
    seeded = [
        gridaccord("clear", pglib("5_pjm"), "--regions", "2", "--seed", seed, "--prices", "--json").json
        for seed in ("0", "7")
    ]
    assert [cleared["seed"] for cleared in seeded] == [0, 7]
    assert seeded[0]["objective"] == seeded[1]["objective"]
    lmps = [[price["lmp"] for price in cleared["prices"]] for cleared in seeded]
    assert lmps[0] == pytest.approx(lmps[1], abs=1e-5)


def test_demand_beyond_supply_is_shed_by_name(tmp_path: Path) -> None:
    case = two_buses(tmp_path / "case", units=[Resource("u", "a", 0.0, 100.0)], demand_mw=90.0, rating_mw=60.0)
    cleared = gridaccord("clear", case, "--json").json
    assert cleared["shed"] == [{"name": "bus b", "mw": 30.0}]
    assert cleared["lmp_max"] == pytest.approx(10_000.0)
    south = cleared["by_region"][1]
    assert (south["supply_mw"], south["demand_mw"], south["net_position_mw"]) == (0.0, 60.0, -60.0)
    assert "shed: 30.000 MW: bus b 30.000 MW" in gridaccord("clear", case).out


def test_a_minimum_that_nobody_wants_is_curtailed_by_name(tmp_path: Path) -> None:
    units = [Resource("u", "a", 80.0, 100.0), Resource("v", "a", 20.0, 30.0)]
    case = two_buses(tmp_path / "case", units=units, demand_mw=60.0)
    cleared = gridaccord("clear", case, "--json").json
    assert cleared["curtailed"] == [{"name": "unit u at bus a", "mw": 32.0}, {"name": "unit v at bus a", "mw": 8.0}]
    relaxed = gridaccord("clear", case, "--relax-minimum", "--json").json
    assert relaxed["curtailed"] == []
    assert (cleared["relaxed_minimum"], relaxed["relaxed_minimum"]) == (False, True)


@pytest.mark.parametrize(("areas", "names"), [("11", "branch"), ("12", "tie-line")])
def test_a_limit_that_nothing_can_keep_is_violated_by_name(areas: str, names: str, tmp_path: Path) -> None:
    lines = [
        Branch("1", "a", "b", 0.0, 0.1, ratings=Ratings(100.0)),
        Branch("2", "a", "b", 0.0, 0.1, shift_deg=30.0, ratings=Ratings(100.0)),
    ]
    buses = (Bus("a", area=areas[0]), Bus("b", 50.0, area=areas[1]))
    grid = Grid("loop", 100.0, buses, tuple(lines), (Resource("u", "a", 0.0, 200.0),))
    write_csv_folder(Case(grid), tmp_path / "case")
    cleared = gridaccord("clear", tmp_path / "case", "--convention", "matpower", "--json").json
    violations = {violation["name"]: violation["mw"] for violation in cleared["violations"]}
    assert violations == pytest.approx({f"{names} 1 (a-b)": 186.799, f"{names} 2 (a-b)": 136.799}, abs=1e-3)


def test_a_folder_with_series_clears_the_time_that_is_asked_for() -> None:
    first = gridaccord("clear", JANUARY, "--json").json
    noon = gridaccord("clear", JANUARY, "--time", "2020-01-27T19:00:00Z", "--check", "--json").json
    assert first["time"] == "2020-01-27T00:00:00-07:00"
    assert noon["time"] == "2020-01-27T12:00:00-07:00"
    assert [region["name"] for region in noon["by_region"]] == ["1", "2", "3"]
    assert abs(noon["central"]["relative_difference"]) <= 1e-8
    assert noon["lmp_min"] == pytest.approx(-1.8825, abs=1e-3)
    assert {power["name"] for power in noon["curtailed"]} >= {
        "unit 303_WIND_1 at bus 303",
        "unit 317_WIND_1 at bus 317",
    }


def test_a_partition_with_fewer_regions_than_asked_for_says_so() -> None:
    cleared = gridaccord("clear", pglib("5_pjm"), "--regions", "5", "--json").json
    assert cleared["regions"] == 5 or any("asked for 5" in warning for warning in cleared["warnings"])


def test_tables_show_what_json_holds() -> None:
    shown = gridaccord("clear", pglib("5_pjm"), "--regions", "2", "--check", "--prices", "--asset", "USD")
    assert shown.code == 0
    for text in ("17,479.90 USD/h", "certified gap", "central", "branch 6 (4-5)", "62.3220", "shed: nothing"):
        assert text in shown.out


def test_progress_goes_to_standard_error_and_quiet_stops_it() -> None:
    command = [sys.executable, "-c", "from actors.cli import main; main()", "clear", str(pglib("5_pjm")), "--json"]
    loud, quiet = (
        subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=True)
        for more in ([], ["--quiet"])
    )
    assert json.loads(loud.stdout)["rounds"] == json.loads(quiet.stdout)["rounds"]
    assert "coupling 1 regions" in loud.stderr
    assert quiet.stderr == ""


def test_validate_counts_what_is_in_a_case() -> None:
    facts = gridaccord("validate", pglib("118_ieee"), "--json").json
    assert facts["valid"] is True
    assert (facts["buses"], facts["branches"], facts["units"], facts["islands"]) == (118, 186, 54, [118])
    assert any("tap" in warning for warning in facts["warnings"])
    shown = gridaccord("validate", pglib("118_ieee"), "--quiet")
    assert (shown.code, shown.err) == (0, "")
    assert "1 (buses: 118)" in shown.out
    assert "warning: branches with a tap other than 1: 9" in shown.out


def test_validate_takes_a_folder_and_a_folder_of_folders() -> None:
    assert gridaccord("validate", JANUARY, "--json").json["intervals"] == 48
    scenarios = gridaccord("validate", JANUARY.parent, "--json").json["scenarios"]
    assert [scenario["case"][:19] for scenario in scenarios] == ["RTS-GMLC 2020-01-27", "RTS-GMLC 2020-07-06"]


def test_version() -> None:
    assert gridaccord("--version").out == f"gridaccord {version('gridaccord')}\n"


def test_costs_given_as_points_and_as_a_polynomial_clear_alike(tmp_path: Path) -> None:
    costs = [CostRow("u", points=((0.0, 0.0), (100.0, 1000.0)))], [CostRow("u", polynomial=(0.0, 10.0))]
    objectives = [
        gridaccord(
            "clear",
            two_buses(tmp_path / str(number), units=[Resource("u", "a", 0.0, 100.0)], demand_mw=50.0, costs=cost),
            "--json",
        ).json["objective"]
        for number, cost in enumerate(costs)
    ]
    assert objectives == pytest.approx([500.0, 500.0])
