"""The conditions on which safety, liveness and bounded memory rest, each a function of its own.

Callers go through this module, so that the mutation tests can drop one guard at a time and show that it is missed.
"""

from __future__ import annotations

from itertools import pairwise

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.header import Header
from coordinator.consensus.messages import Proposal
from coordinator.consensus.round import Round
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import State


def may_vote(state: State, view: int) -> bool:
    """A validator of this epoch, above finality, and above whatever lost records may have said."""
    return state.me is not None and view > state.final_view and not state.is_over and is_above_floor(state)


def is_above_floor(state: State) -> bool:
    """After lost records: no vote until a view above every possibly signed one is final."""
    return state.rejoin is None and state.final_view > state.floor


def may_notarize(current: Round) -> bool:
    """R3: once a view, never after a nullify vote."""
    return current.my_notarize is None and not current.my_nullify


def may_nullify(current: Round) -> bool:
    """R7: never after a finalize vote; one nullify vote a view (P7)."""
    return current.my_finalize is None and not current.my_nullify


def may_finalize(current: Round) -> bool:
    """R4: once a view, never after a nullify vote (P1)."""
    return current.my_finalize is None and not current.my_nullify


def is_quorum(state: State, count: int) -> bool:
    """q votes or more."""
    return count >= state.validators.quorum


def is_from_leader(state: State, sender: bytes, proposal: Proposal) -> bool:
    """R3: only the leader of a view proposes in it."""
    return sender == state.validators.leader_key(proposal.view)


def is_second_proposal(current: Round, proposal: Proposal) -> bool:
    """R3: the first proposal stands; a different one is equivocation."""
    return current.proposal is not None and current.proposal.value != proposal.value


def is_parent_below(state: State, proposal: Proposal) -> bool:
    """R3: the parent's view is below the proposal's and not below the last final one."""
    return state.final_view <= proposal.parent_view < proposal.view


def missing_nullifications(state: State, parent_view: int, view: int) -> list[int]:
    """R2, R3: views strictly between parent and proposal without a nullification (P2: skipping one forks)."""
    rounds = state.rounds
    missing = []
    for between in range(parent_view + 1, view):
        skipped = rounds.get(between)
        if skipped is None or skipped.nullification is None:
            missing.append(between)
    return missing


def fault_of_child(state: State, header: Header, parent: Header) -> str | None:
    """What is wrong with a header on this parent, for ever and for everybody; None if nothing is."""
    if header.digest == parent.digest:
        return None if is_boundary(state, parent) else "only the last block of an epoch is proposed again"
    if is_boundary(state, parent):
        return "nothing is built on the last block of an epoch before it is final"
    if header.parent_digest != parent.digest or header.height != parent.height + 1:
        return "its height or parent digest does not follow from its parent"
    if header.time_ms <= parent.time_ms:
        return "its time is not after its parent's"
    return fault_of_identity(state, header)


def is_boundary(state: State, header: Header) -> bool:
    """R12: the last block of the epoch."""
    return header.height == state.last_height


def fault_of_identity(state: State, header: Header) -> str | None:
    """What a header must carry in this epoch."""
    if header.chain_id != state.validators.chain_id or header.epoch != state.epoch:
        return "it is of another chain or epoch"
    if header.version != state.version:
        return f"its version is {header.version}, the epoch's is {state.version}"
    if header.validators_root != state.validators.root:
        return "it commits to other validators than the epoch's"
    coming = state.epochs.get(state.epoch + 1)
    if coming is not None and header.next_validators_root != coming.validators.root:
        return "it commits to other next validators than were announced"
    return None


def is_vote_in_window(state: State, view: int) -> bool:
    """Votes are kept for views above the last final one, not too far back, up to the next one (P13)."""
    return max(state.final_view, state.view - state.config.tally_views) < view <= state.view + 1


def is_certificate_in_window(state: State, certificate: Certificate) -> bool:
    """Above finality; a nullification or finalization moves this node on, however far ahead it is."""
    if certificate.view <= state.final_view:
        return False
    ahead = certificate.view > state.view + state.config.certificate_views
    return not (ahead and certificate.kind is VoteKind.NOTARIZE)


def is_request_due(next_at_ns: int, now_ns: int) -> bool:
    """R10: one request per thing and delay, or repair feeds on itself."""
    return now_ns >= next_at_ns


def is_hash_chain(headers: tuple[Header, ...]) -> bool:
    """Each header is the parent of the next."""
    return all(after.parent_digest == before.digest for before, after in pairwise(headers))
