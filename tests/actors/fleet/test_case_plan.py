"""Fleets of the RTS-GMLC: they offer what the case publishes, and a coupled day of them meters what was scheduled."""

from __future__ import annotations

from functools import cache

import pytest

from actors.cases import run_intervals
from actors.fleet.case_plan import BatterySite, FleetParameters, plans_of_case
from actors.fleet.fleet import Fleet
from actors.fleet.orders import make_order
from actors.fleet.plan import FleetError, FleetPlan, PlannedBattery, shards
from coordinator.ledger.readings import SignedColumn
from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.offers import Offer, build_book, check_offer, tabulate
from coordinator.settlement.interval.region import DISPATCH_EVENT, RegionIntervals
from coordinator.settlement.interval.schedules import Curve, Scheduled
from tests.coordinator.settlement.interval_chain import event_proof
from tests.coordinator.settlement.interval_support import HUB_NUMBERS, RULES, IntervalNet
from tests.coordinator.settlement.test_intervals import DAY, rts_day
from topology.case_files import choose_regions, read_case
from topology.dc import build_dc_network
from topology.grid import Case

SITES = tuple(
    BatterySite(bus, PlannedBattery(f"battery-{bus}", 50_000_000, 50_000_000, 200_000_000, 100_000_000))
    for bus in ("101", "223", "318")
)


@cache
def rts() -> tuple[Case, dict[str, str]]:
    case = read_case(DAY)
    network = build_dc_network(case.grid)
    return case, dict(zip(network.bus_ids, choose_regions(case.grid, network, "area"), strict=True))


def rts_plans(parameters: FleetParameters, hours: int) -> dict[str, FleetPlan]:
    case, region_of_bus = rts()
    intervals = run_intervals(case, str(DAY), hours)
    return plans_of_case(case, intervals, region_of_bus, dict.fromkeys("123", "alice"), parameters)


def test_without_flexible_loads_fleets_offer_what_the_case_is_cleared_with() -> None:
    plans, (cut, day) = rts_plans(FleetParameters(flexible_per_mille=0), 2), rts_day(2)
    assert sum(plan.meters for plan in plans.values()) == 3000
    for number, name in enumerate(cut.interconnection.region_names):
        plan = plans[name]
        for place, (interval, regions, _) in enumerate(day):
            assert plan.intervals[place] == interval
            offered = {entry.name: entry.curves[place] for entry in plan.resources}
            assert offered == {resource: curve for resource, (_, curve) in regions[number].items()}


def test_flexible_demand_is_part_of_what_a_bus_withdraws() -> None:
    rigid, flexible = (rts_plans(FleetParameters(flexible_per_mille=share), 1)["1"] for share in (0, 100))
    for before, after in zip(rigid.resources, flexible.resources, strict=True):
        if before.name.startswith("load"):
            assert after.curves[0].fixed_w == before.curves[0].fixed_w
            given_up = sum(step.width_w for step in after.curves[0].steps)
            assert given_up == -before.curves[0].fixed_w // 10
        else:
            assert before == after


def test_every_offer_of_the_day_is_one_that_a_market_takes() -> None:
    for plan in rts_plans(FleetParameters(batteries=SITES), 48).values():
        assert min(plan.forecast_micro_per_mwh) >= 0
        for entry in plan.resources:
            for curve in entry.curves:
                check_offer(Offer(entry.name, "1", curve.fixed_w, curve.steps), RULES)


def test_too_few_meters_for_the_case_are_refused() -> None:
    with pytest.raises(FleetError, match="need at least"):
        rts_plans(FleetParameters(meters=150), 1)


class Consortium:
    """Three regions with real signatures, each with two shards of devices."""

    def __init__(self, hours: int) -> None:
        self.cut, _ = rts_day(1)
        plans = rts_plans(FleetParameters(seed=3, meters=600, batteries=SITES), hours)
        names = self.cut.interconnection.region_names
        battery_bus = {site.battery.name: site.bus for site in SITES}
        _, day = rts_day(1)
        self.buses = {name: bus for region in day[0][1] for name, (bus, _) in region.items()} | battery_bus
        self.plans = [plans[name] for name in names]
        resources = [{entry.name: self.buses[entry.name] for entry in plan.entries} for plan in self.plans]
        opens_s = self.plans[0].intervals[0].start_s
        self.net = IntervalNet(self.cut, resources, opens_s, dict(HUB_NUMBERS), real=True)
        self.fleets = [
            [Fleet.make(part, chain.genesis) for part in shards(plan, 2)]
            for plan, chain in zip(self.plans, self.net.regions, strict=True)
        ]

    def run(self, place: int) -> tuple[dict[str, Curve], dict[str, Scheduled], list[SignedColumn]]:
        """One interval: all offers, the schedule by resource, and what meters sign."""
        interval = self.plans[0].intervals[place]
        offers: dict[str, Curve] = {}
        for number, fleets in enumerate(self.fleets):
            curves = dict(curve for fleet in fleets for curve in fleet.offers(interval).curves)
            self.net.offer(number, interval, curves)
            offers |= curves
        self.net.run(interval)
        schedule: dict[str, Scheduled] = {}
        columns: list[SignedColumn] = []
        for chain, fleets in zip(self.net.regions, self.fleets, strict=True):
            positions = RegionIntervals.of(chain.state.view).positions(interval)
            rows = [Scheduled(name, position.power_w, position.price) for name, position in positions.items()]
            order = make_order(event_proof(chain, None, DISPATCH_EVENT), (), interval, rows, positions)
            schedule |= {row.resource: row for row in rows}
            for fleet in fleets:
                refused = fleet.instruct(order)
                assert all(refusal.reason == "unknown" for refusal in refused), "the other shard's"
                batch = fleet.operate(interval)
                assert batch is not None
                columns.extend(batch.columns)
        return offers, schedule, columns


def metered_wh(columns: list[SignedColumn], previous: dict[str, int]) -> dict[str, int]:
    """Energy by resource, injection positive; `previous` has registers by device, and gets the new ones."""
    found: dict[str, int] = {}
    for column in (signed.column for signed in columns):
        resource, _, direction = column.device.partition(".")
        before = previous.get(column.device, column.registers_wh[0])
        grown = column.registers_wh[-1] - before
        found[resource] = found.get(resource, 0) + (grown if direction == "injected" else -grown)
        previous[column.device] = column.registers_wh[-1]
    return found


def test_hours_of_fleets_are_optimal_and_their_meters_show_the_schedule() -> None:
    consortium, previous = Consortium(24), {}
    moved = 0
    for place in range(2):
        offers, schedule, columns = consortium.run(place)
        book = build_book(
            [Offer(name, consortium.buses[name], curve.fixed_w, curve.steps) for name, curve in offers.items()],
            {},
            {bus: number for number, bus in enumerate(consortium.cut.network.bus_ids)},
            RULES,
        )
        central = solve_central(Problem(consortium.cut.network, tabulate(book, RULES).steps, RULES))
        agreed = consortium.net.agreements()[-1].objective_micro_per_h
        assert abs(agreed - central.objective_micro_per_h) <= 1e-6 * abs(central.objective_micro_per_h)
        metered = metered_wh(columns, previous)
        assert metered == {name: row.power_w for name, row in schedule.items()}
        moved += sum(abs(schedule[site.battery.name].power_w) for site in SITES)
    assert moved, "batteries take part"
