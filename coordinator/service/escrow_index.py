"""Where the escrow events of a chain stand: a file beside the ledger that can be deleted and is then made anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.ledger.receipt import Receipt as BlockReceipt
from coordinator.ledger.store import Store
from coordinator.settlement.escrow.chains import ESCROW_EVENT
from coordinator.settlement.escrow.encoding import decode_event, encode_sid
from coordinator.settlement.escrow.missing import Kind
from coordinator.settlement.escrow.types import Closed, Decided, Event, Opened, Receipt, SettlementId, Verdict

_BLOCKS_A_STEP = 1_000


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Block, receipt in it, and number in that."""

    height: int
    place: int
    number: int


class EscrowIndex:
    """Places of events by kind and settlement. Not synchronised: what a crash loses is read from the ledger again."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        for statement in (
            "PRAGMA journal_mode = MEMORY",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE IF NOT EXISTS events (kind INTEGER, sid BLOB, height INTEGER, place INTEGER, number INTEGER,"
            " PRIMARY KEY (kind, sid)) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS done (one INTEGER PRIMARY KEY CHECK (one = 1), height INTEGER)",
        ):
            self._connection.execute(statement)
        row = self._connection.execute("SELECT height FROM done").fetchone()
        self._done = 0 if row is None else row[0]

    def catch_up(self, store: Store) -> None:
        """Index the final blocks that are not indexed."""
        tip = store.state.header.height
        while self._done < tip:
            last = min(tip, self._done + _BLOCKS_A_STEP)
            heights = range(self._done + 1, last + 1)
            rows = [row for height in heights for receipt in store.receipts(height) for row in _rows(receipt)]
            execute = self._connection.execute
            execute("BEGIN")
            self._connection.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", rows)
            execute("INSERT OR REPLACE INTO done VALUES (1, ?)", (last,))
            execute("COMMIT")
            self._done = last

    def find(self, kind: Kind, sid: SettlementId) -> EventPlace | None:
        """Where an event stands."""
        query = "SELECT height, place, number FROM events WHERE kind = ? AND sid = ?"
        row: tuple[int, int, int] | None = self._connection.execute(query, (kind.value, encode_sid(sid))).fetchone()
        return None if row is None else EventPlace(*row)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()


def _rows(receipt: BlockReceipt) -> Iterator[tuple[int, bytes, int, int, int]]:
    for number, event in enumerate(receipt.events):
        if event.kind == ESCROW_EVENT:
            kind, sid = _key(decode_event(event.payload))
            yield kind.value, encode_sid(sid), receipt.height, receipt.place, number


def _key(event: Event) -> tuple[Kind, SettlementId]:
    match event:
        case Opened(sid):
            return Kind.OPENED, sid
        case Decided(sid):
            return Kind.DECIDED, sid
        case Closed(watermark):
            return Kind.CLOSED, watermark
        case Receipt(verdict=Verdict.APPLIED, sid=sid):
            return Kind.APPLIED, sid
        case Receipt(sid=sid):
            return Kind.VERDICT, sid
