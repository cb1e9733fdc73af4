"""Reads MATPOWER case files (`.m`, case format 2): the library parses the tables, this module makes a grid of them.

A case file is a program. Only literal assignments to `mpc` are read; a file that computes on its tables is
refused, because reading it without running it would give another grid. Every statement must be finished, so
that a truncated file is an error and never a smaller grid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path

import numpy as np

from topology.arrays import FloatArray
from topology.errors import GridError
from topology.grid import Branch, Bus, Case, ControllableLink, CostRow, Grid, Ratings, Resource
from topology.validation import Element, counted, label, validate_source

_REQUIRED = ("version", "baseMVA", "bus", "gen", "branch")
_READ = frozenset({*_REQUIRED, "gencost", "dcline"})
# Names and obsolete tables: without them the grid is the same.
_HARMLESS = frozenset({"areas", "bus_name", "branch_name", "gen_name", "gentype", "genfuel"})

# The columns each table must have by the case format, and the positions of those that are read.
_WIDTH = {"bus": 13, "gen": 10, "branch": 13, "gencost": 5, "dcline": 17}
_COLUMN = {
    "bus": {"BUS_I": 0, "BUS_TYPE": 1, "PD": 2, "GS": 4, "BUS_AREA": 6, "BASE_KV": 9},
    "gen": {"GEN_BUS": 0, "GEN_STATUS": 7, "PMAX": 8, "PMIN": 9},
    "branch": {"F_BUS": 0, "T_BUS": 1, "BR_R": 2, "BR_X": 3, "RATE_A": 5, "RATE_B": 6, "RATE_C": 7}
    | {"TAP": 8, "SHIFT": 9, "BR_STATUS": 10, "ANGMIN": 11, "ANGMAX": 12},
    "gencost": {"MODEL": 0, "NCOST": 3},
    "dcline": {"F_BUS": 0, "T_BUS": 1, "BR_STATUS": 2, "PMIN": 9, "PMAX": 10, "LOSS0": 15, "LOSS1": 16},
}
_COST_START = 4
_ISOLATED = "4"

_BLOCK_COMMENT = re.compile(r"^[ \t]*%\{[ \t]*$.*?(?:^[ \t]*%\}[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_COMMENT_OR_CONTINUATION = re.compile(r"('(?:[^'\n]|'')*')|%[^\n]*|\.\.\.[^\n]*\n?")
_STRUCTURE = re.compile(r"'(?:[^'\n]|'')*'|[\[\](){};\n]")
_ASSIGNMENT = re.compile(r"mpc\.([\w.]+)\s*=\s*(.+)", re.DOTALL)
_COMPUTATION = re.compile(r"(?!function\b).*\bmpc\b", re.DOTALL)


def read_matpower(path: Path) -> Case:
    """Read the case at `path`. Bus ids are kept; branches are named by their row, units `gen` and links `dc` + row."""
    source = str(path)
    fields = _fields(source, _text(path))
    bus, gen, branch = (_table(source, name, fields[name]) for name in ("bus", "gen", "branch"))
    dcline, gencost = (_table(source, name, fields.get(name, "[]")) for name in ("dcline", "gencost"))

    bus_types = zip(bus.ids("BUS_I"), _bus_types(bus), strict=True)
    isolated = {bus_id for bus_id, bus_type in bus_types if bus_type == _ISOLATED}
    grid = Grid(
        name=path.name,
        base_mva=_base_mva(source, fields["baseMVA"]),
        buses=tuple(b for b in _buses(bus) if b.id not in isolated),
        branches=tuple(b for b in _branches(branch) if isolated.isdisjoint((b.from_bus, b.to_bus))),
        resources=tuple(u for u in _units(gen) if u.bus not in isolated),
        links=tuple(k for k in _links(dcline) if isolated.isdisjoint((k.from_bus, k.to_bus))),
    )
    problems = validate_source(grid, _places(grid, bus))
    kept = {unit.id for unit in grid.resources}
    costs = _costs(gencost, len(gen)) if "gencost" in fields else ()
    warnings = (
        *_field_warnings(fields),
        *_cost_warnings("gencost" in fields, len(gencost), len(gen)),
        *_isolation_warnings(isolated, bus, (len(branch), len(gen), len(dcline)), grid),
        *_grid_warnings(grid),
        *_loss_warning(dcline),
        *problems,
    )
    return Case(grid, tuple(cost for cost in costs if cost.resource in kept), warnings=warnings)


@dataclass(frozen=True)
class _Table:
    """One numeric table of the file; rows are counted from 1 as in the file."""

    source: str
    name: str
    values: FloatArray

    def __len__(self) -> int:
        return len(self.values)

    def error(self, row: int, problem: str, remedy: str) -> GridError:
        return GridError(self.source, f"mpc.{self.name} row {row}", problem, remedy)

    def column(self, name: str, infinite: bool = False) -> list[float]:
        """The values of a column, none of them NaN, nor infinite unless `infinite`."""
        values = self.values[:, _COLUMN[self.name][name]]
        wrong = np.isnan(values) if infinite else ~np.isfinite(values)
        if wrong.any():
            row = int(wrong.argmax())
            raise self.error(row + 1, f"{name} is {values[row]}", "give a finite number")
        return list(map(float, values))

    def ids(self, name: str) -> list[str]:
        """The values of a column of whole numbers, as text."""
        values = self.column(name)
        for row, value in enumerate(values, start=1):
            if not value.is_integer():
                raise self.error(row, f"{name} is {value}", "give a whole number")
        return [str(int(value)) for value in values]


def _text(path: Path) -> str:
    try:
        # Bytes outside UTF-8 occur in comments and names only; in a table they are not a number.
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise GridError(str(path), "", problem, "give the path of a MATPOWER .m file") from None


def _fields(source: str, text: str) -> dict[str, str]:
    """The right-hand sides of the literal assignments to `mpc`."""
    fields: dict[str, str] = {}
    for statement in _statements(source, _without_comments(text)):
        assignment = _ASSIGNMENT.fullmatch(statement)
        if assignment is None:
            if _COMPUTATION.match(statement):
                problem = f"{_shown(statement)} is not a literal table or value, and nothing else is read"
                raise GridError(source, "", problem, "run it in MATPOWER and read what savecase writes")
            continue
        name, value = assignment.groups()
        if name in fields:
            raise GridError(source, f"mpc.{name}", "is assigned twice", "keep one of the two")
        fields[name] = value
    for name in _REQUIRED:
        if name not in fields:
            raise GridError(source, f"mpc.{name}", "is missing", "get a complete file of MATPOWER case format 2")
    if fields["version"].strip("'\"") != "2":
        problem = f"is {_shown(fields['version'])}, and only case format 2 is read"
        raise GridError(source, "mpc.version", problem, "convert it with MATPOWER's loadcase and savecase")
    return fields


def _without_comments(text: str) -> str:
    code = _BLOCK_COMMENT.sub("", text)
    return _COMMENT_OR_CONTINUATION.sub(lambda match: match[1] or " ", code)


def _statements(source: str, code: str) -> Iterator[str]:
    """Split the program at the ends of its statements; one that is not finished is an error."""
    depth = start = 0
    for token in _STRUCTURE.finditer(code):
        mark = token[0]
        if mark in "[({":
            depth += 1
        elif mark in "])}":
            depth -= 1
        elif mark in ";\n" and depth <= 0:
            yield code[start : token.start()].strip()
            start = token.end()
        if depth < 0:
            place = _shown(code[start : token.end()].strip())
            raise GridError(source, "", f"{place} closes a bracket that is not open", "balance the brackets")
    rest = code[start:].strip()
    if rest not in ("", "end", "endfunction", "return"):
        problem = f"{_shown(rest)} is not finished, the file looks truncated"
        raise GridError(source, "", problem, "get a complete file, or end it with ';' ('];' for a table)")


def _shown(statement: str) -> str:
    first_line = statement.partition("\n")[0].strip()
    return repr(first_line if len(first_line) <= 40 else f"{first_line[:37]}...")


def _base_mva(source: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise GridError(source, "mpc.baseMVA", f"{_shown(value)} is not a number", "give a number of MVA") from None


def _table(source: str, name: str, value: str) -> _Table:
    if not (value.startswith("[") and value.endswith("]")):
        problem = f"{_shown(value)} is not a plain table"
        raise GridError(source, f"mpc.{name}", problem, "write the numbers between '[' and '];'")
    # Pandas comes along with this import: only who reads a .m file waits for it.
    from matpowercaseframes.reader import parse_file

    # CaseFrames itself would join the rows of one line, take a comma for a decimal point and find tables in
    # comments; so its parser gets the bare table, one row a line.
    body = value[1:-1].replace(",", " ").replace(";", "\n")
    rows: list[list[float | str]] = parse_file(name, f"mpc.{name} = [\n{body}\n];")
    width = max(len(rows[0]), _WIDTH[name]) if rows else _WIDTH[name]
    for number, row in enumerate(rows, start=1):
        wrong = next((cell for cell in row if isinstance(cell, str)), None)
        if wrong is not None:
            where = f"mpc.{name} row {number}"
            raise GridError(source, where, f"{_shown(wrong)} is not a number", "write plain numbers")
        if len(row) != width:
            problem = f"has {len(row)} columns instead of {width}"
            raise GridError(source, f"mpc.{name} row {number}", problem, "complete the row, one row a line")
    return _Table(source, name, np.array(rows, dtype=np.float64).reshape(len(rows), width))


def _bus_types(bus: _Table) -> list[str]:
    types = bus.ids("BUS_TYPE")
    for row, bus_type in enumerate(types, start=1):
        if bus_type not in ("1", "2", "3", _ISOLATED):
            raise bus.error(row, f"BUS_TYPE is {bus_type}", "give 1, 2, 3, or 4 for an isolated bus")
    return types


def _buses(bus: _Table) -> Iterable[Bus]:
    return map(Bus, bus.ids("BUS_I"), bus.column("PD"), bus.column("GS"), bus.ids("BUS_AREA"), bus.column("BASE_KV"))


def _branches(branch: _Table) -> Iterable[Branch]:
    taps, shifts = branch.column("TAP"), branch.column("SHIFT")
    rates = (map(_rating, branch.column(name)) for name in ("RATE_A", "RATE_B", "RATE_C"))
    angles = list(map(_angles, branch.column("ANGMIN", infinite=True), branch.column("ANGMAX", infinite=True)))
    return map(
        Branch,
        map(str, range(1, len(branch) + 1)),
        branch.ids("F_BUS"),
        branch.ids("T_BUS"),
        branch.column("BR_R"),
        branch.column("BR_X"),
        (tap or 1.0 for tap in taps),
        shifts,
        map(Ratings, *rates),
        repeat(None),
        (low for low, _ in angles),
        (high for _, high in angles),
        (status > 0 for status in branch.column("BR_STATUS")),
        (tap != 0 or shift != 0 for tap, shift in zip(taps, shifts, strict=True)),
    )


def _rating(rate: float) -> float | None:
    return rate or None


def _angles(low: float, high: float) -> tuple[float | None, float | None]:
    """Angle limits by the format: 0 and 0, or a whole turn, is no limit."""
    if low == 0 and high == 0:
        return None, None
    return (None if low <= -360 else low), (None if high >= 360 else high)


def _units(gen: _Table) -> Iterable[Resource]:
    return (
        Resource(f"gen{row}", bus, low, high, in_service=status > 0)
        for row, (bus, low, high, status) in enumerate(
            zip(gen.ids("GEN_BUS"), gen.column("PMIN"), gen.column("PMAX"), gen.column("GEN_STATUS"), strict=True),
            start=1,
        )
    )


def _links(dcline: _Table) -> Iterable[ControllableLink]:
    ends = zip(dcline.ids("F_BUS"), dcline.ids("T_BUS"), strict=True)
    limits = zip(dcline.column("PMIN"), dcline.column("PMAX"), dcline.column("BR_STATUS"), strict=True)
    return (
        ControllableLink(f"dc{row}", from_bus, to_bus, low, high, in_service=status > 0)
        for row, ((from_bus, to_bus), (low, high, status)) in enumerate(zip(ends, limits, strict=True), start=1)
    )


def _places(grid: Grid, bus: _Table) -> Mapping[str, tuple[str, str]]:
    """The table and row each element came from."""

    def place(element: Element, name: str, row: str) -> tuple[str, tuple[str, str]]:
        return label(element), (bus.source, f"mpc.{name} row {row}")

    bus_row = {bus_id: str(row) for row, bus_id in enumerate(bus.ids("BUS_I"), start=1)}
    return {
        "base_mva": (bus.source, "mpc.baseMVA"),
        "": (bus.source, "mpc.bus"),
        **dict(place(b, "bus", bus_row[b.id]) for b in grid.buses),
        **dict(place(b, "branch", b.id) for b in grid.branches),
        **dict(place(unit, "gen", unit.id.removeprefix("gen")) for unit in grid.resources),
        **dict(place(link, "dcline", link.id.removeprefix("dc")) for link in grid.links),
    }


def _costs(gencost: _Table, units: int) -> Sequence[CostRow]:
    if len(gencost) not in (units, 2 * units):
        problem = f"has {len(gencost)} rows for {units} generators"
        raise GridError(gencost.source, "mpc.gencost", problem, "give one row a generator, or two with reactive costs")
    models, counts = gencost.ids("MODEL")[:units], gencost.ids("NCOST")[:units]
    rows = gencost.values[:units, _COST_START:].tolist()
    return [
        _cost(gencost, number, model, int(count), row)
        for number, (model, count, row) in enumerate(zip(models, counts, rows, strict=True), start=1)
    ]


def _cost(gencost: _Table, number: int, model: str, count: int, values: Sequence[float]) -> CostRow:
    """A row of costs; cells beyond those its NCOST asks for only fill the table."""
    if model not in ("1", "2"):
        raise gencost.error(number, f"MODEL is {model}", "give 1 (piecewise linear) or 2 (polynomial)")
    needed = 2 * count if model == "1" else count
    if not 1 <= needed <= len(values):
        problem = f"NCOST is {count} but the row has {len(values)} cost cells"
        raise gencost.error(number, problem, "correct NCOST or complete the row")
    used = values[:needed]
    if not np.isfinite(used).all():
        raise gencost.error(number, "a cost is NaN or infinite", "give finite numbers")
    unit = f"gen{number}"
    if model == "1":
        return CostRow(unit, points=_points(gencost, number, used))
    return CostRow(unit, polynomial=_polynomial(gencost, number, used))


def _points(gencost: _Table, number: int, values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    points = tuple(zip(values[::2], values[1::2], strict=True))
    if len(points) < 2:
        raise gencost.error(number, "a piecewise cost has one point", "give at least two points")
    if any(left[0] >= right[0] for left, right in pairwise(points)):
        raise gencost.error(number, "the points are not in ascending MW", "sort them and keep each MW once")
    return points


def _polynomial(gencost: _Table, number: int, values: Sequence[float]) -> tuple[float, ...]:
    """The coefficients, constant first; the file has the highest first."""
    coefficients = tuple(reversed(values))
    order = max((place for place, value in enumerate(coefficients, start=1) if value), default=0)
    if order > 3:
        problem = f"cost order {order}, and costs are read up to order 3 (quadratic)"
        raise gencost.error(number, problem, "fit a quadratic (NCOST 3) or give piecewise points (MODEL 1)")
    return coefficients[:3]


def _field_warnings(fields: Iterable[str]) -> Iterator[str]:
    unread = [f"mpc.{name}" for name in fields if name not in _READ | _HARMLESS]
    if unread:
        yield counted("fields of the file not read", unread)


def _cost_warnings(given: bool, rows: int, units: int) -> Iterator[str]:
    if not given:
        yield f"no mpc.gencost: the {units} generators have no costs"
    elif rows > units:
        yield f"mpc.gencost rows {units + 1} to {rows} ignored: costs of reactive power"


def _isolation_warnings(isolated: set[str], bus: _Table, rows: tuple[int, int, int], grid: Grid) -> Iterator[str]:
    if not isolated:
        return
    yield counted("isolated buses (type 4) dropped", [bus_id for bus_id in bus.ids("BUS_I") if bus_id in isolated])
    counts = [count - len(left) for count, left in zip(rows, (grid.branches, grid.resources, grid.links), strict=True)]
    if any(counts):
        yield "dropped with their isolated bus: {} branches, {} units, {} DC lines".format(*counts)


def _grid_warnings(grid: Grid) -> Iterator[str]:
    kinds = (
        ("branches out of service", [b.id for b in grid.branches if not b.in_service]),
        ("branches with a tap other than 1", [b.id for b in grid.branches if b.tap != 1]),
        ("branches with a phase shift", [b.id for b in grid.branches if b.shift_deg != 0]),
        ("generators out of service", [unit.id for unit in grid.resources if not unit.in_service]),
        ("DC lines read as controllable links", [link.id for link in grid.links]),
        ("DC lines out of service", [link.id for link in grid.links if not link.in_service]),
    )
    return (counted(what, ids) for what, ids in kinds if ids)


def _loss_warning(dcline: _Table) -> Iterator[str]:
    losses = zip(dcline.column("LOSS0"), dcline.column("LOSS1"), strict=True)
    lossy = [f"dc{row}" for row, (fixed, relative) in enumerate(losses, start=1) if fixed or relative]
    if lossy:
        yield counted("DC lines whose losses (loss0, loss1) are ignored", lossy)
