"""What makes a grid unusable is named with its element; what is only suspicious is a warning."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from topology.errors import GridError
from topology.grid import Branch, Bus, ControllableLink, Grid, Ratings, Resource
from topology.validation import label, validate, validate_source

RATED = Ratings(100.0, 110.0, 120.0)
GRID = Grid(
    name="three buses",
    base_mva=100.0,
    buses=(Bus("1"), Bus("2", demand_mw=50.0), Bus("3", area="2")),
    branches=(Branch("a", "1", "2", 0.01, 0.1, ratings=RATED), Branch("b", "2", "3", 0.01, -0.1, ratings=RATED)),
    resources=(Resource("g", "1", 0.0, 80.0),),
    links=(ControllableLink("dc", "1", "3", -10.0, 10.0),),
)
BUS, BRANCH, UNIT, LINK = GRID.buses[0], GRID.branches[0], GRID.resources[0], GRID.links[0]


def with_branch(**changes: object) -> Grid:
    return replace(GRID, branches=(replace(BRANCH, **changes), GRID.branches[1]))


def with_unit(**changes: object) -> Grid:
    return replace(GRID, resources=(replace(UNIT, **changes),))


def with_link(**changes: object) -> Grid:
    return replace(GRID, links=(replace(LINK, **changes),))


def with_bus(**changes: object) -> Grid:
    return replace(GRID, buses=(replace(BUS, **changes), *GRID.buses[1:]))


def test_a_sound_grid_has_no_warnings() -> None:
    assert validate(GRID) == ()


@pytest.mark.parametrize(
    ("grid", "where", "problem"),
    [
        (replace(GRID, buses=(), branches=(), resources=(), links=()), "", "no bus"),
        (replace(GRID, name=""), "", "name of the grid is empty"),
        (replace(GRID, base_mva=0.0), "base_mva", "is 0.0"),
        (replace(GRID, base_mva=math.nan), "base_mva", "is nan"),
        (replace(GRID, buses=(*GRID.buses, Bus("2"))), "bus 2", "used twice"),
        (replace(GRID, branches=(*GRID.branches, BRANCH)), "branch a (1-2)", "used twice"),
        (replace(GRID, resources=(UNIT, UNIT)), "unit g", "used twice"),
        (replace(GRID, links=(LINK, LINK)), "link dc", "used twice"),
        (with_branch(to_bus="9"), "branch a (1-9)", "bus '9' does not exist"),
        (with_branch(from_bus="9"), "branch a (9-2)", "bus '9' does not exist"),
        (with_unit(bus="9"), "unit g", "bus '9' does not exist"),
        (with_link(from_bus="9"), "link dc", "bus '9' does not exist"),
        (with_branch(reactance_pu=0.0), "branch a (1-2)", "reactance is zero"),
        (with_branch(to_bus="1"), "branch a (1-1)", "to itself"),
        (with_branch(tap=0.0), "branch a (1-2)", "tap 0 is not positive"),
        (with_branch(ratings=Ratings(1, 2, -3)), "branch a (1-2)", "ratings.short_term_mw -3 is negative"),
        (with_branch(reverse=Ratings(-1)), "branch a (1-2)", "reverse.normal_mw -1 is negative"),
        (with_branch(angle_min_deg=30.0, angle_max_deg=-30.0), "branch a (1-2)", "angle_min_deg 30 is above"),
        (with_unit(min_mw=90.0), "unit g", "min_mw 90 is above max_mw 80"),
        (with_link(min_mw=11.0), "link dc", "min_mw 11 is above max_mw 10"),
        (with_bus(id=""), "Bus ''", "id '' is empty"),
        (with_bus(name="two\nlines"), "Bus '1'", "line break"),
    ],
)
def test_an_error_names_the_element(grid: Grid, where: str, problem: str) -> None:
    with pytest.raises(GridError) as caught:
        validate(grid)
    assert (caught.value.source, caught.value.where) == (grid.name, where)
    assert problem in caught.value.problem
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("change", "field"),
    [(with_bus, field) for field in ("demand_mw", "shunt_mw", "base_kv")]
    + [(with_branch, field) for field in ("resistance_pu", "reactance_pu", "tap", "shift_deg", "angle_min_deg")]
    + [(with_branch, "angle_max_deg")]
    + [(with_unit, field) for field in ("min_mw", "max_mw", "ramp_mw_per_h")]
    + [(with_link, field) for field in ("min_mw", "max_mw")],
)
def test_every_number_must_be_finite(change: type, field: str, value: float) -> None:
    with pytest.raises(GridError, match=rf"{field} is {value}"):
        validate(change(**{field: value}))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("field", ["ratings", "reverse"])
def test_every_rating_must_be_finite(field: str, place: int) -> None:
    values = [1.0, 1.0, 1.0]
    values[place] = math.nan
    with pytest.raises(GridError, match=rf"{field}\.{Ratings._fields[place]} is nan"):
        validate(with_branch(**{field: Ratings(*values)}))


def test_what_is_out_of_service_may_have_no_reactance_and_stale_limits() -> None:
    assert validate(replace(GRID, branches=(*GRID.branches, Branch("c", "1", "3", 0, 0, in_service=False)))) == ()
    stale = replace(UNIT, id="off", min_mw=90.0, in_service=False)
    assert validate(replace(GRID, resources=(UNIT, stale))) == ()


def test_an_island_with_demand_and_no_supply_is_named() -> None:
    buses = (*GRID.buses, Bus("7", demand_mw=3.0), Bus("8", shunt_mw=0.5), Bus("9"))
    grid = replace(GRID, buses=buses, branches=(*GRID.branches, Branch("c", "7", "8", 0, 0.1, ratings=RATED)))
    warning = (
        "island of 2 buses from bus 7 has 3.5 MW of demand, no unit in service and no link: its load is not served"
    )
    assert validate(grid) == (warning,)
    off = Resource("off", "8", 0.0, 9.0, in_service=False)
    consumer = Resource("pump", "8", -9.0, 0.0)
    assert validate(replace(grid, resources=(UNIT, off, consumer))) == (warning,)
    assert validate(replace(grid, links=(replace(LINK, to_bus="8", in_service=False),))) == (warning,)
    assert validate(replace(grid, links=(replace(LINK, to_bus="8"),))) == ()
    assert validate(replace(grid, resources=(UNIT, Resource("on", "8", 0.0, 9.0)))) == ()


def test_unlimited_branches_are_counted_when_in_service() -> None:
    lines = tuple(Branch(f"u{n}", "1", "2", 0, 0.1) for n in range(6))
    off = Branch("off", "1", "2", 0, 0.1, in_service=False)
    zero = Branch("zero", "1", "2", 0, 0.1, ratings=Ratings(0.0))
    assert validate(replace(GRID, branches=(*lines, off, zero))) == (
        "branches in service without a normal rating, taken as unlimited: 6 (u0, u1, u2, u3, u4, ...)",
    )


def test_a_reader_names_the_place_of_the_element() -> None:
    grid = with_branch(reactance_pu=0.0)
    places = {label(grid.branches[0]): ("lines.csv", "line 7")}
    with pytest.raises(GridError, match=r"^lines\.csv: line 7: branch a \(1-2\): reactance is zero; "):
        validate_source(grid, places)
    with pytest.raises(GridError, match=r"^three buses: branch a \(1-2\): reactance is zero; "):
        validate_source(grid, {})
