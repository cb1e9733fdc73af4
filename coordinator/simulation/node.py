"""One node: the product's core, and a host that carries its effects out as `coordinator.consensus.effects` demands.

A crash may come before any effect of a step. What was not synchronised is then lost; timers and answers under way are
too. The host runs the product's DurabilityCheck, synchronises lazily, and writes checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coordinator.consensus.core import Core
from coordinator.consensus.effects import (
    Broadcast,
    Build,
    Certify,
    Deliver,
    Effect,
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
from coordinator.consensus.epochs import EpochConfig
from coordinator.consensus.host import DurabilityCheck
from coordinator.consensus.inputs import (
    BuildFailed,
    Built,
    Certified,
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
from coordinator.consensus.messages import Blocks, Message, Payload
from coordinator.consensus.state import Anchor
from coordinator.simulation.application import ChainState
from coordinator.simulation.disk import Disk, DiskFull, StoredBlock, newest_final

if TYPE_CHECKING:
    from coordinator.simulation.chain import Chain


class Node:
    """A node of one chain. `core` is None while it is down."""

    def __init__(self, chain: Chain, number: int) -> None:
        self.chain = chain
        self.number = number
        self.seat = chain.seat_of(number)
        self.disk = Disk()
        self.core: Core | None = None
        self.incarnation = 0
        self.has_run = False
        self.frozen = False
        self.damaged = False
        self.recover_height = 0
        """Delivered height at which a damaged node has caught up."""
        self.restarts = 0
        self.executed: dict[bytes, ChainState] = {}
        self.state = chain.application.genesis
        self.signer = chain.application.signer(self.seat, 0)
        self.delivered_now = False
        self.step_down = False
        skew = chain.options.skew_ns
        self.skew_ns = chain.world.rng.randrange(skew) if skew else 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            Persist: self._persist,
            Broadcast: self._broadcast,
            Send: self._send,
            SetTimer: self._set_timer,
            StorePayload: self._store_payload,
            Certify: self._certify,
            Build: self._build,
            SendPayload: self._send_payload,
            Deliver: self._deliver,
            ServeBlock: self._serve_block,
            ServePayload: self._serve_payload,
            ServeRange: self._serve_range,
            EpochBegun: self._epoch_begun,
            PeerFault: self._peer_fault,
        }

    @property
    def is_honest(self) -> bool:
        """Whether it keeps to the protocol."""
        return True

    @property
    def height(self) -> int:
        """Of the last delivered block."""
        return self.state.header.height

    @property
    def position(self) -> tuple[int, int]:
        """Epoch and view of the running core."""
        assert self.core is not None, "a node that is down is nowhere"
        state = self.core._state
        return state.epoch, state.view

    # Life.

    def boot(self) -> None:
        """A fresh process over the disk: recover, replay, start."""
        if self.frozen:
            return
        chain = self.chain
        recovery = self.disk.recover(chain.application.length)
        chain.note(self, f"boot ({recovery.finding}{', rejoins' if recovery.must_rejoin else ''})")
        if recovery.must_rejoin and not self.damaged:
            chain.damage(self)
        self._restore_state()
        self.incarnation += 1
        self.step_down = False
        self.check = DurabilityCheck()
        application = chain.application
        epochs = application.epochs_after(self.state)
        self.signer = self._signer_in(epochs)
        blocks = self.disk.all_blocks()
        certificate = next((block.certificate for block in reversed(blocks) if block.certificate), None)
        anchor = Anchor(self.state.header, certificate, epochs)
        self.core = Core(chain.config, self.signer, application.scheme, anchor)
        chain.recovered(self, recovery.records)
        if self.has_run:
            self.run(Recovered(recovery.records), "recovered")
        self.has_run = True
        self.run(Start(chain.world.rng.getrandbits(63) if recovery.must_rejoin else None), "start")

    def _restore_state(self) -> None:
        """Execute the stored blocks again."""
        application = self.chain.application
        state = application.genesis
        for block in self.disk.all_blocks():
            after = application.state(block.header.digest)
            assert after is not None, "a stored block was executed before"
            assert block.header.parent_digest == state.header.digest, "the stored blocks are no chain"
            state = after
        self.state = state
        self.executed = {state.header.digest: state}

    def _signer_in(self, epochs: tuple[EpochConfig, EpochConfig]) -> Any:
        """The key of this node in the epoch that it enters; its newest one if it has no seat."""
        generations = self.state.registry.generations[self.seat]
        application = self.chain.application
        for known in epochs:
            for generation in range(generations, -1, -1):
                signer = application.signer(self.seat, generation)
                if known.validators.index_of(signer.public_key) is not None:
                    return signer
        return application.signer(self.seat, generations)

    def crash(self) -> None:
        """The process is gone; the disk stays, as it is after a crash."""
        assert self.core is not None, "only what runs can crash"
        self.core = None
        self.incarnation += 1
        self.restarts += 1
        self.chain.crashed(self)

    # Inputs.

    def receive(self, sender: bytes, message: Message, label: str) -> None:
        """A message arrives."""
        if self.core is not None and not self.frozen:
            self.run(Received(sender, message), label)

    def answer(self, incarnation: int, event: Input, label: str) -> None:
        """A timer or an answer of the application, unless its process is gone."""
        if incarnation == self.incarnation and self.core is not None and not self.frozen:
            self.run(event, label)

    def run(self, event: Input, label: str) -> None:
        """One step."""
        core, chain = self.core, self.chain
        if core is None:
            return
        world = chain.world
        effects = core.step(world.now_ns + self.skew_ns, event)
        try:
            self.carry_out(effects, chain.crash_cut(self, len(effects)))
        except DiskFull:
            chain.note(self, "halts: disk full")
            self.crash()
        chain.stepped(self, core, label, len(effects))

    def carry_out(self, effects: tuple[Effect, ...], cut: int) -> None:
        """Effects in order; a crash before effect number `cut`, unless that is negative."""
        check, handlers = self.check, self._handlers
        for number, effect in enumerate(effects):
            if number == cut:
                self.crash()
                return
            if check.needs_sync(effect):
                self.sync()
            check.before(effect)
            handlers[type(effect)](effect)
        if check.dirty:
            self.sync()
        check.end_of_step()
        if cut >= len(effects):
            self.crash()
        elif self.step_down:
            self._take_new_key()
        elif len(self.disk.entries) > self.chain.options.compact:
            self._compact()

    def sync(self) -> None:
        """Make the journal durable."""
        for entry in self.disk.sync():
            self.chain.synced(self, entry)
        self.check.synced()

    def _compact(self) -> None:
        core = self.core
        assert core is not None, "only a running node writes checkpoints"
        status = core.status
        length = self.chain.application.length
        final = max((status.epoch, status.final_view), newest_final(self.disk.all_blocks(), length))
        self.disk.compact(core.checkpoint(), final)

    def _take_new_key(self) -> None:
        """A core signs with one key: for an epoch in which this node has another, it starts again."""
        self.step_down = False
        self.chain.note(self, "takes its new key")
        self.core = None
        self.boot()

    # Effects.

    def _persist(self, effect: Persist) -> None:
        self.disk.append(effect.record)
        self.chain.oracle.on_record(self, effect.record)

    def _broadcast(self, effect: Broadcast) -> None:
        self.chain.oracle.on_sent(self, effect.message, effect.recipients)
        self.chain.transmit(self, effect.recipients, effect.message)

    def _send(self, effect: Send) -> None:
        self.chain.oracle.on_sent(self, effect.message, (effect.to,))
        self.chain.transmit(self, (effect.to,), effect.message)

    def _send_payload(self, effect: SendPayload) -> None:
        message = Payload(effect.payload)
        self.chain.oracle.on_sent(self, message, effect.recipients)
        self.chain.transmit(self, effect.recipients, message)

    def _set_timer(self, effect: SetTimer) -> None:
        timer = effect.timer
        label = f"timer-{timer.kind.value}:{timer.view}"
        at_ns = effect.at_ns - self.skew_ns
        self.chain.world.at(at_ns, self.answer, self.incarnation, TimerFired(timer), label)

    def _store_payload(self, effect: StorePayload) -> None:
        self._later(self._stored, effect.digest, effect.payload)

    def _stored(self, incarnation: int, digest: bytes, payload: bytes) -> None:
        if incarnation == self.incarnation and not self.frozen:
            self.disk.payloads[digest] = payload
            self.answer(incarnation, PayloadStored(digest), f"stored:{digest[:3].hex()}")

    def _certify(self, effect: Certify) -> None:
        header = effect.header
        assert header.payload_digest in self.disk.payloads, "Certify came before the payload was durable"
        assert header.parent_digest in self.executed, "Certify came before its parent was certified or delivered"
        self._later(self._certified, effect)

    def _certified(self, incarnation: int, effect: Certify) -> None:
        header = effect.header
        if incarnation != self.incarnation:
            return
        parent = self.executed.get(header.parent_digest)
        ok = True
        if parent is not None:
            after = self.chain.application.execute(parent, header, self.disk.payloads[header.payload_digest])
            ok = after is not None
            if after is not None:
                self.executed[header.digest] = after
        verdict = "valid" if ok else "invalid"
        self.answer(incarnation, Certified(header.digest, ok), f"certified:{header.digest[:3].hex()}:{verdict}")

    def _build(self, effect: Build) -> None:
        self._later(self._built, effect)

    def _built(self, incarnation: int, effect: Build) -> None:
        if incarnation != self.incarnation:
            return
        parent = self.executed.get(effect.parent.digest)
        options = self.chain.options
        if parent is None or (options.build_fails and self.chain.world.rng.random() < options.build_fails):
            self.answer(incarnation, BuildFailed(effect.view), f"build-failed:{effect.view}")
            return
        header, payload = self.build(parent, effect)
        self.chain.oracle.see_header(header)
        after = self.chain.application.execute(parent, header, payload)
        if after is not None:
            self.executed[header.digest] = after
        self.answer(incarnation, Built(effect.view, header, payload), f"built:{effect.view}:{header.digest[:3].hex()}")

    def build(self, parent: ChainState, template: Build) -> Any:
        """A block of the application."""
        operations = self.chain.operations_for(self, parent)
        header, payload = self.chain.application.build(parent, template, operations)
        return header, payload

    def _deliver(self, effect: Deliver) -> None:
        header = effect.header
        assert header.parent_digest == self.state.header.digest, "blocks are delivered in order, each once"
        payload = self.disk.payloads[header.payload_digest]
        after = self.executed.get(header.digest) or self.chain.application.execute(self.state, header, payload)
        self.chain.oracle.on_delivered(self, header, effect.certificate, after)
        assert after is not None, "the oracle refuses what is final and invalid"
        self.disk.append(StoredBlock(header, effect.certificate))
        self.state = after
        self.executed[header.digest] = after
        self.delivered_now = True
        if len(self.executed) > 64:
            height = header.height
            self.executed = {key: one for key, one in self.executed.items() if one.header.height >= height}
        self.chain.delivered(self, after)

    def _serve_block(self, effect: ServeBlock) -> None:
        found = [block.header for block in self.disk.all_blocks() if block.header.digest == effect.digest]
        if found:
            self._send(Send(effect.to, Blocks((found[0],), None)))

    def _serve_payload(self, effect: ServePayload) -> None:
        payload = self.disk.payloads.get(effect.digest)
        if payload is not None:
            self._send(Send(effect.to, Payload(payload)))

    def _serve_range(self, effect: ServeRange) -> None:
        blocks = self.disk.all_blocks()[effect.from_height - 1 :][: effect.limit]
        while blocks and blocks[-1].certificate is None:
            blocks.pop()
        if blocks:
            self._send(Send(effect.to, Blocks(tuple(block.header for block in blocks), blocks[-1].certificate)))

    def _epoch_begun(self, effect: EpochBegun) -> None:
        self.chain.oracle.on_epoch(self, effect.epoch)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        epochs = self.chain.application.epochs_after(self.state)
        if self._signer_in(epochs).public_key != self.signer.public_key:
            self.step_down = True
        self._later(self._epoch_known, epochs[1])

    def _epoch_known(self, incarnation: int, known: EpochConfig) -> None:
        self.answer(incarnation, EpochKnown(known), f"epoch-known:{known.epoch}")

    def _peer_fault(self, effect: PeerFault) -> None:
        self.chain.oracle.on_fault(self, effect)

    def _later(self, handler: Callable[..., None], *arguments: object) -> None:
        """After the time that disk and application take."""
        delay_ns = self.chain.application_delay_ns()
        self.chain.world.after(delay_ns, handler, self.incarnation, *arguments)

    # What the host tells of its own accord.

    def connected(self, peer: bytes) -> None:
        """A peer is reachable again."""
        if self.core is not None and not self.frozen:
            self.run(PeerConnected(peer), "connected")

    def work(self, waiting: bool) -> None:
        """Whether transactions wait."""
        if self.core is not None and not self.frozen:
            self.run(WorkWaiting(waiting), f"work:{waiting}")

    def is_recovered(self) -> bool:
        """Whether a damaged node votes again, has what it had, and will not abstain in the next epoch either."""
        core = self.core
        if core is None or not core.status.may_vote or self.height < self.recover_height:
            return False
        return core._state.rejoin_nonce is None or not core._state.rejoin_next_too
