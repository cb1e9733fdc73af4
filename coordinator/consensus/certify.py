"""R4: from a notarization to a finalize vote and the next view, through the application's verdict."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.consensus import guards, nullify, repair, view_entry, voting
from coordinator.consensus.effects import Certify
from coordinator.consensus.errors import SafetyViolation
from coordinator.consensus.inputs import Certified, PayloadStored
from coordinator.consensus.journal import CertifiedRecord
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import STORED_PAYLOADS, Block, State


def is_certified(state: State, digest: bytes) -> bool | None:
    """The verdict on a block: True if one may build on it; None while it is not known."""
    if digest == state.delivered.digest:
        return True
    block = state.blocks.get(digest)
    return None if block is None else block.verdict


def advance_notarized(state: State) -> None:
    """R4: act on the verdicts on notarized blocks, also those of views left long ago (R5) or nullified (P4)."""
    for view in list(state.uncertified):
        certificate = state.rounds[view].notarization
        assert certificate is not None
        verdict = is_certified(state, certificate.digest)
        if verdict is None:
            adopt_proposed(state, view, certificate.digest)
            request(state, certificate.digest, state.keys_of(certificate.signers))
            continue
        del state.uncertified[view]
        state.dirty = True
        if verdict:
            finalize_vote(state, view)
            view_entry.enter(state, view + 1)
        else:
            nullify.nullify(state, view)


def adopt_proposed(state: State, view: int, digest: bytes) -> None:
    """The header of a notarized block, if the view's proposal is it; the notarization decides, not the proposal."""
    proposal = state.rounds[view].proposal
    if proposal is not None and proposal.header.digest == digest:
        state.add_block(proposal.header)


def finalize_vote(state: State, view: int) -> None:
    """R4: vote finalize on the certified digest, unless this node voted nullify in the view or it is final already.

    The notarization overrides the local proposal: an equivocating leader's certified block may be finalized.
    Source: Simplex (Chan, Pass 2023); commonware `construct_finalize`.
    """
    current = state.round(view)
    certificate = current.notarization
    assert certificate is not None
    if guards.may_vote(state, view) and guards.may_finalize(current):
        voting.cast(state, current, VoteKind.FINALIZE, certificate.value)


def request(state: State, digest: bytes, candidates: Sequence[bytes]) -> None:
    """Get the next thing that a verdict on this block needs: headers down to a certified one, a payload, the verdict.

    Ancestors are certified first (P8): the application is never asked about a block whose parent it has not executed.
    """
    while True:
        block = state.blocks.get(digest)
        if block is None:
            repair.ask_block(state, digest, candidates)
            return
        if is_certified(state, block.header.parent_digest):
            _request_verdict(state, block, candidates)
            return
        digest = block.header.parent_digest
        parent = state.blocks.get(digest)
        if parent is not None and parent.verdict is False:
            return


def _request_verdict(state: State, block: Block, candidates: Sequence[bytes]) -> None:
    if not block.stored:
        repair.ask_payload(state, block.header.payload_digest, candidates, state.config.delta_ns)
    elif block.own:
        set_verdict(state, block, True)
    elif not block.asked:
        block.asked = True
        state.out.append(Certify(block.header))


def on_certified(state: State, answer: Certified) -> None:
    """The application's verdict; late answers about blocks that are delivered meanwhile are ignored."""
    block = state.blocks.get(answer.digest)
    if block is None:
        return
    if block.verdict is not None and block.verdict != answer.ok:
        raise SafetyViolation(f"the application changed its verdict on block {answer.digest.hex()}")
    if block.verdict is None:
        set_verdict(state, block, answer.ok)


def set_verdict(state: State, block: Block, ok: bool) -> None:
    """Keep a verdict and put it into the journal."""
    block.verdict = ok
    state.persist(CertifiedRecord(block.header, ok))
    state.dirty = True


def on_payload_stored(state: State, stored: PayloadStored) -> None:
    """A payload is durable: the barrier before any vote for its block."""
    remember_payload(state, stored.digest)
    for block in state.blocks.values():
        if block.header.payload_digest == stored.digest and not block.stored:
            block.stored = True
            state.dirty = True


def remember_payload(state: State, digest: bytes) -> None:
    """Keep the digest of a stored payload; the oldest is forgotten."""
    state.stored_payloads[digest] = None
    if len(state.stored_payloads) > STORED_PAYLOADS:
        del state.stored_payloads[next(iter(state.stored_payloads))]
