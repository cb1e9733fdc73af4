"""Angles and prices at every boundary bus: formed by one hub in floating point, agreed by all as its integers.

The boundary impedance is an inverse in floating point, so what two machines compute differs in the last bits. A hub
takes the announced integers over when they are its own up to that, and goes on with them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.market.coupling.announcement import Announcement
from coordinator.market.coupling.public import ActiveFlowgate, PublicNetwork
from coordinator.market.coupling.wire import HUB, expect
from coordinator.market.fixed_point import ANGLE_BITS, PRICE_BITS, from_fixed, to_fixed, to_fixed_price
from topology.arrays import FloatArray, IntArray

ROUNDING_UNITS = 4
"""Both sides round to whole units; two of them make two numbers differ by one."""
ROUNDING_SHARE = 2.0**-34
"""Beyond that an announced number may miss the own one by this share of the magnitudes it is the sum of: half a
million times the rounding of one operation, which an impedance of that condition number can make of it. What it lets
through is harmless: the certificates judge the announced integers themselves, and of 100 GW it is 6 W, a tenth of the
tolerance of a bus balance."""


@dataclass(frozen=True, slots=True)
class BoundaryState:
    """Angles in 2**-40 rad and LMPs less the energy price of their component in 2**-20 micro-units per MWh."""

    angle: IntArray
    price_difference: IntArray


@dataclass(frozen=True, slots=True)
class ComputedBoundary:
    """The own boundary state, and the largest sum of magnitudes that an angle and that a price is made of."""

    state: BoundaryState
    angle_magnitude: float
    price_magnitude: float

    def check(self, announced: BoundaryState) -> None:
        """Raise ProtocolError naming a number that is not the own one up to rounding."""
        _check_near(announced.angle, self.state.angle, self.angle_magnitude, "angle")
        _check_near(announced.price_difference, self.state.price_difference, self.price_magnitude, "price difference")


def computed_boundary(
    public: PublicNetwork, gates: list[ActiveFlowgate], announced: Announcement, injection_w: FloatArray
) -> ComputedBoundary:
    """The boundary state that follows from the round's result and everybody's boundary injections."""
    injection = injection_w + public.shift_injection_w
    rows = np.array([gate.row for gate in gates]).reshape(len(gates), len(injection))
    shadow, impedance = from_fixed(announced.shadow_price, PRICE_BITS), public.impedance.matrix
    return ComputedBoundary(
        state=BoundaryState(to_fixed(impedance @ injection, ANGLE_BITS), to_fixed_price(shadow @ rows)),
        angle_magnitude=_largest(np.abs(impedance) @ np.abs(injection)) * 2.0**ANGLE_BITS,
        price_magnitude=_largest(np.abs(shadow) @ np.abs(rows)) * 2.0**PRICE_BITS,
    )


def _largest(values: FloatArray) -> float:
    return float(values.max(initial=0.0))


def _check_near(announced: IntArray, own: IntArray, magnitude: float, what: str) -> None:
    expect(len(announced) == len(own), HUB, f"{len(announced)} {what}s for {len(own)} boundary buses")
    allowed = ROUNDING_UNITS + round(magnitude * ROUNDING_SHARE)
    for place, (said, computed) in enumerate(zip(announced.tolist(), own.tolist(), strict=True)):
        near = abs(said - computed) <= allowed
        expect(near, HUB, f"the {what} of boundary bus {place} is {said}, but {computed} follows from the injections")
