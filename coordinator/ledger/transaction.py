"""Transactions: who wants what done, once, up to which height.

A transaction's identity is the digest of its signed bytes, so an envelope encoded in another way is the same
transaction. Nothing is replayed: chain and type are under the signature, the sequence number must be the signer's
next, and it may stand in no block above `valid_until_height`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.signing import Signer
from coordinator.ledger.envelope import PAYLOAD_MAX, Envelope, SignedType, decode_envelope, seal, signed_bytes
from coordinator.ledger.messages import parse
from protos.gridaccord.v1 import ledger_pb2 as pb

NAME_MAX = 48


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is signed. `content` is decoded by the handler of `kind`."""

    signer: str
    sequence: int
    valid_until_height: int
    kind: str
    content: bytes

    def encode(self) -> bytes:
        """As protobuf: the payload that is signed."""
        return pb.Transaction(
            signer=self.signer,
            sequence=self.sequence,
            valid_until_height=self.valid_until_height,
            kind=self.kind,
            content=self.content,
        ).SerializeToString()


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction in its envelope, and the exact bytes it came in."""

    transaction: Transaction
    envelope: Envelope
    encoded: bytes

    def digest(self, chain_id: bytes) -> bytes:
        """Its identity: SHA-256 of what is signed."""
        return hashlib.sha256(signed_bytes(chain_id, self.envelope.type, self.envelope.payload)).digest()


def decode_transaction(data: bytes) -> SignedTransaction:
    """Raises DecodeError."""
    envelope = decode_envelope(data, SignedType.TRANSACTION)
    message = parse(pb.Transaction, envelope.payload, PAYLOAD_MAX)
    for field, text in (("signer", message.signer), ("kind", message.kind)):
        if not 0 < len(text) <= NAME_MAX:
            raise DecodeError(f"transaction: a {field} of {len(text)} characters; 1 to {NAME_MAX}")
    transaction = Transaction(
        message.signer, message.sequence, message.valid_until_height, message.kind, message.content
    )
    return SignedTransaction(transaction, envelope, data)


def sign_transaction(signer: Signer, chain_id: bytes, transaction: Transaction) -> SignedTransaction:
    """Sign a transaction with its signer's key."""
    envelope = seal(signer, chain_id, SignedType.TRANSACTION, transaction.encode())
    return SignedTransaction(transaction, envelope, envelope.encode())
