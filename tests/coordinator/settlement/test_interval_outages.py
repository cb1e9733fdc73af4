"""Hours of RTS-GMLC with tie-lines out of service: each is coupled to the optimum of its own topology."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coordinator.ledger.invariants import check_books
from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.settlement.interval.dispatch import offered
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.region import Resource
from coordinator.settlement.interval.topics import Interval, Step
from tests.coordinator.settlement.interval_support import HUB_NUMBERS, RULES, IntervalNet
from tests.coordinator.settlement.test_intervals import TIE_METERS, Hour, net_export_w, net_of, objective, offer_all

OF_REGION_2 = ("tie-119", "tie-12", "tie-24", "tie-41")


def optimum(net: IntervalNet, hour: Hour, ties_out: Sequence[str]) -> int:
    """Of everything known at one place, with these tie-lines open."""
    names = [f"tie-{branch}" for branch in net.cut.network.branch_ids]
    network = net.cut.network.without_branches(np.array([names.index(tie) for tie in ties_out], dtype=np.int64))
    entries = [entry for region in hour[1] for entry in region.items()]
    resources = {name: Resource(bus, "alice") for name, (bus, _) in entries}
    table = offered({name: curve for name, (_, curve) in entries}, resources, network.bus_ids, RULES).table
    return solve_central(Problem(network, table.steps, RULES)).objective_micro_per_h


def couple(net: IntervalNet, hour: Hour) -> None:
    offer_all(net, hour)
    net.run(hour[0])


def assert_optimal(net: IntervalNet, day: Sequence[Hour], outages: Sequence[Sequence[str]]) -> None:
    optima = [optimum(net, hour, ties_out) for hour, ties_out in zip(day, outages, strict=True)]
    for reached, best in zip(objective(net), optima, strict=True):
        assert abs(reached - best) <= 1e-6 * abs(best)


def ties_out(net: IntervalNet, interval: Interval) -> tuple[str, ...]:
    return HubIntervals.of(net.hub.state.view).ties_out(interval)


def test_a_tie_goes_out_and_comes_back_while_a_validator_of_each_chain_restarts() -> None:
    net, day = net_of(3)
    couple(net, day[0])
    start = day[1][0].start_s
    assert net.switch(0, "tie-24", start, out=True) == ""
    assert net.switch(0, "tie-24", day[2][0].start_s, out=False) == ""
    for _ in range(4):
        net.step()
    net.hub_duties["v1"] = net.new_hub_duty("v1")
    net.region_duties[1]["v2"] = net.new_region_duty(1, "v2")
    couple(net, day[1])
    assert net.hub_duties["v1"].fault == "", "the session is a new one, nobody needs to remember"
    assert ties_out(net, day[1][0]) == ("tie-24",)
    couple(net, day[2])
    assert ties_out(net, day[2][0]) == ()
    assert_optimal(net, day, [(), ("tie-24",), ()])
    assert HubIntervals.of(net.hub.state.view).absent == ()


def test_a_region_is_an_island_for_two_hours_and_comes_back() -> None:
    net, day = net_of(4)
    net = IntervalNet(net.cut, net.resources, net.opens_s, HUB_NUMBERS, tie_meters=TIE_METERS)
    couple(net, day[0])
    for tie in OF_REGION_2:
        assert net.switch(1, tie, day[1][0].start_s, out=True) == ""
        assert net.switch(1, tie, day[3][0].start_s, out=False) == ""
    for _ in range(24):
        net.step()
    for hour in day[1:]:
        couple(net, hour)
    assert_optimal(net, day, [(), OF_REGION_2, OF_REGION_2, ()])
    for said, hour in zip(net.agreements(), day, strict=True):
        is_island = hour in day[1:3]
        assert (said.regions[1].amount == 0) == is_island
        carried = {name for (name, _, _), tie in zip(net.tie_ends(), said.ties, strict=True) if tie.power_w}
        assert carried.isdisjoint(OF_REGION_2) == is_island
        assert "tie-118" in carried
        assert (abs(net_export_w(net, 1, hour)) <= RULES.tolerance_w * 24) == is_island
    for chain in (net.hub, *net.regions):
        check_books(chain.state.tree)


def test_an_outage_that_is_said_too_late_waits_for_the_next_hour() -> None:
    net, day = net_of(2)
    offer_all(net, day[0])
    net.target = day[0][0]
    while (running := HubIntervals.of(net.hub.state.view).running) is None or running.waiting_for is Step.COMMIT:
        net.step()
    assert net.switch(2, "tie-118", day[0][0].start_s, out=True) == ""
    net.run(day[0][0])
    couple(net, day[1])
    assert_optimal(net, day, [(), ("tie-118",)])


def test_an_outage_after_regions_committed_makes_all_begin_anew_with_it_and_nobody_is_left_out() -> None:
    net, day = net_of(1)
    offer_all(net, day[0])
    assert net.switch(1, "tie-41", day[0][0].start_s, out=True) == ""
    net.unheard, net.target = {0, 1, 2}, day[0][0]
    for _ in range(8):
        net.step()
    net.unheard = {0, 2}
    for _ in range(3):
        net.step()
    assert ties_out(net, day[0][0]) == ("tie-41",)
    net.unheard = set()
    net.run(day[0][0])
    assert_optimal(net, day, [("tie-41",)])
    assert HubIntervals.of(net.hub.state.view).absent == ()


def test_a_region_that_is_held_delivers_nothing_from_an_island() -> None:
    net, day = net_of(2)
    net = IntervalNet(net.cut, net.resources, net.opens_s, HUB_NUMBERS, fallback="held")
    couple(net, day[0])
    assert abs(net_export_w(net, 1, day[0])) > 10**7
    for tie in OF_REGION_2:
        assert net.switch(1, tie, day[1][0].start_s, out=True) == ""
    for _ in range(6):
        net.step()
    offer_all(net, day[1])
    net.unheard = {1}
    net.run(day[1][0])
    net.unheard = set()
    for _ in range(8):
        net.step()
    assert HubIntervals.of(net.hub.state.view).absent == (1,)
    assert abs(net_export_w(net, 1, day[1])) <= RULES.tolerance_w * 24
    assert net.agreements()[-1].regions[1].amount == 0
