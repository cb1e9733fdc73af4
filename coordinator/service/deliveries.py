"""Final blocks on their way to the disk, in order: one that commits to readings waits until its batches are here.

A ledger never has a block without its readings, as long as anybody has them. While a block waits, those after it do;
a restart delivers them again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from coordinator.consensus.effects import Deliver
from coordinator.ledger.block import Block
from coordinator.ledger.state import Applied, LedgerState
from coordinator.ledger.store import Finalized
from coordinator.service.batches import Batches, committed_roots
from coordinator.service.commits import Commits

_WAITING_MAX = 256


@dataclass(frozen=True, slots=True)
class _Delivery:
    effect: Deliver
    before: LedgerState
    block: Block
    applied: Applied


class Deliveries:
    """Of one chain."""

    def __init__(self, commits: Commits, batches: Batches, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._commits = commits
        self._batches = batches
        self._spawn = spawn
        self._waiting: deque[_Delivery] = deque()

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more is to be delivered for now."""
        return len(self._waiting) >= _WAITING_MAX

    def add(self, effect: Deliver, before: LedgerState, block: Block, applied: Applied) -> None:
        """The next final block. One without readings goes to the disk at once if no other waits."""
        self._batches.coming(block.header, applied.receipts)
        if not self._waiting and not committed_roots(applied.receipts):
            self._commits.deliver(effect, Finalized(block, applied, effect.certificate))
            return
        self._waiting.append(_Delivery(effect, before, block, applied))
        self._commits.is_expecting = True
        if len(self._waiting) == 1:
            self._spawn(self._work_off())

    async def _work_off(self) -> None:
        while self._waiting:
            one = self._waiting[0]
            batches = await self._batches.of_final(one.before, one.block, one.applied)
            self._commits.deliver(one.effect, Finalized(one.block, one.applied, one.effect.certificate, batches))
            self._waiting.popleft()
            self._commits.is_expecting = bool(self._waiting)
            self._commits.flush()
