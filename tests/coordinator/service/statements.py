"""What a quorum of a chain's validators stands behind, read from a ledger file: each event with its message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.ledger.block import decode_payload
from coordinator.ledger.codec import Reader
from coordinator.ledger.database import open_database
from coordinator.ledger.receipt import Receipt, decode_receipt
from coordinator.ledger.transaction import Transaction
from coordinator.settlement.interval.confirmations import (
    CONFIRM_HUB,
    CONFIRM_REGION,
    decode_confirmation,
    decode_event,
    digest_of,
)
from coordinator.settlement.interval.decisions import Agreed, decode_hub_message
from coordinator.settlement.interval.hub import END_EVENT, INTERVAL_EVENT
from coordinator.settlement.interval.topics import Interval, Topic, read_interval


@dataclass(slots=True)
class Statements:
    """Gathers them transaction by transaction: an event names the digest of what somebody proposed before."""

    _texts: dict[bytes, bytes] = field(default_factory=dict)

    def of(self, transaction: Transaction, receipt: Receipt) -> Iterator[tuple[Topic, bytes]]:
        """What a quorum stands behind since this transaction."""
        if transaction.kind not in (CONFIRM_HUB, CONFIRM_REGION) or receipt.code:
            return
        given = decode_confirmation(transaction.content)
        if given.message is not None:
            self._texts[digest_of(given.message)] = given.message
        for event in receipt.events:
            if event.kind == INTERVAL_EVENT:
                topic, digest = decode_event(event.payload)
                yield topic, self._texts[digest]


def carried_out(ledger: Path) -> Iterator[tuple[Transaction, Receipt]]:
    """Every transaction with its receipt, those that were refused among them, in order."""
    with closing(open_database(ledger, read_only=True)) as connection:
        connection.execute("BEGIN")
        payloads = connection.execute("SELECT height, payload FROM blocks WHERE height > 0 ORDER BY height").fetchall()
        rows = connection.execute("SELECT height, receipt FROM receipts ORDER BY height, place").fetchall()
    receipts: dict[int, list[Receipt]] = {}
    for height, encoded in rows:
        receipts.setdefault(height, []).append(decode_receipt(encoded))
    for height, payload in payloads:
        transactions = [signed.transaction for signed in decode_payload(payload)]
        yield from zip(transactions, receipts.get(height, [])[: len(transactions)], strict=True)


def statements(ledger: Path) -> Iterator[tuple[Topic, bytes]]:
    """In order, each with its message."""
    heard = Statements()
    for transaction, receipt in carried_out(ledger):
        yield from heard.of(transaction, receipt)


def agreements(hub: Path) -> dict[Interval, Agreed]:
    """What was agreed on for each interval, at its last attempt."""
    decided = ((topic.interval, decode_hub_message(message)) for topic, message in statements(hub))
    return {interval: said for interval, said in decided if isinstance(said, Agreed)}


def ends(hub: Path) -> list[tuple[Interval, bool]]:
    """Intervals in the order in which the hub ended them, and whether they were coupled."""
    with closing(open_database(hub, read_only=True)) as connection:
        rows = connection.execute("SELECT receipt FROM receipts ORDER BY height, place").fetchall()
    events = (event for (encoded,) in rows for event in decode_receipt(encoded).events if event.kind == END_EVENT)
    readers = (Reader(event.payload) for event in events)
    return [(read_interval(reader), reader.flag()) for reader in readers]
