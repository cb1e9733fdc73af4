"""The hub's side: H1 to H5 as pure functions. Each reads the books and returns what to write, or raises EscrowRefused.

`height` is always that of the hub block being executed. At the end of a block its host calls `end_of_block` and
applies what it returns until it returns None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from coordinator.settlement.escrow import guards
from coordinator.settlement.escrow.admission import check_netting, check_payment, next_sid
from coordinator.settlement.escrow.books import HubBooks, RegionEntry
from coordinator.settlement.escrow.encoding import decode_event, decode_open, seal
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.proofs import ProvenEvent, ProvenFork
from coordinator.settlement.escrow.records import Change, HubRecord, HubTransition, Vote
from coordinator.settlement.escrow.renetting import claims, collateral_owner, without
from coordinator.settlement.escrow.types import (
    HUB,
    Closed,
    Decided,
    Kind,
    Leg,
    Open,
    Opened,
    Opening,
    Outcome,
    Reason,
    Receipt,
    Replaced,
    SettlementId,
    Verdict,
)

NOTHING = HubTransition()


def open_payment(books: HubBooks, encoded: bytes, height: int, signer: str = "") -> HubTransition:
    """H1: open what owners signed; `signer` submits it, empty on hosts that know no signers."""
    opening = decode_open(encoded)
    check_payment(books, opening, height, signer)
    return _opened(opening, next_sid(books, height), height, signer)


def open_netting(books: HubBooks, nonce: bytes, legs: tuple[Leg, ...], height: int) -> HubTransition:
    """H1: open the netted legs of an interval, without regions that cannot take part now."""
    regions = sorted({leg.region for leg in legs if leg.region != HUB})
    absent = [name for name in regions if not _takes_part(books.region(name))]
    opening = _netting(books, nonce, without(legs, absent), height, None)
    check_netting(books, opening, height)
    return _opened(opening, next_sid(books, height), height)


def _takes_part(entry: RegionEntry | None) -> bool:
    return entry is not None and entry.active and not entry.frozen


def _netting(books: HubBooks, nonce: bytes, legs: tuple[Leg, ...], height: int, replaces: Replaced | None) -> Opening:
    deadline = height + books.parameters.netting_window_blocks
    return seal(Open(books.chain_id, nonce, Kind.NETTING, deadline, legs, replaces))


def _opened(opening: Opening, sid: SettlementId, height: int, signer: str = "") -> HubTransition:
    count = len(opening.open.participants)
    record = HubRecord(sid, opening, (None,) * count, (False,) * count, signer=signer)
    transition = HubTransition(records=(record,), events=(Opened(sid, opening),))
    return transition if count else _merged(transition, _commit(record, height))


def accept_receipt(books: HubBooks, proven: ProvenEvent, height: int) -> HubTransition:
    """H2: count a verdict of a region, or that it applied the decision."""
    receipt = decode_event(proven.event)
    if not isinstance(receipt, Receipt):
        raise EscrowRefused("H2", "the proven event is no receipt; relay a region's receipt")
    _check_origin(books, proven, receipt)
    if guards.below(receipt.sid, books.watermark):
        return NOTHING
    record = books.record(receipt.sid)
    if record is None:
        raise EscrowRefused("H2", f"settlement {receipt.sid} is not open here; relay receipts of open ones")
    if not guards.same_opening(receipt.open_digest, record.opening.digest):
        raise EscrowRefused("H2", f"the receipt names another OPEN than {receipt.sid} has here; it is of another fork")
    if receipt.region not in record.participants:
        raise EscrowRefused("H2", f"{receipt.region} has no leg in {receipt.sid}")
    place = record.participants.index(receipt.region)
    if receipt.verdict is Verdict.APPLIED:
        return _count_applied(record, place)
    return _count_verdict(books, record, place, Vote(receipt.verdict, height))


def _check_origin(books: HubBooks, proven: ProvenEvent, receipt: Receipt) -> None:
    entry = books.region(receipt.region)
    if entry is None:
        raise EscrowRefused("H2", f"{receipt.region} is not registered; register it first")
    if not guards.comes_from(proven.chain_id, entry.chain_id):
        raise EscrowRefused("H2", f"the receipt was not finalized by the chain of {receipt.region}")
    if not guards.comes_from(receipt.hub_chain_id, books.chain_id):
        raise EscrowRefused("H2", "the receipt answers another hub")
    if entry.frozen:
        raise EscrowRefused(
            "H2", f"{receipt.region} is frozen after a conflict; its chain does not count until released"
        )
    if not guards.epoch_provable(proven.epoch, entry.epoch):
        raise EscrowRefused(
            "H2",
            f"certificate of epoch {proven.epoch} while the hub knows {receipt.region} at {entry.epoch}; "
            "relay boundary certificates, or prove the block through history_root under the current epoch",
        )
    if receipt.epoch > proven.epoch:
        raise EscrowRefused("H2", f"a receipt of epoch {receipt.epoch} under a certificate of epoch {proven.epoch}")


def _count_applied(record: HubRecord, place: int) -> HubTransition:
    if record.outcome is None:
        raise EscrowRefused("H2", f"{record.sid} is not decided, so nothing can have been applied")
    if record.applied[place]:
        return NOTHING
    applied = (*record.applied[:place], True, *record.applied[place + 1 :])
    return HubTransition(records=(replace(record, applied=applied),))


def _count_verdict(books: HubBooks, record: HubRecord, place: int, vote: Vote) -> HubTransition:
    earlier = record.votes[place]
    if earlier is not None:
        conflict = guards.contradicts(earlier.verdict, vote.verdict)
        return HubTransition(frozen=(record.participants[place],)) if conflict else NOTHING
    record = replace(record, votes=(*record.votes[:place], vote, *record.votes[place + 1 :]))
    if record.outcome is None and vote.verdict is Verdict.NO:
        return _abort(books, record, Reason.SAID_NO, vote.height)
    if record.outcome is None and guards.unanimous(record) and not _has_frozen(books, record):
        return _commit(record, vote.height)
    return HubTransition(records=(record,))


def freeze(books: HubBooks, fork: ProvenFork, region: str) -> HubTransition:
    """H2: a region whose chain finalized two histories. Its open settlements end with the block."""
    entry = books.region(region)
    if entry is None or not guards.comes_from(fork.chain_id, entry.chain_id):
        raise EscrowRefused("H2", f"the fork is not of the chain of {region}")
    return NOTHING if entry.frozen else HubTransition(frozen=(region,))


def end_of_block(books: HubBooks, height: int) -> HubTransition | None:
    """H4 and H5 without any transaction: the next step of this block's end, or None when there is none left."""
    for record in _records(books, books.due(height)):
        if guards.expired(height, record.deadline_height):
            return _abort(books, record, Reason.DEADLINE, height)
        if _has_frozen(books, record):
            return _abort(books, record, Reason.FROZEN, height)
    return _close(books, height)


def _commit(record: HubRecord, height: int) -> HubTransition:
    """H3. The hub's own legs move with it."""
    content = record.opening.open
    positions, accounts = [], []
    for leg in content.legs:
        if leg.region != HUB:
            positions.append(Change(leg.region, leg.asset, leg.amount))
            continue
        positions.append(Change(collateral_owner(leg.account) or HUB, leg.asset, leg.amount))
        accounts.append(Change(leg.account.decode(), leg.asset, leg.amount))
    return HubTransition(
        records=(replace(record, outcome=Outcome.COMMIT, reason=Reason.ALL_YES, decided_height=height),),
        positions=tuple(positions),
        accounts=tuple(accounts),
        released=(content.nonce,) if content.kind is Kind.NETTING else (),
        claims=claims(content.legs),
        events=(Decided(record.sid, record.opening.digest, Outcome.COMMIT, record.participants),),
    )


def _abort(books: HubBooks, record: HubRecord, reason: Reason, height: int) -> HubTransition:
    """H4. A netting is opened again at once, without the regions that kept it from a COMMIT."""
    content = record.opening.open
    transition = HubTransition(
        records=(replace(record, outcome=Outcome.ABORT, reason=reason, decided_height=height),),
        events=(Decided(record.sid, record.opening.digest, Outcome.ABORT, record.participants),),
    )
    if content.kind is not Kind.NETTING:
        return transition
    legs = without(content.legs, _excluded(books, record, height))
    replaces = Replaced(record.sid, record.opening.digest)
    again = _netting(books, content.nonce, legs, height, replaces)
    return _merged(transition, _opened(again, next_sid(books, height), height))


def _excluded(books: HubBooks, record: HubRecord, height: int) -> tuple[str, ...]:
    """The regions that said NO or cannot take part any more; after D also those who stayed silent or came too late."""
    late = guards.expired(height, record.deadline_height)
    excluded = []
    for name, vote in zip(record.participants, record.votes, strict=True):
        refused = vote is not None and vote.verdict is not Verdict.YES
        silent = late and (vote is None or not guards.in_time(vote.height, record.deadline_height))
        if refused or silent or not _takes_part(books.region(name)):
            excluded.append(name)
    return tuple(excluded)


def _close(books: HubBooks, height: int) -> HubTransition | None:
    """H5."""
    grace = books.parameters.window_max_blocks
    closed = {
        record.sid: None
        for record in _records(books, books.closing(height))
        if guards.closable(record, height, _frozen(books, record), grace)
    }
    if not closed:
        return None
    left = [sid for sid in books.unclosed() if sid not in closed]
    watermark = left[0].predecessor if left else books.last_sid
    assert watermark is not None, "something was closed, so something was opened"
    pruned = tuple(sorted(closed))
    if watermark < pruned[0]:
        return HubTransition(pruned=pruned)
    return HubTransition(pruned=pruned, watermark=watermark, events=(Closed(watermark),))


def _records(books: HubBooks, sids: Iterable[SettlementId]) -> Iterator[HubRecord]:
    for sid in sids:
        record = books.record(sid)
        assert record is not None, f"{sid} is listed and has no record"
        yield record


def _has_frozen(books: HubBooks, record: HubRecord) -> bool:
    return bool(_frozen(books, record))


def _frozen(books: HubBooks, record: HubRecord) -> tuple[str, ...]:
    entries = [books.region(name) for name in record.participants]
    return tuple(entry.name for entry in entries if entry is not None and entry.frozen)


def _merged(first: HubTransition, second: HubTransition) -> HubTransition:
    """Both in one step; the second writes a record of the same settlement later."""
    return replace(
        second,
        records=(*first.records, *second.records),
        events=(*first.events, *second.events),
    )
