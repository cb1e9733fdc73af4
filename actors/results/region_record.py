"""What a region's chain says about intervals: offers, the schedule that a quorum set, and bills in versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.results.ledger_blocks import LedgerBlock, blocks_of
from actors.results.run_folder import ChainFile, read_view
from coordinator.ledger.codec import Reader
from coordinator.ledger.receipt import Event, Receipt
from coordinator.ledger.transaction import Transaction
from coordinator.ledger.view import View
from coordinator.settlement.escrow.chains import ESCROW_EVENT
from coordinator.settlement.escrow.encoding import decode_event as decode_escrow_event
from coordinator.settlement.escrow.types import Event as EscrowEvent
from coordinator.settlement.escrow.types import Receipt as EscrowReceipt
from coordinator.settlement.escrow.types import SettlementId, Verdict
from coordinator.settlement.interval.confirmations import (
    CONFIRM_REGION,
    decode_confirmation,
    decode_event,
)
from coordinator.settlement.interval.hub import INTERVAL_EVENT
from coordinator.settlement.interval.region import BILLED_EVENT, OFFERS, RegionIntervals
from coordinator.settlement.interval.region_records import Parameters, Resource
from coordinator.settlement.interval.schedules import (
    Curve,
    Metered,
    Schedule,
    decode_metered,
    decode_offers,
    decode_schedule,
)
from coordinator.settlement.interval.topics import ALONE, Interval, Step, Topic, read_interval


@dataclass(frozen=True, slots=True)
class ScheduleSet:
    """A schedule that a quorum of the region stands behind, and the block that says so."""

    schedule: Schedule
    attempt: int
    height: int
    time_ms: int

    @property
    def is_alone(self) -> bool:
        """Whether the region cleared by itself."""
        return self.attempt == ALONE


@dataclass(frozen=True, slots=True)
class Bill:
    """A version of an interval's bill; `paid_micro` is what the block says it moved in all.

    Its rows were first given in the block of `proposed_height`; since that of `height` a quorum stands behind them.
    """

    interval: Interval
    version: int
    rows: tuple[Metered, ...]
    paid_micro: int
    proposed_height: int
    height: int
    time_ms: int


@dataclass
class RegionRecord:
    """By interval: offers that stand, when the gate closed, schedules; bills in the order of the chain."""

    name: str
    view: View
    """The state after the last block."""
    parameters: Parameters
    resources: Mapping[str, Resource]
    offers: dict[Interval, dict[str, Curve]] = field(default_factory=dict)
    gates: dict[Interval, int] = field(default_factory=dict)
    """Time of the block in ms."""
    schedules: dict[Interval, ScheduleSet] = field(default_factory=dict)
    bills: list[Bill] = field(default_factory=list)
    applied: set[SettlementId] = field(default_factory=set)
    """Settlements whose decision has been carried out here."""
    _texts: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    """Messages that were proposed, by digest, with the height where each was first."""

    def standing(self, interval: Interval) -> dict[str, Curve]:
        """Offers of an interval in the order of the chain's state."""
        found = self.offers.get(interval, {})
        return {name: found[name] for name in sorted(found, key=str.encode)}

    def bills_of(self, interval: Interval) -> list[Bill]:
        """All versions."""
        return [bill for bill in self.bills if bill.interval == interval]

    def take(self, found: LedgerBlock) -> None:
        """The next block."""
        for transaction, receipt in found.done():
            if transaction.kind == OFFERS:
                given = decode_offers(transaction.content)
                self.offers.setdefault(given.interval, {}).update(given.curves)
            elif transaction.kind == CONFIRM_REGION:
                self._confirmed(found, transaction, receipt)
            for event in receipt.events:
                if event.kind == ESCROW_EVENT:
                    self._escrow(decode_escrow_event(event.payload))

    def _confirmed(self, found: LedgerBlock, transaction: Transaction, receipt: Receipt) -> None:
        given = decode_confirmation(transaction.content)
        if given.message is not None and given.topic.step in (Step.SCHEDULE, Step.METERED):
            self._texts.setdefault(given.digest, (given.message, found.header.height))
        paid = [event for event in receipt.events if event.kind == BILLED_EVENT]
        for event in receipt.events:
            if event.kind == INTERVAL_EVENT:
                self._stated(found, *decode_event(event.payload), paid)

    def _escrow(self, said: EscrowEvent) -> None:
        if isinstance(said, EscrowReceipt) and said.verdict is Verdict.APPLIED:
            self.applied.add(said.sid)

    def _stated(self, found: LedgerBlock, topic: Topic, digest: bytes, paid: list[Event]) -> None:
        header, interval = found.header, topic.interval
        if topic.step is Step.GATE:
            self.gates[interval] = header.time_ms
        elif topic.step is Step.SCHEDULE:
            schedule = decode_schedule(self._texts.pop(digest)[0])
            self.schedules[interval] = ScheduleSet(schedule, topic.attempt, header.height, header.time_ms)
        elif topic.step is Step.METERED:
            text, proposed = self._texts.pop(digest)
            paid_micro = _paid(paid[0], topic)
            bill = Bill(
                interval, topic.round, decode_metered(text), paid_micro, proposed, header.height, header.time_ms
            )
            self.bills.append(bill)


def _paid(event: Event, topic: Topic) -> int:
    """The sum that the event of a bill names."""
    reader = Reader(event.payload)
    interval, version = read_interval(reader), reader.uint32()
    assert (interval, version) == (topic.interval, topic.round), "a bill and its statement are one transaction's"
    return int.from_bytes(reader.raw(16), "big", signed=True)


def read_region_record(chain: ChainFile) -> RegionRecord:
    """The whole chain as it is now."""
    with chain.reading() as connection:
        view = read_view(connection)
        books = RegionIntervals.of(view)
        record = RegionRecord(chain.name, view, books.parameters, books.resources())
        for found in blocks_of(connection):
            record.take(found)
    return record
