"""What takes long about batches of readings: decoding, signatures, order, the disk. All of it runs in one thread.

A root says which readings a batch has, and nothing about the signatures that come with a copy of it. So a copy whose
signatures are wrong is thrown away and fetched from somebody else; it never makes a block invalid.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.block import Block
from coordinator.ledger.block_readings import committed_batches, device_keys
from coordinator.ledger.database import open_database, snapshot
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.readings import (
    MeterBatch,
    PendingReadings,
    check_places,
    check_signature,
    check_times,
    decode_batch,
    reading_rules,
)
from coordinator.ledger.records import DEVICE
from coordinator.ledger.state import Applied, LedgerState
from coordinator.ledger.store import Store
from coordinator.ledger.transaction import SignedTransaction
from coordinator.service.batch_exchange import Wanted, commitment_of
from coordinator.service.batch_file import BatchFile

_ANOTHER = "the batch is not the one that the transaction commits to"
_PROPOSED_READINGS = 2**17
"""A leader stops here, or after one batch that is longer: the others have to check the block within the view."""
_DECODED_READINGS = 2**20
_SIGNATURES = 2**18
_PASSED = 4
_NOTHING = object()

_Below = tuple[int | None, tuple[bytes, ...]]
"""Height of the last block of the ledger with readings, and roots above it that are about the same devices."""


@dataclass(frozen=True, slots=True)
class Above:
    """Roots that stand on a chain above what may be in the ledger file."""

    height: int
    roots: tuple[bytes, ...]


class _Copy:
    """A batch that is here, with what takes long to find: its root, and after which other readings it holds."""

    def __init__(self, batch: MeterBatch) -> None:
        self.batch = batch
        self.commitment = batch.commitment
        self.devices = frozenset(signed.column.device for signed in batch.columns)
        self.holds_after: deque[_Below] = deque(maxlen=_PASSED)
        self.signed_under: object = _NOTHING
        """The devices, as a part of the state's tree, whose signatures it has."""


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
        self._decoded: OrderedDict[bytes, _Copy] = OrderedDict()

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
        if self.copy(wanted, state) is not None:
            return
        copy = _Copy(decode_batch(encoded))
        if copy.commitment != wanted.commitment:
            raise ReadingsRefused(_ANOTHER)
        self._check_signatures(copy, state)
        self._file.put(wanted.root, encoded, state.header.height)
        self._remember(copy)

    def copy(self, wanted: Wanted, state: LedgerState) -> MeterBatch | None:
        """A batch that is here and signed by the devices of this state."""
        copy = self._load(wanted.root)
        if copy is None or copy.commitment != wanted.commitment:
            return None
        try:
            self._check_signatures(copy, state)
        except ReadingsRefused:
            return None
        return copy.batch

    def drop(self, roots: Sequence[bytes]) -> None:
        """Forget these."""
        for root in roots:
            self._decoded.pop(root, None)
        self._file.drop(roots)

    def drop_before(self, height: int, in_use: Sequence[bytes]) -> Mapping[bytes, int]:
        """Forget those that came before this height and are not in use; what is left."""
        self.drop([root for root in self._file.before(height) if root not in in_use])
        return self._file.sizes()

    def _check_signatures(self, copy: _Copy, state: LedgerState) -> None:
        """Raise ReadingsRefused unless they are of the devices of this state; done once while those stay the same."""
        known = state.tree.part(DEVICE)
        if copy.signed_under is known:
            return
        key = device_keys(state)
        for signed in copy.batch.columns:
            check_signature(signed, key(signed.column.device), state.header.chain_id, self._scheme)
        copy.signed_under = known

    def _load(self, root: bytes) -> _Copy | None:
        copy = self._decoded.get(root)
        if copy is None:
            encoded = self._file.get(root)
            if encoded is None:
                return None
            copy = _Copy(decode_batch(encoded))
            self._remember(copy)
        return copy

    def _remember(self, copy: _Copy) -> None:
        self._decoded[copy.commitment.root] = copy
        while len(self._decoded) > 1 and sum(one.commitment.size for one in self._decoded.values()) > _DECODED_READINGS:
            self._decoded.popitem(last=False)

    # In their place on a chain.

    def accept(self, encoded: bytes, state: LedgerState, above: Sequence[Above], now_s: int) -> Wanted:
        """Check a batch that a client gives against what is final and what is under way, and make it durable.

        Raises DecodeError, ReadingsRefused.
        """
        copy = _Copy(decode_batch(encoded))
        with snapshot(self._connection):
            self._check(copy, self._roots(above), state, now_s)
        self._file.put(copy.commitment.root, encoded, state.header.height)
        self._remember(copy)
        return Wanted(copy.commitment)

    def check_kept(self, wanted: Wanted, state: LedgerState, above: Sequence[Above], now_s: int) -> None:
        """Raise ReadingsRefused unless a batch that is here could still stand in a block."""
        copy = self._load(wanted.root)
        if copy is None:
            raise ReadingsRefused("the batch has waited for too long and is dropped; submit it again")
        with snapshot(self._connection):
            self._check(copy, self._roots(above), state, now_s)

    def check_block(self, above: Sequence[Above], before: LedgerState, block: Block, applied: Applied) -> None:
        """Raise ReadingsRefused unless every batch of a block is here and holds after its ancestors.

        As `block_readings.check_block_readings` does, with roots that are known already.
        """
        with snapshot(self._connection):
            below = self._roots(above)
            for _, commitment in committed_batches(block, applied):
                copy = self._load(commitment.root)
                if copy is None or copy.commitment != commitment:
                    raise ReadingsRefused(_ANOTHER)
                self._check(copy, below, before, block.header.time_ms // 1000)
                below.append(commitment.root)

    def select(
        self, above: Sequence[Above], parent: LedgerState, candidates: Sequence[SignedTransaction], time_ms: int
    ) -> list[SignedTransaction]:
        """The candidates for a block on this parent without batches that do not hold in it.

        With one transaction all later ones of its signer go: they could not stand in the block either.
        """
        selected: list[SignedTransaction] = []
        left_out: set[str] = set()
        readings = 0
        with snapshot(self._connection):
            below = self._roots(above)
            for signed in candidates:
                if signed.transaction.signer in left_out:
                    continue
                if signed.transaction.kind == READINGS:
                    wanted = Wanted(commitment_of(signed.transaction))
                    fits = not readings or readings + wanted.commitment.size <= _PROPOSED_READINGS
                    if not fits or not self._holds(wanted, below, parent, time_ms // 1000):
                        left_out.add(signed.transaction.signer)
                        continue
                    readings += wanted.commitment.size
                    below.append(wanted.root)
                selected.append(signed)
        return selected

    def _holds(self, wanted: Wanted, below: Sequence[bytes], parent: LedgerState, now_s: int) -> bool:
        copy = self._load(wanted.root)
        if copy is None or copy.commitment != wanted.commitment:
            return False
        try:
            self._check(copy, below, parent, now_s)
        except ReadingsRefused:
            return False
        return True

    def _check(self, copy: _Copy, below: Sequence[bytes], state: LedgerState, now_s: int) -> None:
        """Check a batch after the ledger file and the batches below it. Raises ReadingsRefused.

        Order is about one device at a time. So a batch that held after the same readings of its devices holds again;
        only keys and times are looked at anew.
        """
        (committed,) = self._connection.execute("SELECT max(height) FROM reading_batches").fetchone()
        related = tuple(root for root in below if not copy.devices.isdisjoint(self._needed(root).devices))
        rules, place = reading_rules(state.view), (committed, related)
        self._check_signatures(copy, state)
        if place in copy.holds_after:
            for signed in copy.batch.columns:
                check_times(signed.column, rules, now_s)
            return
        pending = PendingReadings(self._store.readings)
        for root in related:
            for signed in self._needed(root).batch.columns:
                pending.add(signed.column)
        check_places(copy.batch, pending, rules, now_s)
        copy.holds_after.append(place)

    def _roots(self, above: Sequence[Above]) -> list[bytes]:
        """What stands above the last block of the ledger file, in order."""
        (tip,) = self._connection.execute("SELECT max(height) FROM blocks").fetchone()
        return [root for one in above if one.height > tip for root in one.roots]

    def _needed(self, root: bytes) -> _Copy:
        """A batch that others are checked after. Raises ReadingsRefused where it is gone: then nothing can be said."""
        copy = self._load(root)
        if copy is None:
            raise ReadingsRefused(f"batch {root.hex()} below it is not here any more")
        return copy
