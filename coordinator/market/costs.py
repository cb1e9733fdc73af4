"""From published unit costs to offers: polynomial and piecewise costs of `.m` files as step curves.

Linear costs convert exactly, quadratic ones in equal segments whose prices are the secants, so the curve meets
the cost at every breakpoint. Costs per hour and MW on the surface become micro-units and W, rounded half to even.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from coordinator.market.offers import MICRO, Offer, OfferError, Step
from topology.dc import watts
from topology.grid import CostRow, Resource

Point = tuple[float, float]
"""(MW, cost per hour)."""

DEFAULT_SEGMENTS = 10


def offer_from_cost(
    resource: Resource,
    cost: CostRow | None,
    *,
    segments: int = DEFAULT_SEGMENTS,
    relax_minimum: bool = False,
    available_mw: float | None = None,
) -> Offer:
    """The offer of a unit at its published cost, from its minimum to what is available.

    `relax_minimum` offers down to zero (a relaxed commitment: no start-up costs): a piecewise cost becomes the
    lower convex envelope of {(0, 0)} and its points. A unit without a cost offers at zero.
    Raises OfferError naming the unit when the cost is not convex or does not cover the unit's range.
    """
    low, high = resource.min_mw, resource.max_mw if available_mw is None else min(resource.max_mw, available_mw)
    if relax_minimum and low > 0:
        low = 0.0
    if high < low:
        raise OfferError(
            f"unit {resource.id} at bus {resource.bus}: {high} MW available is below its minimum of {low} MW; "
            "lower the minimum or declare the unit out of service"
        )
    points = _points(resource, cost, low, high, segments, relax_minimum)
    steps = [
        Step(watts(right[0]) - watts(left[0]), _slope_micro_per_mwh(left, right))
        for left, right in pairwise(points)
        if watts(right[0]) > watts(left[0])
    ]
    return Offer(resource.id, resource.bus, watts(low), tuple(steps), round(points[0][1] * MICRO))


def offers_from_costs(
    resources: Sequence[Resource],
    costs: Sequence[CostRow],
    *,
    segments: int = DEFAULT_SEGMENTS,
    relax_minimum: bool = False,
    available_mw: Mapping[str, float] | None = None,
) -> list[Offer]:
    """One offer for each resource in service; see `offer_from_cost`."""
    cost_of = {cost.resource: cost for cost in costs}
    available = available_mw or {}
    return [
        offer_from_cost(
            resource,
            cost_of.get(resource.id),
            segments=segments,
            relax_minimum=relax_minimum,
            available_mw=available.get(resource.id),
        )
        for resource in resources
        if resource.in_service
    ]


def lower_convex_envelope(points: Sequence[Point]) -> list[Point]:
    """The corners of the lower convex hull of points, left to right (Andrew's monotone chain, 1979)."""
    hull: list[Point] = []
    for point in sorted(set(points)):
        while len(hull) >= 2 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        if hull and hull[-1][0] == point[0]:
            continue
        hull.append(point)
    return hull


def _points(
    resource: Resource, cost: CostRow | None, low: float, high: float, segments: int, relax_minimum: bool
) -> list[Point]:
    if cost is None:
        return [(low, 0.0), (high, 0.0)]
    if cost.points:
        published = [(0.0, 0.0), *cost.points] if relax_minimum else list(cost.points)
        curve = lower_convex_envelope(published) if relax_minimum else published
        return _clipped(resource, curve, low, high)
    quadratic = cost.polynomial[2] if len(cost.polynomial) > 2 else 0.0
    if quadratic < 0:
        raise OfferError(
            f"unit {resource.id} at bus {resource.bus}: the quadratic cost {quadratic} is negative, so the "
            "offer is not convex; give a convex cost"
        )
    count = segments if quadratic > 0 and high > low else 1
    powers = [low + (high - low) * k / count for k in range(count)] + [high]
    return [(power, _polynomial(cost.polynomial, power)) for power in powers]


def _polynomial(coefficients: Sequence[float], power_mw: float) -> float:
    return sum(coefficient * power_mw**exponent for exponent, coefficient in enumerate(coefficients))


def _clipped(resource: Resource, curve: Sequence[Point], low: float, high: float) -> list[Point]:
    """The part of a piecewise curve between two powers; outside its points the end slopes go on."""
    inner = [point for point in curve if low < point[0] < high]
    return [(low, _interpolated(curve, low)), *inner, (high, _interpolated(curve, high))]


def _interpolated(curve: Sequence[Point], power_mw: float) -> float:
    for left, right in pairwise(curve):
        if power_mw <= right[0] or right == curve[-1]:
            return left[1] + (right[1] - left[1]) * (power_mw - left[0]) / (right[0] - left[0])
    return curve[0][1]


def _slope(left: Point, right: Point) -> float:
    width = right[0] - left[0]
    return (right[1] - left[1]) / width if width > 0 else float("-inf")


def _slope_micro_per_mwh(left: Point, right: Point) -> int:
    return round(_slope(left, right) * MICRO)
