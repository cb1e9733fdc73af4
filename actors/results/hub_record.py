"""What the hub's chain says about intervals: who said what, what was agreed, and what became of the nettings.

The chain is carried out again from genesis and followed as a hub's validator follows it, so that every result, boundary
state and agreement passes the checks of `coordinator.market.coupling` once more; what an interval came to in public is
what this leaves in hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from actors.results.ledger_blocks import LedgerBlock, replay
from actors.results.run_folder import RunError, RunFolder
from coordinator.ledger.codec import Reader
from coordinator.ledger.proofs import decode_event_proof
from coordinator.ledger.receipt import Event, Receipt, decode_receipt
from coordinator.ledger.state import Applied
from coordinator.ledger.transaction import Transaction
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.coupling.silent_region import SilentRegion
from coordinator.market.coupling.wire import from_fine
from coordinator.service.interval_files import hub_knowledge
from coordinator.settlement.escrow.chains import ESCROW_EVENT
from coordinator.settlement.escrow.encoding import decode_event as decode_escrow_event
from coordinator.settlement.escrow.types import Decided, Kind, Leg, Opened, Outcome, SettlementId
from coordinator.settlement.interval.confirmations import CONFIRM_HUB, decode_confirmation, decode_event
from coordinator.settlement.interval.decisions import Agreed, HubMessage, decode_hub_message
from coordinator.settlement.interval.exchange import TieRules
from coordinator.settlement.interval.hub import END_EVENT, INTERVAL_EVENT, MESSAGE
from coordinator.settlement.interval.hub_books import HubIntervals, Parameters
from coordinator.settlement.interval.hub_duty import HubDuty
from coordinator.settlement.interval.hub_exchange import EXCHANGE_EVENT, Exchanges
from coordinator.settlement.interval.schedules import Metered, decode_metered
from coordinator.settlement.interval.topics import Interval, Step, Topic, exchange_nonce, netting_nonce, read_interval
from topology.arrays import IntArray

HUB_SENDER = "hub"


@dataclass(frozen=True, slots=True)
class Message:
    """A statement of a region or of the hub, as the hub's chain took it: its size in bytes and the block's time."""

    topic: Topic
    sender: str
    size_bytes: int
    height: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a quorum of the hub agreed on, with the public outcome that it is about.

    `held_w` is what regions that it went on without are held to deliver at their boundary buses, by their numbers.
    """

    topic: Topic
    agreed: Agreed
    outcome: PublicOutcome
    held_w: Mapping[int, IntArray]
    time_ms: int


@dataclass(frozen=True, slots=True)
class EndedInterval:
    """An interval that the hub has ended. `excluded` are numbers of regions that it went on without, `ties_out` names
    of the tie-lines that were out of service."""

    interval: Interval
    coupled: bool
    excluded: tuple[int, ...]
    agreement: Agreement | None
    time_ms: int
    ties_out: tuple[str, ...]


class Purpose(StrEnum):
    """What a netting settles."""

    COUPLING = "netting"
    """The transfers of an agreement."""
    EXCHANGE = "exchange"
    """Metered exchange over tie-lines against schedule."""
    REPAYMENT = "repayment"
    """What stands between a region and the hub after nettings that went on without it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Metered exchange of an interval as the hub computed it: what each region receives in micro-units, in their order,
    and the regions whose tie-lines count as scheduled."""

    interval: Interval
    amounts: tuple[int, ...]
    left_out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Netting:
    """A settlement of an interval; `outcome` is None while it is undecided. After an abort another may follow."""

    interval: Interval
    purpose: Purpose
    sid: SettlementId
    legs: tuple[Leg, ...]
    opened_ms: int
    outcome: Outcome | None = None
    decided_ms: int | None = None


@dataclass
class HubRecord:
    """In the order of the chain."""

    parameters: Parameters
    ended: list[EndedInterval] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    nettings: dict[SettlementId, Netting] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    tie_meters: dict[Interval, dict[str, tuple[Metered, ...]]] = field(default_factory=dict)
    """What regions stated of their meters at tie-lines."""
    tie_rules: TieRules | None = None
    payments: dict[SettlementId, tuple[Leg, ...]] = field(default_factory=dict)
    """Legs of settlements that owners opened, once they are committed."""


def read_hub_record(run: RunFolder) -> HubRecord:
    """Raises RunError where the chain does not follow from itself, BlockRefused where a block is not valid."""
    view = run.hub.view()
    record = HubRecord(HubIntervals.of(view).parameters, tie_rules=Exchanges.of(view).rules)
    reader = _HubReader(record, HubDuty("", hub_knowledge(view, run.public)))
    for found, applied in replay(run.hub):
        reader.take(found, applied)
    return reader.record


class _HubReader:
    """The blocks so far, and what the interval under way has come to."""

    def __init__(self, record: HubRecord, duty: HubDuty) -> None:
        self.record = record
        self._duty = duty
        self._names: dict[bytes, str] = {}
        self._texts: dict[bytes, bytes] = {}
        self._agreement: Agreement | None = None
        self._purposes: dict[bytes, tuple[Interval, Purpose]] = {}
        """By the nonce of a netting."""
        self._open_payments: dict[SettlementId, tuple[Leg, ...]] = {}

    def take(self, found: LedgerBlock, applied: Applied) -> None:
        """The next block."""
        view = applied.state.view
        books = HubIntervals.of(view)
        self._names = dict(zip(books.chains(), books.parameters.regions, strict=True))
        self._duty.on_block(found.block, applied.receipts, view)
        for transaction, receipt in found.done():
            if transaction.kind == MESSAGE:
                self._region_said(found, transaction, receipt)
            elif transaction.kind == CONFIRM_HUB:
                self._hub_said(found, transaction, receipt)
        for receipt in applied.receipts:
            for event in receipt.events:
                self._happened(found, event, books)

    def _region_said(self, found: LedgerBlock, transaction: Transaction, receipt: Receipt) -> None:
        reader = Reader(transaction.content)
        proof, message = decode_event_proof(reader.raw(reader.uint32())), reader.rest()
        topic, _ = decode_event(decode_receipt(proof.receipt).events[proof.event].payload)
        if topic.step is Step.OUTAGE:
            return  # It is about breakers from an interval on, and no part of that interval's rounds.
        name = self._names[proof.certified.chain_id]
        self._add(found, topic, name, len(message))
        if topic.step is Step.TIES:
            self.record.tie_meters.setdefault(topic.interval, {})[name] = decode_metered(message)
        for said in _opened_by(receipt):
            # What a region's own word opens is none of the interval's two nettings: it repays.
            self._purposes.setdefault(said.opening.open.nonce, (topic.interval, Purpose.REPAYMENT))

    def _hub_said(self, found: LedgerBlock, transaction: Transaction, receipt: Receipt) -> None:
        given = decode_confirmation(transaction.content)
        if given.message is not None:
            self._texts[given.digest] = given.message
        for event in receipt.events:
            if event.kind == INTERVAL_EVENT:
                topic, digest = decode_event(event.payload)
                text = self._texts[digest]
                self._texts.clear()
                self._add(found, topic, HUB_SENDER, len(text))
                self._agreed(found, topic, decode_hub_message(text))

    def _add(self, found: LedgerBlock, topic: Topic, sender: str, size: int) -> None:
        header = found.header
        self.record.messages.append(Message(topic, sender, size, header.height, header.time_ms))
        about = (topic.interval, self.record.parameters.topology, self.record.parameters.asset)
        self._purposes[netting_nonce(*about)] = (topic.interval, Purpose.COUPLING)
        self._purposes[exchange_nonce(*about)] = (topic.interval, Purpose.EXCHANGE)

    def _agreed(self, found: LedgerBlock, topic: Topic, said: HubMessage) -> None:
        if not isinstance(said, Agreed):
            return
        outcome = self._duty.outcome
        if outcome is None:
            raise RunError(f"hub, height {found.header.height}: {topic} does not follow: {self._duty.fault}")
        held = {region.index: _whole_w(region) for region in self._duty.stand_ins}
        self._agreement = Agreement(topic, said, outcome, held, found.header.time_ms)

    def _happened(self, found: LedgerBlock, event: Event, books: HubIntervals) -> None:
        if event.kind == END_EVENT:
            self._end(found, event, books)
        elif event.kind == EXCHANGE_EVENT:
            self.record.exchanges.append(_exchange(event))
        elif event.kind == ESCROW_EVENT:
            said = decode_escrow_event(event.payload)
            if isinstance(said, Opened):
                self._opened(said, found.header.time_ms)
            elif isinstance(said, Decided):
                self._decided(said, found.header.time_ms)

    def _opened(self, said: Opened, time_ms: int) -> None:
        opening = said.opening.open
        if opening.kind is Kind.NETTING:
            self.record.nettings[said.sid] = Netting(*self._purposes[opening.nonce], said.sid, opening.legs, time_ms)
        else:
            self._open_payments[said.sid] = opening.legs

    def _decided(self, said: Decided, time_ms: int) -> None:
        record, netting = self.record, self.record.nettings.get(said.sid)
        if netting is not None:
            record.nettings[said.sid] = replace(netting, outcome=said.outcome, decided_ms=time_ms)
        elif said.outcome is Outcome.COMMIT:
            record.payments[said.sid] = self._open_payments[said.sid]

    def _end(self, found: LedgerBlock, event: Event, books: HubIntervals) -> None:
        reader = Reader(event.payload)
        interval, coupled, excluded = read_interval(reader), reader.flag(), _numbers(reader.rest())
        agreement = self._agreement if coupled else None
        if coupled and (agreement is None or agreement.topic.interval != interval):
            raise RunError(f"hub, height {found.header.height}: {interval} is coupled without an agreement")
        time_ms, ties_out = found.header.time_ms, books.ties_out(interval)
        self.record.ended.append(EndedInterval(interval, coupled, excluded, agreement, time_ms, ties_out))
        self._agreement = None


def _opened_by(receipt: Receipt) -> Iterator[Opened]:
    for event in receipt.events:
        said = decode_escrow_event(event.payload) if event.kind == ESCROW_EVENT else None
        if isinstance(said, Opened):
            yield said


def _exchange(event: Event) -> Exchange:
    reader = Reader(event.payload)
    interval, count = read_interval(reader), reader.uint32()
    amounts = tuple(reader.int64() for _ in range(count))
    return Exchange(interval, amounts, _numbers(reader.rest()))


def _numbers(data: bytes) -> tuple[int, ...]:
    """Numbers of regions as events say them."""
    return tuple(int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))


def _whole_w(region: SilentRegion) -> IntArray:
    return from_fine(region.held_fine).round().astype(np.int64)
