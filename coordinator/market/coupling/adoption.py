"""Checks of what another hub announces, so that a result can be taken over instead of being computed again.

A result is judged in integers over the public problem of the round: quantities within their bounds, imbalances and
violations that follow from them, prices by the price rule, and an acceptance that is optimal at these prices. A false
imbalance is refused as well: only the price of a missed balance excuses one, and at that price everything on offer
is taken.

Flowgate rows come from the boundary impedance, an inverse in floating point, so the two machines' own numbers differ
in their last bits. Where such a number is compared with a bound, a verifier asks for `VERIFIER_MARGIN_FINE` more than
the tally does: what one hub took over, the tally of no hub refuses.
"""

from __future__ import annotations

import numpy as np

from coordinator.market.certificate import CertificateError, dearest_micro_per_mwh, gap_micro_per_h
from coordinator.market.coupling.announcement import Announcement, check_canonical
from coordinator.market.coupling.price_rule import WITNESS_TOLERANCE_FINE, DisplacedProblem, check_round_prices
from coordinator.market.coupling.round_problem import RoundProblem
from coordinator.market.coupling.wire import FINE_BITS
from coordinator.market.fixed_point import PRICE_BITS, FixedPointRangeError, dot, exact_sum, multiply, row_dots
from coordinator.market.offers import MICRO, MarketRules
from topology.arrays import IntArray

VERIFIER_MARGIN_FINE = 64
"""A sixteenth of a watt: a thousand times what rounding moves the flow of 100 GW by."""


def check_announcement(problem: RoundProblem, announced: Announcement, rules: MarketRules) -> None:
    """Raise ProtocolError or CertificateError, naming the element, unless a result holds for the problem."""
    try:
        _check_quantities(problem, announced, rules)
        check_canonical(problem, announced)
        tolerance_fine = WITNESS_TOLERANCE_FINE - VERIFIER_MARGIN_FINE
        check_round_prices(problem.displaced, announced.message, tolerance_fine)
        _check_gap(problem.displaced, announced, rules)
    except FixedPointRangeError as error:
        raise CertificateError("range", "the round's result", str(error)) from error


def _check_quantities(problem: RoundProblem, announced: Announcement, rules: MarketRules) -> None:
    displaced = problem.displaced
    quantity = np.concatenate([announced.accepted_w, announced.link_w])
    outside = np.flatnonzero((quantity < displaced.lower_w) | (quantity > displaced.upper_w))
    if outside.size:
        first = int(outside[0])
        link = first - problem.step_count
        element = f"controllable link {link}" if link >= 0 else f"published step {first}"
        limits = f"{displaced.lower_w[first]} W and {displaced.upper_w[first]} W"
        raise CertificateError("range", element, f"{quantity[first]} W is not between {limits}")
    missed = displaced.base_w + displaced.balance.exact_sums(quantity) - announced.imbalance_w
    for row in np.flatnonzero(missed)[:1]:
        said = f"its imbalance is {announced.imbalance_w[row] + missed[row]} W, not {announced.imbalance_w[row]} W"
        raise CertificateError("balance", displaced.row_names[row], said)
    _check_violations(displaced, announced, quantity, rules)


def _check_violations(
    displaced: DisplacedProblem, announced: Announcement, quantity: IntArray, rules: MarketRules
) -> None:
    """Every flow is within its limits by the announced violation, and no violation is more than the excess."""
    if not len(displaced.gate_min_w):
        return
    flow = _flow_fine(displaced, quantity)
    low, high = displaced.gate_min_w << FINE_BITS, displaced.gate_max_w << FINE_BITS
    excess = np.maximum(0, np.maximum(flow - high, low - flow))
    miss = excess - (announced.violation_w << FINE_BITS)
    worst = int(np.abs(miss).argmax())
    if abs(int(miss[worst])) > (rules.tolerance_w << FINE_BITS) - VERIFIER_MARGIN_FINE:
        said = f"exceeds its limit by {excess[worst] >> FINE_BITS} W, {announced.violation_w[worst]} W are announced"
        raise CertificateError("limit", f"flowgate {displaced.row_names[len(displaced.base_w) + worst]}", said)


def _flow_fine(displaced: DisplacedProblem, quantity: IntArray) -> IntArray:
    return row_dots(displaced.factors, quantity << FINE_BITS) + displaced.loading_fine


def _check_gap(displaced: DisplacedProblem, announced: Announcement, rules: MarketRules) -> None:
    """The acceptance is as good as the prices prove to be possible, within the tolerance of a whole interval."""
    quantity, steps = np.concatenate([announced.accepted_w, announced.link_w]), len(announced.accepted_w)
    energy, mu = announced.energy_price, announced.shadow_price
    reduced = (displaced.price_micro_per_mwh << PRICE_BITS) - displaced.balance.worth(energy)
    reduced = reduced - row_dots(displaced.factors.T, mu)
    terms = multiply(reduced, quantity - np.where(reduced > 0, displaced.lower_w, displaced.upper_w))
    limit = np.where(mu > 0, displaced.gate_min_w, displaced.gate_max_w) << FINE_BITS
    gates = dot(mu, np.where(mu != 0, _flow_fine(displaced, quantity) - limit, 0)) >> FINE_BITS
    gates += (displaced.line_violation_micro_per_mwh << PRICE_BITS) * exact_sum(announced.violation_w)
    cost = dot(np.abs(displaced.price_micro_per_mwh), np.abs(quantity)) // MICRO
    offered, widths = displaced.price_micro_per_mwh[:steps], displaced.upper_w[:steps]
    dearest = dearest_micro_per_mwh(offered, widths, announced.accepted_w, energy, mu)
    gap, allowed = gap_micro_per_h(terms.total() + gates), rules.gap_tolerance_micro_per_h(cost, dearest)
    if gap > allowed:
        worst = int(terms.high.argmax()) if len(quantity) else 0
        element = f"published step {worst}" if worst < steps else f"controllable link {worst - steps}"
        raise CertificateError("gap", element, f"the acceptance misses {gap} micro-units per hour, {allowed} may be")
