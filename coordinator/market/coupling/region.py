"""One region in the coupling: it sees its own grid, its own offers, and public messages; nothing else.

Bytes in, bytes out, in the order of `protos/gridaccord/v1/coupling.proto`. What it keeps from interval to
interval are its factors on the active flowgates, which of them it has published, and the last prices.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from coordinator.ledger.merkle import MerkleTree, SaltTree, leaf_hash
from coordinator.market.certificate import Certificate, certify_region, largest
from coordinator.market.clearing import Clearing, Problem
from coordinator.market.coupling.interval_state import BoundaryValues, IntervalState, PublicationWindow, RoundResult
from coordinator.market.coupling.public import (
    TIE,
    WATCH_MARGIN,
    ActiveFlowgate,
    PublicNetwork,
    flowgate_content,
    loaded_lines,
    objection_margin,
)
from coordinator.market.coupling.wire import (
    HUB,
    ProtocolError,
    expect,
    expect_scope,
    from_bitmap,
    integers,
    only,
    overwritten,
    parse,
    runs,
    scattered,
    to_fine,
)
from coordinator.market.fixed_point import (
    ANGLE_BITS,
    FACTOR_BITS,
    PRICE_BEYOND_RANGE,
    PRICE_BITS,
    PRICE_LIMIT,
    from_fixed,
    to_fixed,
    to_fixed_price,
)
from coordinator.market.flowgate_program import ROOM_W
from coordinator.market.offers import MarketRules, StepKind, StepTable
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import BoolArray, FloatArray, IntArray
from topology.dc import UNLIMITED_W
from topology.kron import KronReduction
from topology.regions import RegionGrid

ANGLE_LIMIT = 1 << 52
"""Announced angles at or beyond this cannot be computed with."""
MISPLACED_TOLERANCE_MICRO = 0.5
"""An unpublished step this close to its LMP counts as on the right side: 5e-7 of the asset per MWh."""


class RegionAgent:
    """A region's side of the protocol. `secret` never leaves it; pseudonyms and salts derive from it."""

    def __init__(self, region: RegionGrid, rules: MarketRules, secret: bytes, asset: str = "EUR") -> None:
        self.index = region.index
        self.name = region.name
        self._region = region
        self._rules = rules
        self._secret = secret
        self._scope = pb.Scope(carrier="electricity", asset=asset, region=region.index)
        self._reduction = KronReduction(region)
        size = region.network.bus_count
        order = np.random.default_rng(int.from_bytes(self._derive(b"pseudonyms"), "big")).permutation(size)
        self._pseudonym = order.astype(np.int64)
        self._factors: FloatArray = np.zeros((0, size))
        self._sent: BoolArray = np.zeros((0, size), dtype=np.bool_)
        self._gates: list[ActiveFlowgate] = []
        self._line_position = {branch: i for i, branch in enumerate(region.network.branch_ids)}
        self._in_force: BoolArray = np.zeros(region.network.branch_count, dtype=np.bool_)
        self._gate_line: IntArray = np.zeros(0, dtype=np.int64)
        self._last_price: FloatArray | None = None
        self._state: IntervalState | None = None
        self._result: RoundResult | None = None
        self._commit_lines()

    def _derive(self, *parts: bytes) -> bytes:
        return hashlib.sha256(b"\0".join((self._secret, self.name.encode(), *parts))).digest()

    def _commit_lines(self) -> None:
        """Salted leaves of every limited line, so that a flowgate published later is one that existed before."""
        network = self._region.network
        limited = (network.flow_min_w > -UNLIMITED_W) | (network.flow_max_w < UNLIMITED_W)
        self._limited_lines = np.flatnonzero(limited)
        self._limited: BoolArray = limited
        self._line_rows_fine = to_fine(self._reduction.boundary_rows(self._limited_lines))
        self._line_leaf = {int(line): leaf for leaf, line in enumerate(self._limited_lines)}
        self._line_salts = SaltTree(self._derive(b"lines"), len(self._limited_lines)).salts
        self._line_tree = MerkleTree(
            [
                leaf_hash(self._line_salts[leaf] + self._line_content(int(line), leaf))
                for leaf, line in enumerate(self._limited_lines)
            ]
        )

    def _line_content(self, line: int, leaf: int) -> bytes:
        network = self._region.network
        row = self._line_rows_fine[leaf]
        return flowgate_content(
            network.branch_ids[line], row, int(network.flow_min_w[line]), int(network.flow_max_w[line])
        )

    def boundary_equivalent(self) -> bytes:
        """What the region publishes once a topology."""
        network, boundary = self._region.network, self._region.boundary
        laplacian = self._reduction.laplacian
        return pb.BoundaryEquivalent(
            scope=self._scope,
            boundary_bus=[network.bus_ids[i] for i in boundary],
            internal_component=network.components[boundary].tolist(),
            laplacian_fine=to_fine(laplacian[np.triu_indices(len(boundary))]).tolist(),
            topology_root=self._line_tree.root,
            topology_size=self._line_tree.size,
            link_end=[
                pb.LinkEnd(
                    link=end.link,
                    bus=int(self._pseudonym[end.bus]),
                    internal_component=int(network.components[end.bus]),
                    delivers=end.sign > 0,
                )
                for end in self._region.link_ends
            ],
        ).SerializeToString(deterministic=True)

    def join(self, public: PublicNetwork) -> None:
        """Take part in the interconnection that all boundary equivalents make."""
        self._public = public
        self._block = public.interconnection.boundary_of(self.index)
        self._scope.topology_id = public.topology_id
        components = self._region.network.components
        labels = public.component_of(self.index, components[self._region.boundary])
        self._component = labels[components]

    def forget_prices(self) -> None:
        """Start cold: the next interval publishes every offer."""
        self._last_price = None

    def commit(self, interval: pb.Interval, steps: StepTable, window: PublicationWindow) -> bytes:
        """Gate closure: take the interval's steps and commit to them. Steps near the last LMP will be published."""
        if self._last_price is None:
            reference = np.zeros(self._region.network.bus_count)
            reach = self._rules.value_of_lost_load_micro_per_mwh - 0.5
        else:
            reference = self._last_price
            reach = window.reach(steps, reference)
        order = np.argsort(steps.price_micro_per_mwh - reference[steps.bus], kind="stable")
        leaf_of_step = np.empty_like(order)
        leaf_of_step[order] = np.arange(len(order))
        offered = np.stack([steps.bus, steps.price_micro_per_mwh, steps.width_w]).astype(">i8").tobytes()
        about = interval.SerializeToString(deterministic=True) + hashlib.sha256(offered).digest()
        salts = SaltTree(self._derive(b"offers", about), steps.count)
        tree = MerkleTree(self._leaf_hashes(steps, order, salts))
        self._window = window
        self._state = IntervalState(
            interval=interval,
            steps=steps,
            low_price=reference - reach,
            high_price=reference + reach,
            leaf_of_step=leaf_of_step,
            tree=tree,
            salts=salts,
            published=np.zeros(steps.count, dtype=np.bool_),
            order=np.zeros(0, dtype=np.int64),
        )
        commitment = pb.IntervalCommitment(interval=interval, offers_root=tree.root, offers_size=tree.size)
        return pb.OfferCommitment(scope=self._scope, intervals=[commitment]).SerializeToString(deterministic=True)

    def _leaf_hashes(self, steps: StepTable, order: IntArray, salts: SaltTree) -> list[bytes]:
        columns = (self._pseudonym[steps.bus[order]], steps.price_micro_per_mwh[order], steps.width_w[order])
        contents = np.stack(columns, axis=1).astype(">i8").tobytes()
        return [leaf_hash(salt + contents[24 * i : 24 * i + 24]) for i, salt in enumerate(salts.salts)]

    @property
    def _now(self) -> IntervalState:
        if self._state is None:
            raise ProtocolError(self.index, "no interval is committed; commit offers first")
        return self._state

    @property
    def _round_result(self) -> RoundResult:
        if self._result is None:
            raise ProtocolError(HUB, "a boundary state came before the round's result; send the result first")
        return self._result

    def _from_hub(self, kind: type[Any], message: bytes) -> Any:
        """One interval of a message of the hub's, about the interval at hand."""
        parsed = parse(kind, message, HUB)
        expect_scope(parsed.scope, self._scope, HUB)
        interval = only(parsed.intervals, HUB)
        expect(interval.interval == self._now.interval, HUB, "a message about another interval")
        return interval

    def open_round(self, message: bytes) -> None:
        """Put the flowgates in force that the hub announces, in its order."""
        opening = self._from_hub(pb.RoundOpening, message)
        expect(opening.round == self._now.round + 1, HUB, f"round {opening.round} is opened after {self._now.round}")
        self._put_in_force(opening)

    def catch_up(self, message: bytes) -> None:
        """Put the flowgates in force that came up while the region was silent; call it for every opening it missed."""
        parsed = parse(pb.RoundOpening, message, HUB)
        expect_scope(parsed.scope, self._scope, HUB)
        self._put_in_force(only(parsed.intervals, HUB))

    def _put_in_force(self, opening: pb.IntervalOpening) -> None:
        ties = len(self._public.interconnection.tie_ids)
        expect(all(tie < ties for tie in opening.tie_line), HUB, "an unknown tie-line is opened")
        gates = [self._public.region_flowgate(gate) for gate in opening.flowgates]
        self.activate(gates + [self._public.tie_flowgate(tie) for tie in opening.tie_line])

    def activate(self, gates: list[ActiveFlowgate]) -> None:
        """Form the own factors of new flowgates; the owner adds its private part."""
        if not gates:
            return
        rows = np.array([gate.row[self._block] for gate in gates])
        factors = self._reduction.bus_factors(rows)
        lines = np.array([self._own_line(gate) for gate in gates], dtype=np.int64)
        own = np.flatnonzero(lines >= 0)
        if own.size:
            factors[own] += self._reduction.private_rows(lines[own])
        self._in_force[lines[own]] = True
        self._gates += gates
        self._gate_line = np.concatenate([self._gate_line, lines])
        self._factors = np.vstack([self._factors, factors])
        self._sent = np.vstack([self._sent, np.zeros(factors.shape, dtype=np.bool_)])

    def _own_line(self, gate: ActiveFlowgate) -> int:
        return self._line_position[gate.branch] if gate.owner == self.index else -1

    def submit(self) -> bytes:
        """Sums over everything inframarginal, and what is near the margin and not published yet."""
        state, network = self._now, self._region.network
        steps = state.steps
        state.round += 1
        self._result = None
        inside = (steps.price_micro_per_mwh >= state.low_price[steps.bus]) & (
            steps.price_micro_per_mwh <= state.high_price[steps.bus]
        )
        new = np.flatnonzero(inside & ~state.published)
        new = new[np.argsort(state.leaf_of_step[new])]
        state.published[new] = True
        state.order = np.concatenate([state.order, new])
        base = steps.injection_w(np.where(self._inframarginal(state), steps.width_w, 0))
        loading = self._factors @ (base + network.shift_injection_w)
        own = self._gate_line >= 0
        loading[own] += network.shift_flow_w[self._gate_line[own]]
        per_component = np.zeros(self._public.component_count, dtype=np.int64)
        np.add.at(per_component, self._component, base)
        more, less = self._unpublished_room_w(state)
        leaves = state.leaf_of_step[new]
        several = self._public.component_count > 1
        message = pb.IntervalSubmission(
            interval=state.interval,
            round=state.round,
            base_w=per_component.tolist(),
            gate_loading_fine=to_fine(loading).tolist(),
            leaf=runs(leaves),
            bus=self._pseudonym[steps.bus[new]].tolist(),
            price_micro_per_mwh=steps.price_micro_per_mwh[new].tolist(),
            width_w=steps.width_w[new].tolist(),
            salt_seed=state.salts.reveal(leaves.tolist()),
            proof=state.tree.open(leaves.tolist()),
            factors=self._unsent_factors(),
            component=self._component[steps.bus[new]].tolist() if several else [],
            unpublished_more_w=more.tolist(),
            unpublished_less_w=less.tolist(),
        )
        return pb.Submission(scope=self._scope, intervals=[message]).SerializeToString(deterministic=True)

    def _unpublished_room_w(self, state: IntervalState) -> tuple[IntArray, IntArray]:
        """How much more and less unpublished steps could inject, per component; counted up to ROOM_W."""
        steps, taken = state.steps, self._inframarginal(state)
        room = np.zeros((2, self._public.component_count), dtype=np.int64)
        for total, chosen in zip(room, (~taken & ~state.published, taken), strict=True):
            np.add.at(total, self._component[steps.bus[chosen]], np.minimum(steps.width_w[chosen], ROOM_W))
        more, less = np.minimum(room, ROOM_W)
        return more, less

    def _inframarginal(self, state: IntervalState) -> BoolArray:
        """Unpublished steps that count as fully accepted."""
        cheap = state.steps.price_micro_per_mwh < state.low_price[state.steps.bus]
        return np.asarray(cheap & ~state.published)

    def _unsent_factors(self) -> list[pb.FactorBlock]:
        """Factors that published steps and link ends need and the others lack, in rectangular blocks."""
        state = self._now
        ends = np.array([end.bus for end in self._region.link_ends], dtype=np.int64)
        buses = np.unique(np.concatenate([state.steps.bus[state.order], ends]))
        missing = ~self._sent[:, buses]
        blocks = []
        for pattern in np.unique(missing, axis=0):
            if not pattern.any():
                continue
            gates = np.flatnonzero((missing == pattern).all(axis=1))
            chosen = buses[pattern]
            index = np.ix_(gates, chosen)
            self._sent[index] = True
            blocks.append(
                pb.FactorBlock(
                    gate=gates.tolist(),
                    bus=self._pseudonym[chosen].tolist(),
                    factor=to_fixed(self._factors[index], FACTOR_BITS).ravel().tolist(),
                )
            )
        return blocks

    def inject(self, message: bytes) -> bytes:
        """Take the round's result and publish what the own injections are worth at the boundary."""
        state, network = self._now, self._region.network
        result = self._from_hub(pb.CouplingResult, message)
        self._check_result(result, state)
        steps, gates = state.steps, len(self._gates)
        acceptance = result.acceptances[self.index]
        try:
            full = from_bitmap(acceptance.full, len(state.order))
        except ValueError as error:
            raise ProtocolError(HUB, f"acceptance of region {self.name}: {error}") from error
        published = np.where(full, steps.width_w[state.order], 0)
        published = overwritten(published, acceptance.partial, acceptance.partial_w, HUB, "partial acceptance")
        accepted = np.where(self._inframarginal(state), steps.width_w, 0)
        accepted[state.order] = published
        self._result = RoundResult(
            accepted_w=accepted,
            injection_w=self._injection_w(steps.injection_w(accepted), integers(result.link_w)),
            energy_price=integers(result.energy_price),
            shadow_price=scattered(gates, result.priced_gate, result.shadow_price, HUB, "shadow prices"),
            violation_w=scattered(gates, result.violated_gate, result.violation_w, HUB, "violations"),
            balanced=not any(result.imbalance_w),
        )
        injection = self._reduction.boundary_injection(self._round_result.injection_w + network.shift_injection_w)
        reply = pb.IntervalInjection(interval=state.interval, injection_fine=to_fine(injection).tolist())
        return pb.BoundaryInjection(scope=self._scope, intervals=[reply]).SerializeToString(deterministic=True)

    def _check_result(self, result: pb.IntervalResult, state: IntervalState) -> None:
        public = self._public.interconnection
        expect(result.interval == state.interval, HUB, "the result is for another interval")
        expect(result.round == state.round, HUB, f"the result is for round {result.round}, not {state.round}")
        expect(len(result.acceptances) == public.region_count, HUB, "the result does not cover every region")
        expect(len(result.link_w) == len(public.link_ids), HUB, "the result does not cover every link")
        extreme = max((abs(price) for price in (*result.energy_price, *result.shadow_price)), default=0)
        expect(extreme < PRICE_LIMIT, HUB, PRICE_BEYOND_RANGE)
        components = self._public.component_count
        covered = len(result.energy_price) == components and len(result.imbalance_w) == components
        expect(covered, HUB, "the result does not cover every component")

    def _injection_w(self, injection_w: IntArray, link_w: IntArray) -> IntArray:
        """Bus injections with the links that end here."""
        for end in self._region.link_ends:
            injection_w[end.bus] += end.sign * link_w[end.link]
        return injection_w

    def vote(self, message: bytes) -> bytes:
        """Accept with the region's certificate, or object with overloaded lines or with misplaced offers."""
        state, result = self._now, self._round_result
        public = self._from_hub(pb.BoundaryState, message)
        size = len(self._public.interconnection.boundary_ids)
        covered = len(public.angle) == size and len(public.price_difference) == size
        expect(
            covered and public.interval == state.interval,
            HUB,
            "the boundary state is incomplete or of another interval",
        )
        angle, difference = integers(public.angle), integers(public.price_difference)
        expect(largest(angle) < ANGLE_LIMIT, HUB, "an angle is out of range")
        expect(largest(difference) < PRICE_LIMIT, HUB, PRICE_BEYOND_RANGE)
        energy = result.energy_price[self._public.impedance.component]
        boundary = BoundaryValues(angle, energy + difference)
        expect(largest(boundary.price) < PRICE_LIMIT, HUB, PRICE_BEYOND_RANGE)
        angles = self._reduction.angles(
            result.injection_w + self._region.network.shift_injection_w,
            from_fixed(boundary.angle[self._block], ANGLE_BITS),
        )
        price = self._prices(result)
        overloaded = self._loaded_lines(angles, margin=0) if result.balanced else []
        misplaced = self._misplaced(state, price)
        vote = pb.IntervalVote(
            interval=state.interval, accept=not (overloaded or misplaced.any()), misplaced_steps=int(misplaced.sum())
        )
        if vote.accept and result.balanced:
            self.clearing = self._clearing(result, angles, price, boundary)
            self.certificate = self._certify(state.steps, result, boundary)
            vote.objective_exact = str(self.certificate.objective.exact)
            vote.gap_exact = str(max(0, self.certificate.gap_exact))
            vote.link_end_price.extend(int(self.clearing.price[end.bus]) for end in self._region.link_ends)
        if result.balanced:
            margin = WATCH_MARGIN if vote.accept else objection_margin(state.round)
            vote.flowgates.extend(self._flowgate(line) for line in self._loaded_lines(angles, margin))
        if misplaced.any():
            self._widen(state, price, misplaced)
        self._price = price
        return pb.Vote(scope=self._scope, intervals=[vote]).SerializeToString(deterministic=True)

    def close(self) -> None:
        """The coupling is final: remember its prices for the next interval's window."""
        self._last_price = self._price

    def _prices(self, result: RoundResult) -> FloatArray:
        """LMPs per own bus, micro-units per MWh: energy + sum of shadow price * factor."""
        energy = from_fixed(result.energy_price, PRICE_BITS)[self._component]
        return np.asarray(energy + from_fixed(result.shadow_price, PRICE_BITS) @ self._factors)

    def _loaded_lines(self, angles: FloatArray, margin: float) -> list[int]:
        """Own lines that exceed a limit not in force yet, or with a margin come near it."""
        network = self._region.network
        drop = angles[network.from_bus] - angles[network.to_bus]
        flow = network.susceptance_w_per_rad * drop + network.shift_flow_w
        loaded = loaded_lines(flow, network.flow_min_w, network.flow_max_w, self._rules.tolerance_w, margin)
        return [int(line) for line in np.flatnonzero(loaded & ~self._in_force)]

    def _misplaced(self, state: IntervalState, price: FloatArray) -> BoolArray:
        """Unpublished steps on the wrong side of their LMP."""
        margin = state.steps.price_micro_per_mwh - price[state.steps.bus]
        taken = self._inframarginal(state)
        wrong = np.where(taken, margin > MISPLACED_TOLERANCE_MICRO, margin < -MISPLACED_TOLERANCE_MICRO)
        return np.asarray(wrong & ~state.published)

    def _widen(self, state: IntervalState, price: FloatArray, misplaced: BoolArray) -> None:
        """Publish next what lies between the old window and a doubled one around the new prices.

        While offers are misplaced, prices beyond cap and floor (they tell that something is missing, not what it
        is worth) do not yet call for demand to be shed or fixed injections to be curtailed.
        """
        state.widenings += 1
        if (state.steps.kind[misplaced] == StepKind.OFFER).any():
            price = np.clip(price, self._rules.price_floor_micro_per_mwh, self._rules.price_cap_micro_per_mwh)
        reach = self._window.half_width_micro_per_mwh * 2.0**state.widenings
        state.low_price = np.minimum(state.low_price, price - reach)
        state.high_price = np.maximum(state.high_price, price + reach)

    def _flowgate(self, line: int) -> pb.Flowgate:
        network, leaf = self._region.network, self._line_leaf[line]
        return pb.Flowgate(
            region=self.index,
            branch=network.branch_ids[line],
            row_fine=self._line_rows_fine[leaf].tolist(),
            flow_min_w=int(network.flow_min_w[line]),
            flow_max_w=int(network.flow_max_w[line]),
            leaf=leaf,
            salt=self._line_salts[leaf],
            proof=self._line_tree.open([leaf]),
        )

    def _clearing(
        self, result: RoundResult, angles: FloatArray, price: FloatArray, boundary: BoundaryValues
    ) -> Clearing:
        """The region's part of the outcome; at the boundary the agreed integers, inside its own roundings."""
        fixed_angle, fixed_price = to_fixed(angles, ANGLE_BITS), to_fixed_price(price)
        fixed_angle[self._region.boundary] = boundary.angle[self._block]
        fixed_price[self._region.boundary] = boundary.price[self._block]
        own = self._gate_line >= 0
        shadow, violation = np.zeros((2, self._region.network.branch_count), dtype=np.int64)
        shadow[self._gate_line[own]] = result.shadow_price[own]
        violation[self._gate_line[own]] = result.violation_w[own]
        none = np.zeros(0, dtype=np.int64)
        return Clearing(result.accepted_w, fixed_angle, fixed_price, shadow, none, violation)

    def _certify(self, steps: StepTable, result: RoundResult, boundary: BoundaryValues) -> Certificate:
        public = self._public
        tie_shadow = np.zeros(len(public.interconnection.tie_ids), dtype=np.int64)
        for gate, value in zip(self._gates, result.shadow_price, strict=True):
            if gate.owner == TIE:
                tie_shadow[gate.line] = value
        ties = public.tie_terms(self.index, boundary.angle, boundary.price, tie_shadow)
        ties = replace(ties, bus=self._region.boundary[ties.bus])
        problem = Problem(self._region.network, steps, self._rules)
        return certify_region(problem, self.clearing, ties, result.injection_w)
