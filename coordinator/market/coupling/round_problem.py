"""The public problem of a round, formed from what the regions published: floats to solve, integers to check."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.market.component_balance import ComponentBalance
from coordinator.market.coupling.price_rule import DisplacedProblem
from coordinator.market.coupling.public import ActiveFlowgate, PublicNetwork
from coordinator.market.coupling.published import FactorCache, Published
from coordinator.market.coupling.wire import from_fine, integers
from coordinator.market.fixed_point import FACTOR_BITS, from_fixed
from coordinator.market.flowgate_program import FlowgateProgram, displacements_w
from topology.arrays import IntArray


@dataclass(frozen=True, slots=True)
class RoundProblem:
    """The same problem twice; columns are published steps region by region, then links.

    `component` is that of each published step.
    """

    program: FlowgateProgram
    displaced: DisplacedProblem
    component: IntArray

    @property
    def step_count(self) -> int:
        """Published steps of all regions."""
        return len(self.component)

    def steps_of(self, region: int) -> slice:
        """Where the published steps of a region stand among the columns."""
        first = sum(self.displaced.region_sizes[:region])
        return slice(first, first + self.displaced.region_sizes[region])


@dataclass(frozen=True, slots=True)
class PublishedMarket:
    """Everything that is public in a round. Links with an end in a region of `silent` carry nothing."""

    public: PublicNetwork
    gates: Sequence[ActiveFlowgate]
    published: Sequence[Published]
    factors: Sequence[FactorCache]
    silent: Collection[int]
    seed: bytes
    line_violation_micro_per_mwh: int

    def problem(self) -> RoundProblem:
        """The problem of the round. Raises ProtocolError when a published step lacks a factor."""
        component = np.concatenate([kept.components for kept in self.published])
        displaced = self._displaced(component)
        program = FlowgateProgram(
            price_micro_per_mwh=displaced.price_micro_per_mwh.astype(np.float64),
            lower_w=displaced.lower_w.astype(np.float64),
            upper_w=displaced.upper_w.astype(np.float64),
            balance=displaced.balance,
            factors=from_fixed(displaced.factors, FACTOR_BITS),
            base_w=displaced.base_w.astype(np.float64),
            gate_base_w=from_fine(displaced.loading_fine),
            gate_min_w=displaced.gate_min_w.astype(np.float64),
            gate_max_w=displaced.gate_max_w.astype(np.float64),
            row_names=displaced.row_names,
            line_violation_micro_per_mwh=self.line_violation_micro_per_mwh,
            unpublished_more_w=displaced.unpublished_more_w,
            unpublished_less_w=displaced.unpublished_less_w,
        )
        return RoundProblem(program, displaced, component)

    def _displaced(self, component: IntArray) -> DisplacedProblem:
        gates, components = self.gates, self.public.component_count
        row_names = [f"balance/{c}" for c in range(components)] + [gate.name for gate in gates]
        width, price = (
            np.concatenate([getattr(kept, name) for kept in self.published]) for name in ("widths", "prices")
        )
        link_min_w, link_max_w = self._link_limits()
        loading = np.stack([kept.loading_fine for kept in self.published]).sum(axis=0)
        return DisplacedProblem(
            price_micro_per_mwh=np.concatenate([price, np.zeros_like(link_min_w)]),
            lower_w=np.concatenate([np.zeros_like(width), link_min_w]),
            upper_w=np.concatenate([width, link_max_w]),
            balance=self._balance(component),
            factors=self._factors(),
            base_w=np.stack([kept.base_w for kept in self.published]).sum(axis=0),
            loading_fine=loading + integers(gate.base_fine for gate in gates),
            gate_min_w=integers(gate.flow_min_w for gate in gates),
            gate_max_w=integers(gate.flow_max_w for gate in gates),
            row_names=row_names,
            displacement_w=displacements_w(self.seed, row_names, components),
            line_violation_micro_per_mwh=self.line_violation_micro_per_mwh,
            region_sizes=[kept.count for kept in self.published],
            unpublished_more_w=np.stack([kept.unpublished_more_w for kept in self.published]).sum(axis=0),
            unpublished_less_w=np.stack([kept.unpublished_less_w for kept in self.published]).sum(axis=0),
        )

    def _factors(self) -> IntArray:
        count = len(self.gates)
        steps = [
            cache.get(region, count, kept.buses)
            for region, (cache, kept) in enumerate(zip(self.factors, self.published, strict=True))
        ]
        return np.hstack([*steps, self._link_factors()])

    def _link_factors(self) -> IntArray:
        """A link delivers at one end what it draws at the other; one that carries nothing needs no factors."""
        factors = np.zeros((len(self.gates), len(self.public.interconnection.link_ids)), dtype=np.int64)
        blocked = self.public.links_into(self.silent)
        for end in self.public.link_ends:
            if not blocked[end.link]:
                factors[:, end.link] += end.sign * self.factors[end.region].at(end.region, len(self.gates), end.bus)
        return factors

    def _link_limits(self) -> tuple[IntArray, IntArray]:
        interconnection = self.public.interconnection
        blocked = self.public.links_into(self.silent)
        return np.where(blocked, 0, interconnection.link_min_w), np.where(blocked, 0, interconnection.link_max_w)

    def _balance(self, component: IntArray) -> ComponentBalance:
        public = self.public
        link_from, link_to = np.zeros((2, len(public.interconnection.link_ids)), dtype=np.int64)
        for end in public.link_ends:
            (link_to if end.sign > 0 else link_from)[end.link] = end.component
        return ComponentBalance.of(public.component_count, component, link_from, link_to)
