"""Small scope: Twins scenarios, and a crash at every boundary between two effects of a run of three views."""

from __future__ import annotations

import itertools

import pytest

from coordinator.simulation.twins import (
    CRASH_VIEWS,
    DIVISIONS,
    SIZE,
    Scenario,
    crash_points,
    run_crash,
    run_scenario,
    sampled,
    scenarios,
)

SAMPLED, CHUNK = 500, 50


@pytest.mark.parametrize("first", range(0, SAMPLED, CHUNK))
def test_sampled_scenarios_of_four_views(first: int) -> None:
    for scenario in sampled(0, SAMPLED, 4)[first : first + CHUNK]:
        try:
            run_scenario(scenario)
        except Exception as error:
            raise AssertionError(f"{scenario}: {error}") from error


def test_every_scenario_of_one_view() -> None:
    for scenario in scenarios(1):
        run_scenario(scenario)


def test_of_two_scenarios_that_are_alike_one_is_run() -> None:
    kept = list(scenarios(2))
    every = {Scenario(seat, pair) for seat in range(SIZE) for pair in itertools.product(range(DIVISIONS), repeat=2)}
    assert len(kept) < len(every) == SIZE * DIVISIONS**2
    assert {one for scenario in kept for one in (scenario, scenario.exchanged())} == every
    assert all(scenario.exchanged().exchanged() == scenario for scenario in every)


@pytest.mark.parametrize("ledger_ahead", [False, True], ids=["a torn end", "ledger ahead"])
@pytest.mark.parametrize("node", range(SIZE))
def test_a_crash_at_every_boundary(node: int, ledger_ahead: bool) -> None:
    points = [point for point in crash_points() if point[0] == node]
    assert len(points) > 10 * CRASH_VIEWS
    for point in points:
        run_crash(point, ledger_ahead=ledger_ahead)
