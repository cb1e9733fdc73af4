"""One chain in a process: drives the pure core with what comes from peers, disk, application and clock.

Everything here runs on the event loop; a step takes well under a millisecond. What steps want durable is collected in a
`Batch`; as soon as the disk is free the batch goes there, and what it releases leaves when it is back. While it is
there the loop goes on, so that under load one synchronisation covers many steps. A payload counts as stored once it is
in a batch: whatever rests on it leaves with that batch or a later one, and batches become durable in order.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from coordinator.consensus.core import Core
from coordinator.consensus.effects import (
    Broadcast,
    Build,
    Certify,
    Deliver,
    EpochBegun,
    PeerFault,
    Persist,
    Send,
    SendPayload,
    ServeBlock,
    ServePayload,
    ServeRange,
    SetTimer,
    StorePayload,
)
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.inputs import (
    EpochKnown,
    Input,
    PayloadStored,
    PeerConnected,
    Received,
    Recovered,
    Start,
    TimerFired,
    WorkWaiting,
)
from coordinator.consensus.messages import Message, Payload, Proposal, decode, encode
from coordinator.consensus.signing import Ed25519Scheme, Signer
from coordinator.consensus.state import Anchor
from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.genesis import Genesis, machine_of
from coordinator.ledger.readings import reading_rules
from coordinator.ledger.state import LedgerState
from coordinator.ledger.store import Finalized
from coordinator.ledger.transaction import SignedTransaction, decode_transaction
from coordinator.service.accusations import Accusations
from coordinator.service.alarms import Alarms
from coordinator.service.application import Application
from coordinator.service.batch_exchange import PostFrame, check_commitment
from coordinator.service.batches import Batches
from coordinator.service.commits import Commits
from coordinator.service.deliveries import Deliveries
from coordinator.service.execution import CachedScheme, Execution, Payloads, transactions_of
from coordinator.service.frames import SMALL_BYTES
from coordinator.service.home import Pace
from coordinator.service.intake import Intake
from coordinator.service.log import Log
from coordinator.service.mempool import Mempool
from coordinator.service.metrics import ChainMetrics
from coordinator.service.modules import MODULES
from coordinator.service.outcomes import Outcomes
from coordinator.service.serve_store import serve_block, serve_range
from coordinator.service.writer import Writer
from protos.gridaccord.v1 import service_pb2 as pb

_INPUTS_A_TURN = 64
_TRANSACTIONS_A_TURN = 16
_FORGET_BLOCKS = 256

Post = Callable[[bytes, bytes], None]
"""Sends bytes to a peer by its key."""


class ChainHost:
    """A validator of one chain."""

    def __init__(
        self,
        genesis: Genesis,
        pace: Pace,
        signer: Signer,
        folder: Path,
        post: Post,
        spread: Callable[[bytes], None],
        post_batch_frame: PostFrame,
        metrics: ChainMetrics,
        log: Log,
    ) -> None:
        """`spread` sends a transaction to all peers."""
        self.genesis = genesis
        self.pace = pace
        self.metrics = metrics
        self._signer = signer
        self._post = post
        self._spread = spread
        self._log = log.bind(chain=genesis.name)
        self.scheme = CachedScheme(Ed25519Scheme())
        self.machine = machine_of(genesis, MODULES, self.scheme)
        self.writer = Writer(folder, genesis, self.machine, signer.public_key)
        self.mempool = Mempool(genesis.chain_id, self.scheme)
        self.final_at = time.monotonic()
        self.new_block = asyncio.Event()
        self._config = pace.config(genesis.epoch_length, self.machine.versions)
        self._answers: deque[Input] = deque()
        self._payloads_stored: dict[bytes, None] = {}
        self._wake = asyncio.Event()
        self._intake = Intake(self._wake)
        self._alarms = Alarms(self._wake)
        self.outcomes = Outcomes()
        self.accusations = Accusations(metrics, self._log, pace.delay_ms / 1000)
        self._commits = Commits(self.writer, metrics, post, self._finalized, self._spawn)
        self.batches = Batches(
            genesis.chain_id,
            signer.public_key,
            self.mempool,
            lambda: self.execution.delivered,
            post_batch_frame,
            self._spawn,
            self._log,
        )
        self._deliveries = Deliveries(self._commits, self.batches, self._spawn)
        self._now_ns = 0
        self._told_waiting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.followers: list[Callable[[Sequence[Finalized]], None]] = []
        """Called with final blocks once they are durable, in order."""
        self.told: LedgerState
        """After the last block that is durable and whose outcomes have been told."""
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Persist: self._commits.persist,
            Broadcast: lambda effect: self._commits.send(effect, effect.recipients, encode(effect.message)),
            Send: lambda effect: self._commits.send(effect, (effect.to,), encode(effect.message)),
            SendPayload: self._send_payload,
            SetTimer: lambda effect: self._alarms.set(effect.at_ns, effect.timer),
            StorePayload: self._store_payload,
            Build: lambda effect: self._application.build(effect),
            Certify: lambda effect: self._application.certify(effect),
            Deliver: self._deliver,
            ServeBlock: lambda effect: self._serve(effect.to, serve_block, effect.digest),
            ServePayload: lambda effect: self._spawn(self._serve_payload(effect)),
            ServeRange: lambda effect: self._serve(effect.to, serve_range, effect.from_height, effect.limit),
            EpochBegun: self._epoch_begun,
            PeerFault: self.accusations.fault,
        }

    # Life.

    async def open(self, force_rejoin: bool = False) -> None:
        """Recover from the disk. Raises StoreError."""
        recovered = await asyncio.wrap_future(self.writer.open(force_rejoin))
        store, payloads = self.writer.store, Payloads(self._stored_payload)
        for digest, payload in recovered.payloads.items():
            payloads.put(digest, payload)
        self.execution = Execution(self.machine, store.state, payloads)
        limit, told = self.pace.block_transactions, (self.answer, self._tell_waiting)
        self._application = Application(
            self.execution, self.mempool, self.batches, limit, *told, self._spawn, self._log
        )
        self.told = store.state
        self.batches.open(store, self.writer.folder / "batches.sqlite")
        self.core = Core(
            self._config,
            self._signer,
            self.scheme,
            Anchor(store.state.header, recovered.certificate, store.state.epoch_configs()),
        )
        self._commits.start(self.core.checkpoint)
        height, must_rejoin = store.state.header.height, recovered.must_rejoin
        self._log.info("opened", height=height, journal=recovered.message, rejoin=must_rejoin)
        if not recovered.is_new:
            self._step(Recovered(recovered.records))
        self._step(Start(secrets.randbits(63) if must_rejoin else None))
        # That this node rejoins is durable before anything else is: the ledger may not be ahead of it.
        self._commits.flush()

    async def run(self) -> None:
        """Until cancelled; raises what stops this node."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._failed.done():
                self._failed.result()
            if self._turn():
                self._wake.set()
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop; what is under way on the disk is finished."""
        self._alarms.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._application.close()
        await asyncio.to_thread(self.batches.close)
        await asyncio.to_thread(self.writer.close)

    @property
    def is_healthy(self) -> bool:
        """Whether the chain has finalized something lately."""
        return time.monotonic() - self.final_at < self.pace.stands_after_s

    # What comes in.

    async def receive(self, peer: bytes, data: bytes) -> None:
        """A consensus message from a validator; waits while too much of its waits. Raises DecodeError."""
        message = decode(data)
        if isinstance(message, Proposal):
            self.batches.proposed(message.header.digest, peer)
        await self._intake.put(peer, message)

    async def receive_transactions(self, peer: bytes, transactions: Sequence[bytes]) -> None:
        """Transactions on their way to everybody."""
        for transaction in transactions:
            await self._intake.put_transaction(peer, transaction)

    def receive_batch_frame(self, peer: bytes, frame: pb.Frame) -> None:
        """A request for readings, or a part of an answer."""
        self.batches.receive(peer, frame)

    def connected(self, peer: bytes) -> None:
        """A validator can be reached."""
        self.answer(PeerConnected(peer))

    def waiting_transactions(self) -> list[bytes]:
        """The queue, for a validator that may lack it."""
        return self.mempool.encoded()

    def answer(self, event: Input) -> None:
        """Give the core an input of this node's own."""
        self._answers.append(event)
        self._wake.set()

    def submit(self, encoded: bytes) -> bytes:
        """Admit a transaction and spread it; its digest. Raises TransactionRefused, DecodeError."""
        signed = decode_transaction(encoded)
        if self._admit(signed):
            self._spread(encoded)
        self._tell_waiting()
        return signed.digest(self.genesis.chain_id)

    # Steps.

    def _turn(self) -> bool:
        """Some inputs, fairly from all peers; whether there are more."""
        self._fire_timers()
        taken = 0
        while taken < _INPUTS_A_TURN:
            before = taken
            while self._answers and taken < _INPUTS_A_TURN:
                self._step(self._answers.popleft())
                taken += 1
            for peer, message in self._intake.messages():
                taken += 1
                if not self._deliveries.is_full:  # What is lost here consensus repairs, as on any network.
                    self._step(Received(peer, message))
            if taken == before:
                break
        self._admit_gossip()
        self._commits.flush()
        return self._intake.let_in() or bool(self._answers)

    def _step(self, event: Input) -> None:
        self._now_ns = max(self._now_ns, time.time_ns())
        for effect in self.core.step(self._now_ns, event):
            self._handlers[type(effect)](effect)

    def _admit_gossip(self) -> None:
        for encoded in self._intake.transactions(_TRANSACTIONS_A_TURN):
            try:
                self._admit(decode_transaction(encoded))
            except (TransactionRefused, DecodeError):
                self.metrics.refused_transactions.inc()
        self._tell_waiting()

    def _admit(self, signed: SignedTransaction) -> bool:
        """Whether it is new. Raises TransactionRefused, DecodeError."""
        check_commitment(signed.transaction)
        is_new = self.mempool.add(self.execution.delivered, signed)
        if is_new:
            self.batches.queued(signed, signed.digest(self.genesis.chain_id))
        return is_new

    def _tell_waiting(self) -> None:
        waiting = self.mempool.is_waiting(self.execution.delivered)
        if waiting != self._told_waiting:
            self._told_waiting = waiting
            self.answer(WorkWaiting(waiting))

    def _fire_timers(self) -> None:
        self._now_ns = max(self._now_ns, time.time_ns())
        self._answers.extend(TimerFired(timer) for timer in self._alarms.due(self._now_ns))

    # Work beside the steps.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failed.done():
            error = task.exception()
            assert error is not None
            self._failed.set_exception(error)
            self._wake.set()

    # Effects.

    def _send_payload(self, effect: SendPayload) -> None:
        """A long one at once, to be there when the proposal is. A short one with it: one frame, and one write."""
        data = encode(Payload(effect.payload))
        if len(data) <= SMALL_BYTES:
            self._commits.send(effect, effect.recipients, data)
            return
        for peer in effect.recipients:
            self._post(peer, data)

    def _store_payload(self, effect: StorePayload) -> None:
        self.execution.payloads.put(effect.digest, effect.payload)
        self._commits.store(effect.digest, effect.payload)
        self._payloads_stored[effect.digest] = None
        self._answers.append(PayloadStored(effect.digest))

    def _stored_payload(self, digest: bytes) -> bytes | None:
        """One that is not in memory. A batch under way is written before the disk is asked."""
        waiting = self._commits.payload(digest)
        return self.writer.payload(digest).result() if waiting is None else waiting

    def _deliver(self, effect: Deliver) -> None:
        header = effect.header
        before = self.execution.delivered
        block, applied = self.execution.deliver(header)
        self._deliveries.add(effect, before, block, applied)
        self.mempool.finalized(applied.state, transactions_of(applied))
        started = self._application.began(header.digest)
        if started is not None:
            self.metrics.finalized_own(time.perf_counter() - started)
        if header.height % _FORGET_BLOCKS == 0 and not self._commits.is_expecting:
            self._forget()
        self._tell_waiting()

    def _forget(self) -> None:
        """Now and then: payloads that nothing refers to any more, and transactions past their validity.

        A node that catches up stores the newest block's payload first and delivers that block last.
        """
        self.mempool.drop_expired(self.execution.delivered)
        # One whose PayloadStored consensus has still to take is as good as in use: it is told next.
        coming = (told.digest for told in self._answers if isinstance(told, PayloadStored))
        in_use = {*self.core.payloads_in_use, *coming}
        gone = [digest for digest in self._payloads_stored if digest not in in_use]
        for digest in gone:
            del self._payloads_stored[digest]
            self.execution.payloads.drop(digest)
        self._commits.drop(gone)
        self._spawn(self._prune_readings())

    async def _prune_readings(self) -> None:
        """Those that no correction can reach any more, and batches that no block has taken for long."""
        late_limit_s = reading_rules(self.execution.delivered.view).late_limit_s
        dropped = await asyncio.wrap_future(self.writer.submit(self.writer.store.prune_readings, late_limit_s))
        await self.batches.forget(self.execution.delivered.header.height)
        if dropped:
            self._log.info("readings pruned", readings=dropped)

    def _finalized(self, finalized: Sequence[Finalized]) -> None:
        """Durable: tell whoever waits."""
        self.final_at = time.monotonic()
        for entry in finalized:
            self.metrics.finalized(entry.block.header.height, len(entry.applied.receipts) - 1)
        self.told = finalized[-1].applied.state
        self.batches.told(finalized)
        for follower in self.followers:
            follower(finalized)
        self.outcomes.tell(finalized)
        self.new_block.set()
        self.new_block = asyncio.Event()

    def _serve(self, to: bytes, serve: Callable[..., Message | None], *arguments: object) -> None:
        self._spawn(self._serve_apart(to, serve, *arguments))

    async def _serve_apart(self, to: bytes, serve: Callable[..., Message | None], *arguments: object) -> None:
        answer = await asyncio.wrap_future(self.writer.submit(serve, self.writer.store, *arguments))
        if answer is not None:
            self._post(to, encode(answer))

    async def _serve_payload(self, effect: ServePayload) -> None:
        payload = await asyncio.wrap_future(self.writer.payload(effect.digest))
        if payload is not None:
            self._post(effect.to, encode(Payload(payload)))

    def _epoch_begun(self, effect: EpochBegun) -> None:
        following = self.execution.delivered.epoch_configs()[1]
        assert following.epoch == effect.epoch + 1, "the epoch that begins is that of the next block"
        self._log.info("epoch begun", epoch=effect.epoch)
        self.answer(EpochKnown(following))
