"""Money between regions: each keeps the rent of its own lines, the fund that of the ties, and sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings

from coordinator.market.clearing import Problem
from coordinator.market.coupling.session import split_book
from coordinator.settlement.congestion_rent import RegionalSurplus, regional_surplus, settle
from tests.support.coupling import MW, Coupled, couple, generator, open_session, small_market
from tests.support.random_grids import Market, Recipe, cook, recipes

HOUR_S = 3600
EURO = 1_000_000


def surpluses(market: Market, coupled: Coupled) -> list[RegionalSurplus]:
    cut = market.cut()
    tables = split_book(cut, market.tabulated().book, market.rules)
    return [
        regional_surplus(Problem(region.network, table, market.rules), clearing, region.boundary)
        for region, table, clearing in zip(cut.regions, tables, coupled.outcome.clearings, strict=True)
    ]


def check_identity(market: Market, duration_s: int = HOUR_S) -> None:
    """The identity of every region and of the fund, within the stated rounding; the sums exactly."""
    session = open_session(market)
    coupled = couple(session, market)
    settlement = settle(session.public, coupled.outcome.public, duration_s)
    assert settlement.total == 0
    bounds = 0
    for surplus, transfer in zip(surpluses(market, coupled), settlement.transfers, strict=True):
        bound = surplus.micro(surplus.bound, duration_s) + 4
        bounds += bound
        left = surplus.micro(surplus.merchandising, duration_s) + transfer.energy + transfer.loop_flow + transfer.links
        kept = surplus.micro(surplus.line_rent + surplus.shifters, duration_s)
        assert abs(left - kept) <= bound, f"region {transfer.region}: {left} left, {kept} is the rent of its lines"
    ties = sum(settlement.tie_rent.values())
    half_watts = int(np.abs(coupled.outcome.public.tie_shadow_price).sum())
    bounds += surplus.micro(half_watts, duration_s)
    assert abs(settlement.interface_fund - ties) <= bounds + len(settlement.tie_rent)
    shares = sum(transfer.interface_share for transfer in settlement.transfers)
    assert shares == ties
    assert abs(settlement.rounding) <= bounds + len(settlement.tie_rent)


@given(recipes())
@settings(max_examples=80)
def test_the_identity_holds_on_any_market(recipe: Recipe) -> None:
    market = cook(recipe)
    assume(recipe.must_flow_links == 0)
    check_identity(market)


@given(recipes(gentle=True))
@settings(max_examples=40)
def test_rents_are_not_negative_where_zero_flow_is_within_limits(recipe: Recipe) -> None:
    market = cook(recipe)
    assume(recipe.shifters == 0)
    session = open_session(market)
    coupled = couple(session, market)
    tolerance = market.rules.tolerance_w * EURO
    for surplus in surpluses(market, coupled):
        assert surplus.line_rent >= -surplus.bound
    settlement = settle(session.public, coupled.outcome.public, HOUR_S)
    for tie, rent in settlement.tie_rent.items():
        assert rent >= -tolerance, f"tie {tie}"


@pytest.mark.parametrize("duration_s", [300, 900, 3600])
def test_two_regions_over_one_congested_tie(duration_s: int) -> None:
    """100 MW at 20 in A, 60 MW of load at 50 in B, a tie of 40 MW: its rent is 40 MW * 30, half to each."""
    offers = [generator("cheap", 0, (100 * MW, 20)), generator("dear", 1, (100 * MW, 50))]
    market = small_market([(0, 1, 0.1)], "AB", offers, {1: 60 * MW}, limits_mw={0: 40})
    session = open_session(market)
    settlement = settle(session.public, couple(session, market).outcome.public, duration_s)
    share = duration_s / 3600
    exporter, importer = settlement.transfers
    assert exporter.energy == pytest.approx(40 * 20 * EURO * share, abs=1)
    assert importer.energy == pytest.approx(-40 * 50 * EURO * share, abs=1)
    assert settlement.interface_fund == pytest.approx(40 * 30 * EURO * share, abs=1)
    assert exporter.interface_share == pytest.approx(importer.interface_share, abs=1)
    assert settlement.total == 0


def test_a_loop_flow_is_compensated() -> None:
    """A trade inside region A flows partly through B and loads a line there: B keeps the rent of its line."""
    lines = [(0, 1, 0.1), (0, 2, 0.1), (1, 3, 0.1), (2, 3, 0.1)]
    offers = [generator("cheap", 0, (200 * MW, 10)), generator("dear", 1, (200 * MW, 40))]
    market = small_market(lines, "AABB", offers, {1: 100 * MW}, limits_mw={3: 10})
    session = open_session(market)
    coupled = couple(session, market)
    settlement = settle(session.public, coupled.outcome.public, HOUR_S)
    a, b = settlement.transfers
    rent_of_b = surpluses(market, coupled)[1]
    assert rent_of_b.micro(rent_of_b.line_rent, HOUR_S) > 100 * EURO
    assert b.energy + b.loop_flow == pytest.approx(rent_of_b.micro(rent_of_b.line_rent, HOUR_S), abs=EURO // 100)
    assert a.energy + a.loop_flow == pytest.approx(-(b.energy + b.loop_flow), abs=2)
    assert settlement.total == 0


def test_the_rent_of_a_link_goes_to_its_owner() -> None:
    """An HVDC link of 30 MW between two islands earns 30 MW * (50 - 20)."""
    offers = [generator("cheap", 0, (100 * MW, 20)), generator("dear", 1, (100 * MW, 50))]
    market = small_market([], "AB", offers, {1: 60 * MW}, links=[(0, 1, -30, 30)])
    session = open_session(market)
    coupled = couple(session, market)
    settlement = settle(session.public, coupled.outcome.public, HOUR_S)
    assert np.array_equal(coupled.outcome.public.link_w, [30 * MW])
    assert sum(settlement.link_receipts.values()) == pytest.approx(30 * 30 * EURO, rel=1e-9)
    assert [transfer.links for transfer in settlement.transfers] == pytest.approx([30 * 20 * EURO, -30 * 50 * EURO])
    assert settlement.total == 0
