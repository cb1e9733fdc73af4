"""Checks of a grid before anything is computed from it: the first error stops, warnings inform.

Every reader ends with `validate_source`, so a grid that came from a file has passed these checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from topology.errors import GridError
from topology.grid import Branch, Bus, ControllableLink, Grid, Ratings, Resource

Element = Bus | Branch | Resource | ControllableLink

_TEXTS: Mapping[type, tuple[str, ...]] = {
    Bus: ("id", "area", "name"),
    Branch: ("id",),
    Resource: ("id", "carrier", "kind"),
    ControllableLink: ("id", "owner"),
}
_MAY_BE_EMPTY = frozenset({"name", "owner"})
_NUMBERS: Mapping[type, tuple[str, ...]] = {
    Bus: ("demand_mw", "shunt_mw", "base_kv"),
    Branch: ("resistance_pu", "reactance_pu", "tap", "shift_deg", "angle_min_deg", "angle_max_deg"),
    Resource: ("min_mw", "max_mw", "ramp_mw_per_h"),
    ControllableLink: ("min_mw", "max_mw"),
}
_SHOWN_IDS = 5


class _Problem(NamedTuple):
    where: str
    problem: str
    remedy: str


def validate(grid: Grid) -> tuple[str, ...]:
    """Raise `GridError` for the first thing that makes `grid` unusable; return one-line warnings for the rest."""
    problem = next(_problems(grid), None)
    if problem is not None:
        raise GridError(grid.name, *problem)
    return tuple(_warnings(grid))


def validate_source(grid: Grid, places: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """`validate` for a reader: the error names the file and row of `places`, keyed by the `label` of the element."""
    try:
        return validate(grid)
    except GridError as error:
        source, row = places.get(error.where, (error.source, ""))
        where = ": ".join(part for part in (row, error.where) if part)
        raise GridError(source, where, error.problem, error.remedy) from None


def label(element: Element) -> str:
    """The element as errors show it, such as `bus 101` or `branch 7 (101-102)`."""
    match element:
        case Branch():
            return element.label
        case Bus():
            return f"bus {element.id}"
        case Resource():
            return f"unit {element.id}"
        case ControllableLink():
            return f"link {element.id}"


def counted(what: str, ids: Sequence[str]) -> str:
    """One warning for many elements: what they are, how many, and the first few ids."""
    more = ", ..." if len(ids) > _SHOWN_IDS else ""
    return f"{what}: {len(ids)} ({', '.join(ids[:_SHOWN_IDS])}{more})"


def _problems(grid: Grid) -> Iterator[_Problem]:
    if not _is_line(grid.name):
        yield _Problem("", "the name of the grid is empty or has a line break", "give it a one-line name")
    if not grid.buses:
        yield _Problem("", "the grid has no bus", "give at least one bus")
    if not (math.isfinite(grid.base_mva) and grid.base_mva > 0):
        yield _Problem("base_mva", f"is {grid.base_mva}", "give a positive number of MVA, such as 100")
    collections: tuple[Sequence[Element], ...] = (grid.buses, grid.branches, grid.links, grid.resources)
    for elements in collections:
        yield from _text_problems(elements)
        yield from _duplicates(elements)
        yield from _number_problems(elements)
    yield from _unknown_buses(grid)
    for branch in grid.branches:
        yield from _branch_problems(branch)
    limited: tuple[Resource | ControllableLink, ...] = (*grid.resources, *grid.links)
    for element in limited:
        # Published cases keep stale limits on units that are out of service.
        if element.in_service and element.min_mw > element.max_mw:
            problem = f"min_mw {element.min_mw:g} is above max_mw {element.max_mw:g}"
            yield _Problem(label(element), problem, "exchange or correct the two limits")


def _text_problems(elements: Iterable[Element]) -> Iterator[_Problem]:
    for element in elements:
        for field in _TEXTS[type(element)]:
            value: str = getattr(element, field)
            if not _is_line(value) and not (value == "" and field in _MAY_BE_EMPTY):
                where = f"{type(element).__name__} {element.id!r}"
                yield _Problem(where, f"{field} {value!r} is empty or has a line break", "give it a one-line text")


def _is_line(text: str) -> bool:
    return text.splitlines() == [text]


def _duplicates(elements: Iterable[Element]) -> Iterator[_Problem]:
    seen: set[str] = set()
    for element in elements:
        if element.id in seen:
            yield _Problem(label(element), f"id {element.id} is used twice", "give each its own id or remove one")
        seen.add(element.id)


def _number_problems(elements: Iterable[Element]) -> Iterator[_Problem]:
    for element in elements:
        numbers = [(field, getattr(element, field)) for field in _NUMBERS[type(element)]]
        if isinstance(element, Branch):
            numbers += _ratings(element)
        for field, value in numbers:
            if value is not None and not math.isfinite(value):
                yield _Problem(label(element), f"{field} is {value}", "give a finite number")


def _unknown_buses(grid: Grid) -> Iterator[_Problem]:
    def missing(element: Element, bus: str) -> _Problem:
        return _Problem(label(element), f"bus {bus!r} does not exist", "add the bus or correct the id")

    known = grid.bus_position
    connections: tuple[Branch | ControllableLink, ...] = (*grid.branches, *grid.links)
    for element in connections:
        for bus in (element.from_bus, element.to_bus):
            if bus not in known:
                yield missing(element, bus)
    for unit in grid.resources:
        if unit.bus not in known:
            yield missing(unit, unit.bus)


def _branch_problems(branch: Branch) -> Iterator[_Problem]:
    if branch.from_bus == branch.to_bus:
        yield _Problem(branch.label, "it connects a bus to itself", "correct an end or remove the branch")
    if branch.in_service and branch.reactance_pu == 0:
        yield _Problem(branch.label, "reactance is zero", "give its reactance, or merge its two buses into one")
    if branch.tap <= 0:
        yield _Problem(branch.label, f"tap {branch.tap:g} is not positive", "give the turns ratio, 1 if nominal")
    for field, value in _ratings(branch):
        if value is not None and value < 0:
            yield _Problem(branch.label, f"{field} {value:g} is negative", "give a rating of 0 or more")
    low, high = branch.angle_min_deg, branch.angle_max_deg
    if low is not None and high is not None and low > high:
        problem = f"angle_min_deg {low:g} is above angle_max_deg {high:g}"
        yield _Problem(branch.label, problem, "exchange or correct the two limits")


def _ratings(branch: Branch) -> list[tuple[str, float | None]]:
    ratings = [(f"ratings.{field}", value) for field, value in zip(Ratings._fields, branch.ratings, strict=True)]
    if branch.reverse is not None:
        ratings += [(f"reverse.{field}", value) for field, value in zip(Ratings._fields, branch.reverse, strict=True)]
    return ratings


def _warnings(grid: Grid) -> Iterator[str]:
    yield from _unserved_islands(grid)
    unlimited = [b.id for b in grid.branches if b.in_service and b.ratings.normal_mw is None]
    if unlimited:
        yield counted("branches in service without a normal rating, taken as unlimited", unlimited)


def _unserved_islands(grid: Grid) -> Iterator[str]:
    supplied = {unit.bus for unit in grid.resources if unit.in_service and unit.max_mw > 0}
    for link in grid.links:
        if link.in_service:
            supplied.update((link.from_bus, link.to_bus))
    load_mw = {bus.id: bus.demand_mw + bus.shunt_mw for bus in grid.buses}
    for island in grid.islands:
        if not island.isdisjoint(supplied):
            continue
        total_mw = math.fsum(load_mw[bus] for bus in island)
        if total_mw > 0:
            first = min(island, key=grid.bus_position.__getitem__)
            size = "1 bus" if len(island) == 1 else f"{len(island)} buses"
            yield (
                f"island of {size} from bus {first} has {total_mw:g} MW of demand, "
                "no unit in service and no link: its load is not served"
            )
