"""Misconduct of validators on the chain: evidence is verified, counted once, recorded, and costs the seat.

Content of a transaction `evidence`: an encoded `consensus.evidence.Evidence`, two votes of one validator in one view
that no honest validator signs both. Anybody may submit it: the votes are the proof, whoever brings them. It counts
against the participant that held the seat with the key of that epoch, so a key rotated since changes nothing. Votes of
this epoch and of the one before count; of earlier ones the chain no longer knows the keys.

The convict leaves the pending committee, that of epoch e + 2 for evidence in epoch e (the notice of every change of
validators), as long as `REMAINING_MIN` are left: fewer tolerate no fault. Where it stays, the record and the count say
what it did, and a quorum can signal another committee. A quorum may also take it back.

A convict is not frozen. What it broke are the rules of votes; its transactions are checked by everybody like those of
others and can do no harm. Often the culprit is a stolen key or a node that ran twice, and freezing would take from its
owner the way to rotate that key, and from others their settlements with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError, EvidenceRefused
from coordinator.consensus.evidence import Evidence, EvidenceKind, decode_evidence, verify_evidence
from coordinator.consensus.validators import ValidatorSet
from coordinator.ledger import registry
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import Rejected
from coordinator.ledger.records import MISCONDUCT, Committee
from coordinator.ledger.view import Context, View

EVIDENCE = "evidence"
COUNTER = "misconduct"
EVENT = "misconduct"
REMAINING_MIN = 4
"""The fewest validators that tolerate a faulty one."""
_DIGEST_SIZE = 32


@dataclass(frozen=True, slots=True)
class Offence:
    """What a validator did: which rule it broke in which view, and the digest of the evidence; kept for ever."""

    kind: EvidenceKind
    epoch: int
    view: int
    digest: bytes
    height: int

    @staticmethod
    def key(participant: str, offence: bytes) -> bytes:
        """Where it stands; `offence` is `Evidence.key`, or empty for the prefix of all of a participant."""
        return MISCONDUCT + participant.encode() + b"\0" + offence

    def encode(self) -> bytes:
        """The one byte form."""
        writer = Writer().uint32(self.kind).uint64(self.epoch).uint64(self.view)
        return writer.raw(self.digest).uint64(self.height).encoded

    @classmethod
    def decode(cls, data: bytes) -> Offence:
        """Raises DecodeError."""
        reader = Reader(data)
        kind = reader.uint32()
        if kind not in EvidenceKind._value2member_map_:
            raise DecodeError(f"offence: there is no kind {kind}")
        offence = cls(EvidenceKind(kind), reader.uint64(), reader.uint64(), reader.raw(_DIGEST_SIZE), reader.uint64())
        reader.end()
        return offence


def convict(context: Context, content: bytes) -> None:
    """The handler: verify, count once, record, exclude."""
    evidence = decode_evidence(content)
    block = context.block
    if evidence.chain_id != block.chain_id:
        raise Rejected("bad_evidence", "it is of another chain")
    seated = committee_of(context.view, block.epoch, evidence.epoch)
    if seated is None:
        raise Rejected(
            "expired", f"it is of epoch {evidence.epoch}; this is {block.epoch}, one epoch back still counts"
        )
    try:
        validators = ValidatorSet(block.chain_id, evidence.epoch, seated.public_keys)
        verify_evidence(evidence, validators, block.scheme)
    except EvidenceRefused as error:
        raise Rejected("bad_evidence", str(error)) from None
    accused, kind = seated.names[evidence.signer], evidence.kind
    assert kind is not None, "verified evidence breaks a rule"
    key = Offence.key(accused, evidence.key)
    if context.view.get(key) is not None:
        raise Rejected("counted_already", f"{accused} is convicted of this in view {evidence.view} already")
    digest = hashlib.sha256(content).digest()
    offence = Offence(kind, evidence.epoch, evidence.view, digest, block.height)
    context.view.put(key, offence.encode())
    registry.count(context.view, accused, COUNTER)
    excluded = registry.exclude_validator(context.view, accused, REMAINING_MIN)
    context.emit(EVENT, Writer().text(accused).raw(evidence.key).flag(excluded).encoded)


def committee_of(view: View, now: int, epoch: int) -> Committee | None:
    """The validators of this epoch or the one before; None for any other."""
    if epoch == now:
        return registry.committee(view, registry.CURRENT)
    return registry.committee(view, registry.PREVIOUS) if epoch + 1 == now else None


def accused_by(view: View, now: int, evidence: Evidence) -> str | None:
    """Whom evidence is against, if it is of a validator and epoch that still count. Verifies nothing."""
    seated = committee_of(view, now, evidence.epoch)
    return seated.names[evidence.signer] if seated is not None and evidence.signer < len(seated.names) else None


def offences(view: View, participant: str) -> tuple[Offence, ...]:
    """What a participant has been convicted of."""
    return tuple(Offence.decode(value) for _, value in view.items(Offence.key(participant, b"")))
