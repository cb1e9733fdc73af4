"""Batches of readings from gateways: taken in part by part, checked, kept, and committed by this node.

The node answers for what it has checked: it signs the commitment with its validator's key, as the participant
`<organization>-validator`. One batch at a time from a caller, and a bound on what all of them send at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable

from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.handlers import READINGS
from coordinator.ledger.readings import BATCH_MAX
from coordinator.service.batch_exchange import Wanted
from coordinator.service.batches import KEPT_BYTES_MAX, Batches
from coordinator.service.errors import Busy
from coordinator.service.outcomes import Outcome
from coordinator.service.own_transactions import OwnTransactions
from protos.gridaccord.v1 import service_pb2 as pb

_COMING_BYTES_MAX = 2 * BATCH_MAX
_PART_S = 10.0


class BatchIntake:
    """Of one chain."""

    def __init__(self, batches: Batches, own: OwnTransactions) -> None:
        self._batches = batches
        self._own = own
        self._coming: dict[str, int] = {}
        self._under_way: dict[bytes, tuple[Wanted, asyncio.Task[Outcome]]] = {}
        """By the hash of the bytes that came."""
        self._one = asyncio.Lock()

    async def submit(self, caller: str, first: pb.ReadingsPart, rest: AsyncIterable[pb.ReadingsPart]) -> Outcome:
        """What became of the transaction that commits to the batch.

        Raises DecodeError, ReadingsRefused, TransactionRefused, Busy, ServiceError.
        """
        self._admit(caller, first.size)
        try:
            encoded = await _collect(first, rest)
            given = hashlib.sha256(encoded).digest()
            async with self._one:
                if given not in self._under_way:
                    roots = [wanted.root for wanted, _ in self._under_way.values()]
                    wanted = await self._batches.accept(encoded, roots)
                    self._begin(given, wanted)
                _, committing = self._under_way[given]
        finally:
            del self._coming[caller]
        # A caller that goes away does not end what is under way: when it comes again it waits for the same outcome.
        return await asyncio.shield(committing)

    def _begin(self, given: bytes, wanted: Wanted) -> None:
        committing = asyncio.get_running_loop().create_task(self._commit(wanted))
        self._under_way[given] = wanted, committing

        def done(task: asyncio.Task[Outcome]) -> None:
            del self._under_way[given]
            if not task.cancelled():
                task.exception()  # Whoever still waits gets it; that nobody does is no fault.

        committing.add_done_callback(done)

    def _admit(self, caller: str, size: int) -> None:
        """Reserve room for a batch. Raises ReadingsRefused, Busy."""
        if not 0 < size <= BATCH_MAX:
            raise ReadingsRefused(f"a batch of {size} bytes; 1 to {BATCH_MAX}, say the length in the first part")
        if caller in self._coming:
            raise Busy(f"{caller} is sending a batch already; one after another")
        waiting = self._batches.kept_bytes
        if sum(self._coming.values()) + size > _COMING_BYTES_MAX or waiting + size > KEPT_BYTES_MAX:
            raise Busy(f"{waiting} bytes of readings wait for a block; try again later")
        self._coming[caller] = size

    async def _commit(self, wanted: Wanted) -> Outcome:
        async def still_holds() -> None:
            await self._batches.check_again(wanted)

        return await self._own.submit(READINGS, wanted.commitment.SerializeToString(), still_holds)


async def _collect(first: pb.ReadingsPart, rest: AsyncIterable[pb.ReadingsPart]) -> bytes:
    parts, size = [first.data], len(first.data)
    following = aiter(rest)
    while size < first.size:
        try:
            async with asyncio.timeout(_PART_S):
                part = await anext(following)
        except TimeoutError:
            raise ReadingsRefused(f"no further part within {_PART_S:.0f} s") from None
        except StopAsyncIteration:
            raise ReadingsRefused(f"the parts end after {size} of {first.size} bytes") from None
        if not part.data:
            raise ReadingsRefused("a part without data")
        parts.append(part.data)
        size += len(part.data)
    if size > first.size:
        raise ReadingsRefused(f"the parts are longer than the {first.size} bytes that the first one says")
    return b"".join(parts)
