"""The market of a scenario, interval after interval: its fleets offer, regions clear, devices obey, nothing is signed.

What devices do is what they do in a run (`actors.fleet.resources`), so batteries go on from what they stored. Each
interval is solved once more by one program that knows everything, from the same offers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.cases import SECONDS_PER_HOUR
from actors.fleet.case_plan import buses_of_resources
from actors.fleet.resources import Resources
from actors.founding import BATTERY
from actors.runner.market import ScenarioMarket, market_of
from actors.scenario import Scenario
from actors.sweep.combinations import Study
from actors.sweep.exchange import Alone, Cleared, Coupled, Exchange, ExchangeKind
from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.coupling.session import whole_table
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.market.offers import MICRO, MarketRules
from coordinator.settlement.interval.dispatch import Offered, offered, scheduled
from coordinator.settlement.interval.region_records import Resource
from coordinator.settlement.interval.schedules import Curve, Scheduled
from coordinator.settlement.interval.topics import Interval
from topology.dc import W_PER_MW, build_dc_network
from topology.grid import Branch, Case, Ratings
from topology.regions import RegionCut, cut_network

_SMALLEST_OBJECTIVE = 1.0
"""Per hour: relative to less than that a distance says nothing."""


@dataclass(frozen=True, slots=True)
class IntervalFigures:
    """An interval in MW and money per hour; `gap` is its distance from the central optimum, relative to that.

    `prices` are the plain means of LMPs over the buses of each region. `curtailed_mw` is what was injected for free and
    not taken, `flexed_mw` demand that customers gave up at their price, `shed_mw` demand that nobody could serve.
    """

    hours: float
    objective: float
    central: float
    rounds: int
    bytes_sent: int
    disclosed_share: float
    prices: Mapping[str, float]
    demand_mw: float
    curtailed_mw: float
    flexed_mw: float
    shed_mw: float
    charged_mw: float
    discharged_mw: float

    @property
    def gap(self) -> float:
        """Never negative."""
        return abs(self.objective - self.central) / max(abs(self.central), _SMALLEST_OBJECTIVE)


@dataclass(frozen=True, slots=True)
class MarketDay:
    """All intervals of a combination. `stored_mwh` is in all batteries at the end, `seconds` wall time."""

    intervals: tuple[IntervalFigures, ...]
    stored_mwh: float
    seconds: float


def run_day(scenario: Scenario, study: Study, case: Case) -> MarketDay:
    """`case` is the scenario's.

    Raises ConfigurationError, GridError, OfferError, FleetError, SolverError, CertificateError, RoundLimitError.
    """
    started = time.perf_counter()
    market = market_of(scenario, case)
    grid = replace(case.grid, branches=_scaled_ties(case, market.region_of_bus, study.tie_line_scale))
    cut = cut_network(build_dc_network(grid), tuple(market.region_of_bus[bus.id] for bus in grid.buses))
    regions = _Regions(market, cut, MarketRules())
    exchange = _exchange(scenario, study, cut)
    intervals = tuple(
        regions.go_through(interval, exchange) for interval in next(iter(market.plans.values())).intervals
    )
    return MarketDay(intervals, regions.stored_mwh, time.perf_counter() - started)


def _exchange(scenario: Scenario, study: Study, cut: RegionCut) -> Exchange:
    rules = MarketRules()
    if study.exchange is ExchangeKind.NONE:
        return Alone(cut, rules)
    return Coupled(cut, rules, scenario.seed, study.window_per_mwh, scenario.market.round_limit)


def _scaled_ties(case: Case, region_of_bus: Mapping[str, str], scale: float) -> tuple[Branch, ...]:
    """All branches; ratings of those between regions are multiplied. What is unlimited stays so."""
    return tuple(
        branch
        if region_of_bus[branch.from_bus] == region_of_bus[branch.to_bus]
        else replace(
            branch,
            ratings=_scaled(branch.ratings, scale),
            reverse=None if branch.reverse is None else _scaled(branch.reverse, scale),
        )
        for branch in case.grid.branches
    )


def _scaled(ratings: Ratings, scale: float) -> Ratings:
    return Ratings(*(None if rating is None else rating * scale for rating in ratings))


class _Regions:
    """The fleets of all regions, in the order of the cut."""

    def __init__(self, market: ScenarioMarket, cut: RegionCut, rules: MarketRules) -> None:
        self._cut = cut
        self._rules = rules
        self._fleets = [Resources(market.plans[region.name]) for region in cut.regions]
        buses = buses_of_resources(market.case, market.parameters)
        self._resources = {name: Resource(bus, "") for name, bus in buses.items()}

    @property
    def stored_mwh(self) -> float:
        """In all batteries."""
        return sum(sum(fleet.stored_wh.values()) for fleet in self._fleets) / W_PER_MW

    def go_through(self, interval: Interval, exchange: Exchange) -> IntervalFigures:
        """Offer, clear and obey."""
        curves = [dict(fleet.offers(interval).curves) for fleet in self._fleets]
        pairs = zip(self._cut.regions, curves, strict=True)
        given = [offered(own, self._resources, region.network.bus_ids, self._rules) for region, own in pairs]
        cleared = exchange.clear(interval, [one.table.steps for one in given])
        schedules = [scheduled(own, clearing) for own, clearing in zip(given, cleared.clearings, strict=True)]
        for fleet, rows in zip(self._fleets, schedules, strict=True):
            fleet.operate(interval, np.array([row.power_w for row in rows], dtype=np.int64))
        return self._figures(interval, given, curves, cleared, schedules)

    def _figures(
        self,
        interval: Interval,
        given: Sequence[Offered],
        curves: Sequence[Mapping[str, Curve]],
        cleared: Cleared,
        schedules: Sequence[Sequence[Scheduled]],
    ) -> IntervalFigures:
        whole = whole_table(self._cut, [one.table.steps for one in given])
        central = solve_central(Problem(self._cut.network, whole, self._rules))
        rows = [(row, own[row.resource]) for own, of in zip(curves, schedules, strict=True) for row in of]
        stored = [row.power_w for row, _ in rows if row.resource.startswith(BATTERY)]
        others = [(row, curve) for row, curve in rows if not row.resource.startswith(BATTERY)]
        reduced_w = sum(row.power_w - curve.fixed_w for row, curve in others if curve.fixed_w < 0)
        means = {
            region.name: float(clearing.price.mean()) / (MICRO << PRICE_BITS)
            for region, clearing in zip(self._cut.regions, cleared.clearings, strict=True)
        }
        return IntervalFigures(
            hours=interval.duration_s / SECONDS_PER_HOUR,
            objective=cleared.objective_micro_per_h / MICRO,
            central=central.objective_micro_per_h / MICRO,
            rounds=cleared.rounds,
            bytes_sent=cleared.bytes_sent,
            disclosed_share=cleared.disclosed_share,
            prices=means,
            demand_mw=sum(-curve.fixed_w for _, curve in others if curve.fixed_w < 0) / W_PER_MW,
            curtailed_mw=sum(_curtailed_w(row, curve) for row, curve in others) / W_PER_MW,
            flexed_mw=(reduced_w - cleared.shed_w) / W_PER_MW,
            shed_mw=cleared.shed_w / W_PER_MW,
            charged_mw=-sum(min(power_w, 0) for power_w in stored) / W_PER_MW,
            discharged_mw=sum(max(power_w, 0) for power_w in stored) / W_PER_MW,
        )


def _curtailed_w(row: Scheduled, curve: Curve) -> int:
    """What a unit would inject for nothing, and does not."""
    free_w = curve.fixed_w + sum(step.width_w for step in curve.steps if step.price_micro_per_mwh <= 0)
    return max(0, free_w - max(row.power_w, 0)) if free_w > 0 else 0
