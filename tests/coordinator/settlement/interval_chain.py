"""A chain in memory that takes part in intervals, and proofs of what its validators stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.ledger.history import prove_leaf
from coordinator.ledger.proofs import EventProof
from coordinator.ledger.store import Finalized
from coordinator.settlement.interval.hub import INTERVAL_EVENT
from tests.coordinator.ledger.support import MILLION
from tests.coordinator.settlement.test_escrow_ledger import EscrowChain

Request = tuple[str, bytes]
COLLATERAL = 10**6 * MILLION
CREDIT = 10**8 * MILLION


@dataclass
class IntervalChain(EscrowChain):
    """With credit for all who trade."""

    def content(self) -> dict[str, object]:
        owners = ("alice", "bob")
        accounts = [{"owner": name, "asset": "EUR", "balance": 0, "credit_limit": CREDIT} for name in owners]
        return {**super().content(), "accounts": accounts}

    def grow(self, requests: Sequence[tuple[str, Request]]) -> Finalized:
        """The next block, with what each signer asks for."""
        ahead: dict[str, int] = {}
        signed = []
        for signer, (kind, content) in requests:
            signed.append(self.transaction(signer, kind, content, ahead=ahead.get(signer, 0)))
            ahead[signer] = ahead.get(signer, 0) + 1
        self.blocks.append(self.make(*signed))
        return self.blocks[-1]


def event_proof(chain: IntervalChain, payload: bytes | None, kind: str = INTERVAL_EVENT) -> bytes:
    """The proof of a region's statement, or of the last event of another kind."""
    for finalized in reversed(chain.blocks):
        leaves = [receipt.encode() for receipt in finalized.applied.receipts]
        for place, receipt in enumerate(finalized.applied.receipts):
            for number, event in enumerate(receipt.events):
                if event.kind == kind and payload in (None, event.payload):
                    assert finalized.certificate is not None
                    header, path = finalized.block.header, prove_leaf(leaves, place)
                    return EventProof(
                        finalized.certificate, header, (), header, leaves[place], path, len(leaves), number
                    ).encode()
    raise AssertionError("no such event")
