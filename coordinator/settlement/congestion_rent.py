"""Money between regions after a coupling: who receives what, from public integers alone, summing to zero.

At nodal prices the loads of a region pay more or less than its generators earn. For every region k

    surplus_k + E_k + F_k = rent of its own lines,   E_k = sum_boundary lambda_i * export_i
                                                     F_k = sum_boundary beta_i * theta_i
    beta = L_k lambda_B - sum_l mu_l * row_l         (L_k and the rows of own flowgates as published)

E_k is the energy it exports at boundary prices, F_k its compensation for loop flows: positive is received.
What all regions together pay in, -sum (E_k + F_k), is the interface fund: the rent of the tie-lines, shared
half and half between the regions at their ends. Rents are -mu * flow, >= 0 where zero flow is within limits.

A controllable link is paid by each end's region at that end's LMP and its owner keeps the difference. A phase
shifter is worth -shift_flow * (lambda_from - lambda_to - mu): a tie's belongs to the fund, an inner one to its
region. Amounts are rounded once, half to even, to micro-units; what rounding leaves goes to the rounding account.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.market.certificate import ANGLE_BOX_RAD, price_tolerance
from coordinator.market.clearing import Clearing, Problem
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.coupling.wire import FINE_BITS
from coordinator.market.fixed_point import ANGLE_BITS, PRICE_BITS, divide_half_even, dot, exact_sum, multiply
from coordinator.market.offers import MICRO
from topology.arrays import IntArray

SECONDS_PER_HOUR = 3600
ROUNDING_ACCOUNT = "rounding"


@dataclass(frozen=True)
class RegionalTransfer:
    """What one region receives from the others for an interval, in micro-units; negative is paid.

    `energy` is E, `loop_flow` F, `interface_share` its part of the interface fund, `links` what it pays (negative)
    or receives for the controllable links at its buses.
    """

    region: str
    energy: int
    loop_flow: int
    interface_share: int
    links: int

    @property
    def total(self) -> int:
        """The net position of the region."""
        return self.energy + self.loop_flow + self.interface_share + self.links


@dataclass(frozen=True)
class InterregionalSettlement:
    """All transfers of an interval; with `link_receipts` per owner and `rounding` they sum to zero exactly.

    `interface_fund` is what the regions paid in; `tie_rent` per tie-line, in micro-units.
    """

    transfers: tuple[RegionalTransfer, ...]
    link_receipts: dict[str, int]
    interface_fund: int
    tie_rent: dict[str, int]
    rounding: int

    @property
    def total(self) -> int:
        """The sum of everything; zero by construction of `rounding`."""
        return sum(transfer.total for transfer in self.transfers) + sum(self.link_receipts.values()) + self.rounding


def settle(public: PublicNetwork, outcome: PublicOutcome, duration_s: int) -> InterregionalSettlement:
    """Transfers between regions for an interval of this length."""
    interconnection = public.interconnection
    names = interconnection.region_names
    money = _Money(duration_s)
    energy = [money.micro(value) for value in _energy_exact(public, outcome)]
    loop = [money.micro(value) for value in _loop_flow_exact(public, outcome)]
    shares, rents = [0] * len(names), {}
    ends = zip(interconnection.tie_from, interconnection.tie_to, strict=True)
    owner = interconnection.boundary_region
    for tie, ((head, tail), rent) in enumerate(zip(ends, _tie_value_exact(public, outcome), strict=True)):
        amount = money.micro(rent)
        rents[interconnection.tie_ids[tie]] = amount
        shares[int(owner[head])] += amount - amount // 2
        shares[int(owner[tail])] += amount // 2
    paid, receipts = _link_payments(public, outcome, money)
    transfers = tuple(RegionalTransfer(*row) for row in zip(names, energy, loop, shares, paid, strict=True))
    fund = -sum(energy) - sum(loop)
    rounding = -(sum(transfer.total for transfer in transfers) + sum(receipts.values()))
    return InterregionalSettlement(transfers, receipts, fund, rents, rounding)


class _Money:
    """Exact products of W and prices in 2**-20 micro-units per MWh, over a duration, as micro-units."""

    def __init__(self, duration_s: int) -> None:
        self._duration_s = duration_s

    def micro(self, exact: int) -> int:
        """Round once, half to even."""
        return divide_half_even(exact * self._duration_s, (SECONDS_PER_HOUR * MICRO) << PRICE_BITS)


def _energy_exact(public: PublicNetwork, outcome: PublicOutcome) -> list[int]:
    """E per region: exports over tie-lines at the own boundary price."""
    interconnection = public.interconnection
    flow = public.tie_flow_w(outcome.boundary_angle)
    values = []
    owner = interconnection.boundary_region
    for region in range(interconnection.region_count):
        out = owner[interconnection.tie_from] == region
        into = owner[interconnection.tie_to] == region
        exported = dot(outcome.boundary_price[interconnection.tie_from[out]], flow[out])
        values.append(exported - dot(outcome.boundary_price[interconnection.tie_to[into]], flow[into]))
    return values


def _loop_flow_exact(public: PublicNetwork, outcome: PublicOutcome) -> list[int]:
    """F per region from the published Laplacian and flowgate rows."""
    interconnection = public.interconnection
    values = []
    for region, laplacian in enumerate(public.laplacians_fine):
        block = interconnection.boundary_of(region)
        price, angle = outcome.boundary_price[block], outcome.boundary_angle[block]
        size = len(price)
        rows = np.repeat(np.arange(size), size)
        beta = multiply(laplacian.ravel(), np.tile(price, size)).scattered(rows, size)
        for gate, shadow in zip(outcome.flowgates, outcome.shadow_price, strict=True):
            if gate.owner == region and shadow:
                beta = beta - multiply(gate.published_row_fine, np.full(size, shadow, dtype=np.int64))
        total = sum(beta.at(bus) * int(angle[bus]) for bus in range(size))
        values.append(divide_half_even(total, 1 << (FINE_BITS + ANGLE_BITS)))
    return values


def _tie_value_exact(public: PublicNetwork, outcome: PublicOutcome) -> list[int]:
    """Rent of each tie-line, with what its phase shifter is worth."""
    interconnection = public.interconnection
    flow, shift = public.tie_flow_w(outcome.boundary_angle), interconnection.tie_shift_flow_w
    mu = outcome.tie_shadow_price
    drop = outcome.boundary_price[interconnection.tie_from] - outcome.boundary_price[interconnection.tie_to]
    value = -multiply(mu, flow) - multiply(shift, drop - mu)
    return [value.at(tie) for tie in range(len(flow))]


def _link_payments(public: PublicNetwork, outcome: PublicOutcome, money: _Money) -> tuple[list[int], dict[str, int]]:
    """What each region receives for links (negative: it pays), and what each owner does."""
    interconnection = public.interconnection
    paid = [0] * interconnection.region_count
    receipts: dict[str, int] = {}
    for end, price in zip(public.link_ends, outcome.link_end_price.tolist(), strict=True):
        amount = money.micro(end.sign * price * int(outcome.link_w[end.link]))
        owner = interconnection.link_owners[end.link] or f"link {interconnection.link_ids[end.link]}"
        paid[end.region] -= amount
        receipts[owner] = receipts.get(owner, 0) + amount
    return paid, receipts


@dataclass(frozen=True)
class RegionalSurplus:
    """What a region knows of its own money, exact (W * 2**-20 micro-units per MWh).

    `merchandising` is what its loads pay less what its generators earn, `line_rent` the rent of its own lines,
    `shifters` the worth of its phase shifters, `bound` how far the identity may miss by rounding of watts,
    angles and prices: merchandising + E + F - links - shifters = line_rent.
    """

    merchandising: int
    line_rent: int
    shifters: int
    bound: int

    def micro(self, exact: int, duration_s: int) -> int:
        """One of these amounts as micro-units over a duration."""
        return _Money(duration_s).micro(exact)


def regional_surplus(problem: Problem, clearing: Clearing, boundary: IntArray) -> RegionalSurplus:
    """The private side of the identity for one region, from its own clearing; `boundary` are its boundary buses."""
    network = problem.network
    drop = clearing.angle[network.from_bus] - clearing.angle[network.to_bus]
    flow = multiply(network.susceptance_w_per_rad, drop).rounded() + network.shift_flow_w
    slack = clearing.price[network.from_bus] - clearing.price[network.to_bus] - clearing.shadow_price
    injection = problem.steps.injection_w(clearing.accepted_w)
    return RegionalSurplus(
        merchandising=-dot(clearing.price, injection),
        line_rent=-dot(clearing.shadow_price, flow),
        shifters=-dot(network.shift_flow_w, slack),
        bound=_identity_bound(problem, clearing, len(boundary)),
    )


def _identity_bound(problem: Problem, clearing: Clearing, boundary_count: int) -> int:
    """Every bus may miss its balance by the tolerance at its LMP, every LMP its formula by 1/16 micro-unit,
    every flow half a watt; the published Laplacian is rounded to 2**-11 W/rad."""
    network, price = problem.network, np.abs(clearing.price)
    watts = problem.rules.tolerance_w * exact_sum(price) + exact_sum(np.abs(clearing.shadow_price))
    strength = 2 * exact_sum(np.abs(network.susceptance_w_per_rad))
    angles = int(np.abs(clearing.angle).max(initial=0)) >> ANGLE_BITS
    prices = strength * price_tolerance(clearing.price, clearing.shadow_price) * (angles + 1)
    rounding = boundary_count * (exact_sum(price) + exact_sum(np.abs(clearing.shadow_price))) * ANGLE_BOX_RAD
    return watts + prices + rounding
