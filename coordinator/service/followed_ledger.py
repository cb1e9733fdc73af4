"""The ledger of a chain that is followed: blocks of others go in once they are proved final from its genesis.

A certificate counts under the validators that the chain itself has put in office, and finalizes the ancestors of its
block; then every block is executed, so that the state here rests on nobody's word. There is no journal and no sign
guard: nothing is ever voted on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from coordinator.consensus.certificate import Certificate, verify_certificate
from coordinator.consensus.errors import CertificateRefused, SafetyViolation
from coordinator.consensus.signing import VoteKind
from coordinator.ledger.block import Block
from coordinator.ledger.errors import BlockRefused
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.state import Applied, LedgerState, Machine
from coordinator.ledger.store import Finalized, Store
from coordinator.service.errors import ConfigurationError

Claim = tuple[Block, Certificate | None]
"""A block that somebody says is final, with its finalization if it has one of its own."""
_T = TypeVar("_T")


def check_finality(machine: Machine, state: LedgerState, block: Block, certificate: Certificate) -> None:
    """Raise CertificateRefused unless the validators in office after `state` have finalized this block."""
    header = block.header
    if certificate.kind is not VoteKind.FINALIZE or certificate.digest != header.digest:
        raise CertificateRefused("it does not finalize the block that it came with")
    if certificate.epoch != header.epoch:
        raise CertificateRefused(f"it is of epoch {certificate.epoch}, the block of epoch {header.epoch}")
    verify_certificate(certificate, state.epoch_configs()[0].validators, machine.scheme)


def finalized_run(machine: Machine, state: LedgerState, run: Sequence[Claim]) -> list[Finalized]:
    """What these blocks do, each the parent of the next and the last one with a finalization.

    Raises CertificateRefused where a certificate proves nothing; SafetyViolation where what a quorum has finalized does
    not follow from genesis: then more than f validators are faulty, or this software is another one.
    """
    found: list[Finalized] = []
    waiting: list[Block] = []
    for block, certificate in run:
        waiting.append(block)
        if certificate is not None:
            check_finality(machine, state, block, certificate)
            for one in waiting:
                applied = _applied(machine, state, one)
                found.append(Finalized(one, applied, certificate if one is block else None))
                state = applied.state
            waiting = []
    assert not waiting, "the last block of a run has a finalization"
    return found


def _applied(machine: Machine, state: LedgerState, block: Block) -> Applied:
    try:
        return machine.apply(state, block)
    except BlockRefused as error:
        raise SafetyViolation(f"block {block.header.height} is final and does not follow: {error}") from None


class FollowedLedger:
    """One ledger file. Everything but `submit` and `close` runs in its thread."""

    store: Store

    def __init__(self, folder: Path, genesis: Genesis, machine: Machine) -> None:
        self._path = folder / "ledger.sqlite"
        self._genesis = genesis
        self._machine = machine
        self._thread = ThreadPoolExecutor(1, f"follow-{genesis.name}")

    def submit(self, call: Callable[..., _T], *arguments: object) -> Future[_T]:
        """Run a method in the thread."""
        return self._thread.submit(call, *arguments)

    def open(self) -> None:
        """Open, or begin at genesis. Raises StoreError, ConfigurationError."""
        if self._path.exists():
            self.store = Store.open(self._path)
        else:
            self.store = Store.create(self._path, self._genesis, self._machine)
        if self.store.genesis.chain_id != self._genesis.chain_id:
            raise ConfigurationError(f"{self._path}: the ledger is of another genesis; remove it, it is fetched anew")

    def take(self, run: Sequence[Claim]) -> list[Finalized]:
        """Verify blocks above the tip and keep them; durable on return. Raises as `finalized_run`, and StoreError."""
        found = finalized_run(self._machine, self.store.state, run)
        self.store.commit(found)
        return found

    def close(self) -> None:
        """Finish what is under way and release the file."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _close(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
