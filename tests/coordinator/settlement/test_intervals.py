"""Whole intervals on ledgers in memory: real offers and coupling, validators who verify one another, and money."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from actors.cases import interval_demand_w, interval_offers, run_intervals
from coordinator.ledger.invariants import check_books
from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.costs import DEFAULT_SEGMENTS
from coordinator.market.fixed_point import divide_half_even
from coordinator.market.offers import build_book, tabulate
from coordinator.settlement.interval.decisions import TieSchedule
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_exchange import Exchanges
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.schedules import Curve, Metered
from coordinator.settlement.interval.topics import Interval
from tests.coordinator.settlement.interval_chain import COLLATERAL
from tests.coordinator.settlement.interval_support import HUB_NUMBERS, RULES, IntervalNet
from topology.case_files import choose_regions, read_case
from topology.dc import build_dc_network
from topology.regions import RegionCut, cut_network

DAY = Path(__file__).parents[3] / "examples" / "rts_gmlc" / "2020-01-27"
TIE_METERS: dict[str, object] = {"tolerance_wh": 10, "disagreement": "schedule", "blocks": 40, "collateral": 10**9}
Hour = tuple[Interval, list[dict[str, tuple[str, Curve]]], int]


@cache
def rts_day(hours: int) -> tuple[RegionCut, list[Hour]]:
    """RTS-GMLC by area: for each hour the interval, each region's resources with bus and curve, and the optimum."""
    case = read_case(DAY)
    network = build_dc_network(case.grid)
    region_of_bus = choose_regions(case.grid, network, "area")
    cut = cut_network(network, region_of_bus)
    names = cut.interconnection.region_names
    number = {bus: names.index(name) for bus, name in zip(network.bus_ids, region_of_bus, strict=True)}
    found = []
    for market in run_intervals(case, str(DAY), hours):
        regions: list[dict[str, tuple[str, Curve]]] = [{} for _ in names]
        offers = interval_offers(case, market, segments=DEFAULT_SEGMENTS, relax_minimum=True, asset="EUR")
        for offer in offers:
            regions[number[offer.bus]][f"unit-{offer.id}"] = (offer.bus, Curve(offer.fixed_w, offer.steps))
        demand = interval_demand_w(case.grid, market)
        loads = {bus.id for bus in case.grid.buses if bus.demand_mw or bus.shunt_mw}
        for bus, power in ((bus, power) for bus, power in demand.items() if bus in loads):
            regions[number[bus]][f"load-{bus}"] = (bus, Curve(-power, ()))
        book = build_book(offers, demand, case.grid.bus_position, RULES)
        central = solve_central(Problem(cut.network, tabulate(book, RULES).steps, RULES))
        interval = Interval(market.start_s, market.duration_s)
        found.append((interval, regions, central.objective_micro_per_h - book.fixed_cost_micro_per_h))
    return cut, found


def net_of(hours: int, ghost: str = "", **numbers: int) -> tuple[IntervalNet, list[Hour]]:
    """A consortium; `ghost` is the bus of one more resource of the first region's."""
    cut, day = rts_day(hours)
    resources = [{name: bus for name, (bus, _) in region.items()} for region in day[0][1]]
    resources[0].update({"ghost": ghost} if ghost else {})
    return IntervalNet(cut, resources, day[0][0].start_s, {**HUB_NUMBERS, **numbers}), day


def offer_all(net: IntervalNet, hour: Hour) -> None:
    interval, regions, _ = hour
    for number, region in enumerate(regions):
        if number not in net.silent:
            net.offer(number, interval, {name: curve for name, (_, curve) in region.items()})


def objective(net: IntervalNet) -> list[int]:
    """Of all agreements so far, in micro-units per hour."""
    return [said.objective_micro_per_h for said in net.agreements()]


def test_hours_of_a_day_equal_the_central_optimum_and_the_money_adds_up() -> None:
    net, day = net_of(3)
    for hour in day:
        offer_all(net, hour)
        net.run(hour[0])
    for _ in range(6):
        net.step()
    for (_, _, optimum), reached in zip(day, objective(net), strict=True):
        assert abs(reached - optimum) <= 1e-6 * abs(optimum)
    escrow = HubIntervals.of(net.hub.state.view).escrow
    positions = [escrow.position(name, "EUR") for name in net.cut.interconnection.region_names]
    assert [net.neutral(number) for number in range(3)] == positions
    assert any(positions)
    assert all(position > -3 * COLLATERAL for position in positions)
    for chain in (net.hub, *net.regions):
        check_books(chain.state.tree)


def test_schedules_balance_and_follow_offers() -> None:
    net, day = net_of(1)
    offer_all(net, day[0])
    net.run(day[0][0])
    total = 0
    for region in net.regions:
        books = RegionIntervals.of(region.state.view)
        positions = books.positions(day[0][0])
        assert len(positions) == len(books.resources())
        total += sum(position.power_w for position in positions.values())
    assert abs(total) <= RULES.tolerance_w * 73


def test_a_region_that_falls_silent_and_comes_back() -> None:
    net, day = net_of(3)
    offer_all(net, day[0])
    net.run(day[0][0])
    net.silent = {2}
    offer_all(net, day[1])
    net.run(day[1][0])
    assert HubIntervals.of(net.hub.state.view).absent == (2,)
    net.silent = set()
    offer_all(net, day[2])
    net.run(day[2][0])
    assert HubIntervals.of(net.hub.state.view).absent == ()
    reached = objective(net)
    assert abs(reached[0] - day[0][2]) <= 1e-6 * day[0][2]
    assert abs(reached[2] - day[2][2]) <= 1e-6 * day[2][2]


def test_one_validator_of_each_chain_may_be_dead() -> None:
    net, day = net_of(2)
    net.idle_validators = {(-1, "v0"), (0, "v1"), (1, "v2"), (2, "v3")}
    for hour in day:
        offer_all(net, hour)
        net.run(hour[0], limit=400)
    for (_, _, optimum), reached in zip(day, objective(net), strict=True):
        assert abs(reached - optimum) <= 1e-6 * abs(optimum)


def test_a_region_that_the_hub_went_on_without_clears_by_itself() -> None:
    net, day = net_of(2)
    net.silent = {1}
    offer_all(net, day[0])
    net.silent = set()
    net.offer(1, day[0][0], {name: curve for name, (_, curve) in day[0][1][1].items()})
    net.unheard = {1}
    net.run(day[0][0])
    net.unheard = set()
    for _ in range(8):
        net.step()
    positions = RegionIntervals.of(net.regions[1].state.view).positions(day[0][0])
    assert HubIntervals.of(net.hub.state.view).escrow.claim("2", "EUR") == 0
    assert len(positions) == len(day[0][1][1])
    assert abs(sum(position.power_w for position in positions.values())) <= RULES.tolerance_w * 24
    assert net.neutral(1) == HubIntervals.of(net.hub.state.view).escrow.position("2", "EUR")
    offer_all(net, day[1])
    net.run(day[1][0])
    assert abs(objective(net)[-1] - day[1][2]) <= 1e-6 * day[1][2]


def test_who_forgot_the_session_makes_all_begin_anew_and_nobody_is_left_out() -> None:
    net, day = net_of(3)
    for number, hour in enumerate(day):
        offer_all(net, hour)
        if number == 1:
            net.forget(0)
        if number == 2:
            for region in range(3):
                net.forget(region)
            net.forget_hub()
        net.run(hour[0])
        assert HubIntervals.of(net.hub.state.view).absent == ()
    for (_, _, optimum), reached in zip(day, objective(net), strict=True):
        assert abs(reached - optimum) <= 1e-6 * abs(optimum)


def test_a_hub_validator_that_was_away_sits_out_and_is_back_with_the_next_session() -> None:
    net, day = net_of(3)
    for number, hour in enumerate(day):
        offer_all(net, hour)
        if number == 1:
            net.hub_duties["v1"] = net.new_hub_duty("v1")
        net.run(hour[0])
        assert ("was away" in net.hub_duties["v1"].fault) == (number > 0)
    for (_, _, optimum), reached in zip(day, objective(net), strict=True):
        assert abs(reached - optimum) <= 1e-6 * abs(optimum)


def test_a_region_that_was_ready_alone_is_not_held_to_the_interval_that_never_began() -> None:
    net, day = net_of(2)
    net.silent = {1, 2}
    offer_all(net, day[0])
    net.target = day[0][0]
    for _ in range(12):
        net.step()
    assert HubIntervals.of(net.hub.state.view).running is None
    assert [ready.interval for ready in HubIntervals.of(net.hub.state.view).ready().values()] == [day[0][0]]
    net.silent = {2}
    offer_all(net, day[1])
    net.run(day[1][0])
    assert HubIntervals.of(net.hub.state.view).absent == (2,)


def test_a_region_that_would_owe_too_much_where_it_is_held_is_let_go_of() -> None:
    net, day = net_of(2)
    net = IntervalNet(net.cut, net.resources, net.opens_s, HUB_NUMBERS, fallback="held")
    offer_all(net, day[0])
    net.run(day[0][0])
    owed = -net.agreements()[0].regions[1].amount
    net.collateral, net.unheard = owed // 2, {1}
    net.forget_hub()
    offer_all(net, day[1])
    net.run(day[1][0])
    books = HubIntervals.of(net.hub.state.view)
    assert books.absent == (1,)
    assert sorted(books.held()) == [0, 2]
    assert abs(net_export_w(net, 0, day[1]) + net_export_w(net, 2, day[1])) <= RULES.tolerance_w * 73


def test_metered_exchange_is_settled_while_the_next_interval_is_coupled() -> None:
    net, day = net_of(2)
    net = IntervalNet(net.cut, net.resources, net.opens_s, HUB_NUMBERS, tie_meters=TIE_METERS)
    first, ends = day[0][0], net.tie_ends()
    offer_all(net, day[0])
    net.run(first)
    schedule = net.agreements()[0].ties
    net.tie_rows = lambda number, interval: shown(net, number, schedule) if interval == first else None
    offer_all(net, day[1])
    net.run(day[1][0])
    for _ in range(12):
        net.step()
    assert Exchanges.of(net.hub.state.view).find(first) is None
    expected = [sum(said.regions[number].amount for said in net.agreements()) for number in range(3)]
    for (_, near, far), tie in zip(ends, schedule, strict=True):
        amount = divide_half_even(MORE_WH * 3600 * tie.price, 3600 * 10**6 << 20)
        expected[near] += amount
        expected[far] -= amount
    assert [net.neutral(number) for number in range(3)] == expected
    for chain in (net.hub, *net.regions):
        check_books(chain.state.tree)


def test_scheduled_tie_flows_are_what_schedules_leave_over() -> None:
    net, day = net_of(1)
    net = IntervalNet(net.cut, net.resources, net.opens_s, HUB_NUMBERS, tie_meters=TIE_METERS)
    offer_all(net, day[0])
    net.run(day[0][0])
    exported = [0, 0, 0]
    for (_, near, far), tie in zip(net.tie_ends(), net.agreements()[0].ties, strict=True):
        exported[near] += tie.power_w
        exported[far] -= tie.power_w
    for number, region in enumerate(net.regions):
        positions = RegionIntervals.of(region.state.view).positions(day[0][0])
        net_injection = sum(position.power_w for position in positions.values())
        assert abs(net_injection - exported[number]) <= RULES.tolerance_w * 73


MORE_WH = 7_000
"""Each tie-line carries so much more than scheduled, by the meters at both ends."""


def shown(net: IntervalNet, number: int, schedule: tuple[TieSchedule, ...]) -> tuple[Metered, ...]:
    rows = []
    for (name, near, far), tie in zip(net.tie_ends(), schedule, strict=True):
        if number in (near, far):
            carried = tie.power_w + MORE_WH
            rows.append(Metered(name, carried if number == far else -carried))
    return tuple(sorted(rows, key=lambda row: row.resource))


def net_export_w(net: IntervalNet, number: int, hour: Hour) -> int:
    """By the schedule of a region."""
    positions = RegionIntervals.of(net.regions[number].state.view).positions(hour[0])
    return sum(position.power_w for position in positions.values())


def test_a_region_that_is_held_exports_what_it_last_agreed_to_and_the_others_plan_with_it() -> None:
    net, day = net_of(3)
    net = IntervalNet(net.cut, net.resources, net.opens_s, HUB_NUMBERS, fallback="held")
    offer_all(net, day[0])
    net.run(day[0][0])
    exported = net_export_w(net, 1, day[0])
    assert abs(exported) > 10**7
    for hour in day[1:]:
        offer_all(net, hour)
        net.unheard = {1}
        net.run(hour[0])
        net.unheard = set()
        for _ in range(8):
            net.step()
        assert HubIntervals.of(net.hub.state.view).absent == (1,)
        assert abs(net_export_w(net, 1, hour) - exported) <= RULES.tolerance_w * 24
        assert abs(sum(net_export_w(net, number, hour) for number in range(3))) <= RULES.tolerance_w * 73
    escrow = HubIntervals.of(net.hub.state.view).escrow
    assert escrow.claim("2", "EUR") == 0, "what it was owed while it was held has been paid"
    assert [net.neutral(number) for number in range(3)] == [escrow.position(name, "EUR") for name in ("1", "2", "3")]
    assert net.neutral(1) == sum(said.regions[1].amount for said in net.agreements())
    for chain in (net.hub, *net.regions):
        check_books(chain.state.tree)
