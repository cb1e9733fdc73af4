"""A node's ledger on disk: finalized blocks with certificates and receipts, state, readings beside the chain.

Blocks that become final together are one SQLite transaction with synchronous=FULL: after a crash the file holds
all of a commit or none of it. What is derived (receipts, history nodes, state) is stored too, so that a node starts
and proves quickly; opening checks the tip, `audit.py` checks everything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.epochs import boundary_height
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header, decode_header
from coordinator.ledger.block import Block
from coordinator.ledger.boundary import Boundary, decode_boundary
from coordinator.ledger.database import create_database, open_database, transaction, translated
from coordinator.ledger.errors import GenesisError, StoreCorrupt, StoreError
from coordinator.ledger.files import Closing
from coordinator.ledger.genesis import Genesis, decode_genesis, start
from coordinator.ledger.history import Frontier, HistoryTree, peak_places
from coordinator.ledger.reading_store import StoredReadings
from coordinator.ledger.readings import MeterBatch
from coordinator.ledger.receipt import Receipt, decode_receipt
from coordinator.ledger.registry import CURRENT, committee
from coordinator.ledger.state import Applied, LedgerState, Machine
from coordinator.ledger.state_tree import tree_of

_HEADERS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Finalized:
    """A finalized block with what it does. `certificate` is None where a descendant's finalizes it.

    `batches` are the readings that its transactions commit to, by the transaction's place.
    """

    block: Block
    applied: Applied
    certificate: Certificate | None
    batches: Mapping[int, MeterBatch] = field(default_factory=dict)


class Store(Closing):
    """An open ledger file. One writer a file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, genesis: Genesis, state: LedgerState) -> None:
        self.path = path
        self.genesis = genesis
        self.state = state
        self.readings = StoredReadings(connection)
        self._connection = connection

    @classmethod
    def create(cls, path: Path, genesis: Genesis, machine: Machine) -> Store:
        """A new ledger that holds its genesis. Raises GenesisError, StoreError."""
        state = start(genesis, machine)
        connection = create_database(path)
        store = cls(path, connection, genesis, state)
        with store._writing():
            connection.execute("INSERT INTO meta VALUES ('genesis', ?)", (genesis.encoded,))
            store._insert_block(Block(state.header, b""))
            store._insert_nodes(Frontier(), state.header)
            connection.executemany("INSERT INTO state VALUES (?, ?)", state.tree.items())
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open. Raises StoreError; StoreCorrupt names the table where what is stored contradicts itself."""
        connection = open_database(path)
        try:
            with translated(path):
                return cls(path, connection, read_genesis(connection), _load_state(connection))
        except (DecodeError, GenesisError) as error:
            connection.close()
            raise StoreCorrupt(f"{path}: table meta, genesis: {error}; restore a snapshot") from error
        except StoreError:
            connection.close()
            raise

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with translated(self.path), transaction(self._connection):
            yield

    def commit(self, finalized: Sequence[Finalized]) -> None:
        """Add finalized blocks, in order. All or nothing, durable on return.

        The last block carries a certificate, which also finalizes those before it; so does the last of an epoch.
        """
        if not finalized:
            return
        assert finalized[-1].certificate is not None, "the last block of a commit carries its finalization"
        state = self.state
        with self._writing():
            for entry in finalized:
                self._insert(state, entry)
                state = entry.applied.state
            self._write_state(state, finalized)
        self.state = state

    def _insert(self, parent: LedgerState, entry: Finalized) -> None:
        header, execute = entry.block.header, self._connection.execute
        assert header.parent_digest == parent.header.digest, "blocks are committed in order"
        assert entry.applied.state.header == header, "the state is not the one after this block"
        self._insert_block(entry.block)
        rows = ((header.height, receipt.place, receipt.encode()) for receipt in entry.applied.receipts)
        self._connection.executemany("INSERT INTO receipts VALUES (?, ?, ?)", rows)
        self._insert_nodes(parent.history, header)
        certificate = entry.certificate
        if certificate is not None:
            assert certificate.digest == header.digest, "the certificate is of another block"
            execute("INSERT INTO certificates VALUES (?, ?)", (header.height, certificate.encode()))
        if header.height == boundary_height(header.epoch, self.genesis.epoch_length):
            assert certificate is not None, "the last block of an epoch is finalized directly"
            keys = committee(entry.applied.state.view, CURRENT).public_keys
            boundary = Boundary(header, certificate, keys)
            execute("INSERT INTO boundaries VALUES (?, ?)", (header.epoch, boundary.encode()))
        for place, batch in entry.batches.items():
            self.readings.add(header.height, place, batch)

    def _insert_block(self, block: Block) -> None:
        header = block.header
        row = (header.height, header.digest, header.payload_digest, header.encode(), block.payload)
        self._connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", row)

    def _insert_nodes(self, history: Frontier, header: Header) -> None:
        _, nodes = history.grown(header.digest)
        self._connection.executemany("INSERT INTO history_nodes VALUES (?, ?, ?)", nodes)

    def _write_state(self, state: LedgerState, finalized: Sequence[Finalized]) -> None:
        touched = dict.fromkeys(key for entry in finalized for key in entry.applied.touched)
        after = [(key, state.tree.get(key)) for key in touched]
        self._connection.executemany(
            "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            ((key, value) for key, value in after if value is not None),
        )
        gone = ((key,) for key, value in after if value is None)
        self._connection.executemany("DELETE FROM state WHERE key = ?", gone)

    def payload(self, digest: bytes) -> bytes | None:
        """A finalized block's payload by its digest."""
        return self._one("SELECT payload FROM blocks WHERE payload_digest = ? LIMIT 1", digest)

    def block(self, height: int) -> Block | None:
        """A finalized block; height 0 is genesis, whose payload is empty."""
        with translated(self.path):
            row = self._connection.execute("SELECT header, payload FROM blocks WHERE height = ?", (height,)).fetchone()
        return None if row is None else Block(decode_header(row[0]), row[1])

    def headers(self, first: int, count: int) -> tuple[Header, ...]:
        """Finalized headers from this height on, at most so many and never more than 1,024; no payload is read."""
        query = "SELECT header FROM blocks WHERE height >= ? ORDER BY height LIMIT ?"
        with translated(self.path):
            rows = self._connection.execute(query, (first, max(0, min(count, _HEADERS_MAX))))
            return tuple(decode_header(row) for (row,) in rows)

    def header_of(self, digest: bytes) -> Header | None:
        """A finalized header by its digest."""
        found = self._one("SELECT header FROM blocks WHERE digest = ?", digest)
        return None if found is None else decode_header(found)

    def certificate(self, height: int) -> Certificate | None:
        """The finalization of a block itself, None where a descendant's finalizes it."""
        found = self._one("SELECT certificate FROM certificates WHERE height = ?", height)
        return None if found is None else decode_certificate(found)

    def certified_from(self, height: int) -> int | None:
        """The lowest height, this one or above, whose block has a certificate of its own."""
        with translated(self.path):
            row = self._connection.execute("SELECT min(height) FROM certificates WHERE height >= ?", (height,))
            found: int | None = row.fetchone()[0]
        return found

    def boundaries(self) -> tuple[Boundary, ...]:
        """The boundaries of all past epochs, for light clients."""
        with translated(self.path):
            rows = self._connection.execute("SELECT boundary FROM boundaries ORDER BY epoch")
            return tuple(decode_boundary(row) for (row,) in rows)

    def boundary(self, epoch: int) -> Boundary | None:
        """The boundary of an epoch, None while it is not over."""
        found = self._one("SELECT boundary FROM boundaries WHERE epoch = ?", epoch)
        return None if found is None else decode_boundary(found)

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        """The receipts of a block, in order."""
        with translated(self.path):
            rows = self._connection.execute("SELECT receipt FROM receipts WHERE height = ? ORDER BY place", (height,))
            return tuple(decode_receipt(row) for (row,) in rows)

    @property
    def history(self) -> HistoryTree:
        """For proofs about the headers up to the tip. After a restore it knows those from the snapshot on."""
        return HistoryTree(self.state.history.size, node_reader(self._connection))

    def prune_readings(self, late_limit_s: int) -> int:
        """Drop the readings of blocks so old that none of theirs could be corrected; how many were dropped."""
        end_ms = self.state.header.time_ms - late_limit_s * 1000
        with self._writing():
            # From the oldest batch on: what lies below has been pruned, and a long ledger is not read again each time.
            oldest = "coalesce((SELECT min(height) FROM reading_batches), 0)"
            rows = self._connection.execute(
                f"SELECT height, header FROM blocks WHERE height >= {oldest} ORDER BY height"
            )
            first_kept = next((height for height, row in rows if decode_header(row).time_ms >= end_ms), 0)
            return self.readings.prune(first_kept)

    def _one(self, query: str, argument: bytes | int) -> bytes | None:
        with translated(self.path):
            row = self._connection.execute(query, (argument,)).fetchone()
        return None if row is None else bytes(row[0])


def node_reader(connection: sqlite3.Connection) -> Callable[[int, int], bytes]:
    """Reads complete nodes of the history. Raises StoreCorrupt where one is missing."""

    def node(level: int, place: int) -> bytes:
        row = connection.execute("SELECT hash FROM history_nodes WHERE level = ? AND place = ?", (level, place))
        found = row.fetchone()
        if found is None:
            raise StoreCorrupt(
                f"table history_nodes: level {level}, place {place} is missing; it may be before a snapshot"
            )
        return bytes(found[0])

    return node


def read_genesis(connection: sqlite3.Connection) -> Genesis:
    """The genesis document of a file. Raises StoreCorrupt, DecodeError."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'genesis'").fetchone()
    if row is None:
        raise StoreCorrupt("table meta, genesis: missing")
    return decode_genesis(row[0])


def _load_state(connection: sqlite3.Connection) -> LedgerState:
    """The state at the tip, checked against the tip's header."""
    row = connection.execute("SELECT header FROM blocks ORDER BY height DESC LIMIT 1").fetchone()
    if row is None:
        raise StoreCorrupt("table blocks: there is no block, not even genesis")
    try:
        header = decode_header(row[0])
    except DecodeError as error:
        raise StoreCorrupt(f"table blocks, the last: {error}; restore a snapshot") from None
    tree = tree_of(connection.execute("SELECT key, value FROM state"))
    if tree.root != header.state_root:
        raise StoreCorrupt(f"table state: its root is not that of the header at height {header.height}")
    node = node_reader(connection)
    before = Frontier(header.height, tuple(node(*place) for place in peak_places(header.height)))
    if before.root != header.history_root:
        raise StoreCorrupt(f"table history_nodes: their root is not that of the header at height {header.height}")
    return LedgerState(header, tree, before.append(header.digest))
