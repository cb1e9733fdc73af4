"""R3: from a leader's proposal to a notarize vote."""

from __future__ import annotations

from coordinator.consensus import certify, guards, nullify, propose, repair, voting
from coordinator.consensus.effects import StorePayload
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.messages import Payload, Proposal, Vote
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import State
from coordinator.consensus.view_entry import deadlines_ns

_NS_PER_MS = 1_000_000
_UNASKED_PAYLOADS = 2
_VIEWS_ASKED_AT_ONCE = 16


def on_proposal(state: State, sender: bytes, proposal: Proposal) -> None:
    """R3: keep the first proposal of a view's leader; its certificates count whatever becomes of it.

    Certificates come first, for they may be what lets this node enter the view. Source: commonware #1078 (P10).
    """
    if not repair.is_this_epoch(state, sender, proposal.epoch):
        return
    if not guards.is_from_leader(state, sender, proposal):
        state.fault(sender, f"it proposes in view {proposal.view} and does not lead it")
        return
    for certificate in proposal.justification:
        voting.accept_certificate(state, sender, certificate)
    state.heard_at_ns[state.validators.leader(proposal.view)] = state.now_ns


def keep_proposal(state: State, sender: bytes, proposal: Proposal) -> None:
    """R3: the first proposal stands; a second, different one is equivocation and stops this node's vote."""
    if proposal.epoch != state.epoch or not guards.is_from_leader(state, sender, proposal):
        return
    if not guards.is_vote_in_window(state, proposal.view):
        if proposal.view > state.view:
            repair.on_vote_outside(state, sender, proposal.view)
        return
    current = state.round(proposal.view)
    if guards.is_second_proposal(current, proposal):
        current.equivocated = True
    elif current.proposal is None:
        current.proposal = proposal
        state.dirty = True
    if proposal.parent_view < proposal.view:
        vote = Vote(VoteKind.NOTARIZE, state.epoch, proposal.view, *proposal.value, proposal.signature)
        voting.count_vote(state, current, state.validators.leader(proposal.view), vote)


def try_notarize(state: State) -> None:
    """R3: vote for the current view's proposal once its ancestry is proved and its block certified.

    What is wrong for ever is answered with nullify at once; what is only missing is asked of the proposer and waited
    for (P9). Source: Simplex (Chan, Pass 2023); Ava Simplex #281 (P2); commonware #3042.
    """
    current = state.rounds.get(state.view)
    proposal = None if current is None else current.proposal
    if current is None or proposal is None or current.equivocated:
        return
    if not guards.may_vote(state, state.view) or not guards.may_notarize(current):
        return
    fault = fault_of_proposal(state, proposal)
    if fault is not None:
        state.fault(state.validators.leader_key(proposal.view), f"its proposal is invalid: {fault}")
        nullify.nullify(state, state.view)
    elif is_ancestry_proved(state, proposal):
        _vote_when_certified(state, proposal)


def fault_of_proposal(state: State, proposal: Proposal) -> str | None:
    """What is wrong with a proposal for ever; None if nothing is, as far as this node can tell yet."""
    if not guards.is_parent_below(state, proposal):
        return f"parent view {proposal.parent_view} is not between {state.final_view} and {proposal.view}"
    digest = propose.digest_at(state, proposal.parent_view)
    parent = None if digest is None else state.header_of(digest)
    if digest is None or parent is None:
        return guards.fault_of_identity(state, proposal.header)
    if certify.is_certified(state, digest) is False:
        return "its parent is not valid"
    return guards.fault_of_child(state, proposal.header, parent)


def is_ancestry_proved(state: State, proposal: Proposal) -> bool:
    """R3: the block at the parent's view and the nullifications after it; what is missing is asked of the proposer."""
    proposer = (state.validators.leader_key(proposal.view),)
    digest = propose.digest_at(state, proposal.parent_view)
    if digest is None:
        repair.ask_view(state, proposal.parent_view, proposer)
    missing = guards.missing_nullifications(state, proposal.parent_view, proposal.view)
    for view in missing[:_VIEWS_ASKED_AT_ONCE]:
        repair.ask_view(state, view, proposer)
    return digest is not None and state.header_of(digest) is not None and not missing


def _vote_when_certified(state: State, proposal: Proposal) -> None:
    state.add_block(proposal.header)
    digest = proposal.header.digest
    verdict = certify.is_certified(state, digest)
    if verdict is None:
        certify.request(state, digest, (state.validators.leader_key(proposal.view),))
    elif not verdict:
        nullify.nullify(state, state.view)
    elif is_timely(state, proposal.header, proposal.parent_view):
        vote(state)


def vote(state: State) -> None:
    """R3: the notarize vote; the leader's goes with its proposal."""
    current = state.round(state.view)
    proposal = current.proposal
    assert proposal is not None
    if state.validators.leader(state.view) == state.me:
        propose.vote_and_propose(state, current)
    else:
        voting.cast(state, current, VoteKind.NOTARIZE, proposal.value)


def is_timely(state: State, header: Header, parent_view: int) -> bool:
    """The header's time is within the drift bound of this node's clock; a time ahead is waited for, in this view only.

    Not part of the verdict, which must be the same for all: it only decides this node's own notarize vote. A boundary
    block proposed again keeps its old time.
    """
    if propose.digest_at(state, parent_view) == header.digest:
        return True
    drift_ns = state.config.max_clock_drift_ns
    ahead_ns = header.time_ms * _NS_PER_MS - state.now_ns
    give_up_ns = deadlines_ns(state)[1]
    if ahead_ns > drift_ns:
        timely_at_ns = state.now_ns + ahead_ns - drift_ns
        if timely_at_ns < give_up_ns:
            repair.wake(state, timely_at_ns)
        return False
    return -ahead_ns <= drift_ns + give_up_ns - state.entered_at_ns


def on_payload(state: State, sender: bytes, message: Payload) -> None:
    """Store a payload that a block waits for, or up to two early ones from the leader of this view or the next."""
    digest = payload_digest(message.payload)
    if digest in state.stored_payloads or not is_payload_welcome(state, sender, digest):
        return
    state.out.append(StorePayload(digest, message.payload))


def is_payload_welcome(state: State, sender: bytes, digest: bytes) -> bool:
    """Bounded memory and disk: nobody stores bytes here that nothing refers to."""
    if any(block.header.payload_digest == digest and not block.stored for block in state.blocks.values()):
        return True
    for view in (state.view, state.view + 1):
        current = state.round(view)
        if state.validators.leader_key(view) != sender:
            continue
        proposal = current.proposal
        if proposal is not None and proposal.header.payload_digest == digest:
            return True
        if current.payloads < _UNASKED_PAYLOADS:
            current.payloads += 1
            return True
    return False
