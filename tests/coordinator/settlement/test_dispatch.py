"""From a clearing to what each resource does: nobody gives up the same demand twice."""

from __future__ import annotations

import pytest

from coordinator.market.central import rounded_clearing, solve_central
from coordinator.market.clearing import Problem
from coordinator.market.offers import MICRO, MarketRules
from coordinator.market.offers import Step as OfferStep
from coordinator.settlement.interval.dispatch import offered, scheduled
from coordinator.settlement.interval.region_records import Resource
from coordinator.settlement.interval.schedules import Curve
from topology.dc import build_dc_network
from topology.grid import Branch, Bus, Grid

RULES = MarketRules()
CURVES = {
    "battery": Curve(-3 * MICRO, (OfferStep(3 * MICRO, 20 * MICRO), OfferStep(2 * MICRO, 30 * MICRO))),
    "flexible": Curve(-4 * MICRO, (OfferStep(1 * MICRO, 60 * MICRO),)),
    "load": Curve(-6 * MICRO, ()),
    "must-run": Curve(1 * MICRO, ()),
    "unit": Curve(0, (OfferStep(20 * MICRO, 40 * MICRO),)),
}


def schedule(unit_w: int) -> dict[str, int]:
    """What all do at one bus, when the unit behind a line to it can deliver so much."""
    buses = (Bus("1"), Bus("2"))
    network = build_dc_network(Grid("pair", 100.0, buses, (Branch("line", "1", "2", 0.0, 0.1),)))
    curves = {**CURVES, "unit": Curve(0, (OfferStep(unit_w, 40 * MICRO),))}
    resources = {name: Resource("2" if name == "unit" else "1", "alice") for name in curves}
    known = offered(curves, resources, network.bus_ids, RULES)
    problem = Problem(network, known.table.steps, RULES)
    rows = scheduled(known, rounded_clearing(problem, solve_central(problem)))
    for row in rows:
        assert curves[row.resource].lowest_w <= row.power_w <= curves[row.resource].highest_w
    return {row.resource: row.power_w for row in rows}


@pytest.mark.parametrize(
    ("unit_mw", "flexible_mw", "load_mw"), [(10, -4, -6), (6.5, -3.5, -6), (2, -3 / 9 * 5, -6 / 9 * 5)]
)
def test_what_is_short_is_given_up_at_its_price_first_and_only_once(
    unit_mw: float, flexible_mw: float, load_mw: float
) -> None:
    """Last case: 1 MW must run and the battery gives 2, so 5 MW are left for 9 without a price, in equal shares."""
    found = schedule(round(unit_mw * MICRO))
    assert found["battery"] == 2 * MICRO
    assert found["flexible"] == pytest.approx(flexible_mw * MICRO, abs=64)
    assert found["load"] == pytest.approx(load_mw * MICRO, abs=64)
    assert found["must-run"] == 1 * MICRO
