"""Durable before sent: what steps want durable goes to the disk together, and what rests on it leaves after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from coordinator.consensus.effects import Broadcast, Deliver, Persist, Send, SendPayload
from coordinator.consensus.journal import Record
from coordinator.ledger.store import Finalized
from coordinator.service.metrics import ChainMetrics
from coordinator.service.writer import Batch, Writer


class Commits:
    """Collects a batch while the one before it is at the disk. `post(peer, data)` sends."""

    def __init__(
        self,
        writer: Writer,
        metrics: ChainMetrics,
        post: Callable[[bytes, bytes], None],
        finalized: Callable[[Sequence[Finalized]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._writer = writer
        self._metrics = metrics
        self._post = post
        self._finalized = finalized
        self._spawn = spawn
        self._batch = Batch()
        self._held: list[Finalized] = []
        self._is_committing = False
        self.is_expecting = False
        """Whether final blocks are still to be delivered here that consensus has delivered: no checkpoint before."""
        self._checkpoint: Callable[[], tuple[Record, ...]] = tuple

    def start(self, checkpoint: Callable[[], tuple[Record, ...]]) -> None:
        """`checkpoint` gives a short journal that takes the old one's place, now and then."""
        self._checkpoint = checkpoint

    def persist(self, effect: Persist) -> None:
        """A journal record."""
        self._batch.check.before(effect)
        self._batch.records.append(effect.record)

    def store(self, digest: bytes, payload: bytes) -> None:
        """A payload."""
        self._batch.payloads[digest] = payload

    def payload(self, digest: bytes) -> bytes | None:
        """One that has not gone to the disk yet: while a write is under way, the newest wait here."""
        return self._batch.payloads.get(digest)

    def drop(self, digests: Sequence[bytes]) -> None:
        """Payloads of blocks that have not become final. One that is stored again after this is kept."""
        for digest in digests:
            self._batch.payloads.pop(digest, None)
        self._batch.drop_payloads += tuple(digests)

    def deliver(self, effect: Deliver, entry: Finalized) -> None:
        """A final block.

        One that only a descendant's certificate finalizes is held until that one is delivered: the ledger takes them
        together. Until then a restart delivers it again; its payload is durable already.
        """
        self._held.append(entry)
        if effect.certificate is not None:
            self._batch.check.before(effect)
            self._batch.finalized += self._held
            self._held = []
            self._batch.final_round = (effect.certificate.epoch, effect.certificate.view)

    def send(self, effect: Broadcast | Send | SendPayload, recipients: Sequence[bytes], data: bytes) -> None:
        """A message that leaves once everything before it is durable."""
        batch = self._batch

        def release() -> None:
            batch.check.before(effect)
            for peer in recipients:
                self._post(peer, data)

        batch.releases.append(release)

    def flush(self) -> None:
        """Hand what is collected to the disk, if it is free; without writes it leaves at once."""
        batch = self._batch
        if self._is_committing or not (batch.has_writes or batch.releases):
            return
        self._batch = Batch()
        if not batch.has_writes:
            self._release(batch)
            return
        if self._writer.is_journal_long and not self._held and not self.is_expecting:
            batch.checkpoint = self._checkpoint()
        self._is_committing = True
        self._spawn(self._commit(batch))

    async def _commit(self, batch: Batch) -> None:
        seconds = await asyncio.wrap_future(self._writer.write(batch))
        self._metrics.synced(seconds)
        batch.check.synced()
        self._is_committing = False
        self._release(batch)
        self.flush()

    def _release(self, batch: Batch) -> None:
        for release in batch.releases:
            release()
        batch.check.end_of_step()
        if batch.finalized:
            self._finalized(batch.finalized)
