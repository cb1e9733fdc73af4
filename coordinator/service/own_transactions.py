"""Transactions that a node signs itself: each gets the next free sequence number, and another where that is gone.

A transaction that can stand in no block any more (its sequence number was used by another of the same participant, or
its validity has passed) is signed again. Only what is durable here decides that, so no transaction is carried out twice
by one run of the node. A restart forgets what was under way: whoever calls again must not mind that it happens twice.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from coordinator.consensus.signing import Signer
from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.registry import participant_of
from coordinator.ledger.transaction import SignedTransaction, Transaction, sign_transaction
from coordinator.service.errors import ServiceError
from coordinator.service.final_chain import FinalChain
from coordinator.service.following import FollowedChain
from coordinator.service.host import ChainHost
from coordinator.service.outcomes import Outcome

_VALID_BLOCKS = 256
_ATTEMPTS = 16


class Transactions(ABC):
    """Those of one participant on one chain."""

    def __init__(self, chain: FinalChain, participant: str) -> None:
        self._chain = chain
        self._participant = participant

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

    @abstractmethod
    def _sign(self, kind: str, content: bytes) -> SignedTransaction:
        """With the next free sequence number."""

    @abstractmethod
    async def _hand_over(self, signed: SignedTransaction) -> None:
        """To the chain. Raises TransactionRefused, ServiceError."""

    async def _attempt(self, signed: SignedTransaction) -> Outcome | None:
        """Submit and wait; None where it is certain that no block will ever carry it."""
        chain = self._chain
        final = chain.outcomes.wait_for(signed.digest(chain.genesis.chain_id))
        try:
            await self._hand_over(signed)
            while not final.done():
                if self._is_void(signed.transaction):
                    return None
                await chain.new_block.wait()
            return final.result()
        finally:
            final.cancel()

    def _is_void(self, transaction: Transaction) -> bool:
        """Whether the last block whose outcomes were told leaves no room for a transaction that it did not have."""
        state = self._chain.told
        participant = participant_of(state.view, transaction.signer)
        used = participant is not None and participant.next_sequence > transaction.sequence
        return used or state.header.height >= transaction.valid_until_height


class OwnTransactions(Transactions):
    """On a chain that this node validates. Several may be under way; they keep the order in which they came."""

    def __init__(self, host: ChainHost, signer: Signer, participant: str, valid_blocks: int = _VALID_BLOCKS) -> None:
        super().__init__(host, participant)
        self._host = host
        self._signer = signer
        self._valid_blocks = valid_blocks

    def _sign(self, kind: str, content: bytes) -> SignedTransaction:
        host = self._host
        delivered = host.execution.delivered
        host.mempool.drop_expired(delivered)
        sequence = host.mempool.next_sequence(delivered, self._participant)
        valid_until = delivered.header.height + self._valid_blocks
        transaction = Transaction(self._participant, sequence, valid_until, kind, content)
        return sign_transaction(self._signer, host.genesis.chain_id, transaction)

    async def _hand_over(self, signed: SignedTransaction) -> None:
        self._host.submit(signed.encoded)


class ForwardedTransactions(Transactions):
    """On a chain that this node follows: its validators get them, as from anybody. One after the other."""

    def __init__(self, chain: FollowedChain, signer: Signer, participant: str) -> None:
        super().__init__(chain, participant)
        self._followed = chain
        self._signer = signer
        self._turn = asyncio.Lock()

    async def submit(
        self, kind: str, content: bytes, before_again: Callable[[], Awaitable[None]] | None = None
    ) -> Outcome:
        """As the others; `before_again` also after those before it, which may have made it needless."""
        async with self._turn:
            if before_again is not None:
                await before_again()
            return await super().submit(kind, content, before_again)

    def _sign(self, kind: str, content: bytes) -> SignedTransaction:
        state = self._followed.told
        participant = participant_of(state.view, self._participant)
        if participant is None:
            raise TransactionRefused(f"{self._participant} is no participant of {self._followed.genesis.name}")
        valid_until = state.header.height + _VALID_BLOCKS
        transaction = Transaction(self._participant, participant.next_sequence, valid_until, kind, content)
        return sign_transaction(self._signer, self._followed.genesis.chain_id, transaction)

    async def _hand_over(self, signed: SignedTransaction) -> None:
        await self._followed.submit(signed.encoded)
