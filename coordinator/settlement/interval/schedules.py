"""What a region agrees on for itself: offers, the schedule of its resources with their prices, and metered energy.

Power in W, injection positive. Prices in 2**-20 micro-units per MWh. Energy in W*s and Wh. Money in micro-units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import Reader, Writer
from coordinator.market.fixed_point import PRICE_BITS, divide_half_even
from coordinator.market.offers import Step as OfferStep
from coordinator.settlement.escrow.netting import WATT_SECONDS_PER_MWH, WATT_SECONDS_PER_WH
from coordinator.settlement.interval.topics import Interval, read_interval

ROWS_MAX = 2**15
STEPS_MAX = 256
RESOURCE_MAX_W = 2**40
"""No resource injects or withdraws more, so that what it is credited for a day stays far within int64."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What a resource offers: an injection that is not for sale, and steps of rising price above it."""

    fixed_w: int
    steps: tuple[OfferStep, ...]

    @property
    def lowest_w(self) -> int:
        """With fixed injection curtailed."""
        return min(self.fixed_w, 0)

    @property
    def highest_w(self) -> int:
        """With all steps taken, or fixed withdrawal shed."""
        return max(self.fixed_w + sum(step.width_w for step in self.steps), 0)

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().int64(self.fixed_w).uint32(len(self.steps))
        for step in self.steps:
            writer.int64(step.width_w).int64(step.price_micro_per_mwh)
        return writer.encoded


def read_curve(reader: Reader) -> Curve:
    """Raises DecodeError. What a market accepts is checked where it enters."""
    fixed_w, count = reader.int64(), reader.uint32()
    if count > STEPS_MAX:
        raise DecodeError(f"a curve of {count} steps; at most {STEPS_MAX}")
    return Curve(fixed_w, tuple(OfferStep(reader.int64(), reader.int64()) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class Offers:
    """The content of an `interval_offers` transaction: curves of resources, in the order of their names."""

    interval: Interval
    curves: tuple[tuple[str, Curve], ...]

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().raw(self.interval.encode()).uint32(len(self.curves))
        for resource, curve in self.curves:
            writer.text(resource).raw(curve.encode())
        return writer.encoded


def decode_offers(content: bytes) -> Offers:
    """Raises DecodeError."""
    reader = Reader(content)
    interval, count = read_interval(reader), _count(reader)
    curves = tuple((reader.text(), read_curve(reader)) for _ in range(count))
    reader.end()
    _check_order([name for name, _ in curves])
    return Offers(interval, curves)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A resource's schedule: its net injection, and the price at its bus."""

    resource: str
    power_w: int
    price: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """SCHEDULE: what the region's resources do, and what the region receives from the others (negative: it pays)."""

    transfer: int
    rows: tuple[Scheduled, ...]

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().int64(self.transfer).uint32(len(self.rows))
        for row in self.rows:
            writer.text(row.resource).int64(row.power_w).int64(row.price)
        return writer.encoded


def decode_schedule(message: bytes) -> Schedule:
    """Raises DecodeError."""
    reader = Reader(message)
    transfer, count = reader.int64(), _count(reader)
    rows = tuple(Scheduled(reader.text(), reader.int64(), reader.int64()) for _ in range(count))
    reader.end()
    _check_order([row.resource for row in rows])
    return Schedule(transfer, rows)


@dataclass(frozen=True, slots=True)
class Metered:
    """A resource's metered energy, injection positive. `substituted`: no reading came, the rule's value stands in."""

    resource: str
    energy_wh: int
    substituted: bool = False


def encode_metered(rows: Sequence[Metered]) -> bytes:
    """METERED: one byte form."""
    writer = Writer().uint32(len(rows))
    for row in rows:
        writer.text(row.resource).int64(row.energy_wh).flag(row.substituted)
    return writer.encoded


def decode_metered(message: bytes) -> tuple[Metered, ...]:
    """Raises DecodeError."""
    reader = Reader(message)
    rows = tuple(Metered(reader.text(), reader.int64(), reader.flag()) for _ in range(_count(reader)))
    reader.end()
    _check_order([row.resource for row in rows])
    return rows


def credit(power_w: int, price: int, metered_wh: int, duration_s: int, imbalance_spread: int) -> int:
    """What a resource receives for an interval, in micro-units; negative is paid. Rounded once, half to even.

        scheduled * LMP + (metered - scheduled) * imbalance price

    The imbalance price is the LMP, less the spread for what was injected beyond the schedule (or not withdrawn), plus
    the spread for what was missing: deviations never pay.
    """
    scheduled = power_w * duration_s
    deviation = metered_wh * WATT_SECONDS_PER_WH - scheduled
    imbalance_price = price - imbalance_spread if deviation > 0 else price + imbalance_spread
    exact = scheduled * price + deviation * imbalance_price
    return divide_half_even(exact, WATT_SECONDS_PER_MWH << PRICE_BITS)


def is_plausible(energy_wh: int, duration_s: int) -> bool:
    """Whether a resource can have metered this: a broken or lying meter is treated as one that is silent."""
    return abs(energy_wh) * WATT_SECONDS_PER_WH <= RESOURCE_MAX_W * duration_s


def scheduled_wh(power_w: int, duration_s: int, silent: int = 1, points: int = 1) -> int:
    """The share of the scheduled energy that stands in for those of a resource's metering points that are silent."""
    return divide_half_even(power_w * duration_s * silent, WATT_SECONDS_PER_WH * points)


def _count(reader: Reader) -> int:
    count = reader.uint32()
    if count > ROWS_MAX:
        raise DecodeError(f"{count} rows; at most {ROWS_MAX}")
    return count


def _check_order(names: Sequence[str]) -> None:
    if any(before >= after for before, after in pairwise(names)):
        raise DecodeError("resources stand in the order of their names, each once")


def instructions(interval: Interval, rows: Sequence[Scheduled]) -> Iterator[bytes]:
    """The leaves under the root of a dispatch event: what each resource is told, and until when it holds."""
    for row in rows:
        yield Writer().raw(interval.encode()).text(row.resource).int64(row.power_w).int64(row.price).encoded
