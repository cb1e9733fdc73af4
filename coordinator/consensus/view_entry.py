"""R1: entering a view."""

from __future__ import annotations

from coordinator.consensus import guards, nullify
from coordinator.consensus.effects import TimerKind
from coordinator.consensus.state import State


def enter(state: State, view: int) -> None:
    """R1: enter a view, only upwards; arm the leader and the certification timeout, or skip a silent leader.

    Source: commonware simplex, voter `enter_view`; the design's t_l = T_b + 2 Delta and t_a = t_l + Delta (R13).
    """
    if view <= state.view:
        return
    for current in state.rounds.values():
        if current.view < view and current.cleared_at_ns is None:
            current.cleared_at_ns = state.now_ns
    state.view = view
    state.entered_at_ns = state.now_ns
    state.dirty = True
    if not state.is_over:
        arm(state)


def arm(state: State) -> None:
    """Timeouts of the current view; only the retry if this node has voted nullify, before a restart or by skipping."""
    if state.round(state.view).my_nullify:
        nullify.set_retry(state)
        return
    if should_skip_leader(state):
        nullify.nullify(state, state.view)
        return
    leader_at, advance_at = deadlines_ns(state)
    state.set_timer(TimerKind.NUDGE, leader_at - state.delta_ns, state.view)
    state.set_timer(TimerKind.LEADER, leader_at, state.view)
    state.set_timer(TimerKind.ADVANCE, advance_at, state.view)


def deadlines_ns(state: State) -> tuple[int, int]:
    """When to give the leader up, and when the view: R13 lets an idle leader wait, so the timeouts wait for it."""
    leader_at = state.entered_at_ns + state.config.pause_ns + 2 * state.delta_ns
    return leader_at, leader_at + state.delta_ns


def should_skip_leader(state: State) -> bool:
    """R1: the leader has been silent for long while a quorum, this node included, was not, and has proposed nothing.

    Fails open when fewer than a quorum are heard: then it is this node that is cut off. Source: commonware batcher
    `is_active`.
    """
    validators = state.validators
    leader = validators.leader(state.view)
    current = state.rounds.get(state.view)
    if leader == state.me or (current is not None and current.proposal is not None):
        return False
    since_ns = state.now_ns - state.config.skip_timeout_ns
    if state.heard_at_ns[leader] >= since_ns:
        return False
    active = sum(1 for i, heard_ns in enumerate(state.heard_at_ns) if i == state.me or heard_ns >= since_ns)
    return guards.is_quorum(state, active)
