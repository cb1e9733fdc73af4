"""Bad input ends in one line that names the file, the element and the remedy, with exit code 1; wrong options in 2."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.actors.support import JANUARY, gridaccord, hour, pglib, two_buses
from topology.grid import CostRow, Resource, SeriesRow


def _missing(folder: Path) -> list[str | Path]:
    return [folder / "missing.m"]


def _truncated(folder: Path) -> list[str | Path]:
    text = pglib("5_pjm").read_text(encoding="utf-8")
    (folder / "cut.m").write_text(text[: text.index("mpc.branch") + 200], encoding="utf-8")
    return [folder / "cut.m"]


def _high_order(folder: Path) -> list[str | Path]:
    text = pglib("5_pjm").read_text(encoding="utf-8")
    start = text.index("mpc.gencost")
    costs = "mpc.gencost = [\n" + "2 0 0 4 0.1 0 10 0;\n" * 5 + "];\n"
    (folder / "cubic.m").write_text(text[:start] + costs + text[text.index("];", start) + 2 :], encoding="utf-8")
    return [folder / "cubic.m"]


def _neither(folder: Path) -> list[str | Path]:
    (folder / "case.txt").write_text("", encoding="utf-8")
    return [folder / "case.txt"]


def _unknown_bus_in_regions(folder: Path) -> list[str | Path]:
    (folder / "regions.csv").write_text("bus,region\n1,A\n99,B\n", encoding="utf-8")
    return [pglib("5_pjm"), "--regions", folder / "regions.csv"]


def _incomplete_regions(folder: Path) -> list[str | Path]:
    (folder / "regions.csv").write_text("bus,region\n1,A\n", encoding="utf-8")
    return [pglib("5_pjm"), "--regions", folder / "regions.csv"]


def _no_regions_file(folder: Path) -> list[str | Path]:
    return [pglib("5_pjm"), "--regions", folder / "nowhere.csv"]


def _too_many_regions(folder: Path) -> list[str | Path]:
    return [pglib("5_pjm"), "--regions", "6"]


def _without_units(folder: Path) -> list[str | Path]:
    shutil.copytree(JANUARY, folder / "case")
    (folder / "case" / "units.csv").unlink()
    return [folder / "case"]


def _zero_reactance(folder: Path) -> list[str | Path]:
    case = two_buses(folder / "case", units=[Resource("u", "a", 0.0, 1.0)])
    lines = case / "tie_lines.csv"
    lines.write_text(lines.read_text(encoding="utf-8").replace("0.1,", "0.0,"), encoding="utf-8")
    return [case]


def _not_convex(folder: Path) -> list[str | Path]:
    costs = [CostRow("u", points=((0.0, 0.0), (50.0, 2000.0), (100.0, 2500.0)))]
    return [two_buses(folder / "case", units=[Resource("u", "a", 0.0, 100.0)], costs=costs)]


def _several_cases(folder: Path) -> list[str | Path]:
    return [JANUARY.parent]


def _unknown_time(folder: Path) -> list[str | Path]:
    return [JANUARY, "--time", "2021-01-27T00:00:00Z"]


def _time_without_series(folder: Path) -> list[str | Path]:
    return [pglib("5_pjm"), "--time", "2021-01-27T00:00:00Z"]


def _gap_in_series(folder: Path) -> list[str | Path]:
    series = [
        SeriesRow(hour(0), "demand", "b", 1.0),
        SeriesRow(hour(1), "demand", "b", 2.0),
        SeriesRow(hour(0), "available", "u", 5.0),
    ]
    return [two_buses(folder / "case", units=[Resource("u", "a", 0.0, 10.0)], series=series)]


def _must_take_beyond_available(folder: Path) -> list[str | Path]:
    series = [SeriesRow(hour(0), "available", "u", 5.0), SeriesRow(hour(0), "must_take", "u", 6.0)]
    return [two_buses(folder / "case", units=[Resource("u", "a", 0.0, 10.0)], series=series)]


def _round_limit(folder: Path) -> list[str | Path]:
    return [pglib("5_pjm"), "--regions", "2", "--round-limit", "1"]


BAD = [
    (_missing, ["missing.m", "give the path"]),
    (_truncated, ["cut.m", "truncated", "get a complete file"]),
    (_high_order, ["cubic.m", "mpc.gencost row 1", "cost order 4", "fit a quadratic"]),
    (_neither, ["case.txt", "neither", "give a MATPOWER .m file"]),
    (_unknown_bus_in_regions, ["regions.csv: line 3", "bus 99", "correct the id"]),
    (_incomplete_regions, ["regions.csv", "bus 2", "add a row"]),
    (_no_regions_file, ["nowhere.csv", "no such file", "give a number of regions"]),
    (_too_many_regions, ["pglib_opf_case5_pjm.m", "6 regions", "choose between 1 and 5"]),
    (_without_units, ["units.csv", "missing", "add it"]),
    (_zero_reactance, ["tie_lines.csv: line 2", "branch 1 (a-b)", "reactance is zero", "give its reactance"]),
    (_not_convex, ["offer u at bus a, step 2", "not convex", "convex envelope"]),
    (_several_cases, ["rts_gmlc", "holds 2 cases", "2020-07-06-ties-0.4"]),
    (_unknown_time, ["series.csv", "no values at 2021-01-27T00:00:00Z", "48 times"]),
    (_time_without_series, ["pglib_opf_case5_pjm.m", "no series", "leave out --time"]),
    (_gap_in_series, ["series.csv", "available of u has no value at 2030-05-01T01:00:00+00:00", "add the row"]),
    (_must_take_beyond_available, ["unit u at bus a", "5.0 MW available", "lower the minimum"]),
    (_round_limit, ["no agreement within 1 rounds", "allow more rounds"]),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[make.__name__.strip("_") for make, _ in BAD])
def test_bad_input_is_one_line_that_names_file_and_remedy(
    arguments: Callable[[Path], list[str | Path]], named: list[str], tmp_path: Path
) -> None:
    ran = gridaccord("clear", *arguments(tmp_path), "--json", "--quiet")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    for text in named:
        assert text in ran.err


@pytest.mark.parametrize(
    "arguments", [_missing, _truncated, _without_units, _zero_reactance, _not_convex, _gap_in_series]
)
def test_validate_refuses_what_clear_refuses(arguments: Callable[[Path], list[str | Path]], tmp_path: Path) -> None:
    given = arguments(tmp_path)
    validated, cleared = gridaccord("validate", *given, "--quiet"), gridaccord("clear", *given, "--quiet")
    assert validated.code == cleared.code == 1
    assert validated.out == ""
    assert validated.err == cleared.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([pglib("5_pjm")], ["pglib_opf_case5_pjm.m", "not a folder", "'clear' takes a .m file"]),
        (["nowhere"], ["nowhere", "not a folder"]),
    ],
)
def test_run_takes_folders_only(arguments: list[str | Path], named: list[str]) -> None:
    ran = gridaccord("couple", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert all(text in ran.err for text in named)


def test_run_needs_series(tmp_path: Path) -> None:
    ran = gridaccord("couple", two_buses(tmp_path / "case", units=[Resource("u", "a", 0.0, 1.0)]))
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "series.csv" in ran.err
    assert "use 'clear'" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["clear"],
        ["clear", "case.m", "--segments", "0"],
        ["clear", "case.m", "--convention", "ac"],
        ["clear", "case.m", "--window", "-1"],
        ["clear", "case.m", "--window", "nan"],
        ["couple", "folder", "--hours", "0"],
        ["settle"],
    ],
)
def test_wrong_options_exit_with_2(arguments: list[str]) -> None:
    ran = gridaccord(*arguments)
    assert (ran.code, ran.out) == (2, "")
