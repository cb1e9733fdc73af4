"""From a region's offers to what is cleared, and back from a clearing to what each resource does, in whole watts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.market.clearing import Clearing
from coordinator.market.offers import MarketRules, Offer, StepKind, TabulatedBook, build_book, sheddable_w, tabulate
from coordinator.settlement.interval.region_records import Resource
from coordinator.settlement.interval.schedules import Curve, Scheduled
from topology.arrays import IntArray


@dataclass(frozen=True, slots=True)
class Offered:
    """A region's offers as a table of steps. The arrays have one entry an offer, in the order of names."""

    table: TabulatedBook
    bus: IntArray
    fixed_w: IntArray
    sheddable_w: IntArray


def offered(
    offers: Mapping[str, Curve], resources: Mapping[str, Resource], bus_ids: Sequence[str], rules: MarketRules
) -> Offered:
    """Raises OfferError for an offer at a bus that the region does not have."""
    position = {bus: place for place, bus in enumerate(bus_ids)}
    book = [Offer(name, resources[name].bus, curve.fixed_w, curve.steps) for name, curve in offers.items()]
    table = tabulate(build_book(book, {}, position, rules), rules)
    bus = np.array([position[offer.bus] for offer in book], dtype=np.int64)
    fixed = np.array([offer.fixed_w for offer in book], dtype=np.int64)
    return Offered(table, bus, fixed, np.array([sheddable_w(o.fixed_w, o.steps) for o in book], dtype=np.int64))


def scheduled(known: Offered, clearing: Clearing) -> tuple[Scheduled, ...]:
    """Each resource's net injection and the price at its bus. What a bus sheds or curtails is shared pro rata."""
    book = known.table.book
    power = known.fixed_w.copy()
    np.add.at(power, book.offer, known.table.accepted_by_row(clearing.accepted_w))
    shed_w, curtailed_w = _recourse_w(known, clearing.accepted_w)
    power += _shared(known.sheddable_w, known.bus, shed_w)
    power -= _shared(np.maximum(known.fixed_w, 0), known.bus, curtailed_w)
    price = clearing.price[known.bus]
    return tuple(
        Scheduled(name, power_w, lmp)
        for name, power_w, lmp in zip(book.offer_ids, power.tolist(), price.tolist(), strict=True)
    )


def _recourse_w(known: Offered, accepted_w: IntArray) -> tuple[IntArray, IntArray]:
    """Per bus, what is not served and what is curtailed of fixed quantities."""
    steps, buses = known.table.steps, len(known.table.book.injection_w)
    shed, curtailed = np.zeros((2, buses), dtype=np.int64)
    is_shed, is_fixed = steps.kind == StepKind.SHED, steps.kind == StepKind.CURTAILABLE
    np.add.at(shed, steps.bus[is_shed], accepted_w[is_shed])
    np.add.at(curtailed, steps.bus[is_fixed], (steps.width_w - accepted_w)[is_fixed])
    return shed, curtailed


def _shared(weight: IntArray, bus: IntArray, total_w: IntArray) -> IntArray:
    """Each bus's total among its resources, in proportion to their weights; watts left over go to the first."""
    shares = np.zeros_like(weight)
    for place in np.flatnonzero(total_w).tolist():
        here = np.flatnonzero((bus == place) & (weight > 0))
        whole, left = int(weight[here].sum()), int(total_w[place])
        for row in here.tolist():
            shares[row] = int(weight[row]) * int(total_w[place]) // whole
            left -= int(shares[row])
        for row in here.tolist():
            more = min(left, int(weight[row]) - int(shares[row]))
            shares[row] += more
            left -= more
    return shares
