"""Proof that a validator broke the protocol: two votes of one view that no honest validator signs both.

Sound because Ed25519 signatures are attributable; a nullify vote after a notarize vote is legal and is no evidence. An
equivocating leader is caught by the notarize votes that its proposals carry. Evidence expires with the epochs in which
its signer can still be held to account, and `key` makes it count once however many pairs of votes are found.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError, EvidenceRefused
from coordinator.consensus.signing import Scheme, VoteKind, vote_bytes
from coordinator.consensus.validators import ValidatorSet
from coordinator.consensus.wire import SIGNATURE_BYTES, Reader

_DOMAIN = b"gridaccord/consensus/v1/evidence"
_HEAD = struct.Struct(">32sQQH")
_VOTE = struct.Struct(f">BQ32s{SIGNATURE_BYTES}s")


class EvidenceKind(enum.IntEnum):
    """Which rule the two votes break."""

    CONFLICTING_NOTARIZE = 1
    CONFLICTING_FINALIZE = 2
    NULLIFY_AND_FINALIZE = 3


@dataclass(frozen=True, slots=True, order=True)
class SignedVote:
    """One of the two votes."""

    kind: VoteKind
    parent_view: int
    digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two votes of validator `signer` in one view, in ascending order."""

    chain_id: bytes
    epoch: int
    view: int
    signer: int
    first: SignedVote
    second: SignedVote

    @property
    def kind(self) -> EvidenceKind | None:
        """The broken rule; None if the two votes break none."""
        return conflict(self.first, self.second)

    @property
    def key(self) -> bytes:
        """Equal for all evidence of the same offence: what a ledger stores to punish it once."""
        kind = self.kind
        assert kind is not None, "votes that do not conflict have no key"
        offence = struct.pack(">32sQQHB", self.chain_id, self.epoch, self.view, self.signer, kind)
        return hashlib.sha256(_DOMAIN + offence).digest()

    def encode(self) -> bytes:
        """The evidence's only encoding."""
        votes = (_VOTE.pack(v.kind, v.parent_view, v.digest, v.signature) for v in (self.first, self.second))
        return _HEAD.pack(self.chain_id, self.epoch, self.view, self.signer) + b"".join(votes)


def conflict(first: SignedVote, second: SignedVote) -> EvidenceKind | None:
    """The rule that two votes of one validator in one view break."""
    same = (first.parent_view, first.digest) == (second.parent_view, second.digest)
    if first.kind is second.kind:
        if first.kind is VoteKind.NULLIFY or same:
            return None
        notarize = first.kind is VoteKind.NOTARIZE
        return EvidenceKind.CONFLICTING_NOTARIZE if notarize else EvidenceKind.CONFLICTING_FINALIZE
    if VoteKind.NOTARIZE in (first.kind, second.kind):
        return None
    return EvidenceKind.NULLIFY_AND_FINALIZE


def make_evidence(validators: ValidatorSet, view: int, signer: int, one: SignedVote, other: SignedVote) -> Evidence:
    """Evidence with its votes in order."""
    first, second = sorted((one, other))
    return Evidence(validators.chain_id, validators.epoch, view, signer, first, second)


def decode_evidence(data: bytes) -> Evidence:
    """The evidence that these bytes encode; whether it proves anything is for `verify_evidence`."""
    reader = Reader(data, "evidence")
    chain_id, epoch, view, signer = _HEAD.unpack(reader.take(_HEAD.size, "head"))
    first, second = (_decode_vote(reader) for _ in range(2))
    reader.end()
    if second < first:
        raise DecodeError("evidence: its votes are not in ascending order")
    return Evidence(chain_id, epoch, view, signer, first, second)


def _decode_vote(reader: Reader) -> SignedVote:
    kind, parent_view, digest, signature = _VOTE.unpack(reader.take(_VOTE.size, "vote"))
    if kind not in VoteKind._value2member_map_:
        raise DecodeError(f"evidence: there is no kind of vote {kind}")
    if kind == VoteKind.NULLIFY and (parent_view != 0 or any(digest)):
        raise DecodeError("evidence: a nullify vote names a block")
    return SignedVote(VoteKind(kind), parent_view, digest, signature)


def verify_evidence(evidence: Evidence, validators: ValidatorSet, scheme: Scheme) -> None:
    """Raise EvidenceRefused unless the signer, a validator of that epoch, signed both and they break a rule."""
    if (evidence.chain_id, evidence.epoch) != (validators.chain_id, validators.epoch):
        raise EvidenceRefused("it is of another chain or epoch than these validators")
    if evidence.signer >= validators.size:
        raise EvidenceRefused(f"there is no validator {evidence.signer} in epoch {evidence.epoch}")
    if evidence.kind is None:
        raise EvidenceRefused("an honest validator may sign both of these votes")
    for vote in (evidence.first, evidence.second):
        signed = vote_bytes(vote.kind, evidence.chain_id, evidence.epoch, evidence.view, vote.parent_view, vote.digest)
        if not scheme.verify(validators.public_keys[evidence.signer], signed, vote.signature):
            raise EvidenceRefused(f"the signature of the {vote.kind.name.lower()} vote is not valid")


def expired(evidence: Evidence, epoch: int, window: int) -> bool:
    """Whether evidence is too old (or from the future) to count in `epoch`: `window` epochs back still count."""
    return not epoch - window <= evidence.epoch <= epoch
