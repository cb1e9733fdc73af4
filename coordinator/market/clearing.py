"""What is cleared, and what a clearing is: the problem and its integer outcome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.market.offers import MarketRules, StepTable
from topology.arrays import FloatArray, IntArray
from topology.dc import DcNetwork


@dataclass(frozen=True)
class Problem:
    """One interval: a network, what is for sale on it, and the rules."""

    network: DcNetwork
    steps: StepTable
    rules: MarketRules


@dataclass(frozen=True)
class Clearing:
    """An outcome in integers, as it is agreed and verified.

    `accepted_w` per step; `angle` per bus in 2**-40 rad; `price` per bus, the LMP, in 2**-20 micro-units per
    MWh (d cost / d demand, positive in ordinary hours); `shadow_price` per branch, same scale, positive when
    its lower flow limit binds, negative when its upper one does (d cost / d limit); `link_w` per controllable
    link, positive from its from-end; `violation_w` per branch, how far a limit that nothing could keep is missed.
    LMP = energy price of the bus's component + sum over branches of shadow price * sensitivity.
    """

    accepted_w: IntArray
    angle: IntArray
    price: IntArray
    shadow_price: IntArray
    link_w: IntArray
    violation_w: IntArray

    def injection_w(self, problem: Problem) -> IntArray:
        """Net injection per bus, links included."""
        injection = problem.steps.injection_w(self.accepted_w)
        np.subtract.at(injection, problem.network.link_from, self.link_w)
        np.add.at(injection, problem.network.link_to, self.link_w)
        return injection


class RoundingError(ValueError):
    """A group whose quantities have no room for the watts that rounding left: `missing_w` more are needed."""

    def __init__(self, group: int, missing_w: int) -> None:
        self.group = group
        self.missing_w = missing_w
        super().__init__(
            f"the quantities of component {group} cannot be rounded to a balance: {missing_w} W are missing"
        )


def rounded_balanced(
    quantity_w: FloatArray, low_w: IntArray, high_w: IntArray, group: IntArray, target_w: IntArray
) -> IntArray:
    """Round quantities to whole watts within their bounds so that each group sums to its target exactly.

    `target_w[g]` is the integer sum group g must have. Watts that rounding leaves go one by one to the
    quantities with the most room, by position among equals. Raises RoundingError when there is not enough room.
    """
    rounded = np.clip(np.rint(quantity_w).astype(np.int64), low_w, high_w)
    for number, target in enumerate(target_w.tolist()):
        members = np.flatnonzero(group == number)
        missing = target - int(rounded[members].sum())
        if missing == 0:
            continue
        room = high_w[members] - rounded[members] if missing > 0 else rounded[members] - low_w[members]
        inside = np.minimum(rounded[members] - low_w[members], high_w[members] - rounded[members])
        for place in np.lexsort((members, -inside)):
            move = min(int(room[place]), abs(missing))
            rounded[members[place]] += move if missing > 0 else -move
            missing += -move if missing > 0 else move
            if missing == 0:
                break
        if missing:
            raise RoundingError(number, missing)
    return rounded
