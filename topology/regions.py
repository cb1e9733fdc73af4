"""Cutting a network into regions: who owns which bus, what is public between them, what stays private.

A cut gives one `Interconnection`, which everybody may know (tie-lines, links, boundary buses), and one
`RegionGrid` a region, which holds only what its owner may know: its buses, the lines inside, and which of its
buses are boundary buses. A region may be one bus, and may fall apart inside: each internal component without
a tie-line is an island of its own, and gets its first bus as reference, published like a boundary bus.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pymetis
import scipy.sparse as sp

from topology.arrays import BoolArray, IntArray
from topology.dc import DcNetwork
from topology.errors import GridError
from topology.grid import Grid

PARTITION_SEED = 1


def tie_name(branch_id: str) -> str:
    """What a tie-line is called where it stands beside resources."""
    return f"tie-{branch_id}"


@dataclass(frozen=True)
class Interconnection:
    """What is public about a cut: boundary buses region by region, tie-lines and controllable links between them.

    Boundary positions count through all regions: those of region k are `offsets[k]` to `offsets[k + 1]`.
    `tie_from` and `tie_to` are boundary positions; flow is positive from `tie_from`. A link is known by its
    two regions and its limits; which bus it ends at is known to the region alone.
    """

    region_names: tuple[str, ...]
    boundary_ids: tuple[str, ...]
    offsets: IntArray
    tie_ids: tuple[str, ...]
    tie_labels: tuple[str, ...]
    tie_from: IntArray
    tie_to: IntArray
    tie_susceptance_w_per_rad: IntArray
    tie_shift_flow_w: IntArray
    tie_flow_min_w: IntArray
    tie_flow_max_w: IntArray
    link_ids: tuple[str, ...]
    link_owners: tuple[str, ...]
    link_from_region: IntArray
    link_to_region: IntArray
    link_min_w: IntArray
    link_max_w: IntArray

    @property
    def region_count(self) -> int:
        """Number of regions."""
        return len(self.region_names)

    @property
    def tie_names(self) -> tuple[str, ...]:
        """What tie-lines are called where they stand beside resources: `tie-<id>`."""
        return tuple(map(tie_name, self.tie_ids))

    def without_ties(self, names: Collection[str]) -> Interconnection:
        """The same with these tie-lines open. Boundary buses keep their positions, and may be islands now.

        Raises GridError for a name that is none of `tie_names`.
        """
        strange = sorted(set(names) - set(self.tie_names))
        if strange:
            raise GridError("interconnection", strange[0], "is not a tie-line", "name one of those there are")
        kept = np.array([tie for tie, name in enumerate(self.tie_names) if name not in names], dtype=np.int64)
        return replace(
            self,
            tie_ids=tuple(self.tie_ids[tie] for tie in kept),
            tie_labels=tuple(self.tie_labels[tie] for tie in kept),
            tie_from=self.tie_from[kept],
            tie_to=self.tie_to[kept],
            tie_susceptance_w_per_rad=self.tie_susceptance_w_per_rad[kept],
            tie_shift_flow_w=self.tie_shift_flow_w[kept],
            tie_flow_min_w=self.tie_flow_min_w[kept],
            tie_flow_max_w=self.tie_flow_max_w[kept],
        )

    def boundary_of(self, region: int) -> slice:
        """Where the boundary buses of a region stand among all."""
        return slice(int(self.offsets[region]), int(self.offsets[region + 1]))

    @property
    def boundary_region(self) -> IntArray:
        """The region of each boundary position."""
        return np.repeat(np.arange(self.region_count), np.diff(self.offsets))


@dataclass(frozen=True)
class LinkEnd:
    """An end of a public controllable link at a bus of this region; sign +1 where it delivers, -1 where it draws."""

    link: int
    bus: int
    sign: int


@dataclass(frozen=True)
class RegionGrid:
    """What the owner of region `index` knows: its own network, and which of its buses are boundary buses.

    `buses` are the positions in the uncut network (used to put results together, never sent); `boundary` are
    positions among the region's own buses, in the published order; `branches` positions in the uncut network.
    """

    index: int
    name: str
    network: DcNetwork
    boundary: IntArray
    link_ends: tuple[LinkEnd, ...]
    buses: IntArray
    branches: IntArray


@dataclass(frozen=True)
class RegionCut:
    """A network cut into regions. `tie_branches` are positions in the uncut network."""

    network: DcNetwork
    interconnection: Interconnection
    regions: tuple[RegionGrid, ...]
    tie_branches: IntArray


def cut_network(network: DcNetwork, region_of_bus: Sequence[str]) -> RegionCut:
    """Cut a network by the region name of each bus; regions are numbered in the order of their names' first bus."""
    if len(region_of_bus) != network.bus_count:
        raise GridError(
            network.name,
            "",
            f"{len(region_of_bus)} regions are named for {network.bus_count} buses",
            "name one region for each bus",
        )
    names = tuple(dict.fromkeys(region_of_bus))
    number = {name: index for index, name in enumerate(names)}
    owner = np.array([number[name] for name in region_of_bus], dtype=np.int64)
    is_tie = owner[network.from_bus] != owner[network.to_bus]
    tie_branches = np.flatnonzero(is_tie)
    at_tie = np.zeros(network.bus_count, dtype=np.bool_)
    at_tie[network.from_bus[tie_branches]] = True
    at_tie[network.to_bus[tie_branches]] = True
    regions = tuple(_region_grid(network, names[k], k, owner, is_tie, at_tie) for k in range(len(names)))
    return RegionCut(network, _interconnection(network, names, owner, tie_branches, regions), regions, tie_branches)


def _region_grid(
    network: DcNetwork, name: str, index: int, owner: IntArray, is_tie: BoolArray, at_tie: BoolArray
) -> RegionGrid:
    buses = np.flatnonzero(owner == index)
    branches = np.flatnonzero((owner[network.from_bus] == index) & ~is_tie)
    own = network.subnetwork(name, buses, branches)
    boundary = np.flatnonzero(at_tie[buses])
    tied = np.unique(own.components[boundary])
    _, first_buses = np.unique(own.components, return_index=True)
    lonely = np.setdiff1d(np.arange(len(first_buses)), tied)
    position = {int(bus): place for place, bus in enumerate(buses)}
    ends = [
        LinkEnd(link, position[int(bus)], sign)
        for link, pair in enumerate(zip(network.link_from, network.link_to, strict=True))
        for bus, sign in zip(pair, (-1, +1), strict=True)
        if int(bus) in position
    ]
    return RegionGrid(
        index=index,
        name=name,
        network=own,
        boundary=np.sort(np.concatenate([boundary, first_buses[lonely]])),
        link_ends=tuple(ends),
        buses=buses,
        branches=branches,
    )


def _interconnection(
    network: DcNetwork, names: tuple[str, ...], owner: IntArray, ties: IntArray, regions: tuple[RegionGrid, ...]
) -> Interconnection:
    boundary_buses = np.concatenate([region.buses[region.boundary] for region in regions])
    boundary_position = np.full(network.bus_count, -1, dtype=np.int64)
    boundary_position[boundary_buses] = np.arange(len(boundary_buses))
    return Interconnection(
        region_names=names,
        boundary_ids=tuple(network.bus_ids[i] for i in boundary_buses),
        offsets=np.cumsum([0] + [len(region.boundary) for region in regions]).astype(np.int64),
        tie_ids=tuple(network.branch_ids[i] for i in ties),
        tie_labels=tuple(f"tie-line {network.branch_labels[i]}" for i in ties),
        tie_from=boundary_position[network.from_bus[ties]],
        tie_to=boundary_position[network.to_bus[ties]],
        tie_susceptance_w_per_rad=network.susceptance_w_per_rad[ties],
        tie_shift_flow_w=network.shift_flow_w[ties],
        tie_flow_min_w=network.flow_min_w[ties],
        tie_flow_max_w=network.flow_max_w[ties],
        link_ids=network.link_ids,
        link_owners=network.link_owners,
        link_from_region=owner[network.link_from],
        link_to_region=owner[network.link_to],
        link_min_w=network.link_min_w,
        link_max_w=network.link_max_w,
    )


def regions_by_area(grid: Grid) -> tuple[str, ...]:
    """The area of each bus as its region."""
    return tuple(bus.area for bus in grid.buses)


def regions_from_file(grid: Grid, path: Path) -> tuple[str, ...]:
    """Regions from a CSV file with the columns `bus` and `region`; every bus of the grid exactly once.

    Raises GridError naming the file and the row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            mapping = _read_mapping(grid, path, csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GridError(
            str(path), "", f"cannot be read ({error})", "give a CSV file with columns bus,region"
        ) from error
    missing = [bus.id for bus in grid.buses if bus.id not in mapping]
    if missing:
        raise GridError(str(path), "", f"bus {missing[0]} and {len(missing) - 1} more have no region", "add a row each")
    return tuple(mapping[bus.id] for bus in grid.buses)


def _read_mapping(grid: Grid, path: Path, reader: csv.DictReader[str]) -> Mapping[str, str]:
    if reader.fieldnames != ["bus", "region"]:
        raise GridError(str(path), "line 1", f"columns are {reader.fieldnames}", "name them bus,region")
    mapping: dict[str, str] = {}
    for row in reader:
        bus, region, line = row["bus"], (row["region"] or "").strip(), f"line {reader.line_num}"
        if None in row:
            raise GridError(str(path), line, "has more than two columns", "keep bus,region")
        if "\n" in region or "\r" in region:
            raise GridError(str(path), line, f"the region of bus {bus} has a line break", "name it in one line")
        if bus not in grid.bus_position:
            raise GridError(str(path), line, f"bus {bus} is not in {grid.name}", "remove the row or correct the id")
        if bus in mapping:
            raise GridError(str(path), line, f"bus {bus} has a region already", "keep one row a bus")
        if not region:
            raise GridError(str(path), line, f"bus {bus} has an empty region", "name its region")
        mapping[bus] = region
    return mapping


def regions_automatic(network: DcNetwork, count: int) -> tuple[str, ...]:
    """A balanced partition into `count` regions that cuts few strong lines (METIS k-way, fixed seed).

    Edges weigh by susceptance relative to the median. Raises GridError when there are fewer buses than regions.
    """
    if not 1 <= count <= network.bus_count:
        raise GridError(
            network.name,
            "",
            f"cannot be cut into {count} regions, it has {network.bus_count} buses",
            f"choose between 1 and {network.bus_count}",
        )
    if count == 1:
        return ("R1",) * network.bus_count
    adjacency = _weighted_adjacency(network)
    contiguous = int(network.components.max()) == 0
    _, assigned = pymetis.part_graph(
        count,
        pymetis.CSRAdjacency(adjacency.indptr.tolist(), adjacency.indices.tolist()),
        eweights=adjacency.data.tolist(),
        recursive=False,
        options=pymetis.Options(contig=int(contiguous), seed=PARTITION_SEED),
    )
    parts = _without_empty(np.array(assigned, dtype=np.int64), count)
    return tuple(f"R{part + 1}" for part in parts)


def _without_empty(parts: IntArray, count: int) -> IntArray:
    """METIS may leave parts empty on tiny networks: each gets the last bus of the part that is then largest."""
    for part in range(count):
        if not (parts == part).any():
            largest = int(np.bincount(parts, minlength=count).argmax())
            parts[np.flatnonzero(parts == largest)[-1]] = part
    return parts


def _weighted_adjacency(network: DcNetwork) -> sp.csr_matrix:
    """Off-diagonal strengths in tenths of the median, clipped to 1..1000, as METIS edge weights."""
    strength = sp.csr_matrix(abs(network.laplacian - sp.diags(network.laplacian.diagonal())))
    strength.eliminate_zeros()
    typical = float(np.median(strength.data)) if strength.nnz else 1.0
    strength.data = np.clip(np.rint(10 * strength.data / typical), 1, 1000).astype(np.int64)
    return strength
