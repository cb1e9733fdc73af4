"""A validator that may have lost journal records follows, but votes only where it cannot have voted before."""

from __future__ import annotations

from coordinator.consensus import guards, repair, voting
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.errors import CertificateRefused
from coordinator.consensus.journal import FloorRecord
from coordinator.consensus.messages import ViewReply, ViewRequest
from coordinator.consensus.state import Rejoin, State
from coordinator.consensus.validators import ValidatorSet

NEVER = (1 << 64) - 1
"""The floor while it is not known yet."""


def begin(state: State, nonce: int) -> None:
    """Ask the peers where they are. Written down first: a crash in between must not make this node forget it."""
    state.floor = NEVER
    state.rejoin_nonce = nonce
    state.rejoin_next_too = True
    state.persist(FloorRecord(state.epoch, NEVER, nonce))
    resume(state)


def resume(state: State) -> None:
    """Ask, also after a restart in between: an answer to the same nonce is of a time after the loss."""
    assert state.rejoin_nonce is not None, "only a node that lost records asks"
    state.rejoin = Rejoin(state.rejoin_nonce, {}, state.now_ns)
    state.dirty = True


def has_other_members(validators: ValidatorSet, coming: ValidatorSet) -> bool:
    """Whether the next epoch's validators are not the same people."""
    return sorted(validators.public_keys) != sorted(coming.public_keys)


def begin_next_epoch(state: State, must_ask: bool) -> None:
    """A node that lost records enters the next epoch, in which it may have voted as well.

    Before the loss it alone may have known that the epoch was over, and voted in view 1 of the next one. No further:
    view 2, or a later epoch, needs a quorum in that view 1, and too few would have been left to answer from the epoch
    before it. So once a quorum has answered, the floor in the next epoch is 1, and nothing is left open after that one.
    That counts the same validators in both epochs; if they are others, or a quorum has not answered yet, it asks again.
    """
    nonce, next_too = state.rejoin_nonce, state.rejoin_next_too
    state.rejoin, state.rejoin_nonce = None, None
    if nonce is None or not next_too:
        return
    if must_ask:
        begin(state, nonce)
        return
    state.floor, state.rejoin_nonce, state.rejoin_next_too = 1, nonce, False
    state.persist(FloorRecord(state.epoch, state.floor, nonce, next_too=False))


def restore(state: State, record: FloorRecord) -> None:
    """From the journal. A record of another epoch stands in for the one that a crash prevented."""
    if record.epoch == state.epoch:
        state.floor, state.rejoin_nonce, state.rejoin_next_too = record.view, record.nonce, record.next_too
    elif record.epoch > state.epoch or record.next_too:
        state.floor, state.rejoin_nonce, state.rejoin_next_too = NEVER, record.nonce, True
    else:
        state.floor, state.rejoin_nonce, state.rejoin_next_too = -1, None, False


def is_unsure(state: State) -> bool:
    """Whether this node may have voted in a view that it does not remember."""
    return not guards.is_above_floor(state)


def ask_views(state: State) -> None:
    """Ask all peers, again after each network delay until a quorum has answered."""
    if state.rejoin is not None and guards.is_request_due(state.rejoin.next_at_ns, state.now_ns):
        state.broadcast(ViewRequest(state.epoch, state.rejoin.nonce))
        state.rejoin.next_at_ns = state.now_ns + 4 * state.config.delta_ns
    if state.rejoin is not None:
        repair.wake(state, state.rejoin.next_at_ns)


def on_view_request(state: State, sender: bytes, request: ViewRequest) -> None:
    """Tell a peer this node's view and the certificate that proves it."""
    if not repair.may_answer(state, sender):
        return
    view, certificate = provable_view(state)
    state.send(sender, ViewReply(state.epoch, request.nonce, view, certificate))


def provable_view(state: State) -> tuple[int, Certificate | None]:
    """The highest view that a certificate of the view before proves; view 1 needs none."""
    for view in range(state.view, state.final_view + 1, -1):
        before = state.rounds.get(view - 1)
        certificate = None if before is None else before.nullification or before.notarization
        if certificate is not None:
            return view, certificate
    return max(1, state.final_view + 1), state.final_certificate


def on_view_reply(state: State, sender: bytes, reply: ViewReply) -> None:
    """Take the maximum over q distinct peers: the floor is one above it.

    This node can have voted in view w only after q votes in w - 1, so of any q peers one honest one is in w - 1 or
    later: w <= maximum + 1. A peer of an earlier epoch is in no view of this one; one of a later epoch does not count,
    for this node has to follow it there and ask again. The proof keeps liars from raising the maximum.
    """
    rejoining = state.rejoin
    if rejoining is None or reply.nonce != rejoining.nonce or reply.epoch > state.epoch:
        return
    if state.validators.index_of(sender) is None:
        return
    view = reply.view if reply.epoch == state.epoch else 0
    if view > 1 and not is_proved(state, view, reply.certificate):
        state.fault(sender, "its view is not proved by its certificate")
        return
    rejoining.views[sender] = max(view, rejoining.views.get(sender, 0))
    if guards.is_quorum(state, len(rejoining.views)):
        state.floor = max(rejoining.views.values()) + 1
        state.rejoin = None
        state.persist(FloorRecord(state.epoch, state.floor, rejoining.nonce, state.rejoin_next_too))


def is_proved(state: State, view: int, certificate: Certificate | None) -> bool:
    """Whether the certificate is of the view before, and valid."""
    if certificate is None or certificate.view != view - 1:
        return False
    try:
        voting.verify(state, state.rounds.get(certificate.view), certificate)
    except CertificateRefused:
        return False
    return True
