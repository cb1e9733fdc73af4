"""The linear (DC) model of a grid, in integers: what every validator computes flows from.

flow = susceptance * (angle_from - angle_to) + shift_flow, positive from `from_bus` to `to_bus`, lossless,
voltages at 1 per unit (Stott, Jardim, Alsac, "DC power flow revisited", IEEE Trans. Power Syst. 24(3), 2009).
Two named conventions turn impedances into susceptances:

* `pglib`: b = x / (r^2 + x^2); taps and phase shifts are ignored. Reproduces the DC column of PGLib-OPF.
* `matpower`: b = 1 / (x * tap); phase shifts displace the flow by -b * shift (MATPOWER manual, section 3.7).

Both bound the flow by the normal rating and by the angle-difference limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import radians
from typing import Literal

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from topology.arrays import FloatArray, IntArray
from topology.errors import GridError
from topology.grid import Branch, Grid

Convention = Literal["pglib", "matpower"]

W_PER_MW = 1_000_000
UNLIMITED_W = 1 << 50
"""A flow limit of this size is no limit."""
SUSCEPTANCE_LIMIT_W_PER_RAD = 1 << 46
"""Above this the integer certificate could overflow: a reactance of about 1e-6 per unit on 100 MVA."""


def watts(power_mw: float) -> int:
    """Megawatts as whole watts, half to even."""
    return round(power_mw * W_PER_MW)


@dataclass(frozen=True)
class DcNetwork:
    """Integer arrays of a network; one entry a bus, an in-service branch, an in-service controllable link.

    `from_bus`, `to_bus`, `link_from`, `link_to` are positions in `bus_ids`. Flow limits and link limits are
    in W; a limit of +-UNLIMITED_W does not bind. `branch_labels` are what errors show.
    """

    name: str
    bus_ids: tuple[str, ...]
    branch_ids: tuple[str, ...]
    branch_labels: tuple[str, ...]
    from_bus: IntArray
    to_bus: IntArray
    susceptance_w_per_rad: IntArray
    shift_flow_w: IntArray
    flow_min_w: IntArray
    flow_max_w: IntArray
    link_ids: tuple[str, ...]
    link_owners: tuple[str, ...]
    link_from: IntArray
    link_to: IntArray
    link_min_w: IntArray
    link_max_w: IntArray

    @property
    def bus_count(self) -> int:
        """Number of buses."""
        return len(self.bus_ids)

    @property
    def branch_count(self) -> int:
        """Number of in-service branches."""
        return len(self.branch_ids)

    @cached_property
    def incidence(self) -> sp.csr_matrix:
        """Branch-bus incidence, +1 at the from-bus, -1 at the to-bus; shape (branches, buses)."""
        return incidence_matrix(self.from_bus, self.to_bus, self.bus_count)

    @cached_property
    def laplacian(self) -> sp.csc_matrix:
        """Susceptance-weighted Laplacian in W/rad; shape (buses, buses), sparse."""
        weights = sp.diags(self.susceptance_w_per_rad.astype(np.float64))
        return sp.csc_matrix(self.incidence.T @ weights @ self.incidence)

    @cached_property
    def components(self) -> IntArray:
        """AC component of each bus, numbered by first bus."""
        return component_labels(self.from_bus, self.to_bus, self.bus_count)

    @cached_property
    def shift_injection_w(self) -> FloatArray:
        """Injection per bus that phase shifters are worth: angles solve laplacian @ angle = injection + this."""
        return np.asarray(-(self.incidence.T @ self.shift_flow_w), dtype=np.float64)

    def subnetwork(self, name: str, buses: IntArray, branches: IntArray) -> DcNetwork:
        """The part with these buses and branches, renumbered, without links."""
        position = np.full(self.bus_count, -1, dtype=np.int64)
        position[buses] = np.arange(len(buses))
        none = np.zeros(0, dtype=np.int64)
        return DcNetwork(
            name=name,
            bus_ids=tuple(self.bus_ids[i] for i in buses),
            branch_ids=tuple(self.branch_ids[i] for i in branches),
            branch_labels=tuple(self.branch_labels[i] for i in branches),
            from_bus=position[self.from_bus[branches]],
            to_bus=position[self.to_bus[branches]],
            susceptance_w_per_rad=self.susceptance_w_per_rad[branches],
            shift_flow_w=self.shift_flow_w[branches],
            flow_min_w=self.flow_min_w[branches],
            flow_max_w=self.flow_max_w[branches],
            link_ids=(),
            link_owners=(),
            link_from=none,
            link_to=none,
            link_min_w=none,
            link_max_w=none,
        )

    def without_branches(self, branches: IntArray) -> DcNetwork:
        """The same network with the branches at these positions open."""
        kept = np.delete(np.arange(self.branch_count), branches)
        part = self.subnetwork(self.name, np.arange(self.bus_count), kept)
        links = ("link_ids", "link_owners", "link_from", "link_to", "link_min_w", "link_max_w")
        return replace(part, **{name: getattr(self, name) for name in links})

    def with_flow_limits(self, flow_min_w: IntArray, flow_max_w: IntArray) -> DcNetwork:
        """The same network under other limits."""
        return replace(self, flow_min_w=flow_min_w, flow_max_w=flow_max_w)


def incidence_matrix(from_bus: IntArray, to_bus: IntArray, bus_count: int) -> sp.csr_matrix:
    """Branch-bus incidence matrix, +1 at from, -1 at to."""
    count = len(from_bus)
    rows = np.concatenate([np.arange(count), np.arange(count)])
    columns = np.concatenate([from_bus, to_bus])
    values = np.concatenate([np.ones(count), -np.ones(count)])
    return sp.csr_matrix((values, (rows, columns)), shape=(count, bus_count))


def component_labels(from_bus: IntArray, to_bus: IntArray, bus_count: int) -> IntArray:
    """Connected component of each node, numbered in the order of first nodes."""
    edges = sp.csr_matrix((np.ones(len(from_bus)), (from_bus, to_bus)), shape=(bus_count, bus_count))
    _, labels = sp.csgraph.connected_components(edges, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[inverse], dtype=np.int64)


def _pglib_susceptance(branch: Branch) -> tuple[float, float]:
    impedance_squared = branch.resistance_pu**2 + branch.reactance_pu**2
    return branch.reactance_pu / impedance_squared, 0.0


def _matpower_susceptance(branch: Branch) -> tuple[float, float]:
    susceptance = 1.0 / (branch.reactance_pu * branch.tap)
    return susceptance, -susceptance * radians(branch.shift_deg)


_CONVENTIONS: Mapping[str, Callable[[Branch], tuple[float, float]]] = {
    "pglib": _pglib_susceptance,
    "matpower": _matpower_susceptance,
}


def _angle_window_w(branch: Branch, susceptance_w: int, shift_w: int) -> tuple[int, int]:
    """Flow limits in W that the angle-difference limits amount to."""
    ends = []
    for angle_deg, unlimited in ((branch.angle_min_deg, -UNLIMITED_W), (branch.angle_max_deg, UNLIMITED_W)):
        if angle_deg is None:
            ends.append(unlimited if susceptance_w > 0 else -unlimited)
        else:
            ends.append(round(susceptance_w * radians(angle_deg)) + shift_w)
    return min(ends), max(ends)


def _flow_limits_w(branch: Branch, susceptance_w: int, shift_w: int) -> tuple[int, int]:
    forward = branch.ratings.normal_mw
    backward = forward if branch.reverse is None else branch.reverse.normal_mw
    low, high = _angle_window_w(branch, susceptance_w, shift_w)
    if backward is not None:
        low = max(low, -watts(backward))
    if forward is not None:
        high = min(high, watts(forward))
    return max(low, -UNLIMITED_W), min(high, UNLIMITED_W)


def build_dc_network(grid: Grid, convention: Convention = "pglib") -> DcNetwork:
    """The integer DC model of the in-service part of a grid.

    Raises GridError when a reactance is zero, or so small that integers could overflow, or when the limits
    of a branch exclude each other.
    """
    position = grid.bus_position
    susceptance_of = _CONVENTIONS[convention]
    branches = [branch for branch in grid.branches if branch.in_service]
    susceptances, shifts, lows, highs = [], [], [], []
    for branch in branches:
        if branch.reactance_pu == 0.0:
            raise GridError(grid.name, branch.label, "zero reactance", "give its reactance, or merge its two buses")
        per_unit, shift_per_unit = susceptance_of(branch)
        susceptance_w = watts(per_unit * grid.base_mva)
        shift_w = watts(shift_per_unit * grid.base_mva)
        if not 0 < abs(susceptance_w) < SUSCEPTANCE_LIMIT_W_PER_RAD:
            raise GridError(
                grid.name,
                branch.label,
                f"reactance {branch.reactance_pu} per unit is outside what the integer model can hold",
                "merge its two buses, or correct the reactance",
            )
        low, high = _flow_limits_w(branch, susceptance_w, shift_w)
        if low > high:
            raise GridError(
                grid.name,
                branch.label,
                f"rating and angle limits leave no flow between {low} W and {high} W",
                "correct the rating or the angle limits",
            )
        susceptances.append(susceptance_w)
        shifts.append(shift_w)
        lows.append(low)
        highs.append(high)
    links = [link for link in grid.links if link.in_service]
    return DcNetwork(
        name=grid.name,
        bus_ids=tuple(bus.id for bus in grid.buses),
        branch_ids=tuple(branch.id for branch in branches),
        branch_labels=tuple(branch.label for branch in branches),
        from_bus=_integers(position[branch.from_bus] for branch in branches),
        to_bus=_integers(position[branch.to_bus] for branch in branches),
        susceptance_w_per_rad=_integers(susceptances),
        shift_flow_w=_integers(shifts),
        flow_min_w=_integers(lows),
        flow_max_w=_integers(highs),
        link_ids=tuple(link.id for link in links),
        link_owners=tuple(link.owner for link in links),
        link_from=_integers(position[link.from_bus] for link in links),
        link_to=_integers(position[link.to_bus] for link in links),
        link_min_w=_integers(watts(link.min_mw) for link in links),
        link_max_w=_integers(watts(link.max_mw) for link in links),
    )


def _integers(values: object) -> IntArray:
    return np.array(list(values), dtype=np.int64)  # type: ignore[call-overload]


class PowerTransferFactors:
    """PTDF rows on demand from one sparse factorization; each component is grounded at its first bus.

    Memory is that of the factors: no dense bus-by-bus matrix is ever formed.
    """

    def __init__(self, network: DcNetwork) -> None:
        self._network = network
        _, references = np.unique(network.components, return_index=True)
        grounded = np.ones(network.bus_count, dtype=np.bool_)
        grounded[references] = False
        self._free = np.flatnonzero(grounded)
        reduced = sp.csc_matrix(network.laplacian[self._free][:, self._free])
        self._solve = factorized(reduced, network.name)

    def angles_rad(self, injection_w: FloatArray) -> FloatArray:
        """Bus angles for these bus injections, which must balance in each component; references are zero."""
        return self.solve(injection_w + self._network.shift_injection_w)

    def solve(self, right_hand_side: FloatArray) -> FloatArray:
        """x with laplacian @ x = right-hand side, zero at each component's reference."""
        solution = np.zeros(self._network.bus_count)
        solution[self._free] = self._solve(right_hand_side[self._free])
        return solution

    def row(self, branch: int) -> FloatArray:
        """Flow on a branch per unit injected at each bus and withdrawn at the component's reference."""
        return np.asarray(self.rows(np.array([branch], dtype=np.int64))[0])

    def rows(self, branches: IntArray) -> FloatArray:
        """PTDF rows of several branches; shape (branches, buses)."""
        network = self._network
        ends = network.incidence[branches].toarray() * network.susceptance_w_per_rad[branches, None]
        rows = np.zeros((len(branches), network.bus_count))
        rows[:, self._free] = self._solve(np.ascontiguousarray(ends[:, self._free].T)).T
        return rows


def factorized(matrix: sp.csc_matrix, name: str) -> Callable[[FloatArray], FloatArray]:
    """A solver for a symmetric sparse matrix; raises GridError naming the network when it is singular."""
    if matrix.shape[0] == 0:
        return lambda right_hand_side: np.zeros_like(right_hand_side)
    try:
        factors = spl.splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.01)
    except RuntimeError as error:
        raise GridError(
            name,
            "",
            "the susceptance matrix is singular (negative reactances cancel positive ones)",
            "correct the reactances of the parallel branches",
        ) from error
    return lambda right_hand_side: np.asarray(factors.solve(right_hand_side))
