"""What a coupled interval came to in public: enough to settle it between regions, and nothing private."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.market.coupling.public import ActiveFlowgate
from topology.arrays import IntArray


@dataclass(frozen=True, slots=True)
class PublicOutcome:
    """Angles in 2**-40 rad and LMPs in 2**-20 micro-units per MWh at every boundary bus, shadow prices and violations
    by tie-line, flows by controllable link and the LMP at each of its public ends, and the flowgates that were in
    force with their shadow prices."""

    boundary_angle: IntArray
    boundary_price: IntArray
    tie_shadow_price: IntArray
    tie_violation_w: IntArray
    link_w: IntArray
    link_end_price: IntArray
    flowgates: tuple[ActiveFlowgate, ...]
    shadow_price: IntArray
