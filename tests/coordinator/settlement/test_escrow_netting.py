"""Netting and metered exchange: sums are exact, roundings happen once, rules are those of genesis."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.market.fixed_point import PRICE_BITS
from coordinator.settlement.escrow.netting import (
    WATT_SECONDS_PER_MWH,
    Contribution,
    MeterRule,
    MeterRules,
    TieReading,
    exchange_settlement,
    interval_nonce,
    metered_watt_seconds,
    net,
    neutrality_residue,
    recovery_shares,
)
from coordinator.settlement.escrow.types import AMOUNT_MAX, HUB, NEUTRAL, ROUNDING, Leg

AMOUNTS = st.integers(-(2**50), 2**50)
MICRO = 1_000_000


def reading(scheduled_wh: int, first: int | None, second: int | None) -> TieReading:
    return TieReading("A", "B", scheduled_wh * 3600, first, second)


@given(st.lists(st.tuples(st.sampled_from("ABCDE"), AMOUNTS), max_size=30))
def test_one_leg_a_region_and_the_legs_sum_to_zero(pairs: list[tuple[str, int]]) -> None:
    legs = net("EUR", [Contribution(region, amount) for region, amount in pairs])
    assert sum(leg.amount for leg in legs) == 0
    assert len({leg.region for leg in legs}) == len(legs)
    assert list(legs) == sorted(legs)
    for leg in legs:
        expected = sum(amount for region, amount in pairs if region == leg.region)
        assert leg.amount == (-sum(amount for _, amount in pairs) if leg.region == HUB else expected) != 0


def test_the_remainder_goes_to_the_rounding_account_of_the_hub() -> None:
    legs = net("EUR", [Contribution("A", 5), Contribution("B", -4), Contribution("C", 0)])
    assert legs == (
        Leg("A", NEUTRAL, "EUR", 5),
        Leg("B", NEUTRAL, "EUR", -4),
        Leg(HUB, ROUNDING, "EUR", -1),
    )


def test_a_net_beyond_int64_is_refused() -> None:
    with pytest.raises(OverflowError, match="net of A"):
        net("EUR", [Contribution("A", AMOUNT_MAX), Contribution("A", 1)])


@given(AMOUNTS, st.integers(-(2**40), 2**40), st.integers(-(2**45), 2**45))
def test_metered_exchange_moves_as_much_as_it_takes_rounded_once(scheduled: int, metered: int, price: int) -> None:
    tie = TieReading("A", "B", scheduled, metered, metered)
    exporter, importer = exchange_settlement(tie, MeterRules(0, MeterRule.SCHEDULE), price)
    assert (exporter.region, importer.region) == ("A", "B")
    assert exporter.amount + importer.amount == 0
    exact = Fraction((metered * 3600 - scheduled) * price, WATT_SECONDS_PER_MWH << PRICE_BITS)
    assert exporter.amount == round(exact)


def test_an_exporter_that_delivers_more_is_paid_the_imbalance_price() -> None:
    price = 50 * MICRO << PRICE_BITS
    tie = reading(1_000_000, 1_200_000, 1_200_000)
    exporter, _ = exchange_settlement(tie, MeterRules(0, MeterRule.MEAN), price)
    assert exporter.amount == 10 * MICRO


@pytest.mark.parametrize(
    ("rule", "counted_wh"),
    [
        (MeterRule.MEAN, 95),
        (MeterRule.SMALLER, 90),
        (MeterRule.LARGER, 100),
        (MeterRule.FROM_END, 100),
        (MeterRule.TO_END, 90),
        (MeterRule.SCHEDULE, 70),
    ],
)
def test_disagreeing_meters_follow_genesis(rule: MeterRule, counted_wh: int) -> None:
    assert metered_watt_seconds(reading(70, 100, 90), MeterRules(9, rule)) == counted_wh * 3600
    assert metered_watt_seconds(reading(70, 100, 90), MeterRules(10, rule)) == 95 * 3600


@pytest.mark.parametrize(
    ("first", "second", "counted_wh"), [(None, 90, 90), (100, None, 100), (None, None, 70), (0, None, 0)]
)
def test_a_silent_meter_yields(first: int | None, second: int | None, counted_wh: int) -> None:
    assert metered_watt_seconds(reading(70, first, second), MeterRules(0, MeterRule.LARGER)) == counted_wh * 3600


def test_smaller_and_larger_are_of_energy_whatever_its_direction() -> None:
    assert metered_watt_seconds(reading(0, -100, -90), MeterRules(0, MeterRule.SMALLER)) == -90 * 3600
    assert metered_watt_seconds(reading(0, -100, -90), MeterRules(0, MeterRule.LARGER)) == -100 * 3600


@given(st.integers(-(10**12), 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(any))
def test_a_residue_is_recovered_to_the_micro_unit(residue: int, weights: list[int]) -> None:
    shares, remainder = recovery_shares(residue, weights)
    assert sum(shares) + remainder == residue
    assert abs(remainder) <= len(weights) / 2
    assert all(share == 0 for share, weight in zip(shares, weights, strict=True) if weight == 0)


def test_a_residue_is_what_devices_were_not_paid() -> None:
    assert neutrality_residue(100, [60, 50, -20]) == 10
    with pytest.raises(ValueError, match="state another rule"):
        recovery_shares(10, [0, 0])


def test_an_interval_has_its_own_nonce() -> None:
    nonces = [
        interval_nonce(0, 900, 3, b"t", "EUR"),
        interval_nonce(900, 900, 3, b"t", "EUR"),
        interval_nonce(0, 900, 2, b"t", "EUR"),
        interval_nonce(0, 900, 3, b"u", "EUR"),
        interval_nonce(0, 900, 3, b"t", "USD"),
    ]
    assert len(set(nonces)) == len(nonces)
