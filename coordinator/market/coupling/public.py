"""What everybody knows of a coupling: the boundary impedance, the active flowgates, and the public checks.

Built by every participant from the regions' boundary equivalents; deciding nothing, only deriving.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.ledger.merkle import OpeningError, leaf_hash, verify_opening
from coordinator.market.certificate import CertificateError, TieTerms, complementarity
from coordinator.market.coupling.wire import ProtocolError, expect, expect_scope, fine, from_fine, integers, parse
from coordinator.market.fixed_point import PRICE_BITS, WideArray, multiply
from coordinator.market.offers import MarketRules
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import BoolArray, FloatArray, IntArray
from topology.dc import UNLIMITED_W
from topology.kron import BoundaryImpedance
from topology.regions import Interconnection

WATCH_MARGIN = 0.1
"""After an agreement, lines within this share of their limit are put in force for the next interval. Measured on
days of five PGLib cases: one-round intervals rise from 87.5-93.8 % to 92.7-99.0 %, traffic by up to a third."""

LAPLACIAN_LIMIT_FINE = 1 << 56
_OUTAGES = b"gridaccord/v1/topology/outages\x00"
TIE = -1
"""The owner of a flowgate that is a tie-line."""


@dataclass(frozen=True)
class ActiveFlowgate:
    """A limit in force: flow per W injected at each boundary bus, its limits, and what tie-line shifters add.

    `owner` is a region, or TIE with `line` the tie-line's number. The id is (owner, branch, contingency).
    `published_row_fine` is what the owner published, over its own boundary angles; empty for a tie-line.
    """

    owner: int
    branch: str
    line: int
    row: FloatArray
    flow_min_w: int
    flow_max_w: int
    base_fine: int
    published_row_fine: IntArray

    @property
    def name(self) -> str:
        """What the price rule calls it: the same in whatever regions the grid is cut."""
        return f"branch/{self.branch}"


@dataclass(frozen=True)
class PublicLinkEnd:
    """One end of a controllable link as the others know it."""

    link: int
    region: int
    bus: int
    component: int
    sign: int


class PublicNetwork:
    """The interconnection with its impedance; see the module."""

    def __init__(self, interconnection: Interconnection, equivalents: Sequence[bytes]) -> None:
        self.interconnection = interconnection
        self._equivalents = tuple(equivalents)
        parsed = [parse(pb.BoundaryEquivalent, data, region) for region, data in enumerate(equivalents)]
        _check_equivalents(interconnection, parsed)
        self.topology_id = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in equivalents)).digest()
        self.topology_roots = [(message.topology_root, message.topology_size) for message in parsed]
        internal = [integers(message.internal_component) for message in parsed]
        self.laplacians_fine = [_laplacian_fine(message) for message in parsed]
        laplacians = [from_fine(laplacian) for laplacian in self.laplacians_fine]
        self.impedance = BoundaryImpedance(interconnection, laplacians, internal)
        self.link_ends = _link_ends(interconnection, self.impedance, parsed)
        shift = interconnection.tie_shift_flow_w.astype(np.float64)
        self.shift_injection_w: FloatArray = np.zeros(len(interconnection.boundary_ids))
        np.subtract.at(self.shift_injection_w, interconnection.tie_from, shift)
        np.add.at(self.shift_injection_w, interconnection.tie_to, shift)

    def without_ties(self, names: Sequence[str]) -> PublicNetwork:
        """This network, which no tie-line is missing in, with some of them out of service; itself for none.

        Regions publish nothing anew: their own lines are as before. What was formed of the impedance (flowgates,
        factors, angles) belongs to a topology, whose id every message names.
        """
        if not names:
            return self
        public = PublicNetwork(self.interconnection.without_ties(names), self._equivalents)
        public.topology_id = topology_without(self.topology_id, names)
        return public

    @property
    def component_count(self) -> int:
        """Number of AC components."""
        return self.impedance.component_count

    def links_into(self, regions: Collection[int]) -> BoolArray:
        """Which controllable links end in one of these regions."""
        ends = np.zeros(len(self.interconnection.link_ids), dtype=np.bool_)
        ends[[end.link for end in self.link_ends if end.region in regions]] = True
        return ends

    def component_of(self, region: int, internal: IntArray) -> IntArray:
        """The public component of each internal component of a region, given the labels at its boundary."""
        _, first = np.unique(internal, return_index=True)
        return self.impedance.component[self.interconnection.boundary_of(region)][first]

    def tie_flowgate(self, tie: int) -> ActiveFlowgate:
        """A tie-line as flowgate: everybody can form it."""
        public = self.interconnection
        head, tail = public.tie_from[tie], public.tie_to[tie]
        matrix = self.impedance.matrix
        row = float(public.tie_susceptance_w_per_rad[tie]) * (matrix[head] - matrix[tail])
        base = float(row @ self.shift_injection_w) + float(public.tie_shift_flow_w[tie])
        low, high = int(public.tie_flow_min_w[tie]), int(public.tie_flow_max_w[tie])
        none = np.zeros(0, dtype=np.int64)
        return ActiveFlowgate(TIE, public.tie_ids[tie], tie, row, low, high, fine(base), none)

    def region_flowgate(self, message: pb.Flowgate) -> ActiveFlowgate:
        """A published line as flowgate. Raises ProtocolError when it does not open against its topology root."""
        regions = self.interconnection.region_count
        expect(message.region < regions, message.region, f"a flowgate of a region beyond the {regions} there are")
        block = self.interconnection.boundary_of(message.region)
        width = block.stop - block.start
        covered = len(message.row_fine) == width
        expect(covered, message.region, f"flowgate {message.branch}: its row needs {width} entries")
        expect(not message.contingency, message.region, "contingencies are not committed yet; publish the intact line")
        root, size = self.topology_roots[message.region]
        content = flowgate_content(message.branch, integers(message.row_fine), message.flow_min_w, message.flow_max_w)
        try:
            verify_opening(root, size, {message.leaf: leaf_hash(message.salt + content)}, list(message.proof))
        except OpeningError as error:
            raise ProtocolError(message.region, f"flowgate {message.branch}: {error}") from error
        published = integers(message.row_fine)
        row = from_fine(published) @ self.impedance.matrix[block]
        base = fine(float(row @ self.shift_injection_w))
        return ActiveFlowgate(
            message.region, message.branch, -1, row, message.flow_min_w, message.flow_max_w, base, published
        )

    def tie_flow_exact(self, angle: IntArray) -> WideArray:
        """Tie flows without shifters in 2**-40 W, from agreed boundary angles."""
        public = self.interconnection
        return multiply(public.tie_susceptance_w_per_rad, angle[public.tie_from] - angle[public.tie_to])

    def tie_flow_w(self, angle: IntArray) -> IntArray:
        """Tie flows in whole W, positive from the tie's from-end."""
        return self.tie_flow_exact(angle).rounded() + self.interconnection.tie_shift_flow_w

    def loaded_ties(self, angle: IntArray, active: set[int], tolerance_w: int, margin: float) -> list[int]:
        """Tie-lines that come within this share of a limit that is not in force yet, or exceed it."""
        public, flow = self.interconnection, self.tie_flow_w(angle)
        loaded = loaded_lines(flow, public.tie_flow_min_w, public.tie_flow_max_w, tolerance_w, margin)
        return [int(tie) for tie in np.flatnonzero(loaded) if int(tie) not in active]

    def tie_terms(self, region: int, angle: IntArray, price: IntArray, shadow_price: IntArray) -> TieTerms:
        """The tie-line ends of a region for its certificate, by position among its boundary buses.

        Flows include tie-line phase shifters.
        """
        public = self.interconnection
        exact = self.tie_flow_exact(angle) + multiply(
            public.tie_shift_flow_w, np.full_like(public.tie_shift_flow_w, 1 << 40)
        )
        slack = price[public.tie_from] - price[public.tie_to] - shadow_price
        block = public.boundary_of(region)
        ties, buses, signs = [], [], []
        for ends, sign in ((public.tie_from, 1), (public.tie_to, -1)):
            here = np.flatnonzero((ends >= block.start) & (ends < block.stop))
            ties.append(here)
            buses.append(ends[here] - block.start)
            signs.append(np.full(len(here), sign, dtype=np.int64))
        chosen = np.concatenate(ties)
        return TieTerms(
            bus=np.concatenate(buses),
            sign=np.concatenate(signs),
            susceptance_w_per_rad=public.tie_susceptance_w_per_rad[chosen],
            flow_exact=WideArray(exact.high[chosen], exact.low[chosen]),
            price_slack=slack[chosen],
        )

    def tie_gap(self, angle: IntArray, shadow_price: IntArray, violation_w: IntArray, rules: MarketRules) -> int:
        """Check tie limits and return the tie-lines' exact part of the welfare gap. Raises CertificateError."""
        public, flow = self.interconnection, self.tie_flow_w(angle)
        excess = np.maximum(flow - public.tie_flow_max_w, public.tie_flow_min_w - flow) - violation_w
        for tie in np.flatnonzero(excess > rules.tolerance_w)[:1]:
            raise CertificateError("limit", public.tie_labels[tie], f"carries {int(flow[tie])} W, beyond its limit")
        limit = np.where(shadow_price > 0, public.tie_flow_min_w, public.tie_flow_max_w)
        for tie in np.flatnonzero((shadow_price != 0) & (np.abs(limit) >= UNLIMITED_W))[:1]:
            raise CertificateError("gap", public.tie_labels[tie], "bears a shadow price on a side without limit")
        cost = rules.line_violation_micro_per_mwh << PRICE_BITS
        terms = complementarity(shadow_price, flow, limit)
        return (terms + multiply(np.full_like(flow, cost), violation_w)).total()


def topology_without(topology: bytes, names: Collection[str]) -> bytes:
    """The id of a topology with these tie-lines out of service; its own for none."""
    if not names:
        return topology
    digest = hashlib.sha256(_OUTAGES + topology)
    for name in sorted(name.encode() for name in names):
        digest.update(len(name).to_bytes(4, "big") + name)
    return digest.digest()


def objection_margin(round_number: int) -> float:
    """How close to its limit a line is reported beside overloaded ones: the closer rounds come to the outcome, the
    more what is near a limit now will be at it next. Measured on congested cold cases it saves one round in two."""
    return float(min(0.05 * 2 ** (round_number - 1), 0.2))


def loaded_lines(
    flow_w: IntArray | FloatArray, flow_min_w: IntArray, flow_max_w: IntArray, tolerance_w: int, margin: float
) -> BoolArray:
    """Lines whose flow exceeds a limit by more than the tolerance, or with a margin comes that close to it."""
    limited = (flow_max_w < UNLIMITED_W) | (flow_min_w > -UNLIMITED_W)
    slack = (flow_max_w - flow_min_w) * (margin / 2)
    beyond = (flow_w > flow_max_w - slack + tolerance_w) | (flow_w < flow_min_w + slack - tolerance_w)
    return np.asarray(limited & beyond)


def flowgate_content(branch: str, row_fine: IntArray, flow_min_w: int, flow_max_w: int) -> bytes:
    """The committed bytes of a line: what a region may later publish about it, and nothing else."""
    name = branch.encode()
    limits = np.array([flow_min_w, flow_max_w], dtype=">i8").tobytes()
    return len(name).to_bytes(4, "big") + name + limits + row_fine.astype(">i8").tobytes()


def _laplacian_fine(message: pb.BoundaryEquivalent) -> IntArray:
    """The symmetric matrix from its upper triangle, in 2**-10 W/rad."""
    size = len(message.boundary_bus)
    laplacian = np.zeros((size, size), dtype=np.int64)
    rows, columns = np.triu_indices(size)
    laplacian[rows, columns] = integers(message.laplacian_fine)
    laplacian[columns, rows] = laplacian[rows, columns]
    return laplacian


def _link_ends(
    interconnection: Interconnection, impedance: BoundaryImpedance, parsed: Sequence[pb.BoundaryEquivalent]
) -> tuple[PublicLinkEnd, ...]:
    ends = []
    for region, message in enumerate(parsed):
        labels = list(message.internal_component)
        component = impedance.component[interconnection.boundary_of(region)]
        for end in message.link_end:
            here = int(component[labels.index(end.internal_component)])
            ends.append(PublicLinkEnd(end.link, region, end.bus, here, 1 if end.delivers else -1))
    return tuple(ends)


def _check_equivalents(interconnection: Interconnection, parsed: Sequence[pb.BoundaryEquivalent]) -> None:
    if len(parsed) != interconnection.region_count:
        raise ProtocolError(-1, f"{len(parsed)} boundary equivalents for {interconnection.region_count} regions")
    for region, message in enumerate(parsed):
        first = pb.Scope(carrier=parsed[0].scope.carrier, asset=parsed[0].scope.asset)
        expect_scope(message.scope, first, region)
        expected = interconnection.boundary_ids[interconnection.boundary_of(region)]
        size = len(expected)
        if tuple(message.boundary_bus) != expected or len(message.internal_component) != size:
            raise ProtocolError(region, "boundary buses differ from the interconnection; publish them in its order")
        labels, links = set(message.internal_component), len(interconnection.link_ids)
        known = all(end.internal_component in labels and end.link < links for end in message.link_end)
        expect(known, region, "a link end names an unknown link or component")
        if len(message.laplacian_fine) != size * (size + 1) // 2:
            raise ProtocolError(region, f"the boundary Laplacian needs {size * (size + 1) // 2} entries")
        _check_laplacian(region, message)


def _check_laplacian(region: int, message: pb.BoundaryEquivalent) -> None:
    """Rows of a reduced Laplacian sum to zero, and only a bus alone in its component has a row of zeros."""
    laplacian = _laplacian_fine(message)
    largest = int(np.abs(laplacian).max(initial=0))
    expect(largest < LAPLACIAN_LIMIT_FINE, region, "an entry of the boundary Laplacian is too large")
    miss = np.abs(laplacian.sum(axis=1)).max(initial=0)
    expect(miss <= len(laplacian) + (largest >> 30), region, "boundary Laplacian rows do not sum to zero; reduce again")
    labels = integers(message.internal_component)
    accompanied = np.bincount(labels)[labels] > 1 if labels.size else labels.astype(np.bool_)
    expect(not (accompanied & (laplacian.diagonal() == 0)).any(), region, "a connected boundary bus has a row of zeros")
