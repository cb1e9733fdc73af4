"""What a validator holds in memory, bounded: views above the last final one, blocks above the last delivered one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.config import Config
from coordinator.consensus.effects import Broadcast, Effect, PeerFault, Persist, Send, SetTimer, Timer, TimerKind
from coordinator.consensus.epochs import EpochConfig, boundary_height
from coordinator.consensus.errors import LocalMisuse
from coordinator.consensus.evidence import Evidence
from coordinator.consensus.header import Header
from coordinator.consensus.journal import Record, VoteRecord
from coordinator.consensus.messages import Message
from coordinator.consensus.round import Round
from coordinator.consensus.signing import Scheme, Signer

STORED_PAYLOADS = 1024
"""Digests of stored payloads that are remembered; forgetting one costs a request."""


class Block:
    """A header above the last delivered block, and what is known of it."""

    __slots__ = ("asked", "header", "own", "stored", "verdict")

    def __init__(self, header: Header, stored: bool) -> None:
        self.header = header
        self.stored = stored
        self.verdict: bool | None = None
        self.asked = False
        """Certify has been asked for."""
        self.own = False
        """Built by this node's application, which need not be asked whether it is valid."""


@dataclass(slots=True)
class Request:
    """A repair request under way: when it may be sent again, and to how many peers it went."""

    next_at_ns: int
    interval_ns: int
    attempts: int


@dataclass(slots=True)
class Rejoin:
    """Under way after lost records: each peer's view, by the nonce of this start."""

    nonce: int
    views: dict[bytes, int]
    next_at_ns: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the host's block store ends: the last delivered block (or genesis), and the newest finalization it has.

    `epochs` are the configurations known to the application: that of the epoch in which the next block falls, and any
    later ones.
    """

    header: Header
    certificate: Certificate | None
    epochs: tuple[EpochConfig, ...]


class State:
    """One validator's memory. Rules are functions of it; they append to `out`, in the order of carrying out."""

    def __init__(self, config: Config, signer: Signer, scheme: Scheme, anchor: Anchor) -> None:
        self.config = config
        self.signer = signer
        self.scheme = scheme
        self.now_ns = 0
        self.out: list[Effect] = []
        self.dirty = False
        """Something changed that a rule may act on."""
        self.epochs: dict[int, EpochConfig] = {known.epoch: known for known in anchor.epochs}
        self.boundaries: dict[int, Certificate] = {}
        """Finalizations of the boundary blocks of the last epochs."""
        self.delivered = anchor.header
        self.work_waiting = False
        self.stored_payloads: dict[bytes, None] = {}
        self.rejoin: Rejoin | None = None
        self.rejoin_nonce: int | None = None
        """Of the start that found records lost; None if none are, or all that could be lost is settled."""
        self.rejoin_next_too = False
        self.coming_votes: list[VoteRecord] = []
        """Journaled votes of an epoch that this node has to enter again."""
        self.answers: dict[bytes, tuple[int, int]] = {}
        self.stale_answers: dict[bytes, int] = {}
        self.rotation = 0
        self.open_epoch(anchor.header.height // config.epoch_length)
        self._take_finalization(anchor)

    def open_epoch(self, epoch: int) -> None:
        """A clean slate on the last delivered block."""
        known = self.epochs.get(epoch)
        if known is None:
            raise LocalMisuse(f"the validators of epoch {epoch} are not known: give its EpochConfig with the anchor")
        self.epoch = epoch
        self.validators = known.validators
        self.version = known.version
        self.last_height = boundary_height(epoch, self.config.epoch_length)
        self.me = self.validators.index_of(self.signer.public_key)
        self.others = tuple(key for key in self.validators.public_keys if key != self.signer.public_key)
        self.set_recipients()
        self.rounds: dict[int, Round] = {}
        self.view = 0
        self.entered_at_ns = self.now_ns
        self.opened_at_ns = self.now_ns
        self.final_view = 0
        at_genesis = self.delivered.height == epoch * self.config.epoch_length
        self.final_digest: bytes | None = self.delivered.digest if at_genesis else None
        self.final_certificate: Certificate | None = None
        self.final_at_ns = self.now_ns
        self.floor = -1
        """This node may vote only once a view above this one is final: -1 unless records were lost."""
        self.blocks: dict[bytes, Block] = {}
        self.direct: dict[bytes, Certificate] = {}
        """Finalizations of blocks not delivered yet, by digest."""
        self.to_deliver: deque[Header] = deque()
        self.uncertified: dict[int, None] = {}
        """Views with a notarization whose block is not certified yet, in the order of the notarizations."""
        self.formed: deque[Certificate] = deque()
        self.requests: dict[tuple[str, bytes | int], Request] = {}
        self.repair_at_ns: int | None = None
        self.heard_at_ns = [self.now_ns] * self.validators.size
        self.standstills = 0
        self.standstill_view = 0

    def _take_finalization(self, anchor: Anchor) -> None:
        certificate = anchor.certificate
        if certificate is not None and certificate.epoch == self.epoch:
            self.final_view = certificate.view
            self.final_digest = certificate.digest
            self.final_certificate = certificate
        elif certificate is not None:
            self.boundaries[certificate.epoch] = certificate

    def set_recipients(self) -> None:
        """Broadcasts go to this epoch's validators and to the next one's, so that they are awake when it begins."""
        coming = self.epochs.get(self.epoch + 1)
        keys = dict.fromkeys(self.others)
        if coming is not None:
            keys.update(dict.fromkeys(coming.validators.public_keys))
        keys.pop(self.signer.public_key, None)
        self.recipients = tuple(keys)

    def round(self, view: int) -> Round:
        """The round of a view, made if there is none yet."""
        found = self.rounds.get(view)
        if found is None:
            found = self.rounds[view] = Round(view)
        return found

    @property
    def is_over(self) -> bool:
        """Whether the epoch's last block is delivered: nothing is proposed or voted on any more."""
        return self.delivered.height == self.last_height

    @property
    def delta_ns(self) -> int:
        """R11: the assumed network delay grows with each view since the last finality, and only finality resets it.

        TON's rule 6 (T0 * alpha^(views since last finality)); resetting on less than finality is what TON 4.2 calls a
        bug. Two views are open at any time in a healthy network, so these do not count.
        """
        deltas = self.config.deltas_ns
        since = views_without_finality(self)
        return deltas[min(since, len(deltas) - 1)]

    def header_of(self, digest: bytes) -> Header | None:
        """The header of the last delivered block or of one above it."""
        if digest == self.delivered.digest:
            return self.delivered
        block = self.blocks.get(digest)
        return None if block is None else block.header

    def add_block(self, header: Header) -> Block | None:
        """Keep a header; None if it is not above the last delivered block."""
        block = self.blocks.get(header.digest)
        if block is None and header.height > self.delivered.height:
            block = self.blocks[header.digest] = Block(header, header.payload_digest in self.stored_payloads)
            self.dirty = True
        return block

    # What rules append.

    def persist(self, record: Record) -> None:
        """Persist effect."""
        self.out.append(Persist(record))

    def broadcast(self, message: Message) -> None:
        """Broadcast effect to everybody concerned."""
        if self.recipients:
            self.out.append(Broadcast(message, self.recipients))

    def send(self, to: bytes, message: Message) -> None:
        """Send effect."""
        self.out.append(Send(to, message))

    def set_timer(self, kind: TimerKind, at_ns: int, view: int = 0) -> None:
        """SetTimer effect."""
        self.out.append(SetTimer(at_ns, Timer(kind, self.epoch, view)))

    def fault(self, peer: bytes, reason: str, evidence: Evidence | None = None) -> None:
        """PeerFault effect."""
        self.out.append(PeerFault(peer, reason, evidence))

    def keys_of(self, signers: Sequence[int]) -> tuple[bytes, ...]:
        """Public keys of validators by index, without this node's."""
        return tuple(self.validators.public_keys[i] for i in signers if i != self.me)


def views_without_finality(state: State) -> int:
    """Views since the last finality beyond the two that are open in a healthy network."""
    return max(0, state.view - state.final_view - 2)
