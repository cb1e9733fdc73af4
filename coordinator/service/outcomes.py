"""Who waits for a transaction to become final."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.ledger.receipt import Receipt
from coordinator.ledger.store import Finalized


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction."""

    height: int
    receipt: Receipt


class Outcomes:
    """Futures by the transaction's digest."""

    def __init__(self) -> None:
        self._waiters: dict[bytes, list[asyncio.Future[Outcome]]] = {}

    def wait_for(self, digest: bytes) -> asyncio.Future[Outcome]:
        """Done once the transaction is final and durable here."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(digest, [])
        waiting.append(future)

        def forget(done: asyncio.Future[Outcome]) -> None:
            waiting.remove(done)
            if not waiting and self._waiters.get(digest) is waiting:
                del self._waiters[digest]

        future.add_done_callback(forget)
        return future

    def tell(self, finalized: Iterable[Finalized]) -> None:
        """These blocks are final and durable."""
        for entry in finalized:
            for receipt in entry.applied.receipts:
                for future in list(self._waiters.get(receipt.transaction, ())):
                    if not future.done():
                        future.set_result(Outcome(entry.block.header.height, receipt))
