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

from coordinator.market.certificate import CertificateError, price_tolerance
from coordinator.market.component_balance import ComponentBalance
from coordinator.market.coupling.wire import HUB, expect, from_bitmap, integers, overwritten, scattered
from coordinator.market.fixed_point import PRICE_BITS, row_dots
from coordinator.market.flowgate_program import BALANCE_PRICE_FACTOR, ROOM_W
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import BoolArray, IntArray

WITNESS_TOLERANCE_FINE = 4 << 10
"""A witness may miss a row or a bound by 4 W; displacements are 16 W and more."""


@dataclass(frozen=True)
class DisplacedProblem:
    """The public problem of a round in integers; columns are published steps region by region, then links."""

    price_micro_per_mwh: IntArray
    lower_w: IntArray
    upper_w: IntArray
    balance: ComponentBalance
    factors: IntArray
    base_w: IntArray
    loading_fine: IntArray
    gate_min_w: IntArray
    gate_max_w: IntArray
    row_names: Sequence[str]
    displacement_w: IntArray
    line_violation_micro_per_mwh: int
    region_sizes: Sequence[int]
    unpublished_more_w: IntArray
    unpublished_less_w: IntArray


def check_price_rule(problem: DisplacedProblem, result: pb.IntervalResult) -> bool:
    """Raise CertificateError unless the result's prices are duals of the displaced problem.

    True when they are provably the only ones; False where even the displaced optimum is degenerate.
    """
    witness, shadow = witness_fine(problem, result), _shadow_price(problem, result)
    _check_bounds(problem, witness)
    missed = _missed_fine(problem, witness, _signed_displacement(problem, result))
    _refuse_missed(problem, missed, np.abs(missed) > WITNESS_TOLERANCE_FINE)
    _check_gates(problem, witness, shadow, WITNESS_TOLERANCE_FINE)
    inside = _check_reduced_costs(problem, witness, integers(result.energy_price), shadow, WITNESS_TOLERANCE_FINE)
    return inside == len(problem.base_w) + int(np.count_nonzero(shadow))


def check_round_prices(problem: DisplacedProblem, result: pb.IntervalResult, tolerance_fine: int) -> None:
    """As `check_price_rule`, for any round: a balance may be missed at the price that a missed balance has.

    In a component whose announced balance is missed no displacement is asked for. Raises CertificateError.
    """
    witness, shadow, energy = (
        witness_fine(problem, result),
        _shadow_price(problem, result),
        integers(result.energy_price),
    )
    _check_bounds(problem, witness)
    missed = _missed_fine(problem, witness, _signed_displacement(problem, result))
    ceiling = round(problem.line_violation_micro_per_mwh * BALANCE_PRICE_FACTOR) << PRICE_BITS
    called_for = np.abs(energy) >= ceiling - price_tolerance(energy, shadow)
    imbalance = integers(result.imbalance_w)
    dear = called_for & (np.sign(energy) == -np.sign(np.where(imbalance == 0, missed, imbalance)))
    _refuse_missed(problem, missed, ((np.abs(missed) > tolerance_fine) | (imbalance != 0)) & ~dear)
    _check_gates(problem, witness, shadow, tolerance_fine)
    _check_reduced_costs(problem, witness, energy, shadow, tolerance_fine)


def _shadow_price(problem: DisplacedProblem, result: pb.IntervalResult) -> IntArray:
    return scattered(len(problem.gate_min_w), result.priced_gate, result.shadow_price, HUB, "shadow prices")


def witness_fine(problem: DisplacedProblem, result: pb.IntervalResult) -> IntArray:
    """The witness in 2**-10 W: the acceptance, with the moves that the result lists."""
    accepted = accepted_w(problem, result)
    parts, first = [], 0
    for size, acceptance in zip(problem.region_sizes, result.acceptances, strict=True):
        taken = accepted[first : first + size] << 10
        parts.append(overwritten(taken, acceptance.moved, acceptance.witness_fine, HUB, "witness"))
        first += size
    expect(len(result.link_witness_fine) == len(accepted) - first, HUB, "the witness does not cover every link")
    return np.concatenate([*parts, integers(result.link_witness_fine)])


def accepted_w(problem: DisplacedProblem, result: pb.IntervalResult) -> IntArray:
    """Accepted quantities of all columns."""
    parts, first = [], 0
    for size, acceptance in zip(problem.region_sizes, result.acceptances, strict=True):
        taken = np.where(from_bitmap(acceptance.full, size), problem.upper_w[first : first + size], 0)
        parts.append(overwritten(taken, acceptance.partial, acceptance.partial_w, HUB, "partial acceptance"))
        first += size
    return np.concatenate([*parts, integers(result.link_w)])


def _signed_displacement(problem: DisplacedProblem, result: pb.IntervalResult) -> IntArray:
    """Displacements of the balance rows; another sign than the hash's needs that there was no room for it.

    Components that controllable links join are not judged: their room depends on each other's.
    """
    rows = len(problem.base_w)
    sign = integers(result.balance_sign)
    expect(len(sign) == rows and bool((np.abs(sign) <= 1).all()), HUB, "balance signs must be -1, 0 or 1 a component")
    hashed = problem.displacement_w[:rows]
    bounds = problem.lower_w.astype(np.float64), problem.upper_w.astype(np.float64)
    more, less = problem.balance.room(accepted_w(problem, result).astype(np.float64), *bounds)
    more, less = more + problem.unpublished_more_w, less + problem.unpublished_less_w
    wanted, other = np.where(hashed > 0, more, less), np.where(hashed > 0, less, more)
    roomy = ((sign < 1) & (wanted > 2 * ROOM_W)) | ((sign == 0) & (other > 2 * ROOM_W))
    unjust = np.flatnonzero(roomy & ~problem.balance.linked)
    if unjust.size:
        name = problem.row_names[int(unjust[0])]
        raise CertificateError("price rule", name, "displaced otherwise than its hash says although there was room")
    return hashed * sign


def _check_bounds(problem: DisplacedProblem, witness: IntArray) -> None:
    bad = np.flatnonzero((witness < problem.lower_w << 10) | (witness > problem.upper_w << 10))
    if bad.size:
        raise CertificateError("price rule", f"published step {bad[0]}", "the witness is outside the step")


def _missed_fine(problem: DisplacedProblem, witness: IntArray, displacement_w: IntArray) -> IntArray:
    """How much more than it should the witness injects into each component."""
    return problem.balance.exact_sums(witness) + ((problem.base_w - displacement_w) << 10)


def _refuse_missed(problem: DisplacedProblem, missed_fine: IntArray, refused: BoolArray) -> None:
    for row in np.flatnonzero(refused)[:1]:
        said = f"the witness misses the displaced balance by {missed_fine[row] >> 10} W"
        raise CertificateError("price rule", problem.row_names[int(row)], said)


def _check_gates(problem: DisplacedProblem, witness: IntArray, shadow: IntArray, tolerance_fine: int) -> None:
    """Flows of the witness within displaced limits; a shadow price only at the limit whose sign it bears."""
    wider = np.abs(problem.displacement_w[len(problem.base_w) :])
    flow = row_dots(problem.factors, witness) + problem.loading_fine
    below = flow - ((problem.gate_min_w - wider) << 10)
    above = ((problem.gate_max_w + wider) << 10) - flow
    ceiling, tolerance = problem.line_violation_micro_per_mwh << PRICE_BITS, price_tolerance(shadow)
    size, misses = np.abs(shadow), np.minimum(below, above) < -tolerance_fine
    slack = np.where(shadow > 0, below, above) > tolerance_fine
    for wrong, said in (
        (size > ceiling + tolerance, "shadow price beyond the line violation price"),
        ((size < ceiling - tolerance) & misses, "the witness exceeds the displaced limit"),
        ((shadow != 0) & slack, "a shadow price on a limit that does not bind"),
    ):
        if wrong.any():
            name = problem.row_names[len(problem.base_w) + int(np.flatnonzero(wrong)[0])]
            raise CertificateError("price rule", f"flowgate {name}", said)


def _check_reduced_costs(
    problem: DisplacedProblem, witness: IntArray, energy: IntArray, shadow: IntArray, tolerance_fine: int
) -> int:
    """The number of columns strictly inside their bounds; raises for a reduced cost of the wrong sign."""
    value = problem.balance.worth(energy)
    priced = np.flatnonzero(shadow)
    weighted = row_dots(problem.factors[priced].T, shadow[priced])
    reduced = (problem.price_micro_per_mwh << PRICE_BITS) - value - weighted
    tolerance = price_tolerance(energy, shadow)
    low = witness <= (problem.lower_w << 10) + tolerance_fine
    high = witness >= (problem.upper_w << 10) - tolerance_fine
    wrong = np.flatnonzero((~high & (reduced < -tolerance)) | (~low & (reduced > tolerance)))
    if wrong.size:
        raise CertificateError(
            "price rule",
            f"published step {wrong[0]}",
            "the announced prices are not those of the displaced problem",
        )
    return int(np.count_nonzero(~low & ~high))
