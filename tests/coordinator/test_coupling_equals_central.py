"""Coupling finds the optimum that one solver with everything would find, on every kind of grid and market.

How near two objectives must be: the coupled dispatch is in whole watts. A vertex of the clearing problem has at
most one fractional quantity for each row that binds: a balance a component, a flowgate, and beside them a link.
Rounding moves each by less than a watt, and no watt is worth more than the largest price in force. So

    |coupled - central| <= 1e-8 |central| + (components + flowgates + links) * 1 W * largest price.

At prices of energy that is below a micro-unit for each flowgate; with load shed a watt costs its value of lost load.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings

from coordinator.market.central import SolverError, solve_central, solve_central_flowgates
from coordinator.market.certificate import verify
from coordinator.market.clearing import Problem
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.session import RoundLimitError, split_book
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.market.offers import MICRO
from tests.support.coupling import MW, Coupled, couple, demand_bid, generator, interval, open_session, small_market
from tests.support.exact_certificate import exact_check
from tests.support.random_grids import Market, Recipe, cook, recipes
from topology.dc import UNLIMITED_W

SOLVER_W = 0.5
"""HiGHS may miss a row by 1e-9 of its unit, 0.1 W; a few rows may add up."""
TRIANGLE = [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.1)]


def largest_price(coupled: Coupled) -> float:
    """Micro-units per W and hour."""
    clearing = coupled.clearing
    price = max(int(np.abs(values).max(initial=0)) for values in (clearing.price, clearing.shadow_price))
    return price / (1 << PRICE_BITS) / MICRO


def binding_rows(coupled: Coupled) -> int:
    network = coupled.problem.network
    return int(network.components.max()) + 1 + coupled.outcome.active_flowgates + len(network.link_ids)


def check_against_central(market: Market, coupled: Coupled) -> None:
    """All that must hold of a coupled interval."""
    problem = market.problem()
    central = solve_central(problem).objective_micro_per_h
    flowgates = solve_central_flowgates(problem).objective_micro_per_h
    watt, rows = largest_price(coupled), binding_rows(coupled)
    assert abs(flowgates - central) <= 1e-8 * abs(central) + rows * SOLVER_W * watt
    assert abs(coupled.objective - central) <= 1e-8 * abs(central) + rows * watt

    certificate = verify(coupled.problem, coupled.clearing)
    regions = len(set(market.region_of_bus))
    assert abs(certificate.objective_micro_per_h - coupled.objective) <= regions, "each part is rounded once"
    exact = exact_check(coupled.problem, coupled.clearing)
    assert not exact.broken
    assert exact.gap is not None

    network, steps = problem.network, problem.steps
    limited = int(((network.flow_max_w < UNLIMITED_W) | (network.flow_min_w > -UNLIMITED_W)).sum())
    assert coupled.outcome.rounds <= limited + steps.count + 1


def feasible(market: Market) -> bool:
    """A link that must flow out of an island with nothing in it contradicts its balance: not a market."""
    try:
        solve_central(market.problem())
    except SolverError:
        return False
    return True


def assert_coupling_is_exact(market: Market) -> Coupled:
    coupled = couple(open_session(market), market)
    check_against_central(market, coupled)
    return coupled


@given(recipes())
@settings(max_examples=160, phases=(Phase.explicit, Phase.generate))
def test_any_market_on_any_grid_in_any_regions(recipe: Recipe) -> None:
    market = cook(recipe)
    assume(feasible(market))
    assert_coupling_is_exact(market)


@given(recipes(gentle=True, most_buses=16))
@settings(max_examples=40)
def test_later_intervals_are_exact_with_any_window(recipe: Recipe) -> None:
    market = cook(recipe)
    session = open_session(market)
    check_against_central(market, couple(session, market))
    for number, width in enumerate((0, MICRO // 10, 3 * MICRO), 1):
        later = market.next_interval(number)
        window = PublicationWindow(half_width_micro_per_mwh=width, largest_share=1.0 if number % 2 else 0.2)
        check_against_central(later, couple(session, later, number, window))


@given(recipes(gentle=True, most_buses=12))
@settings(max_examples=40)
def test_the_published_gap_is_an_exact_bound(recipe: Recipe) -> None:
    market = cook(recipe)
    coupled = couple(open_session(market), market)
    exact = exact_check(coupled.problem, coupled.clearing)
    assert exact.gap is not None
    assert coupled.outcome.agreement.gap_micro_per_h * MICRO >= exact.gap


def test_the_gap_is_an_exact_bound_where_a_congested_line_carries_a_fraction_of_a_watt() -> None:
    market = small_market(
        TRIANGLE,
        "AAB",
        [generator("cheap", 0, (200 * MW, 20)), generator("dear", 2, (200 * MW, 9000))],
        {1: 70 * MW + 1, 2: 30 * MW},
        limits_mw={0: 40.0000005, 2: 31.0000005},
    )
    coupled = assert_coupling_is_exact(market)
    exact = exact_check(coupled.problem, coupled.clearing)
    assert exact.gap is not None
    assert coupled.outcome.agreement.gap_micro_per_h * MICRO >= exact.gap


@pytest.mark.parametrize("regions", ["AB", "AA"])
@pytest.mark.parametrize("number", range(6))
def test_load_at_the_boundary_of_two_steps(regions: str, number: int) -> None:
    market = small_market([(0, 1, 0.1)], regions, [generator("g", 0, (50 * MW, 20), (50 * MW, 30))], {1: 50 * MW})
    coupled = couple(open_session(market), market, number)
    check_against_central(market, coupled)
    assert coupled.objective == 1000 * MICRO


@pytest.mark.parametrize("short_w", [-100, -63, -10, -1, 0, 1, 10, 63, 100])
def test_supply_within_a_few_watts_of_demand(short_w: int) -> None:
    market = small_market([(0, 1, 0.1)], "AB", [generator("g", 0, (50 * MW, 20))], {1: 50 * MW + short_w})
    session = open_session(market)
    for number in range(4):
        check_against_central(market, couple(session, market, number))


@pytest.mark.parametrize("demand_w", [1, 10, 100, 3_000])
def test_a_market_of_a_few_watts(demand_w: int) -> None:
    market = small_market([(0, 1, 0.1)], "AB", [generator("g", 0, (2 * demand_w, 20))], {1: demand_w})
    session = open_session(market)
    for number in range(4):
        check_against_central(market, couple(session, market, number))


def test_load_beyond_supply_is_shed_where_it_is() -> None:
    market = small_market([(0, 1, 0.1)], "AB", [generator("g", 0, (50 * MW, 20))], {1: 80 * MW})
    coupled = assert_coupling_is_exact(market)
    assert verify(coupled.problem, coupled.clearing).shed_w == {"1": 30 * MW}


def test_fixed_injection_without_demand_is_curtailed() -> None:
    market = small_market([(0, 1, 0.1)], "AB", [], {1: -10 * MW})
    coupled = assert_coupling_is_exact(market)
    assert verify(coupled.problem, coupled.clearing).curtailed_w == {"1": 10 * MW}


def test_negative_demand_serves_load_elsewhere() -> None:
    market = small_market([(0, 1, 0.1)], "AB", [generator("g", 0, (50 * MW, 20))], {0: 30 * MW, 1: -10 * MW})
    assert assert_coupling_is_exact(market).objective == 20 * 20 * MICRO


def test_an_island_with_nothing_at_all() -> None:
    market = small_market([(0, 1, 0.1)], "ABC", [generator("g", 0, (50 * MW, 20))], {1: 40 * MW})
    coupled = assert_coupling_is_exact(market)
    lost = market.rules.value_of_lost_load_micro_per_mwh << PRICE_BITS
    assert int(np.abs(coupled.clearing.price).max()) <= lost, "nothing is worth more than the value of lost load"


def test_an_island_without_supply_is_not_served() -> None:
    market = small_market([(0, 1, 0.1)], "ABC", [generator("g", 0, (50 * MW, 20))], {1: 40 * MW, 2: 5 * MW})
    session = open_session(market)
    for number in range(4):
        coupled = couple(session, market, number)
        check_against_central(market, coupled)
        assert verify(coupled.problem, coupled.clearing).shed_w == {"2": 5 * MW}


@pytest.mark.parametrize("regions", ["A", "AA", "AB", "ABC"])
def test_a_grid_where_nothing_happens(regions: str) -> None:
    lines = [(bus, bus + 1, 0.1) for bus in range(len(regions) - 1)]
    assert assert_coupling_is_exact(small_market(lines, regions, [], {})).objective == 0


@pytest.mark.parametrize("regions", ["AB", "AA"])
def test_a_line_of_zero_capacity(regions: str) -> None:
    offers = [generator("cheap", 0, (50 * MW, 20)), generator("dear", 1, (50 * MW, 30))]
    market = small_market([(0, 1, 0.1)], regions, offers, {1: 40 * MW}, limits_mw={0: 0.0})
    coupled = assert_coupling_is_exact(market)
    assert coupled.objective == 40 * 30 * MICRO


def test_prices_behind_a_line_of_zero_capacity_stay_within_the_value_of_lost_load() -> None:
    offers = [generator("cheap", 0, (50 * MW, 20)), generator("dear", 1, (50 * MW, 30))]
    market = small_market([(0, 1, 0.1)], "AB", offers, {1: 40 * MW}, limits_mw={0: 0.0})
    lost = market.rules.value_of_lost_load_micro_per_mwh << PRICE_BITS
    session = open_session(market)
    for number in range(6):
        assert int(np.abs(couple(session, market, number).clearing.price).max()) <= lost


def test_a_pocket_behind_a_line_of_zero_capacity_is_shed() -> None:
    market = small_market([(0, 1, 0.1)], "AB", [generator("g", 0, (50 * MW, 20))], {1: 40 * MW}, limits_mw={0: 0.0})
    assert assert_coupling_is_exact(market).objective == 40 * 10_000 * MICRO


def test_negative_prices_pay_to_consume() -> None:
    offers = [generator("wind", 0, (50 * MW, -20)), demand_bid("pump", 1, 30 * MW, 5)]
    market = small_market([(0, 1, 0.1)], "AB", offers, {1: 10 * MW})
    coupled = assert_coupling_is_exact(market)
    assert int(coupled.clearing.price[1]) == -20 * MICRO << PRICE_BITS


def test_equal_offers_in_every_region() -> None:
    offers = [generator(f"g{bus}", bus, (30 * MW, 20), (30 * MW, 20)) for bus in range(3)]
    market = small_market(
        TRIANGLE, "ABC", offers, {0: 20 * MW, 1: 50 * MW, 2: 30 * MW}, limits_mw={0: 5.0, 1: 5.0, 2: 5.0}
    )
    assert assert_coupling_is_exact(market).objective == 100 * 20 * MICRO


@pytest.mark.parametrize("owner", ["AAA", "AAB", "ABC", "ABA"])
def test_a_phase_shifter_inside_a_region_and_as_a_tie(owner: str) -> None:
    offers = [generator("cheap", 0, (200 * MW, 20)), generator("dear", 2, (200 * MW, 50))]
    market = small_market(
        TRIANGLE, owner, offers, {1: 60 * MW, 2: 80 * MW}, shifts_deg={0: 3.0, 2: -2.0}, limits_mw={0: 60.0, 2: 70.0}
    )
    assert assert_coupling_is_exact(market).outcome.congested


@pytest.mark.parametrize("owner", ["AA", "AB"])
def test_a_phase_shifter_that_forces_a_loop_flow_violates_a_limit_by_name(owner: str) -> None:
    market = small_market(
        [(0, 1, 0.1), (0, 1, 0.1)],
        owner,
        [generator("g", 0, (50 * MW, 20))],
        {1: 10 * MW},
        shifts_deg={0: 10.0},
        limits_mw={0: 20.0, 1: 20.0},
    )
    coupled = assert_coupling_is_exact(market)
    assert verify(coupled.problem, coupled.clearing).violation_w


@pytest.mark.parametrize("owner", ["AAAA", "AABB", "ABCD", "ABBA"])
def test_a_controllable_link_inside_a_region_across_regions_and_across_islands(owner: str) -> None:
    offers = [generator("cheap", 0, (200 * MW, 20)), generator("dear", 3, (200 * MW, 50))]
    market = small_market(
        TRIANGLE, owner, offers, {1: 30 * MW, 3: 80 * MW}, links=[(1, 3, -40.0, 40.0), (0, 2, 5.0, 10.0)]
    )
    coupled = assert_coupling_is_exact(market)
    assert coupled.outcome.public.link_w.tolist()[0] == 40 * MW
    assert 5 * MW <= coupled.outcome.public.link_w.tolist()[1] <= 10 * MW


def test_two_links_that_share_the_load_of_an_island_to_half_a_watt() -> None:
    market = small_market(
        [(0, 1, 0.1), (0, 2, 0.1), (1, 2, 0.1)],
        "AAAB",
        [generator("g", 0, (200 * MW, 20))],
        {3: 60 * MW + 1},
        links=[(1, 3, 0.0, 100.0), (2, 3, 0.0, 100.0)],
        limits_mw={2: 0.0},
    )
    coupled = couple(open_session(market), market)
    certificate = verify(coupled.problem, coupled.clearing)
    assert certificate.shed_w == {}
    check_against_central(market, coupled)


def test_a_link_that_must_draw_from_an_empty_island_is_refused_by_name() -> None:
    market = small_market(
        [(0, 1, 0.1)], "ABC", [generator("g", 0, (50 * MW, 20))], {1: 40 * MW}, links=[(2, 1, 1.0, 5.0)]
    )
    with pytest.raises(SolverError, match="minimum flows"):
        solve_central(market.problem())
    with pytest.raises(ValueError, match="minimum flows of controllable links"):
        couple(open_session(market), market)


def test_central_flowgates_do_not_hide_an_unbalanced_component() -> None:
    market = small_market(
        [(0, 1, 0.1)], "ABC", [generator("g", 0, (50 * MW, 20))], {1: 40 * MW}, links=[(2, 1, 1.0, 5.0)]
    )
    with pytest.raises(SolverError):
        solve_central_flowgates(market.problem())


def test_a_region_disconnected_inside() -> None:
    lines = [(bus, bus + 1, 0.1) for bus in range(4)]
    offers = [generator("a", 0, (80 * MW, 20)), generator("b", 4, (80 * MW, 40))]
    market = small_market(lines, "ABABA", offers, {2: 50 * MW, 3: 30 * MW}, limits_mw={1: 40.0})
    assert_coupling_is_exact(market)


def test_a_region_without_generation_between_two_with() -> None:
    lines = [(0, 1, 0.1), (1, 2, 0.1), (0, 3, 0.1), (3, 2, 0.1)]
    offers = [generator("a", 0, (200 * MW, 20)), generator("b", 2, (200 * MW, 40))]
    market = small_market(lines, "ABCB", offers, {1: 60 * MW, 3: 70 * MW}, limits_mw={0: 40.0, 2: 45.0})
    assert assert_coupling_is_exact(market).outcome.congested


def test_parallel_circuits_of_which_one_binds_first() -> None:
    lines = [(0, 1, 0.1), (0, 1, 0.2), (0, 1, 0.1)]
    offers = [generator("a", 0, (200 * MW, 20)), generator("b", 1, (200 * MW, 40))]
    market = small_market(lines, "AB", offers, {1: 150 * MW}, limits_mw={0: 40.0, 1: 40.0, 2: 90.0})
    coupled = assert_coupling_is_exact(market)
    assert list(coupled.outcome.congested) == ["tie-line branch L0 (0-1)"]


def test_a_negative_reactance_in_series() -> None:
    lines = [(0, 1, 0.1), (1, 2, -0.04), (0, 2, 0.15), (2, 3, 0.1)]
    offers = [generator("a", 0, (200 * MW, 20)), generator("b", 3, (200 * MW, 40))]
    market = small_market(lines, "AABB", offers, {2: 60 * MW, 3: 70 * MW}, limits_mw={0: 30.0, 2: 50.0})
    assert_coupling_is_exact(market)


def test_strong_and_weak_lines_side_by_side() -> None:
    lines = [(0, 1, 2e-4), (1, 2, 0.5), (2, 3, 1e-4), (3, 4, 1.0), (4, 0, 0.3)]
    offers = [generator("a", 0, (500 * MW, 20)), generator("b", 3, (500 * MW, 41))]
    market = small_market(lines, "AABBC", offers, {1: 300 * MW, 2: 200 * MW, 4: 50 * MW}, limits_mw={1: 30.0, 3: 20.0})
    assert_coupling_is_exact(market)


def test_weak_lines_in_scarcity() -> None:
    lines = [(0, 1, 9.0), (1, 2, 7.0), (0, 2, 11.0), (2, 3, 5.0)]
    offers = [generator("a", 0, (5 * MW, 20)), generator("b", 3, (5 * MW, 21))]
    market = small_market(lines, "AABB", offers, {1: 8 * MW, 2: 6 * MW}, limits_mw={0: 1.0, 2: 1.0})
    assert_coupling_is_exact(market)


def test_steps_of_a_few_watts() -> None:
    lines = [(bus, bus + 1, 0.1) for bus in range(4)]
    offers = [generator(f"g{i}", i % 5, (3, 10 + i % 37)) for i in range(300)]
    market = small_market(lines, "AABBC", offers, {1: 400, 4: 310})
    assert_coupling_is_exact(market)


def test_every_bus_a_region_and_one_region_for_all_give_the_same_optimum() -> None:
    recipe = Recipe(seed=5, buses=14, extra_lines=8, parallel=1, shifters=1, links=1, fixed_injections=1)
    objectives = []
    for cut in ("each", "scattered", "connected"):
        market = cook(recipe)
        count = market.network.bus_count
        regions = tuple(f"R{bus}" for bus in range(count)) if cut == "each" else ("R0",) * count
        if cut == "scattered":
            regions = tuple(f"R{bus * 7 % 3}" for bus in range(count))
        market = replace(market, region_of_bus=regions)
        objectives.append(assert_coupling_is_exact(market).objective)
    assert max(objectives) - min(objectives) <= 1e-8 * max(objectives)


def test_the_round_limit_is_an_error_with_a_remedy_and_the_session_goes_on() -> None:
    offers = [generator("cheap", 0, (200 * MW, 20)), generator("dear", 2, (200 * MW, 50))]
    market = small_market(TRIANGLE, "AAB", offers, {1: 60 * MW, 2: 80 * MW}, limits_mw={0: 30.0, 2: 30.0})
    session = open_session(market)
    tables = split_book(session.cut, market.tabulated().book, market.rules)
    with pytest.raises(RoundLimitError, match="fallback"):
        session.couple(interval(0), tables, round_limit=1)
    check_against_central(market, couple(session, market, 1))


def test_the_problem_is_that_of_the_whole() -> None:
    market = cook(Recipe(seed=3))
    coupled = assert_coupling_is_exact(market)
    whole: Problem = market.problem()
    assert sorted(coupled.problem.steps.width_w.tolist()) == sorted(whole.steps.width_w.tolist())
    assert coupled.problem.steps.offset_micro_per_h == whole.steps.offset_micro_per_h
