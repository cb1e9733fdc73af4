"""Metered exchange over tie-lines against schedule: the rules of genesis, and what regions owe each other by them.

A region's meter at its end of a tie-line shows what the tie injects into the region's grid, less what it withdraws.
Energy that no tie can carry is not believed: that meter counts as silent. All in integers, for anyone to repeat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import GenesisError
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.settlement.escrow.netting import (
    WATT_SECONDS_PER_MWH,
    WATT_SECONDS_PER_WH,
    MeterRule,
    MeterRules,
    TieReading,
    exchange_settlement,
)
from coordinator.settlement.genesis_section import number_of, text_of
from coordinator.settlement.interval.decisions import TieSchedule, encode_ties, read_ties
from coordinator.settlement.interval.schedules import RESOURCE_MAX_W, Metered
from coordinator.settlement.interval.topics import Interval, encode_numbers, read_count, read_interval, read_numbers


@dataclass(frozen=True, slots=True)
class TieLine:
    """From the hub's genesis. Power is positive from `from_region`; no meter is believed beyond `limit_w`."""

    name: str
    from_region: str
    to_region: str
    limit_w: int


@dataclass(frozen=True, slots=True)
class TieRules:
    """From the hub's genesis. `blocks` after the first region has spoken the others are gone on without.

    `collateral` is set aside for each region before it is coupled, in micro-units, until its exchange is settled.
    """

    lines: tuple[TieLine, ...]
    meters: MeterRules
    blocks: int
    collateral: int = 0

    def of(self, region: str) -> tuple[str, ...]:
        """The tie-lines of which a region has an end."""
        return tuple(line.name for line in self.lines if region in (line.from_region, line.to_region))

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().int64(self.meters.tolerance_wh).uint32(self.meters.disagreement.value).uint64(self.blocks)
        writer.int64(self.collateral).uint32(len(self.lines))
        for line in self.lines:
            writer.text(line.name).text(line.from_region).text(line.to_region).int64(line.limit_w)
        return writer.encoded


def decode_tie_rules(data: bytes) -> TieRules:
    """The inverse of `TieRules.encode`."""
    reader = Reader(data)
    meters = MeterRules(reader.int64(), MeterRule(reader.uint32()))
    blocks, collateral = reader.uint64(), reader.int64()
    lines = tuple(
        TieLine(reader.text(), reader.text(), reader.text(), reader.int64()) for _ in range(read_count(reader))
    )
    reader.end()
    return TieRules(lines, meters, blocks, collateral)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Of an interval that was coupled, on the hub. Regions by their numbers, heights of the hub.

    `since_height` is when the step at hand began: 0 until the first region has stated its meters. `amounts` are what
    regions receive, in micro-units; none while meters are waited for, and then those are of it in `accepted` who agree.
    """

    interval: Interval
    ties: tuple[TieSchedule, ...]
    since_height: int = 0
    amounts: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()

    @property
    def owing(self) -> tuple[int, ...]:
        """Regions that are yet to accept their part."""
        return tuple(k for k, amount in enumerate(self.amounts) if amount and k not in self.accepted)

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer().raw(self.interval.encode()).raw(encode_ties(self.ties)).uint64(self.since_height)
        writer.uint32(len(self.amounts))
        for amount in self.amounts:
            writer.int64(amount)
        return writer.raw(encode_numbers(self.accepted)).encoded


def decode_exchange(data: bytes) -> Exchange:
    """The inverse of `Exchange.encode`."""
    reader = Reader(data)
    interval, ties, since_height = read_interval(reader), read_ties(reader), reader.uint64()
    amounts = tuple(reader.int64() for _ in range(read_count(reader)))
    accepted = read_numbers(reader)
    reader.end()
    return Exchange(interval, ties, since_height, amounts, accepted)


def amounts_due(
    rules: TieRules,
    exchange: Exchange,
    metered: Mapping[str, Sequence[Metered]],
    regions: Sequence[str],
    without: Collection[str] = (),
) -> tuple[int, ...]:
    """What each region receives for metered less scheduled exchange, in micro-units; they sum to zero.

    `metered` is what each region stated that did. Ties of regions in `without` count as scheduled.
    """
    due = dict.fromkeys(regions, 0)
    duration_s = exchange.interval.duration_s
    shown = {(name, row.resource): row.energy_wh for name, rows in metered.items() for row in rows}
    for line, tie in zip(rules.lines, exchange.ties, strict=True):
        if line.from_region in without or line.to_region in without:
            continue
        into_from, into_to = (
            _believed(shown.get((name, line.name)), line, duration_s) for name in (line.from_region, line.to_region)
        )
        out_of_from = None if into_from is None else -into_from
        reading = TieReading(line.from_region, line.to_region, tie.power_w * duration_s, out_of_from, into_to)
        for contribution in exchange_settlement(reading, rules.meters, tie.price):
            due[contribution.region] += contribution.amount
    return tuple(due[name] for name in regions)


def _believed(energy_wh: int | None, line: TieLine, duration_s: int) -> int | None:
    if energy_wh is None or abs(energy_wh) * WATT_SECONDS_PER_WH > line.limit_w * duration_s:
        return None
    return energy_wh


def most_due(rules: TieRules, ties: Sequence[TieSchedule], duration_s: int) -> int:
    """No region's amount exceeds this, whatever meters show, in micro-units."""
    worst = sum((line.limit_w + abs(tie.power_w)) * abs(tie.price) for line, tie in zip(rules.lines, ties, strict=True))
    return worst * duration_s // (WATT_SECONDS_PER_MWH << PRICE_BITS) + len(ties)


def read_tie_rules(section: Mapping[str, object], module: str) -> TieRules | None:
    """What the hub's genesis says: `ties`, and `tie_meters`; None without the latter. Which regions `ties` join is
    checked where they are founded (`hub_outages`).

    Raises GenesisError.
    """
    ties, meters = section.get("ties"), section.get("tie_meters")
    if meters is None:
        return None
    if not isinstance(ties, list) or not isinstance(meters, dict) or not all(isinstance(tie, dict) for tie in ties):
        raise GenesisError(f"{module}: ties is a list of name, from, to and limit_w; tie_meters are their rules")
    lines = tuple(_read_line(tie, module) for tie in ties)
    rule = text_of(meters, "disagreement", module)
    if rule.upper() not in MeterRule.__members__:
        known = ", ".join(name.lower() for name in MeterRule.__members__)
        raise GenesisError(f"{module}: disagreement is one of {known}, not {rule}")
    tolerance_wh, collateral = (number_of(meters, name, module, least=0) for name in ("tolerance_wh", "collateral"))
    believed = MeterRules(tolerance_wh, MeterRule[rule.upper()])
    return TieRules(lines, believed, number_of(meters, "blocks", module), collateral)


def _read_line(tie: Mapping[str, object], module: str) -> TieLine:
    name, near, far = (text_of(tie, key, module) for key in ("name", "from", "to"))
    return TieLine(name, near, far, number_of(tie, "limit_w", module, most=RESOURCE_MAX_W))
