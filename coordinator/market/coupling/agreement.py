"""What all regions accepted: the public part of the certificate, from agreed integers alone.

Nothing here is computed in floating point, so all hubs that hold the same messages agree or refuse alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.market.certificate import CertificateError, dearest_micro_per_mwh, gap_micro_per_h
from coordinator.market.coupling.announcement import Announcement
from coordinator.market.coupling.boundary_state import BoundaryState
from coordinator.market.coupling.price_rule import check_price_rule
from coordinator.market.coupling.public import TIE, ActiveFlowgate, PublicNetwork
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.coupling.round_problem import RoundProblem
from coordinator.market.coupling.wire import expect
from coordinator.market.fixed_point import dot
from coordinator.market.offers import MarketRules, Objective
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray

_DECIMAL = re.compile(r"-?[0-9]{1,60}")


@dataclass(frozen=True)
class Agreement:
    """What all regions accepted, in public integers: the objective and the certified gap."""

    objective: Objective
    gap_micro_per_h: int
    published_steps: int

    @property
    def objective_micro_per_h(self) -> int:
        """The objective in whole micro-units per hour."""
        return self.objective.micro_per_h


def check_vote(public: PublicNetwork, region: int, vote: pb.IntervalVote, certified: bool) -> None:
    """Raise ProtocolError unless a vote says something, and what a vote has to say."""
    ends = sum(end.region == region for end in public.link_ends)
    foreign = [gate.branch for gate in vote.flowgates if gate.region != region]
    expect(not foreign, region, f"publishes flowgate {foreign[:1]} of another region")
    something = vote.accept or vote.flowgates or vote.misplaced_steps
    expect(bool(something), region, "objects without a line or a step to name; accept, or name it")
    if vote.accept and certified:
        expect(len(vote.link_end_price) == ends, region, f"{len(vote.link_end_price)} link prices for {ends} ends")
        expect(not vote.gap_exact.startswith("-"), region, "its gap is negative; a gap is a bound, publish zero")
        for name, text in (("gap", vote.gap_exact), ("objective", vote.objective_exact)):
            expect(bool(_DECIMAL.fullmatch(text)), region, f"its {name} is {text[:80]!r}, not a number")


def public_outcome(
    public: PublicNetwork,
    gates: Sequence[ActiveFlowgate],
    announced: Announcement,
    boundary: BoundaryState,
    link_end_price: IntArray,
) -> PublicOutcome:
    """What a round came to when everybody accepts it."""
    return PublicOutcome(
        boundary_angle=boundary.angle,
        boundary_price=announced.energy_price[public.impedance.component] + boundary.price_difference,
        tie_shadow_price=_by_tie(public, gates, announced.shadow_price),
        tie_violation_w=_by_tie(public, gates, announced.violation_w),
        link_w=announced.link_w,
        link_end_price=link_end_price,
        flowgates=tuple(gates),
        shadow_price=announced.shadow_price,
    )


def _by_tie(public: PublicNetwork, gates: Sequence[ActiveFlowgate], by_gate: IntArray) -> IntArray:
    """Values of flowgates that are tie-lines, per tie-line."""
    values = np.zeros(len(public.interconnection.tie_ids), dtype=np.int64)
    for gate, value in zip(gates, by_gate, strict=True):
        if gate.owner == TIE:
            values[gate.line] = value
    return values


@dataclass(frozen=True, slots=True)
class PublicCertificate:
    """The checks of an accepted round that anyone can make: ties, links, the price rule, and the sum of all gaps."""

    public: PublicNetwork
    rules: MarketRules
    problem: RoundProblem
    announced: Announcement
    outcome: PublicOutcome

    def agreement(self, votes: Sequence[pb.IntervalVote]) -> Agreement:
        """The agreement that the votes make. Raises CertificateError naming what does not hold."""
        outcome, rules = self.outcome, self.rules
        ties = outcome.tie_shadow_price, outcome.tie_violation_w
        gap = self.public.tie_gap(outcome.boundary_angle, *ties, rules) + self._link_gap()
        gap += sum(int(vote.gap_exact) for vote in votes)
        exact = sum(int(vote.objective_exact) for vote in votes)
        objective = Objective(exact + int(outcome.tie_violation_w.sum()) * rules.line_violation_micro_per_mwh)
        check_price_rule(self.problem.displaced, self.announced.message)
        bound = gap_micro_per_h(gap)
        if bound > rules.gap_tolerance_micro_per_h(objective.micro_per_h, self._dearest_micro_per_mwh()):
            worst = max(range(len(votes)), key=lambda region: int(votes[region].gap_exact))
            name = self.public.interconnection.region_names[worst]
            raise CertificateError("gap", f"region {name}", f"the sum of gaps is {bound} micro-units per hour")
        return Agreement(objective, bound, self.problem.step_count)

    def _dearest_micro_per_mwh(self) -> int:
        """What a watt can be worth, from public numbers: unpublished steps are on the right side of an LMP."""
        steps, displaced, announced = self.problem.step_count, self.problem.displaced, self.announced
        prices = announced.energy_price, announced.shadow_price, self.outcome.boundary_price
        offered, widths = displaced.price_micro_per_mwh[:steps], displaced.upper_w[:steps]
        return dearest_micro_per_mwh(offered, widths, announced.accepted_w, *prices)

    def _link_gap(self) -> int:
        """What links could still earn within the limits of this interval."""
        steps, displaced, outcome = self.problem.step_count, self.problem.displaced, self.outcome
        value = np.zeros(len(outcome.link_w), dtype=np.int64)
        for end, price in zip(self.public.link_ends, outcome.link_end_price, strict=True):
            value[end.link] += end.sign * price
        best = np.where(value > 0, displaced.upper_w[steps:], displaced.lower_w[steps:])
        return dot(value, best - outcome.link_w)
