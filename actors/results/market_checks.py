"""Is an interval's outcome feasible, optimal and priced right? Judged from offers and schedules, by other means.

The central optimum is the B-theta program over the whole grid, which the coupling never solves; costs are those of the
schedules along the curves that stand on the regions' chains; flows are a DC power flow of the schedules. A region that
cleared by itself is judged on its own grid. Where the hub went on without a region, its lines carry what the others
make them carry, without limits, as the others agreed (`coordinator.market.coupling.silent_region`); what it is held
to deliver is nobody's to decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from actors.results.collect import RunRecord
from actors.results.hub_record import EndedInterval
from actors.results.interval_outcome import RULES, IntervalOutcome, per_mwh
from actors.results.region_record import RegionRecord
from actors.results.verdict import Check
from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.offers import MICRO, Offer, OfferBook, build_book, sheddable_w, tabulate
from coordinator.settlement.interval.schedules import Curve, Scheduled
from topology.arrays import BoolArray, FloatArray, IntArray
from topology.dc import UNLIMITED_W, W_PER_MW, DcNetwork, PowerTransferFactors

_RELATIVE = 1e-6
_LEAST_COST_EUR_PER_H = 1.0
"""Costs below it are compared as if they were this high."""
_PRICE_EUR_PER_MWH = 1e-6
_TOLERANCE_W = float(RULES.tolerance_w)
_LOST_MICRO = RULES.value_of_lost_load_micro_per_mwh
_VIOLATION_EUR_PER_MWH = RULES.line_violation_micro_per_mwh / MICRO
_UNKEPT_EUR_PER_MWH = _VIOLATION_EUR_PER_MWH * (1 - _RELATIVE)
"""A limit at this price is one that nothing could keep."""


@dataclass(frozen=True, slots=True)
class Part:
    """Regions that were cleared together, or one that was by itself. `injection_w` is theirs by bus of `network`."""

    name: str
    network: DcNetwork
    buses: IntArray
    """Of the whole grid, for each of the network's."""
    branches: IntArray
    regions: tuple[RegionRecord, ...]
    injection_w: IntArray
    exchange_w: IntArray
    """Of the injection, what comes from regions that are not part of it (negative: goes there); nobody's to decide."""
    agreed_micro_per_h: int | None


class MarketChecks:
    """The checks of one run; `run` goes through its intervals."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self.optimum = Check("optimum", _RELATIVE, "relative to the objective")
        self.cost = Check("schedule_cost", _RELATIVE, "relative to the objective")
        self.balance = Check("balance", _TOLERANCE_W, "W")
        self.limits = Check("limits", _TOLERANCE_W, "W")
        self.binding = Check("shadow_prices", _TOLERANCE_W, "W from the limit")
        self.prices = Check("prices", _PRICE_EUR_PER_MWH, "EUR/MWh")
        self.acceptance = Check("acceptance", RULES.gap_floor_micro_per_h / MICRO, "EUR/h")

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them."""
        return (
            self.optimum, self.cost, self.balance, self.limits, self.binding, self.prices, self.acceptance,
        )  # fmt: skip

    def run(self) -> None:
        """Every interval of which all schedules are known."""
        for ended in self._record.hub.ended:
            outcome = self._record.outcomes.get(ended.interval)
            if outcome is not None:
                for part in _parts(self._record, ended, outcome):
                    self._part(part, outcome)

    def _part(self, part: Part, outcome: IntervalOutcome) -> None:
        optimum = _central_micro_per_h(part, outcome) / MICRO
        least = max(abs(optimum), _LEAST_COST_EUR_PER_H)
        cost = self._cost_eur_per_h(part, outcome)
        agreed = part.agreed_micro_per_h
        if agreed is not None:
            self.optimum.deviation(abs(agreed / MICRO - optimum) / least, outcome.interval, "", part.name)
        self.cost.deviation(abs(cost - optimum) / least, outcome.interval, "", part.name)
        self._balance(part, outcome)
        self._limits(part, outcome)
        self._prices(part, outcome)
        self._acceptance(part, outcome, optimum)

    def _cost_eur_per_h(self, part: Part, outcome: IntervalOutcome) -> float:
        """Of the schedules along their curves; a limit that nothing could keep costs what its violation does."""
        exact = sum(cost_exact(curve, row.power_w) for _, curve, row in _rows(part, outcome))
        beyond = _excess_w(part)[outcome.shadow_price[part.branches] >= _UNKEPT_EUR_PER_MWH]
        return exact / MICRO**2 + float(beyond.sum()) / W_PER_MW * _VIOLATION_EUR_PER_MWH

    def _balance(self, part: Part, outcome: IntervalOutcome) -> None:
        sums = np.zeros(int(part.network.components.max()) + 1, dtype=np.int64)
        np.add.at(sums, part.network.components, part.injection_w)
        for component, missing in enumerate(sums.tolist()):
            self.balance.deviation(abs(missing), outcome.interval, "", f"{part.name}, component {component}")

    def _limits(self, part: Part, outcome: IntervalOutcome) -> None:
        """That no limit is exceeded but what nothing could keep, and that only limits that are reached have a price."""
        shadow = outcome.shadow_price[part.branches]
        for branch, beyond in enumerate(_excess_w(part).tolist()):
            name, region = part.network.branch_labels[branch], self._owner(int(part.branches[branch]))
            priced = float(shadow[branch])
            if priced >= _UNKEPT_EUR_PER_MWH:
                continue
            self.limits.deviation(max(beyond, 0.0), outcome.interval, region, name)
            if priced >= _PRICE_EUR_PER_MWH:
                self.binding.deviation(abs(beyond), outcome.interval, region, name)

    def _owner(self, branch: int) -> str:
        study = self._record.study
        return "" if study.is_tie(branch) else self._record.regions[int(study.grid.region_of_branch[branch])].name

    def _prices(self, part: Part, outcome: IntervalOutcome) -> None:
        for region, _, row in _rows(part, outcome):
            bus = self._record.study.bus(region.resources[row.resource].bus)
            miss = abs(per_mwh(row.price) - float(outcome.derived_price[bus]))
            self.prices.deviation(miss, outcome.interval, region.name, row.resource)

    def _acceptance(self, part: Part, outcome: IntervalOutcome, optimum: float) -> None:
        """What each resource could still gain at its price: nothing, where what is worth it is accepted fully."""
        tolerance = (RULES.gap_floor_micro_per_h + abs(optimum) * RULES.gap_parts_per_million) / MICRO
        for region, curve, row in _rows(part, outcome):
            price = per_mwh(row.price)
            allowed = tolerance + _TOLERANCE_W / W_PER_MW * abs(price)
            self.acceptance.deviation(
                regret_eur_per_h(curve, row.power_w, price), outcome.interval, region.name, row.resource, allowed
            )


def _rows(part: Part, outcome: IntervalOutcome) -> Iterator[tuple[RegionRecord, Curve, Scheduled]]:
    for region in part.regions:
        offers = region.offers[outcome.interval]
        for row in region.schedules[outcome.interval].schedule.rows:
            yield region, offers[row.resource], row


def _segments(curve: Curve) -> list[tuple[int, int]]:
    """Width in W and price in micro-units per MWh of everything above the least injection, in the order of prices."""
    found = [(step.width_w, step.price_micro_per_mwh) for step in curve.steps]
    if curve.fixed_w > 0:
        return [(curve.fixed_w, -_LOST_MICRO), *found]
    shed_w = sheddable_w(curve.fixed_w, curve.steps)
    return [*found, (shed_w, _LOST_MICRO)] if shed_w else found


def cost_exact(curve: Curve, power_w: int) -> int:
    """What an injection costs along a curve, in W * micro-units per MWh; shed and curtailed at the value of lost load.

    Nothing accepted, nothing shed and nothing curtailed costs nothing.
    """
    left, cost = power_w - curve.lowest_w, max(curve.fixed_w, 0) * _LOST_MICRO
    for width, price in _segments(curve):
        taken = min(width, left)
        cost, left = cost + taken * price, left - taken
    return cost


def regret_eur_per_h(curve: Curve, power_w: int, price_eur_per_mwh: float) -> float:
    """What the owner of a curve could gain by another injection at this price, never negative."""
    left, regret = power_w - curve.lowest_w, 0.0
    for width, price in _segments(curve):
        taken = min(width, left)
        left -= taken
        margin = price_eur_per_mwh - price / MICRO
        regret += margin * (width - taken) / W_PER_MW if margin > 0 else -margin * taken / W_PER_MW
    return regret


def _parts(record: RunRecord, ended: EndedInterval, outcome: IntervalOutcome) -> Iterator[Part]:
    together = [number for number in range(len(record.regions)) if number not in outcome.alone]
    if together:
        yield _coupled(record, ended, outcome, together)
    for number, boundary_w in outcome.alone.items():
        own, region = record.study.grid.regions[number], record.regions[number]
        delivered_w = np.zeros(own.network.bus_count, dtype=np.int64)
        delivered_w[own.boundary] = boundary_w
        yield Part(
            name=f"region {region.name} by itself",
            network=own.network,
            buses=own.buses,
            branches=own.branches,
            regions=(region,),
            injection_w=_injected(record, outcome, [region])[own.buses] - delivered_w,
            exchange_w=-delivered_w,
            agreed_micro_per_h=None,
        )


def _coupled(record: RunRecord, ended: EndedInterval, outcome: IntervalOutcome, together: list[int]) -> Part:
    grid, network = record.study.grid, record.study.grid.network
    regions = tuple(record.regions[number] for number in together)
    alone = list(outcome.alone)
    foreign: BoolArray = np.isin(grid.region_of_branch, alone)
    ends = grid.region_of_bus[network.link_from], grid.region_of_bus[network.link_to]
    blocked: BoolArray = np.isin(ends[0], alone) | np.isin(ends[1], alone)
    seen = replace(
        network,
        flow_min_w=np.where(foreign, -UNLIMITED_W, network.flow_min_w),
        flow_max_w=np.where(foreign, UNLIMITED_W, network.flow_max_w),
        shift_flow_w=np.where(foreign, 0, network.shift_flow_w),
        link_min_w=np.where(blocked, 0, network.link_min_w),
        link_max_w=np.where(blocked, 0, network.link_max_w),
    )
    agreement, opened = ended.agreement, grid.branches_of(ended.ties_out)
    link_w, held = np.zeros(len(network.link_ids), dtype=np.int64), np.zeros(network.bus_count, dtype=np.int64)
    if agreement is not None:
        link_w = agreement.outcome.link_w
        for number in alone:
            own = grid.regions[number]
            held[own.buses[own.boundary]] = agreement.held_w.get(number, 0)
    injection = _injected(record, outcome, regions) + held
    np.subtract.at(injection, network.link_from, link_w)
    np.add.at(injection, network.link_to, link_w)
    return Part(
        name="coupled regions",
        network=seen.without_branches(opened),
        buses=np.arange(network.bus_count),
        branches=np.delete(np.arange(network.branch_count), opened),
        regions=regions,
        injection_w=injection,
        exchange_w=held,
        agreed_micro_per_h=None if agreement is None else agreement.agreed.objective_micro_per_h,
    )


def _injected(
    record: RunRecord, outcome: IntervalOutcome, regions: tuple[RegionRecord, ...] | list[RegionRecord]
) -> IntArray:
    injection = np.zeros(record.study.grid.network.bus_count, dtype=np.int64)
    for region in regions:
        for row in region.schedules[outcome.interval].schedule.rows:
            injection[record.study.bus(region.resources[row.resource].bus)] += row.power_w
    return injection


def _excess_w(part: Part) -> FloatArray:
    """How far each flow is beyond its limit, negative within: a DC power flow of the part's schedules."""
    network = part.network
    angle = PowerTransferFactors(network).angles_rad(part.injection_w.astype(np.float64))
    drop = angle[network.from_bus] - angle[network.to_bus]
    flow = network.susceptance_w_per_rad * drop + network.shift_flow_w
    return np.asarray(np.maximum(flow - network.flow_max_w, network.flow_min_w - flow))


def _central_micro_per_h(part: Part, outcome: IntervalOutcome) -> float:
    position = {bus: place for place, bus in enumerate(part.network.bus_ids)}
    steps = tabulate(_book(part, outcome, position), RULES).steps
    steps = replace(steps, withdrawal_w=steps.withdrawal_w - part.exchange_w)
    return solve_central(Problem(part.network, steps, RULES)).objective_micro_per_h


def _book(part: Part, outcome: IntervalOutcome, position: Mapping[str, int]) -> OfferBook:
    """All offers as they stand on the chains."""
    offers = [
        Offer(f"{region.name}/{name}", region.resources[name].bus, curve.fixed_w, curve.steps)
        for region in part.regions
        for name, curve in region.standing(outcome.interval).items()
    ]
    return build_book(offers, {}, position, RULES)
