"""Offers, and the book of an interval: what is for sale where, in integers.

An offer is a step curve at a bus: `fixed_w`, an injection (positive) or withdrawal (negative) that is not up
for sale, and steps of increasing price on top of it. Generation, demand response and storage are all such
curves: a load that would buy `w` watts up to price `p` has fixed_w = -w and one step of width w at price p.

Prices are micro-units of the asset per MWh; positive price = consumers pay. Costs are per hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from coordinator.market.fixed_point import PRICE_BITS, divide_half_even, dot, exact_sum
from topology.arrays import IntArray

MICRO = 1_000_000
POWER_LIMIT_W = 1 << 50
"""No single quantity may reach this; it is what "no limit" means for a line."""
PRICE_LIMIT_MICRO_PER_MWH = 1 << 40


class OfferError(ValueError):
    """An offer that cannot enter the market: names the offer, what is wrong, and the remedy, in one line."""


@dataclass(frozen=True, slots=True)
class MarketRules:
    """What a consortium agrees on in its genesis. Prices in micro-units per MWh, tolerances in W.

    Offers must be priced from `price_floor` to `price_cap`. Demand that is not served costs
    `value_of_lost_load`, and so does a fixed injection that is curtailed. A limit that nothing can keep is
    violated, by name, at `line_violation_price`. `tolerance_w` is how far integers may miss a bus balance or
    a limit; `gap_parts_per_million` the certified welfare gap that is accepted, relative to the objective,
    beside `gap_floor_micro_per_h` for objectives near zero and the worth of `tolerance_w` at the dearest
    price announced or step in use, but at most at the line violation price.
    """

    value_of_lost_load_micro_per_mwh: int = 10_000 * MICRO
    price_cap_micro_per_mwh: int = 9_000 * MICRO
    price_floor_micro_per_mwh: int = -9_000 * MICRO
    line_violation_micro_per_mwh: int = 100_000 * MICRO
    tolerance_w: int = 64
    gap_parts_per_million: int = 1
    gap_floor_micro_per_h: int = 10_000

    def __post_init__(self) -> None:
        lost = self.value_of_lost_load_micro_per_mwh
        if not -lost < self.price_floor_micro_per_mwh <= self.price_cap_micro_per_mwh < lost:
            raise OfferError(
                f"market rules: price floor {self.price_floor_micro_per_mwh} and cap {self.price_cap_micro_per_mwh} "
                f"must lie strictly inside +-{lost} micro-units per MWh, the value of lost load; change one of them"
            )
        if min(self.tolerance_w, self.gap_parts_per_million, self.gap_floor_micro_per_h) < 0:
            raise OfferError("market rules: tolerances must not be negative; correct them")
        if self.line_violation_micro_per_mwh >= PRICE_LIMIT_MICRO_PER_MWH:
            raise OfferError(f"market rules: prices must stay below {PRICE_LIMIT_MICRO_PER_MWH} micro-units per MWh")
        if self.line_violation_micro_per_mwh < lost:
            raise OfferError(
                "market rules: a line violation must cost at least the value of lost load; raise its price"
            )

    def gap_tolerance_micro_per_h(self, objective_micro_per_h: int, dearest_micro_per_mwh: int) -> int:
        """The welfare gap that is accepted at this objective, where a watt can be worth `dearest`."""
        watts = self.tolerance_w * min(dearest_micro_per_mwh, self.line_violation_micro_per_mwh) // MICRO
        return self.gap_floor_micro_per_h + abs(objective_micro_per_h) * self.gap_parts_per_million // MICRO + watts


class Step(NamedTuple):
    """`width_w` more watts at `price_micro_per_mwh`."""

    width_w: int
    price_micro_per_mwh: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One participant's curve at a bus for an interval. Positions on the curve run up from `fixed_w`.

    `fixed_cost_micro_per_h` is what the participant is known to spend at `fixed_w` (reported, not cleared).
    """

    id: str
    bus: str
    fixed_w: int
    steps: tuple[Step, ...]
    fixed_cost_micro_per_h: int = 0
    carrier: str = "electricity"
    asset: str = "EUR"


def check_offer(offer: Offer, rules: MarketRules) -> None:
    """Raise OfferError unless the curve is convex, has positive widths, and keeps the cap and the floor."""
    _check_power(f"offer {offer.id} at bus {offer.bus}", offer.fixed_w)
    previous = None
    for number, step in enumerate(offer.steps, 1):
        place = f"offer {offer.id} at bus {offer.bus}, step {number}"
        price = step.price_micro_per_mwh
        if not isinstance(step.width_w, int) or not isinstance(price, int):
            raise OfferError(f"{place}: {step.width_w} W at {price} must be whole numbers; round them")
        if step.width_w <= 0:
            raise OfferError(f"{place}: width {step.width_w} W is not positive; remove the step")
        if step.width_w >= POWER_LIMIT_W:
            raise OfferError(f"{place}: width {step.width_w} W is beyond {POWER_LIMIT_W} W; correct the step")
        if previous is not None and price < previous:
            raise OfferError(
                f"{place}: price {price} is below the step before ({previous} micro-units per MWh): the offer is not "
                "convex; sort the steps by price or offer the convex envelope"
            )
        if not rules.price_floor_micro_per_mwh <= price <= rules.price_cap_micro_per_mwh:
            raise OfferError(
                f"{place}: price {price} micro-units per MWh is outside {rules.price_floor_micro_per_mwh} to "
                f"{rules.price_cap_micro_per_mwh}; offer within the market's floor and cap"
            )
        previous = price


@dataclass(frozen=True)
class OfferBook:
    """All offers and fixed quantities of an interval, as arrays.

    `offer` and `bus` give for each step its position in `offer_ids` and in the network's buses;
    `injection_w` and `withdrawal_w` are the fixed quantities per bus, both >= 0: the first can be curtailed. Of the
    second, `sheddable_w` can be shed: what no step of its own offer gives up at a price.
    """

    offer_ids: tuple[str, ...]
    offer: IntArray
    bus: IntArray
    width_w: IntArray
    price_micro_per_mwh: IntArray
    injection_w: IntArray
    withdrawal_w: IntArray
    sheddable_w: IntArray
    fixed_cost_micro_per_h: int = 0


def build_book(
    offers: Sequence[Offer], demand_w: Mapping[str, int], bus_position: Mapping[str, int], rules: MarketRules
) -> OfferBook:
    """Check offers and put them beside the demand per bus (W, positive withdraws, negative injects).

    Raises OfferError naming the offer for a curve that is not convex, outside the cap or floor, for another
    carrier, for an asset other than the first offer's, at an unknown bus, or given twice.
    """
    injection, withdrawal, sheddable = np.zeros((3, len(bus_position)), dtype=np.int64)
    for bus, power_w in demand_w.items():
        _check_power(f"demand at bus {bus}", power_w)
        position = _position(bus_position, bus, "demand")
        _add_fixed(injection, withdrawal, position, -power_w)
        sheddable[position] += max(power_w, 0)
    rows: list[tuple[int, int, int, int]] = []
    seen: set[str] = set()
    for number, offer in enumerate(offers):
        check_offer(offer, rules)
        if offer.id in seen:
            raise OfferError(f"offer {offer.id} at bus {offer.bus}: given twice; keep one offer a participant and bus")
        seen.add(offer.id)
        if offer.carrier != "electricity" or offer.asset != offers[0].asset:
            raise OfferError(
                f"offer {offer.id} at bus {offer.bus}: {offer.carrier} in {offer.asset} cannot clear with electricity "
                f"in {offers[0].asset}; offer it in its own market"
            )
        bus_number = _position(bus_position, offer.bus, f"offer {offer.id}")
        _add_fixed(injection, withdrawal, bus_number, offer.fixed_w)
        sheddable[bus_number] += sheddable_w(offer.fixed_w, offer.steps)
        rows.extend((number, bus_number, step.width_w, step.price_micro_per_mwh) for step in offer.steps)
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return OfferBook(
        offer_ids=tuple(offer.id for offer in offers),
        offer=table[:, 0],
        bus=table[:, 1],
        width_w=table[:, 2],
        price_micro_per_mwh=table[:, 3],
        injection_w=injection,
        withdrawal_w=withdrawal,
        sheddable_w=sheddable,
        fixed_cost_micro_per_h=sum(offer.fixed_cost_micro_per_h for offer in offers),
    )


def sheddable_w(fixed_w: int, steps: Sequence[Step]) -> int:
    """What is withdrawn when all steps of a curve are taken: what is shed beyond that would be given up twice."""
    return max(0, -fixed_w - sum(step.width_w for step in steps))


def _check_power(what: str, power_w: int) -> None:
    if not isinstance(power_w, int) or abs(power_w) >= POWER_LIMIT_W:
        raise OfferError(
            f"{what}: a fixed quantity of {power_w} W is no whole number below {POWER_LIMIT_W}; correct it"
        )


def _position(bus_position: Mapping[str, int], bus: str, what: str) -> int:
    if bus not in bus_position:
        raise OfferError(f"{what}: bus {bus} is not in the grid; correct the bus or add it to the grid")
    return bus_position[bus]


def _add_fixed(injection: IntArray, withdrawal: IntArray, bus: int, power_w: int) -> None:
    (injection if power_w >= 0 else withdrawal)[bus] += abs(power_w)


@dataclass(frozen=True, slots=True)
class Objective:
    """A cost per hour, exact: `exact` counts W * micro-units per MWh, millionths of a micro-unit per hour."""

    exact: int

    @property
    def micro_per_h(self) -> int:
        """Whole micro-units per hour, half to even."""
        return divide_half_even(self.exact, MICRO)

    @property
    def per_h(self) -> float:
        """Units of the asset per hour."""
        return self.exact / MICRO**2


class StepKind(IntEnum):
    """Why a step is in the table: an offer, demand that may be shed, or a fixed injection that may be curtailed."""

    OFFER = 0
    SHED = 1
    CURTAILABLE = 2


@dataclass(frozen=True)
class StepTable:
    """What clearing works on: every decision is a step that injects 0 to `width_w` at a bus, at a price.

    Equal offers (same bus, same price) are one step and share pro rata; demand that has no price of its own is a step
    at the value of lost load, a fixed injection a step at minus that value. So zero injection is always
    possible, and LMPs stay within the value of lost load wherever there is demand and supply.
    """

    bus: IntArray
    width_w: IntArray
    price_micro_per_mwh: IntArray
    kind: IntArray
    withdrawal_w: IntArray
    offset_micro_per_h: int

    @property
    def count(self) -> int:
        """Number of steps."""
        return len(self.bus)

    @property
    def offer_count(self) -> int:
        """Number of steps that come from offers."""
        return int(np.count_nonzero(self.kind == StepKind.OFFER))

    @property
    def price(self) -> IntArray:
        """Prices in fixed point, 2**-20 micro-units per MWh."""
        return self.price_micro_per_mwh << PRICE_BITS

    def injection_w(self, accepted_w: IntArray) -> IntArray:
        """Net injection per bus when these quantities are accepted."""
        injection = -self.withdrawal_w
        np.add.at(injection, self.bus, accepted_w)
        return injection

    def objective_exact(self, accepted_w: IntArray) -> int:
        """Cost of what is accepted, with what is shed or curtailed at the value of lost load; see `Objective`."""
        return self.offset_micro_per_h * MICRO + dot(accepted_w, self.price_micro_per_mwh)


@dataclass(frozen=True)
class TabulatedBook:
    """A step table and the way back to offers: `step_of_row` gives the step of each row of the book."""

    book: OfferBook
    steps: StepTable
    step_of_row: IntArray

    def accepted_by_row(self, accepted_w: IntArray) -> IntArray:
        """Share each step's acceptance among its equal offers, pro rata to the watt; shape of the book's rows.

        Watts left over by rounding down go to the rows in the order of the book.
        """
        step_width = self.steps.width_w[self.step_of_row]
        accepted = accepted_w[self.step_of_row]
        share = np.array(
            [
                w * a // s
                for w, a, s in zip(self.book.width_w.tolist(), accepted.tolist(), step_width.tolist(), strict=True)
            ],
            dtype=np.int64,
        )
        left = accepted_w.copy()
        np.subtract.at(left, self.step_of_row, share)
        order = np.argsort(self.step_of_row, kind="stable")
        ranked = self.step_of_row[order]
        room = share[order] < self.book.width_w[order]
        rank = np.cumsum(room) - 1
        first = np.searchsorted(ranked, ranked)
        rank_in_step = rank - (np.cumsum(room) - room)[first]
        share[order] += room & (rank_in_step < left[ranked])
        return share


def tabulate(book: OfferBook, rules: MarketRules) -> TabulatedBook:
    """Merge equal offers and add what may be shed and curtailed."""
    lost = rules.value_of_lost_load_micro_per_mwh
    key = np.stack([book.bus, book.price_micro_per_mwh])
    merged, step_of_row = np.unique(key, axis=1, return_inverse=True)
    step_of_row = step_of_row.reshape(-1)
    width = np.zeros(merged.shape[1], dtype=np.int64)
    np.add.at(width, step_of_row, book.width_w)
    shed = np.flatnonzero(book.sheddable_w)
    curtailable = np.flatnonzero(book.injection_w)
    counts = [merged.shape[1], len(shed), len(curtailable)]
    steps = StepTable(
        bus=np.concatenate([merged[0], shed, curtailable]),
        width_w=np.concatenate([width, book.sheddable_w[shed], book.injection_w[curtailable]]),
        price_micro_per_mwh=np.concatenate([merged[1], np.full(len(shed), lost), np.full(len(curtailable), -lost)]),
        kind=np.repeat(np.array(list(StepKind), dtype=np.int64), counts),
        withdrawal_w=book.withdrawal_w,
        offset_micro_per_h=book.fixed_cost_micro_per_h + exact_sum(book.injection_w) * lost // MICRO,
    )
    return TabulatedBook(book, steps, step_of_row)
