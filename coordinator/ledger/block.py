"""Blocks: a header and the exact bytes of the payload that it commits to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import HEADER_BYTES, Header, decode_header, payload_digest
from coordinator.ledger.envelope import ENVELOPE_MAX
from coordinator.ledger.history import leaves_root
from coordinator.ledger.messages import parse
from coordinator.ledger.transaction import SignedTransaction, decode_transaction
from protos.gridaccord.v1 import ledger_pb2 as pb

PAYLOAD_MAX = 4 * 2**20
TRANSACTIONS_MAX = 10_000
_BLOCK_MAX = PAYLOAD_MAX + HEADER_BYTES + 64
_ENTRY_OVERHEAD = 8


@dataclass(frozen=True, slots=True)
class Block:
    """A header and its payload's bytes. The payload has not been looked into."""

    header: Header
    payload: bytes

    def encode(self) -> bytes:
        """As protobuf."""
        return pb.Block(header=self.header.encode(), payload=self.payload).SerializeToString()


def decode_block(data: bytes) -> Block:
    """Raises DecodeError, also where the payload is not the header's."""
    message = parse(pb.Block, data, _BLOCK_MAX)
    if len(message.payload) > PAYLOAD_MAX:
        raise DecodeError(f"a payload of {len(message.payload)} bytes; at most {PAYLOAD_MAX}")
    header = decode_header(message.header)
    if payload_digest(message.payload) != header.payload_digest:
        raise DecodeError("a block whose payload is not the one its header commits to")
    return Block(header, message.payload)


def encode_payload(transactions: Sequence[SignedTransaction]) -> bytes:
    """The payload of these transactions."""
    return pb.BlockPayload(transactions=[signed.encoded for signed in transactions]).SerializeToString()


def decode_payload(payload: bytes) -> tuple[SignedTransaction, ...]:
    """The transactions of a payload. Raises DecodeError."""
    message = parse(pb.BlockPayload, payload, PAYLOAD_MAX)
    if len(message.transactions) > TRANSACTIONS_MAX:
        raise DecodeError(f"a payload of {len(message.transactions)} transactions; at most {TRANSACTIONS_MAX}")
    return tuple(decode_transaction(encoded) for encoded in message.transactions)


def fits(transactions: Sequence[SignedTransaction]) -> int:
    """How many of these transactions, from the first on, one block may hold."""
    size = 0
    for number, signed in enumerate(transactions):
        size += len(signed.encoded) + _ENTRY_OVERHEAD
        if size > PAYLOAD_MAX or number >= TRANSACTIONS_MAX:
            return number
    return len(transactions)


def transactions_root(chain_id: bytes, transactions: Sequence[SignedTransaction]) -> bytes:
    """The root over the digests of these transactions."""
    return leaves_root([signed.digest(chain_id) for signed in transactions])


assert ENVELOPE_MAX + _ENTRY_OVERHEAD <= PAYLOAD_MAX, "any transaction fits a block"
