"""Reads and writes a grid as a folder of CSV files, with the columns of docs/input.md.

Every value is checked where it stands: an error names the file, the line, and what to write instead.
A blank cell means the default of its column, as if the column were missing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from topology.errors import GridError
from topology.grid import Branch, Bus, Case, ControllableLink, CostRow, Grid, Ratings, Resource, SeriesRow
from topology.validation import Element, counted, label, validate, validate_source


class _Table(NamedTuple):
    """The columns of a file in the order they are written, and those it must have."""

    columns: tuple[str, ...]
    required: frozenset[str]


def _layout(columns: str, required: str) -> _Table:
    return _Table(tuple(columns.split()), frozenset(required.split()))


_BRANCHES = _layout(
    "id from_bus to_bus resistance_pu reactance_pu tap shift_deg rating_a_mw rating_b_mw rating_c_mw"
    " reverse_rating_a_mw reverse_rating_b_mw reverse_rating_c_mw angle_min_deg angle_max_deg in_service transformer",
    "id from_bus to_bus resistance_pu reactance_pu",
)
_LAYOUTS: Mapping[str, _Table] = {
    "system.csv": _layout("key value", "key value"),
    "buses.csv": _layout("id area demand_mw shunt_mw base_kv name", "id"),
    "branches.csv": _BRANCHES,
    "tie_lines.csv": _BRANCHES,
    "links.csv": _layout("id from_bus to_bus min_mw max_mw owner in_service", "id from_bus to_bus min_mw max_mw"),
    "units.csv": _layout("id bus carrier kind min_mw max_mw ramp_mw_per_h in_service", "id bus min_mw max_mw"),
    "costs.csv": _layout("unit power_mw cost_per_h", "unit power_mw cost_per_h"),
    "cost_polynomials.csv": _layout("unit c0 c1 c2", "unit c0"),
    "series.csv": _layout("time element id value_mw", "time element id value_mw"),
}
_REQUIRED_FILES = frozenset({"system.csv", "buses.csv", "branches.csv", "units.csv"})
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_UNLIMITED = "unlimited"

_Cell = str | float | bool | None


def read_csv_folder(path: Path) -> Case:
    """Read the folder at `path`: branches, then tie-lines; costs in the order of the units."""
    if not path.is_dir():
        raise GridError(str(path), "", "is not a folder", "give the folder that holds system.csv and buses.csv")
    tables = {name: _rows(path, name) for name in _LAYOUTS}
    branch_rows = tables["branches.csv"] + tables["tie_lines.csv"]
    base_mva, name = _system(path, tables["system.csv"])
    grid = Grid(
        name=name,
        base_mva=base_mva,
        buses=tuple(map(_bus, tables["buses.csv"])),
        branches=tuple(map(_branch, branch_rows)),
        resources=tuple(map(_unit, tables["units.csv"])),
        links=tuple(map(_link, tables["links.csv"])),
    )
    rows = (*tables["buses.csv"], *branch_rows, *tables["units.csv"], *tables["links.csv"])
    elements: tuple[Element, ...] = (*grid.buses, *grid.branches, *grid.resources, *grid.links)
    places = {label(element): row.place for element, row in zip(elements, rows, strict=True)}
    places |= {"": (str(path / "buses.csv"), ""), "base_mva": (str(path / "system.csv"), "")}
    problems = validate_source(grid, places)
    return Case(
        grid,
        costs=_costs(grid, tables["costs.csv"], tables["cost_polynomials.csv"]),
        series=_series(grid, tables["series.csv"]),
        warnings=(*_unread_files(path), *problems),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file; every method raises an error that names the line."""

    file: str
    line: int
    cells: Mapping[str, str]

    @property
    def place(self) -> tuple[str, str]:
        return self.file, f"line {self.line}"

    def error(self, problem: str, remedy: str) -> GridError:
        return GridError(*self.place, problem, remedy)

    def text(self, column: str, default: str | None = None) -> str:
        cell = self.cells.get(column) or default
        if cell is None:
            raise self.error(f"{column} is blank", f"give the {column}")
        return cell

    def number(self, column: str, default: float | None = None) -> float:
        cell = self.cells.get(column)
        if not cell:
            if default is None:
                raise self.error(f"{column} is blank", "give a number")
            return default
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"{column} {cell!r} is not a finite number", "give a number such as 12.5")
        return value

    def limit(self, column: str) -> float | None:
        """A number, or None for no limit."""
        return None if self.cells.get(column, "") in ("", _UNLIMITED) else self.number(column)

    def flag(self, column: str, default: bool) -> bool:
        cell = self.cells.get(column)
        if not cell:
            return default
        if cell.lower() not in _FLAGS:
            raise self.error(f"{column} {cell!r} is neither true nor false", "write true or false")
        return _FLAGS[cell.lower()]


def _rows(folder: Path, name: str) -> list[_Row]:
    """The rows of a file, empty if it is optional and missing."""
    file = folder / name
    try:
        # Spreadsheets put a byte order mark first; utf-8-sig reads files with and without it.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return list(_parsed(str(file), _LAYOUTS[name], stream))
    except FileNotFoundError:
        if name in _REQUIRED_FILES:
            raise GridError(str(file), "", "the file is missing", "add it, with at least its header line") from None
        return []
    except UnicodeDecodeError:
        raise GridError(str(file), "", "is not UTF-8 text", "save it as CSV in UTF-8") from None
    except OSError as error:
        raise GridError(str(file), "", f"cannot be read ({error.strerror})", "make it a readable file") from None


def _parsed(file: str, layout: _Table, stream: Iterable[str]) -> Iterator[_Row]:
    reader = csv.reader(stream, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            where = f"line {reader.line_num}"
            if any(cell.splitlines() not in ([], [cell]) for cell in cells):
                raise GridError(file, where, "a cell has a line break", "write each row on one line")
            if not cells:
                continue
            if not header:
                header = cells
                _check_header(file, where, layout, header)
            elif len(cells) != len(header):
                problem = f"has {len(cells)} cells for {len(header)} columns"
                raise GridError(file, where, problem, "give one cell a column, quoted if it has a comma")
            else:
                yield _Row(file, reader.line_num, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise GridError(file, f"line {reader.line_num}", f"is not CSV ({error})", "correct the quotes") from None
    if not header:
        raise GridError(file, "line 1", "the header is missing", f"start with {','.join(layout.columns)}")


def _check_header(file: str, where: str, layout: _Table, header: Sequence[str]) -> None:
    for column in header:
        if column not in layout.columns:
            problem = f"column {column!r} is unknown"
            raise GridError(file, where, problem, f"use the columns {','.join(layout.columns)}")
        if header.count(column) > 1:
            raise GridError(file, where, f"column {column!r} is given twice", "keep one of the two")
    for column in layout.columns:
        if column in layout.required and column not in header:
            raise GridError(file, where, f"column {column!r} is missing", "add the column")


def _system(folder: Path, rows: Iterable[_Row]) -> tuple[float, str]:
    """The base in MVA and the name, which is that of the folder if not given."""
    given: dict[str, _Row] = {}
    for row in rows:
        key = row.text("key")
        if key not in ("base_mva", "name"):
            raise row.error(f"key {key!r} is unknown", "use base_mva and name")
        if key in given:
            raise row.error(f"key {key!r} is given twice", "keep one of the two")
        given[key] = row
    if "base_mva" not in given:
        raise GridError(str(folder / "system.csv"), "", "key 'base_mva' is missing", "add a line such as base_mva,100")
    name = given["name"].text("value") if "name" in given else folder.resolve().name
    return given["base_mva"].number("value"), name


def _bus(row: _Row) -> Bus:
    return Bus(
        id=row.text("id"),
        demand_mw=row.number("demand_mw", 0.0),
        shunt_mw=row.number("shunt_mw", 0.0),
        area=row.text("area", "1"),
        base_kv=row.number("base_kv", 0.0),
        name=row.text("name", ""),
    )


def _branch(row: _Row) -> Branch:
    reverse_columns = [f"reverse_rating_{letter}_mw" for letter in "abc"]
    reversed_too = any(row.cells.get(column) for column in reverse_columns)
    return Branch(
        id=row.text("id"),
        from_bus=row.text("from_bus"),
        to_bus=row.text("to_bus"),
        resistance_pu=row.number("resistance_pu"),
        reactance_pu=row.number("reactance_pu"),
        tap=row.number("tap", 1.0),
        shift_deg=row.number("shift_deg", 0.0),
        ratings=Ratings(*(row.limit(f"rating_{letter}_mw") for letter in "abc")),
        reverse=Ratings(*map(row.limit, reverse_columns)) if reversed_too else None,
        angle_min_deg=row.limit("angle_min_deg"),
        angle_max_deg=row.limit("angle_max_deg"),
        in_service=row.flag("in_service", True),
        transformer=row.flag("transformer", False),
    )


def _link(row: _Row) -> ControllableLink:
    return ControllableLink(
        id=row.text("id"),
        from_bus=row.text("from_bus"),
        to_bus=row.text("to_bus"),
        min_mw=row.number("min_mw"),
        max_mw=row.number("max_mw"),
        owner=row.text("owner", ""),
        in_service=row.flag("in_service", True),
    )


def _unit(row: _Row) -> Resource:
    return Resource(
        id=row.text("id"),
        bus=row.text("bus"),
        min_mw=row.number("min_mw"),
        max_mw=row.number("max_mw"),
        carrier=row.text("carrier", "electricity"),
        kind=row.text("kind", "generator"),
        in_service=row.flag("in_service", True),
        ramp_mw_per_h=row.limit("ramp_mw_per_h"),
    )


def _costs(grid: Grid, point_rows: Iterable[_Row], polynomial_rows: Iterable[_Row]) -> tuple[CostRow, ...]:
    units = {unit.id for unit in grid.resources}
    points: dict[str, list[tuple[float, float]]] = {}
    last_row: dict[str, _Row] = {}
    for row in point_rows:
        unit = _known(row, "unit", units)
        curve = points.setdefault(unit, [])
        point = (row.number("power_mw"), row.number("cost_per_h"))
        if curve and point[0] <= curve[-1][0]:
            problem = f"power_mw {point[0]:g} of unit {unit} is not above the {curve[-1][0]:g} before it"
            raise row.error(problem, "sort the points of a unit by power_mw and keep each once")
        curve.append(point)
        last_row[unit] = row
    for unit, curve in points.items():
        if len(curve) < 2:
            raise last_row[unit].error(f"unit {unit} has one cost point", "give at least two points")

    polynomials: dict[str, tuple[float, ...]] = {}
    for row in polynomial_rows:
        unit = _known(row, "unit", units)
        if unit in points:
            raise row.error(f"unit {unit} has points in costs.csv too", "keep the points or the polynomial")
        if unit in polynomials:
            raise row.error(f"unit {unit} has two polynomials", "keep one of the two")
        polynomials[unit] = _polynomial(row)

    costs = (CostRow(u.id, polynomials.get(u.id, ()), tuple(points.get(u.id, ()))) for u in grid.resources)
    return tuple(cost for cost in costs if cost.polynomial or cost.points)


def _polynomial(row: _Row) -> tuple[float, ...]:
    """The coefficients up to the last that is given."""
    columns = ("c0", "c1", "c2")
    given = max((place for place, column in enumerate(columns, start=1) if row.cells.get(column)), default=1)
    return tuple(row.number(column) for column in columns[:given])


def _series(grid: Grid, rows: Iterable[_Row]) -> tuple[SeriesRow, ...]:
    buses, units = {bus.id for bus in grid.buses}, {unit.id for unit in grid.resources}
    ids = {"demand": buses, "available": units, "must_take": units}
    seen: set[tuple[datetime, str, str]] = set()
    series = []
    for row in rows:
        element = _known(row, "element", ids)
        value = SeriesRow(row.text("time"), element, _known(row, "id", ids[element]), row.number("value_mw"))
        key = (_instant(row), element, value.id)
        if key in seen:
            raise row.error(f"{element} of {value.id} at {value.time} is given twice", "keep one of the two")
        seen.add(key)
        series.append(value)
    return tuple(series)


def _known(row: _Row, column: str, known: Container[str]) -> str:
    value = row.text(column)
    if value not in known:
        raise row.error(f"{column} {value!r} does not exist", "correct it or add what it names")
    return value


def _instant(row: _Row) -> datetime:
    time = row.text("time")
    try:
        instant = _parsed_time(time)
    except ValueError:
        raise row.error(f"time {time!r} is not ISO 8601", "write it as 2020-07-06T00:00:00+00:00") from None
    if instant.tzinfo is None:
        raise row.error(f"time {time!r} has no offset from UTC", "write it as 2020-07-06T00:00:00+00:00")
    return instant


# Every element repeats the times of the series.
_parsed_time = lru_cache(maxsize=65536)(datetime.fromisoformat)


def _unread_files(path: Path) -> Iterator[str]:
    unread = sorted(file.name for file in path.glob("*.csv") if file.name not in _LAYOUTS)
    if unread:
        yield counted("files of the folder not read", unread)


def write_csv_folder(case: Case, path: Path) -> None:
    """Write `case` to the folder at `path`, where reading gives the same grid, costs and series again.

    Branches between areas go to tie_lines.csv, so they come after the others. All files are written, some with
    a header only, so that none of an earlier case stays behind. Warnings are not kept: reading finds them anew.
    """
    grid = case.grid
    validate(grid)
    for cost in case.costs:
        if len(cost.polynomial) > 3:
            problem = f"a polynomial of order {len(cost.polynomial)} has no columns"
            raise GridError(grid.name, f"unit {cost.resource}", problem, "fit a quadratic or give points")
    area = {bus.id: bus.area for bus in grid.buses}
    ties = {b.id for b in grid.branches if area[b.from_bus] != area[b.to_bus]}
    tables: dict[str, Iterable[Sequence[_Cell]]] = {
        "system.csv": [("base_mva", grid.base_mva), ("name", grid.name)],
        "buses.csv": _cells("buses.csv", grid.buses),
        "branches.csv": [_branch_cells(b) for b in grid.branches if b.id not in ties],
        "tie_lines.csv": [_branch_cells(b) for b in grid.branches if b.id in ties],
        "links.csv": _cells("links.csv", grid.links),
        "units.csv": _cells("units.csv", grid.resources),
        "costs.csv": [(cost.resource, *point) for cost in case.costs for point in cost.points],
        "cost_polynomials.csv": [(c.resource, *(*c.polynomial, None, None)[:3]) for c in case.costs if c.polynomial],
        "series.csv": case.series,
    }
    path.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with (path / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_LAYOUTS[name].columns)
            writer.writerows(map(_cell_text, row) for row in rows)


def _cells(name: str, elements: Iterable[Element]) -> Iterable[Sequence[_Cell]]:
    """The cells of elements whose file has exactly their fields as columns."""
    return map(attrgetter(*_LAYOUTS[name].columns), elements)


def _branch_cells(branch: Branch) -> Sequence[_Cell]:
    reverse: Sequence[_Cell] = branch.reverse or (None, None, None)
    if branch.reverse == (None, None, None):
        reverse = (_UNLIMITED,) * 3
    plain = attrgetter(*_BRANCHES.columns[:7]), attrgetter(*_BRANCHES.columns[-4:])
    before, after = (cells(branch) for cells in plain)
    return (*before, *branch.ratings, *reverse, *after)


def _cell_text(cell: _Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case str():
            return cell
        case _:
            # repr is the shortest text that reads back as the same number.
            return repr(float(cell))
