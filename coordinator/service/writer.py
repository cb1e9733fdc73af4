"""The disk of one chain, in threads of its own: the event loop never waits for it.

A `Batch` is what several steps of the core want durable, and what may leave once it is. Votes go to the sign guard, and
with all other records and payloads into the journal: one synchronisation stands on the way of a message. Final blocks
go into the ledger first, in a second thread that also answers whoever reads it; nothing of their batch leaves before
both files are durable.

A crash between the files is harmless. What only the guard has was not released; `recover` gives it back to the core as
a vote of its own, so that it never votes against it. Where the ledger has a block and the journal not what came with
it, that is about views below a final one, or was not released.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.host import DurabilityCheck
from coordinator.consensus.journal import (
    CertifiedRecord,
    FloorRecord,
    Record,
    VoteRecord,
    decode_record,
    encode_record,
)
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.journal_file import JournalFile
from coordinator.ledger.sign_guard import SignGuard, Vote
from coordinator.ledger.state import Machine
from coordinator.ledger.store import Finalized, Store
from coordinator.service.transaction_index import TransactionIndex

_T = TypeVar("_T")


@dataclass(slots=True)
class Batch:
    """What one commit makes durable. `releases` are called in order once it is."""

    check: DurabilityCheck = field(default_factory=DurabilityCheck)
    records: list[Record] = field(default_factory=list)
    payloads: dict[bytes, bytes] = field(default_factory=dict)
    finalized: list[Finalized] = field(default_factory=list)
    checkpoint: tuple[Record, ...] = ()
    final_round: tuple[int, int] | None = None
    drop_payloads: tuple[bytes, ...] = ()
    releases: list[Callable[[], None]] = field(default_factory=list)

    @property
    def has_writes(self) -> bool:
        """Whether anything has to be made durable."""
        return bool(self.records or self.payloads or self.finalized or self.checkpoint or self.drop_payloads)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a node finds when it starts. `is_new`: it has never run. `must_rejoin`: votes may be forgotten."""

    records: tuple[Record, ...]
    certificate: Certificate | None
    payloads: dict[bytes, bytes]
    is_new: bool
    must_rejoin: bool
    message: str


class Writer:
    """Owns the ledger file, the journal, the guard and the index.

    What has to do with the ledger runs in the disk's thread, the rest in the journal's; the latter may wait for the
    former, never the other way round.
    """

    def __init__(self, folder: Path, genesis: Genesis, machine: Machine, public_key: bytes) -> None:
        self.folder = folder
        self._genesis = genesis
        self._machine = machine
        self._public_key = public_key
        self._disk = ThreadPoolExecutor(1, f"disk-{genesis.name}")
        self._journaling = ThreadPoolExecutor(1, f"journal-{genesis.name}")

    store: Store
    guard: SignGuard
    journal: JournalFile
    index: TransactionIndex

    def submit(self, call: Callable[..., _T], *arguments: object) -> Future[_T]:
        """Run something in the disk's thread."""
        return self._disk.submit(call, *arguments)

    def open(self, force_rejoin: bool) -> Future[Recovered]:
        """Open or create everything. Raises StoreError."""
        return self._journaling.submit(self._open, force_rejoin)

    def write(self, batch: Batch) -> Future[float]:
        """Make a batch durable; how long that took, in seconds. Raises StoreError, SigningRefused."""
        return self._journaling.submit(self._write, batch)

    def payload(self, digest: bytes) -> Future[bytes | None]:
        """A payload that was stored, of a final block or of another one."""
        return self._journaling.submit(self._payload, digest)

    @property
    def is_journal_long(self) -> bool:
        """Whether a checkpoint should take the journal's place."""
        return self.journal.is_long

    def close(self) -> None:
        """Finish what is under way and release the files."""
        self._journaling.submit(self._close).result()
        self._journaling.shutdown()
        self._disk.shutdown()

    # In the journal's thread.

    def _open(self, force_rejoin: bool) -> Recovered:
        ledger, journal, guard = (self.folder / name for name in ("ledger.sqlite", "consensus.journal", "sign.guard"))
        is_new = not (ledger.exists() or journal.exists() or guard.exists())
        is_incomplete = not (ledger.exists() and journal.exists())
        owner = self._genesis.chain_id, self._public_key
        if not (ledger.exists() or guard.exists()):
            SignGuard.create(guard, *owner).close()
        self.guard = SignGuard(guard, *owner)
        had_journal = journal.exists()
        self.journal = (JournalFile if had_journal else JournalFile.create)(journal, *owner)
        self.submit(self._open_ledger, ledger).result()
        finding = self.journal.found.message if had_journal else "there was no journal"
        return self._recover(is_new, force_rejoin or (is_incomplete and not is_new), finding)

    def _recover(self, is_new: bool, must_rejoin: bool, finding: str) -> Recovered:
        tip = self.submit(self.store.certificate, self.store.state.header.height).result()
        final = (0, 0) if tip is None else (tip.epoch, tip.view)
        must_rejoin = must_rejoin or self.guard.floor > final
        records = tuple(decode_record(data) for data in self.journal.found.records)
        if must_rejoin:
            # Blocks and certificates of a journal that is ahead of its ledger would rest on what is not there.
            records = tuple(record for record in records if isinstance(record, VoteRecord | FloorRecord))
        known = [record for record in records if isinstance(record, VoteRecord)]
        guarded = tuple(VoteRecord(v.kind, v.epoch, v.view, v.parent_view, v.digest) for v in self.guard.votes())
        self.guard.remember([_guarded(one) for one in known if (one.epoch, one.view) > max(final, self.guard.floor)])
        self.guard.sync()
        forgotten = tuple(one for one in guarded if one not in known and (one.epoch, one.view) > final)
        payloads = self._payloads(records)
        return Recovered(
            tuple(one for one in records if _has_payload(one, payloads)) + forgotten,
            tip,
            payloads,
            is_new,
            must_rejoin,
            f"{finding}; {len(forgotten)} votes from the sign guard",
        )

    def _payloads(self, records: Sequence[Record]) -> dict[bytes, bytes]:
        """Those of certified blocks; of all others consensus knows nothing after a restart."""
        digests = {record.header.payload_digest for record in records if isinstance(record, CertifiedRecord)}
        found = {digest: self._payload(digest) for digest in digests}
        self.journal.retain(digests)
        return {digest: payload for digest, payload in found.items() if payload is not None}

    def _payload(self, digest: bytes) -> bytes | None:
        found = self.journal.payload(digest)
        return self.submit(self.store.payload, digest).result() if found is None else found

    def _write(self, batch: Batch) -> float:
        started = time.perf_counter()
        votes = [_guarded(record) for record in batch.records if isinstance(record, VoteRecord)]
        if votes:
            self.guard.remember(votes)
        if batch.finalized:
            self.submit(self._write_ledger, batch.finalized).result()
        self.journal.drop(batch.drop_payloads)
        self.journal.append([encode_record(record) for record in batch.records], batch.payloads)
        self.journal.drop([entry.block.header.payload_digest for entry in batch.finalized])
        if batch.final_round is not None:
            self.guard.raise_floor(*batch.final_round)
        if batch.checkpoint:
            self.journal.rewrite([encode_record(record) for record in batch.checkpoint])
        return time.perf_counter() - started

    def _close(self) -> None:
        self.submit(self._close_ledger).result()
        for name in ("guard", "journal"):
            _close(self, name)

    # In the disk's thread.

    def _open_ledger(self, path: Path) -> None:
        if not path.exists():
            Store.create(path, self._genesis, self._machine).close()
        self.store = Store.open(path)
        assert self.store.genesis.chain_id == self._genesis.chain_id, "the ledger is of another genesis"
        self.index = TransactionIndex(self.folder / "index.sqlite")
        self.index.catch_up(self.store)

    def _write_ledger(self, finalized: Sequence[Finalized]) -> None:
        self.store.commit(finalized)
        self.guard.sync()
        for entry in finalized:
            self.index.add(entry.block.header.height, entry.applied.receipts)

    def _close_ledger(self) -> None:
        for name in ("store", "index"):
            _close(self, name)


def _guarded(record: VoteRecord) -> Vote:
    return Vote(record.kind, record.epoch, record.view, record.parent_view, record.digest)


def _has_payload(record: Record, payloads: Mapping[bytes, bytes]) -> bool:
    """Whether what the record says is so: a block that is certified has its payload."""
    return not (isinstance(record, CertifiedRecord) and record.ok) or record.header.payload_digest in payloads


def _close(writer: Writer, name: str) -> None:
    """A part, if opening came so far."""
    part = getattr(writer, name, None)
    if part is not None:
        part.close()
