"""What a vote signs, and who can sign and verify it.

One verification rule everywhere: that of pyca/OpenSSL, whose row in the Ed25519 speccheck is V V V V X X X X X X X V.
A verifier with another row would accept a certificate that others refuse. Signatures must be deterministic: a validator
that re-signs a recorded vote after a restart must not produce different bytes, and evidence compares encodings.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from coordinator.consensus.wire import HASH_BYTES, SIGNATURE_BYTES, ZERO_HASH

_FORMAT = struct.Struct(">40s32sQQQ32s")
_CACHED_KEYS = 4096


class VoteKind(enum.IntEnum):
    """The three votes of a view; the number is the one on the wire."""

    NOTARIZE = 1
    NULLIFY = 2
    FINALIZE = 3


_DOMAINS = {kind: f"gridaccord/consensus/v1/{kind.name.lower()}".encode() for kind in VoteKind}


def vote_bytes(kind: VoteKind, chain_id: bytes, epoch: int, view: int, parent_view: int, digest: bytes) -> bytes:
    """The bytes that a vote signs; a nullify vote names no block, so its digest is zero and its parent view 0."""
    assert kind is not VoteKind.NULLIFY or (parent_view == 0 and digest == ZERO_HASH), "a nullify vote names no block"
    return _FORMAT.pack(_DOMAINS[kind], chain_id, epoch, view, parent_view, digest)


class Scheme(Protocol):
    """Verifies signatures."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the key signed the message."""
        ...


class Signer(Protocol):
    """Signs with one validator's key, deterministically. It may refuse, by an exception, what it must not sign."""

    @property
    def public_key(self) -> bytes:
        """The 32-byte public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        ...


class Ed25519Scheme:
    """Ed25519 by pyca. Key objects are kept: parsing a key costs nearly as much as a verification."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Ed25519PublicKey] = {}

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the key signed the message."""
        if len(signature) != SIGNATURE_BYTES or len(public_key) != HASH_BYTES:
            return False
        try:
            self._key(public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def _key(self, public_key: bytes) -> Ed25519PublicKey:
        key = self._keys.get(public_key)
        if key is None:
            if len(self._keys) >= _CACHED_KEYS:
                self._keys.clear()
            key = self._keys[public_key] = Ed25519PublicKey.from_public_bytes(public_key)
        return key


class Ed25519Signer:
    """A validator's key in memory."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public_key = self._key.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """The 32-byte public key."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        return self._key.sign(message)


class SimulatedScheme:
    """For simulators only: a hash keyed by the public key, which anybody can compute. Fast, not secure."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the signature is the keyed hash."""
        return signature == hashlib.blake2b(message, key=public_key).digest()


class SimulatedSigner:
    """The signer to `SimulatedScheme`."""

    def __init__(self, seed: bytes) -> None:
        self._public_key = hashlib.sha256(b"simulated" + seed).digest()

    @property
    def public_key(self) -> bytes:
        """The 32-byte public key."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        return hashlib.blake2b(message, key=self._public_key).digest()
