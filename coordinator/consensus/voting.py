"""Votes: casting one's own, counting those of others, forming certificates (R3 to R7), evidence."""

from __future__ import annotations

from coordinator.consensus import guards, repair
from coordinator.consensus.certificate import Certificate, verify_certificate
from coordinator.consensus.errors import CertificateRefused, SafetyViolation
from coordinator.consensus.evidence import SignedVote, conflict, make_evidence
from coordinator.consensus.journal import CertificateRecord, VoteRecord
from coordinator.consensus.messages import Vote
from coordinator.consensus.round import Round
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.consensus.state import State
from coordinator.consensus.tally import Tally, Value

_EXCLUDES = {VoteKind.NULLIFY: VoteKind.FINALIZE, VoteKind.FINALIZE: VoteKind.NULLIFY}


def signed_bytes(state: State, kind: VoteKind, view: int, value: Value) -> bytes:
    """The bytes that a vote of this epoch signs."""
    return vote_bytes(kind, state.validators.chain_id, state.epoch, view, *value)


def record_vote(state: State, current: Round, kind: VoteKind, value: Value) -> bytes:
    """Sign an own vote, put it into the journal before anybody can learn of it, and count it; gives the signature."""
    assert guards.may_vote(state, current.view), "a vote below finality or without a seat"
    current.record_own(kind, value)
    state.persist(VoteRecord(kind, state.epoch, current.view, *value))
    return sign_own(state, current, kind, value)


def sign_own(state: State, current: Round, kind: VoteKind, value: Value) -> bytes:
    """Sign a recorded vote and count it: also after a restart, for n = 4 needs every honest vote (P5)."""
    assert state.me is not None
    signature = state.signer.sign(signed_bytes(state, kind, current.view, value))
    current.tally(kind).add(state.me, value, signature, verified=True)
    try_certificate(state, current, kind, value)
    return signature


def cast(state: State, current: Round, kind: VoteKind, value: Value) -> None:
    """Vote: journal first, then the wire."""
    before = len(state.out)
    signature = record_vote(state, current, kind, value)
    assert len(state.out) > before, "a vote was not put into the journal"
    state.broadcast(Vote(kind, state.epoch, current.view, *value, signature))


def own_vote(state: State, current: Round, kind: VoteKind, value: Value) -> Vote:
    """A recorded vote to be sent again: signing is deterministic, so these are the same bytes."""
    signature = state.signer.sign(signed_bytes(state, kind, current.view, value))
    return Vote(kind, state.epoch, current.view, *value, signature)


def count_vote(state: State, current: Round, signer: int, vote: Vote) -> bool:
    """Count a validator's vote; a second, different one is evidence. True if it is new."""
    tally = current.tally(vote.kind)
    is_new = tally.add(signer, vote.value, vote.signature)
    if not is_new and tally.ballots[signer].value != vote.value:
        find_conflict(state, current, signer, vote, vote.kind)
    excluded = _EXCLUDES.get(vote.kind)
    if excluded is not None and excluded in current.tallies:
        find_conflict(state, current, signer, vote, excluded)
    if is_new:
        try_certificate(state, current, vote.kind, vote.value)
    return is_new


def find_conflict(state: State, current: Round, signer: int, vote: Vote, kind: VoteKind) -> None:
    """Evidence: this vote against the one of another `kind` or value that the validator has cast in this view."""
    ballot = current.tally(kind).ballots.get(signer)
    if ballot is None or signer in current.accused:
        return
    new = SignedVote(vote.kind, *vote.value, vote.signature)
    old = SignedVote(kind, *ballot.value, ballot.signature)
    assert conflict(old, new) is not None, "these two votes are legal"
    if all(_is_valid(state, current.view, signer, one) for one in (old, new)):
        current.accused[signer] = None
        evidence = make_evidence(state.validators, current.view, signer, old, new)
        state.fault(state.validators.public_keys[signer], "it signed two votes that exclude each other", evidence)


def _is_valid(state: State, view: int, signer: int, vote: SignedVote) -> bool:
    message = signed_bytes(state, vote.kind, view, (vote.parent_view, vote.digest))
    return state.scheme.verify(state.validators.public_keys[signer], message, vote.signature)


def try_certificate(state: State, current: Round, kind: VoteKind, value: Value) -> None:
    """R4, R5, R6: a quorum of matching votes is a certificate; signatures are verified now, up to the quorum."""
    tally = current.tally(kind)
    if kind in current.certificates or not guards.is_quorum(state, tally.count(value)):
        return
    signers = _valid_signers(state, current, kind, value, tally)
    if not guards.is_quorum(state, len(signers)):
        return
    signatures = tuple(tally.ballots[signer].signature for signer in signers)
    validators = state.validators
    certificate = Certificate(
        kind, validators.chain_id, state.epoch, current.view, *value, validators.size, tuple(signers), signatures
    )
    keep_certificate(state, certificate)


def _valid_signers(state: State, current: Round, kind: VoteKind, value: Value, tally: Tally) -> list[int]:
    message = signed_bytes(state, kind, current.view, value)
    keys, verify = state.validators.public_keys, state.scheme.verify
    signers, removed = tally.verify(
        value, state.validators.quorum, lambda signer, signature: verify(keys[signer], message, signature)
    )
    for signer in removed:
        state.fault(keys[signer], f"the signature of its {kind.name.lower()} vote is not valid")
    return signers


def accept_certificate(state: State, sender: bytes, certificate: Certificate) -> None:
    """A certificate from a peer: from any view ahead, for it proves itself."""
    if not guards.is_certificate_in_window(state, certificate):
        return
    current = state.rounds.get(certificate.view)
    known = None if current is None else current.certificates.get(certificate.kind)
    if known is not None and known.value == certificate.value:
        return
    try:
        verify(state, current, certificate)
    except CertificateRefused as refusal:
        state.fault(sender, f"its certificate is refused: {refusal.reason}")
        return
    keep_certificate(state, certificate)


def verify(state: State, current: Round | None, certificate: Certificate) -> None:
    """Verify what has not been verified as a vote already; raises CertificateRefused."""
    tally = None if current is None else current.tallies.get(certificate.kind)
    known = {} if tally is None else tally.ballots

    def is_known(signer: int, signature: bytes) -> bool:
        ballot = known.get(signer)
        if ballot is None or not ballot.verified:
            return False
        return ballot.value == certificate.value and ballot.signature == signature

    verify_certificate(certificate, state.validators, state.scheme, is_known)


def keep_certificate(state: State, certificate: Certificate) -> None:
    """Put a valid certificate into its round and into the journal; the rules act on it in `core.progress`."""
    current = state.round(certificate.view)
    known = current.certificates.get(certificate.kind)
    if known is not None and known.value != certificate.value:
        raise SafetyViolation(f"two {certificate.kind.name.lower()} certificates in view {certificate.view}")
    excluded = _EXCLUDES.get(certificate.kind)
    if excluded is not None and excluded in current.certificates:
        raise SafetyViolation(f"view {certificate.view} is both nullified and finalized: more than f are faulty")
    current.certificates[certificate.kind] = certificate
    state.persist(CertificateRecord(certificate))
    state.formed.append(certificate)
    state.dirty = True


def on_vote(state: State, sender: bytes, vote: Vote) -> None:
    """Count a vote in the window; answer one for a view long over (R9); ask after one from the future."""
    if not repair.is_this_epoch(state, sender, vote.epoch):
        return
    signer = state.validators.index_of(sender)
    if signer is None:
        state.fault(sender, "it votes and is no validator of this epoch")
        return
    state.heard_at_ns[signer] = state.now_ns
    if not guards.is_vote_in_window(state, vote.view):
        repair.on_vote_outside(state, sender, vote.view)
        return
    current = state.round(vote.view)
    count_vote(state, current, signer, vote)
    if vote.kind is VoteKind.NULLIFY and vote.view == state.view and signer == state.validators.leader(vote.view):
        state.dirty = True
    if vote.view < state.view:
        repair.answer_stale(state, sender, current)
