"""The hub in the coupling: solves the public problem of each round from what was published.

Any node may be the hub, since everything it announces is checked: by the regions' certificates, by the public
tie and gap check of an agreement, and by the price rule. It knows no grid but the interconnection.

Where several hubs decide together one announces (`clear`, `boundary_state`) and the others take over what holds
(`adopt`, `adopt_state`); then all are in the same state, and `tally` says the same in all of them: it computes from
agreed integers only, but for the constant flow that tie-line phase shifters add to a flowgate, which `adoption`
leaves a margin for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordinator.market.certificate import CertificateError, largest, price_tolerance
from coordinator.market.coupling.adoption import check_announcement
from coordinator.market.coupling.agreement import Agreement, PublicCertificate, check_vote, public_outcome
from coordinator.market.coupling.announcement import Announcement, announce, read_announcement
from coordinator.market.coupling.boundary_state import BoundaryState, ComputedBoundary, computed_boundary
from coordinator.market.coupling.price_rule import DisplacedProblem, check_price_rule
from coordinator.market.coupling.public import TIE, WATCH_MARGIN, ActiveFlowgate, PublicNetwork, objection_margin
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.coupling.published import POWER_LIMIT_W, FactorCache, Published
from coordinator.market.coupling.round_problem import PublishedMarket, RoundProblem
from coordinator.market.coupling.wire import (
    FINE_BITS,
    HUB,
    ProtocolError,
    expect,
    expect_scope,
    from_fine,
    integers,
    only,
    parse,
)
from coordinator.market.fixed_point import FACTOR_BITS, exact_sum, from_fixed, multiply
from coordinator.market.flowgate_program import solve_flowgates
from coordinator.market.offers import MarketRules
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Decision:
    """What a round ended with: an agreement or none, and the announcement of flowgates that come into force."""

    agreement: Agreement | None
    opening: bytes


class Hub:
    """One coupling after another over the same interconnection; flowgates and factors are kept between them."""

    def __init__(self, public: PublicNetwork, rules: MarketRules, asset: str = "EUR") -> None:
        self._public = public
        self._rules = rules
        self._scope = pb.Scope(carrier="electricity", asset=asset, topology_id=public.topology_id)
        self.gates: list[ActiveFlowgate] = []
        self._priced = np.zeros(0, dtype=np.int64)
        self._cache = [FactorCache() for _ in range(public.interconnection.region_count)]
        self._published: list[Published] = []
        self._silent: frozenset[int] = frozenset()
        self._boundary: BoundaryState | None = None
        self._outcome: PublicOutcome | None = None

    def _regions(self) -> range:
        return range(self._public.interconnection.region_count)

    def start(
        self,
        interval: pb.Interval,
        commitments: Sequence[bytes],
        beacon: bytes = b"",
        silent: Collection[int] = (),
    ) -> None:
        """Gate closure: take everybody's commitment before any submission.

        The `beacon` is what nobody could know when offers were made (on a hub chain: the digest of the block that
        closes the gate); the displacements of the price rule derive from it and the interval.

        For the regions of `silent` somebody stands in (see `silent_region`): controllable links that end there carry
        nothing in this interval, since nobody tells what they load.
        """
        self._interval = interval
        regions = self._public.interconnection.region_count
        expect(len(commitments) == regions, -1, f"{len(commitments)} commitments for {regions} regions")
        parsed = self._parsed(pb.OfferCommitment, commitments)
        self._published = [Published(k, commit.offers_root, commit.offers_size) for k, commit in enumerate(parsed)]
        self._round = 0
        self._owing: set[int] = set()
        self._silent = frozenset(silent)
        self._boundary = None
        self._outcome = None
        self._seed = hashlib.sha256(beacon + interval.SerializeToString(deterministic=True)).digest()

    def _parsed(self, kind: type[Any], messages: Sequence[bytes]) -> list[Any]:
        """One message a region, each about the interval at hand."""
        parsed = []
        for region, data in enumerate(messages):
            message = parse(kind, data, region)
            expect_scope(message.scope, self._scope, region)
            parsed.append(only(message.intervals, region))
        expect(len(parsed) == len(self._regions()), -1, f"{len(parsed)} messages for {len(self._regions())} regions")
        for region, message in enumerate(parsed):
            expect(message.interval == self._interval, region, "a message for another interval")
        return parsed

    def copy(self) -> Hub:
        """Another hub in the same state, to go on from here in another way."""
        other = copy(self)
        other._published = [kept.copy() for kept in self._published]
        other._cache = [cache.copy() for cache in self._cache]
        return other

    def clear(self, submissions: Sequence[bytes]) -> bytes:
        """Solve the round's public problem and announce prices and acceptances. What raises changes nothing."""
        after = self.copy()
        problem = after._next_round(submissions)
        optimum = solve_flowgates(problem.program, self._seed, self._likely())
        result = announce(self._public, problem, optimum, self._interval, after._round)
        after._hold(read_announcement(problem, result))
        vars(self).update(vars(after))
        return pb.CouplingResult(scope=self._scope, intervals=[result]).SerializeToString(deterministic=True)

    def adopt(self, submissions: Sequence[bytes], result: bytes) -> None:
        """Take over what another hub cleared from the same submissions, as if this one had announced it.

        Raises ProtocolError or CertificateError naming what does not hold; then the hub is as it was before.
        """
        after = self.copy()
        problem = after._next_round(submissions)
        announced = read_announcement(problem, after._from_hub(pb.CouplingResult, result))
        number = announced.message.round
        expect(number == after._round, HUB, f"the result is for round {number}, not {after._round}")
        check_announcement(problem, announced, self._rules)
        after._hold(announced)
        vars(self).update(vars(after))

    def _from_hub(self, kind: type[Any], message: bytes) -> Any:
        """One interval of a message of another hub's, about the interval at hand."""
        parsed = parse(kind, message, HUB)
        expect_scope(parsed.scope, self._scope, HUB)
        interval = only(parsed.intervals, HUB)
        expect(interval.interval == self._interval, HUB, "a message for another interval")
        return interval

    def _next_round(self, submissions: Sequence[bytes]) -> RoundProblem:
        """Take everybody's submission and form the problem of the round."""
        self._round += 1
        for region, message in enumerate(self._parsed(pb.Submission, submissions)):
            self._take(region, message)
        market = PublishedMarket(
            public=self._public,
            gates=self.gates,
            published=self._published,
            factors=self._cache,
            silent=self._silent,
            seed=self._seed,
            line_violation_micro_per_mwh=self._rules.line_violation_micro_per_mwh,
        )
        self._problem = market.problem()
        return self._problem

    def _hold(self, announced: Announcement) -> None:
        self._announced = announced
        self._priced = announced.shadow_price
        self._boundary = None

    def _take(self, region: int, message: pb.IntervalSubmission) -> None:
        """Check a submission against its commitment and keep it."""
        owes = region in self._owing and len(message.bus) == 0
        expect(not owes, region, "objected with misplaced steps and publishes none; publish them")
        expect(message.round == self._round, region, f"the submission is for round {message.round}, not {self._round}")
        self._published[region].take(message, len(self.gates), self._public.component_count)
        for block in message.factors:
            self._cache[region].store(region, block, len(self.gates))

    def _likely(self) -> BoolArray:
        """Flowgates that bore a shadow price when last solved."""
        likely = np.zeros(len(self.gates), dtype=np.bool_)
        likely[: len(self._priced)] = self._priced != 0
        return likely

    def boundary_state(self, injections: Sequence[bytes]) -> bytes:
        """Angles and prices at every boundary bus, from everybody's boundary injections."""
        state = self._computed(injections).state
        self._boundary = state
        message = pb.IntervalBoundary(
            interval=self._interval, angle=state.angle.tolist(), price_difference=state.price_difference.tolist()
        )
        return pb.BoundaryState(scope=self._scope, intervals=[message]).SerializeToString(deterministic=True)

    def adopt_state(self, injections: Sequence[bytes], state: bytes) -> None:
        """Take over the boundary state that another hub formed from the same injections: the announced integers.

        Raises ProtocolError naming what does not follow up to rounding; then the hub is as it was before.
        """
        message = self._from_hub(pb.BoundaryState, state)
        announced = BoundaryState(integers(message.angle), integers(message.price_difference))
        self._computed(injections).check(announced)
        self._boundary = announced

    def _computed(self, injections: Sequence[bytes]) -> ComputedBoundary:
        return computed_boundary(self._public, self.gates, self._announced, self._checked_injections(injections))

    def _checked_injections(self, injections: Sequence[bytes]) -> FloatArray:
        """Everybody's boundary injections in W, when they add up to and load what was announced."""
        interconnection = self._public.interconnection
        parts = [
            integers(message.injection_fine, region)
            for region, message in enumerate(self._parsed(pb.BoundaryInjection, injections))
        ]
        sizes = np.diff(interconnection.offsets)
        for region, part in enumerate(parts):
            expect(len(part) == sizes[region], region, f"{len(part)} boundary injections for {sizes[region]} buses")
            in_range = largest(part) < POWER_LIMIT_W << FINE_BITS
            expect(in_range, region, "a boundary injection is out of range")
        for region, part in enumerate(parts):
            self._check_sums(region, part)
            self._check_loadings(region, from_fine(part))
        return from_fine(np.concatenate(parts))

    def _check_sums(self, region: int, injection_fine: IntArray) -> None:
        """A region's boundary injection must add up to its base and what it was accepted for, by component."""
        public, columns = self._public, self._problem.steps_of(region)
        expected = self._published[region].base_w.copy()
        np.add.at(expected, self._problem.component[columns], self._announced.accepted_w[columns])
        for end in public.link_ends:
            if end.region == region:
                expected[end.component] += end.sign * int(self._announced.link_w[end.link])
        here = public.impedance.component[public.interconnection.boundary_of(region)]
        for component, wanted_w in enumerate(expected.tolist()):
            miss = abs(exact_sum(injection_fine[here == component]) - (wanted_w << FINE_BITS))
            said = f"its boundary injection misses base and acceptance by {miss >> FINE_BITS} W"
            expect(miss <= self._rules.tolerance_w << FINE_BITS, region, said)

    def _check_loadings(self, region: int, injection_w: FloatArray) -> None:
        """A region's boundary injection must load foreign flowgates as its own published sums and factors say."""
        foreign = [i for i, gate in enumerate(self.gates) if gate.owner != region]
        if not foreign:
            return
        block, columns = self._public.interconnection.boundary_of(region), self._problem.steps_of(region)
        rows = np.array([self.gates[i].row[block] for i in foreign])
        factors = from_fixed(self._problem.displaced.factors[foreign, columns], FACTOR_BITS)
        said = from_fine(self._published[region].loading_fine[foreign]) + factors @ self._announced.accepted_w[columns]
        for end in self._public.link_ends:
            carried = int(self._announced.link_w[end.link])
            if end.region == region and carried:
                factor = self._cache[region].at(region, len(self.gates), end.bus)[foreign]
                said = said + end.sign * float(carried) * from_fixed(factor, FACTOR_BITS)
        miss = np.abs(rows @ injection_w - said)
        worst = int(miss.argmax())
        expect(
            bool(miss[worst] <= self._rules.tolerance_w),
            region,
            f"its boundary injection loads {self.gates[foreign[worst]].name} by {miss[worst]:.0f} W other than it said",
        )

    def tally(self, votes: Sequence[bytes]) -> Decision:
        """The agreement when nobody objects, and which flowgates come into force next.

        After an objection these are the lines and ties that were overloaded; after an agreement those that came
        near their limits, so that the next interval need not object with them.
        """
        balanced = self._announced.balanced
        parsed = self._parsed(pb.Vote, votes)
        for region, vote in enumerate(parsed):
            check_vote(self._public, region, vote, balanced)
        flowgates = [gate for vote in parsed for gate in vote.flowgates]
        ties = self._ties_beyond(0) if balanced else []
        if ties or not all(vote.accept for vote in parsed):
            near = self._ties_beyond(objection_margin(self._round)) if balanced else []
            opening = self._activate(flowgates, near)
            self._owing = {k for k, vote in enumerate(parsed) if not vote.accept and not vote.flowgates}
            return Decision(None, opening)
        if not balanced:
            raise CertificateError(
                "balance",
                "interconnection",
                "nothing is left to publish and supply does not meet demand; "
                "check the minimum flows of controllable links",
            )
        prices = self._link_end_prices(parsed)
        outcome = public_outcome(self._public, self.gates, self._announced, self._boundary_now, prices)
        certificate = PublicCertificate(self._public, self._rules, self._problem, self._announced, outcome)
        agreement = certificate.agreement(parsed)
        opening = self._activate(flowgates, self._ties_beyond(WATCH_MARGIN))
        self._outcome = outcome
        return Decision(agreement, opening)

    @property
    def _boundary_now(self) -> BoundaryState:
        if self._boundary is None:
            raise ProtocolError(HUB, "votes came before the round's boundary state; form it first")
        return self._boundary

    def public_outcome(self) -> PublicOutcome:
        """What the interval came to, once it is agreed: all that money between regions follows from."""
        if self._outcome is None:
            raise ProtocolError(HUB, "the interval is not agreed yet; tally the votes of a round that all accept")
        return self._outcome

    def _ties_beyond(self, margin: float) -> list[int]:
        active = {gate.line for gate in self.gates if gate.owner == TIE}
        return self._public.loaded_ties(self._boundary_now.angle, active, self._rules.tolerance_w, margin)

    def _activate(self, flowgates: Sequence[pb.Flowgate], ties: Sequence[int]) -> bytes:
        """Put flowgates in force and announce them."""
        new = [self._public.region_flowgate(gate) for gate in flowgates]
        new += [self._public.tie_flowgate(tie) for tie in ties]
        known = {(gate.owner, gate.branch) for gate in self.gates}
        for gate in new:
            if (gate.owner, gate.branch) in known:
                raise ProtocolError(gate.owner, f"objects with {gate.branch}, which is in force already")
            known.add((gate.owner, gate.branch))
        self.gates = [*self.gates, *new]
        opening = pb.IntervalOpening(interval=self._interval, round=self._round + 1, flowgates=flowgates, tie_line=ties)
        return pb.RoundOpening(scope=self._scope, intervals=[opening]).SerializeToString(deterministic=True)

    def _link_end_prices(self, votes: Sequence[pb.IntervalVote]) -> IntArray:
        """LMP at each public link end, from the votes of the regions they lie in."""
        supply = [iter(vote.link_end_price) for vote in votes]
        prices = integers(next(supply[end.region]) for end in self._public.link_ends)
        energy, shadow = self._announced.energy_price, self._announced.shadow_price
        allowed = 4 * price_tolerance(energy, shadow)
        for end, price in zip(self._public.link_ends, prices.tolist(), strict=True):
            follows = int(energy[end.component])
            if end.region not in self._silent:
                factor = self._cache[end.region].at(end.region, len(self.gates), end.bus)
                follows += multiply(factor, shadow).total() >> FACTOR_BITS
            said = f"its price at link {end.link} does not follow from the announced ones"
            expect(abs(price - follows) <= allowed, end.region, said)
        return prices

    def check_price_rule(self) -> None:
        """What anyone can check of the announced prices, in integers. Raises CertificateError."""
        check_price_rule(self.displaced_problem(), self._announced.message)

    def displaced_problem(self) -> DisplacedProblem:
        """The public problem of the round in integers, with the displacement of each row."""
        return self._problem.displaced
