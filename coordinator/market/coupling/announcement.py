"""The hub's result of a round: made from an optimum, and read back by whoever must go on from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.market.certificate import largest
from coordinator.market.coupling.price_rule import DisplacedProblem, accepted_w, witness_fine
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.published import POWER_LIMIT_W
from coordinator.market.coupling.round_problem import RoundProblem
from coordinator.market.coupling.rounding import rounded_with_links
from coordinator.market.coupling.wire import HUB, ProtocolError, bitmap, expect, integers, scattered, to_fine
from coordinator.market.fixed_point import PRICE_BEYOND_RANGE, PRICE_LIMIT, to_fixed_price
from coordinator.market.flowgate_program import Optimum
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray


@dataclass(frozen=True, slots=True)
class Announcement:
    """A result in arrays: prices per component and per flowgate, violations per flowgate, quantities per published
    step and per link, and the imbalance that is left per component."""

    message: pb.IntervalResult
    energy_price: IntArray
    shadow_price: IntArray
    violation_w: IntArray
    accepted_w: IntArray
    link_w: IntArray
    imbalance_w: IntArray

    @property
    def balanced(self) -> bool:
        """Whether every component balances; while not, steps that could mend it are to be published."""
        return not self.imbalance_w.any()


def announce(
    public: PublicNetwork, problem: RoundProblem, optimum: Optimum, interval: pb.Interval, round_number: int
) -> pb.IntervalResult:
    """The result in whole watts and fixed-point prices. Raises SolverError when it cannot be rounded."""
    steps, displaced = problem.step_count, problem.displaced
    lower, upper = displaced.lower_w, displaced.upper_w
    imbalance = np.rint(optimum.imbalance_w).astype(np.int64)
    link_w = np.clip(np.rint(optimum.quantity_w[steps:]).astype(np.int64), lower[steps:], upper[steps:])
    total_w = imbalance - displaced.base_w
    links = link_w, lower[steps:], upper[steps:]
    accepted, link_w = rounded_with_links(
        public, optimum.quantity_w[:steps], upper[:steps], problem.component, links, total_w
    )
    witness = np.clip(to_fine(optimum.witness_w), lower << 10, upper << 10)
    shadow = to_fixed_price(optimum.shadow_price)
    violation = np.rint(np.abs(optimum.violation_w)).astype(np.int64)
    priced, violated = np.flatnonzero(shadow), np.flatnonzero(violation)
    return pb.IntervalResult(
        interval=interval,
        round=round_number,
        energy_price=to_fixed_price(optimum.energy_price).tolist(),
        priced_gate=priced.tolist(),
        shadow_price=shadow[priced].tolist(),
        violated_gate=violated.tolist(),
        violation_w=violation[violated].tolist(),
        acceptances=_acceptances(problem, accepted, witness[:steps]),
        link_w=link_w.tolist(),
        link_witness_fine=witness[steps:].tolist(),
        imbalance_w=imbalance.tolist(),
        balance_sign=optimum.balance_sign.tolist(),
    )


def _acceptances(problem: RoundProblem, accepted: IntArray, witness: IntArray) -> list[pb.RegionAcceptance]:
    parts = []
    for region in range(len(problem.displaced.region_sizes)):
        here = problem.steps_of(region)
        taken, width = accepted[here], problem.displaced.upper_w[here]
        full = taken == width
        partial = np.flatnonzero(~full & (taken > 0))
        moved = np.flatnonzero(witness[here] != taken << 10)
        parts.append(
            pb.RegionAcceptance(
                full=bitmap(full),
                partial=partial.tolist(),
                partial_w=taken[partial].tolist(),
                moved=moved.tolist(),
                witness_fine=witness[here][moved].tolist(),
            )
        )
    return parts


def read_announcement(problem: RoundProblem, message: pb.IntervalResult) -> Announcement:
    """A result in arrays. Raises ProtocolError when it does not have one entry for everything, or one is no price and
    no power that can be computed with."""
    displaced = problem.displaced
    gates, components = len(displaced.gate_min_w), len(displaced.base_w)
    links = len(displaced.lower_w) - problem.step_count
    for size, wanted, what in (
        (len(message.energy_price), components, "energy prices for the components"),
        (len(message.imbalance_w), components, "imbalances for the components"),
        (len(message.balance_sign), components, "balance signs for the components"),
        (len(message.acceptances), len(displaced.region_sizes), "acceptances for the regions"),
        (len(message.link_w), links, "flows for the controllable links"),
        (len(message.link_witness_fine), links, "witnesses for the controllable links"),
    ):
        expect(size == wanted, HUB, f"{size} {what}, {wanted} are needed")
    quantity = _quantity_w(displaced, message)
    announcement = Announcement(
        message=message,
        energy_price=integers(message.energy_price),
        shadow_price=scattered(gates, message.priced_gate, message.shadow_price, HUB, "shadow prices"),
        violation_w=scattered(gates, message.violated_gate, message.violation_w, HUB, "violations"),
        accepted_w=quantity[: problem.step_count],
        link_w=quantity[problem.step_count :],
        imbalance_w=integers(message.imbalance_w),
    )
    extreme = largest(announcement.energy_price, announcement.shadow_price)
    expect(extreme < PRICE_LIMIT, HUB, PRICE_BEYOND_RANGE)
    power = largest(quantity, announcement.violation_w, announcement.imbalance_w)
    expect(power < POWER_LIMIT_W, HUB, f"a quantity of {power} W is out of range")
    return announcement


def _quantity_w(problem: DisplacedProblem, message: pb.IntervalResult) -> IntArray:
    try:
        return accepted_w(problem, message)
    except ProtocolError:
        raise
    except ValueError as error:
        raise ProtocolError(HUB, f"an acceptance: {error}") from error


def check_canonical(problem: RoundProblem, announced: Announcement) -> None:
    """Raise ProtocolError unless the result is written as `announce` writes it, so that it has one form only."""
    message, shadow, violation = announced.message, announced.shadow_price, announced.violation_w
    sparse = list(message.priced_gate) == np.flatnonzero(shadow).tolist()
    sparse = sparse and list(message.violated_gate) == np.flatnonzero(violation).tolist()
    expect(sparse, HUB, "flowgates without shadow price or violation are listed; leave them out")
    witness = witness_fine(problem.displaced, message)[: problem.step_count]
    for region, part in enumerate(_acceptances(problem, announced.accepted_w, witness)):
        said = f"the acceptance of region {region} is not in its one form: full steps, then partial ones, then moves"
        expect(part == message.acceptances[region], HUB, said)
