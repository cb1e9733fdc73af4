"""Multilateral netting: what regions owe each other for one interval, as ONE settlement with one leg a region.

Contributions (coupling transfers, metered exchange) are exact integers in micro-units. They are summed, never
rounded; what their own rounding left over is one leg on the hub's rounding account, so the legs sum to zero.

Metered exchange over a tie-line is settled between the regions at its ends:

    amount = (metered - scheduled) * hub imbalance price,   received by the exporter, paid by the importer

in Python integers, rounded once, half to even. What a region's devices are paid and what it receives differ by losses
and imbalance: its neutrality account takes the difference and recovers it by shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from coordinator.ledger.codec import Writer
from coordinator.market.fixed_point import PRICE_BITS, divide_half_even
from coordinator.settlement.escrow.types import AMOUNT_MAX, HUB, NEUTRAL, ROUNDING, Leg

WATT_SECONDS_PER_WH = 3600
WATT_SECONDS_PER_MWH = 3600 * 10**6


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a region receives for one reason, in micro-units of the asset; negative is paid."""

    region: str
    amount: int


def interval_nonce(start_s: int, duration_s: int, market_run: int, topology_id: bytes, asset: str) -> bytes:
    """The nonce of an interval's netting: reservations, mandates and the OPEN find each other by it."""
    writer = Writer().raw(b"gridaccord/v1/escrow/netting\x00").int64(start_s).uint32(duration_s).uint32(market_run)
    return hashlib.sha256(writer.bytes(topology_id).text(asset).encoded).digest()


def net(asset: str, contributions: Sequence[Contribution]) -> tuple[Leg, ...]:
    """One leg a region on its neutrality account; the remainder on the hub's rounding account."""
    sums: dict[str, int] = {}
    for item in contributions:
        sums[item.region] = sums.get(item.region, 0) + item.amount
    legs = [Leg(region, NEUTRAL, asset, amount) for region, amount in sums.items() if amount]
    remainder = -sum(sums.values())
    if remainder:
        legs.append(Leg(HUB, ROUNDING, asset, remainder))
    for leg in legs:
        if abs(leg.amount) > AMOUNT_MAX:
            raise OverflowError(f"the net of {leg.region} is {leg.amount} micro-units; int64 ends at {AMOUNT_MAX}")
    return tuple(sorted(legs))


class MeterRule(Enum):
    """From genesis: what counts where the meters at the two ends of a tie-line differ by more than is tolerated."""

    MEAN = 1
    SMALLER = 2
    LARGER = 3
    FROM_END = 4
    TO_END = 5
    SCHEDULE = 6


@dataclass(frozen=True, slots=True)
class MeterRules:
    """From genesis. Within `tolerance_wh` the mean counts, half to even."""

    tolerance_wh: int
    disagreement: MeterRule


@dataclass(frozen=True, slots=True)
class TieReading:
    """Energy over a tie-line in an interval, positive from `exporter` to `importer`; None where a meter is silent."""

    exporter: str
    importer: str
    scheduled_watt_seconds: int
    from_end_wh: int | None
    to_end_wh: int | None


def metered_watt_seconds(reading: TieReading, rules: MeterRules) -> int:
    """The energy that counts. A silent meter yields to the other; where both are silent the schedule counts."""
    first, second = reading.from_end_wh, reading.to_end_wh
    if first is None or second is None:
        heard = second if first is None else first
        return reading.scheduled_watt_seconds if heard is None else heard * WATT_SECONDS_PER_WH
    rule = MeterRule.MEAN if abs(first - second) <= rules.tolerance_wh else rules.disagreement
    if rule is MeterRule.SCHEDULE:
        return reading.scheduled_watt_seconds
    if rule is MeterRule.MEAN:
        return divide_half_even((first + second) * WATT_SECONDS_PER_WH, 2)
    nearer, farther = sorted((first, second), key=lambda energy: (abs(energy), energy))
    chosen = {
        MeterRule.SMALLER: nearer,
        MeterRule.LARGER: farther,
        MeterRule.FROM_END: first,
        MeterRule.TO_END: second,
    }
    return chosen[rule] * WATT_SECONDS_PER_WH


def exchange_settlement(reading: TieReading, rules: MeterRules, price: int) -> tuple[Contribution, Contribution]:
    """The two sides of (metered - scheduled); `price` in 2**-20 micro-units per MWh. They sum to zero."""
    deviation = metered_watt_seconds(reading, rules) - reading.scheduled_watt_seconds
    amount = divide_half_even(deviation * price, WATT_SECONDS_PER_MWH << PRICE_BITS)
    return Contribution(reading.exporter, amount), Contribution(reading.importer, -amount)


def neutrality_residue(net_position: int, device_credits: Sequence[int]) -> int:
    """What is left on the neutrality account after an interval: received from outside, less paid to devices."""
    return net_position - sum(device_credits)


def recovery_shares(residue: int, weights: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The residue shared by non-negative weights (energy, say), each share rounded once; and the remainder.

    The shares are credited (negative: charged) to devices, the remainder goes to the region's rounding account.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError("a residue is shared by weights that are not negative and not all zero; state another rule")
    shares = tuple(divide_half_even(residue * weight, total) for weight in weights)
    return shares, residue - sum(shares)
