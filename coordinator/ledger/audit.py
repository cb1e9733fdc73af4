"""Verifies a ledger file from nothing but its genesis, and names the first table, height and field that is wrong.

Every block is executed again: its header, transactions, receipts, state and history roots follow from those before.
Every certificate is verified under the validators that the chain itself has put in office. Every table that holds
what can be derived is compared with it. Readings lead to the roots on the chain, with their devices' signatures;
the latest versions of every device are in order. Books are checked after every block, and in full at the end.

One block, one batch of readings and the state are in memory at a time, whatever the length of the ledger.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coordinator.consensus.certificate import Certificate, decode_certificate, verify_certificate
from coordinator.consensus.epochs import boundary_height
from coordinator.consensus.errors import CertificateRefused, DecodeError
from coordinator.consensus.header import Header, decode_header, payload_digest
from coordinator.consensus.signing import Scheme, VoteKind
from coordinator.ledger.audit_readings import BatchAuditor, check_devices
from coordinator.ledger.block import Block
from coordinator.ledger.boundary import Boundary, decode_boundary
from coordinator.ledger.database import integrity_problems, open_database, translated
from coordinator.ledger.errors import (
    BlockRefused,
    BooksBroken,
    GenesisError,
    ProofRefused,
    ReadingsRefused,
    StoreCorrupt,
    StoreError,
)
from coordinator.ledger.genesis import Genesis, machine_of, start
from coordinator.ledger.history import Frontier, peak_places
from coordinator.ledger.invariants import check_books
from coordinator.ledger.registry import CURRENT, committee
from coordinator.ledger.snapshot import base_nodes, verify_base
from coordinator.ledger.state import Applied, LedgerState, Module
from coordinator.ledger.state_tree import KEY_MAX, VALUE_MAX, tree_of
from coordinator.ledger.store import node_reader, read_genesis

_PROGRESS_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong. `height` is None where it belongs to no block."""

    table: str
    height: int | None
    field: str
    reason: str

    def __str__(self) -> str:
        place = "" if self.height is None else f", height {self.height}"
        return f"table {self.table}{place}, {self.field}: {self.reason}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit saw. `finding` is None where all is well; counts are of what had been verified until then.

    `base_height` is 0, or the height of the snapshot that the file begins with.
    """

    path: str
    chain_id: str = ""
    chain: str = ""
    base_height: int = 0
    height: int = 0
    blocks: int = 0
    transactions: int = 0
    certificates: int = 0
    readings: int = 0
    readings_pruned: int = 0
    finding: Finding | None = None

    @property
    def valid(self) -> bool:
        """Whether nothing was wrong."""
        return self.finding is None


class _Failure(Exception):
    def __init__(self, table: str, height: int | None, field: str, reason: str) -> None:
        super().__init__(reason)
        self.finding = Finding(table, height, field, reason)


def audit(
    path: Path,
    modules: Sequence[Module],
    scheme: Scheme,
    *,
    chain_id: bytes | None = None,
    progress: Callable[[AuditReport], None] = lambda report: None,
) -> AuditReport:
    """Verify a ledger file. Raises StoreError where there is none; everything else stands in the report.

    `modules` are those that this software has; the genesis document says which of them make the chain.
    `chain_id` is what the auditor expects; without it, the file says which chain it claims to be.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no ledger file; check the path")
    auditor = _Auditor(path, modules, scheme, chain_id, progress)
    try:
        auditor.run()
    except _Failure as failure:
        return replace(auditor.report, finding=failure.finding)
    return auditor.report


class _Auditor:
    """One audit: the state so far, and the report so far."""

    def __init__(
        self,
        path: Path,
        modules: Sequence[Module],
        scheme: Scheme,
        chain_id: bytes | None,
        progress: Callable[[AuditReport], None],
    ) -> None:
        self.report = AuditReport(str(path))
        self._path = path
        self._modules = modules
        self._scheme = scheme
        self._expected = chain_id
        self._progress = progress
        self._nodes = 0

    def run(self) -> None:
        with self._open() as connection:
            self._connection = connection
            self._integrity()
            with _named("database", None, "file"), translated(self._path):
                genesis = self._genesis()
                state = self._base(genesis)
                state = self._blocks(genesis, state)
                self._after(genesis, state)
        self._progress(self.report)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with _named("database", None, "file"):
            connection = open_database(self._path, read_only=True)
        # One read transaction: a node may go on writing, the audit sees the ledger as it was at its first read.
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.close()

    def _integrity(self) -> None:
        problems = integrity_problems(self._connection)
        if problems:
            raise _Failure("database", None, "integrity check", problems[0])

    def _genesis(self) -> Genesis:
        names = [name for (name,) in self._rows("SELECT name FROM meta ORDER BY name")]
        if names != ["format", "genesis"]:
            raise _Failure("meta", None, "name", f"{names} where format and genesis are expected")
        with _named("meta", 0, "genesis"):
            genesis = read_genesis(self._connection)
            if self._expected not in (None, genesis.chain_id):
                raise _Failure("meta", 0, "genesis", f"it is of chain {genesis.chain_id.hex()}, another was expected")
            self.report = replace(self.report, chain_id=genesis.chain_id.hex(), chain=genesis.name)
        return genesis

    def _base(self, genesis: Genesis) -> LedgerState:
        """The state that the file begins with: genesis, or a snapshot that its boundaries lead to."""
        with _named("meta", 0, "genesis"):
            self._machine = machine_of(genesis, self._modules, self._scheme)
            state = start(genesis, self._machine)
        first = next(self._rows("SELECT min(height) FROM blocks"))[0]
        if first is None:
            raise _Failure("blocks", 0, "height", "there is no block, not even genesis")
        if first == 0:
            self._compare_table("base_state", None, iter(()))
            block = self._block(0)
            for field in ("header", "payload"):
                expected = state.header if field == "header" else b""
                if getattr(block, field) != expected:
                    raise _Failure("blocks", 0, field, "not the one that follows from genesis")
            self._check_nodes(0, Frontier().grown(state.header.digest)[1])
            return state
        return self._snapshot(genesis, first)

    def _snapshot(self, genesis: Genesis, height: int) -> LedgerState:
        header = self._block(height).header
        with _named("boundaries", height, "boundary"):
            rows = self._rows("SELECT boundary FROM boundaries ORDER BY epoch")
            boundaries = tuple(decode_boundary(row) for (row,) in rows)
            certificate = self._certificate(height)
            if certificate is None:
                raise _Failure("certificates", height, "certificate", "missing; the snapshot is not finalized")
            verify_base(genesis, boundaries[: height // genesis.epoch_length], header, certificate, self._scheme)
        (too_large,) = next(
            self._rows("SELECT max(length(key) > ? OR length(value) > ?) FROM base_state", KEY_MAX, VALUE_MAX)
        )
        if too_large:
            raise _Failure("base_state", height, "value", "an entry is larger than any that a block writes")
        tree = tree_of(self._rows("SELECT key, value FROM base_state ORDER BY key"))
        if tree.root != header.state_root:
            raise _Failure("base_state", height, "value", "the entries are not those that the header commits to")
        with _named("history_nodes", height, "hash"):
            node = node_reader(self._connection)
            before = Frontier(height, tuple(node(*place) for place in peak_places(height)))
        if before.root != header.history_root:
            raise _Failure("history_nodes", height, "hash", "the peaks are not those that the header commits to")
        self._check_nodes(height, tuple(base_nodes(before, header)))
        self.report = replace(self.report, base_height=height, height=height, certificates=1)
        return LedgerState(header, tree, before.append(header.digest))

    def _blocks(self, genesis: Genesis, state: LedgerState) -> LedgerState:
        batches = BatchAuditor(self._connection, self._scheme)
        uncertified: int | None = None
        heights = self._rows("SELECT height FROM blocks WHERE height > ? ORDER BY height", state.header.height)
        for (height,) in heights:
            if height != state.header.height + 1:
                raise _Failure("blocks", state.header.height + 1, "height", "the block is missing")
            block = self._block(height)
            applied = self._execute(state, block)
            before, state = state, applied.state
            self._check_nodes(height, before.history.grown(block.header.digest)[1])
            certified = self._check_certificate(before, block.header)
            uncertified = None if certified else uncertified or height
            self._check_boundary(genesis, state, certified)
            with _named("readings", height, "root"):
                read, pruned = batches.check(before, block, applied)
            self._count(applied, read, pruned, certified)
        if uncertified is not None:
            reason = "neither it nor a later block is finalized; the ledger is cut short"
            raise _Failure("certificates", uncertified, "certificate", reason)
        with _named("readings", None, "height"):
            batches.finish(state)
        return state

    def _block(self, height: int) -> Block:
        row = next(self._rows("SELECT digest, payload_digest, header, payload FROM blocks WHERE height = ?", height))
        digest, of_payload, encoded, payload = row
        with _named("blocks", height, "header"):
            header = decode_header(encoded)
        if header.height != height:
            raise _Failure("blocks", height, "header", f"it is of height {header.height}")
        for field, stored, follows in (
            ("digest", digest, header.digest),
            ("payload_digest", of_payload, header.payload_digest),
            ("payload", payload_digest(payload), header.payload_digest),
        ):
            if stored != follows:
                raise _Failure("blocks", height, field, f"{stored.hex()[:16]}, {follows.hex()[:16]} follows")
        return Block(header, payload)

    def _execute(self, state: LedgerState, block: Block) -> Applied:
        height = block.header.height
        try:
            applied = self._machine.apply(state, block)
            self._machine.check_modules(applied.state.tree)
        except BlockRefused as error:
            raise _Failure("blocks", height, error.field, error.reason) from None
        except BooksBroken as error:
            raise _Failure("blocks", height, "invariants", str(error)) from None
        rows = self._rows("SELECT place, receipt FROM receipts WHERE height = ? ORDER BY place", height)
        expected = [(receipt.place, receipt.encode()) for receipt in applied.receipts]
        if list(rows) != expected:
            raise _Failure("receipts", height, "receipt", "not those that follow from the block")
        return applied

    def _check_certificate(self, before: LedgerState, header: Header) -> Certificate | None:
        certificate = self._certificate(header.height)
        if certificate is None:
            return None
        height = header.height
        if certificate.kind is not VoteKind.FINALIZE or certificate.digest != header.digest:
            raise _Failure("certificates", height, "certificate", "it does not finalize the block of this height")
        with _named("certificates", height, "certificate"):
            verify_certificate(certificate, before.epoch_configs()[0].validators, self._scheme)
        return certificate

    def _certificate(self, height: int) -> Certificate | None:
        row = next(self._rows("SELECT certificate FROM certificates WHERE height = ?", height), None)
        if row is None:
            return None
        with _named("certificates", height, "certificate"):
            return decode_certificate(row[0])

    def _check_boundary(self, genesis: Genesis, state: LedgerState, certificate: Certificate | None) -> None:
        header = state.header
        if header.height != boundary_height(header.epoch, genesis.epoch_length):
            return
        if certificate is None:
            raise _Failure("certificates", header.height, "certificate", "the last block of an epoch has none itself")
        expected = Boundary(header, certificate, committee(state.view, CURRENT).public_keys)
        row = next(self._rows("SELECT boundary FROM boundaries WHERE epoch = ?", header.epoch), None)
        with _named("boundaries", header.height, "boundary"):
            if row is None or decode_boundary(row[0]) != expected:
                raise _Failure("boundaries", header.height, "boundary", "missing, or not the one that follows")

    def _check_nodes(self, height: int, nodes: tuple[tuple[int, int, bytes], ...]) -> None:
        for level, place, expected in nodes:
            row = next(self._rows("SELECT hash FROM history_nodes WHERE level = ? AND place = ?", level, place), None)
            if row is None or row[0] != expected:
                raise _Failure("history_nodes", height, "hash", f"level {level}, place {place} is missing or another")
        self._nodes += len(nodes)

    def _count(self, applied: Applied, read: int, pruned: int, certificate: Certificate | None) -> None:
        report = self.report
        self.report = replace(
            report,
            height=applied.state.header.height,
            blocks=report.blocks + 1,
            transactions=report.transactions + len(applied.receipts) - 1,
            certificates=report.certificates + (certificate is not None),
            readings=report.readings + read,
            readings_pruned=report.readings_pruned + pruned,
        )
        if report.blocks % _PROGRESS_BLOCKS == 0 or read:
            self._progress(self.report)

    def _after(self, genesis: Genesis, state: LedgerState) -> None:
        """What belongs to the tip or to no block: state, totals of tables, devices."""
        height = state.header.height
        self._check_extent(height, genesis.epoch_length)
        self._compare_table("state", height, state.tree.items())
        with _named("state", height, "invariants"):
            check_books(state.tree)
        with _named("readings", None, "device"):
            check_devices(self._connection, state, self.report.readings_pruned > 0)

    def _compare_table(self, table: str, height: int | None, expected: Iterator[tuple[bytes, bytes]]) -> None:
        for key, value in self._rows(f"SELECT key, value FROM {table} ORDER BY key"):
            if (key, value) != next(expected, None):
                raise _Failure(table, height, "value", f"entry {key[:60]!r} is not one that follows from the blocks")
        if next(expected, None) is not None:
            raise _Failure(table, height, "key", "an entry that follows from the blocks is missing")

    def _check_extent(self, tip: int, epoch_length: int) -> None:
        """No table holds anything of blocks that are not there; nothing is there twice under other numbers."""
        base = self.report.base_height
        extents = {"certificates": ("height", base or 1), "receipts": ("height", base + 1)}
        for table, (column, least) in extents.items():
            low, high = next(self._rows(f"SELECT min({column}), max({column}) FROM {table}"))
            if low is not None and not least <= low <= high <= tip:
                raise _Failure(table, high if high > tip else low, column, f"outside {least} to {tip}")
        (nodes,) = next(self._rows("SELECT count(*) FROM history_nodes"))
        if nodes != self._nodes:
            raise _Failure("history_nodes", tip, "hash", f"{nodes} nodes where {self._nodes} follow from the blocks")
        rows = self._rows("SELECT epoch, boundary FROM boundaries ORDER BY epoch")
        for number, (epoch, boundary) in enumerate(rows):
            header = decode_boundary(boundary).header
            if epoch != number or header.height != boundary_height(number, epoch_length) or header.height > tip:
                raise _Failure("boundaries", header.height, "epoch", f"{epoch} where {number} is next")

    def _rows(self, query: str, *arguments: int) -> Iterator[tuple[Any, ...]]:
        return self._connection.execute(query, arguments)


@contextmanager
def _named(table: str, height: int | None, field: str) -> Iterator[None]:
    """Give an error of another part its place."""
    try:
        yield
    except (DecodeError, CertificateRefused, ProofRefused, GenesisError, ReadingsRefused, BooksBroken) as error:
        raise _Failure(table, height, field, str(error)) from None
    except (StoreCorrupt, StoreError) as error:
        raise _Failure(table, height, field, str(error)) from None
