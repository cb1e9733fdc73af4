"""Stands in for a region that is silent, or objects when rounds are used up: from public data alone.

It says what the region's messages would say if it had nothing for sale and exchanged what the consortium's fallback
rule gives it: nothing, or the boundary injection that it last agreed to. So the hub treats it as any region. Its lines
and tie-lines stay in the impedance and carry what the others' injections make them carry. What it really does inside
is not certified; its ties are metered. At zero exchange its own phase shifters count as neutral: what they drive
around, only its injection tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from coordinator.ledger.merkle import MerkleTree
from coordinator.market.coupling.public import ActiveFlowgate, PublicNetwork
from coordinator.market.coupling.wire import HUB, expect, from_fine, only, parse, to_fine
from coordinator.market.fixed_point import divide_half_even, exact_sum
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray

_NOTHING = MerkleTree([])


@dataclass(frozen=True)
class SilentRegion:
    """The messages of region `index`, the same from everybody who forms them.

    `held_fine` is the boundary injection it is held at, as in `IntervalInjection`; none of it for zero exchange. In a
    component that has no boundary bus of another region nothing is held, since nobody could balance it.
    """

    index: int
    public: PublicNetwork
    asset: str = "EUR"
    held_fine: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        block = self.public.interconnection.boundary_of(self.index)
        size = block.stop - block.start
        held = self.held_fine if len(self.held_fine) else np.zeros(size, dtype=np.int64)
        expect(len(held) == size, self.index, f"{len(held)} held boundary injections for {size} buses")
        component = self.public.impedance.component
        others = np.delete(component, np.arange(block.start, block.stop))
        object.__setattr__(self, "held_fine", np.where(np.isin(component[block], others), held, 0))

    @property
    def _scope(self) -> pb.Scope:
        topology = self.public.topology_id
        return pb.Scope(carrier="electricity", asset=self.asset, topology_id=topology, region=self.index)

    def commit(self, interval: pb.Interval) -> bytes:
        """A commitment to no steps."""
        commitment = pb.IntervalCommitment(interval=interval, offers_root=_NOTHING.root, offers_size=_NOTHING.size)
        return pb.OfferCommitment(scope=self._scope, intervals=[commitment]).SerializeToString(deterministic=True)

    def submit(self, interval: pb.Interval, round_number: int, gates: Sequence[ActiveFlowgate]) -> bytes:
        """The held exchange, and what it loads the flowgates in force with."""
        block = self.public.interconnection.boundary_of(self.index)
        nothing = [0] * self.public.component_count
        held_w = from_fine(self.held_fine)
        message = pb.IntervalSubmission(
            interval=interval,
            round=round_number,
            base_w=self._base_w(),
            gate_loading_fine=[int(to_fine(gate.row[block] @ held_w)) for gate in gates],
            unpublished_more_w=nothing,
            unpublished_less_w=nothing,
        )
        return pb.Submission(scope=self._scope, intervals=[message]).SerializeToString(deterministic=True)

    def _base_w(self) -> list[int]:
        component = self.public.impedance.component[self.public.interconnection.boundary_of(self.index)]
        sums = (exact_sum(self.held_fine[component == c]) for c in range(self.public.component_count))
        return [divide_half_even(total, 1 << 10) for total in sums]

    def inject(self, interval: pb.Interval) -> bytes:
        """The held boundary injection."""
        reply = pb.IntervalInjection(interval=interval, injection_fine=self.held_fine.tolist())
        return pb.BoundaryInjection(scope=self._scope, intervals=[reply]).SerializeToString(deterministic=True)

    def vote(self, result: bytes) -> bytes:
        """It accepts at no cost and without a gap. At its ends of links, which carry nothing, the price is that of
        the component: what congestion adds, nobody outside can tell."""
        message = only(parse(pb.CouplingResult, result, HUB).intervals, HUB)
        expect(len(message.energy_price) == self.public.component_count, HUB, "the result lacks an energy price")
        vote = pb.IntervalVote(
            interval=message.interval,
            accept=True,
            objective_exact="0",
            gap_exact="0",
            link_end_price=[
                message.energy_price[end.component] for end in self.public.link_ends if end.region == self.index
            ],
        )
        return pb.Vote(scope=self._scope, intervals=[vote]).SerializeToString(deterministic=True)
