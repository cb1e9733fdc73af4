"""A node's ledger on disk: finalized blocks with certificates and receipts, state, journal, readings beside the chain.

Everything that belongs to one step is one SQLite transaction with synchronous=FULL: after a crash the file holds
all of a commit or none of it. What is derived (receipts, history nodes, state) is stored too, so that a node starts
and proves quickly; opening checks the tip, `audit.py` checks everything.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.epochs import boundary_height
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header, decode_header
from coordinator.ledger.block import Block
from coordinator.ledger.boundary import Boundary, decode_boundary
from coordinator.ledger.database import create_database, open_database, transaction, translated
from coordinator.ledger.errors import GenesisError, StoreCorrupt, StoreError
from coordinator.ledger.genesis import Genesis, decode_genesis, start
from coordinator.ledger.history import Frontier, HistoryTree, peak_places
from coordinator.ledger.reading_store import StoredReadings
from coordinator.ledger.readings import MeterBatch
from coordinator.ledger.receipt import Receipt, decode_receipt
from coordinator.ledger.registry import CURRENT, committee
from coordinator.ledger.state import Applied, LedgerState, Machine
from coordinator.ledger.state_tree import tree_of

_CHECKSUM_DOMAIN = b"gridaccord/journal/v1"
_CHECKSUM_SIZE = 16
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


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening found: the number of a torn last journal record that was dropped, None where there was none."""

    dropped_record: int | None = None

    @property
    def message(self) -> str:
        """For the log."""
        if self.dropped_record is None:
            return "the journal is whole"
        return f"journal record {self.dropped_record} was torn and is dropped: nothing that depends on it was sent"


class Store:
    """An open ledger file. One writer a file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, genesis: Genesis, state: LedgerState) -> None:
        self.path = path
        self.genesis = genesis
        self.state = state
        self.recovery = Recovery()
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
        """Open and recover. Raises StoreError; StoreCorrupt names the table where what is stored contradicts itself."""
        connection = open_database(path)
        try:
            with translated(path):
                store = cls(path, connection, read_genesis(connection), _load_state(connection))
                store.recovery = store._recover_journal()
        except (DecodeError, GenesisError) as error:
            connection.close()
            raise StoreCorrupt(f"{path}: table meta, genesis: {error}; restore a snapshot") from error
        except StoreError:
            connection.close()
            raise
        return store

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with translated(self.path), transaction(self._connection):
            yield

    def commit(
        self,
        finalized: Sequence[Finalized] = (),
        journal: Sequence[bytes] = (),
        payloads: Mapping[bytes, bytes] = MappingProxyType({}),
        drop_payloads: Sequence[bytes] = (),
    ) -> None:
        """Forget payloads of blocks that will not be final; add payloads of blocks that are not final yet, by digest,
        finalized blocks in order, and journal records. All or nothing, durable on return.

        The last block carries a certificate, which also finalizes those before it; so does the last of an epoch.
        """
        if not (finalized or journal or payloads or drop_payloads):
            return
        last = finalized[-1].certificate if finalized else None
        assert last is not None or not finalized, "the last block of a commit carries its finalization"
        state = self.state
        with self._writing():
            gone = ((digest,) for digest in drop_payloads)
            self._connection.executemany("DELETE FROM pending_payloads WHERE digest = ?", gone)
            self._connection.executemany("INSERT OR IGNORE INTO pending_payloads VALUES (?, ?)", payloads.items())
            for entry in finalized:
                self._insert(state, entry)
                state = entry.applied.state
            self._write_state(state, finalized)
            self._insert_journal(journal)
        self.state = state

    def _insert(self, parent: LedgerState, entry: Finalized) -> None:
        header, execute = entry.block.header, self._connection.execute
        assert header.parent_digest == parent.header.digest, "blocks are committed in order"
        assert entry.applied.state.header == header, "the state is not the one after this block"
        self._insert_block(entry.block)
        execute("DELETE FROM pending_payloads WHERE digest = ?", (header.payload_digest,))
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

    def append_journal(self, records: Sequence[bytes]) -> None:
        """Keep consensus records; durable on return."""
        self.commit(journal=records)

    def _insert_journal(self, records: Sequence[bytes]) -> None:
        (last,) = self._connection.execute("SELECT coalesce(max(sequence), 0) FROM journal").fetchone()
        rows = ((last + n, record, journal_checksum(last + n, record)) for n, record in enumerate(records, 1))
        self._connection.executemany("INSERT INTO journal VALUES (?, ?, ?)", rows)

    def journal(self) -> tuple[bytes, ...]:
        """The records that are kept, in order."""
        with translated(self.path):
            return tuple(r for (r,) in self._connection.execute("SELECT record FROM journal ORDER BY sequence"))

    def trim_journal(self, keep: int) -> None:
        """Drop all but the last records: those about views that are final are not needed any more."""
        with self._writing():
            (last,) = self._connection.execute("SELECT coalesce(max(sequence), 0) FROM journal").fetchone()
            # The last record stays in any case: it says which number the next one has.
            self._connection.execute("DELETE FROM journal WHERE sequence <= ?", (last - max(keep, 1),))

    def _recover_journal(self) -> Recovery:
        bad = next(journal_faults(self._connection), None)
        if bad is None:
            return Recovery()
        (last,) = self._connection.execute("SELECT max(sequence) FROM journal").fetchone()
        if bad != last:
            raise StoreCorrupt(
                f"{self.path}: table journal, record {bad} of {last}: damaged or missing before the end; do not vote"
                " with this journal: restore a snapshot and rejoin as an observer until a finality above it"
            )
        with transaction(self._connection):
            self._connection.execute("DELETE FROM journal WHERE sequence = ?", (bad,))
        return Recovery(bad)

    def put_payload(self, digest: bytes, payload: bytes) -> None:
        """Keep the payload of a block that is not final; durable on return."""
        self.commit(payloads={digest: payload})

    def drop_payloads(self, digests: Sequence[bytes]) -> None:
        """Forget payloads of blocks that will not be final."""
        self.commit(drop_payloads=digests)

    def payload(self, digest: bytes) -> bytes | None:
        """A payload by its digest, of a finalized block or of one that is not final."""
        pending = self._one("SELECT payload FROM pending_payloads WHERE digest = ?", digest)
        if pending is not None:
            return pending
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


def journal_checksum(sequence: int, record: bytes) -> bytes:
    """Binds a journal record to its number."""
    return hashlib.sha256(_CHECKSUM_DOMAIN + sequence.to_bytes(8, "big") + record).digest()[:_CHECKSUM_SIZE]


def journal_faults(connection: sqlite3.Connection) -> Iterator[int]:
    """Numbers of journal records that are damaged, or missing between others."""
    expected = None
    for sequence, record, checksum in connection.execute("SELECT * FROM journal ORDER BY sequence"):
        if sequence < 1:
            yield sequence
        elif expected is not None and sequence != expected:
            yield expected
        elif checksum != journal_checksum(sequence, record):
            yield sequence
        expected = sequence + 1


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
