"""What the host tells the core. Peers are named by public key, as the transport authenticated them."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.consensus.effects import Timer
from coordinator.consensus.epochs import EpochConfig
from coordinator.consensus.header import Header
from coordinator.consensus.journal import Record
from coordinator.consensus.messages import Message


@dataclass(frozen=True, slots=True)
class Recovered:
    """The journal's records in order, once, before Start. Nothing else is accepted between the two (P15)."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """Begin, after Recovered if the node has run before.

    `rejoin_nonce` is not None if the journal may have lost records (a restored backup is such a loss): a fresh random
    number, by which answers to this start are told from older ones. The node then follows, but votes only above every
    view that it may have voted in. It goes on with that by itself if it is restarted before it is done.
    """

    rejoin_nonce: int | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A message from an authenticated peer, decoded by `messages.decode`."""

    sender: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set by SetTimer is due."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Built:
    """Answer to Build."""

    view: int
    header: Header
    payload: bytes


@dataclass(frozen=True, slots=True)
class BuildFailed:
    """Answer to Build: the application cannot."""

    view: int


@dataclass(frozen=True, slots=True)
class PayloadStored:
    """Answer to StorePayload: the bytes are durable."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """Answer to Certify; final."""

    digest: bytes
    ok: bool


@dataclass(frozen=True, slots=True)
class WorkWaiting:
    """Whether the application has transactions to put into a block; without, a leader waits for the heartbeat."""

    waiting: bool


@dataclass(frozen=True, slots=True)
class EpochKnown:
    """The validators and protocol version of a coming epoch, from finalized application data, one epoch ahead."""

    config: EpochConfig


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A peer is reachable (again)."""

    peer: bytes


Input = (
    Recovered
    | Start
    | Received
    | TimerFired
    | Built
    | BuildFailed
    | PayloadStored
    | Certified
    | WorkWaiting
    | EpochKnown
    | PeerConnected
)
