"""The batches of readings of one chain: which are here, which blocks need them, and getting those that are missing.

A batch is spread by its transaction: a validator that takes one into its queue fetches the batch from the node that
signed it, and offers the transaction to a block only with the batch here. A block that commits to batches is voted for
only when all of them are here, durable, and hold after the block's ancestors. Until then there is no verdict: nothing
here ever calls a block invalid, for what is missing or wrong may be this node's copy. A view whose block gets no
verdict times out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header
from coordinator.ledger.block import Block
from coordinator.ledger.block_readings import committed_batches
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.handlers import READINGS, READINGS_COMMITTED
from coordinator.ledger.readings import BATCH_READINGS_MAX, MeterBatch, reading_rules
from coordinator.ledger.receipt import Receipt
from coordinator.ledger.registry import CURRENT, committee, participant_of
from coordinator.ledger.state import Applied, LedgerState
from coordinator.ledger.store import Finalized, Store
from coordinator.ledger.transaction import SignedTransaction
from coordinator.service.batch_checks import Above, BatchChecks
from coordinator.service.batch_exchange import Fetches, NotHere, PostFrame, Wanted, commitment_of
from coordinator.service.batch_serving import Serving
from coordinator.service.log import Log
from coordinator.service.mempool import Mempool
from protos.gridaccord.v1 import service_pb2 as pb

KEPT_BYTES_MAX = 512 * 2**20
"""What may wait here for a block; blocks that are proposed are fetched for beyond it."""
_FETCHED_AHEAD_MAX, _AT_ONCE = 32, 2
_ROUNDS_AHEAD = 6
_FIRST_DELAY_S, _LAST_DELAY_S = 0.05, 5.0
_KEPT_BLOCKS = 512
_PROPOSERS_MAX = 64

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(slots=True)
class _Above:
    """A block above the last one whose outcomes were told. `is_ready`: its roots are those of batches that are here."""

    height: int
    parent: bytes
    roots: tuple[bytes, ...]
    is_ready: bool


class _Ahead:
    """What is fetched ahead from one validator: few at once, so that one who is slow holds up only his own."""

    def __init__(self) -> None:
        self.roots: set[bytes] = set()
        self.few = asyncio.Semaphore(_AT_ONCE)


class Batches:
    """Of one chain. `delivered` gives the state after the last block that consensus has delivered."""

    def __init__(
        self,
        chain_id: bytes,
        own_key: bytes,
        mempool: Mempool,
        delivered: Callable[[], LedgerState],
        post: PostFrame,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        log: Log,
    ) -> None:
        self._own_key = own_key
        self._mempool = mempool
        self._delivered = delivered
        self._spawn = spawn
        self._log = log
        self._fetches = Fetches(chain_id, post)
        self._serving = Serving(chain_id, post, spawn)
        self._checks = BatchChecks()
        self._thread = ThreadPoolExecutor(1, "check-readings")
        self._sizes: dict[bytes, int] = {}
        self._above: dict[bytes, _Above] = {}
        self._proposers: dict[bytes, bytes] = {}
        self._held: dict[bytes, bytes] = {}
        """Roots by the digest of a transaction that the queue holds."""
        self._ahead: dict[bytes | None, _Ahead] = {}
        self._ready = asyncio.Event()

    # Life.

    def open(self, store: Store, path: Path) -> None:
        """Raises StoreError."""
        self._sizes = dict(self._thread.submit(self._checks.open, store, path).result())
        self._serving.open(store, path)

    def close(self) -> None:
        """Finish what is under way and release the files."""
        self._serving.close()
        self._thread.submit(self._checks.close).result()
        self._thread.shutdown()

    async def _in_thread(self, call: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
        return await asyncio.wrap_future(self._thread.submit(call, *arguments, **named))

    @property
    def kept_bytes(self) -> int:
        """Length of all batches that wait here."""
        return sum(self._sizes.values())

    # What comes in.

    def receive(self, peer: bytes, frame: pb.Frame) -> None:
        """A request or a part of an answer from a validator."""
        if frame.HasField("batch_request"):
            self._serving.requested(peer, frame.batch_request)
        if frame.HasField("batch_part"):
            self._fetches.received(peer, frame.batch_part)

    def proposed(self, digest: bytes, peer: bytes) -> None:
        """A validator has proposed a block: it has the batches, if it is honest."""
        self._proposers[digest] = peer
        if len(self._proposers) > _PROPOSERS_MAX:
            del self._proposers[next(iter(self._proposers))]

    def queued(self, signed: SignedTransaction, digest: bytes) -> None:
        """A transaction is in the queue: where it commits to readings, it is held until the batch is here."""
        if signed.transaction.kind != READINGS:
            return
        wanted = Wanted(commitment_of(signed.transaction))
        if wanted.root in self._sizes:
            return
        self._hold(digest, wanted.root)
        participant = participant_of(self._delivered().view, signed.transaction.signer)
        source = None if participant is None or participant.public_key not in self._peers() else participant.public_key
        ahead = self._ahead.setdefault(source, _Ahead())
        room = KEPT_BYTES_MAX - self.kept_bytes > wanted.bytes_max
        if room and wanted.root not in ahead.roots and len(ahead.roots) < _FETCHED_AHEAD_MAX:
            ahead.roots.add(wanted.root)
            self._spawn(self._fetch_ahead(wanted, source, ahead))

    async def accept(self, encoded: bytes, under_way: Iterable[bytes]) -> Wanted:
        """Check a client's batch, as if it came after those that are under way, and keep it.

        Raises DecodeError, ReadingsRefused.
        """
        state = self._delivered()
        above = await self._ancestors(state.header.digest)
        coming = Above(2**63, tuple(root for root in under_way if root in self._sizes))
        now_s = int(time.time())
        wanted = await self._in_thread(self._checks.accept, encoded, state, (*above, coming), now_s)
        self._sizes[wanted.root] = len(encoded)
        return wanted

    async def check_again(self, wanted: Wanted) -> None:
        """Raise ReadingsRefused unless a batch that is here could still be committed."""
        state = self._delivered()
        above = await self._ancestors(state.header.digest)
        await self._in_thread(self._checks.check_kept, wanted, state, above, int(time.time()))

    # Blocks.

    async def select(
        self, parent: LedgerState, candidates: Sequence[SignedTransaction], time_ms: int
    ) -> list[SignedTransaction]:
        """The candidates that may stand in a block; the others are held until readings become final."""
        above = await self._ancestors(parent.header.digest)
        selected = await self._in_thread(self._checks.select, above, parent, candidates, time_ms)
        offered = {id(signed) for signed in selected}
        for signed in candidates:
            if signed.transaction.kind == READINGS and id(signed) not in offered:
                chain_id = parent.header.chain_id
                self._hold(signed.digest(chain_id), commitment_of(signed.transaction).root)
        return selected

    def executed(self, applied: Applied) -> None:
        """A block that this node has built or checked."""
        self._note(applied.state.header, tuple(committed_roots(applied.receipts)), is_ready=True)

    def coming(self, header: Header, receipts: Sequence[Receipt]) -> None:
        """A final block is delivered; where this node has not checked it, its batches may have to be fetched."""
        if header.digest not in self._above:
            self._note(header, (), is_ready=not committed_roots(receipts))

    async def hold_in(self, before: LedgerState, block: Block, applied: Applied) -> bool:
        """Whether all batches of a block are durable and hold; does not return False before the block is overtaken."""
        header, commitments = block.header, committed_batches(block, applied)
        if sum(one.size for _, one in commitments) > BATCH_READINGS_MAX:
            self._log.warning("block with too many readings", height=header.height, digest=header.digest.hex())
            return False
        first = self._proposers.get(header.digest)
        for place, commitment in commitments:
            wanted = Wanted(commitment, header.height, place)
            if not await self._obtain(wanted, lambda: before, first, lambda: self._is_open(header)):
                return False
        above = await self._ancestors(header.parent_digest)
        if not self._is_open(header):
            return False
        try:
            await self._in_thread(self._checks.check_block, above, before, block, applied)
        except ReadingsRefused as refusal:
            self._log.warning("readings of a block refused", height=header.height, reason=str(refusal))
            return False
        roots = {commitment.root for _, commitment in commitments}
        self._release(lambda root: root in roots)
        return True

    async def of_final(self, before: LedgerState, block: Block, applied: Applied) -> Mapping[int, MeterBatch]:
        """The batches of a final block, fetched where they are missing; without those that everybody has pruned."""
        found: dict[int, MeterBatch] = {}
        roots: list[bytes] = []
        for place, commitment in committed_batches(block, applied):
            batch = await self._final(Wanted(commitment, block.header.height, place), before, block.header)
            if batch is not None:
                found[place] = batch
                roots.append(commitment.root)
        self._note(block.header, tuple(roots), is_ready=True)
        return found

    def told(self, finalized: Sequence[Finalized]) -> None:
        """Blocks are durable in the ledger, with their readings."""
        height = finalized[-1].block.header.height
        self._above = {digest: one for digest, one in self._above.items() if one.height > height}
        self._ready.set()
        roots = [root for entry in finalized for root in committed_roots(entry.applied.receipts)]
        if roots:
            for root in roots:
                self._sizes.pop(root, None)
            self._release(lambda root: root in self._sizes)
            self._spawn(self._in_thread(self._checks.drop, roots))

    async def forget(self, height: int) -> None:
        """Drop batches that came long before this height and stand in no block."""
        self._serving.forget()
        in_use = [root for one in self._above.values() for root in one.roots]
        self._sizes = dict(await self._in_thread(self._checks.drop_before, height - _KEPT_BLOCKS, in_use))
        self._held = {digest: root for digest, root in self._held.items() if digest in self._mempool}

    # Inside.

    def _is_open(self, header: Header) -> bool:
        return self._delivered().header.height < header.height

    def _note(self, header: Header, roots: tuple[bytes, ...], is_ready: bool) -> None:
        self._above[header.digest] = _Above(header.height, header.parent_digest, roots, is_ready)
        self._ready.set()

    async def _ancestors(self, digest: bytes) -> Sequence[Above]:
        """What stands above the ledger file up to a block, once all of it is here."""
        while True:
            found = []
            at: bytes = digest
            while at in self._above:
                found.append(self._above[at])
                at = self._above[at].parent
            if all(one.is_ready for one in found):
                return [Above(one.height, one.roots) for one in reversed(found) if one.roots]
            self._ready.clear()
            await self._ready.wait()

    def _hold(self, digest: bytes, root: bytes) -> None:
        self._mempool.hold(digest)
        self._held[digest] = root

    def _release(self, condition: Callable[[bytes], bool]) -> None:
        digests = [digest for digest, root in self._held.items() if condition(root)]
        self._mempool.release(digests)
        for digest in digests:
            del self._held[digest]

    async def _fetch_ahead(self, wanted: Wanted, source: bytes | None, ahead: _Ahead) -> None:
        rounds = iter(range(_ROUNDS_AHEAD))
        async with ahead.few:
            is_here = await self._obtain(wanted, self._delivered, source, lambda: next(rounds, None) is not None)
        ahead.roots.discard(wanted.root)
        if is_here:
            with suppress(ReadingsRefused):
                # What is checked now takes no time of a view; what does not hold yet may hold in its block.
                await self.check_again(wanted)
            self._release(lambda root: root == wanted.root)

    def _peers(self) -> list[bytes]:
        """The other validators of the chain."""
        keys = committee(self._delivered().view, CURRENT).public_keys
        return [key for key in keys if key != self._own_key]

    async def _obtain(
        self, wanted: Wanted, state: Callable[[], LedgerState], first: bytes | None, is_needed: Callable[[], bool]
    ) -> bool:
        """Get a batch whose columns the devices of this state have signed, as long as it is needed."""
        delay_s = _FIRST_DELAY_S
        while is_needed():
            if wanted.root in self._sizes and await self._in_thread(self._checks.copy, wanted, state()) is not None:
                return True
            if not await self._ask(wanted, state(), first):
                await asyncio.sleep(delay_s)
                delay_s = min(_LAST_DELAY_S, 2 * delay_s)
        return False

    async def _final(self, wanted: Wanted, before: LedgerState, header: Header) -> MeterBatch | None:
        delay_s = _FIRST_DELAY_S
        while True:
            if wanted.root in self._sizes:
                batch = await self._in_thread(self._checks.copy, wanted, before)
                if batch is not None:
                    return batch
            asked = await self._ask(wanted, before, None)
            late_ms = reading_rules(self._delivered().view).late_limit_s * 1000
            if asked is False and header.time_ms < time.time() * 1000 - late_ms:
                self._log.info("readings pruned by all", height=wanted.height, place=wanted.place)
                return None
            if asked is None:
                self._log.info("readings of a final block missing", height=wanted.height, place=wanted.place)
            if not asked:
                await asyncio.sleep(delay_s)
                delay_s = min(_LAST_DELAY_S, 2 * delay_s)

    async def _ask(self, wanted: Wanted, state: LedgerState, first: bytes | None) -> bool | None:
        """Ask one validator after another. True: it is here now. False: those who answer have not got it."""
        nobody: bool | None = None
        for peer in sorted(self._peers(), key=lambda key: key != first):
            try:
                encoded = await self._fetches.fetch(peer, wanted)
                if encoded is not None:
                    await self._in_thread(self._checks.keep, encoded, wanted, state)
                    self._sizes[wanted.root] = len(encoded)
                    return True
            except NotHere:
                nobody = False
            except (ReadingsRefused, DecodeError) as refusal:
                self._log.warning("readings of a peer refused", peer=peer.hex(), reason=str(refusal))
        return nobody


def committed_roots(receipts: Sequence[Receipt]) -> list[bytes]:
    """The roots of the batches that a block commits to."""
    return [event.payload for receipt in receipts for event in receipt.events if event.kind == READINGS_COMMITTED]
