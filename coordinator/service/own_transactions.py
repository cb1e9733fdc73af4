"""Transactions that a node signs itself: each gets the next free sequence number, and another where that is gone.

A transaction that can stand in no block any more (its sequence number was used by another of the same participant, or
its validity has passed) is signed again. Only what is durable here decides that, so no transaction is carried out twice
by one run of the node. A restart forgets what was under way: whoever calls again must not mind that it happens twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from coordinator.consensus.signing import Signer
from coordinator.ledger.registry import participant_of
from coordinator.ledger.transaction import SignedTransaction, Transaction, sign_transaction
from coordinator.service.errors import ServiceError
from coordinator.service.host import ChainHost
from coordinator.service.outcomes import Outcome

_VALID_BLOCKS = 256
_ATTEMPTS = 16


class OwnTransactions:
    """Those of one participant on one chain. Several may be under way; they keep the order in which they came."""

    def __init__(self, host: ChainHost, signer: Signer, participant: str, valid_blocks: int = _VALID_BLOCKS) -> None:
        self._host = host
        self._signer = signer
        self._participant = participant
        self._valid_blocks = valid_blocks

    async def submit(
        self, kind: str, content: bytes, before_again: Callable[[], Awaitable[None]] | None = None
    ) -> Outcome:
        """What became of it, once final and durable here. Raises TransactionRefused, ServiceError.

        `before_again` is called before it is signed again, and raises where that would be of no use.
        """
        for _ in range(_ATTEMPTS):
            outcome = await self._attempt(self._sign(kind, content))
            if outcome is not None:
                return outcome
            if before_again is not None:
                await before_again()
        raise ServiceError(
            f"{kind} of {self._participant}: {_ATTEMPTS} times another transaction took its sequence number or its"
            " validity passed; does another node sign with the same key?"
        )

    def _sign(self, kind: str, content: bytes) -> SignedTransaction:
        host = self._host
        delivered = host.execution.delivered
        host.mempool.drop_expired(delivered)
        sequence = host.mempool.next_sequence(delivered, self._participant)
        valid_until = delivered.header.height + self._valid_blocks
        transaction = Transaction(self._participant, sequence, valid_until, kind, content)
        return sign_transaction(self._signer, host.genesis.chain_id, transaction)

    async def _attempt(self, signed: SignedTransaction) -> Outcome | None:
        """Submit and wait; None where it is certain that no block will ever carry it."""
        host = self._host
        final = host.outcomes.wait_for(signed.digest(host.genesis.chain_id))
        try:
            host.submit(signed.encoded)
            while not final.done():
                if self._is_void(signed.transaction):
                    return None
                await host.new_block.wait()
            return final.result()
        finally:
            final.cancel()

    def _is_void(self, transaction: Transaction) -> bool:
        """Whether the last block whose outcomes were told leaves no room for a transaction that it did not have."""
        state = self._host.told
        participant = participant_of(state.view, transaction.signer)
        used = participant is not None and participant.next_sequence > transaction.sequence
        return used or state.header.height >= transaction.valid_until_height
