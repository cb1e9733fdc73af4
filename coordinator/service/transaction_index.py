"""Where each transaction stands, by its digest: a file beside the ledger that can be deleted and is then made anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from coordinator.ledger.receipt import END_OF_BLOCK, Receipt
from coordinator.ledger.store import Store


class TransactionIndex:
    """Height and place by digest. Not synchronised: what a crash loses is read from the ledger again."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        for statement in (
            "PRAGMA journal_mode = MEMORY",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE IF NOT EXISTS places (digest BLOB PRIMARY KEY, height INTEGER, place INTEGER) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS done (one INTEGER PRIMARY KEY CHECK (one = 1), height INTEGER)",
        ):
            self._connection.execute(statement)

    def catch_up(self, store: Store) -> None:
        """Index the blocks that are not indexed."""
        row = self._connection.execute("SELECT height FROM done").fetchone()
        first = 0 if row is None else row[0]
        tip = store.state.header.height
        for height in range(first + 1, tip + 1):
            self.add(height, store.receipts(height))
        self._connection.execute("INSERT OR REPLACE INTO done VALUES (1, ?)", (tip,))

    def add(self, height: int, receipts: Sequence[Receipt]) -> None:
        """Index a block."""
        rows = [(one.transaction, height, one.place) for one in receipts if one.transaction != END_OF_BLOCK]
        if not rows:
            return
        execute = self._connection.execute
        execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", rows)
        execute("INSERT OR REPLACE INTO done VALUES (1, ?)", (height,))
        execute("COMMIT")

    def find(self, digest: bytes) -> tuple[int, int] | None:
        """Height and place of a transaction."""
        row: tuple[int, int] | None = self._connection.execute(
            "SELECT height, place FROM places WHERE digest = ?", (digest,)
        ).fetchone()
        return row

    def close(self) -> None:
        """Release the file."""
        self._connection.close()
