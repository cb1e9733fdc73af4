"""The clearing problem seen through flowgates: one balance row a component, one row an active limit.

    min  price . x   subject to   sum over x in component c   = -base_c
                                  gate_min <= base_g + factors_g . x <= gate_max
                                  x_min <= x <= x_max

This is flow-based market coupling made nodal. Every region's hub solves it over what was published; the
central reference solves it over everything. Gate rows are elastic at the line violation price, the balance at
ten times that, so that a problem with steps still unpublished has an optimum whose prices call for them.

The optimal duals of a step-curve problem often form an interval. The price rule picks one in public: the
duals of the same problem with its right-hand sides displaced by `displacement_w`, amounts derived by hash
from the interval and the row, fixed before any offer is seen. `Optimum.witness` is the displaced problem's
solution, by which anyone can check the duals (see `coordinator.market.price_rule`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from coordinator.market.linear_program import LinearProgram, Solution
from coordinator.market.offers import MICRO
from topology.arrays import FloatArray

POWER_UNIT_W = 1e8
BALANCE_PRICE_FACTOR = 10.0
DISPLACEMENT_MIN_W = 16
DISPLACEMENT_MAX_W = 63


def displacement_w(seed: bytes, row: str) -> int:
    """The public displacement of one row's right-hand side: 16 to 63 W, either sign, by SHA-256."""
    digest = hashlib.sha256(b"gridaccord price rule\0" + seed + b"\0" + row.encode()).digest()
    size = DISPLACEMENT_MIN_W + digest[0] % (DISPLACEMENT_MAX_W - DISPLACEMENT_MIN_W + 1)
    return size if digest[1] % 2 else -size


@dataclass(frozen=True)
class FlowgateProgram:
    """The public problem. Quantities in W, prices in micro-units per MWh, factors dimensionless.

    `factors` has shape (gates, columns). `component` gives the balance row of each column as a sparse
    coefficient matrix of shape (components, columns): +1 for an injection there, and for a controllable link
    -1 and +1 where its ends lie in different components. `row_names` name balance rows, then gates.
    """

    price_micro_per_mwh: FloatArray
    lower_w: FloatArray
    upper_w: FloatArray
    balance: sp.csr_matrix
    factors: FloatArray
    base_w: FloatArray
    gate_base_w: FloatArray
    gate_min_w: FloatArray
    gate_max_w: FloatArray
    row_names: Sequence[str]
    line_violation_micro_per_mwh: int

    @property
    def component_count(self) -> int:
        """Number of balance rows."""
        return int(self.balance.shape[0])


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


def solve_flowgates(program: FlowgateProgram, seed: bytes) -> Optimum:
    """Solve, then solve again with displaced right-hand sides, warm, for the duals of the price rule."""
    count = len(program.price_micro_per_mwh)
    lower = np.concatenate([-program.base_w, program.gate_min_w - program.gate_base_w]) / POWER_UNIT_W
    upper = np.concatenate([-program.base_w, program.gate_max_w - program.gate_base_w]) / POWER_UNIT_W
    model = _linear_program(program, lower, upper)
    plain = model.solve()
    shift = np.array([displacement_w(seed, name) for name in program.row_names], dtype=np.float64) / POWER_UNIT_W
    model.set_row_bounds(lower + shift, upper + shift)
    displaced = model.solve()
    stretch = _stretch(program, plain, count)
    return Optimum(
        quantity_w=plain.columns[:count] * POWER_UNIT_W,
        witness_w=displaced.columns[:count] * POWER_UNIT_W,
        energy_price=displaced.duals[: program.component_count] * MICRO,
        shadow_price=displaced.duals[program.component_count :] * MICRO,
        imbalance_w=stretch[: program.component_count],
        violation_w=stretch[program.component_count :],
    )


def _linear_program(program: FlowgateProgram, lower: FloatArray, upper: FloatArray) -> LinearProgram:
    rows = program.component_count + len(program.factors)
    elastic = sp.identity(rows, format="csc")
    matrix = sp.hstack([sp.vstack([program.balance, sp.csr_matrix(program.factors)]), elastic, -elastic], format="csc")
    line_price = program.line_violation_micro_per_mwh / MICRO
    penalty = np.full(rows, line_price)
    penalty[: program.component_count] *= BALANCE_PRICE_FACTOR
    slack_lower, slack_upper = np.zeros(2 * rows), np.full(2 * rows, np.inf)
    return LinearProgram(
        cost=np.concatenate([program.price_micro_per_mwh / MICRO, penalty, penalty]),
        matrix=matrix,
        row_lower=lower,
        row_upper=upper,
        column_lower=np.concatenate([program.lower_w / POWER_UNIT_W, slack_lower]),
        column_upper=np.concatenate([program.upper_w / POWER_UNIT_W, slack_upper]),
    )


def _stretch(program: FlowgateProgram, solution: Solution, count: int) -> FloatArray:
    rows = program.component_count + len(program.factors)
    up, down = solution.columns[count : count + rows], solution.columns[count + rows :]
    return (down - up) * POWER_UNIT_W
