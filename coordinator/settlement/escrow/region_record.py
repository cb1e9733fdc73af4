"""A region's side: P1 to P4 as pure functions. Each reads the books and returns what to write.

`moment` is the region block being executed. Nothing here reads a clock, and nothing but a proven decision of the hub
ends a YES (P3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from coordinator.settlement.escrow import guards
from coordinator.settlement.escrow.books import RegionBooks
from coordinator.settlement.escrow.encoding import authorisation_bytes, decode_event
from coordinator.settlement.escrow.errors import EscrowRefused, RegionHalted
from coordinator.settlement.escrow.proofs import ProvenEvent
from coordinator.settlement.escrow.records import (
    Movement,
    MovementKind,
    RegionRecord,
    RegionState,
    RegionTransition,
)
from coordinator.settlement.escrow.types import (
    AMOUNT_MAX,
    NEUTRAL,
    Closed,
    Decided,
    Kind,
    Leg,
    Opened,
    Opening,
    Outcome,
    Receipt,
    SettlementId,
    Verdict,
)

NOTHING = RegionTransition()


@dataclass(frozen=True, slots=True)
class Moment:
    """The block of the region that is being executed."""

    height: int
    epoch: int


def on_hub_event(books: RegionBooks, proven: ProvenEvent, moment: Moment) -> RegionTransition:
    """Whatever the hub finalized, relayed by anyone, in any order and any number of times."""
    if not guards.comes_from(proven.chain_id, books.hub_chain_id):
        raise EscrowRefused("P1", "the event was not finalized by the hub of this region")
    event = decode_event(proven.event)
    match event:
        case Opened(sid, opening):
            if sid.height != proven.height:
                raise EscrowRefused("P1", f"{sid} stands in the hub's block {proven.height}; ids begin with the height")
            return prepare(books, sid, opening, moment)
        case Decided():
            return apply_decision(books, event, moment)
        case Closed(watermark):
            return advance_watermark(books, watermark)
        case Receipt():
            raise EscrowRefused("P2", "the hub's event is a receipt; relay openings, decisions and watermarks")


def prepare(books: RegionBooks, sid: SettlementId, opening: Opening, moment: Moment) -> RegionTransition:
    """P1: say YES and lock, or say NO, at once. Waiting for funds would be a deadlock."""
    content = opening.open
    if not guards.comes_from(content.hub_chain_id, books.hub_chain_id):
        raise EscrowRefused("P1", "the OPEN names another hub")
    if not guards.takes_part(books.region, content.participants):
        raise EscrowRefused("P1", f"{books.region} has no leg in {sid}; relay to its participants")
    if guards.below(sid, books.watermark) or guards.is_known(books.record(sid)):
        return NOTHING
    released = NOTHING
    if content.replaces is not None:
        aborted = Decided(content.replaces.sid, content.replaces.open_digest, Outcome.ABORT, content.participants)
        released = apply_decision(books, aborted, moment)
    legs = content.legs_of(books.region)
    record = RegionRecord(sid, opening.digest, RegionState.NO, Verdict.NO, moment.epoch)
    locks: tuple[Movement, ...] = ()
    if _agrees(books, opening, legs, released.movements):
        record = replace(
            record,
            state=RegionState.YES,
            verdict=Verdict.YES,
            in_doubt_since=moment.height,
            kind=content.kind,
            nonce=content.nonce,
            legs=legs,
        )
        locks = _movements(MovementKind.LOCK, sid, legs, -1)
    return replace(
        released,
        records=(*released.records, record),
        movements=(*released.movements, *locks),
        events=(*released.events, *receipts(books, record)),
    )


def _agrees(books: RegionBooks, opening: Opening, legs: tuple[Leg, ...], refunds: tuple[Movement, ...]) -> bool:
    """Every leg of this region has an account, is authorised, affordable, and can be credited within int64."""
    return all(
        books.accepts(leg.account, leg.asset) and _authorised(books, opening, leg) and _fits(books, leg, refunds)
        for leg in legs
    )


def _authorised(books: RegionBooks, opening: Opening, leg: Leg) -> bool:
    """A payment's debits by their owners; a netting's legs by what this region computed itself."""
    content = opening.open
    if content.kind is Kind.NETTING:
        return leg.account == NEUTRAL and books.mandate(content.nonce, leg.account, leg.asset) == leg.amount
    if leg.amount > 0:
        return True
    message = authorisation_bytes(opening.body_digest)
    return any(
        books.authorises(leg.account, message, item.signature)
        for item in content.authorisations
        if (item.region, item.account) == (leg.region, leg.account)
    )


def _fits(books: RegionBooks, leg: Leg, refunds: tuple[Movement, ...]) -> bool:
    refunded = sum(item.amount for item in refunds if (item.account, item.asset) == (leg.account, leg.asset))
    free = books.free(leg.account, leg.asset)
    if leg.amount < 0:
        return guards.affordable(free + refunded, books.credit_limit(leg.account, leg.asset), -leg.amount)
    return free + books.pending(leg.account, leg.asset) + leg.amount <= AMOUNT_MAX


def apply_decision(books: RegionBooks, decided: Decided, moment: Moment) -> RegionTransition:
    """P2: do what the hub decided. Once; a repeat writes nothing."""
    if not guards.takes_part(books.region, decided.participants):
        raise EscrowRefused("P2", f"{books.region} has no leg in {decided.sid}; relay to its participants")
    record = books.record(decided.sid)
    if record is None and guards.below(decided.sid, books.watermark):
        return NOTHING
    if record is not None and not guards.same_opening(decided.open_digest, record.open_digest):
        raise EscrowRefused("P2", f"the decision names another OPEN than {decided.sid} has here; it is of another fork")
    wanted = RegionState.COMMITTED if decided.outcome is Outcome.COMMIT else RegionState.ABORTED
    if guards.is_applied(record):
        if record is not None and record.state is not wanted:
            raise RegionHalted(f"{decided.sid} is {record.state.name} here and {decided.outcome.name} on the hub")
        return NOTHING
    if decided.outcome is Outcome.COMMIT:
        return _commit(books, record, decided, moment)
    return _abort(books, record, decided, moment)


def _commit(books: RegionBooks, record: RegionRecord | None, decided: Decided, moment: Moment) -> RegionTransition:
    if record is None or not guards.may_commit(record):
        state = "unknown" if record is None else record.state.name
        raise RegionHalted(f"the hub committed {decided.sid}, which is {state} here: compare the hub's proofs")
    done = replace(record, state=RegionState.COMMITTED, applied_epoch=moment.epoch, legs=())
    return RegionTransition(
        records=(done,),
        movements=(
            *_movements(MovementKind.BURN, record.sid, record.legs, -1),
            *_movements(MovementKind.CREDIT, record.sid, record.legs, 1),
        ),
        spent_mandates=(record.nonce,) if record.kind is Kind.NETTING else (),
        events=receipts(books, done)[-1:],
    )


def _abort(books: RegionBooks, record: RegionRecord | None, decided: Decided, moment: Moment) -> RegionTransition:
    tombstone = RegionRecord(decided.sid, decided.open_digest, RegionState.ABORTED, applied_epoch=moment.epoch)
    if record is None:
        return RegionTransition(records=(tombstone,), events=receipts(books, tombstone))
    done = replace(record, state=RegionState.ABORTED, applied_epoch=moment.epoch, legs=())
    refunds = _movements(MovementKind.REFUND, record.sid, record.legs, -1)
    return RegionTransition(records=(done,), movements=refunds, events=receipts(books, done)[-1:])


def _movements(kind: MovementKind, sid: SettlementId, legs: tuple[Leg, ...], sign: int) -> tuple[Movement, ...]:
    """One movement for each leg of this sign."""
    return tuple(
        Movement(kind, sid, leg.account, leg.asset, leg.amount * sign) for leg in legs if leg.amount * sign > 0
    )


def receipts(books: RegionBooks, record: RegionRecord) -> tuple[Receipt, ...]:
    """What a record says, always in the same bytes: its verdict, then that the decision was applied."""

    def receipt(verdict: Verdict, epoch: int) -> Receipt:
        return Receipt(books.hub_chain_id, books.region, verdict, record.sid, record.open_digest, epoch)

    said = () if record.verdict is None else (receipt(record.verdict, record.epoch),)
    return (*said, receipt(Verdict.APPLIED, record.applied_epoch)) if guards.is_applied(record) else said


def advance_watermark(books: RegionBooks, watermark: SettlementId) -> RegionTransition:
    """Forget what the hub has closed. What is in doubt stays, whatever the watermark says."""
    if guards.below(watermark, books.watermark):
        return NOTHING
    pruned = tuple(record.sid for record in _records(books, watermark) if guards.prunable(record, watermark))
    return RegionTransition(pruned=pruned, watermark=watermark)


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Money that waits for the hub: shown to operators, who can only relay."""

    sid: SettlementId
    since_height: int
    legs: tuple[Leg, ...]


def in_doubt(books: RegionBooks) -> tuple[InDoubt, ...]:
    """All settlements in YES, oldest first."""
    waiting = [record for record in _records(books) if record.state is RegionState.YES]
    return tuple(InDoubt(record.sid, record.in_doubt_since, record.legs) for record in waiting)


def _records(books: RegionBooks, last: SettlementId | None = None) -> Iterator[RegionRecord]:
    for sid in books.sids():
        if last is not None and sid > last:
            return
        record = books.record(sid)
        assert record is not None, f"{sid} is listed and has no record"
        yield record
