"""What the core asks of its host. Host duties are stated on each type and checked by `host.DurabilityCheck`.

A step's effects are carried out in order. One synchronisation may cover several `Persist` and `Deliver` effects, but
what the table calls *released* must wait for it:

    durable before the next released effect, and at the latest at the end of the step:  Persist, Deliver
    released (nothing may be dirty):      Broadcast, Send
    free (any time, in any order):        everything else
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.evidence import Evidence
from coordinator.consensus.header import Header
from coordinator.consensus.journal import Record
from coordinator.consensus.messages import Message


class TimerKind(enum.Enum):
    """What a timer is for."""

    NUDGE = "nudge"
    LEADER = "leader"
    ADVANCE = "advance"
    RETRY = "retry"
    STANDSTILL = "standstill"
    REPAIR = "repair"
    PACING = "pacing"


@dataclass(frozen=True, slots=True)
class Timer:
    """Handed back in TimerFired. Timers are never cancelled: the core ignores those that came too late."""

    kind: TimerKind
    epoch: int
    view: int


@dataclass(frozen=True, slots=True)
class Persist:
    """Append to the journal; durable before any later Broadcast or Send, and at the end of the step anyway (P6)."""

    record: Record


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every peer in `recipients` (public keys; the node itself is not among them). Nothing may be dirty."""

    message: Message
    recipients: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one peer (its public key). Nothing may be dirty."""

    to: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class SendPayload:
    """Spread the bytes of a payload that the application has just built. Needs nothing durable: it carries no vote."""

    payload: bytes
    recipients: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Give TimerFired(timer) back at or after `at_ns`."""

    at_ns: int
    timer: Timer


@dataclass(frozen=True, slots=True)
class StorePayload:
    """Store the bytes under their digest and answer PayloadStored(digest) once they are durable."""

    digest: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Build:
    """Ask the application, if this node still leads `view`, for a block on `parent`: answer Built or BuildFailed.

    The header must carry exactly this version, epoch, height, validators_root and parent digest and a time of at least
    `time_ms`; its other roots are the application's. The parent is certified or delivered.
    """

    view: int
    parent: Header
    version: int
    epoch: int
    height: int
    time_ms: int
    validators_root: bytes


@dataclass(frozen=True, slots=True)
class Certify:
    """Ask the application whether the block is valid: answer Certified(digest, ok). Its payload is durable already and
    its parent is certified or delivered.

    The answer is a function of the block and its ancestors alone and final: nothing may answer False for "not yet". It
    may be asked again after a restart, when the application has lost what it had executed.
    """

    header: Header


@dataclass(frozen=True, slots=True)
class Deliver:
    """The next finalized block, in order of height, exactly once per run; its payload is durable.

    `certificate` is the block's own finalization, or None if a descendant's certificate finalized it. Durable like
    Persist: after a restart the host's anchor is the last block delivered. A block need not have been certified by
    this node.
    """

    header: Header
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class ServeBlock:
    """Send Blocks((header,), None) of a stored finalized block to a peer, if there is one of this digest."""

    to: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class ServePayload:
    """Send Payload(bytes) of this payload digest to a peer, if it is stored."""

    to: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class ServeRange:
    """Send Blocks of delivered headers to a peer: at most `limit`, ascending from `from_height`, ending at the highest
    of them with a finalization of its own, which goes along. Nothing, if none of them has one.
    """

    to: bytes
    from_height: int
    limit: int


@dataclass(frozen=True, slots=True)
class EpochBegun:
    """Epoch `epoch` has begun: connect to its validators. The set of the epoch after it must be given (EpochKnown)
    before this epoch ends."""

    epoch: int


@dataclass(frozen=True, slots=True)
class PeerFault:
    """A peer did what no honest peer does. With evidence: provable to anybody, to be kept and put on the chain."""

    peer: bytes
    reason: str
    evidence: Evidence | None


Effect = (
    Persist
    | Broadcast
    | Send
    | SendPayload
    | SetTimer
    | StorePayload
    | Build
    | Certify
    | Deliver
    | ServeBlock
    | ServePayload
    | ServeRange
    | EpochBegun
    | PeerFault
)
