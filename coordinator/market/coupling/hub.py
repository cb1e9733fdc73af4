"""The hub in the coupling: solves the public problem of each round from what was published.

Any node may be the hub, since everything it announces is checked: by the regions' certificates, by the public
tie and gap check of `settle`, and by the price rule. It knows no grid but the interconnection.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordinator.market.certificate import CertificateError, dearest_micro_per_mwh, gap_micro_per_h, price_tolerance
from coordinator.market.component_balance import ComponentBalance
from coordinator.market.coupling.price_rule import DisplacedProblem, check_price_rule
from coordinator.market.coupling.public import TIE, WATCH_MARGIN, ActiveFlowgate, PublicNetwork, objection_margin
from coordinator.market.coupling.published import FactorCache, Published
from coordinator.market.coupling.rounding import rounded_with_links
from coordinator.market.coupling.wire import (
    ProtocolError,
    bitmap,
    expect,
    expect_scope,
    from_fine,
    integers,
    only,
    parse,
    to_fine,
)
from coordinator.market.fixed_point import (
    ANGLE_BITS,
    FACTOR_BITS,
    PRICE_BITS,
    dot,
    from_fixed,
    multiply,
    to_fixed,
    to_fixed_price,
)
from coordinator.market.flowgate_program import FlowgateProgram, Optimum, displacements_w, solve_flowgates
from coordinator.market.offers import MarketRules, Objective
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import BoolArray, FloatArray, IntArray

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
        self._shadow = np.zeros(0, dtype=np.int64)
        self._cache = [FactorCache() for _ in range(public.interconnection.region_count)]

    def _regions(self) -> range:
        return range(self._public.interconnection.region_count)

    def start(self, interval: pb.Interval, commitments: Sequence[bytes], beacon: bytes = b"") -> None:
        """Gate closure: take everybody's commitment before any submission.

        The `beacon` is what nobody could know when offers were made (on a hub chain: the digest of the block that
        closes the gate); the displacements of the price rule derive from it and the interval.
        """
        self._interval = interval
        regions = self._public.interconnection.region_count
        expect(len(commitments) == regions, -1, f"{len(commitments)} commitments for {regions} regions")
        parsed = self._parsed(pb.OfferCommitment, commitments)
        self._published = [Published(k, commit.offers_root, commit.offers_size) for k, commit in enumerate(parsed)]
        self._round = 0
        self._owing: set[int] = set()
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

    def clear(self, submissions: Sequence[bytes]) -> bytes:
        """Solve the round's public problem and announce prices and acceptances."""
        self._round += 1
        for region, message in enumerate(self._parsed(pb.Submission, submissions)):
            self._take(region, message)
        program = self._program()
        self._program_now = program
        optimum = solve_flowgates(program, self._seed, self._likely())
        self._result = self._announce(program, optimum)
        return pb.CouplingResult(scope=self._scope, intervals=[self._result]).SerializeToString(deterministic=True)

    def _take(self, region: int, message: pb.IntervalSubmission) -> None:
        """Check a submission against its commitment and keep it."""
        owes = region in self._owing and len(message.bus) == 0
        expect(not owes, region, "objected with misplaced steps and publishes none; publish them")
        expect(message.round == self._round, region, f"the submission is for round {message.round}, not {self._round}")
        self._published[region].take(message, len(self.gates), self._public.component_count)
        for block in message.factors:
            self._cache[region].store(region, block, len(self.gates))

    def _program(self) -> FlowgateProgram:
        """The public problem: published steps of all regions, then links."""
        public, interconnection, gates = self._public, self._public.interconnection, self.gates
        self._buses = [_joined(kept.bus) for kept in self._published]
        prices = np.concatenate([_joined(kept.price) for kept in self._published])
        self._widths = np.concatenate([_joined(kept.width) for kept in self._published])
        self._components = np.concatenate([_joined(kept.component) for kept in self._published])
        factors = [self._cache[k].get(k, len(gates), self._buses[k]) for k in self._regions()]
        self._factors = np.hstack([*factors, self._link_factors()])
        links = len(interconnection.link_ids)
        self._base_w: IntArray = np.stack([kept.base_w for kept in self._published]).sum(axis=0)
        loading = np.stack([kept.loading_fine for kept in self._published]).sum(axis=0)
        self._loading_fine = loading + integers(gate.base_fine for gate in gates)
        self._prices = np.concatenate([prices, np.zeros(links, dtype=np.int64)])
        self._lower = np.concatenate([np.zeros_like(self._widths), interconnection.link_min_w])
        self._upper = np.concatenate([self._widths, interconnection.link_max_w])
        return FlowgateProgram(
            price_micro_per_mwh=self._prices.astype(np.float64),
            lower_w=self._lower.astype(np.float64),
            upper_w=self._upper.astype(np.float64),
            balance=self._balance(),
            factors=from_fixed(self._factors, FACTOR_BITS),
            base_w=self._base_w.astype(np.float64),
            gate_base_w=from_fine(self._loading_fine),
            gate_min_w=np.array([gate.flow_min_w for gate in gates], dtype=np.float64),
            gate_max_w=np.array([gate.flow_max_w for gate in gates], dtype=np.float64),
            row_names=[f"balance/{c}" for c in range(public.component_count)] + [gate.name for gate in gates],
            line_violation_micro_per_mwh=self._rules.line_violation_micro_per_mwh,
            unpublished_more_w=np.stack([kept.unpublished_more_w for kept in self._published]).sum(axis=0),
            unpublished_less_w=np.stack([kept.unpublished_less_w for kept in self._published]).sum(axis=0),
        )

    def _link_factors(self) -> IntArray:
        """A link delivers at one end what it draws at the other."""
        factors = np.zeros((len(self.gates), len(self._public.interconnection.link_ids)), dtype=np.int64)
        for end in self._public.link_ends:
            bus = np.array([end.bus], dtype=np.int64)
            factors[:, end.link] += end.sign * self._cache[end.region].get(end.region, len(self.gates), bus)[:, 0]
        return factors

    def _balance(self) -> ComponentBalance:
        public = self._public
        link_from, link_to = np.zeros((2, len(public.interconnection.link_ids)), dtype=np.int64)
        for end in public.link_ends:
            (link_to if end.sign > 0 else link_from)[end.link] = end.component
        return ComponentBalance.of(public.component_count, self._components, link_from, link_to)

    def _likely(self) -> BoolArray:
        """Flowgates that bore a shadow price when last solved."""
        likely = np.zeros(len(self.gates), dtype=np.bool_)
        likely[: len(self._shadow)] = self._shadow != 0
        return likely

    def _announce(self, program: FlowgateProgram, optimum: Optimum) -> pb.IntervalResult:
        steps = len(self._widths)
        imbalance = np.rint(optimum.imbalance_w).astype(np.int64)
        link_w = np.clip(np.rint(optimum.quantity_w[steps:]).astype(np.int64), self._lower[steps:], self._upper[steps:])
        accepted, link_w = rounded_with_links(
            self._public, optimum.quantity_w[:steps], self._widths, self._components, link_w, imbalance - self._base_w
        )
        self._accepted_w = accepted
        witness = np.clip(to_fine(optimum.witness_w), self._lower << 10, self._upper << 10)
        shadow = to_fixed_price(optimum.shadow_price)
        violation = np.rint(np.abs(optimum.violation_w)).astype(np.int64)
        self._energy, self._shadow = to_fixed_price(optimum.energy_price), shadow
        self._violation = violation
        priced, violated = np.flatnonzero(shadow), np.flatnonzero(violation)
        return pb.IntervalResult(
            interval=self._interval,
            round=self._round,
            energy_price=self._energy.tolist(),
            priced_gate=priced.tolist(),
            shadow_price=shadow[priced].tolist(),
            violated_gate=violated.tolist(),
            violation_w=violation[violated].tolist(),
            acceptances=self._acceptances(accepted, witness[:steps]),
            link_w=link_w.tolist(),
            link_witness_fine=witness[steps:].tolist(),
            imbalance_w=imbalance.tolist(),
            balance_sign=optimum.balance_sign.tolist(),
        )

    def _acceptances(self, accepted: IntArray, witness: IntArray) -> list[pb.RegionAcceptance]:
        offsets = np.cumsum([0] + [len(buses) for buses in self._buses])
        parts = []
        for region in self._regions():
            here = slice(offsets[region], offsets[region + 1])
            taken, width = accepted[here], self._widths[here]
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

    def boundary_state(self, injections: Sequence[bytes]) -> bytes:
        """Angles and prices at every boundary bus, from everybody's boundary injections."""
        public = self._public
        parts = [integers(message.injection_fine) for message in self._parsed(pb.BoundaryInjection, injections)]
        sizes = np.diff(public.interconnection.offsets)
        for region, part in enumerate(parts):
            expect(len(part) == sizes[region], region, f"{len(part)} boundary injections for {sizes[region]} buses")
        for region, part in enumerate(parts):
            self._check_sums(region, from_fine(part))
            self._check_loadings(region, from_fine(part))
        injection = from_fine(np.concatenate(parts)) + public.shift_injection_w
        self._angle = to_fixed(public.impedance.matrix @ injection, ANGLE_BITS)
        rows = np.array([gate.row for gate in self.gates]).reshape(len(self.gates), len(injection))
        self._difference = to_fixed_price(from_fixed(self._shadow, PRICE_BITS) @ rows)
        message = pb.IntervalBoundary(
            interval=self._interval, angle=self._angle.tolist(), price_difference=self._difference.tolist()
        )
        return pb.BoundaryState(scope=self._scope, intervals=[message]).SerializeToString(deterministic=True)

    def _check_sums(self, region: int, injection_w: FloatArray) -> None:
        """A region's boundary injection must add up to its base and what it was accepted for, by component."""
        public = self._public
        first = sum(len(buses) for buses in self._buses[:region])
        columns = slice(first, first + len(self._buses[region]))
        expected = self._published[region].base_w.copy()
        np.add.at(expected, self._components[columns], self._accepted_w[columns])
        for end in public.link_ends:
            if end.region == region:
                expected[end.component] += end.sign * int(self._result.link_w[end.link])
        here = public.impedance.component[public.interconnection.boundary_of(region)]
        miss = np.abs(np.bincount(here, weights=injection_w, minlength=len(expected)) - expected)
        worst = int(miss.argmax())
        said = f"its boundary injection misses base and acceptance by {miss[worst]:.0f} W"
        expect(bool(miss[worst] <= self._rules.tolerance_w), region, said)

    def _check_loadings(self, region: int, injection_w: FloatArray) -> None:
        """A region's boundary injection must load foreign flowgates as its own published sums and factors say."""
        foreign = [i for i, gate in enumerate(self.gates) if gate.owner != region]
        if not foreign:
            return
        block = self._public.interconnection.boundary_of(region)
        rows = np.array([self.gates[i].row[block] for i in foreign])
        first = sum(len(buses) for buses in self._buses[:region])
        columns = slice(first, first + len(self._buses[region]))
        factors = from_fixed(self._factors[foreign, columns], FACTOR_BITS)
        said = from_fine(self._published[region].loading_fine[foreign]) + factors @ self._accepted_w[columns]
        for end in self._public.link_ends:
            if end.region == region:
                factor = self._cache[region].get(region, len(self.gates), np.array([end.bus]))[foreign, 0]
                said = said + end.sign * float(self._result.link_w[end.link]) * from_fixed(factor, FACTOR_BITS)
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
        balanced = not any(self._result.imbalance_w)
        parsed = self._parsed(pb.Vote, votes)
        for region, vote in enumerate(parsed):
            self._check_vote(region, vote, balanced)
        ties = self._ties_beyond(0) if balanced else []
        if ties or not all(vote.accept for vote in parsed):
            self._owing = {k for k, vote in enumerate(parsed) if not vote.accept and not vote.flowgates}
            flowgates = [gate for vote in parsed for gate in vote.flowgates]
            return Decision(
                None, self._activate(flowgates, self._ties_beyond(objection_margin(self._round)) if balanced else [])
            )
        if not balanced:
            raise CertificateError(
                "balance",
                "interconnection",
                "nothing is left to publish and supply does not meet demand; "
                "check the minimum flows of controllable links",
            )
        agreement = self._settle(parsed)
        watched = [gate for vote in parsed for gate in vote.flowgates]
        return Decision(agreement, self._activate(watched, self._ties_beyond(WATCH_MARGIN)))

    def _check_vote(self, region: int, vote: pb.IntervalVote, certified: bool) -> None:
        ends = sum(end.region == region for end in self._public.link_ends)
        foreign = [gate.branch for gate in vote.flowgates if gate.region != region]
        expect(not foreign, region, f"publishes flowgate {foreign[:1]} of another region")
        something = vote.accept or vote.flowgates or vote.misplaced_steps
        expect(bool(something), region, "objects without a line or a step to name; accept, or name it")
        if vote.accept and certified:
            expect(len(vote.link_end_price) == ends, region, f"{len(vote.link_end_price)} link prices for {ends} ends")
            expect(not vote.gap_exact.startswith("-"), region, "its gap is negative; a gap is a bound, publish zero")
            for name, text in (("gap", vote.gap_exact), ("objective", vote.objective_exact)):
                expect(bool(_DECIMAL.fullmatch(text)), region, f"its {name} is {text[:80]!r}, not a number")

    def _ties_beyond(self, margin: float) -> list[int]:
        active = {gate.line for gate in self.gates if gate.owner == TIE}
        return self._public.loaded_ties(self._angle, active, self._rules.tolerance_w, margin)

    def _activate(self, flowgates: Sequence[pb.Flowgate], ties: Sequence[int]) -> bytes:
        """Put flowgates in force and announce them."""
        new = [self._public.region_flowgate(gate) for gate in flowgates]
        new += [self._public.tie_flowgate(tie) for tie in ties]
        known = {(gate.owner, gate.branch) for gate in self.gates}
        for gate in new:
            if (gate.owner, gate.branch) in known:
                raise ProtocolError(gate.owner, f"objects with {gate.branch}, which is in force already")
            known.add((gate.owner, gate.branch))
        self.gates += new
        opening = pb.IntervalOpening(interval=self._interval, round=self._round + 1, flowgates=flowgates, tie_line=ties)
        return pb.RoundOpening(scope=self._scope, intervals=[opening]).SerializeToString(deterministic=True)

    def _settle(self, votes: Sequence[pb.IntervalVote]) -> Agreement:
        """The public part of the certificate: ties, links, price rule, and the sum of all gaps."""
        public, rules = self._public, self._rules
        self.tie_shadow_price, self.tie_violation_w = self._tie_values(self._shadow), self._tie_values(self._violation)
        self.boundary_angle = self._angle
        self.boundary_price = self._energy[public.impedance.component] + self._difference
        self.link_w = integers(self._result.link_w)
        self.shadow_price = self._shadow
        self.link_end_price = self._link_end_prices(votes)
        gap = public.tie_gap(self._angle, self.tie_shadow_price, self.tie_violation_w, rules) + self._link_gap()
        gap += sum(int(vote.gap_exact) for vote in votes)
        exact = sum(int(vote.objective_exact) for vote in votes)
        objective = Objective(exact + int(self.tie_violation_w.sum()) * rules.line_violation_micro_per_mwh)
        self.check_price_rule()
        bound = gap_micro_per_h(gap)
        if bound > rules.gap_tolerance_micro_per_h(objective.micro_per_h, self._dearest_micro_per_mwh()):
            worst = max(self._regions(), key=lambda region: int(votes[region].gap_exact))
            name = public.interconnection.region_names[worst]
            raise CertificateError("gap", f"region {name}", f"the sum of gaps is {bound} micro-units per hour")
        return Agreement(objective, bound, sum(kept.count for kept in self._published))

    def _dearest_micro_per_mwh(self) -> int:
        """What a watt can be worth, from public numbers: unpublished steps are on the right side of an LMP."""
        prices, announced = self._prices[: len(self._widths)], (self._energy, self._shadow, self.boundary_price)
        return dearest_micro_per_mwh(prices, self._widths, self._accepted_w, *announced)

    def _tie_values(self, by_gate: IntArray) -> IntArray:
        """Values of flowgates that are tie-lines, per tie-line."""
        values = np.zeros(len(self._public.interconnection.tie_ids), dtype=np.int64)
        for gate, value in zip(self.gates, by_gate, strict=True):
            if gate.owner == TIE:
                values[gate.line] = value
        return values

    def _link_gap(self) -> int:
        interconnection = self._public.interconnection
        value = np.zeros(len(interconnection.link_ids), dtype=np.int64)
        for end, price in zip(self._public.link_ends, self.link_end_price, strict=True):
            value[end.link] += end.sign * price
        best = np.where(value > 0, interconnection.link_max_w, interconnection.link_min_w)
        return dot(value, best - integers(self._result.link_w))

    def _link_end_prices(self, votes: Sequence[pb.IntervalVote]) -> IntArray:
        """LMP at each public link end, from the votes of the regions they lie in."""
        supply = [iter(vote.link_end_price) for vote in votes]
        prices = integers(next(supply[end.region]) for end in self._public.link_ends)
        allowed = 4 * price_tolerance(self._energy, self._shadow)
        for end, price in zip(self._public.link_ends, prices.tolist(), strict=True):
            factor = self._cache[end.region].get(end.region, len(self.gates), np.array([end.bus]))[:, 0]
            follows = int(self._energy[end.component]) + (multiply(factor, self._shadow).total() >> FACTOR_BITS)
            said = f"its price at link {end.link} does not follow from the announced ones"
            expect(abs(price - follows) <= allowed, end.region, said)
        return prices

    def check_price_rule(self) -> None:
        """What anyone can check of the announced prices, in integers. Raises CertificateError."""
        check_price_rule(self.displaced_problem(), self._result)

    def displaced_problem(self) -> DisplacedProblem:
        """The public problem in integers, with the displacement of each row."""
        program = self._program_now
        return DisplacedProblem(
            price_micro_per_mwh=self._prices,
            lower_w=self._lower,
            upper_w=self._upper,
            balance=program.balance,
            factors=self._factors,
            base_w=self._base_w,
            loading_fine=self._loading_fine,
            gate_min_w=integers(gate.flow_min_w for gate in self.gates),
            gate_max_w=integers(gate.flow_max_w for gate in self.gates),
            row_names=program.row_names,
            displacement_w=displacements_w(self._seed, program.row_names, program.component_count),
            line_violation_micro_per_mwh=self._rules.line_violation_micro_per_mwh,
            region_sizes=[len(buses) for buses in self._buses],
            unpublished_more_w=program.unpublished_more_w,
            unpublished_less_w=program.unpublished_less_w,
        )


def _joined(parts: Sequence[IntArray]) -> IntArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
