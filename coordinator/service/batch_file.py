"""Batches of readings that no final block of this node commits to yet: a file beside the ledger.

A batch is durable here before this node votes for a block that commits to it. With the final block it goes into the
ledger itself, and from here it is dropped. A node that has lost the file fetches what it needs from peers again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from coordinator.ledger.database import transaction, translated


class BatchFile:
    """Encoded batches by root. One thread uses one object."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StoreError."""
        self._path = path
        with translated(path):
            self._connection = sqlite3.connect(path, isolation_level=None)
            path.chmod(0o600)
            for statement in (
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "CREATE TABLE IF NOT EXISTS batches"
                " (root BLOB PRIMARY KEY, height INTEGER NOT NULL, encoded BLOB NOT NULL) STRICT",
            ):
                self._connection.execute(statement)

    def put(self, root: bytes, encoded: bytes, height: int) -> None:
        """Keep a batch that came when this was the height; durable on return."""
        with translated(self._path), transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", (root, height, encoded))

    def get(self, root: bytes) -> bytes | None:
        """A batch, None where it is not here."""
        with translated(self._path):
            row = self._connection.execute("SELECT encoded FROM batches WHERE root = ?", (root,)).fetchone()
        return None if row is None else bytes(row[0])

    def sizes(self) -> Mapping[bytes, int]:
        """Roots and the lengths of their batches."""
        with translated(self._path):
            return dict(self._connection.execute("SELECT root, length(encoded) FROM batches"))

    def drop(self, roots: Iterable[bytes]) -> None:
        """Forget these."""
        with translated(self._path), transaction(self._connection):
            self._connection.executemany("DELETE FROM batches WHERE root = ?", ((root,) for root in roots))

    def before(self, height: int) -> Sequence[bytes]:
        """Roots of those that came before this height."""
        with translated(self._path):
            return [
                root for (root,) in self._connection.execute("SELECT root FROM batches WHERE height < ?", (height,))
            ]

    def close(self) -> None:
        """Release the file."""
        self._connection.close()
