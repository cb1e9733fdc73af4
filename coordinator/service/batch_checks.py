"""What takes long about batches of readings: decoding, signatures, order, the disk. All of it runs in one thread.

A root says which readings a batch has, and nothing about the signatures that come with a copy of it. So a copy whose
signatures are wrong is thrown away and fetched from somebody else; it never makes a block invalid.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.block import Block
from coordinator.ledger.block_readings import check_block_readings, committed_batches, device_keys
from coordinator.ledger.database import open_database, snapshot
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.readings import (
    MeterBatch,
    PendingReadings,
    check_batch,
    check_signature,
    decode_batch,
    reading_rules,
)
from coordinator.ledger.state import Applied, LedgerState
from coordinator.ledger.store import Store
from coordinator.ledger.transaction import SignedTransaction
from coordinator.service.batch_exchange import Wanted, commitment_of
from coordinator.service.batch_file import BatchFile

_PROPOSED_READINGS = 2**17
"""A leader stops here, or after one batch that is longer: the others have to check the block within the view."""
_DECODED_READINGS = 2**20
_SIGNATURES = 2**18


@dataclass(frozen=True, slots=True)
class Above:
    """Roots that stand on a chain above what may be in the ledger file."""

    height: int
    roots: tuple[bytes, ...]


class RememberedSignatures:
    """Columns are long and checked when they come and again in their block: what was valid is known by its hash."""

    def __init__(self) -> None:
        self._scheme = Ed25519Scheme()
        self._valid: dict[bytes, None] = {}

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the key signed the message."""
        claim = hashlib.sha256(public_key + hashlib.sha256(message).digest() + signature).digest()
        if claim in self._valid:
            return True
        if not self._scheme.verify(public_key, message, signature):
            return False
        self._valid[claim] = None
        if len(self._valid) > _SIGNATURES:
            del self._valid[next(iter(self._valid))]
        return True


class BatchChecks:
    """Everything here but the constructor belongs to one thread."""

    def __init__(self) -> None:
        self._scheme = RememberedSignatures()
        self._decoded: OrderedDict[bytes, MeterBatch] = OrderedDict()

    def open(self, source: Store, batches: Path) -> Mapping[bytes, int]:
        """Open the files; which batches are there, and their lengths. Raises StoreError."""
        self._connection = open_database(source.path, read_only=True)
        self._store = Store(source.path, self._connection, source.genesis, source.state)
        self._file = BatchFile(batches)
        return self._file.sizes()

    def close(self) -> None:
        """Release the files."""
        if hasattr(self, "_file"):
            self._store.close()
            self._file.close()

    # Copies.

    def keep(self, encoded: bytes, wanted: Wanted, state: LedgerState) -> None:
        """Make a copy durable that leads to the root, signed by the devices of this state.

        Raises DecodeError, ReadingsRefused.
        """
        batch = decode_batch(encoded)
        if batch.commitment != wanted.commitment:
            raise ReadingsRefused("the batch is not the one that the transaction commits to")
        self._check_signatures(batch, state)
        self._file.put(wanted.root, encoded, state.header.height)
        self._remember(wanted.root, batch)

    def copy(self, wanted: Wanted, state: LedgerState) -> MeterBatch | None:
        """A batch that is here and signed by the devices of this state."""
        batch = self._load(wanted.root)
        if batch is None:
            return None
        try:
            if batch.commitment != wanted.commitment:
                raise ReadingsRefused("the batch is not the one that the transaction commits to")
            self._check_signatures(batch, state)
        except ReadingsRefused:
            return None
        return batch

    def drop(self, roots: Sequence[bytes]) -> None:
        """Forget these."""
        for root in roots:
            self._decoded.pop(root, None)
        self._file.drop(roots)

    def drop_before(self, height: int, in_use: Sequence[bytes]) -> Mapping[bytes, int]:
        """Forget those that came before this height and are not in use; what is left."""
        self.drop([root for root in self._file.before(height) if root not in in_use])
        return self._file.sizes()

    def _check_signatures(self, batch: MeterBatch, state: LedgerState) -> None:
        key = device_keys(state)
        for signed in batch.columns:
            check_signature(signed, key(signed.column.device), state.header.chain_id, self._scheme)

    def _load(self, root: bytes) -> MeterBatch | None:
        batch = self._decoded.get(root)
        if batch is None:
            encoded = self._file.get(root)
            batch = None if encoded is None else decode_batch(encoded)
            if batch is not None:
                self._remember(root, batch)
        return batch

    def _remember(self, root: bytes, batch: MeterBatch) -> None:
        self._decoded[root] = batch
        while len(self._decoded) > 1 and sum(one.size for one in self._decoded.values()) > _DECODED_READINGS:
            self._decoded.popitem(last=False)

    # In their place on a chain.

    def accept(self, encoded: bytes, state: LedgerState, above: Sequence[Above], now_s: int) -> Wanted:
        """Check a batch that a client gives against what is final and what is under way, and make it durable.

        Raises DecodeError, ReadingsRefused.
        """
        batch = decode_batch(encoded)
        wanted = Wanted(batch.commitment)
        with snapshot(self._connection):
            self._check(batch, wanted, self._pending(above), state, now_s)
        self._file.put(wanted.root, encoded, state.header.height)
        self._remember(wanted.root, batch)
        return wanted

    def check_kept(self, wanted: Wanted, state: LedgerState, above: Sequence[Above], now_s: int) -> None:
        """Raise ReadingsRefused unless a batch that is here could still stand in a block."""
        batch = self._load(wanted.root)
        if batch is None:
            raise ReadingsRefused("the batch has waited for too long and is dropped; submit it again")
        with snapshot(self._connection):
            self._check(batch, wanted, self._pending(above), state, now_s)

    def check_block(self, above: Sequence[Above], before: LedgerState, block: Block, applied: Applied) -> None:
        """Raise ReadingsRefused unless every batch of a block is here and holds after its ancestors."""
        batches = {}
        for place, commitment in committed_batches(block, applied):
            batch = self._load(commitment.root)
            if batch is not None:
                batches[place] = batch
        with snapshot(self._connection):
            check_block_readings(before, block, applied, batches, self._pending(above), self._scheme)

    def select(
        self, above: Sequence[Above], parent: LedgerState, candidates: Sequence[SignedTransaction], time_ms: int
    ) -> list[SignedTransaction]:
        """The candidates for a block on this parent without batches that do not hold in it.

        With one transaction all later ones of its signer go: they could not stand in the block either.
        """
        selected: list[SignedTransaction] = []
        left_out: set[str] = set()
        roots: list[bytes] = []
        readings = 0
        with snapshot(self._connection):
            pending = self._pending(above)
            for signed in candidates:
                if signed.transaction.signer in left_out:
                    continue
                if signed.transaction.kind == READINGS:
                    wanted = Wanted(commitment_of(signed.transaction))
                    fits = not readings or readings + wanted.commitment.size <= _PROPOSED_READINGS
                    if not fits or not self._holds(wanted, pending, parent, time_ms // 1000):
                        left_out.add(signed.transaction.signer)
                        pending = self._pending((*above, Above(parent.header.height + 1, tuple(roots))))
                        continue
                    readings += wanted.commitment.size
                    roots.append(wanted.root)
                selected.append(signed)
        return selected

    def _holds(self, wanted: Wanted, pending: PendingReadings, parent: LedgerState, now_s: int) -> bool:
        batch = self._load(wanted.root)
        if batch is None:
            return False
        try:
            self._check(batch, wanted, pending, parent, now_s)
        except ReadingsRefused:
            return False
        return True

    def _check(
        self, batch: MeterBatch, wanted: Wanted, pending: PendingReadings, state: LedgerState, now_s: int
    ) -> None:
        check_batch(
            batch,
            wanted.commitment,
            pending,
            device_keys(state),
            rules=reading_rules(state.view),
            now_s=now_s,
            chain_id=state.header.chain_id,
            scheme=self._scheme,
        )

    def _pending(self, above: Sequence[Above]) -> PendingReadings:
        """What the ledger file has and, over it, what stands above its last block, in order."""
        (tip,) = self._connection.execute("SELECT max(height) FROM blocks").fetchone()
        pending = PendingReadings(self._store.readings)
        for one in above:
            for root in one.roots if one.height > tip else ():
                batch = self._load(root)
                assert batch is not None, f"batch {root.hex()} of height {one.height} was here and is gone"
                for signed in batch.columns:
                    pending.add(signed.column)
        return pending
