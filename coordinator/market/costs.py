"""From published unit costs to offers: polynomial and piecewise costs of `.m` files as step curves.

Linear costs convert exactly, quadratic ones in equal segments whose prices are the secants, so the curve meets
the cost at every breakpoint. Costs per hour and MW on the surface become micro-units and W, rounded half to even.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

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
    start, pieces = _pieces(resource, cost, low, high, segments, relax_minimum)
    steps = [
        Step(watts(piece.right_mw) - watts(piece.left_mw), round(piece.slope * MICRO))
        for piece in pieces
        if watts(piece.right_mw) > watts(piece.left_mw)
    ]
    return Offer(resource.id, resource.bus, watts(low), tuple(steps), round(start * MICRO))


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
    lowest: dict[float, float] = {}
    for power, cost in points:
        lowest[power] = min(cost, lowest.get(power, cost))
    hull: list[Point] = []
    for point in sorted(lowest.items()):
        while len(hull) >= 2 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


class _Piece(NamedTuple):
    """A part of a cost curve with one slope, cost per MWh."""

    left_mw: float
    right_mw: float
    slope: float


def _pieces(
    resource: Resource, cost: CostRow | None, low: float, high: float, segments: int, relax_minimum: bool
) -> tuple[float, list[_Piece]]:
    """The cost per hour at the lower end, and the pieces from there to the upper end.

    Slopes come from the published numbers, not from differences of costs, which cancel on narrow ranges.
    """
    if segments < 1:
        raise OfferError(f"a quadratic cost cannot be cut into {segments} segments; use one or more")
    if cost is None:
        return 0.0, [_Piece(low, high, 0.0)]
    if not all(isfinite(number) for number in (*cost.polynomial, *(n for point in cost.points for n in point))):
        raise OfferError(f"{_name(resource)}: a cost is not a finite number; correct it")
    if cost.points:
        return _piecewise(resource, cost.points, low, high, relax_minimum)
    return _quadratic(resource, cost.polynomial, low, high, segments)


def _piecewise(
    resource: Resource, points: Sequence[Point], low: float, high: float, relax_minimum: bool
) -> tuple[float, list[_Piece]]:
    """Clipped to the range; outside the published points the end slopes go on."""
    curve = lower_convex_envelope([(0.0, 0.0), *points]) if relax_minimum else list(points)
    if len(curve) < 2:
        raise OfferError(f"{_name(resource)}: a piecewise cost needs two points or more; publish both ends")
    ends = [float("-inf"), *(power for power, _ in curve[1:-1]), float("inf")]
    slopes = [_slope(left, right) for left, right in pairwise(curve)]
    pieces = [
        _Piece(max(left, low), min(right, high), slope)
        for (left, right), slope in zip(pairwise(ends), slopes, strict=True)
        if min(right, high) > max(left, low)
    ]
    below = max(sum(power <= low for power, _ in curve) - 1, 0)
    below = min(below, len(slopes) - 1)
    return curve[below][1] + slopes[below] * (low - curve[below][0]), pieces


def _quadratic(
    resource: Resource, polynomial: Sequence[float], low: float, high: float, segments: int
) -> tuple[float, list[_Piece]]:
    """Equal segments with the slopes of their secants: c1 + c2 * (left + right)."""
    if any(polynomial[3:]):
        raise OfferError(f"{_name(resource)}: a cost above the square cannot be offered; publish it piecewise")
    constant, linear, quadratic = (*polynomial, 0.0, 0.0, 0.0)[:3]
    if quadratic < 0:
        raise OfferError(
            f"{_name(resource)}: the quadratic cost {quadratic} is negative, so the offer is not convex; "
            "give a convex cost"
        )
    count = segments if quadratic > 0 and high > low else 1
    powers = [low + (high - low) * k / count for k in range(count)] + [high]
    pieces = [_Piece(left, right, linear + quadratic * (left + right)) for left, right in pairwise(powers)]
    return constant + linear * low + quadratic * low * low, pieces


def _name(resource: Resource) -> str:
    return f"unit {resource.id} at bus {resource.bus}"


def _slope(left: Point, right: Point) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])
