"""What a vote signs, and who can sign and verify it.

One verification rule everywhere: that of libsodium, whose row in the Ed25519 speccheck is X X X V X X X X X X X X: no
keys or nonces of small order, canonical encodings only; it takes half the time of OpenSSL.
A verifier with another row would accept a certificate that others refuse. Signatures must be deterministic: a validator
that re-signs a recorded vote after a restart must not produce different bytes, and evidence compares encodings.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from typing import Protocol

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from coordinator.consensus.wire import HASH_BYTES, SIGNATURE_BYTES, ZERO_HASH

_FORMAT = struct.Struct(">40s32sQQQ32s")


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
    """Ed25519 by libsodium."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the key signed the message."""
        if len(signature) != SIGNATURE_BYTES or len(public_key) != HASH_BYTES:
            return False
        try:
            crypto_sign_open(signature + message, public_key)
        except BadSignatureError:
            return False
        return True


class Ed25519Signer:
    """A validator's key in memory."""

    def __init__(self, seed: bytes) -> None:
        self._public_key, self._secret_key = crypto_sign_seed_keypair(seed)

    @property
    def public_key(self) -> bytes:
        """The 32-byte public key."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature."""
        return crypto_sign(message, self._secret_key)[:SIGNATURE_BYTES]


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
