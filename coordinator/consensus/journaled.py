"""Replaying the journal after a restart, and writing it anew without what is no longer needed."""

from __future__ import annotations

from coordinator.consensus import propose, rejoin, voting
from coordinator.consensus.journal import CertificateRecord, CertifiedRecord, FloorRecord, Record, VoteRecord
from coordinator.consensus.messages import Proposal
from coordinator.consensus.round import Round
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import State
from coordinator.consensus.tally import Value


def replay(state: State, records: tuple[Record, ...]) -> None:
    """Restore votes first, then certificates and blocks; nothing is written or sent.

    Verdicts on valid blocks are asked for again, because the application may have lost what it had executed (P8); a
    verdict of invalid is final. What is not above the anchor's finality is skipped: nobody votes there any more.
    """
    votes = [record for record in records if isinstance(record, VoteRecord)]
    state.coming_votes = [vote for vote in votes if vote.epoch > state.epoch]
    for vote in votes:
        if vote.epoch == state.epoch and vote.view > state.final_view:
            state.round(vote.view).record_own(vote.kind, (vote.parent_view, vote.digest))
    for record in records:
        if isinstance(record, CertifiedRecord):
            restore_block(state, record)
        elif isinstance(record, CertificateRecord):
            restore_certificate(state, record)
        elif isinstance(record, FloorRecord):
            rejoin.restore(state, record)
    recount_own_votes(state)
    state.out.clear()


def restore_block(state: State, record: CertifiedRecord) -> None:
    """A certified block's payload is durable."""
    if record.header.epoch != state.epoch:
        return
    block = state.add_block(record.header)
    if block is not None:
        block.stored = True
        if not record.ok:
            block.verdict = False


def restore_certificate(state: State, record: CertificateRecord) -> None:
    """Certificates act in `core.progress`, once the node starts."""
    certificate = record.certificate
    if certificate.epoch == state.epoch and certificate.view > state.final_view:
        voting.keep_certificate(state, certificate)


def recount_own_votes(state: State) -> None:
    """P5: own votes count after a restart as they did before; else a restart of all stalls for ever."""
    if state.me is None:
        return
    for view in sorted(state.rounds):
        current = state.rounds[view]
        for kind, value in current.own_votes():
            signature = voting.sign_own(state, current, kind, value)
            if kind is VoteKind.NOTARIZE and state.validators.leader(view) == state.me:
                restore_proposal(state, current, value, signature)


def restore_proposal(state: State, current: Round, value: Value, signature: bytes) -> None:
    """The own proposal, to be sent again if need be."""
    parent_view, digest = value
    header = state.header_of(digest)
    if header is not None:
        unsigned = Proposal(state.epoch, current.view, parent_view, header, signature)
        current.proposal = propose.signed_proposal(state, unsigned, signature)


def replay_coming(state: State) -> None:
    """Votes of an epoch that this node had entered before a crash and enters again."""
    for vote in state.coming_votes:
        if vote.epoch == state.epoch:
            state.round(vote.view).record_own(vote.kind, (vote.parent_view, vote.digest))
    state.coming_votes = [vote for vote in state.coming_votes if vote.epoch > state.epoch]
    mark = len(state.out)
    recount_own_votes(state)
    del state.out[mark:]


def view_to_enter(state: State) -> int:
    """The highest view that this node has voted in: it must not fall behind its own votes."""
    return max((view for view, current in state.rounds.items() if current.own_votes()), default=0)


def checkpoint(state: State) -> tuple[Record, ...]:
    """A journal that restarts this node as it stands: the host may put it in place of the old one, atomically."""
    records: list[Record] = []
    if state.rejoin_nonce is not None:
        records.append(FloorRecord(state.epoch, state.floor, state.rejoin_nonce, state.rejoin_next_too))
    for view in sorted(state.rounds):
        current = state.rounds[view]
        records += [VoteRecord(kind, state.epoch, view, *value) for kind, value in current.own_votes()]
        records += [CertificateRecord(certificate) for certificate in current.certificates.values()]
    records += state.coming_votes
    for block in state.blocks.values():
        if block.verdict is not None:
            records.append(CertifiedRecord(block.header, block.verdict))
    return tuple(records)
