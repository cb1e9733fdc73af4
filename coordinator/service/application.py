"""What consensus asks of the application: a block to propose, and whether a proposed block is valid.

Small blocks are executed on the spot, long ones in a thread. A block that commits to readings gets its verdict once all
its batches are here and hold, and none otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coordinator.consensus.effects import Build, Certify
from coordinator.consensus.header import Header
from coordinator.consensus.inputs import Built, Certified, Input
from coordinator.ledger.block import Block
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.state import Applied, LedgerState
from coordinator.ledger.transaction import SignedTransaction
from coordinator.service.batches import Batches, committed_roots
from coordinator.service.execution import Execution, transactions_of
from coordinator.service.log import Log
from coordinator.service.mempool import Mempool

_INLINE_PAYLOAD_BYTES = 4096
_PROPOSED_MAX = 256


class Application:
    """Of one chain. `answer` gives consensus an input; `changed` is called when the queue may have changed."""

    def __init__(
        self,
        execution: Execution,
        mempool: Mempool,
        batches: Batches,
        block_transactions: int,
        answer: Callable[[Input], None],
        changed: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        log: Log,
    ) -> None:
        self._execution = execution
        self._mempool = mempool
        self._batches = batches
        self._block_transactions = block_transactions
        self._answer = answer
        self._changed = changed
        self._spawn = spawn
        self._log = log
        self._proposed: dict[bytes, float] = {}
        self._thread = ThreadPoolExecutor(1, "execute")

    def close(self) -> None:
        """Finish what is under way."""
        self._thread.shutdown()

    def began(self, digest: bytes) -> float | None:
        """When this node began to build a block, by the monotonic clock; told once."""
        return self._proposed.pop(digest, None)

    # To propose.

    def build(self, effect: Build) -> None:
        """Answer Built."""
        started = time.perf_counter()
        parent = self._execution.parent_of(effect)
        candidates = self._mempool.candidates(parent, self._block_transactions)
        if not _batches_of(candidates) and sum(len(one.encoded) for one in candidates) <= _INLINE_PAYLOAD_BYTES:
            self._built(effect, started, *self._execution.machine.build(parent, candidates, effect.time_ms))
        else:
            self._spawn(self._build_apart(effect, started, parent, candidates))

    async def _build_apart(
        self, effect: Build, started: float, parent: LedgerState, candidates: Sequence[SignedTransaction]
    ) -> None:
        if _batches_of(candidates):
            candidates = await self._batches.select(parent, candidates, effect.time_ms)
            self._changed()
        block, applied = await self._build_in_thread(parent, candidates, effect.time_ms)
        if len(committed_roots(applied.receipts)) != _batches_of(candidates):
            # One was left out of the block, and those after it were checked as if it stood there.
            without = [one for one in candidates if one.transaction.kind != READINGS]
            block, applied = await self._build_in_thread(parent, without, effect.time_ms)
        self._built(effect, started, block, applied)

    async def _build_in_thread(
        self, parent: LedgerState, candidates: Sequence[SignedTransaction], time_ms: int
    ) -> tuple[Block, Applied]:
        build = self._execution.machine.build
        return await asyncio.get_running_loop().run_in_executor(self._thread, build, parent, candidates, time_ms)

    def _built(self, effect: Build, started: float, block: Block, applied: Applied) -> None:
        self._executed(applied)
        if len(self._proposed) > _PROPOSED_MAX:
            self._proposed.clear()
        self._proposed[block.header.digest] = started
        self._answer(Built(effect.view, block.header, block.payload))

    # To judge.

    def certify(self, effect: Certify) -> None:
        """Answer Certified."""
        header = effect.header
        known = self._execution.known(header.digest)
        candidate = self._execution.candidate(header)
        if known is not None:
            self._answer(Certified(header.digest, True))
        elif candidate is not None and len(candidate[1].payload) <= _INLINE_PAYLOAD_BYTES:
            self._applied(*candidate, self._execution.apply(*candidate))
        elif candidate is not None:
            self._spawn(self._certify_apart(*candidate))

    async def _certify_apart(self, parent: LedgerState, block: Block) -> None:
        loop = asyncio.get_running_loop()
        self._applied(parent, block, await loop.run_in_executor(self._thread, self._execution.apply, parent, block))

    def _applied(self, parent: LedgerState, block: Block, applied: Applied | None) -> None:
        if applied is not None and committed_roots(applied.receipts):
            self._spawn(self._certify_readings(parent, block, applied))
        else:
            self._certified(block.header, applied)

    async def _certify_readings(self, parent: LedgerState, block: Block, applied: Applied) -> None:
        if await self._batches.hold_in(parent, block, applied):
            self._certified(block.header, applied)

    def _certified(self, header: Header, applied: Applied | None) -> None:
        if applied is not None:
            self._executed(applied)
        else:
            self._log.warning("invalid block", height=header.height, digest=header.digest.hex())
        self._answer(Certified(header.digest, applied is not None))

    def _executed(self, applied: Applied) -> None:
        self._execution.keep(applied)
        self._batches.executed(applied)
        self._mempool.in_block(transactions_of(applied), applied.state.header.height)
        self._changed()


def _batches_of(candidates: Sequence[SignedTransaction]) -> int:
    """How many of these commit to readings."""
    return sum(one.transaction.kind == READINGS for one in candidates)
