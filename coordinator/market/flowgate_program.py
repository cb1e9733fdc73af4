"""The clearing problem seen through flowgates: one balance row a component, one row an active limit.

    min  price . x   subject to   sum over x in component c   = -base_c
                                  gate_min <= base_g + factors_g . x <= gate_max
                                  x_min <= x <= x_max

This is flow-based market coupling made nodal. Every region's hub solves it over what was published; the
central reference solves it over everything. Gate rows are elastic at the line violation price. A balance is
elastic, at ten times that, only where steps that could mend it are still unpublished, so that the optimum's
prices call for them; once everything is published it is kept whatever it costs.

The optimal duals of a step-curve problem often form an interval. The price rule picks one in public: the
duals of the same problem with its right-hand sides displaced by `displacement_w`, amounts derived by hash
from the interval and the row, fixed before any offer is seen. Limits are displaced outwards, so that what was
feasible stays so. A component that has no room to inject so much
more (or less), unpublished steps included, is displaced the other way, and one that has room neither way not at
all: `balance_sign` says which, and can be checked. `Optimum.witness_w` is the displaced problem's
solution, by which anyone can check the duals (see `coordinator.market.price_rule`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.market.component_balance import ComponentBalance
from coordinator.market.linear_program import InfeasibleError, LinearProgram, Solution
from coordinator.market.offers import MICRO
from topology.arrays import BoolArray, FloatArray, IntArray

_LOG = logging.getLogger(__name__)
POWER_UNIT_W = 1e8
BALANCE_PRICE_FACTOR = 10.0
DUAL_NOISE_MICRO = 0.02
"""Shadow prices below this are the solver's tolerance, often of the wrong sign, and count as zero."""
DUAL_NOISE_SHARE = 1e-12
"""So are those below this share of the largest."""
FEW_GATES = 48
LAZY_TOLERANCE_W = 0.25
MISS_W = 4.0
"""How far an optimum may miss a row before it is solved again, more carefully."""
ROOM_W = 1_000
DISPLACEMENT_MIN_W = 16
DISPLACEMENT_MAX_W = 63
GATE_EXTRA_W = 48


def displacements_w(seed: bytes, row_names: Sequence[str], balances: int) -> IntArray:
    """Displacements of all rows: balances by 16 to 63 W either way, limits outwards by 64 to 111 W.

    A limit gives way by more than any balance moves, so that a part of the grid behind it that cannot move stays
    feasible.
    """
    balance = [_displacement_w(seed, name) for name in row_names[:balances]]
    gates = [abs(_displacement_w(seed, name)) + GATE_EXTRA_W for name in row_names[balances:]]
    return np.array(balance + gates, dtype=np.int64)


def _displacement_w(seed: bytes, row: str) -> int:
    """16 to 63 W, either sign, by SHA-256."""
    digest = hashlib.sha256(b"gridaccord price rule\0" + seed + b"\0" + row.encode()).digest()
    size = DISPLACEMENT_MIN_W + digest[0] % (DISPLACEMENT_MAX_W - DISPLACEMENT_MIN_W + 1)
    return size if digest[1] % 2 else -size


@dataclass(frozen=True)
class FlowgateProgram:
    """The public problem. Quantities in W, prices in micro-units per MWh, factors dimensionless.

    `factors` has shape (gates, columns); `row_names` name balance rows, then gates.
    `unpublished_more_w` and `unpublished_less_w` tell per component how much more and less could be injected by
    steps that are not columns, counted up to `ROOM_W`.
    """

    price_micro_per_mwh: FloatArray
    lower_w: FloatArray
    upper_w: FloatArray
    balance: ComponentBalance
    factors: FloatArray
    base_w: FloatArray
    gate_base_w: FloatArray
    gate_min_w: FloatArray
    gate_max_w: FloatArray
    row_names: Sequence[str]
    line_violation_micro_per_mwh: int
    unpublished_more_w: IntArray
    unpublished_less_w: IntArray

    @property
    def component_count(self) -> int:
        """Number of balance rows."""
        return self.balance.components


@dataclass(frozen=True)
class Optimum:
    """Quantities (W), prices in micro-units per MWh, and how far elastic rows were stretched (W, signed).

    `energy_price` per component, `shadow_price` per gate (positive at the lower limit, negative at the
    upper), both by the price rule; `witness` the quantities of the displaced problem.
    """

    quantity_w: FloatArray
    witness_w: FloatArray
    energy_price: FloatArray
    shadow_price: FloatArray
    imbalance_w: FloatArray
    violation_w: FloatArray
    balance_sign: IntArray


def solve_flowgates(program: FlowgateProgram, seed: bytes, likely: BoolArray | None = None) -> Optimum:
    """Solve, then solve again with displaced right-hand sides, warm, for the duals of the price rule.

    Gate rows enter the solver lazily: first those that are `likely` to bind (all, where there are few), then
    whichever the solution violates, until it violates none; the optimum is that of the whole program.
    """
    shift = displacements_w(seed, program.row_names, program.component_count).astype(np.float64)
    model = _LazyProgram(program, likely)
    plain = model.solve_anyway(np.zeros_like(shift))
    balances = program.component_count
    short = np.sign(-plain.imbalance_w) * (np.abs(plain.imbalance_w) > LAZY_TOLERANCE_W)
    sign = _balance_sign(program, plain.quantity_w, shift[:balances])
    displaced, sign = _displaced(program, model, shift, sign, short)
    unpublished = (program.unpublished_more_w > 0) | (program.unpublished_less_w > 0)
    empty = program.balance.empty & (short == 0) & ~unpublished
    return Optimum(
        quantity_w=plain.quantity_w,
        witness_w=displaced.quantity_w,
        energy_price=np.where(empty, 0.0, displaced.energy_price),
        shadow_price=_denoised(displaced.shadow_price, program.line_violation_micro_per_mwh),
        imbalance_w=plain.imbalance_w,
        violation_w=plain.violation_w,
        balance_sign=sign,
    )


def _displaced(
    program: FlowgateProgram, model: _LazyProgram, shift: FloatArray, sign: IntArray, short: FloatArray
) -> tuple[_Partial, IntArray]:
    """The displaced optimum, and the signs it took: where links tie the room of components together a component
    whose balance had to be stretched is displaced the other way, then not at all. One that is `short` (+1 too
    little, -1 too much) before any displacement stays so."""
    linked = program.balance.linked
    while True:
        moved = shift.copy()
        moved[: len(sign)] = np.where(short == 0, shift[: len(sign)] * sign, short * DISPLACEMENT_MAX_W)
        displaced = model.solve_anyway(moved)
        stuck = model.stretched_in_vain(displaced.imbalance_w) & (short == 0) & (sign != 0)
        if not stuck.any():
            return displaced, sign
        if (stuck & linked).any():
            stuck = stuck | (linked & (sign != 0))
        sign = np.where(stuck, np.where(sign == 1, -1, 0), sign)


def _balance_sign(program: FlowgateProgram, quantity_w: FloatArray, shift: FloatArray) -> IntArray:
    """+1 where the displacement of a component has room, -1 where only the opposite one has, 0 where neither."""
    more, less = program.balance.room(quantity_w, program.lower_w, program.upper_w)
    more, less = more + program.unpublished_more_w, less + program.unpublished_less_w
    wanted, other = np.where(shift > 0, more, less), np.where(shift > 0, less, more)
    return np.where(wanted >= ROOM_W, 1, np.where(other >= ROOM_W, -1, 0))


@dataclass(frozen=True)
class _Partial:
    """One solution of the lazy program; prices in micro-units per MWh, all gates present."""

    quantity_w: FloatArray
    energy_price: FloatArray
    shadow_price: FloatArray
    imbalance_w: FloatArray
    violation_w: FloatArray


class _LazyProgram:
    """The program with only some of its gate rows in the solver; rows are elastic pairs of slack columns."""

    def __init__(self, program: FlowgateProgram, likely: BoolArray | None) -> None:
        self._program = program
        gates, components = len(program.factors), program.component_count
        self._rows = np.arange(gates) if likely is None or gates <= FEW_GATES else np.flatnonzero(likely)
        penalty = np.full(components, self._line_price * BALANCE_PRICE_FACTOR)
        lower, upper = self._balance_bounds(np.zeros(components + gates))
        self._model = LinearProgram(
            cost=np.concatenate([program.price_micro_per_mwh / MICRO, penalty, penalty]),
            matrix=program.balance.matrix_with_slacks(),
            row_lower=lower,
            row_upper=upper,
            column_lower=np.concatenate([program.lower_w / POWER_UNIT_W, np.zeros(2 * components)]),
            column_upper=np.concatenate([program.upper_w / POWER_UNIT_W, self._slack_upper()]),
            presolve=False,
        )
        self._blocks: list[int] = []
        self._append(self._rows, np.zeros(components + gates))

    def _slack_upper(self) -> FloatArray:
        """Bounds of the balance slacks, first those that stand in for more injection, then for less."""
        program = self._program
        missing = np.concatenate([program.unpublished_more_w, program.unpublished_less_w])
        return np.where(missing > 0, np.inf, 0.0)

    @property
    def _line_price(self) -> float:
        return self._program.line_violation_micro_per_mwh / MICRO

    def _balance_bounds(self, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
        right_hand_side = (shift[: self._program.component_count] - self._program.base_w) / POWER_UNIT_W
        return right_hand_side, right_hand_side

    def _gate_bounds(self, gates: IntArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
        program = self._program
        wider, base = np.abs(shift[program.component_count + gates]), program.gate_base_w[gates]
        return (program.gate_min_w[gates] - wider - base) / POWER_UNIT_W, (
            program.gate_max_w[gates] + wider - base
        ) / POWER_UNIT_W

    def _append(self, gates: IntArray, shift: FloatArray) -> None:
        lower, upper = self._gate_bounds(gates, shift)
        penalty = np.full(len(gates), self._line_price)
        self._model.add_elastic_rows(self._program.factors[gates], lower, upper, penalty)
        self._blocks.append(len(gates))

    def solve_anyway(self, shift: FloatArray) -> _Partial:
        """As `solve`; where nothing keeps all balances, with every one elastic, to show which ones fail."""
        try:
            return self.solve(shift)
        except InfeasibleError:
            upper = self._slack_upper()
            self._bound_slacks(np.full_like(upper, np.inf))
            partial = self.solve(shift)
            self._bound_slacks(upper)
            return partial

    def _bound_slacks(self, upper: FloatArray) -> None:
        self._model.set_column_upper(len(self._program.price_micro_per_mwh), upper)

    def stretched_in_vain(self, imbalance_w: FloatArray) -> BoolArray:
        """Components whose balance was stretched although no unpublished step could have mended it."""
        program = self._program
        lacks = (imbalance_w < -LAZY_TOLERANCE_W) & (program.unpublished_more_w == 0)
        abounds = (imbalance_w > LAZY_TOLERANCE_W) & (program.unpublished_less_w == 0)
        return np.asarray(lacks | abounds)

    def solve(self, shift: FloatArray) -> _Partial:
        """The optimum under right-hand sides displaced by `shift` (W), over balance rows and gates."""
        lower, upper = self._balance_bounds(shift)
        gate_lower, gate_upper = self._gate_bounds(self._rows, shift)
        self._model.set_row_bounds(np.concatenate([lower, gate_lower]), np.concatenate([upper, gate_upper]))
        while True:
            solution, quantity_w, flow_w = self._accurate(shift)
            new = self._violated(flow_w, shift)
            if not new.size:
                return self._partial(solution, quantity_w)
            self._append(new, shift)
            self._rows = np.concatenate([self._rows, new])

    def _accurate(self, shift: FloatArray) -> tuple[Solution, FloatArray, FloatArray]:
        """An optimum with its quantities and gate flows (W), solved ever more carefully until it holds its rows.

        The solver's tolerances are those of its scaled problem, and its row activities drift from the matrix when
        rows are added to a basis; so both are judged here, against the program itself.
        """
        for solve in (self._model.solve, self._model.solve_unscaled, self._model.solve_afresh):
            solution = solve()
            quantity_w = solution.columns[: len(self._program.price_micro_per_mwh)] * POWER_UNIT_W
            flow_w = self._program.factors @ quantity_w
            missed_w = self._missed_w(solution, quantity_w, flow_w, shift)
            if missed_w <= MISS_W:
                break
            _LOG.warning("%s missed a row by %.0f W (%d rows)", solve.__name__, missed_w, len(self._rows))
        return solution, quantity_w, flow_w

    def _missed_w(self, solution: Solution, quantity_w: FloatArray, flow_w: FloatArray, shift: FloatArray) -> float:
        """How far a solution misses a row in the solver, slack columns included."""
        lower, upper = self._balance_bounds(shift)
        gate_lower, gate_upper = self._gate_bounds(self._rows, shift)
        activity = np.concatenate([self._program.balance.sums(quantity_w), flow_w[self._rows]]) - self._stretch(
            solution
        )
        below = np.concatenate([lower, gate_lower]) * POWER_UNIT_W - activity
        above = activity - np.concatenate([upper, gate_upper]) * POWER_UNIT_W
        return float(np.maximum(below, above).max(initial=0.0))

    def _violated(self, flow_w: FloatArray, shift: FloatArray) -> IntArray:
        """Gates outside the solver whose limit these flows exceed."""
        outside = np.ones(len(flow_w), dtype=np.bool_)
        outside[self._rows] = False
        gates = np.flatnonzero(outside)
        lower, upper = self._gate_bounds(gates, shift)
        excess = np.maximum(flow_w[gates] - upper * POWER_UNIT_W, lower * POWER_UNIT_W - flow_w[gates])
        return gates[excess > LAZY_TOLERANCE_W]

    def _partial(self, solution: Solution, quantity_w: FloatArray) -> _Partial:
        program = self._program
        components, gates = program.component_count, len(program.factors)
        stretch = self._stretch(solution)
        shadow_price, violation_w = np.zeros(gates), np.zeros(gates)
        shadow_price[self._rows] = solution.duals[components:] * MICRO
        violation_w[self._rows] = stretch[components:]
        return _Partial(
            quantity_w, solution.duals[:components] * MICRO, shadow_price, stretch[:components], violation_w
        )

    def _stretch(self, solution: Solution) -> FloatArray:
        """How far each row in the solver was stretched, W: the slack columns stand in pairs of blocks."""
        first = len(self._program.price_micro_per_mwh)
        parts = []
        for size in (self._program.component_count, *self._blocks):
            up, down = solution.columns[first : first + size], solution.columns[first + size : first + 2 * size]
            parts.append((down - up) * POWER_UNIT_W)
            first += 2 * size
        return np.concatenate(parts)


def _denoised(shadow_price: FloatArray, ceiling: float) -> FloatArray:
    """Duals without the solver's tolerance: zero where they are noise, at most what a violation costs."""
    size = np.abs(shadow_price)
    noise = max(DUAL_NOISE_MICRO, DUAL_NOISE_SHARE * float(size.max(initial=0.0)))
    return np.clip(np.where(size < noise, 0.0, shadow_price), -ceiling, ceiling)
