"""The grid put together again from what each region knows and what is public, to verify a run with everything known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from topology.arrays import IntArray
from topology.dc import DcNetwork
from topology.regions import Interconnection, RegionGrid

TIE = -1


@dataclass(frozen=True, slots=True)
class WholeGrid:
    """`region_of_bus` and `region_of_branch` are numbers of regions, TIE for a tie-line."""

    network: DcNetwork
    region_of_bus: IntArray
    region_of_branch: IntArray
    regions: tuple[RegionGrid, ...]
    interconnection: Interconnection
    tie_branches: IntArray

    @property
    def boundary_bus(self) -> IntArray:
        """The bus of each boundary position."""
        return np.concatenate([region.buses[region.boundary] for region in self.regions])

    def branches_of(self, ties: Collection[str]) -> IntArray:
        """Where tie-lines of these names stand among all branches."""
        places = zip(self.interconnection.tie_names, self.tie_branches.tolist(), strict=True)
        return np.array([place for name, place in places if name in ties], dtype=np.int64)


def join(public: Interconnection, regions: Sequence[RegionGrid]) -> WholeGrid:
    """The uncut network: the inverse of `topology.regions.cut_network`."""
    buses = sum(region.network.bus_count for region in regions)
    branches = sum(region.network.branch_count for region in regions) + len(public.tie_ids)
    region_of_bus = np.zeros(buses, dtype=np.int64)
    region_of_branch = np.full(branches, TIE, dtype=np.int64)
    for region in regions:
        region_of_bus[region.buses] = region.index
        region_of_branch[region.branches] = region.index
    boundary = np.concatenate([region.buses[region.boundary] for region in regions])
    ties = np.flatnonzero(region_of_branch == TIE)
    network = DcNetwork(
        name="whole grid",
        bus_ids=_texts(buses, regions, "bus_ids"),
        branch_ids=_texts(branches, regions, "branch_ids", ties, public.tie_ids),
        branch_labels=_texts(branches, regions, "branch_labels", ties, public.tie_labels),
        from_bus=_numbers(branches, regions, "from_bus", ties, boundary[public.tie_from]),
        to_bus=_numbers(branches, regions, "to_bus", ties, boundary[public.tie_to]),
        susceptance_w_per_rad=_numbers(
            branches, regions, "susceptance_w_per_rad", ties, public.tie_susceptance_w_per_rad
        ),
        shift_flow_w=_numbers(branches, regions, "shift_flow_w", ties, public.tie_shift_flow_w),
        flow_min_w=_numbers(branches, regions, "flow_min_w", ties, public.tie_flow_min_w),
        flow_max_w=_numbers(branches, regions, "flow_max_w", ties, public.tie_flow_max_w),
        link_ids=public.link_ids,
        link_owners=public.link_owners,
        link_from=_link_buses(public, regions, -1),
        link_to=_link_buses(public, regions, +1),
        link_min_w=public.link_min_w,
        link_max_w=public.link_max_w,
    )
    return WholeGrid(network, region_of_bus, region_of_branch, tuple(regions), public, ties)


def _texts(
    count: int,
    regions: Sequence[RegionGrid],
    name: str,
    ties: IntArray | None = None,
    of_ties: Sequence[str] = (),
) -> tuple[str, ...]:
    values = [""] * count
    for region in regions:
        places = region.buses if name == "bus_ids" else region.branches
        for place, value in zip(places.tolist(), getattr(region.network, name), strict=True):
            values[place] = value
    for place, value in zip([] if ties is None else ties.tolist(), of_ties, strict=True):
        values[place] = value
    return tuple(values)


def _numbers(count: int, regions: Sequence[RegionGrid], name: str, ties: IntArray, of_ties: IntArray) -> IntArray:
    """A column of branches; buses of regions become buses of the whole."""
    values = np.zeros(count, dtype=np.int64)
    for region in regions:
        own = getattr(region.network, name)
        values[region.branches] = region.buses[own] if name in ("from_bus", "to_bus") else own
    values[ties] = of_ties
    return values


def _link_buses(public: Interconnection, regions: Sequence[RegionGrid], sign: int) -> IntArray:
    buses = np.zeros(len(public.link_ids), dtype=np.int64)
    for region in regions:
        for end in region.link_ends:
            if end.sign == sign:
                buses[end.link] = region.buses[end.bus]
    return buses
