"""The grid as its owner describes it: buses, branches, controllable links and resources.

Surface units: MW, per unit on `base_mva`, degrees. Generation is positive, demand is a positive number
that is withdrawn. Ids are the ids of the input, kept as strings; parallel circuits stay separate branches.
A `Grid` is a value: readers build it, `topology.validation` checks it, `topology.dc` turns it into integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import networkx as nx


class Ratings(NamedTuple):
    """Thermal ratings in MW: normal, long-term and short-term emergency. None is unlimited, 0 carries nothing."""

    normal_mw: float | None = None
    long_term_mw: float | None = None
    short_term_mw: float | None = None


@dataclass(frozen=True, slots=True)
class Bus:
    """A node of the network. `shunt_mw` is the shunt conductance: MW consumed at 1 per unit voltage."""

    id: str
    demand_mw: float = 0.0
    shunt_mw: float = 0.0
    area: str = "1"
    base_kv: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """A line or a transformer. Flow is positive from `from_bus` to `to_bus`.

    `tap` is the off-nominal turns ratio (1.0 for a line); `shift_deg` the phase shift, positive delays the
    to-side (MATPOWER manual, eq. 3.2). `reverse` ratings default to the forward ones. Angle limits bound
    the difference from minus to, in degrees; None is unlimited. Negative reactance is valid, zero is not.
    """

    id: str
    from_bus: str
    to_bus: str
    resistance_pu: float
    reactance_pu: float
    tap: float = 1.0
    shift_deg: float = 0.0
    ratings: Ratings = Ratings()
    reverse: Ratings | None = None
    angle_min_deg: float | None = None
    angle_max_deg: float | None = None
    in_service: bool = True
    transformer: bool = False

    @property
    def label(self) -> str:
        """The branch as errors and tables show it."""
        return f"branch {self.id} ({self.from_bus}-{self.to_bus})"


@dataclass(frozen=True, slots=True)
class ControllableLink:
    """An HVDC link: it carries what the market decides, `min_mw` to `max_mw`, positive from `from_bus` to `to_bus`.

    Lossless in this series; `owner` is who receives its congestion rent.
    """

    id: str
    from_bus: str
    to_bus: str
    min_mw: float
    max_mw: float
    owner: str = ""
    in_service: bool = True


@dataclass(frozen=True, slots=True)
class Resource:
    """A unit at a bus: generation positive; a negative `min_mw` withdraws (storage, dispatchable demand)."""

    id: str
    bus: str
    min_mw: float
    max_mw: float
    carrier: str = "electricity"
    kind: str = "generator"
    in_service: bool = True
    ramp_mw_per_h: float | None = None


@dataclass(frozen=True)
class Grid:
    """A whole network in the order of its input. `name` names the source in errors."""

    name: str
    base_mva: float
    buses: tuple[Bus, ...]
    branches: tuple[Branch, ...]
    resources: tuple[Resource, ...] = ()
    links: tuple[ControllableLink, ...] = ()

    @cached_property
    def bus_position(self) -> Mapping[str, int]:
        """Position of each bus id in `buses`."""
        return {bus.id: position for position, bus in enumerate(self.buses)}

    @cached_property
    def graph(self) -> nx.MultiGraph[str]:
        """The in-service AC network as a networkx multigraph; edge keys are branch ids."""
        graph: nx.MultiGraph[str] = nx.MultiGraph()
        graph.add_nodes_from(bus.id for bus in self.buses)
        for branch in self.branches:
            if branch.in_service:
                graph.add_edge(branch.from_bus, branch.to_bus, key=branch.id)
        return graph

    @cached_property
    def islands(self) -> tuple[frozenset[str], ...]:
        """AC-connected components, the largest first, then by the position of their first bus."""
        components = [frozenset(component) for component in nx.connected_components(self.graph)]
        position = self.bus_position
        return tuple(sorted(components, key=lambda c: (-len(c), min(position[bus] for bus in c))))


class CostRow(NamedTuple):
    """A published cost of a unit, as read: not yet an offer.

    `polynomial` has the coefficients c0, c1, ... of cost per hour in MW; `points` has (MW, cost per hour)
    pairs in ascending MW. Exactly one is non-empty.
    """

    resource: str
    polynomial: tuple[float, ...] = ()
    points: tuple[tuple[float, float], ...] = ()


class SeriesRow(NamedTuple):
    """One value of a time series in MW.

    `element` is 'demand' (id a bus), 'available' or 'must_take' (id a resource: most and least it injects).
    """

    time: str
    element: str
    id: str
    value_mw: float


@dataclass(frozen=True)
class Case:
    """What a reader returns: the grid, the published costs, time series, and what the reader has to say about them.

    `areas` of the source are on the buses. Every warning is one line that names the element.
    """

    grid: Grid
    costs: tuple[CostRow, ...] = ()
    series: tuple[SeriesRow, ...] = ()
    warnings: tuple[str, ...] = field(default=())
