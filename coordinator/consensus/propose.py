"""R2, R13: proposing as the leader of the current view."""

from __future__ import annotations

from coordinator.consensus import certify, guards, nullify, repair, voting
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import Build, SendPayload, StorePayload, TimerKind
from coordinator.consensus.errors import LocalMisuse
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.inputs import Built
from coordinator.consensus.messages import MAX_JUSTIFICATION, MAX_PAYLOAD_BYTES, Proposal
from coordinator.consensus.round import Round
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import State

_NS_PER_MS = 1_000_000


def try_propose(state: State) -> None:
    """R2: as leader, build on the highest usable parent, when pacing allows.

    Source: Simplex (Chan, Pass 2023); commonware voter `should_propose`.
    """
    view = state.view
    if view == 0 or state.validators.leader(view) != state.me:
        return
    current = state.round(view)
    if current.proposal is not None or current.building:
        return
    if not guards.may_vote(state, view) or not guards.may_notarize(current):
        return
    found = find_parent(state, view)
    if found is None:
        return
    parent_view, parent = found
    if guards.is_boundary(state, parent):
        propose_again(state, current, parent_view, parent)
    elif is_time_to_build(state, parent):
        current.building = True
        state.out.append(template(state, view, parent))


def find_parent(state: State, view: int) -> tuple[int, Header] | None:
    """R2: the highest view that is final, or notarized and certified, with every view in between nullified.

    A missing certificate is asked for, from anyone; a verdict that is not there yet is waited for.
    """
    for candidate in range(view - 1, state.final_view - 1, -1):
        digest = usable_digest(state, candidate)
        header = None if digest is None else state.header_of(digest)
        if header is not None:
            return candidate, header
        current = state.rounds.get(candidate)
        if current is None or current.nullification is None:
            if candidate > state.final_view and (current is None or current.notarization is None):
                repair.ask_view(state, candidate, ())
            return None
    return None


def usable_digest(state: State, view: int) -> bytes | None:
    """What one may build on in a view: the delivered final block, or the notarized and certified one."""
    digest = digest_at(state, view)
    return digest if digest is not None and certify.is_certified(state, digest) else None


def digest_at(state: State, view: int) -> bytes | None:
    """The block that is final or notarized in a view."""
    if view == state.final_view:
        return state.final_digest
    current = state.rounds.get(view)
    certificate = None if current is None else current.notarization
    return None if certificate is None else certificate.digest


def is_time_to_build(state: State, parent: Header) -> bool:
    """R13: a leader with transactions keeps the minimum interval, one without waits for the heartbeat."""
    config = state.config
    pause_ns = config.minimum_interval_ns
    if not state.work_waiting:
        pause_ns = max(pause_ns, config.heartbeat_ns)
    due_ns = min(parent.time_ms * _NS_PER_MS, state.entered_at_ns) + pause_ns
    if state.now_ns >= due_ns:
        return True
    paced = state.round(state.view).paced
    if due_ns not in paced:
        paced[due_ns] = None
        state.set_timer(TimerKind.PACING, due_ns, state.view)
    return False


def template(state: State, view: int, parent: Header) -> Build:
    """What the application has to build."""
    time_ms = max(parent.time_ms + 1, state.now_ns // _NS_PER_MS)
    return Build(view, parent, state.version, state.epoch, parent.height + 1, time_ms, state.validators.root)


def on_built(state: State, built: Built) -> None:
    """The application's block: spread and store its payload at once; the vote waits until it is durable."""
    current = state.rounds.get(built.view)
    if built.view != state.view or current is None or not current.building or current.my_nullify:
        return
    parent = state.header_of(built.header.parent_digest)
    fault = "its parent is not the one asked for" if parent is None else None
    if parent is not None:
        fault = guards.fault_of_child(state, built.header, parent)
    if built.header.payload_digest != payload_digest(built.payload) or len(built.payload) > MAX_PAYLOAD_BYTES:
        fault = f"the payload is not what the header commits to or is longer than {MAX_PAYLOAD_BYTES} bytes"
    if fault is not None:
        raise LocalMisuse(f"Built for view {built.view}: {fault}; build what Build asked for")
    found = find_parent(state, built.view)
    if found is None or found[1] != parent:
        current.building = False
        state.dirty = True
        return
    block = state.add_block(built.header)
    assert block is not None, "a block above the delivered one"
    block.own = True
    current.proposal = Proposal(state.epoch, built.view, found[0], built.header, b"")
    if not block.stored:
        if state.recipients:
            state.out.append(SendPayload(built.payload, state.recipients))
        state.out.append(StorePayload(built.header.payload_digest, built.payload))
    state.dirty = True


def on_build_failed(state: State, view: int) -> None:
    """R2: an application that cannot build counts as a timeout at once; the others follow the leader (R7)."""
    current = state.rounds.get(view)
    if view == state.view and current is not None and current.building:
        nullify.nullify(state, view)


def propose_again(state: State, current: Round, parent_view: int, parent: Header) -> None:
    """R12: the last block of the epoch once more, until a view that carries it is final; nothing is built on it."""
    if parent.digest != state.final_digest:
        current.proposal = Proposal(state.epoch, current.view, parent_view, parent, b"")
        state.dirty = True


def vote_and_propose(state: State, current: Round) -> None:
    """R2: the leader's notarize vote travels with its proposal, and with the certificates that it rests on (P10)."""
    proposal = current.proposal
    assert proposal is not None
    signature = voting.record_vote(state, current, VoteKind.NOTARIZE, proposal.value)
    current.proposal = signed_proposal(state, proposal, signature)
    state.broadcast(current.proposal)


def signed_proposal(state: State, proposal: Proposal, signature: bytes) -> Proposal:
    """The proposal as it is sent."""
    certificates = justification(state, proposal.parent_view, proposal.view)
    return Proposal(proposal.epoch, proposal.view, proposal.parent_view, proposal.header, signature, certificates)


def justification(state: State, parent_view: int, view: int) -> tuple[Certificate, ...]:
    """The parent's certificate and the newest nullifications after it; what does not fit is asked for."""
    certificates: list[Certificate | None] = []
    if parent_view == state.final_view:
        certificates.append(state.final_certificate)
    elif parent_view in state.rounds:
        certificates.append(state.rounds[parent_view].notarization)
    newest = range(max(parent_view + 1, view - MAX_JUSTIFICATION + 1), view)
    certificates += [state.rounds[between].nullification for between in newest if between in state.rounds]
    return tuple(certificate for certificate in certificates if certificate is not None)
