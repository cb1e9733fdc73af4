"""The oracles of one chain: what must hold after every event, stated without the product's rules and arithmetic.

Votes of honest nodes are noted when they are written and when they become durable or leave, over all restarts. A
certificate counts only if honest nodes and liars together can have signed it; a notarize vote only if the parent can
have been notarized and every skipped view nullified; a delivered block only if a finalization at or above it exists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import PeerFault
from coordinator.consensus.header import Header
from coordinator.consensus.journal import CertificateRecord, Record, VoteRecord
from coordinator.consensus.messages import (
    Blocks,
    GetBlock,
    GetPayload,
    GetRange,
    Message,
    Proposal,
    ViewReply,
    Vote,
    Want,
)
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.simulation.application import ChainState, Seats
from coordinator.simulation.errors import SafetyFailure
from coordinator.simulation.options import DELTA_NS

if TYPE_CHECKING:
    from coordinator.simulation.application import Application
    from coordinator.simulation.node import Node

Value = tuple[int, bytes]
EGRESS_PER_VIEW = 64
EGRESS_PER_DELTA = 96
REQUESTS_PER_DELTA = 4
SENDS_PER_DELTA = 160
_REQUESTS = 512
_BLOCKS = 2048


def require(holds: bool, what: str) -> None:
    """SafetyFailure unless it holds."""
    if not holds:
        raise SafetyFailure(what)


@dataclass(slots=True)
class Cast:
    """What one honest node voted in one view, over all its lives."""

    notarize: Value | None = None
    nullify: bool = False
    finalize: Value | None = None


@dataclass(slots=True)
class Ballots:
    """Honest nodes by what they wrote in one view."""

    notarize: dict[Value, list[int]] = field(default_factory=dict)
    nullify: list[int] = field(default_factory=list)
    finalize: dict[Value, list[int]] = field(default_factory=dict)

    def of(self, kind: VoteKind, value: Value) -> list[int]:
        """Who wrote this vote."""
        if kind is VoteKind.NULLIFY:
            return self.nullify
        table = self.notarize if kind is VoteKind.NOTARIZE else self.finalize
        return table.setdefault(value, [])


@dataclass(frozen=True, slots=True)
class Members:
    """An epoch's validators, with the arithmetic restated: a quorum is more than two thirds."""

    epoch: int
    keys: tuple[bytes, ...]
    nodes: tuple[int, ...]
    liars: int
    root: bytes

    @property
    def quorum(self) -> int:
        """The least number that is more than two thirds."""
        return 2 * len(self.keys) // 3 + 1

    def leader(self, view: int) -> bytes:
        """Views and epochs take turns."""
        return self.keys[(self.epoch + view) % len(self.keys)]


class Oracle:
    """Watches one chain."""

    def __init__(self, application: Application, liars: tuple[int, ...], strict_bounds: bool = True) -> None:
        self._application = application
        self._liars = liars
        self._strict_bounds = strict_bounds
        genesis = application.genesis
        self._members: dict[int, Members] = {}
        self._learn(0, genesis.registry.current)
        self._learn(1, genesis.registry.coming)
        self._headers: dict[bytes, Header] = {genesis.header.digest: genesis.header}
        self._ballots: dict[tuple[int, int], Ballots] = {}
        self._proposed: dict[tuple[int, int], dict[Value, None]] = {}
        """What the leader of a view proposed in it."""
        self.votes: dict[tuple[int, int, int], Cast] = {}
        """Of honest nodes, by epoch, view and node."""
        self._certificates: dict[tuple[int, int], dict[VoteKind, Value]] = {}
        self._checked: dict[tuple[VoteKind, int, int, int, bytes, tuple[int, ...]], tuple[bytes, ...]] = {}
        self.finalized: list[Header] = [genesis.header]
        """The one history, by height."""
        self.finalizations: dict[int, Certificate] = {}
        self.states: list[ChainState] = [genesis]
        self._covered_height = 0
        self._to_cover = 0
        self.highest_view: dict[int, int] = {}
        self.highest_egress = 0
        self._paced: dict[tuple[int, int, object], tuple[int, int]] = {}
        self._egress: dict[int, tuple[int, int, int, int]] = {}
        self.accused: dict[str, int] = {}

    def _learn(self, epoch: int, seats: Seats) -> None:
        config = self._application.epoch_config(epoch, seats)
        nodes = tuple(node for node, _ in seats)
        keys = tuple(self._application.signer(*seat).public_key for seat in seats)
        liars = sum(node in self._liars for node in nodes)
        self._members[epoch] = Members(epoch, keys, nodes, liars, config.validators.root)

    def members(self, epoch: int) -> Members:
        """An epoch's validators as the finalized chain announced them."""
        found = self._members.get(epoch)
        require(found is not None, f"epoch {epoch} is in use and its validators were never announced")
        assert found is not None, "required above"
        return found

    # Votes.

    def on_record(self, node: Node, record: Record) -> None:
        """A node writes a record, which is not durable yet."""
        if isinstance(record, VoteRecord):
            ballots = self._ballots.setdefault((record.epoch, record.view), Ballots())
            voters = ballots.of(record.kind, (record.parent_view, record.digest))
            if node.number not in voters:
                voters.append(node.number)
        elif isinstance(record, CertificateRecord):
            self.on_certificate(record.certificate)

    def on_cast(self, node: Node, vote: VoteRecord | Vote) -> None:
        """A vote is durable or leaves: from now on the node is bound by it, whatever happens to its memory."""
        key = (vote.epoch, vote.view, node.number)
        cast = self.votes.get(key)
        if cast is None:
            cast = self.votes[key] = Cast()
        value = (vote.parent_view, vote.digest)
        where = f"in view {vote.view} of epoch {vote.epoch}"
        if vote.kind is VoteKind.NOTARIZE:
            require(cast.notarize in (None, value), f"it voted notarize for two blocks {where}")
            if cast.notarize is None:
                require(not cast.nullify, f"it voted notarize after nullify {where}")
                leads = self.members(vote.epoch).leader(vote.view) == node.signer.public_key
                proposed = leads or value in self._proposed.get((vote.epoch, vote.view), ())
                require(proposed, f"it voted for a block {where} that its leader did not propose")
                self._check_ancestry(vote.epoch, vote.view, value)
                self._check_payload(node, vote.digest)
            cast.notarize = value
        elif vote.kind is VoteKind.FINALIZE:
            require(cast.finalize in (None, value), f"it voted finalize for two blocks {where}")
            require(not cast.nullify, f"it voted both nullify and finalize {where}")
            self._check_payload(node, vote.digest)
            cast.finalize = value
        else:
            require(cast.finalize is None, f"it voted both finalize and nullify {where}")
            cast.nullify = True

    def _check_payload(self, node: Node, digest: bytes) -> None:
        header = self._headers.get(digest)
        stored = header is not None and header.payload_digest in node.disk.payloads
        final = header is not None and header.height <= node.height
        require(stored or final, f"it voted for block {digest.hex()[:6]}, whose payload is not durable")

    def _possible(self, epoch: int, view: int, kind: VoteKind, value: Value) -> bool:
        """Whether a certificate can exist: honest votes written so far and all liars are a quorum."""
        ballots = self._ballots.get((epoch, view))
        members = self.members(epoch)
        honest = 0 if ballots is None else len(ballots.of(kind, value))
        return honest + members.liars >= members.quorum

    def _check_ancestry(self, epoch: int, view: int, value: Value) -> None:
        parent_view, digest = value
        header = self._headers.get(digest)
        require(header is not None, f"it voted for an unknown block in view {view}")
        assert header is not None, "required above"
        length = self._application.length
        for between in range(parent_view + 1, view):
            justified = self._possible(epoch, between, VoteKind.NULLIFY, (0, bytes(32)))
            require(justified, f"its vote in view {view} skips view {between}, which cannot have been nullified")
        parent = self._headers.get(header.parent_digest)
        later = parent is not None and header.time_ms > parent.time_ms and header.height == parent.height + 1
        require(later, f"its vote in view {view} is for a block that does not follow its parent in height and time")
        parents = (header.parent_digest, digest) if header.height % length == 0 else (header.parent_digest,)
        if parent_view == 0:
            first = self._headers.get(header.parent_digest)
            starts = first is not None and first.height == epoch * length
            require(starts, f"its vote in view {view} rests on view 0, and the block does not begin the epoch")
            return
        values = [voted for voted in self._ballots.get((epoch, parent_view), Ballots()).notarize if voted[1] in parents]
        justified = any(self._possible(epoch, parent_view, VoteKind.NOTARIZE, voted) for voted in values)
        require(justified, f"its vote in view {view} rests on a block that cannot be notarized in view {parent_view}")

    # Messages.

    def on_sent(self, node: Node, message: Message, recipients: tuple[bytes, ...]) -> None:
        """An honest node releases a message."""
        self._count_egress(node, len(recipients))
        if isinstance(message, Want | GetBlock | GetPayload | GetRange):
            self._pace((node.number, node.incarnation, message), REQUESTS_PER_DELTA, node)
        elif len(recipients) == 1:
            self._pace((node.number, node.incarnation, recipients[0]), SENDS_PER_DELTA, node)
        if isinstance(message, Vote):
            self.on_cast(node, message)
        elif isinstance(message, Proposal):
            self._on_proposal(node, message)
        elif isinstance(message, Certificate):
            self.on_certificate(message)
        elif isinstance(message, Blocks | ViewReply) and message.certificate is not None:
            self.on_certificate(message.certificate)

    def see_header(self, header: Header) -> None:
        """Anybody released a header."""
        self._headers[header.digest] = header

    def see_proposal(self, key: bytes, proposal: Proposal) -> None:
        """Anybody released a proposal."""
        self.see_header(proposal.header)
        members = self._members.get(proposal.epoch)
        if members is not None and members.leader(proposal.view) == key:
            self._proposed.setdefault((proposal.epoch, proposal.view), {})[proposal.value] = None

    def _on_proposal(self, node: Node, proposal: Proposal) -> None:
        members = self.members(proposal.epoch)
        leads = members.leader(proposal.view) == node.signer.public_key
        require(leads, f"it proposed in view {proposal.view}, which it does not lead")
        for certificate in proposal.justification:
            self.on_certificate(certificate)
        vote = Vote(
            VoteKind.NOTARIZE,
            proposal.epoch,
            proposal.view,
            proposal.parent_view,
            proposal.header.digest,
            proposal.signature,
        )
        self.see_proposal(node.signer.public_key, proposal)
        self.on_cast(node, vote)

    def on_certificate(self, certificate: Certificate) -> None:
        """An honest node holds or passes on a certificate: valid, signed by those who signed, unique in its view."""
        kind, epoch, view, value = certificate.kind, certificate.epoch, certificate.view, certificate.value
        key = (kind, epoch, view, *value, certificate.signers)
        if self._checked.get(key) == certificate.signatures:
            return
        self._check_signatures(certificate)
        self._checked[key] = certificate.signatures
        known = self._certificates.setdefault((epoch, view), {})
        where = f"view {view} of epoch {epoch}"
        require(known.setdefault(kind, value) == value, f"{where} has two {kind.name.lower()} certificates")
        both = VoteKind.NULLIFY in known and VoteKind.FINALIZE in known
        require(not both, f"{where} is both nullified and finalized")
        if kind is VoteKind.FINALIZE:
            notarized = self._possible(epoch, view, VoteKind.NOTARIZE, value)
            require(notarized, f"{where} is finalized, and its block cannot have been notarized in it")
            header = self._headers.get(certificate.digest)
            require(header is not None, f"{where} is finalized for an unknown block")
            assert header is not None, "required above"
            self._covered_height = max(self._covered_height, header.height)
            self.finalizations.setdefault(header.height, certificate)

    def _check_signatures(self, certificate: Certificate) -> None:
        members = self.members(certificate.epoch)
        signers = certificate.signers
        where = f"{certificate.kind.name.lower()} certificate of view {certificate.view}, epoch {certificate.epoch}"
        distinct = list(signers) == sorted(dict.fromkeys(signers)) and len(signers) == len(certificate.signatures)
        require(distinct and len(signers) >= members.quorum, f"a {where} has no quorum of distinct signers")
        fits = certificate.size == len(members.keys) and signers[-1] < len(members.keys)
        require(fits and certificate.chain_id == self._application.chain_id, f"a {where} is of other validators")
        fields = (certificate.kind, certificate.chain_id, certificate.epoch, certificate.view, *certificate.value)
        signed = vote_bytes(*fields)
        ballots = self._ballots.get((certificate.epoch, certificate.view), Ballots())
        voters = ballots.of(certificate.kind, certificate.value)
        for signer, signature in zip(signers, certificate.signatures, strict=True):
            valid = self._application.scheme.verify(members.keys[signer], signed, signature)
            require(valid, f"a {where} holds an invalid signature of validator {signer}")
            number = members.nodes[signer]
            require(number in self._liars or number in voters, f"a {where} holds a vote that node {number} never cast")

    def _count_egress(self, node: Node, copies: int) -> None:
        """Bounded egress: messages that a node sends while it is in one view."""
        status = node.position
        now_ns = node.chain.world.now_ns
        epoch, view, since_ns, count = self._egress.get(node.number, (-1, -1, 0, 0))
        if (epoch, view) != status:
            (epoch, view), since_ns, count = status, now_ns, 0
        count += copies
        self._egress[node.number] = (epoch, view, since_ns, count)
        peers = len(node.chain.nodes)
        most = peers * (EGRESS_PER_VIEW + EGRESS_PER_DELTA * (1 + (now_ns - since_ns) // DELTA_NS))
        self.highest_egress = max(self.highest_egress, count)
        require(count <= most, f"it sent {count} messages in view {view}, at most {most} are allowed")

    def _pace(self, key: tuple[int, int, object], most: int, node: Node) -> None:
        """Bounded rate: the same request, or messages to one peer, in one delta."""
        now_ns = node.chain.world.now_ns
        since_ns, count = self._paced.get(key, (now_ns, 0))
        if now_ns - since_ns >= DELTA_NS:
            since_ns, count = now_ns, 0
        self._paced[key] = (since_ns, count + 1)
        what = "the same request" if most == REQUESTS_PER_DELTA else "messages to one peer"
        require(count < most, f"it sent {what} more than {most} times in one delta")

    # Finality and epochs.

    def on_delivered(
        self, node: Node, header: Header, certificate: Certificate | None, after: ChainState | None
    ) -> None:
        """An honest node delivers a block."""
        height = header.height
        require(height == node.height + 1, f"it delivered height {height} after {node.height}")
        require(after is not None, f"it delivered block {height}, which is invalid")
        assert after is not None, "required above"
        if certificate is not None:
            of_block = certificate.digest == header.digest and certificate.kind is VoteKind.FINALIZE
            require(of_block, f"block {height} was delivered with the certificate of something else")
            self.see_header(header)
            self.on_certificate(certificate)
        if height == len(self.finalized):
            self._extend(header, certificate, after)
        require(self.finalized[height].digest == header.digest, f"agreement: two blocks of height {height} are final")
        length = self._application.length
        if height % length == 0:
            require(certificate is not None, f"boundary block {height} was delivered without its own finalization")
        self._to_cover = max(self._to_cover, height)

    def _extend(self, header: Header, certificate: Certificate | None, after: ChainState) -> None:
        height, length = header.height, self._application.length
        require(header.parent_digest == self.finalized[-1].digest, f"block {height} is final and its parent is not")
        require(header.time_ms > self.finalized[-1].time_ms, f"block {height} is not later than its parent")
        epoch = -(-height // length) - 1
        require(header.epoch == epoch, f"block {height} is of epoch {header.epoch}, it belongs to {epoch}")
        roots = (self.members(epoch).root, self.members(epoch + 1).root)
        stated = (header.validators_root, header.next_validators_root)
        require(roots == stated, f"block {height} commits to other validators than were announced")
        self._headers[header.digest] = header
        self.finalized.append(header)
        self.states.append(after)
        if height % length == 0:
            self._learn(epoch + 2, after.registry.coming)

    def on_epoch(self, node: Node, epoch: int) -> None:
        """An epoch begins on a node: only once the last block of the one before is delivered."""
        length = self._application.length
        require(node.height // length == epoch, f"epoch {epoch} began at height {node.height}")

    def on_fault(self, node: Node, fault: PeerFault) -> None:
        """A node accuses a peer: with evidence only a liar."""
        numbers = node.chain.numbers_of(fault.peer)
        honest = [number for number in numbers if number not in self._liars]
        if fault.evidence is not None:
            require(not honest, f"there is evidence against honest node {honest}")
        self.accused[fault.reason.split(":")[0]] = self.accused.get(fault.reason.split(":")[0], 0) + 1

    def after_step(self, node: Node, epoch: int, view: int) -> None:
        """What can only be judged once a step is whole."""
        if view > self.highest_view.get(epoch, 0):
            self.highest_view[epoch] = view
        covered = self._to_cover <= self._covered_height
        require(covered, f"block {self._to_cover} was delivered, and nothing at or above it has a finalization")
        if node.core is not None and self._strict_bounds:
            self._check_memory(node, epoch)

    def _check_memory(self, node: Node, epoch: int) -> None:
        """Bounded memory: views above finality, blocks above delivery, requests."""
        assert node.core is not None, "only a running node has memory"
        state = node.core._state
        most = self.highest_view.get(epoch, 0) - state.final_view + 4
        if state.epoch == epoch and len(state.rounds) > most:
            # What a replayed journal brings back below finality goes with the next finality.
            kept = sum(view > state.final_view for view in state.rounds)
            require(kept <= most, f"it keeps {kept} views above finality, at most {most} are needed")
        require(len(state.requests) <= _REQUESTS, f"it keeps {len(state.requests)} requests")
        require(len(state.blocks) <= _BLOCKS, f"it keeps {len(state.blocks)} blocks")
