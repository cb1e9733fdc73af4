"""Dispatch instructions, and when a device obeys one.

A region's chain emits one `dispatch` event an interval: a root over the instructions of all resources. An order is the
proof that this event is final, which a shard verifies once, and for each resource its instruction with the way to the
root, which each device verifies for itself. A device then obeys if the instruction is for the coming interval and
within what it offered, and it has not obeyed one for this interval before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.signing import Scheme
from coordinator.ledger.boundary import decode_boundary, follow
from coordinator.ledger.codec import Reader
from coordinator.ledger.errors import ProofRefused
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.history import verify_inclusion
from coordinator.ledger.merkle import HASH_SIZE, MerkleTree, OpeningError, leaf_hash
from coordinator.ledger.proofs import decode_event_proof, verify_event
from coordinator.settlement.interval.region import DISPATCH_EVENT
from coordinator.settlement.interval.schedules import Scheduled, instructions
from coordinator.settlement.interval.topics import Interval, read_interval


class Reason(StrEnum):
    """Why an instruction is not obeyed."""

    NOT_FINAL = "not_final"
    """The proof is malformed, of another chain, or does not show a final dispatch event."""
    NOT_IN_ROOT = "not_in_root"
    """The instruction is not one of those under the event's root: it was altered, or is of another order."""
    REPLAYED = "replayed"
    """An instruction for this interval was obeyed before."""
    EXPIRED = "expired"
    """The interval is over."""
    EARLY = "early"
    """Another interval comes first."""
    BEYOND_OFFER = "beyond_offer"
    """The power was not offered."""
    UNKNOWN = "unknown"
    """No such resource in this fleet."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource's devices keep what they had, and why."""

    resource: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """A leaf under a dispatch event's root, and the way there: `place` of the leaf and the hashes beside its path."""

    resource: str
    place: int
    leaf: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class DispatchOrder:
    """`proof` is an `EventProof`; `boundaries` are those of the region's chain from genesis to the proof's epoch."""

    proof: bytes
    boundaries: tuple[bytes, ...]
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What a final dispatch event says: interval, root over instructions, and their number."""

    interval: Interval
    root: bytes
    count: int


class InstructionRefused(Exception):
    """An instruction that a device does not obey."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def make_order(
    proof: bytes, boundaries: Sequence[bytes], interval: Interval, rows: Sequence[Scheduled], resources: Iterable[str]
) -> DispatchOrder:
    """An order for some resources of a region. `rows` are all rows of the schedule, in its order."""
    leaves = list(instructions(interval, rows))
    tree = MerkleTree([leaf_hash(leaf) for leaf in leaves])
    place_of = {row.resource: place for place, row in enumerate(rows)}
    chosen = [(name, place_of[name]) for name in resources if name in place_of]
    found = (Instruction(name, place, leaves[place], tuple(tree.open([place]))) for name, place in chosen)
    return DispatchOrder(proof, tuple(boundaries), tuple(found))


def verified_dispatch(order: DispatchOrder, genesis: Genesis, scheme: Scheme) -> Dispatch:
    """What the order's proof shows to whoever trusts the genesis. Raises InstructionRefused."""
    try:
        client = follow(genesis, map(decode_boundary, order.boundaries), scheme)
        event = verify_event(decode_event_proof(order.proof), client.validators, scheme).event
        if event.kind != DISPATCH_EVENT:
            raise ProofRefused(f"event: {event.kind!r} is no dispatch")
        reader = Reader(event.payload)
        dispatch = Dispatch(read_interval(reader), reader.raw(HASH_SIZE), reader.uint32())
        reader.end()
    except (ProofRefused, DecodeError) as error:
        raise InstructionRefused(Reason.NOT_FINAL, str(error)) from None
    return dispatch


def verified_power_w(instruction: Instruction, dispatch: Dispatch) -> int:
    """The power that a resource is told, by an instruction under the event's root. Raises InstructionRefused."""
    try:
        verify_inclusion(dispatch.root, dispatch.count, instruction.place, instruction.leaf, instruction.path)
        reader = Reader(instruction.leaf)
        interval, resource, power_w = read_interval(reader), reader.text(), reader.int64()
        reader.int64()
        reader.end()
    except (OpeningError, DecodeError) as error:
        raise InstructionRefused(Reason.NOT_IN_ROOT, str(error)) from None
    if interval != dispatch.interval or resource != instruction.resource:
        raise InstructionRefused(Reason.NOT_IN_ROOT, f"the leaf tells {resource} what to do at {interval.start_s} s")
    return power_w


def check_due(interval: Interval, coming: Interval | None, obeyed_s: int) -> None:
    """Raise InstructionRefused unless a device has this interval before it and obeyed none for it yet.

    `coming` is the next interval by the device's clock, None when there is none; `obeyed_s` the start of the last
    one in which it obeyed.
    """
    if interval.start_s <= obeyed_s:
        raise InstructionRefused(Reason.REPLAYED, f"the interval at {obeyed_s} s was instructed before")
    if coming is None or interval.start_s < coming.start_s:
        raise InstructionRefused(Reason.EXPIRED, f"the interval at {interval.start_s} s is over")
    if interval != coming:
        raise InstructionRefused(Reason.EARLY, f"the interval at {coming.start_s} s comes first")


def refusals(order: DispatchOrder, error: InstructionRefused) -> list[Refusal]:
    """Of an order as a whole: one for each resource that it names."""
    return [Refusal(row.resource, error.reason, str(error)) for row in order.instructions]
