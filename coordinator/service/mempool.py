"""Transactions that wait for a block: bounded in number, bytes and by signer, admitted if they could stand in one."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.consensus.signing import Scheme
from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.records import Participant
from coordinator.ledger.registry import participant_of
from coordinator.ledger.state import LedgerState
from coordinator.ledger.transaction import SignedTransaction

TRANSACTIONS_MAX = 20_000
BYTES_MAX = 64 * 2**20
SIGNER_MAX = 4_096


class Mempool:
    """By signer and sequence number; what is in a block that is not final yet is kept, but not offered again.

    What is held (its batch of readings is not here, or does not follow from what is final) is not offered at all.
    """

    def __init__(self, chain_id: bytes, scheme: Scheme) -> None:
        self._chain_id = chain_id
        self._scheme = scheme
        self._by_signer: dict[str, dict[int, tuple[bytes, SignedTransaction]]] = {}
        self._digests: dict[bytes, tuple[str, int]] = {}
        self._in_blocks: dict[bytes, int] = {}
        self._held: set[bytes] = set()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def is_waiting(self, state: LedgerState) -> bool:
        """Whether there is work that no block carries yet and that the next one could: nothing behind a gap."""
        held = sum(digest not in self._in_blocks for digest in self._held)
        if len(self._digests) <= len(self._in_blocks) + held:
            return False
        return any(self._has_work(state, signer) for signer in self._by_signer)

    def _has_work(self, state: LedgerState, signer: str) -> bool:
        participant, waiting = participant_of(state.view, signer), self._by_signer[signer]
        sequence = -1 if participant is None else participant.next_sequence
        while sequence in waiting:
            digest = waiting[sequence][0]
            if digest in self._held:
                return False
            if digest not in self._in_blocks:
                return True
            sequence += 1
        return False

    def add(self, state: LedgerState, signed: SignedTransaction) -> bool:
        """Admit; False where it is there already. Raises TransactionRefused."""
        digest, transaction = signed.digest(self._chain_id), signed.transaction
        if digest in self._digests:
            return False
        participant = participant_of(state.view, transaction.signer)
        if participant is None:
            raise TransactionRefused(f"signer {transaction.signer!r} is not registered")
        self._check(state, signed, participant)
        if not signed.envelope.is_signed_by(participant.public_key, self._chain_id, self._scheme):
            raise TransactionRefused(f"the signature is not of {transaction.signer}'s key for this chain")
        self._by_signer.setdefault(transaction.signer, {})[transaction.sequence] = (digest, signed)
        self._digests[digest] = (transaction.signer, transaction.sequence)
        self._bytes += len(signed.encoded)
        return True

    def _check(self, state: LedgerState, signed: SignedTransaction, participant: Participant) -> None:
        transaction = signed.transaction
        waiting = self._by_signer.get(transaction.signer, {})
        if participant.frozen:
            raise TransactionRefused(f"signer {transaction.signer} is frozen")
        first = participant.next_sequence
        if not first <= transaction.sequence < first + SIGNER_MAX:
            raise TransactionRefused(f"sequence {transaction.sequence}; the next of {transaction.signer} is {first}")
        if transaction.sequence in waiting:
            raise TransactionRefused(f"another transaction of {transaction.signer} has this sequence number")
        if transaction.valid_until_height <= state.header.height:
            raise TransactionRefused(f"valid until height {transaction.valid_until_height}, which is final already")
        if len(self) >= TRANSACTIONS_MAX or self._bytes + len(signed.encoded) > BYTES_MAX:
            raise TransactionRefused("this node's queue is full; try again later")

    def next_sequence(self, state: LedgerState, signer: str) -> int:
        """The first sequence number of a signer that no transaction has, here or in a final block."""
        participant, waiting = participant_of(state.view, signer), self._by_signer.get(signer, {})
        sequence = 0 if participant is None else participant.next_sequence
        while sequence in waiting:
            sequence += 1
        return sequence

    def candidates(self, state: LedgerState, limit: int) -> list[SignedTransaction]:
        """Transactions for a block on this state, each signer's in sequence, signers in turn."""
        runs: list[Iterable[SignedTransaction]] = []
        share = max(1, limit // max(1, len(self._by_signer)))
        found: list[SignedTransaction] = []
        for signer in self._by_signer:
            run = self._run(state, signer, limit)
            found += run[:share]
            runs.append(run[share:])
        for rest in runs:
            found += rest
        return found[:limit]

    def _run(self, state: LedgerState, signer: str, limit: int) -> list[SignedTransaction]:
        participant, waiting = participant_of(state.view, signer), self._by_signer[signer]
        run: list[SignedTransaction] = []
        while participant is not None and len(run) < limit:
            digest, signed = waiting.get(participant.next_sequence + len(run), (b"", None))
            if signed is None or digest in self._held:
                break
            run.append(signed)
        return run

    def hold(self, digest: bytes) -> None:
        """Offer this one no more until it is released."""
        if digest in self._digests:
            self._held.add(digest)

    def release(self, digests: Iterable[bytes]) -> None:
        """Offer these again."""
        self._held.difference_update(digests)

    def in_block(self, digests: Iterable[bytes], height: int) -> None:
        """These stand in a block that may become final."""
        self._in_blocks.update((digest, height) for digest in digests if digest in self._digests)

    def finalized(self, state: LedgerState, digests: Iterable[bytes]) -> None:
        """Drop what is final, and what can stand in no block any more; what other blocks carried waits again."""
        height = state.header.height
        signers = dict.fromkeys(self._digests[digest][0] for digest in digests if digest in self._digests)
        for signer in signers:
            participant, waiting = participant_of(state.view, signer), self._by_signer[signer]
            assert participant is not None, "participants are never removed"
            for sequence in [sequence for sequence in waiting if sequence < participant.next_sequence]:
                self._drop(signer, sequence)
        self._in_blocks = {digest: at for digest, at in self._in_blocks.items() if at > height}

    def drop_expired(self, state: LedgerState) -> None:
        """Drop what is no longer valid."""
        height = state.header.height
        late = [
            (signer, sequence)
            for signer, waiting in self._by_signer.items()
            for sequence, (_, signed) in waiting.items()
            if signed.transaction.valid_until_height <= height
        ]
        for signer, sequence in late:
            self._drop(signer, sequence)

    def _drop(self, signer: str, sequence: int) -> None:
        digest, signed = self._by_signer[signer].pop(sequence)
        del self._digests[digest]
        self._in_blocks.pop(digest, None)
        self._held.discard(digest)
        self._bytes -= len(signed.encoded)
        if not self._by_signer[signer]:
            del self._by_signer[signer]

    def encoded(self) -> list[bytes]:
        """Everything that waits, in order, for a peer that has just connected."""
        runs = self._by_signer.values()
        return [run[sequence][1].encoded for run in runs for sequence in sorted(run)]
