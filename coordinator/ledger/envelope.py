"""What is signed: exact bytes. An envelope carries its payload as bytes and the signature over

    domain (16 bytes) || chain_id (32 bytes) || type (4 bytes, big-endian) || payload

so that no signature is valid on another chain, for another type, or for a message encoded in another way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.signing import Scheme, Signer
from coordinator.ledger.codec import Writer
from coordinator.ledger.messages import parse
from protos.gridaccord.v1 import ledger_pb2 as pb

DOMAIN = b"gridaccord/sign1"
CHAIN_ID_SIZE = 32
SIGNATURE_SIZE = 64
PAYLOAD_MAX = 2**20
_OVERHEAD_MAX = 128
ENVELOPE_MAX = PAYLOAD_MAX + _OVERHEAD_MAX

assert len(DOMAIN) == 16


class SignedType(IntEnum):
    """What a payload is. A number is never used again for another meaning."""

    TRANSACTION = 1
    READINGS = 2
    KEY_POSSESSION = 3


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and its signature; who signed is said by the payload or known from where it comes."""

    type: int
    payload: bytes
    signature: bytes

    def message(self) -> pb.Envelope:
        """As a protobuf message."""
        return pb.Envelope(type=self.type, payload=self.payload, signature=self.signature)

    def encode(self) -> bytes:
        """As protobuf."""
        return self.message().SerializeToString()

    def is_signed_by(self, public_key: bytes, chain_id: bytes, scheme: Scheme) -> bool:
        """Whether the signature is this key's, for this chain."""
        return scheme.verify(public_key, signed_bytes(chain_id, self.type, self.payload), self.signature)


def signed_bytes(chain_id: bytes, signed_type: int, payload: bytes) -> bytes:
    """What the signature is over."""
    assert len(chain_id) == CHAIN_ID_SIZE, f"a chain id of {len(chain_id)} bytes"
    return DOMAIN + chain_id + signed_type.to_bytes(4, "big") + payload


def seal(signer: Signer, chain_id: bytes, signed_type: SignedType, payload: bytes) -> Envelope:
    """Sign a payload."""
    return Envelope(signed_type, payload, signer.sign(signed_bytes(chain_id, signed_type, payload)))


def decode_envelope(data: bytes, signed_type: SignedType) -> Envelope:
    """Raises DecodeError, also for an envelope of another type."""
    return checked_envelope(parse(pb.Envelope, data, ENVELOPE_MAX), signed_type)


def checked_envelope(message: pb.Envelope, signed_type: SignedType) -> Envelope:
    """An envelope from its message. Raises DecodeError."""
    if message.type != signed_type:
        raise DecodeError(f"an envelope of type {message.type} where {signed_type.name} is expected")
    if len(message.signature) != SIGNATURE_SIZE:
        raise DecodeError(f"a signature of {len(message.signature)} bytes; it has {SIGNATURE_SIZE}")
    if len(message.payload) > PAYLOAD_MAX:
        raise DecodeError(f"a payload of {len(message.payload)} bytes; at most {PAYLOAD_MAX}")
    return Envelope(message.type, message.payload, message.signature)


class Holder(IntEnum):
    """What a key is to be the key of. A number is never used again for another meaning."""

    PARTICIPANT = 1
    DEVICE = 2


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """What a new key agrees to: whose it is, in whose transaction, and for whose account a device works.

    All of it is signed, so that nobody who sees the signature on its way can register the key for himself.
    """

    kind: Holder
    name: str
    registrar: str
    account: str = ""

    def encode(self) -> bytes:
        """The bytes that the new key signs."""
        return bytes([self.kind]) + Writer().text(self.name).text(self.registrar).text(self.account).encoded


def prove_possession(signer: Signer, chain_id: bytes, claim: KeyClaim) -> bytes:
    """The signature by which a new key agrees to a claim."""
    return seal(signer, chain_id, SignedType.KEY_POSSESSION, claim.encode()).signature


def possesses(public_key: bytes, chain_id: bytes, claim: KeyClaim, signature: bytes, scheme: Scheme) -> bool:
    """Whether a possession signature is right."""
    if len(signature) != SIGNATURE_SIZE:
        return False
    return Envelope(SignedType.KEY_POSSESSION, claim.encode(), signature).is_signed_by(public_key, chain_id, scheme)
