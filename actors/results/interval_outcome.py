"""What an interval came to on the whole grid: prices, flows and shadow prices, from schedules and what was agreed.

Flows are those of the DC power flow of all schedules over the whole grid, as its tie-lines stand. Prices are the energy
price and the shadow prices of the limits in force (`LMP = energy + sum of shadow price * sensitivity`); a region that
cleared by itself has those of its own clearing, which is computed again from its offers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors.results.hub_record import EndedInterval
from actors.results.region_record import RegionRecord, ScheduleSet
from actors.results.whole_grid import TIE, WholeGrid
from coordinator.market.coupling.alone import ClearedAlone, clear_alone
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.market.offers import MICRO, MarketRules
from coordinator.settlement.interval.dispatch import offered
from coordinator.settlement.interval.topics import Interval
from topology.arrays import FloatArray, IntArray
from topology.dc import DcNetwork, PowerTransferFactors

RULES = MarketRules()
_FIXED = float(MICRO << PRICE_BITS)


def per_mwh(price_fixed: int) -> float:
    """A price in 2**-20 micro-units per MWh as money per MWh."""
    return price_fixed / _FIXED


@dataclass(frozen=True, slots=True)
class IntervalOutcome:
    """Arrays by bus and by branch of the whole grid. Prices in money per MWh, power in W.

    `price` is the LMP, as schedules say where there is a resource; `derived_price` is what follows from the energy
    price and shadow prices alone; `energy` is the price at the first bus of the component (of the region's own, where
    the region cleared by itself); `shadow_price` is what one more MW of limit saves, never negative.
    """

    interval: Interval
    price: FloatArray
    derived_price: FloatArray
    energy: FloatArray
    injection_w: IntArray
    flow_w: FloatArray
    shadow_price: FloatArray
    alone: Mapping[int, IntArray]
    """Regions that cleared by themselves, by their numbers: what each delivers at its boundary buses, in W."""


@dataclass(frozen=True, slots=True)
class Switched:
    """The network with some tie-lines open. `closed` is where its branches stand among all."""

    network: DcNetwork
    closed: IntArray
    transfer: PowerTransferFactors


class GridStudy:
    """Outcomes over one grid; each of its topologies is factorized once."""

    def __init__(self, grid: WholeGrid) -> None:
        self.grid = grid
        self._switched: dict[tuple[str, ...], Switched] = {}
        self._bus = {bus: place for place, bus in enumerate(grid.network.bus_ids)}
        self._branch = {branch: place for place, branch in enumerate(grid.network.branch_ids)}

    def bus(self, name: str) -> int:
        """Its position."""
        return self._bus[name]

    def _without(self, ties: tuple[str, ...]) -> Switched:
        if ties not in self._switched:
            opened, network = self.grid.branches_of(ties), self.grid.network
            closed, network = np.delete(np.arange(network.branch_count), opened), network.without_branches(opened)
            self._switched[ties] = Switched(network, closed, PowerTransferFactors(network))
        return self._switched[ties]

    def outcome(self, ended: EndedInterval, regions: Sequence[RegionRecord]) -> IntervalOutcome | None:
        """None while a region has no schedule of the interval."""
        interval = ended.interval
        schedules = [region.schedules.get(interval) for region in regions]
        if not all(schedules):
            return None
        known = [schedule for schedule in schedules if schedule is not None]
        network, switched = self.grid.network, self._without(ended.ties_out)
        shadow, price, energy = np.zeros(network.branch_count), np.zeros(network.bus_count), np.zeros(network.bus_count)
        public = None if ended.agreement is None else ended.agreement.outcome
        if public is not None:
            shadow = self._agreed_shadow_prices(public)
            price = self._agreed_prices(public, shadow, switched)
            _, first = np.unique(switched.network.components, return_index=True)
            energy = price[first][switched.network.components]
        held = {} if ended.agreement is None else ended.agreement.held_w
        alone = {
            number: self._delivered_w(number, schedule, held.get(number))
            for number, schedule in enumerate(known)
            if schedule.is_alone
        }
        for number, delivered in alone.items():
            cleared = self.cleared_alone(number, regions[number], interval, delivered)
            self._put_alone(number, cleared, (price, energy, shadow))
        derived = price.copy()
        self._put_scheduled(regions, known, price)
        link_w = np.zeros(len(network.link_ids), dtype=np.int64) if public is None else public.link_w
        injection = self._injection_w(regions, known, link_w)
        return IntervalOutcome(
            interval=interval,
            price=price,
            derived_price=derived,
            energy=energy,
            injection_w=injection,
            flow_w=self._flow_w(injection, switched),
            shadow_price=np.abs(shadow),
            alone=alone,
        )

    def _agreed_shadow_prices(self, public: PublicOutcome) -> FloatArray:
        shadow = np.zeros(self.grid.network.branch_count)
        for gate, value in zip(public.flowgates, public.shadow_price.tolist(), strict=True):
            shadow[self._branch[gate.branch]] = per_mwh(value)
        return shadow

    def _agreed_prices(self, public: PublicOutcome, shadow: FloatArray, switched: Switched) -> FloatArray:
        """By bus: what follows from the shadow prices, at the level that is agreed at boundary buses."""
        network, boundary = switched.network, self.grid.boundary_bus
        weighted = network.susceptance_w_per_rad * shadow[switched.closed]
        congestion = switched.transfer.solve(np.asarray(network.incidence.T @ weighted, dtype=np.float64))
        level = np.zeros(int(network.components.max()) + 1)
        agreed = public.boundary_price / _FIXED
        level[network.components[boundary]] = agreed - congestion[boundary]
        return np.asarray(congestion + level[network.components])

    def _delivered_w(self, number: int, found: ScheduleSet, held_w: IntArray | None) -> IntArray:
        """What others hold a region at, unless nothing could deliver it: then its schedule is that of no exchange."""
        nothing = np.zeros(len(self.grid.regions[number].boundary), dtype=np.int64)
        scheduled_w = sum(row.power_w for row in found.schedule.rows)
        is_held = held_w is not None and abs(int(held_w.sum()) - scheduled_w) <= RULES.tolerance_w
        return held_w if held_w is not None and is_held else nothing

    def _put_alone(self, number: int, cleared: ClearedAlone, arrays: tuple[FloatArray, FloatArray, FloatArray]) -> None:
        price, energy, shadow = arrays
        own, clearing = self.grid.regions[number], cleared.clearing
        local = clearing.price / _FIXED
        _, first = np.unique(own.network.components, return_index=True)
        price[own.buses], energy[own.buses] = local, local[first][own.network.components]
        shadow[own.branches] = clearing.shadow_price / _FIXED

    def cleared_alone(
        self, number: int, region: RegionRecord, interval: Interval, delivered_w: IntArray
    ) -> ClearedAlone:
        """A region's clearing by itself, from the offers on its chain, with so much to deliver at its boundary."""
        own = self.grid.regions[number]
        table = offered(region.standing(interval), region.resources, own.network.bus_ids, RULES).table
        return clear_alone(own, table.steps, RULES, delivered_w)

    def _put_scheduled(
        self, regions: Sequence[RegionRecord], schedules: Sequence[ScheduleSet], price: FloatArray
    ) -> None:
        """Prices that stand in schedules are exact."""
        for region, found in zip(regions, schedules, strict=True):
            for row in found.schedule.rows:
                price[self._bus[region.resources[row.resource].bus]] = per_mwh(row.price)

    def _injection_w(
        self, regions: Sequence[RegionRecord], schedules: Sequence[ScheduleSet], link_w: IntArray
    ) -> IntArray:
        network = self.grid.network
        injection = np.zeros(network.bus_count, dtype=np.int64)
        for region, found in zip(regions, schedules, strict=True):
            for row in found.schedule.rows:
                injection[self._bus[region.resources[row.resource].bus]] += row.power_w
        np.subtract.at(injection, network.link_from, link_w)
        np.add.at(injection, network.link_to, link_w)
        return injection

    def _flow_w(self, injection_w: IntArray, switched: Switched) -> FloatArray:
        """On every branch, positive from its from-bus; nothing where it is open."""
        network, flow = switched.network, np.zeros(self.grid.network.branch_count)
        angle = switched.transfer.angles_rad(injection_w.astype(np.float64))
        drop = angle[network.from_bus] - angle[network.to_bus]
        flow[switched.closed] = network.susceptance_w_per_rad * drop + network.shift_flow_w
        return flow

    def is_tie(self, branch: int) -> bool:
        """Whether a branch joins two regions."""
        return int(self.grid.region_of_branch[branch]) == TIE
