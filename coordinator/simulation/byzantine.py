"""Byzantine validators: each runs the honest core over the real traffic, and twists what the core sends.

They share what they see (`Cabal`), hold their own keys only, and never more than f of them sit on a chain. Styles are
mixed by the seed; each message meets each of its node's styles with a probability of a half.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordinator.consensus import messages
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import (
    Broadcast,
    Build,
    Deliver,
    EpochBegun,
    PeerFault,
    Persist,
    Send,
    SendPayload,
)
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header
from coordinator.consensus.messages import Blocks, GetPayload, Message, Payload, Proposal, Vote, Want
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.simulation.application import ChainState
from coordinator.simulation.disk import StoredBlock
from coordinator.simulation.node import Node
from coordinator.simulation.options import DELTA_NS, Style

if TYPE_CHECKING:
    from coordinator.simulation.chain import Chain

_REMEMBERED_VIEWS = 64
_REMEMBERED_MESSAGES = 64
_FLOOD = 150
_ZERO = bytes(32)
Value = tuple[int, bytes]


class Cabal:
    """What the Byzantine nodes of a chain know together: the values proposed or voted on in recent views."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, int], dict[Value, None]] = {}
        self.recent: list[Message] = []

    def see(self, message: Message) -> tuple[int, int, Value] | None:
        """Remember a message; gives epoch, view and value if the value is new."""
        self.recent.append(message)
        if len(self.recent) > _REMEMBERED_MESSAGES:
            del self.recent[0]
        if not isinstance(message, Proposal | Vote) or message.value == (0, _ZERO):
            return None
        key = (message.epoch, message.view)
        values = self.values.setdefault(key, {})
        if len(self.values) > _REMEMBERED_VIEWS:
            del self.values[next(iter(self.values))]
        if message.value in values:
            return None
        values[message.value] = None
        return (*key, message.value)


class UnwatchedNode(Node):
    """A node that counts as Byzantine: no oracle looks at what it does. It follows the protocol nevertheless."""

    @property
    def is_honest(self) -> bool:
        """Not to the oracles."""
        return False

    def _persist(self, effect: Persist) -> None:
        self.disk.append(effect.record)

    def _peer_fault(self, effect: PeerFault) -> None:
        """Liars accuse nobody."""

    def _deliver(self, effect: Deliver) -> None:
        header = effect.header
        payload = self.disk.payloads[header.payload_digest]
        after = self.executed.get(header.digest) or self.chain.application.execute(self.state, header, payload)
        assert after is not None, "what is final is valid"
        self.disk.append(StoredBlock(header, effect.certificate))
        self.state = after
        self.executed[header.digest] = after

    def _epoch_begun(self, effect: EpochBegun) -> None:
        self._begin_epoch()

    def _broadcast(self, effect: Broadcast) -> None:
        self.chain.transmit(self, effect.recipients, effect.message)

    def _send(self, effect: Send) -> None:
        self.chain.transmit(self, (effect.to,), effect.message)

    def _send_payload(self, effect: SendPayload) -> None:
        self.chain.transmit(self, effect.recipients, Payload(effect.payload))


class ByzantineNode(UnwatchedNode):
    """A node of a chain's cabal."""

    def __init__(self, chain: Chain, number: int, styles: tuple[Style, ...], cabal: Cabal) -> None:
        super().__init__(chain, number)
        self._styles = styles
        self._cabal = cabal

    def _does(self, style: Style) -> bool:
        return style in self._styles and self.chain.world.rng.random() < 0.5

    def receive(self, sender: bytes, message: Message, label: str) -> None:
        """Take a message in, and react to a value that is new to the cabal."""
        seen = self._cabal.see(message)
        super().receive(sender, message, label)
        if seen is None or self.core is None or self.frozen:
            return
        if self._does(Style.AMPLIFY):
            self._vote_for_everything(*seen)
        if isinstance(message, Proposal) and self._does(Style.USURP):
            for rival in self._rival(message):
                self._release(self._peers(), rival)

    def build(self, parent: ChainState, template: Build) -> Any:
        """A block, valid or not."""
        if self._does(Style.INVALID):
            return self.chain.application.build_invalid(parent, template)
        return super().build(parent, template)

    # What it sends.

    def _broadcast(self, effect: Broadcast) -> None:
        self._twist(effect.recipients, effect.message)

    def _send(self, effect: Send) -> None:
        self._twist((effect.to,), effect.message)

    def _send_payload(self, effect: SendPayload) -> None:
        if not self._does(Style.WITHHOLD):
            self._twist(effect.recipients, Payload(effect.payload))

    def _twist(self, recipients: tuple[bytes, ...], message: Message) -> None:
        if Style.SILENT in self._styles:
            return
        rng = self.chain.world.rng
        if self._does(Style.MINORITY):
            recipients = tuple(rng.sample(recipients, min(len(recipients), self.chain.options.max_faulty)))
        extra_ns = int(rng.random() * 8 * DELTA_NS) if self._does(Style.LATE) else 0
        if isinstance(message, Proposal):
            self._propose(recipients, message, extra_ns)
            return
        if isinstance(message, Vote) and self._does(Style.AMPLIFY):
            self._vote_for_everything(message.epoch, message.view, message.value)
        if self._does(Style.WITHHOLD) and not isinstance(message, Vote):
            return
        self._release(recipients, message, extra_ns)
        if self._does(Style.REPLAY) and self._cabal.recent:
            self._release(recipients, rng.choice(self._cabal.recent), extra_ns)
        if self._does(Style.GARBAGE):
            self._release(recipients, self._garbage(message), extra_ns)
        if self._does(Style.FLOOD) and rng.random() < 0.1:
            self._flood(recipients)

    def _release(self, recipients: tuple[bytes, ...], message: Message | None, extra_ns: int = 0) -> None:
        if message is not None:
            self.chain.transmit(self, recipients, message, extra_ns)

    def _sign(self, kind: VoteKind, epoch: int, view: int, value: Value) -> bytes:
        return self.signer.sign(vote_bytes(kind, self.chain.application.chain_id, epoch, view, *value))

    def _vote_for_everything(self, epoch: int, view: int, value: Value) -> None:
        """All kinds of votes for all values seen in a view, to a part of the peers each."""
        rng = self.chain.world.rng
        values = list(self._cabal.values.get((epoch, view), {value: None}))
        votes = [
            Vote(kind, epoch, view, *voted, self._sign(kind, epoch, view, voted))
            for voted in values
            for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE)
            if voted != (0, _ZERO)
        ]
        nullify = (0, _ZERO)
        votes.append(Vote(VoteKind.NULLIFY, epoch, view, *nullify, self._sign(VoteKind.NULLIFY, epoch, view, nullify)))
        for vote in votes:
            chosen = tuple(peer for peer in self._peers() if rng.random() < 0.7)
            self._release(chosen, vote)

    def _propose(self, recipients: tuple[bytes, ...], proposal: Proposal, extra_ns: int) -> None:
        """The core's proposal, another one for a part of the peers, or one on an older parent."""
        rng = self.chain.world.rng
        others: list[Proposal] = []
        if self._does(Style.STALE):
            others += self._on_older_parent(proposal)
        if self._does(Style.EQUIVOCATE):
            others += self._rival(proposal)
        if not others:
            self._release(recipients, proposal, extra_ns)
            return
        for recipient in recipients:
            choice = rng.choice((proposal, *others))
            self._release((recipient,), choice, extra_ns)
            if rng.random() < 0.3:
                self._release((recipient,), rng.choice((proposal, *others)), extra_ns)

    def _rival(self, proposal: Proposal) -> list[Proposal]:
        """Another block on the same parent."""
        parent = self.chain.application.state(proposal.header.parent_digest)
        if parent is None or proposal.header.height == proposal.parent_view:
            return []
        return self._on(parent, proposal, proposal.parent_view, b"rival")

    def _on_older_parent(self, proposal: Proposal) -> list[Proposal]:
        """A block on what was notarized in an earlier view than the parent's, as if the views between were skipped."""
        core = self.core
        if core is None:
            return []
        state = core._state
        older = [(view, state.rounds[view].notarization) for view in sorted(state.rounds) if view < proposal.view]
        found: list[tuple[int, bytes]] = [(view, one.digest) for view, one in older if one is not None]
        if state.final_digest is not None:
            found.append((state.final_view, state.final_digest))
        if not found:
            return []
        view, digest = self.chain.world.rng.choice(found)
        parent = self.chain.application.state(digest)
        return [] if parent is None else self._on(parent, proposal, view, b"stale")

    def _on(self, parent: ChainState, proposal: Proposal, parent_view: int, note: bytes) -> list[Proposal]:
        length = self.chain.application.length
        epoch = proposal.epoch
        if parent.header.height // length != epoch:
            return []
        current, _ = self.chain.application.epochs_after(parent)
        time_ms = max(parent.header.time_ms + 1, proposal.header.time_ms)
        if self.chain.world.rng.random() < 0.2:
            time_ms = parent.header.time_ms
        template = Build(
            proposal.view,
            parent.header,
            proposal.header.version,
            epoch,
            parent.header.height + 1,
            time_ms,
            current.validators.root,
        )
        operations = (note,) if self.chain.operations is None else self.chain.operations(self, parent)[1:]
        header, payload = self.chain.application.build(parent, template, operations)
        if header.digest == proposal.header.digest:
            return []
        self._keep(parent, header, payload)
        signature = self._sign(VoteKind.NOTARIZE, epoch, proposal.view, (parent_view, header.digest))
        return [replace(proposal, parent_view=parent_view, header=header, signature=signature)]

    def _keep(self, parent: ChainState, header: Header, payload: bytes) -> None:
        """Execute and store an own block, and spread its payload."""
        after = self.chain.application.execute(parent, header, payload)
        if after is not None:
            self.executed[header.digest] = after
        self.disk.payloads[header.payload_digest] = payload
        self._release(self._peers(), Payload(payload))

    def _peers(self) -> tuple[bytes, ...]:
        return tuple(node.signer.public_key for node in self.chain.nodes if node is not self)

    def _flood(self, recipients: tuple[bytes, ...]) -> None:
        """Requests without end, and votes for views far ahead."""
        if self.core is None:
            return
        epoch, view = self.position
        for number in range(_FLOOD):
            self._release(recipients, Want(epoch, max(1, view - 1)))
            self._release(recipients, GetPayload(self.state.header.payload_digest))
            value = (view + number, self.state.header.digest)
            signature = self._sign(VoteKind.NOTARIZE, epoch, view + number + 1, value)
            self._release(recipients, Vote(VoteKind.NOTARIZE, epoch, view + number + 1, *value, signature))

    def _garbage(self, message: Message) -> Message | None:
        """The message with something wrong: a signature, a signer, an epoch, or a byte of its encoding."""
        rng = self.chain.world.rng
        choice = rng.randrange(5)
        if isinstance(message, Blocks) and len(message.headers) > 2:
            return replace(message, headers=message.headers[1:-2] + message.headers[-1:])
        if choice == 0 and isinstance(message, Vote):
            return replace(message, signature=bytes(64))
        if choice == 1 and isinstance(message, Certificate):
            return replace(message, signers=message.signers[1:], signatures=message.signatures[1:])
        if choice == 2 and isinstance(message, Certificate):
            return replace(message, signatures=(bytes(64), *message.signatures[1:]))
        if choice == 3 and isinstance(message, Vote | Certificate):
            return replace(message, epoch=message.epoch + rng.choice((-1, 1)) if message.epoch else 1)
        return _mangled(messages.encode(message), rng.randrange(1 << 30))


def _mangled(data: bytes, draw: int) -> Message | None:
    """What one changed byte decodes to, if it decodes."""
    changed = bytearray(data)
    changed[draw % len(changed)] ^= 1 + draw % 255
    try:
        return messages.decode(bytes(changed))
    except (DecodeError, ValueError):
        return None
