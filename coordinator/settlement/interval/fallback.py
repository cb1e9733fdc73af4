"""What the consortium's fallback rule gives a region that an interval goes on without: no exchange, or what it last
agreed to.

`zero_exchange`: nobody counts on it and it clears for itself; its lines and ties stay and carry the others' loop flows.
`held`: it goes on exporting or importing what its last accepted boundary injection says, the others plan with that, and
it clears by itself with that much to deliver. What it really did its tie-line meters show.
"""

from __future__ import annotations

import numpy as np

from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.silent_region import SilentRegion
from coordinator.market.coupling.wire import from_fine
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray

ZERO_EXCHANGE, HELD = "zero_exchange", "held"


def stand_in(number: int, public: PublicNetwork, asset: str, held: bytes | None) -> SilentRegion:
    """For a region at zero exchange, or held at an INJECT message of its own that was accepted."""
    if held is None:
        return SilentRegion(number, public, asset)
    injection = pb.BoundaryInjection.FromString(held).intervals[0].injection_fine
    return SilentRegion(number, public, asset, np.array(injection, dtype=np.int64))


def held_injection_w(number: int, public: PublicNetwork, asset: str, held: bytes) -> IntArray:
    """What a region is held to deliver to the others at each of its boundary buses, in W."""
    return from_fine(stand_in(number, public, asset, held).held_fine).round().astype(np.int64)
