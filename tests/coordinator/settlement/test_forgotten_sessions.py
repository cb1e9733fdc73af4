"""Validators that start again have lost the session: one after another, they must not end the coupling of regions."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.topics import Interval, Step
from tests.coordinator.service.small_market import OPENS_S, cut_grid, small_hours, write_grid
from tests.coordinator.settlement.interval_support import HUB_NUMBERS, IntervalNet
from tests.coordinator.settlement.test_intervals import Hour, objective, offer_all


@pytest.fixture
def second(tmp_path: Path) -> tuple[IntervalNet, Hour]:
    """Regions that were coupled in one hour and remember it, and what is offered for the next one."""
    write_grid(tmp_path)
    hours = [
        (Interval(OPENS_S + number * HUB_NUMBERS["duration_s"], HUB_NUMBERS["duration_s"]), regions, optimum)
        for number, (_, regions, optimum) in enumerate(small_hours(tmp_path, 2, 2)[1])
    ]
    resources = [{name: bus for name, (bus, _) in region.items()} for region in hours[0][1]]
    net = IntervalNet(cut_grid(tmp_path), resources, OPENS_S)
    offer_all(net, hours[0])
    net.run(hours[0][0])
    session = HubIntervals.of(net.hub.state.view).session
    assert session is not None, "the next hour goes on in it"
    return net, hours[1]


def start_again(net: IntervalNet, name: str) -> None:
    """A process remembers nothing any more, on the hub and in all regions."""
    net.hub_duties[name] = net.new_hub_duty(name)
    for number in range(len(net.regions)):
        net.region_duties[number][name] = net.new_region_duty(number, name)


def stop(net: IntervalNet, name: str) -> None:
    """A process ends."""
    net.idle_validators |= {(number, name) for number in range(-1, len(net.regions))}


def check_coupled(net: IntervalNet, hour: Hour) -> None:
    """It ends with all regions, at the optimum."""
    net.run(hour[0])
    assert HubIntervals.of(net.hub.state.view).absent == ()
    assert abs(objective(net)[-1] - hour[2]) <= 1e-6 * abs(hour[2])


def test_one_that_started_again_and_another_that_is_dead(second: tuple[IntervalNet, Hour]) -> None:
    """Two of four remember: neither they nor the other one are a quorum."""
    net, hour = second
    start_again(net, "v0")
    stop(net, "v1")
    offer_all(net, hour)
    check_coupled(net, hour)


def test_two_that_started_again_one_after_the_other(second: tuple[IntervalNet, Hour]) -> None:
    net, hour = second
    start_again(net, "v0")
    start_again(net, "v1")
    offer_all(net, hour)
    check_coupled(net, hour)


def test_one_that_dies_in_a_round_after_another_had_started_again(second: tuple[IntervalNet, Hour]) -> None:
    """Regions have committed as those who remember: what follows nobody can say until all begin anew."""
    net, hour = second
    start_again(net, "v0")
    offer_all(net, hour)
    net.target = hour[0]
    for _ in range(20):
        net.step()
        running = HubIntervals.of(net.hub.state.view).running
        if running is not None and running.waiting_for is Step.INJECT:
            break
    stop(net, "v1")
    check_coupled(net, hour)
