"""Cutting a network into regions: nothing lost, nothing shown that is private, every error names its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from tests.support.random_grids import Recipe, cook, recipes
from tests.topology.test_dc import chain
from topology.dc import DcNetwork, build_dc_network
from topology.errors import GridError
from topology.grid import Branch, Bus, ControllableLink, Grid
from topology.regions import cut_network, regions_automatic, regions_by_area, regions_from_file

GRID = Grid(
    "four buses",
    100.0,
    (Bus("1", area="N"), Bus("2", area="S"), Bus("3", area="N"), Bus("4", area="S")),
    (Branch("a", "1", "2", 0.0, 0.1), Branch("b", "2", "3", 0.0, 0.1), Branch("c", "2", "4", 0.0, 0.1)),
    links=(ControllableLink("dc", "1", "4", -5.0, 10.0, owner="me"), ControllableLink("in", "2", "4", 0.0, 1.0)),
)


def test_a_cut_by_hand() -> None:
    cut = cut_network(build_dc_network(GRID), regions_by_area(GRID))
    public = cut.interconnection
    assert public.region_names == ("N", "S")
    assert public.boundary_ids == ("1", "3", "2")
    assert public.offsets.tolist() == [0, 2, 3]
    assert public.tie_ids == ("a", "b")
    assert public.tie_labels == ("tie-line branch a (1-2)", "tie-line branch b (2-3)")
    assert (public.tie_from.tolist(), public.tie_to.tolist()) == ([0, 2], [2, 1])
    assert public.boundary_region.tolist() == [0, 0, 1]
    assert (public.link_from_region.tolist(), public.link_to_region.tolist()) == ([0, 1], [1, 1])
    north, south = cut.regions
    assert north.network.bus_ids == ("1", "3")
    assert north.network.branch_count == 0, "disconnected inside"
    assert south.network.branch_ids == ("c",)
    assert [(end.link, end.bus, end.sign) for end in north.link_ends] == [(0, 0, -1)]
    assert [(end.link, end.bus, end.sign) for end in south.link_ends] == [(0, 1, 1), (1, 0, -1), (1, 1, 1)]


def test_ties_that_are_open_leave_boundary_buses_where_they_are() -> None:
    network = build_dc_network(GRID)
    public = cut_network(network, regions_by_area(GRID)).interconnection
    assert public.tie_names == ("tie-a", "tie-b")
    without = public.without_ties({"tie-a"})
    assert (without.tie_ids, without.tie_labels) == (("b",), ("tie-line branch b (2-3)",))
    assert (without.tie_from.tolist(), without.tie_to.tolist()) == ([2], [1])
    assert without.tie_susceptance_w_per_rad.tolist() == public.tie_susceptance_w_per_rad[1:].tolist()
    assert (without.boundary_ids, without.link_ids) == (public.boundary_ids, public.link_ids)
    with pytest.raises(GridError, match="tie-c"):
        public.without_ties({"tie-c"})
    opened = network.without_branches(np.array([0]))
    assert (opened.branch_ids, opened.link_ids) == (("b", "c"), network.link_ids)
    assert opened.components.tolist() == [0, 1, 1, 1]


def test_an_island_inside_a_region_gets_a_reference_of_its_own() -> None:
    network = build_dc_network(
        Grid("g", 100.0, tuple(Bus(str(n)) for n in range(4)), (Branch("a", "0", "1", 0.0, 0.1),))
    )
    cut = cut_network(network, ("A", "A", "A", "B"))
    assert cut.interconnection.boundary_ids == ("0", "2", "3")
    assert cut.interconnection.tie_ids == ()


@given(recipes())
@settings(max_examples=60)
def test_every_bus_and_branch_has_one_owner(recipe: Recipe) -> None:
    market = cook(recipe)
    network, cut = market.network, market.cut()
    buses = np.concatenate([region.buses for region in cut.regions])
    branches = np.concatenate([*[region.branches for region in cut.regions], cut.tie_branches])
    assert sorted(buses.tolist()) == list(range(network.bus_count))
    assert sorted(branches.tolist()) == list(range(network.branch_count))
    for region in cut.regions:
        inside = set(region.network.bus_ids)
        assert all(market.region_of_bus[bus] == region.name for bus in region.buses.tolist())
        assert inside == {network.bus_ids[bus] for bus in region.buses.tolist()}
        reached = set(region.network.components[region.boundary].tolist())
        assert reached == set(region.network.components.tolist()), "every component has a boundary bus"
        assert not region.network.link_ids
    ends = [(end.link, end.sign) for region in cut.regions for end in region.link_ends]
    assert sorted(ends) == sorted((link, sign) for link in range(len(network.link_ids)) for sign in (-1, 1))


@given(recipes())
@settings(max_examples=30)
def test_ties_lead_from_region_to_region(recipe: Recipe) -> None:
    market = cook(recipe)
    cut = market.cut()
    public = cut.interconnection
    owner = public.boundary_region
    assert (owner[public.tie_from] != owner[public.tie_to]).all()
    for tie, branch in enumerate(cut.tie_branches.tolist()):
        ends = market.network.from_bus[branch], market.network.to_bus[branch]
        named = public.boundary_ids[public.tie_from[tie]], public.boundary_ids[public.tie_to[tie]]
        assert named == tuple(market.network.bus_ids[end] for end in ends)


def test_a_mapping_of_another_length_is_refused() -> None:
    with pytest.raises((GridError, ValueError)):
        cut_network(chain(3), ("A", "B"))


def write(folder: Path, text: str) -> Path:
    path = folder / "regions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_regions_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "bus,region\n4,S\n1,N\n\n2,S\n3,N\n")
    assert regions_from_file(GRID, path) == ("N", "S", "N", "S")


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("", "line 1", "columns are"),
        ("bus;region\n1;N\n", "line 1", "columns are"),
        ("region,bus\nN,1\n", "line 1", "columns are"),
        ("bus,region\n1,N\n9,N\n", "line 3", "bus 9 is not in four buses"),
        ("bus,region\n1,N\n1,S\n", "line 3", "bus 1 has a region already"),
        ("bus,region\n1,\n", "line 2", "empty region"),
        ("bus,region\n1\n", "line 2", "empty region"),
        pytest.param("bus,region\n1,  \n", "line 2", "empty region"),
        pytest.param("bus,region\n1,N,extra\n", "line 2", "column"),
        pytest.param('bus,region\n1,"N\nS"\n', "line", "line break"),
        ("bus,region\n1,N\n2,S\n", "", "have no region"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, where: str, problem: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(GridError) as caught:
        regions_from_file(GRID, path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert where in message
    assert problem in message


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(GridError, match="cannot be read"):
            regions_from_file(GRID, path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "regions.csv"
    path.write_bytes(b"bus,region\n\xff\xfe,N\n")
    with pytest.raises(GridError, match="cannot be read"):
        regions_from_file(GRID, path)


def test_a_file_of_a_spreadsheet_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "regions.csv"
    path.write_text("bus,region\n1,N\n2,S\n3,N\n4,S\n", encoding="utf-8-sig")
    assert regions_from_file(GRID, path) == ("N", "S", "N", "S")


def meshed(side: int) -> DcNetwork:
    def name(row: int, column: int) -> str:
        return str(row * side + column)

    right = [(name(r, c), name(r, c + 1)) for r in range(side) for c in range(side - 1)]
    down = [(name(r, c), name(r + 1, c)) for r in range(side - 1) for c in range(side)]
    lines = tuple(Branch(str(i), a, b, 0.0, 0.1) for i, (a, b) in enumerate(right + down))
    return build_dc_network(Grid("mesh", 100.0, tuple(Bus(str(n)) for n in range(side * side)), lines))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 12])
def test_an_automatic_partition_is_balanced_connected_and_always_the_same(count: int) -> None:
    network = meshed(12)
    regions = regions_automatic(network, count)
    assert regions == regions_automatic(network, count)
    sizes = [regions.count(name) for name in sorted(set(regions))]
    assert len(sizes) == count
    assert max(sizes) <= 1.3 * 144 / count + 1
    cut = cut_network(network, regions)
    assert all(int(region.network.components.max()) == 0 for region in cut.regions)


@pytest.mark.parametrize("buses", [1, 2, 3, 5, 8, 12])
def test_every_region_that_is_asked_for_exists(buses: int) -> None:
    for count in range(1, buses + 1):
        assert len(set(regions_automatic(chain(buses), count))) == count


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_islands_and_buses_without_lines_can_be_partitioned(count: int) -> None:
    islands = build_dc_network(
        Grid("g", 100.0, tuple(Bus(str(n)) for n in range(4)), (Branch("a", "0", "1", 0.0, 0.1),))
    )
    assert len(set(regions_automatic(islands, count))) == count


@pytest.mark.parametrize("count", [-1, 0, 5])
def test_more_regions_than_buses_are_refused(count: int) -> None:
    with pytest.raises(GridError, match=f"cannot be cut into {count} regions, it has 4 buses; choose between 1 and 4"):
        regions_automatic(chain(4), count)
