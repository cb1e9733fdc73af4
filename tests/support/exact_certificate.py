"""The certificate once more, in plain Python integers and Fractions, straight from weak duality; shares no code.

Units: W and rad as Fractions, prices in micro-units per MWh, gaps and costs in W * micro-units per MWh
(a millionth of a micro-unit per hour). Any rounded duals are safe: what they miss is charged against the angle box.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from coordinator.market.clearing import Clearing, Problem

ANGLE_BOX_RAD = 256
NO_LIMIT_W = 1 << 50
ANGLE_ONE = 1 << 40
PRICE_ONE = 1 << 20


def price_tolerance(highest_price: Fraction) -> Fraction:
    """How far an LMP may miss its formula, micro-units per MWh: 1/16 and 2**-34 of the highest price."""
    return Fraction(1, 16) + highest_price / (1 << 34)


@dataclass(frozen=True)
class ExactCheck:
    """`broken` has the conditions that fail; `gap` bounds cost - optimal cost, None where a dual is unbounded.

    `charged_gap` charges what buses miss at the size of their price, whatever the sign: never below `gap`.
    """

    broken: frozenset[str]
    gap: Fraction | None
    charged_gap: Fraction | None
    cost: Fraction

    def holds(self, tolerance_micro_per_h: int) -> bool:
        """Feasible within the tolerances and within the gap."""
        return not self.broken and self.gap is not None and self.gap <= tolerance_micro_per_h * 10**6


def exact_check(problem: Problem, clearing: Clearing, slack_w: int = 0) -> ExactCheck:
    """Every condition of the certificate and the gap, exactly; `slack_w` widens the tolerances of flows and buses."""
    network, steps, rules = problem.network, problem.steps, problem.rules
    ends = list(zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True))
    susceptance, shift = network.susceptance_w_per_rad.tolist(), network.shift_flow_w.tolist()
    low, high = network.flow_min_w.tolist(), network.flow_max_w.tolist()
    angle = [Fraction(value, ANGLE_ONE) for value in clearing.angle.tolist()]
    price = [Fraction(value, PRICE_ONE) for value in clearing.price.tolist()]
    shadow = [Fraction(value, PRICE_ONE) for value in clearing.shadow_price.tolist()]
    violation, link = clearing.violation_w.tolist(), clearing.link_w.tolist()
    accepted, width = clearing.accepted_w.tolist(), steps.width_w.tolist()
    bus_of_step, offer_price = steps.bus.tolist(), steps.price_micro_per_mwh.tolist()
    link_ends = list(zip(network.link_from.tolist(), network.link_to.tolist(), strict=True))
    link_low, link_high = network.link_min_w.tolist(), network.link_max_w.tolist()
    component = network.components.tolist()
    penalty = rules.line_violation_micro_per_mwh
    tolerance = rules.tolerance_w + slack_w

    broken = set()
    if any(not 0 <= p <= w for p, w in zip(accepted, width, strict=True)) or any(v < 0 for v in violation):
        broken.add("range")
    if any(not a <= p <= b for a, p, b in zip(link_low, link, link_high, strict=True)):
        broken.add("range")
    injection = [-value for value in steps.withdrawal_w.tolist()]
    for bus, quantity in zip(bus_of_step, accepted, strict=True):
        injection[bus] += quantity
    for (head, tail), quantity in zip(link_ends, link, strict=True):
        injection[head] -= quantity
        injection[tail] += quantity
    sums: dict[int, int] = {}
    for where, quantity in zip(component, injection, strict=True):
        sums[where] = sums.get(where, 0) + quantity
    if any(sums.values()):
        broken.add("balance")
    flow = [b * (angle[f] - angle[t]) + s for b, s, (f, t) in zip(susceptance, shift, ends, strict=True)]
    residual = [Fraction(value) for value in injection]
    miss = [Fraction(0)] * network.bus_count
    strength = [0] * network.bus_count
    for line, (head, tail) in enumerate(ends):
        residual[head] -= flow[line]
        residual[tail] += flow[line]
        pull = susceptance[line] * (price[head] - price[tail] - shadow[line])
        miss[head] += pull
        miss[tail] -= pull
        strength[head] += abs(susceptance[line])
        strength[tail] += abs(susceptance[line])
    if any(abs(value) > tolerance for value in residual) or any(abs(a) > ANGLE_BOX_RAD for a in angle):
        broken.add("bus")
    if any(max(f - h, lo - f) - v > tolerance for f, lo, h, v in zip(flow, low, high, violation, strict=True)):
        broken.add("limit")
    allowed = price_tolerance(max(map(abs, [*price, *shadow]), default=Fraction(0)))
    if any(abs(value) > allowed * b for value, b in zip(miss, strength, strict=True)):
        broken.add("price")

    cost = Fraction(sum(c * p for c, p in zip(offer_price, accepted, strict=True)) + penalty * sum(violation))
    gap: Fraction | None = sum((abs(value) * 2 * ANGLE_BOX_RAD for value in miss), Fraction(0))
    signed = sum((lam * value for lam, value in zip(price, residual, strict=True)), Fraction(0))
    charged = sum((abs(lam * value) for lam, value in zip(price, residual, strict=True)), Fraction(0))
    gap += signed
    for bus, quantity, most, offered in zip(bus_of_step, accepted, width, offer_price, strict=True):
        margin = offered - price[bus]
        gap += margin * quantity - min(Fraction(0), margin) * most
    for (head, tail), quantity, least, most in zip(link_ends, link, link_low, link_high, strict=True):
        value = price[tail] - price[head]
        gap += max(value * least, value * most) - value * quantity
    for mu, power, least, most, missed in zip(shadow, flow, low, high, violation, strict=True):
        limit = least if mu > 0 else most
        if mu and (abs(limit) >= NO_LIMIT_W or abs(mu) > penalty):
            gap = None
            break
        gap += mu * (power - limit) + penalty * missed if mu else Fraction(penalty * missed)
    return ExactCheck(frozenset(broken), gap, None if gap is None else gap - signed + charged, cost)
