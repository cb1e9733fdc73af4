"""The integer certificate: is this clearing feasible, and how much welfare can it have missed?

`verify` recomputes nothing that a solver found; it checks, in integers that are the same on every machine:

1. range       every accepted quantity lies between 0 and its width, every link within its limits;
2. balance     accepted injections sum to zero exactly in each AC component;
3. bus         at every bus the injection equals the outgoing flows within `tolerance_w`, angles within ANGLE_BOX_RAD;
4. limit       every flow is within its limits by `tolerance_w` (or by a violation that is published by name);
5. price       every LMP follows from the shadow prices: lambda = lambda_0 + sum mu * h, to `price_tolerance`;
6. gap         the welfare gap is within the rules' tolerance.

The gap is a sum of terms none of which can be negative beyond rounding (weak duality, Neumaier and Shcherbina,
"Safe bounds in linear and mixed-integer linear programming", Math. Program. 99, 2004):

* step   (c - lambda) p - min(0, c - lambda) w   accepted although too dear, or refused although cheap
* line   mu * flow - mu+ * min - mu- * max       a shadow price on a limit that does not bind, or of the wrong sign
* link   what the link could still earn
* bus    |dual residual| * angle box + |lambda| * |power residual|   rounding of angles and prices

so a gap that is too large has a term to blame, and the error names it. With each term at zero these are the
optimality conditions of the clearing problem.

A region checks its own part with `certify_region`; the parts and the public tie terms add up to the whole
(`coordinator.market.coupling.public`). A whole network is one region without ties.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from coordinator.market.clearing import Clearing, Problem
from coordinator.market.fixed_point import (
    ANGLE_BITS,
    PRICE_BITS,
    FixedPointRangeError,
    WideArray,
    dot,
    exact_sum,
    multiply,
    widened,
)
from coordinator.market.offers import MICRO, Objective, StepKind
from topology.arrays import IntArray
from topology.dc import UNLIMITED_W

ANGLE_BOX_RAD = 256
"""Public bound on the spread of angles in a component. It multiplies only rounding residuals."""
_PRICE_TOLERANCE = 1 << (PRICE_BITS - 4)
_PRICE_TOLERANCE_SHIFT = 34
_RESIDUAL_BITS = 10
_MICRO_SCALE = MICRO << PRICE_BITS


class CertificateError(ValueError):
    """A clearing that does not hold. `condition` is one of the module's list, `element` the bus, line or step."""

    def __init__(self, condition: str, element: str, problem: str) -> None:
        self.condition = condition
        self.element = element
        super().__init__(f"certificate refused ({condition}): {element}: {problem}")


@dataclass(frozen=True)
class TieTerms:
    """The tie-lines of one region as its certificate needs them; one entry an end at an own bus.

    `sign` is +1 where the tie starts here. `flow_w` and `price_pull` (susceptance * dual slack, in fixed
    point) are computed from public integers, the same for both ends.
    """

    bus: IntArray
    sign: IntArray
    susceptance_w_per_rad: IntArray
    flow_exact: WideArray
    price_slack: IntArray

    @staticmethod
    def none() -> TieTerms:
        """A region without tie-lines."""
        empty = np.zeros(0, dtype=np.int64)
        return TieTerms(empty, empty, empty, WideArray(empty, empty), empty)


@dataclass(frozen=True)
class Certificate:
    """What was proven: the objective, and a bound on the welfare that can be missing.

    Objectives and `gap_exact` of the parts add up; `residual_w` and `overload_w` are the largest seen; `shed_w`
    and `curtailed_w` per bus id and `violation_w` per branch id name what could not be served.
    """

    objective: Objective
    gap_exact: int
    residual_w: int
    overload_w: int
    shed_w: dict[str, int] = field(default_factory=dict)
    curtailed_w: dict[str, int] = field(default_factory=dict)
    violation_w: dict[str, int] = field(default_factory=dict)

    @property
    def objective_micro_per_h(self) -> int:
        """The objective in whole micro-units per hour."""
        return self.objective.micro_per_h

    @property
    def gap_micro_per_h(self) -> int:
        """The welfare gap bound, rounded up."""
        return gap_micro_per_h(self.gap_exact)


def gap_micro_per_h(gap_exact: int) -> int:
    """An exact gap (W * price in fixed point) in micro-units per hour, rounded up."""
    return -(-gap_exact // _MICRO_SCALE)


def verify(problem: Problem, clearing: Clearing) -> Certificate:
    """The certificate of a whole clearing; raises CertificateError naming what fails. See the module."""
    _check_shapes(problem, clearing)
    _check_range(problem, clearing)
    _check_balance(problem, clearing)
    certificate = certify_region(problem, clearing, TieTerms.none(), clearing.injection_w(problem))
    certificate = replace(certificate, gap_exact=certificate.gap_exact + _link_terms(problem, clearing).total())
    steps, announced = problem.steps, (clearing.price, clearing.shadow_price)
    dearest = dearest_micro_per_mwh(steps.price_micro_per_mwh, steps.width_w, clearing.accepted_w, *announced)
    tolerance = problem.rules.gap_tolerance_micro_per_h(certificate.objective_micro_per_h, dearest)
    if certificate.gap_micro_per_h > tolerance:
        _blame(problem, clearing, certificate.gap_micro_per_h, tolerance)
    return certificate


def certify_region(problem: Problem, clearing: Clearing, ties: TieTerms, injection_w: IntArray) -> Certificate:
    """One region's part: everything but the balance of components and the judgement of the gap, which are public.

    `injection_w` is the net injection per own bus with the links that end here. Raises CertificateError.
    """
    network, steps, rules = problem.network, problem.steps, problem.rules
    _check_range(problem, clearing)
    flow_exact = _flow_exact(problem, clearing)
    flow_w = flow_exact.rounded() + network.shift_flow_w
    residual = _bus_residual(problem, clearing, ties, injection_w, flow_exact)
    overload = _check_limits(problem, clearing, flow_w)
    price_residual = _price_residual(problem, clearing, ties)
    bus_gap = dot(np.abs(clearing.price), residual) >> _RESIDUAL_BITS
    bus_gap += (2 * ANGLE_BOX_RAD) * price_residual.absolute().total()
    shed, curtailed = _unserved(problem, clearing)
    return Certificate(
        objective=Objective(
            steps.objective_exact(clearing.accepted_w)
            + exact_sum(clearing.violation_w) * rules.line_violation_micro_per_mwh
        ),
        gap_exact=_step_terms(problem, clearing).total() + _line_terms(problem, clearing, flow_w).total() + bus_gap,
        residual_w=int(residual.max(initial=0)) >> _RESIDUAL_BITS,
        overload_w=overload,
        shed_w=shed,
        curtailed_w=curtailed,
        violation_w={network.branch_ids[i]: int(clearing.violation_w[i]) for i in np.flatnonzero(clearing.violation_w)},
    )


def price_tolerance(*prices: IntArray) -> int:
    """How far an LMP may miss its formula: 1/16 micro-unit per MWh, and 2**-34 of the largest price around."""
    return _PRICE_TOLERANCE + (largest(*prices) >> _PRICE_TOLERANCE_SHIFT)


def dearest_micro_per_mwh(
    price_micro_per_mwh: IntArray, width_w: IntArray, accepted_w: IntArray, *announced: IntArray
) -> int:
    """What a watt can be worth: the largest LMP or shadow price announced, or the price of a step in use if larger.

    In use is a step with a positive price that is accepted, and one with a negative price that is refused, even in
    part: prices are those of an interval that differs by a few watts, so a step used for less may not set them.
    """
    in_use = np.where(price_micro_per_mwh > 0, accepted_w > 0, accepted_w < width_w)
    return max(-(-largest(*announced) >> PRICE_BITS), largest(price_micro_per_mwh[in_use]))


def largest(*arrays: IntArray) -> int:
    """The largest magnitude in these arrays."""
    return max(max(int(values.max(initial=0)), -int(values.min(initial=0))) for values in arrays)


def _flow_exact(problem: Problem, clearing: Clearing) -> WideArray:
    """Flows without phase shifts in 2**-40 W."""
    network = problem.network
    return multiply(network.susceptance_w_per_rad, clearing.angle[network.from_bus] - clearing.angle[network.to_bus])


def _check_shapes(problem: Problem, clearing: Clearing) -> None:
    network = problem.network
    expected = {
        "accepted_w": problem.steps.count,
        "angle": network.bus_count,
        "price": network.bus_count,
        "shadow_price": network.branch_count,
        "violation_w": network.branch_count,
        "link_w": len(network.link_ids),
    }
    for name, size in expected.items():
        actual = len(getattr(clearing, name))
        if actual != size:
            raise CertificateError("shape", name, f"has {actual} entries, the problem has {size}")


def _check_range(problem: Problem, clearing: Clearing) -> None:
    width = problem.steps.width_w
    if exact_sum(np.abs(clearing.accepted_w)) + exact_sum(problem.steps.withdrawal_w) >= 1 << 62:
        raise FixedPointRangeError("accepted quantities and withdrawals add up to more than 2**62 W")
    bad = np.flatnonzero((clearing.accepted_w < 0) | (clearing.accepted_w > width))
    if bad.size:
        step = int(bad[0])
        accepted = int(clearing.accepted_w[step])
        raise CertificateError("range", step_label(problem, step), f"{accepted} W accepted of {int(width[step])} W")
    if (clearing.violation_w < 0).any():
        branch = int(np.flatnonzero(clearing.violation_w < 0)[0])
        raise CertificateError("range", problem.network.branch_labels[branch], "a negative violation is published")


def _check_balance(problem: Problem, clearing: Clearing) -> None:
    network = problem.network
    for link in np.flatnonzero((clearing.link_w < network.link_min_w) | (clearing.link_w > network.link_max_w)):
        raise CertificateError("range", f"link {network.link_ids[link]}", f"carries {int(clearing.link_w[link])} W")
    net = np.zeros(int(network.components.max()) + 1, dtype=np.int64)
    np.add.at(net, network.components, clearing.injection_w(problem))
    for component in np.flatnonzero(net):
        first = network.bus_ids[int(np.flatnonzero(network.components == component)[0])]
        raise CertificateError(
            "balance", f"component of bus {first}", f"injections sum to {int(net[component])} W, not 0"
        )


def _link_terms(problem: Problem, clearing: Clearing) -> WideArray:
    """What each link could still earn between its limits at these prices."""
    network = problem.network
    value = clearing.price[network.link_to] - clearing.price[network.link_from]
    best = np.where(value > 0, network.link_max_w, network.link_min_w)
    return multiply(value, best - clearing.link_w)


def _bus_residual(
    problem: Problem, clearing: Clearing, ties: TieTerms, injection_w: IntArray, flow_exact: WideArray
) -> IntArray:
    """|injection - outgoing flows| per bus in 2**-10 W, rounded up; raises when one exceeds the tolerance."""
    network, size = problem.network, problem.network.bus_count
    shifted = injection_w.copy()
    np.subtract.at(shifted, network.from_bus, network.shift_flow_w)
    np.add.at(shifted, network.to_bus, network.shift_flow_w)
    residual = widened(shifted, ANGLE_BITS)
    residual = residual - flow_exact.scattered(network.from_bus, size) + flow_exact.scattered(network.to_bus, size)
    outgoing = ties.sign > 0
    for chosen, out in ((outgoing, True), (~outgoing, False)):
        part = WideArray(ties.flow_exact.high[chosen], ties.flow_exact.low[chosen]).scattered(ties.bus[chosen], size)
        residual = residual - part if out else residual + part
    magnitude = residual.absolute()
    in_range = magnitude.high < 1 << 40
    scaled = (np.where(in_range, magnitude.high, 1 << 40) << _RESIDUAL_BITS) + (
        magnitude.low >> (ANGLE_BITS - _RESIDUAL_BITS)
    )
    scaled += magnitude.low > 0
    worst = int(scaled.argmax()) if size else 0
    if size and scaled[worst] > problem.rules.tolerance_w << _RESIDUAL_BITS:
        miss = residual.at(worst) / (1 << ANGLE_BITS)
        raise CertificateError(
            "bus", f"bus {network.bus_ids[worst]}", f"injection exceeds outgoing flow by {miss:.1f} W"
        )
    box = ANGLE_BOX_RAD << ANGLE_BITS
    far = np.flatnonzero(np.abs(clearing.angle) > box)
    if far.size:
        raise CertificateError("bus", f"bus {network.bus_ids[far[0]]}", f"angle is outside +-{ANGLE_BOX_RAD} rad")
    return scaled


def _check_limits(problem: Problem, clearing: Clearing, flow_w: IntArray) -> int:
    """The largest overload in W, beyond published violations."""
    network = problem.network
    excess = np.maximum(flow_w - network.flow_max_w, network.flow_min_w - flow_w) - clearing.violation_w
    worst = int(excess.argmax()) if excess.size else 0
    if excess.size and excess[worst] > problem.rules.tolerance_w:
        low, high = int(network.flow_min_w[worst]), int(network.flow_max_w[worst])
        raise CertificateError(
            "limit",
            network.branch_labels[worst],
            f"carries {int(flow_w[worst])} W, its limits are {low} W and {high} W"
            + (
                f" with a published violation of {clearing.violation_w[worst]} W" if clearing.violation_w[worst] else ""
            ),
        )
    return max(0, int(excess[worst])) if excess.size else 0


def _price_residual(problem: Problem, clearing: Clearing, ties: TieTerms) -> WideArray:
    """sum of +-b * (lambda_from - lambda_to - mu) per bus; zero when LMPs follow from shadow prices."""
    network, size = problem.network, problem.network.bus_count
    slack = clearing.price[network.from_bus] - clearing.price[network.to_bus] - clearing.shadow_price
    pull = multiply(network.susceptance_w_per_rad, slack)
    residual = pull.scattered(network.from_bus, size) - pull.scattered(network.to_bus, size)
    tie_pull = multiply(ties.susceptance_w_per_rad, ties.sign * ties.price_slack)
    residual = residual + tie_pull.scattered(ties.bus, size)
    strength = np.zeros(size, dtype=np.int64)
    for index in (network.from_bus, network.to_bus):
        np.add.at(strength, index, np.abs(network.susceptance_w_per_rad))
    np.add.at(strength, ties.bus, np.abs(ties.susceptance_w_per_rad))
    tolerance = price_tolerance(clearing.price, clearing.shadow_price, ties.price_slack)
    allowed = multiply(strength, np.full(size, tolerance, dtype=np.int64))
    over = np.flatnonzero((residual.absolute() - allowed).high >= 0)
    over = over[[(residual.absolute().at(i) > allowed.at(i)) for i in over.tolist()]]
    if over.size:
        bus = int(over[0])
        miss = abs(residual.at(bus)) / max(1, int(strength[bus])) / _MICRO_SCALE
        raise CertificateError(
            "price",
            f"bus {network.bus_ids[bus]}",
            f"its LMP {_money(clearing.price[bus])} per MWh does not follow from the shadow prices around it "
            f"(off by {miss:.6g} per MWh)",
        )
    return residual


def _step_terms(problem: Problem, clearing: Clearing) -> WideArray:
    steps = problem.steps
    margin = steps.price - clearing.price[steps.bus]
    lost_if_refused = np.where(margin < 0, steps.width_w, 0)
    return multiply(margin, clearing.accepted_w - lost_if_refused)


def _line_terms(problem: Problem, clearing: Clearing, flow_w: IntArray) -> WideArray:
    """Complementarity of limits; a violated limit adds what the violation costs beyond its shadow price."""
    network = problem.network
    mu = clearing.shadow_price
    limit = np.where(mu > 0, network.flow_min_w, network.flow_max_w)
    endless = np.flatnonzero((mu != 0) & (np.abs(limit) >= UNLIMITED_W))
    if endless.size:
        label = network.branch_labels[int(endless[0])]
        raise CertificateError(
            "gap", label, f"bears a shadow price of {_money(mu[endless[0]])} on a side without limit"
        )
    price = problem.rules.line_violation_micro_per_mwh << PRICE_BITS
    dear = np.flatnonzero(np.abs(mu) > price)
    if dear.size:
        label = network.branch_labels[int(dear[0])]
        raise CertificateError("gap", label, f"shadow price {_money(mu[dear[0]])} is beyond the line violation price")
    terms = complementarity(mu, flow_w, limit)
    if clearing.violation_w.any():
        terms = terms + multiply(np.full_like(mu, price), clearing.violation_w)
    return terms


def complementarity(shadow_price: IntArray, flow_w: IntArray, limit_w: IntArray) -> WideArray:
    """shadow price * (flow - limit), plus what half a watt is worth, since flows are rounded to whole watts."""
    missing = multiply(shadow_price, np.where(shadow_price != 0, flow_w - limit_w, 0))
    return missing + multiply((np.abs(shadow_price) + 1) >> 1, np.ones_like(shadow_price))


def _unserved(problem: Problem, clearing: Clearing) -> tuple[dict[str, int], dict[str, int]]:
    steps, ids = problem.steps, problem.network.bus_ids
    shed: dict[str, int] = {}
    curtailed: dict[str, int] = {}
    for step in np.flatnonzero((steps.kind == StepKind.SHED) & (clearing.accepted_w > 0)):
        shed[ids[steps.bus[step]]] = int(clearing.accepted_w[step])
    for step in np.flatnonzero((steps.kind == StepKind.CURTAILABLE) & (clearing.accepted_w < steps.width_w)):
        curtailed[ids[steps.bus[step]]] = int(steps.width_w[step] - clearing.accepted_w[step])
    return shed, curtailed


def _blame(problem: Problem, clearing: Clearing, gap: int, tolerance: int) -> None:
    """Raise for the largest term of a gap that is too large."""
    network = problem.network
    flow_w = _flow_exact(problem, clearing).rounded() + network.shift_flow_w
    step_terms, line_terms = _step_terms(problem, clearing), _line_terms(problem, clearing, flow_w)
    worst_step = int(step_terms.high.argmax()) if problem.steps.count else -1
    worst_line = int(line_terms.high.argmax()) if network.branch_count else -1
    of_step = step_terms.at(worst_step) if worst_step >= 0 else 0
    of_line = line_terms.at(worst_line) if worst_line >= 0 else 0
    total = f"the gap is {gap} micro-units per hour, {tolerance} are allowed"
    if network.link_ids:
        link_terms = _link_terms(problem, clearing)
        link = int(link_terms.high.argmax())
        if link_terms.at(link) > max(of_step, of_line):
            carried = int(clearing.link_w[link])
            raise CertificateError(
                "gap", f"link {network.link_ids[link]}", f"carries {carried} W, could earn more; {total}"
            )
    if max(of_step, of_line) * 2 <= gap * _MICRO_SCALE // max(1, problem.steps.count + network.branch_count):
        raise CertificateError("gap", network.name, f"rounding residuals of prices and angles are too large; {total}")
    if of_step >= of_line:
        bus = problem.steps.bus[worst_step]
        raise CertificateError(
            "gap",
            step_label(problem, worst_step),
            f"{int(clearing.accepted_w[worst_step])} W accepted of {int(problem.steps.width_w[worst_step])} W at LMP "
            f"{_money(clearing.price[bus])}; {total}",
        )
    low, high = int(network.flow_min_w[worst_line]), int(network.flow_max_w[worst_line])
    raise CertificateError(
        "gap",
        network.branch_labels[worst_line],
        f"bears a shadow price of {_money(clearing.shadow_price[worst_line])} while carrying "
        f"{int(flow_w[worst_line])} W between {low} W and {high} W; {total}",
    )


def step_label(problem: Problem, step: int) -> str:
    """A step as errors show it."""
    kind = StepKind(int(problem.steps.kind[step]))
    bus = problem.network.bus_ids[int(problem.steps.bus[step])]
    price = problem.steps.price_micro_per_mwh[step] / MICRO
    what = {StepKind.OFFER: "offer", StepKind.SHED: "demand", StepKind.CURTAILABLE: "fixed injection"}[kind]
    return f"{what} step at bus {bus}, price {price:g} per MWh"


def _money(price: np.int64) -> str:
    return f"{int(price) / _MICRO_SCALE:.6g}"
