"""Published costs as step curves: exact where they are linear or piecewise, never below a convex cost."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from coordinator.market.costs import lower_convex_envelope, offer_from_cost, offers_from_costs
from coordinator.market.offers import MICRO, MarketRules, Offer, OfferError, check_offer
from topology.grid import CostRow, Resource

RULES = MarketRules()
UNIT = Resource("u", "101", 0.0, 100.0)


def cost_at_top(offer: Offer) -> float:
    """Per hour, when every step is taken."""
    steps = sum(step.width_w * step.price_micro_per_mwh for step in offer.steps)
    return offer.fixed_cost_micro_per_h / MICRO + steps / MICRO / MICRO


def polynomial(*coefficients: float) -> CostRow:
    return CostRow("u", polynomial=coefficients)


def points(*pairs: tuple[float, float]) -> CostRow:
    return CostRow("u", points=pairs)


def test_a_linear_cost_is_one_exact_step() -> None:
    offer = offer_from_cost(Resource("u", "101", 10.0, 100.0), polynomial(700.0, 12.5))
    assert offer.fixed_w == 10_000_000
    assert offer.fixed_cost_micro_per_h == 825 * MICRO
    assert [tuple(step) for step in offer.steps] == [(90_000_000, 12_500_000)]


def test_a_linear_cost_is_exact_on_a_range_of_watts() -> None:
    for width_mw in (1e-6, 1e-5):
        offer = offer_from_cost(Resource("u", "101", 100.0, 100.0 + width_mw), polynomial(1e6, 20.0))
        assert [step.price_micro_per_mwh for step in offer.steps] == [20 * MICRO]


@pytest.mark.parametrize("width_mw", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("constant", [0.0, 1e3, 1e6])
def test_a_linear_cost_is_exact_on_any_range(width_mw: float, constant: float) -> None:
    offer = offer_from_cost(Resource("u", "101", 100.0, 100.0 + width_mw), polynomial(constant, 20.0))
    assert [step.price_micro_per_mwh for step in offer.steps] == [20 * MICRO]


@pytest.mark.parametrize("coefficients", [(), (5.0,)])
def test_a_constant_cost_offers_at_zero(coefficients: tuple[float, ...]) -> None:
    offer = offer_from_cost(UNIT, polynomial(*coefficients) if coefficients else None)
    assert [tuple(step) for step in offer.steps] == [(100_000_000, 0)]


@given(
    st.floats(0.0001, 1.0),
    st.floats(-50.0, 50.0),
    st.floats(0.0, 1e4),
    st.floats(0.0, 500.0),
    st.floats(0.1, 500.0),
    st.integers(1, 20),
)
def test_a_quadratic_cost_is_met_at_every_breakpoint(
    quadratic: float, linear: float, constant: float, low: float, width: float, segments: int
) -> None:
    unit = Resource("u", "101", low, low + width)
    offer = offer_from_cost(unit, polynomial(constant, linear, quadratic), segments=segments)
    assert len(offer.steps) == segments
    check_offer(offer, RULES)
    power_w, cost = offer.fixed_w, Fraction(offer.fixed_cost_micro_per_h, MICRO)
    for step in offer.steps:
        power_w += step.width_w
        cost += Fraction(step.width_w * step.price_micro_per_mwh, MICRO * MICRO)
        power = power_w / MICRO
        exact = constant + linear * power + quadratic * power**2
        slope = abs(linear) + 2 * quadratic * (low + width)
        assert float(cost) == pytest.approx(exact, abs=1e-3 + 2e-6 * slope * segments)


@given(st.floats(0.0, 1e-6), st.floats(0.0, 50.0), st.floats(0.0, 1e6), st.floats(0.001, 1.0))
@settings(phases=(Phase.explicit, Phase.generate), max_examples=400)
def test_a_barely_curved_cost_on_a_narrow_range_stays_convex(
    quadratic: float, linear: float, constant: float, width: float
) -> None:
    offer = offer_from_cost(Resource("u", "101", 50.0, 50.0 + width), polynomial(constant, linear, quadratic))
    check_offer(offer, RULES)


def test_a_piecewise_cost_keeps_its_points() -> None:
    offer = offer_from_cost(Resource("u", "101", 10.0, 60.0), points((10.0, 100.0), (30.0, 500.0), (60.0, 1400.0)))
    assert offer.fixed_w == 10_000_000
    assert offer.fixed_cost_micro_per_h == 100 * MICRO
    assert [tuple(step) for step in offer.steps] == [(20_000_000, 20 * MICRO), (30_000_000, 30 * MICRO)]


def test_a_piecewise_cost_goes_on_with_its_end_slopes() -> None:
    offer = offer_from_cost(Resource("u", "101", 0.0, 100.0), points((10.0, 100.0), (30.0, 500.0), (60.0, 1400.0)))
    assert [step.price_micro_per_mwh for step in offer.steps] == [20 * MICRO, 20 * MICRO, 30 * MICRO, 30 * MICRO] or [
        step.price_micro_per_mwh for step in offer.steps
    ] == [20 * MICRO, 30 * MICRO]
    assert sum(step.width_w for step in offer.steps) == 100_000_000
    assert cost_at_top(offer) == pytest.approx(1400.0 + 40.0 * 30.0)


def test_what_is_available_cuts_the_curve() -> None:
    offer = offer_from_cost(UNIT, polynomial(0.0, 5.0), available_mw=40.0)
    assert [tuple(step) for step in offer.steps] == [(40_000_000, 5 * MICRO)]


def test_less_available_than_the_minimum_is_named() -> None:
    with pytest.raises(OfferError, match=r"unit u at bus 101: 3\.0 MW available is below its minimum of 10\.0 MW"):
        offer_from_cost(Resource("u", "101", 10.0, 100.0), polynomial(0.0, 5.0), available_mw=3.0)


def test_a_concave_quadratic_is_named() -> None:
    with pytest.raises(
        OfferError, match=r"unit u at bus 101: the quadratic cost -0.1 is negative, so the offer is not convex"
    ):
        offer_from_cost(UNIT, polynomial(0.0, 5.0, -0.1))


def test_a_concave_piecewise_cost_is_refused_by_the_book() -> None:
    offer = offer_from_cost(UNIT, points((0.0, 0.0), (50.0, 1000.0), (100.0, 1500.0)))
    with pytest.raises(OfferError, match=r"offer u at bus 101, step 2: .* not convex"):
        check_offer(offer, RULES)


@pytest.mark.parametrize(
    "coefficients", [(0.0, 1.0, 0.0, 5.0), (0.0, 1.0, 0.5, -1.0), (0.0, float("nan")), (0.0, float("inf"))]
)
def test_a_cost_that_is_no_quadratic_is_named(coefficients: tuple[float, ...]) -> None:
    with pytest.raises(OfferError, match="unit u at bus 101"):
        offer_from_cost(UNIT, polynomial(*coefficients))


@pytest.mark.parametrize("segments", [0, -1])
def test_segments_must_be_positive(segments: int) -> None:
    with pytest.raises(OfferError):
        offer_from_cost(UNIT, polynomial(0.0, 1.0, 1.0), segments=segments)


def test_a_single_point_is_not_a_curve() -> None:
    with pytest.raises(OfferError, match="unit u at bus 101"):
        offer_from_cost(UNIT, points((0.0, 0.0)))


def test_a_relaxed_commitment_offers_the_envelope_from_zero() -> None:
    unit = Resource("u", "101", 50.0, 100.0)
    offer = offer_from_cost(unit, points((50.0, 1500.0), (80.0, 1800.0), (100.0, 2400.0)), relax_minimum=True)
    assert offer.fixed_w == 0
    assert offer.fixed_cost_micro_per_h == 0
    assert [tuple(step) for step in offer.steps] == [(80_000_000, 22_500_000), (20_000_000, 30 * MICRO)]


def test_units_out_of_service_do_not_offer() -> None:
    units = [UNIT, Resource("off", "101", 0.0, 5.0, in_service=False)]
    assert [offer.id for offer in offers_from_costs(units, [polynomial(0.0, 1.0)])] == ["u"]


coordinates = st.tuples(st.integers(0, 30), st.integers(-100, 100))


def hull_value(corners: list[tuple[float, float]], x: int) -> Fraction:
    for left, right in pairwise(corners):
        if left[0] <= x <= right[0]:
            share = Fraction(x - int(left[0]), int(right[0]) - int(left[0]))
            return int(left[1]) + (int(right[1]) - int(left[1])) * share
    return Fraction(int(corners[0][1]))


@given(st.lists(coordinates, min_size=1, max_size=12))
def test_the_envelope_is_the_largest_convex_curve_below_the_points(cloud: list[tuple[float, float]]) -> None:
    corners = lower_convex_envelope(cloud)
    assert set(corners) <= set(cloud)
    xs = [corner[0] for corner in corners]
    assert xs == sorted(set(xs))
    assert (xs[0], xs[-1]) == (min(x for x, _ in cloud), max(x for x, _ in cloud))
    slopes = [Fraction(int(b[1] - a[1]), int(b[0] - a[0])) for a, b in pairwise(corners)]
    assert all(a < b for a, b in pairwise(slopes)), "strictly convex at its corners"
    assert all(y >= hull_value(corners, int(x)) for x, y in cloud)


@given(st.lists(coordinates, min_size=2, max_size=8, unique_by=lambda point: point[0]))
def test_an_enveloped_offer_is_never_above_the_published_cost(cloud: list[tuple[float, float]]) -> None:
    published = tuple(sorted((float(x), float(abs(y))) for x, y in cloud if x > 0))
    assume(len(published) >= 2)
    unit = Resource("u", "101", published[0][0], published[-1][0])
    offer = offer_from_cost(unit, points(*published), relax_minimum=True)
    check_offer(offer, RULES)
    assert cost_at_top(offer) <= published[-1][1] + 1e-3
