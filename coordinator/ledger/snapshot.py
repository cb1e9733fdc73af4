"""Snapshots: the state at a finalized block with all that a newcomer needs to trust it from genesis alone.

A file of messages behind 32-bit lengths: a head (genesis, header, its certificate, the boundaries of all epochs
before, the peaks of the history), then the entries. Nothing in it is taken on faith: boundaries lead from the
genesis validators to those that certified the header, and the header commits to entries and history.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.errors import CertificateRefused, ConflictingFinalizations, DecodeError
from coordinator.consensus.header import Header, decode_header, payload_digest
from coordinator.consensus.signing import Scheme
from coordinator.ledger.boundary import Boundary, checked_boundary, follow
from coordinator.ledger.database import create_database, transaction, translated
from coordinator.ledger.errors import ProofRefused, StoreError
from coordinator.ledger.genesis import Genesis, decode_genesis
from coordinator.ledger.history import Frontier, peak_places
from coordinator.ledger.messages import parse, refuse_unknown
from coordinator.ledger.state import LedgerState
from coordinator.ledger.state_tree import KEY_MAX, VALUE_MAX, tree_of
from coordinator.ledger.store import Store
from protos.gridaccord.v1 import ledger_pb2 as pb

MAGIC = b"gridaccord-snapshot-1\n"
HEAD_MAX = 2**28
_ENTRY_MAX = KEY_MAX + VALUE_MAX + 32
_LENGTH_SIZE = 4


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that has been verified: the state, and why it is trusted."""

    genesis: Genesis
    state: LedgerState
    payload: bytes
    certificate: Certificate
    boundaries: tuple[Boundary, ...]
    before: Frontier


def write_snapshot(store: Store, path: Path) -> None:
    """Write the tip of a ledger to a new file, all of it or nothing. Raises StoreError at genesis."""
    header = store.state.header
    certificate = store.certificate(header.height)
    if certificate is None:
        raise StoreError("the ledger has no block above genesis; there is nothing to write a snapshot of")
    block = store.block(header.height)
    assert block is not None, "the tip is stored"
    entries = tuple(store.state.tree.items())
    head = pb.SnapshotHead(
        genesis=store.genesis.encoded,
        header=header.encode(),
        payload=block.payload,
        certificate=certificate.encode(),
        history_peaks=[store.history.node(*place) for place in peak_places(header.height)],
        boundaries=[boundary.message() for boundary in store.boundaries()],
        entries=len(entries),
    )
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(MAGIC)
        _write(stream, head.SerializeToString())
        for key, value in entries:
            _write(stream, pb.StateEntry(key=key, value=value).SerializeToString())
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def read_snapshot(path: Path, chain_id: bytes, scheme: Scheme) -> Snapshot:
    """Read and verify against a chain's id, which is the hash of its genesis. Raises DecodeError, ProofRefused."""
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise DecodeError(f"{path}: not a snapshot")
        head = parse(pb.SnapshotHead, _read(stream, HEAD_MAX), HEAD_MAX)
        for part in head.boundaries:
            refuse_unknown(part)
        genesis = decode_genesis(head.genesis)
        if genesis.chain_id != chain_id:
            raise ProofRefused(f"{path}: a snapshot of chain {genesis.chain_id.hex()[:16]}")
        tree = tree_of(_entries(stream, head.entries))
    header, certificate = decode_header(head.header), decode_certificate(head.certificate)
    boundaries = tuple(checked_boundary(part) for part in head.boundaries)
    verify_base(genesis, boundaries, header, certificate, scheme)
    if tree.root != header.state_root:
        raise ProofRefused("the entries are not those that the header commits to")
    if payload_digest(head.payload) != header.payload_digest:
        raise ProofRefused("the payload is not the one that the header commits to")
    before = _frontier(header, tuple(head.history_peaks))
    state = LedgerState(header, tree, before.append(header.digest))
    return Snapshot(genesis, state, head.payload, certificate, boundaries, before)


def restore(snapshot: Snapshot, path: Path) -> Store:
    """A new ledger that begins at the snapshot. Raises StoreError where there is a file."""
    connection = create_database(path)
    state, header = snapshot.state, snapshot.state.header
    row = (header.height, header.digest, header.payload_digest, header.encode(), snapshot.payload)
    with translated(path), transaction(connection):
        connection.execute("INSERT INTO meta VALUES ('genesis', ?)", (snapshot.genesis.encoded,))
        connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", row)
        certificate = snapshot.certificate.encode()
        connection.execute("INSERT INTO certificates VALUES (?, ?)", (header.height, certificate))
        boundaries = ((b.header.epoch, b.encode()) for b in snapshot.boundaries)
        connection.executemany("INSERT INTO boundaries VALUES (?, ?)", boundaries)
        connection.executemany("INSERT INTO history_nodes VALUES (?, ?, ?)", base_nodes(snapshot.before, header))
        for table in ("state", "base_state"):
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", state.tree.items())
    return Store(path, connection, snapshot.genesis, state)


def verify_base(
    genesis: Genesis, boundaries: tuple[Boundary, ...], header: Header, certificate: Certificate, scheme: Scheme
) -> None:
    """Raise ProofRefused unless a walk from genesis over these boundaries finds the header finalized.

    They are those of all epochs that have ended by the header, no fewer and no more: each is verified, as they are
    stored and handed on to light clients.
    """
    ended = header.height // genesis.epoch_length
    if len(boundaries) != ended:
        raise ProofRefused(f"{len(boundaries)} boundaries; {ended} epochs have ended by height {header.height}")
    client = follow(genesis, boundaries, scheme)
    try:
        client.verify(header, certificate)
    except (CertificateRefused, ConflictingFinalizations) as error:
        raise ProofRefused(f"certificate of height {header.height}: {error}") from None


def base_nodes(before: Frontier, header: Header) -> Iterator[tuple[int, int, bytes]]:
    """Nodes of the history that a ledger which begins here knows: the peaks before, and what this header completes."""
    for (level, place), peak in zip(peak_places(before.size), before.peaks, strict=True):
        yield level, place, peak
    yield from before.grown(header.digest)[1]


def _frontier(header: Header, peaks: tuple[bytes, ...]) -> Frontier:
    if len(peaks) != header.height.bit_count() or any(len(peak) != 32 for peak in peaks):
        raise DecodeError(f"snapshot: {len(peaks)} peaks for a history of {header.height} headers")
    frontier = Frontier(header.height, peaks)
    if frontier.root != header.history_root:
        raise ProofRefused("the peaks are not those of the history that the header commits to")
    return frontier


def _entries(stream: BinaryIO, count: int) -> Iterator[tuple[bytes, bytes]]:
    last = None
    for _ in range(count):
        entry = parse(pb.StateEntry, _read(stream, _ENTRY_MAX), _ENTRY_MAX)
        if (last is not None and entry.key <= last) or len(entry.key) > KEY_MAX or len(entry.value) > VALUE_MAX:
            raise DecodeError("snapshot: entries that are too long or not in the order of their keys")
        last = entry.key
        yield entry.key, entry.value
    if stream.read(1):
        raise DecodeError("snapshot: something follows the last entry")


def _write(stream: BinaryIO, message: bytes) -> None:
    stream.write(len(message).to_bytes(_LENGTH_SIZE, "big") + message)


def _read(stream: BinaryIO, size_max: int) -> bytes:
    size = int.from_bytes(stream.read(_LENGTH_SIZE), "big")
    if size > size_max:
        raise DecodeError(f"snapshot: a message of {size} bytes; at most {size_max}")
    message = stream.read(size)
    if len(message) != size:
        raise DecodeError("snapshot: it ends too early; fetch it again")
    return message
