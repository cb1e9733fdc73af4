"""A market that couples within a second: three regions of two buses each in a ring, whose tie-lines may bind.

What is offered follows from a seed. The optimum is that of one central market, solved apart.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.offers import MarketRules, Offer, Step, build_book, tabulate
from coordinator.settlement.interval.schedules import Curve
from coordinator.settlement.interval.topics import Interval
from tests.coordinator.service.consortium_harness import REGIONS
from tests.coordinator.settlement.test_intervals import Hour
from topology.case_files import read_case
from topology.dc import build_dc_network
from topology.regions import RegionCut, cut_network

OPENS_S, DURATION_S = 1_580_083_200, 60
_MEGA = _MICRO = 10**6
_CASE = """\
function mpc = ring
mpc.version = '2';
mpc.baseMVA = 100;
mpc.bus = [
    1 3 0 0 0 0 1 1 0 110 1 1.1 0.9;
    2 1 40 0 0 0 1 1 0 110 1 1.1 0.9;
    3 2 0 0 0 0 1 1 0 110 1 1.1 0.9;
    4 1 60 0 0 0 1 1 0 110 1 1.1 0.9;
    5 2 0 0 0 0 1 1 0 110 1 1.1 0.9;
    6 1 50 0 0 0 1 1 0 110 1 1.1 0.9;
];
mpc.gen = [
    1 0 0 0 0 1 100 1 120 0;
    3 0 0 0 0 1 100 1 90 0;
    5 0 0 0 0 1 100 1 90 0;
];
mpc.branch = [
    1 2 0 0.10 0 80 0 0 0 0 1 -360 360;
    3 4 0 0.12 0 80 0 0 0 0 1 -360 360;
    5 6 0 0.15 0 80 0 0 0 0 1 -360 360;
    2 3 0 0.20 0 30 0 0 0 0 1 -360 360;
    4 5 0 0.25 0 30 0 0 0 0 1 -360 360;
    6 1 0 0.30 0 30 0 0 0 0 1 -360 360;
];
mpc.gencost = [
    2 0 0 2 20 0;
    2 0 0 2 30 0;
    2 0 0 2 40 0;
];
"""
LOADS = {"north": "load-2", "south": "load-4", "west": "load-6"}
"""The load of each region."""
_REGION_OF_BUS = {"1": "north", "2": "north", "3": "south", "4": "south", "5": "west", "6": "west"}


def write_grid(folder: Path) -> dict[str, Any]:
    """The grid's files below a folder, and what the section `intervals` of a consortium file there says of them."""
    (folder / "ring.m").write_text(_CASE, encoding="utf-8")
    with (folder / "regions.csv").open("w", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["bus", "region"])
        writer.writerows(_REGION_OF_BUS.items())
    opens = "2020-01-27T00:00:00+00:00"
    return {"grid": "ring.m", "regions": "regions.csv", "opens": opens, "duration_s": DURATION_S}


@cache
def _cut(folder: Path) -> tuple[RegionCut, dict[str, int], dict[str, str]]:
    """The cut grid, positions of its buses, and the buses of its resources by the names that `init` gives them."""
    grid = read_case(folder / "ring.m").grid
    network = build_dc_network(grid)
    cut = cut_network(network, tuple(_REGION_OF_BUS[bus] for bus in network.bus_ids))
    resources = {f"unit-{unit.id}": unit.bus for unit in grid.resources}
    resources |= {f"load-{bus.id}": bus.id for bus in grid.buses if bus.demand_mw}
    return cut, dict(grid.bus_position), resources


def cut_grid(folder: Path) -> RegionCut:
    """The grid, cut into its regions."""
    return _cut(folder)[0]


def interval_of(number: int) -> Interval:
    """The market's intervals, from 0 on."""
    return Interval(OPENS_S + number * DURATION_S, DURATION_S)


def curves_of(folder: Path, rng: random.Random) -> dict[str, dict[str, Curve]]:
    """What is offered, by region and resource: loads as they are, units in two steps of rising price."""
    _, _, resources = _cut(folder)
    found: dict[str, dict[str, Curve]] = {name: {} for name in REGIONS}
    for name, bus in sorted(resources.items()):
        if name.startswith("load-"):
            curve = Curve(-rng.randint(20 * _MEGA, 60 * _MEGA), ())
        else:
            price = rng.randint(10 * _MICRO, 50 * _MICRO)
            dearer = price + rng.randint(1, 20 * _MICRO)
            widths = (rng.randint(30 * _MEGA, 60 * _MEGA), rng.randint(30 * _MEGA, 60 * _MEGA))
            curve = Curve(0, (Step(widths[0], price), Step(widths[1], dearer)))
        found[_REGION_OF_BUS[bus]][name] = curve
    return found


def optimum_of(folder: Path, curves: Mapping[str, Mapping[str, Curve]]) -> int:
    """The objective of one central market, in micro-units per hour."""
    cut, position, resources = _cut(folder)
    rules = MarketRules()
    named = [(name, curve) for region in curves.values() for name, curve in region.items()]
    offers = [Offer(name, resources[name], curve.fixed_w, curve.steps) for name, curve in named]
    book = build_book(offers, {}, position, rules)
    central = solve_central(Problem(cut.network, tabulate(book, rules).steps, rules))
    return central.objective_micro_per_h - book.fixed_cost_micro_per_h


def small_hours(folder: Path, seed: int, count: int) -> tuple[tuple[str, ...], list[Hour]]:
    """The regions in their order, and as many intervals with offers and optimum."""
    cut, _, resources = _cut(folder)
    names, rng, found = cut.interconnection.region_names, random.Random(seed), []
    for number in range(count):
        curves = curves_of(folder, rng)
        regions = [{name: (resources[name], curve) for name, curve in curves[region].items()} for region in names]
        found.append((interval_of(number), regions, optimum_of(folder, curves)))
    return names, found
