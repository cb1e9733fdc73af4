"""R5, R7, R8: giving a view up."""

from __future__ import annotations

from coordinator.consensus import guards, repair, voting
from coordinator.consensus.effects import Timer, TimerKind
from coordinator.consensus.round import NO_VALUE
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import State


def nullify(state: State, view: int) -> None:
    """R7: vote nullify, unless a finalize vote has been cast in this view. Notarize then nullify is legal.

    Source: Simplex (Chan, Pass 2023), TON rules 3 and 6, commonware `construct_nullify`.
    """
    current = state.round(view)
    if not guards.may_vote(state, view) or not guards.may_nullify(current):
        return
    voting.cast(state, current, VoteKind.NULLIFY, NO_VALUE)
    if view == state.view:
        set_retry(state)


def set_retry(state: State) -> None:
    """R8: the next retry in the current view."""
    state.set_timer(TimerKind.RETRY, state.now_ns + 4 * state.delta_ns, state.view)


def on_timeout(state: State, timer: Timer) -> None:
    """R7: the leader timeout counts only without a proposal, the other one in any case.

    A node that rejoins may come above its floor without leaving the view, so until then the timeout comes again.
    """
    if timer.view != state.view:
        return
    current = state.round(timer.view)
    if timer.kind is TimerKind.LEADER and current.proposal is not None:
        return
    if not guards.is_above_floor(state):
        state.set_timer(timer.kind, state.now_ns + state.delta_ns, timer.view)
    nullify(state, timer.view)


def follow_leader(state: State) -> None:
    """R7: the leader itself has given the view up, so nothing will come of it."""
    if state.view == 0:
        return
    tally = state.round(state.view).tallies.get(VoteKind.NULLIFY)
    if tally is not None and state.validators.leader(state.view) in tally.ballots:
        nullify(state, state.view)


def on_retry(state: State, timer: Timer) -> None:
    """R8: still in a view that this node has voted to nullify: send the vote again, and what let it enter the view.

    Source: commonware voter `handle_timeout` (retry); without it a lost vote stalls the view for ever.
    """
    if timer.view != state.view or state.is_over:
        return
    current = state.round(timer.view)
    if not current.my_nullify:
        return
    state.broadcast(voting.own_vote(state, current, VoteKind.NULLIFY, NO_VALUE))
    entry = repair.entry_certificate(state, timer.view)
    if entry is not None:
        state.broadcast(entry)
    set_retry(state)
