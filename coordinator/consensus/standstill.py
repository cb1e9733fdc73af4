"""R10: no finality for long: offer again everything that could bring it about, within bounds."""

from __future__ import annotations

from coordinator.consensus import voting
from coordinator.consensus.effects import TimerKind
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import State

_SLOWEST = 6
"""The period doubles with each standstill in a row up to 2^6 times the first."""
_OWN_VIEWS = 8


def arm(state: State) -> None:
    """Set the next look at finality."""
    period_ns = state.config.standstill_ns << min(state.standstills, _SLOWEST)
    state.standstill_view = state.final_view
    state.set_timer(TimerKind.STANDSTILL, state.now_ns + period_ns)


def on_standstill_timer(state: State) -> None:
    """R10: cast the highest finalization, the newest certificates above it, own votes and, as leader, the proposal.

    Source: TON rule 8, which warns that unbounded egress feeds on itself: hence the cap and the growing period.
    """
    if state.is_over:
        return
    if state.final_view == state.standstill_view:
        cast_everything(state)
        state.standstills += 1
    else:
        state.standstills = 0
    state.dirty = True
    arm(state)


def cast_everything(state: State) -> None:
    """Highest finalization, certificates of the newest views above it, own votes and proposals of the newest views.

    Only recorded votes are sent again, never made (P1).
    """
    if state.final_certificate is not None:
        state.broadcast(state.final_certificate)
    above = [view for view in sorted(state.rounds) if view > state.final_view]
    certificates = [c for view in above for c in state.rounds[view].certificates.values()]
    for certificate in certificates[-state.config.standstill_certificates :]:
        state.broadcast(certificate)
    for view in above[-_OWN_VIEWS:]:
        cast_own(state, view)


def cast_own(state: State, view: int) -> None:
    """Own votes of a view; the leader's notarize vote goes with its proposal."""
    current = state.rounds[view]
    for kind, value in current.own_votes():
        proposal = current.proposal
        is_mine = state.validators.leader(view) == state.me
        if kind is VoteKind.NOTARIZE and is_mine and proposal is not None and proposal.value == value:
            state.broadcast(proposal)
        else:
            state.broadcast(voting.own_vote(state, current, kind, value))
