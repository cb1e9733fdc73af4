"""The price rule, checked in public integers: the announced duals are those of the displaced problem.

Step curves often leave an interval of optimal prices. The rule takes the duals of the problem whose right-hand
sides are displaced by public, hash-derived watts (`flowgate_program.displacement_w`): displaced that way its
optimum is not degenerate, so its duals are unique, and neither a solver nor a proposer has a choice. The proof
is the displaced problem's solution (the witness): together with the announced duals it must satisfy the
optimality conditions of the displaced problem, and if as many columns lie strictly between their bounds as
there are binding rows, no other duals do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from coordinator.market.certificate import CertificateError
from coordinator.market.coupling.wire import from_bitmap, integers
from coordinator.market.fixed_point import PRICE_BITS, multiply
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray

WITNESS_TOLERANCE_FINE = 4 << 10
"""A witness may miss a row or a bound by 4 W; displacements are 16 W and more."""
DUAL_TOLERANCE = 1 << (PRICE_BITS - 4)
"""A reduced cost of 1/16 micro-unit per MWh counts as zero."""


@dataclass(frozen=True)
class DisplacedProblem:
    """The public problem of a round in integers; columns are published steps region by region, then links."""

    price_micro_per_mwh: IntArray
    lower_w: IntArray
    upper_w: IntArray
    balance: sp.csr_matrix
    factors: IntArray
    base_w: IntArray
    loading_fine: IntArray
    gate_min_w: IntArray
    gate_max_w: IntArray
    row_names: Sequence[str]
    displacement_w: IntArray
    line_violation_micro_per_mwh: int
    region_sizes: Sequence[int]


def check_price_rule(problem: DisplacedProblem, result: pb.IntervalResult) -> bool:
    """Raise CertificateError unless the result's prices are duals of the displaced problem.

    True when they are provably the only ones; False where even the displaced optimum is degenerate.
    """
    witness = witness_fine(problem, result)
    shadow = np.zeros(len(problem.gate_min_w), dtype=np.int64)
    shadow[list(result.priced_gate)] = integers(result.shadow_price)
    _check_bounds(problem, witness)
    _check_balance_rows(problem, witness)
    _check_gates(problem, witness, shadow)
    inside = _check_reduced_costs(problem, witness, integers(result.energy_price), shadow)
    return inside == len(problem.base_w) + int(np.count_nonzero(shadow))


def witness_fine(problem: DisplacedProblem, result: pb.IntervalResult) -> IntArray:
    """The witness in 2**-10 W: the acceptance, with the moves that the result lists."""
    parts = []
    first = 0
    for size, acceptance in zip(problem.region_sizes, result.acceptances, strict=True):
        width = problem.upper_w[first : first + size]
        taken = np.where(from_bitmap(acceptance.full, size), width, 0)
        taken[list(acceptance.partial)] = integers(acceptance.partial_w)
        taken <<= 10
        taken[list(acceptance.moved)] = integers(acceptance.witness_fine)
        parts.append(taken)
        first += size
    return np.concatenate([*parts, integers(result.link_witness_fine)])


def _check_bounds(problem: DisplacedProblem, witness: IntArray) -> None:
    bad = np.flatnonzero((witness < problem.lower_w << 10) | (witness > problem.upper_w << 10))
    if bad.size:
        raise CertificateError("price rule", f"published step {bad[0]}", "the witness is outside the step")


def _check_balance_rows(problem: DisplacedProblem, witness: IntArray) -> None:
    coefficients = problem.balance.astype(np.int64)
    rows = len(problem.base_w)
    miss = coefficients @ witness + ((problem.base_w - problem.displacement_w[:rows]) << 10)
    bad = np.flatnonzero(np.abs(miss) > WITNESS_TOLERANCE_FINE)
    if bad.size:
        name = problem.row_names[int(bad[0])]
        raise CertificateError(
            "price rule", name, f"the witness misses the displaced balance by {miss[bad[0]] >> 10} W"
        )


def _check_gates(problem: DisplacedProblem, witness: IntArray, shadow: IntArray) -> None:
    """Flows of the witness within displaced limits; a shadow price only at the limit whose sign it bears."""
    first = len(problem.base_w)
    ceiling = problem.line_violation_micro_per_mwh << PRICE_BITS
    for gate in range(len(shadow)):
        flow = multiply(problem.factors[gate], witness).total() >> 40
        flow += int(problem.loading_fine[gate]) - (int(problem.displacement_w[first + gate]) << 10)
        below = flow - (int(problem.gate_min_w[gate]) << 10)
        above = (int(problem.gate_max_w[gate]) << 10) - flow
        mu, name = int(shadow[gate]), problem.row_names[first + gate]
        if abs(mu) > ceiling + DUAL_TOLERANCE:
            raise CertificateError("price rule", f"flowgate {name}", "shadow price beyond the line violation price")
        if abs(mu) < ceiling - DUAL_TOLERANCE and min(below, above) < -WITNESS_TOLERANCE_FINE:
            raise CertificateError("price rule", f"flowgate {name}", "the witness exceeds the displaced limit")
        if (mu > 0 and below > WITNESS_TOLERANCE_FINE) or (mu < 0 and above > WITNESS_TOLERANCE_FINE):
            raise CertificateError("price rule", f"flowgate {name}", "a shadow price on a limit that does not bind")


def _check_reduced_costs(problem: DisplacedProblem, witness: IntArray, energy: IntArray, shadow: IntArray) -> int:
    """The number of columns strictly inside their bounds; raises for a reduced cost of the wrong sign."""
    value = problem.balance.T.astype(np.int64) @ energy
    weighted = multiply(np.zeros_like(witness), witness)
    for gate in np.flatnonzero(shadow):
        weighted = weighted + multiply(problem.factors[gate], np.full_like(witness, shadow[gate]))
    reduced = (problem.price_micro_per_mwh << PRICE_BITS) - value - weighted.rounded()
    low = witness <= (problem.lower_w << 10) + WITNESS_TOLERANCE_FINE
    high = witness >= (problem.upper_w << 10) - WITNESS_TOLERANCE_FINE
    wrong = np.flatnonzero((~high & (reduced < -DUAL_TOLERANCE)) | (~low & (reduced > DUAL_TOLERANCE)))
    if wrong.size:
        raise CertificateError(
            "price rule",
            f"published step {wrong[0]}",
            "the announced prices are not those of the displaced problem",
        )
    return int(np.count_nonzero(~low & ~high))
