"""Batteries: the value of stored energy is the optimum of a linear programme, and no dispatch leaves the bounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from actors.fleet import storage
from actors.fleet.plan import PlannedBattery
from coordinator.market.offers import MarketRules, Offer, check_offer

HOUR_S = 3600
RULES = MarketRules()


@st.composite
def batteries(draw: st.DrawFn) -> PlannedBattery:
    capacity = draw(st.integers(1, 500_000_000))
    return PlannedBattery(
        "battery",
        draw(st.integers(1, 200_000_000)),
        draw(st.integers(1, 200_000_000)),
        capacity,
        draw(st.integers(0, capacity)),
        draw(st.integers(700, 1000)),
        draw(st.integers(700, 1000)),
    )


prices = st.lists(st.integers(-20_000_000, 200_000_000), min_size=1, max_size=12)
durations = st.sampled_from((300, 900, 3600))


def worth(value: storage.Value, stored: int) -> float:
    """What energy stored in thousandths of a W*s is worth, in micro-units."""
    total, end = 0.0, 0
    for segment in value:
        total += max(0, min(stored - end, segment.length)) * segment.value_micro / (storage.UNITS_PER_WH * 1e6)
        end += segment.length
    return total


def best_by_program(battery: PlannedBattery, forecast: list[int], stored_mwh: float, last_value: float) -> float:
    """The most that a battery earns over these hours, in micro-units, by a linear programme of its own."""
    count = len(forecast)
    paid = np.maximum(np.array(forecast, dtype=float), 0)
    eta_in, eta_out = battery.charge_per_mille / 1000, battery.discharge_per_mille / 1000
    until = np.tril(np.ones((count, count)))
    change = np.hstack([until * eta_in, -until / eta_out])
    cost = np.concatenate([paid - last_value * eta_in, -paid + last_value / eta_out])
    limit = np.concatenate([np.full(count, battery.capacity_wh / 1e6 - stored_mwh), np.full(count, stored_mwh)])
    bounds = [(0, battery.charge_w / 1e6)] * count + [(0, battery.discharge_w / 1e6)] * count
    found = linprog(cost, A_ub=np.vstack([change, -change]), b_ub=limit, bounds=bounds)
    assert found.status == 0
    return float(last_value * stored_mwh - found.fun)


@given(batteries(), prices)
@settings(max_examples=60, deadline=None)
def test_stored_energy_is_worth_what_a_linear_programme_over_the_horizon_earns(
    battery: PlannedBattery, forecast: list[int]
) -> None:
    values = storage.values_after(battery, [0, *forecast], HOUR_S)
    last = values[-1][0].value_micro
    empty = best_by_program(battery, forecast, 0.0, last)
    for share in (1, 3, 4):
        stored = battery.capacity_wh * share // 4
        expected = best_by_program(battery, forecast, stored / 1e6, last) - empty
        found = worth(values[0], stored * storage.UNITS_PER_WH)
        assert abs(found - expected) <= 1e-6 * abs(expected) + 2 * battery.capacity_wh / 1e6 + 1e-6 * empty


@given(batteries(), prices, durations, st.data())
def test_whatever_is_dispatched_of_an_offer_the_state_of_charge_stays_in_its_bounds(
    battery: PlannedBattery, forecast: list[int], duration_s: int, data: st.DataObject
) -> None:
    capacity, stored = battery.capacity_wh * storage.UNITS_PER_WH, battery.stored_wh * storage.UNITS_PER_WH
    for value in storage.values_after(battery, forecast, duration_s):
        assert sum(segment.length for segment in value) == capacity
        curve = storage.offer(battery, value, stored, duration_s)
        check_offer(Offer("battery", "1", curve.fixed_w, curve.steps), RULES)
        assert -battery.charge_w <= curve.lowest_w <= 0 <= curve.highest_w <= battery.discharge_w
        power_w = data.draw(st.integers(curve.lowest_w, curve.highest_w))
        stored = storage.after(battery, stored, power_w, duration_s)
        assert 0 <= stored <= capacity


@given(batteries(), prices, durations)
def test_all_that_is_possible_is_offered(battery: PlannedBattery, forecast: list[int], duration_s: int) -> None:
    stored = battery.stored_wh * storage.UNITS_PER_WH
    value = storage.values_after(battery, forecast, duration_s)[0]
    curve = storage.offer(battery, value, stored, duration_s)
    assert curve.lowest_w == -storage.most_charge_w(battery, stored, duration_s)
    assert curve.highest_w == storage.most_discharge_w(battery, stored, duration_s)


def test_a_battery_waits_for_the_dear_hour_and_buys_in_the_cheap_one() -> None:
    battery = PlannedBattery("battery", 10, 10, 10, 5, 900, 900)
    cheap_then_dear = storage.values_after(battery, (10, 100), HOUR_S)
    curve = storage.offer(battery, cheap_then_dear[0], 5 * storage.UNITS_PER_WH, HOUR_S)
    power_w = curve.fixed_w + sum(step.width_w for step in curve.steps if step.price_micro_per_mwh <= 10)
    assert power_w == -5, "it fills up at 10 what it sells at 100"
    dear_then_cheap = storage.values_after(battery, (100, 10), HOUR_S)
    curve = storage.offer(battery, dear_then_cheap[0], 5 * storage.UNITS_PER_WH, HOUR_S)
    power_w = curve.fixed_w + sum(step.width_w for step in curve.steps if step.price_micro_per_mwh <= 100)
    assert power_w == 4, "it sells all that it has: 5 Wh give 4.5"


@given(batteries(), st.integers(0, 200_000_000), durations)
def test_losses_are_never_rounded_in_favour_of_the_battery(
    battery: PlannedBattery, power_w: int, duration_s: int
) -> None:
    energy = power_w * duration_s * 1000
    assert storage.released_by(battery, power_w, duration_s) * battery.discharge_per_mille >= energy * 1000
    assert storage.stored_by(battery, power_w, duration_s) * 1000 <= energy * battery.charge_per_mille
