"""The consensus core: one validator as a pure state machine, `step(now_ns, input) -> effects`."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.consensus import (
    boundary,
    certify,
    finalize,
    journaled,
    notarize,
    nullify,
    propose,
    rejoin,
    repair,
    standstill,
    voting,
)
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.config import Config
from coordinator.consensus.effects import Effect, EpochBegun, Timer, TimerKind
from coordinator.consensus.errors import LocalMisuse
from coordinator.consensus.header import Header
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
from coordinator.consensus.journal import Record
from coordinator.consensus.messages import (
    Blocks,
    GetBlock,
    GetPayload,
    GetRange,
    Hello,
    Message,
    Payload,
    Proposal,
    ViewReply,
    ViewRequest,
    Vote,
    Want,
)
from coordinator.consensus.signing import Scheme, Signer
from coordinator.consensus.state import Anchor, State


@dataclass(frozen=True, slots=True)
class Status:
    """Where a validator stands, for metrics and health. `may_vote` is False after lost records until it is safe."""

    epoch: int
    view: int
    final_view: int
    delivered: Header
    leader: bytes
    may_vote: bool
    views_without_finality: int


class Core:
    """One validator. Not thread-safe; knows no clock, no network and no disk.

    `now_ns` is UTC in ns as the host reads it, and must never go back. The anchor is where the host's block store ends.
    Order of inputs: at most one Recovered, one Start, then anything.
    """

    def __init__(self, config: Config, signer: Signer, scheme: Scheme, anchor: Anchor) -> None:
        self._state = State(config, signer, scheme, anchor)
        boundary.check_version(self._state, self._state.epochs[self._state.epoch])
        self._recovered = False
        self._started = False

    @property
    def status(self) -> Status:
        """Where this validator stands."""
        state = self._state
        return Status(
            state.epoch,
            state.view,
            state.final_view,
            state.delivered,
            state.validators.leader_key(state.view),
            not rejoin.is_unsure(state),
            max(0, state.view - state.final_view - 1),
        )

    @property
    def payloads_in_use(self) -> tuple[bytes, ...]:
        """Digests of payloads that this validator counts on: a host must not forget them, however old they are."""
        state = self._state
        of_blocks = (block.header.payload_digest for block in state.blocks.values() if block.stored)
        return tuple(dict.fromkeys((*state.stored_payloads, *of_blocks)))

    def checkpoint(self) -> tuple[Record, ...]:
        """A short journal that may take the place of the old one, for a host that has carried all effects out."""
        return journaled.checkpoint(self._state)

    def step(self, now_ns: int, event: Input) -> tuple[Effect, ...]:
        """Take one input; the effects are to be carried out in order, as `effects` says."""
        state = self._state
        if now_ns < state.now_ns:
            raise LocalMisuse(f"the time went back from {state.now_ns} to {now_ns} ns; give a time that never does")
        state.now_ns = now_ns
        if isinstance(event, Received):
            self._check_started(event)
            receive(state, event.sender, event.message)
        else:
            self._local(event)
        if self._started:
            progress(state)
        effects = tuple(state.out)
        state.out = []
        return effects

    def _check_started(self, event: Input) -> None:
        if not self._started:
            raise LocalMisuse(f"{type(event).__name__} before Start; replay the journal and start first")

    def _local(self, event: Input) -> None:
        state = self._state
        if isinstance(event, Recovered):
            self._recover(event)
            return
        if isinstance(event, Start):
            self._start(event)
            return
        self._check_started(event)
        if isinstance(event, TimerFired):
            on_timer(state, event.timer)
        elif isinstance(event, PayloadStored):
            certify.on_payload_stored(state, event)
        elif isinstance(event, Certified):
            certify.on_certified(state, event)
        elif isinstance(event, Built):
            propose.on_built(state, event)
        elif isinstance(event, BuildFailed):
            propose.on_build_failed(state, event.view)
        elif isinstance(event, WorkWaiting):
            state.dirty = state.dirty or event.waiting
            state.work_waiting = event.waiting
        elif isinstance(event, EpochKnown):
            boundary.on_epoch_known(state, event.config)
        else:
            assert isinstance(event, PeerConnected)
            repair.greet(state, event.peer)

    def _recover(self, event: Recovered) -> None:
        if self._started or self._recovered:
            raise LocalMisuse("Recovered comes once, before Start")
        self._recovered = True
        journaled.replay(self._state, event.records)

    def _start(self, event: Start) -> None:
        state = self._state
        if self._started:
            raise LocalMisuse("Start comes once")
        self._started = True
        state.heard_at_ns = [state.now_ns] * state.validators.size
        state.final_at_ns = state.now_ns
        state.out.append(EpochBegun(state.epoch))
        if event.rejoin_nonce is not None:
            rejoin.begin(state, event.rejoin_nonce)
        elif state.floor == rejoin.NEVER:
            rejoin.resume(state)
        boundary.begin(state)
        state.broadcast(repair.own_hello(state))
        if self._recovered:
            progress(state)
            standstill.cast_everything(state)


def receive(state: State, sender: bytes, message: Message) -> None:
    """A message from an authenticated peer."""
    if isinstance(message, Vote):
        voting.on_vote(state, sender, message)
    elif isinstance(message, Proposal):
        notarize.on_proposal(state, sender, message)
        progress(state)
        notarize.keep_proposal(state, sender, message)
    elif isinstance(message, Certificate):
        if repair.is_this_epoch(state, sender, message.epoch):
            voting.accept_certificate(state, sender, message)
    elif isinstance(message, Payload):
        notarize.on_payload(state, sender, message)
    elif isinstance(message, Want):
        repair.on_want(state, sender, message)
    elif isinstance(message, GetBlock):
        repair.on_get_block(state, sender, message)
    elif isinstance(message, GetPayload):
        repair.on_get_payload(state, sender, message)
    elif isinstance(message, GetRange):
        repair.on_get_range(state, sender, message)
    elif isinstance(message, Blocks):
        finalize.on_blocks(state, sender, message)
    elif isinstance(message, Hello):
        repair.on_hello(state, sender, message)
    elif isinstance(message, ViewRequest):
        rejoin.on_view_request(state, sender, message)
    else:
        assert isinstance(message, ViewReply)
        rejoin.on_view_reply(state, sender, message)


def on_timer(state: State, timer: Timer) -> None:
    """A timer of this epoch; those of views left behind are ignored by their rules."""
    if timer.epoch != state.epoch:
        return
    if timer.kind is TimerKind.STANDSTILL:
        standstill.on_standstill_timer(state)
    elif timer.kind is TimerKind.REPAIR:
        repair.on_repair_timer(state)
    elif timer.kind is TimerKind.PACING:
        state.dirty = state.dirty or timer.view == state.view
    elif timer.kind is TimerKind.NUDGE:
        repair.nudge_leader(state, timer.view)
    elif timer.kind is TimerKind.RETRY:
        nullify.on_retry(state, timer)
    else:
        nullify.on_timeout(state, timer)


def progress(state: State) -> None:
    """Apply the rules until none of them changes anything."""
    while state.dirty:
        state.dirty = False
        while state.formed:
            finalize.apply_certificate(state, state.formed.popleft())
        certify.advance_notarized(state)
        nullify.follow_leader(state)
        propose.try_propose(state)
        notarize.try_notarize(state)
        finalize.extend_chain(state)
        finalize.deliver(state)
        boundary.try_begin_epoch(state)
        rejoin.ask_views(state)
