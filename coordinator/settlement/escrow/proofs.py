"""What counts as an input: an event of a finalized block of another chain, proved to the chain that takes it in.

Verify order: validator set of the epoch known, finality certificate, history inclusion, receipts inclusion; trailing
data refused. The verifier is a port so that the protocol is independent of how blocks look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProvenEvent:
    """An event of a finalized block. Only a `Verifier` makes one.

    `height` is that of the block which holds the event, `epoch` that of the certificate which proves it: a block that
    is final only transitively, or older than the epochs the verifier knows, is proved by a descendant's certificate.
    """

    chain_id: bytes
    epoch: int
    height: int
    event: bytes


@dataclass(frozen=True, slots=True)
class ProvenFork:
    """Two finality certificates of one chain that cannot both be honest. Only a `Verifier` makes one."""

    chain_id: bytes
    height: int


class Verifier(Protocol):
    """Checks proofs against light clients whose state is part of the verifying chain's own state (P4)."""

    def event(self, proof: bytes) -> ProvenEvent:
        """The event that this proves, or an error that names what does not fit."""

    def fork(self, proof: bytes) -> ProvenFork:
        """The fork that this proves, or an error that names what does not fit."""
