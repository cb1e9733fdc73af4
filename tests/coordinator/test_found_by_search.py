"""Markets on which a search over thousands of random ones, or somebody's hand, once broke the coupling."""

from __future__ import annotations

import pytest

from coordinator.market.fixed_point import FixedPointRangeError
from coordinator.market.offers import MICRO, MarketRules
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.coordinator.test_coupling_equals_central import check_against_central
from tests.support.coupling import (
    MW,
    STANDARD_WINDOW,
    Theatre,
    couple,
    generator,
    interval,
    open_session,
    small_market,
)
from tests.support.random_grids import Market, Recipe, cook

WINDOWS = (0, MICRO // 10, 3 * MICRO)
FOUND = {
    "noise in a shadow price, scarcity beside a violated line": Recipe(
        seed=2968478361,
        buses=23,
        extra_lines=13,
        parallel=1,
        negative_reactances=3,
        shifters=2,
        islands=2,
        links=1,
        zero_capacity_lines=1,
        generating_buses=1,
        supply_over_demand=1.0,
        demand_bids=1,
        equal_prices=True,
    ),
    "noise in a shadow price, regions that fall apart": Recipe(
        seed=614527445,
        buses=14,
        extra_lines=10,
        parallel=1,
        negative_reactances=1,
        shifters=3,
        zero_capacity_lines=1,
        regions=6,
        cut="scattered",
        generators=8,
        generating_buses=5,
        supply_over_demand=0.3,
        demand_bids=3,
        fixed_injections=2,
        equal_prices=True,
    ),
    "a component of which nothing is published": Recipe(
        seed=1000263,
        buses=2,
        extra_lines=0,
        negative_reactances=2,
        islands=2,
        regions=3,
        cut="scattered",
        generators=5,
        generating_buses=3,
        supply_over_demand=3.0,
        fixed_injections=1,
    ),
}
STACKED = Recipe(
    seed=2813912137,
    buses=27,
    extra_lines=5,
    parallel=1,
    negative_reactances=3,
    shifters=1,
    islands=2,
    must_flow_links=1,
    generators=3,
    generating_buses=2,
    supply_over_demand=3.0,
    fixed_injections=3,
    negative_prices=True,
)
"""Twelve lines violated in a row, amplified by negative reactances: LMPs of 36 line violation prices."""


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_four_intervals_in_a_row_are_exact(name: str, share: float) -> None:
    check_four_intervals(cook(FOUND[name]), share)


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_lines_violated_in_a_row_cost_what_they_cost(share: float) -> None:
    rules = MarketRules(line_violation_micro_per_mwh=20_000 * MICRO)
    check_four_intervals(cook(STACKED, rules), share)


def test_a_price_beyond_fixed_point_is_refused_with_the_remedy() -> None:
    market = cook(STACKED)
    with pytest.raises(FixedPointRangeError, match="lower the line violation price"):
        couple(open_session(market), market)


def check_four_intervals(market: Market, share: float) -> None:
    session = open_session(market)
    check_against_central(market, couple(session, market))
    for number, width in enumerate(WINDOWS, 1):
        later = market.next_interval(number)
        window = type(STANDARD_WINDOW)(half_width_micro_per_mwh=width, largest_share=share)
        check_against_central(later, couple(session, later, number, window))


def test_two_islands_without_supply_that_a_link_joins() -> None:
    market = small_market([], "AB", [], {0: 20 * MW, 1: 50 * MW}, links=[(0, 1, -30.0, 30.0)])
    session = open_session(market)
    for number in range(12):
        coupled = couple(session, market, number)
        check_against_central(market, coupled)
        assert coupled.objective == 70 * 10_000 * MICRO


def test_links_in_a_row_share_the_odd_watt() -> None:
    market = small_market(
        [(0, 1, 0.1), (0, 2, 0.1), (1, 2, 0.1)],
        "AAABC",
        [generator("g", 0, (200 * MW, 20))],
        {3: 60 * MW + 1},
        links=[(3, 4, -10.0, 10.0), (1, 3, 0.0, 100.0), (2, 3, 0.0, 100.0)],
        limits_mw={2: 0.0},
    )
    coupled = couple(open_session(market), market)
    check_against_central(market, coupled)
    assert coupled.objective == pytest.approx(20 * (60 * MW + 1), abs=100)


def committed_salts(market: Market, theatre: Theatre) -> list[bytes]:
    """The salts a region reveals with its first submission, all steps being published."""
    region = theatre.regions[0]
    region.forget_prices()
    tables = Theatre(market).tables
    region.commit(interval(), tables[0], STANDARD_WINDOW)
    return list(pb.Submission.FromString(region.submit()).intervals[0].salt_seed)


def test_a_second_commitment_for_an_interval_has_fresh_salts() -> None:
    """Else what one commitment revealed opens the other's hidden leaves to guessing."""

    def market(price: int) -> Market:
        return small_market([(0, 1, 0.1)], "AB", [generator("g", 0, (50 * MW, price), (50 * MW, 30))], {1: 40 * MW})

    theatre = Theatre(market(20))
    assert committed_salts(market(20), theatre) != committed_salts(market(21), theatre)
