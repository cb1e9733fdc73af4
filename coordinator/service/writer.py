"""The disk of one chain, in a thread of its own: the event loop never waits for it.

A `Batch` is what several steps of the core want durable, and what may leave once it is. The journal, payloads and
finalized blocks of a batch are one SQLite commit; the sign guard beside it is synchronised at the same time in a second
thread, because two synchronisations at once cost hardly more than one. Nothing of a batch leaves before both.

A crash between the two is harmless. What only the journal has is not released, and is checked against the guard when it
is sent after the restart. What only the guard has was not released either; `recover` gives it back to the core as a
vote of its own, so that it never votes against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.host import DurabilityCheck
from coordinator.consensus.journal import (
    CertifiedRecord,
    Record,
    VoteRecord,
    decode_record,
    encode_record,
)
from coordinator.consensus.signing import Signer
from coordinator.ledger.genesis import Genesis
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
    """What a node finds when it starts. `is_new`: there was no ledger. `must_rejoin`: votes may be forgotten."""

    records: tuple[Record, ...]
    certificate: Certificate | None
    payloads: dict[bytes, bytes]
    is_new: bool
    must_rejoin: bool
    message: str


class Writer:
    """Owns the ledger file, the guard and the index. All but `close` and `submit` run in its thread."""

    def __init__(self, folder: Path, genesis: Genesis, machine: Machine, signer: Signer) -> None:
        self.folder = folder
        self._genesis = genesis
        self._machine = machine
        self._signer = signer
        self._disk = ThreadPoolExecutor(1, f"disk-{genesis.name}")
        self._guarding = ThreadPoolExecutor(1, f"guard-{genesis.name}")

    def submit(self, call: Callable[..., _T], *arguments: object) -> Future[_T]:
        """Run something in the disk's thread."""
        return self._disk.submit(call, *arguments)

    store: Store
    guard: SignGuard
    index: TransactionIndex

    def open(self) -> Recovered:
        """Open or create everything. Raises StoreError."""
        ledger, guard = self.folder / "ledger.sqlite", self.folder / "sign.guard"
        is_new, never_signed = not ledger.exists(), not guard.exists()
        if is_new:
            Store.create(ledger, self._genesis, self._machine).close()
            if never_signed:
                SignGuard.create(guard, self._genesis.chain_id, self._signer).close()
        self.store = Store.open(ledger)
        assert self.store.genesis.chain_id == self._genesis.chain_id, "the ledger is of another genesis"
        self.guard = SignGuard(guard, self._genesis.chain_id, self._signer)
        self.index = TransactionIndex(self.folder / "index.sqlite")
        self.index.catch_up(self.store)
        return self._recover(is_new and not never_signed, is_new)

    def _recover(self, ledger_lost: bool, is_new: bool) -> Recovered:
        store = self.store
        records = tuple(decode_record(data) for data in store.journal())
        certificate = store.certificate(store.state.header.height)
        tip = (0, 0) if certificate is None else (certificate.epoch, certificate.view)
        guarded = tuple(VoteRecord(v.kind, v.epoch, v.view, v.parent_view, v.digest) for v in self.guard.votes())
        known = [record for record in records if isinstance(record, VoteRecord)]
        self.guard.remember([_guarded(vote) for vote in known if (vote.epoch, vote.view) > max(tip, self.guard.floor)])
        forgotten = tuple(vote for vote in guarded if vote not in known and (vote.epoch, vote.view) > tip)
        headers = [record.header for record in records if isinstance(record, CertifiedRecord)]
        payloads = {header.payload_digest: store.payload(header.payload_digest) for header in headers}
        return Recovered(
            records + forgotten,
            certificate,
            {digest: payload for digest, payload in payloads.items() if payload is not None},
            is_new and not ledger_lost,
            ledger_lost or self.guard.floor > tip,
            f"{store.recovery.message}; {len(forgotten)} votes from the sign guard",
        )

    def write(self, batch: Batch) -> float:
        """Make a batch durable; how long that took, in seconds. Raises StoreError, SigningRefused."""
        started = time.perf_counter()
        votes = [_guarded(record) for record in batch.records if isinstance(record, VoteRecord)]
        guarded = self._guarding.submit(self._guard, votes, batch.final_round)
        journal = [encode_record(record) for record in (*batch.records, *batch.checkpoint)]
        self.store.commit(batch.finalized, journal, batch.payloads, batch.drop_payloads)
        if batch.checkpoint:
            self.store.trim_journal(len(batch.checkpoint))
        guarded.result()
        seconds = time.perf_counter() - started
        for entry in batch.finalized:
            self.index.add(entry.block.header.height, entry.applied.receipts)
        return seconds

    def _guard(self, votes: Sequence[Vote], final_round: tuple[int, int] | None) -> None:
        if votes:
            self.guard.remember(votes)
        if final_round is not None:
            self.guard.raise_floor(*final_round)

    def close(self) -> None:
        """Finish what is under way and release the files."""
        self._disk.submit(self._close).result()
        self._guarding.shutdown()
        self._disk.shutdown()

    def _close(self) -> None:
        for part in ("store", "guard", "index"):
            opened = getattr(self, part, None)
            if opened is not None:
                opened.close()


def _guarded(record: VoteRecord) -> Vote:
    return Vote(record.kind, record.epoch, record.view, record.parent_view, record.digest)
