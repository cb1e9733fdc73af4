"""A small run: two regions on one branch, and `gridaccord run` of it in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.actors.ray_nodes import descendants, end, environment
from tests.actors.support import ROOT
from topology.csv_folder import write_csv_folder
from topology.grid import Branch, Bus, Case, CostRow, Grid, Ratings, Resource, SeriesRow

GRIDACCORD = Path(sys.executable).with_name("gridaccord")
METERS = 12
DEMAND_MW = (60.0, 80.0, 70.0, 90.0, 65.0, 85.0, 75.0, 80.0, 60.0)
WITHIN_S = 400.0
"""Suits a machine several times slower than one left alone."""


def scenario_file(
    folder: Path, *, intervals: int, west: bool = False, parallel: bool = False, **changes: object
) -> Path:
    """A cheap unit in the north, a dear one, a battery and the demand in the south; with a west, a unit there as well.

    Two regions begin an interval at least: where one is to be silent, there are three. `parallel` adds a second line
    between north and south.
    """
    buses = [Bus("a", area="north"), Bus("b", DEMAND_MW[0], area="south")]
    units = [Resource("G", "a", 0.0, 90.0), Resource("H", "b", 0.0, 90.0)]
    branches = [Branch("1", "a", "b", 0.0, 0.1, ratings=Ratings(50.0))]
    if parallel:
        branches.append(Branch("3", "a", "b", 0.0, 0.2, ratings=Ratings(50.0)))
    if west:
        buses.append(Bus("c", area="west"))
        units.append(Resource("K", "c", 0.0, 20.0))
        branches.append(Branch("2", "b", "c", 0.0, 0.1, ratings=Ratings(50.0)))
    costs = [CostRow(unit.id, polynomial=(0.0, cost)) for unit, cost in zip(units, (10.0, 40.0, 30.0), strict=False)]
    series = [
        SeriesRow(f"2020-05-01T{number:02}:00:00+00:00", "demand", "b", demand)
        for number, demand in enumerate(DEMAND_MW[:intervals])
    ]
    grid = Grid("small", 100.0, tuple(buses), tuple(branches), tuple(units))
    write_csv_folder(Case(grid, tuple(costs), tuple(series)), folder / "case")
    content = {
        "name": "small",
        "case": "case",
        "seed": 5,
        "devices": {"meters": METERS},
        "batteries": [{"name": "hill", "bus": "b", "power_mw": 5, "energy_mwh": 10}],
        "pace": {"delay_ms": 200, "heartbeat_ms": 300},
        **changes,
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def start_run(scenario: Path, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """`gridaccord run`, whose output goes to files beside its folder; the leader of a session of its own."""
    command = [str(GRIDACCORD), "run", str(scenario), "-o", str(folder), "--quiet", *options]
    with folder.with_suffix(".out").open("ab") as out, folder.with_suffix(".err").open("ab") as errors:
        return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=out, stderr=errors, start_new_session=True)


def run(scenario: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    """To its end; its events."""
    process = start_run(scenario, folder, *options)
    try:
        code = process.wait(timeout=WITHIN_S)
    finally:
        for one in (*descendants(process.pid), process.pid) if process.poll() is None else ():
            end(one)
    assert code == 0, folder.with_suffix(".err").read_text(errors="replace")
    return events(folder)


def events(folder: Path) -> list[dict[str, Any]]:
    """What happened in a run so far."""
    path = folder / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def of_kind(found: list[dict[str, Any]], kind: str, **fields: object) -> list[dict[str, Any]]:
    """Events of a kind that say so."""
    return [one for one in found if one["kind"] == kind and _says(one, fields)]


def _says(event: Mapping[str, Any], fields: Mapping[str, object]) -> bool:
    return all(event[name] == value for name, value in fields.items())
