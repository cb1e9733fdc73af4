"""Certificates: a quorum's signatures on one vote, transferable to anybody who knows the epoch's validators.

Bytes: version, kind, chain_id, epoch, view, parent_view, digest, n, bitmap of ceil(n / 8) bytes (lowest index in the
lowest bit), then one 64-byte signature per set bit in ascending order. Different quorums give different certificates
of the same fact: never hash a certificate into state nor use it as an id; use (kind, epoch, view, digest).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.consensus.errors import CertificateRefused, DecodeError
from coordinator.consensus.signing import Scheme, VoteKind, vote_bytes
from coordinator.consensus.validators import MAX_VALIDATORS, ValidatorSet, quorum
from coordinator.consensus.wire import SIGNATURE_BYTES, ZERO_HASH, Reader

CERTIFICATE_VERSION = 1
_HEAD = struct.Struct(">BB32sQQQ32sH")
MAX_CERTIFICATE_BYTES = _HEAD.size + (MAX_VALIDATORS + 7) // 8 + MAX_VALIDATORS * SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Certificate:
    """A quorum of `size` validators signed the same vote. `signers` are ascending indices, one signature each.

    A nullification names no block: its digest is zero and its parent view 0.
    """

    kind: VoteKind
    chain_id: bytes
    epoch: int
    view: int
    parent_view: int
    digest: bytes
    size: int
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]

    @property
    def bitmap(self) -> bytes:
        """The signers as bits, lowest index in the lowest bit of the first byte."""
        return sum(1 << signer for signer in self.signers).to_bytes((self.size + 7) // 8, "little")

    @property
    def value(self) -> tuple[int, bytes]:
        """What was voted for: parent view and digest."""
        return self.parent_view, self.digest

    def encode(self) -> bytes:
        """The certificate's bytes."""
        head = _HEAD.pack(
            CERTIFICATE_VERSION,
            self.kind,
            self.chain_id,
            self.epoch,
            self.view,
            self.parent_view,
            self.digest,
            self.size,
        )
        return b"".join((head, self.bitmap, *self.signatures))


def decode_certificate(data: bytes) -> Certificate:
    """The certificate that these bytes encode; DecodeError if they are no certificate of any validator set."""
    reader = Reader(data, "certificate")
    head = _HEAD.unpack(reader.take(_HEAD.size, "head"))
    version, kind_number, chain_id, epoch, view, parent_view, digest, size = head
    if version != CERTIFICATE_VERSION:
        raise DecodeError(f"certificate: version {version} is not {CERTIFICATE_VERSION}")
    if kind_number not in VoteKind._value2member_map_:
        raise DecodeError(f"certificate: there is no kind {kind_number}")
    kind = VoteKind(kind_number)
    _check_round(kind, view, parent_view, digest)
    if not 1 <= size <= MAX_VALIDATORS:
        raise DecodeError(f"certificate: a set of {size} validators; it has 1 to {MAX_VALIDATORS}")
    bits = int.from_bytes(reader.take((size + 7) // 8, "bitmap"), "little")
    if bits >> size:
        raise DecodeError(f"certificate: the bitmap has bits beyond its {size} validators")
    signers = tuple(i for i in range(size) if bits >> i & 1)
    if len(signers) < quorum(size):
        raise DecodeError(f"certificate: {len(signers)} signers are less than the quorum of {quorum(size)} of {size}")
    signatures = tuple(reader.take(SIGNATURE_BYTES, "signature") for _ in signers)
    reader.end()
    return Certificate(kind, chain_id, epoch, view, parent_view, digest, size, signers, signatures)


def _check_round(kind: VoteKind, view: int, parent_view: int, digest: bytes) -> None:
    if kind is VoteKind.NULLIFY:
        if view < 1 or parent_view != 0 or digest != ZERO_HASH:
            raise DecodeError("certificate: a nullification names view 0, a parent view or a digest")
    elif parent_view >= view:
        raise DecodeError(f"certificate: parent view {parent_view} is not below view {view}")


def verify_certificate(
    certificate: Certificate,
    validators: ValidatorSet,
    scheme: Scheme,
    is_known: Callable[[int, bytes], bool] | None = None,
) -> None:
    """Raise CertificateRefused unless a quorum of these validators signed it.

    `is_known(signer, signature)` tells signatures of this very vote that the caller has verified before.
    """
    if certificate.chain_id != validators.chain_id:
        raise CertificateRefused("it is of another chain")
    if certificate.epoch != validators.epoch:
        raise CertificateRefused(f"it is of epoch {certificate.epoch}, the validators are of epoch {validators.epoch}")
    if certificate.size != validators.size:
        raise CertificateRefused(f"it counts {certificate.size} validators, the epoch has {validators.size}")
    signers = certificate.signers
    if len(signers) != len(certificate.signatures) or list(signers) != sorted(set(signers)):
        raise CertificateRefused("its signers do not ascend or do not match its signatures")
    if len(signers) < validators.quorum or signers[-1] >= validators.size:
        raise CertificateRefused(f"{len(signers)} signers are not a quorum of {validators.quorum}")
    message = vote_bytes(
        certificate.kind,
        certificate.chain_id,
        certificate.epoch,
        certificate.view,
        certificate.parent_view,
        certificate.digest,
    )
    for signer, signature in zip(signers, certificate.signatures, strict=True):
        if is_known is not None and is_known(signer, signature):
            continue
        if not scheme.verify(validators.public_keys[signer], message, signature):
            raise CertificateRefused(f"the signature of validator {signer} is not valid")
