"""What a region knows while an interval is coupled: its window, what it published, and what it was told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.ledger.merkle import MerkleTree, SaltTree
from coordinator.market.offers import StepKind, StepTable
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import BoolArray, FloatArray, IntArray

MARGINAL_MICRO = 1_000.0
"""Steps this close to the last LMP are published whatever their share: without marginal steps nothing can move."""


@dataclass(frozen=True, slots=True)
class PublicationWindow:
    """Which steps a region publishes before anybody asks: those within `half_width` of the last LMP of their bus,
    and of these, where they would be more than `largest_share` of its offers, the nearest."""

    half_width_micro_per_mwh: int = 3_000_000
    largest_share: float = 0.3

    def reach(self, steps: StepTable, reference: FloatArray) -> float:
        """The half-width in force, in micro-units per MWh."""
        offers = steps.kind == StepKind.OFFER
        distance = np.sort(np.abs(steps.price_micro_per_mwh - reference[steps.bus])[offers])
        allowed = int(self.largest_share * len(distance))
        widest = float(self.half_width_micro_per_mwh)
        if allowed >= len(distance):
            return widest
        return min(widest, max(float(distance[allowed]) - 0.5, MARGINAL_MICRO))


@dataclass
class IntervalState:
    """What a region knows while an interval is being coupled. Prices are micro-units per MWh, per own bus."""

    interval: pb.Interval
    steps: StepTable
    low_price: FloatArray
    high_price: FloatArray
    leaf_of_step: IntArray
    tree: MerkleTree
    salts: SaltTree
    published: BoolArray
    order: IntArray
    widenings: int = 0
    round: int = 0


@dataclass(frozen=True)
class RoundResult:
    """The hub's result as it concerns one region: `accepted_w` per own step, the rest is public."""

    accepted_w: IntArray
    injection_w: IntArray
    energy_price: IntArray
    shadow_price: IntArray
    violation_w: IntArray
    balanced: bool


@dataclass(frozen=True)
class BoundaryValues:
    """Agreed integers at every boundary bus: angles in 2**-40 rad, LMPs in 2**-20 micro-units per MWh."""

    angle: IntArray
    price: IntArray
