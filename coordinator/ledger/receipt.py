"""Receipts: what became of each transaction, and the events that others may prove.

Every block has one receipt a transaction, and a last one for what its end-of-block rules did. Validators make
them independently, so they have one byte form, which is the leaf of the block's receipts tree. Chain, height and
place stand in it: a receipt says by itself where it is from. `detail` is for people and not hashed.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import BYTES_MAX, Reader, Writer

HASH_SIZE = 32
END_OF_BLOCK = bytes(HASH_SIZE)
DONE = ""
EVENT_PAYLOAD_MAX = BYTES_MAX
EVENTS_MAX = 1024
"""Events of one transaction or end-of-block rule."""
_RECEIPT_EVENTS_MAX = 64 * EVENTS_MAX


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a kind, and bytes in the form that its maker defines."""

    kind: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """`code` is empty where the transaction was carried out, otherwise why not; then there are no events.

    `transaction` is its digest, 32 zero bytes for the end of the block.
    """

    chain_id: bytes
    height: int
    place: int
    transaction: bytes
    code: str
    events: tuple[Event, ...]
    detail: str = ""

    def encode(self) -> bytes:
        """The one byte form."""
        writer = Writer().raw(self.chain_id).uint64(self.height).uint32(self.place).raw(self.transaction)
        writer.text(self.code).uint32(len(self.events))
        for event in self.events:
            writer.text(event.kind).bytes(event.payload)
        return writer.encoded


def decode_receipt(data: bytes) -> Receipt:
    """Raises DecodeError for anything that `Receipt.encode` does not write."""
    reader = Reader(data)
    chain_id, height, place = reader.raw(HASH_SIZE), reader.uint64(), reader.uint32()
    transaction, code, count = reader.raw(HASH_SIZE), reader.text(), reader.uint32()
    if count > _RECEIPT_EVENTS_MAX:
        raise DecodeError(f"a receipt of {count} events; at most {_RECEIPT_EVENTS_MAX}")
    events = tuple(Event(reader.text(), reader.bytes()) for _ in range(count))
    reader.end()
    if code and events:
        raise DecodeError("a receipt of a rejected transaction holds events")
    return Receipt(chain_id, height, place, transaction, code, events)
