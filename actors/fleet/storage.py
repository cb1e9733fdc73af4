"""What stored energy is worth, and the offer of a battery that follows from it.

The most that a battery can earn from some interval on is a concave, piecewise linear function of its state of charge:
segments of falling slope. With one interval more before it, what it can store or release there at the forecast price
is a function of two segments; the best of both is their supremal convolution, which merges the segments by slope, and
the bounds of the state cut it off at both ends. So the dynamic programme over the horizon is exact, and done by
sorting. Where a price is forecast below zero it counts as zero: a battery that is paid to burn energy would not be
concave.

Stored energy is counted in thousandths of a watt-second, so that losses in per mille are whole numbers; charging
stores exactly, discharging takes at most one unit too much. The state of charge can therefore not leave its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from actors.fleet.plan import PER_MILLE, PlannedBattery
from coordinator.market.offers import Step
from coordinator.settlement.interval.schedules import Curve

UNITS_PER_WH = 3600 * PER_MILLE
"""Thousandths of a watt-second in a watt-hour."""


class Segment(NamedTuple):
    """`length` of stored energy, in thousandths of a W*s, of which each MWh is worth `value_micro` micro-units."""

    length: int
    value_micro: int


Value = tuple[Segment, ...]
"""From an empty battery to a full one; values fall."""


def values_after(battery: PlannedBattery, forecast_micro: Sequence[int], duration_s: int) -> tuple[Value, ...]:
    """For each interval, what energy that is stored at its end is worth.

    At the end of the horizon a stored MWh is worth what it gives at the mean of the forecast prices.
    """
    capacity = battery.capacity_wh * UNITS_PER_WH
    mean = max(0, sum(forecast_micro) // max(1, len(forecast_micro)))
    value: Value = (Segment(capacity, mean * battery.discharge_per_mille // PER_MILLE),)
    values = []
    for price in reversed(forecast_micro):
        values.append(value)
        value = _before(value, battery, max(0, price), duration_s)
    return tuple(reversed(values))


def _before(later: Value, battery: PlannedBattery, price: int, duration_s: int) -> Value:
    """The value one interval earlier, in which energy can be bought and sold at this price."""
    up, down = stored_by(battery, battery.charge_w, duration_s), released_by(battery, battery.discharge_w, duration_s)
    bought = Segment(up, -(-price * PER_MILLE // battery.charge_per_mille))
    sold = Segment(down, price * battery.discharge_per_mille // PER_MILLE)
    merged = sorted((*later, bought, sold), key=lambda segment: -segment.value_micro)
    return _cut(merged, up, up + battery.capacity_wh * UNITS_PER_WH)


def _cut(segments: Sequence[Segment], low: int, high: int) -> Value:
    """What lies between two positions; segments of the same value become one."""
    kept: list[Segment] = []
    end = 0
    for length, value in segments:
        start, end = end, end + length
        inside = min(end, high) - max(start, low)
        if inside <= 0:
            continue
        if kept and kept[-1].value_micro == value:
            inside += kept.pop().length
        kept.append(Segment(inside, value))
    return tuple(kept)


def stored_by(battery: PlannedBattery, power_w: int, duration_s: int) -> int:
    """What charging at this power adds."""
    return power_w * duration_s * battery.charge_per_mille


def released_by(battery: PlannedBattery, power_w: int, duration_s: int) -> int:
    """What discharging at this power takes, rounded up."""
    return -(-power_w * duration_s * PER_MILLE * PER_MILLE // battery.discharge_per_mille)


def most_charge_w(battery: PlannedBattery, stored: int, duration_s: int) -> int:
    """The highest power at which it can charge all through an interval."""
    room = battery.capacity_wh * UNITS_PER_WH - stored
    return min(battery.charge_w, room // (battery.charge_per_mille * duration_s))


def most_discharge_w(battery: PlannedBattery, stored: int, duration_s: int) -> int:
    """The highest power at which it can discharge all through an interval."""
    energy_ws = stored * battery.discharge_per_mille // (PER_MILLE * PER_MILLE)
    return min(battery.discharge_w, energy_ws // duration_s)


def after(battery: PlannedBattery, stored: int, power_w: int, duration_s: int) -> int:
    """The state of charge after an interval at this power, injection positive."""
    if power_w >= 0:
        return stored - released_by(battery, power_w, duration_s)
    return stored + stored_by(battery, -power_w, duration_s)


def offer(battery: PlannedBattery, value: Value, stored: int, duration_s: int) -> Curve:
    """It buys what is worth its price after losses and sells what is not worth more later; only what it can do."""
    ends = [0]
    for segment in value:
        ends.append(ends[-1] + segment.length)
    sold = _sold(battery, value, ends, stored, duration_s)
    bought = _bought(battery, value, ends, stored, duration_s)
    steps = _steps(bought)[::-1] + _steps(sold)
    return Curve(-bought[-1][0], tuple(steps))


Reach = list[tuple[int, int]]
"""Powers in W in ascending order, each with the price up to it; the first is (0, 0)."""


def _sold(battery: PlannedBattery, value: Value, ends: Sequence[int], stored: int, duration_s: int) -> Reach:
    """Powers of discharging, each with the least price at which it is worth it."""
    most, reach = most_discharge_w(battery, stored, duration_s), [(0, 0)]
    for low, segment in sorted(zip(ends[:-1], value, strict=True), reverse=True):
        if low < stored:
            energy_ws = (stored - low) * battery.discharge_per_mille // (PER_MILLE * PER_MILLE)
            ask = -(-segment.value_micro * PER_MILLE // battery.discharge_per_mille)
            reach.append((min(most, energy_ws // duration_s), ask))
    return reach


def _bought(battery: PlannedBattery, value: Value, ends: Sequence[int], stored: int, duration_s: int) -> Reach:
    """Powers of charging, each with the most that it is worth paying."""
    most, reach = most_charge_w(battery, stored, duration_s), [(0, 0)]
    for high, segment in zip(ends[1:], value, strict=True):
        if high > stored:
            bid = segment.value_micro * battery.charge_per_mille // PER_MILLE
            reach.append((min(most, (high - stored) // (battery.charge_per_mille * duration_s)), bid))
    return reach


def _steps(reach: Reach) -> list[Step]:
    return [Step(upper - lower, price) for (lower, _), (upper, price) in pairwise(reach) if upper > lower]
