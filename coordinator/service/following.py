"""A chain without a seat of this node: its final blocks are read from its validators and verified here.

A node reads from f + 1 validators of the chain at once, so one of them is honest, and a block counts from whoever
brings it first. Nobody is believed: `followed_ledger` proves each block from genesis. A validator that says something
else, says nothing or lags gives its place to the next one. It is asked what anybody with a certificate may ask; votes
are neither sent nor taken.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.errors import CertificateRefused, DecodeError, SafetyViolation
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.consensus.validators import max_faulty
from coordinator.ledger.block import PAYLOAD_MAX, Block, decode_block
from coordinator.ledger.genesis import Genesis, machine_of
from coordinator.ledger.registry import CURRENT, NEXT, committee
from coordinator.ledger.state import LedgerState
from coordinator.ledger.store import Finalized
from coordinator.service.access import Trust
from coordinator.service.client import Client
from coordinator.service.errors import CallFailed, PeerRefused, ServiceError
from coordinator.service.execution import CachedScheme
from coordinator.service.followed_ledger import Claim, FollowedLedger, check_finality
from coordinator.service.home import Pace, PeerSettings
from coordinator.service.identity import server_name
from coordinator.service.log import Log
from coordinator.service.metrics import ChainMetrics
from coordinator.service.modules import MODULES
from coordinator.service.outcomes import Outcomes
from coordinator.service.waiting import first_error, first_of
from protos.gridaccord.v1 import service_pb2 as pb

_LOOK_S, _SUBMIT_S = 1.0, 5.0
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1.0, 60.0
_LAG_BLOCKS = 256
_AHEAD_BLOCKS = 16
_RUN_BLOCKS, _RUN_BYTES = 4096, 16 * PAYLOAD_MAX
"""What may come from one validator before a certificate does."""
_IN_VAIN = 10
"""After so many times the patience without a block, peers without a seat are asked as well: who has one may be known
here from long ago, and what anybody says is verified all the same."""


class Source(Protocol):
    """A connection to a node that has the chain."""

    def blocks(self, from_height: int) -> AsyncGenerator[pb.BlockReply, None]:
        """Final blocks from a height on, and each further one as it comes. Raises CallFailed."""

    async def submit(self, transaction: bytes) -> None:
        """Give it a transaction. Raises CallFailed."""


Connect = Callable[[PeerSettings], AbstractAsyncContextManager[Source]]


def connecting(chain_id: bytes, trust: Trust) -> Connect:
    """To peers by their own names, so that it is known who says what; certificates as they are at that time."""

    @asynccontextmanager
    async def connect(peer: PeerSettings) -> AsyncIterator[Source]:
        name = server_name(bytes.fromhex(peer.public_key))
        async with Client(peer.address, trust.credentials, name) as client:
            yield _Remote(client, chain_id)

    return connect


class _Remote:
    def __init__(self, client: Client, chain_id: bytes) -> None:
        self._client = client
        self._chain_id = chain_id

    def blocks(self, from_height: int) -> AsyncGenerator[pb.BlockReply, None]:
        return self._client.stream(pb.StreamRequest(chain_id=self._chain_id, from_height=from_height))

    async def submit(self, transaction: bytes) -> None:
        await self._client.call("Submit", pb.SubmitRequest(chain_id=self._chain_id, transaction=transaction), _SUBMIT_S)


class _Withholds(ServiceError):
    """A source does not give what others have."""


class _Place:
    """A peer as a source: whether it is read from, what has no certificate yet, when to try it again."""

    def __init__(self, peer: PeerSettings) -> None:
        self.name = peer.name
        self.peer = peer
        self.is_active = False
        self.source: Source | None = None
        self.run: list[Claim] = []
        self.tried_at = -random.random()
        """By the monotonic clock; at first in any order, so that not all followers begin with the same validators."""
        self.rests_until = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._lies = 0

    def rest(self, *, lied: bool = False) -> None:
        """Not again for a while, longer each time in a row, and after each lie."""
        self._lies += lied
        pause_s = max(self._pause_s, _FIRST_PAUSE_S * 2.0 ** min(self._lies, 10))
        self.rests_until = time.monotonic() + min(_LAST_PAUSE_S, pause_s)
        self._pause_s = min(_LAST_PAUSE_S, 2 * self._pause_s)

    def helped(self) -> None:
        """It has sent a block that is final."""
        self._pause_s = _FIRST_PAUSE_S


class FollowedChain:
    """One chain, followed from its genesis."""

    told: LedgerState
    """After the last block that is durable and whose outcomes have been told."""

    def __init__(
        self,
        genesis: Genesis,
        pace: Pace,
        folder: Path,
        peers: Sequence[PeerSettings],
        connect: Connect,
        metrics: ChainMetrics,
        log: Log,
    ) -> None:
        """`peers` are the nodes known; those with a seat of the chain are read from."""
        self.genesis = genesis
        self.pace = pace
        self.metrics = metrics
        self._connect = connect
        self._log = log.bind(chain=genesis.name)
        self._machine = machine_of(genesis, MODULES, CachedScheme(Ed25519Scheme()))
        self.ledger = FollowedLedger(folder, genesis, self._machine)
        self.outcomes = Outcomes()
        self.new_block = asyncio.Event()
        self.followers: list[Callable[[Sequence[Finalized]], None]] = []
        """Called with final blocks once they are durable, in order."""
        self.final_at = time.monotonic()
        self.fault = ""
        """Why nothing more is taken; empty while all is well."""
        self._places = {bytes.fromhex(peer.public_key): _Place(peer) for peer in peers}
        self._digests: OrderedDict[int, bytes] = OrderedDict()
        self._taking = asyncio.Lock()
        self._changed = asyncio.Event()

    # Life.

    async def open(self) -> None:
        """Raises StoreError, ConfigurationError."""
        await asyncio.wrap_future(self.ledger.submit(self.ledger.open))
        self.told = self.ledger.store.state
        self._log.info("following", height=self.told.header.height)

    async def close(self) -> None:
        """Release the file."""
        await asyncio.to_thread(self.ledger.close)

    @property
    def is_healthy(self) -> bool:
        """Whether final blocks have come lately."""
        return not self.fault and time.monotonic() - self.final_at < self.pace.stands_after_s

    @property
    def sources(self) -> tuple[str, ...]:
        """The nodes that are read from now."""
        return tuple(place.name for place in self._places.values() if place.source is not None)

    async def run(self) -> None:
        """Until cancelled; raises what makes it impossible to go on.

        Where the chain itself is broken, it is not followed any more, and says so; this node's own chains go on.
        """
        try:
            await self._run()
        except BaseExceptionGroup as group:
            error = first_error(group)
            if not isinstance(error, SafetyViolation):
                raise error from group
            self.fault = str(error)
            self._log.error("not followed any more", reason=self.fault)
        await asyncio.Event().wait()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                self._turn_to(tasks)
                await first_of([self._changed], _LOOK_S)

    def _turn_to(self, tasks: asyncio.TaskGroup) -> None:
        """Read from f + 1 of those who can be asked, beginning with whom was not asked for longest."""
        now, seated = time.monotonic(), self._seated()
        in_vain = now - self.final_at > _IN_VAIN * self.pace.stands_after_s
        candidates = self._places.values() if in_vain or not seated else seated
        free = 1 + max_faulty(len(committee(self.told.view, CURRENT).members))
        free -= sum(place.is_active for place in self._places.values())
        for place in sorted(candidates, key=lambda place: place.tried_at):
            if free > 0 and not place.is_active and place.rests_until <= now:
                free -= 1
                place.tried_at = now
                place.is_active = True
                tasks.create_task(self._follow(place))

    def _seated(self) -> list[_Place]:
        """Peers that validate the chain in this epoch or the next, as far as it is known here."""
        keys = {key for slot in (CURRENT, NEXT) for key in committee(self.told.view, slot).public_keys}
        return [place for key, place in self._places.items() if key in keys]

    def _check_seat(self, place: _Place) -> None:
        """Who has lost the seat is left for those who have one; between two writes, so that none is cut off."""
        seated = self._seated()
        if place not in seated and any(one.source is not None for one in seated):
            raise CallFailed("it has no seat of the chain")

    # One source.

    async def _follow(self, place: _Place) -> None:
        lied = False
        try:
            async with self._connect(place.peer) as source:
                await self._read(place, source)
        except (PeerRefused, DecodeError, CertificateRefused) as error:
            lied = True
            self.metrics.peer_faults.inc()
            self._log.warning("source refused", peer=place.name, reason=str(error))
        except _Withholds as error:
            self._log.warning("source withholds", peer=place.name, reason=str(error))
        except ServiceError as error:
            self._log.info("source left", peer=place.name, reason=str(error))
        finally:
            place.rest(lied=lied)
            place.is_active, place.source, place.run = False, None, []
            self._changed.set()

    async def _read(self, place: _Place, source: Source) -> None:
        """Raises PeerRefused, DecodeError, CertificateRefused where it lies, ServiceError where it ends or lags.

        What comes while the disk is busy goes there together.
        """
        ahead: asyncio.Queue[pb.BlockReply | Exception] = asyncio.Queue(_AHEAD_BLOCKS)
        reading = asyncio.get_running_loop().create_task(self._read_ahead(source, ahead))
        try:
            while True:
                replies = [await ahead.get()]
                while not ahead.empty():
                    replies.append(ahead.get_nowait())
                if place.source is None and isinstance(replies[0], pb.BlockReply):
                    place.source = source
                    self._log.info("reading", peer=place.name, from_height=self.told.header.height + 1)
                async with self._taking:
                    await self._take(place, replies)
                self._check_seat(place)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read_ahead(self, source: Source, ahead: asyncio.Queue[pb.BlockReply | Exception]) -> None:
        try:
            async with aclosing(source.blocks(self.told.header.height + 1)) as replies:
                while True:
                    await ahead.put(await self._next(replies))
        except Exception as error:
            await ahead.put(error)

    async def _next(self, replies: AsyncGenerator[pb.BlockReply, None]) -> pb.BlockReply:
        patience_s = self.pace.stands_after_s
        try:
            async with asyncio.timeout(patience_s):
                return await anext(replies)
        except StopAsyncIteration:
            raise CallFailed("it ended the stream") from None
        except TimeoutError:
            if time.monotonic() - self.final_at < patience_s:
                raise _Withholds(f"nothing of it for {patience_s:.0f} s in which others had blocks") from None
            raise CallFailed(f"no final block for {patience_s:.0f} s") from None

    async def _take(self, place: _Place, replies: Sequence[pb.BlockReply | Exception]) -> None:
        """The next blocks of a source; they are kept as far as certificates cover them."""
        place.run = [claim for claim in place.run if claim[0].header.height > self.told.header.height]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
            certificate = decode_certificate(reply.certificate) if reply.certificate else None
            self._add(place, decode_block(reply.block), certificate)
        certified = max((number for number, claim in enumerate(place.run, 1) if claim[1] is not None), default=0)
        if certified:
            found = await asyncio.wrap_future(self.ledger.submit(self.ledger.take, place.run[:certified]))
            del place.run[:certified]
            place.helped()
            self._finalized(found)
        if len(place.run) > _RUN_BLOCKS or sum(len(block.payload) for block, _ in place.run) > _RUN_BYTES:
            raise PeerRefused(f"{len(place.run)} blocks without a finalization")

    def _add(self, place: _Place, block: Block, certificate: Certificate | None) -> None:
        """A block that is known, or that follows."""
        tip, header = self.told.header, block.header
        before = place.run[-1][0].header if place.run else tip
        if header.height > tip.height:
            if header.height != before.height + 1 or header.parent_digest != before.digest:
                raise self._contradiction(block, certificate, f"does not follow that of height {before.height}")
            place.run.append((block, certificate))
            return
        known = self._digests.get(header.height)
        if known is None:
            raise _Withholds(f"it is at height {header.height}, others at {tip.height}")
        if known != header.digest:
            raise self._contradiction(block, certificate, "is not the one that is final")
        place.helped()

    def _contradiction(self, block: Block, certificate: Certificate | None, reason: str) -> Exception:
        """A source that lies; or, where a quorum has signed what it says, a chain with two histories."""
        height = block.header.height
        refusal = PeerRefused(f"its block of height {height} {reason}")
        if certificate is None or height > self.told.header.height + 1:
            return refusal
        try:
            check_finality(self._machine, self.told, block, certificate)
        except CertificateRefused:
            return refusal
        return SafetyViolation(f"two different histories are final at height {height}: more than f are faulty")

    def _finalized(self, finalized: Sequence[Finalized]) -> None:
        """Durable: tell whoever waits."""
        self.final_at = time.monotonic()
        for entry in finalized:
            header = entry.block.header
            self._digests[header.height] = header.digest
            self.metrics.finalized(header.height, len(entry.applied.receipts) - 1)
        while len(self._digests) > _LAG_BLOCKS:
            self._digests.popitem(last=False)
        self.told = finalized[-1].applied.state
        for follower in self.followers:
            follower(finalized)
        self.outcomes.tell(finalized)
        self.new_block.set()
        self.new_block = asyncio.Event()

    # What this node has to say there, as anybody may.

    async def submit(self, transaction: bytes) -> None:
        """Give a transaction to all that are read from. Raises CallFailed where none of them takes it."""
        sources = [place.source for place in self._places.values() if place.source is not None]
        answers = await asyncio.gather(*(source.submit(transaction) for source in sources), return_exceptions=True)
        if None not in answers:
            reason = str(answers[0]) if answers else "no validator of it can be reached"
            raise CallFailed(f"chain {self.genesis.name}: {reason}")
