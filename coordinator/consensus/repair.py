"""Asking for what is missing and answering those who ask or lag (R9, Want, GetBlock, GetPayload), at a bounded rate."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.consensus import guards
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import ServeBlock, ServePayload, ServeRange, TimerKind
from coordinator.consensus.epochs import boundary_height
from coordinator.consensus.messages import (
    MAX_HEADERS,
    Blocks,
    GetBlock,
    GetPayload,
    GetRange,
    Hello,
    Message,
    Want,
)
from coordinator.consensus.round import Round
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import Request, State

ANSWERS_PER_DELTA = 64
"""Answers that one peer gets within one network delay."""
_REMEMBERED_PEERS = 4096
_REMEMBERED_REQUESTS = 512
_BEHIND_VIEWS = 4
_OWN_VIEW_KEY = "settled"


def ask(
    state: State, key: tuple[str, bytes | int], message: Message, candidates: Sequence[bytes], delay_ns: int = 0
) -> None:
    """R10, P3: ask the likeliest peers first, then anybody, ever more slowly; never twice within a delay.

    Sources: TON retries (x 1.5, cap 30 s); commonware #4625 (fetch must widen beyond the proposer).
    """
    request = state.requests.get(key)
    if request is None:
        if len(state.requests) >= _REMEMBERED_REQUESTS:
            state.requests.clear()
        request = state.requests[key] = Request(state.now_ns + delay_ns, state.config.delta_ns, 0)
    if guards.is_request_due(request.next_at_ns, state.now_ns):
        to = _next_peer(state, candidates, request.attempts)
        if to is not None:
            state.send(to, message)
        request.attempts += 1
        request.next_at_ns = state.now_ns + request.interval_ns
        request.interval_ns = min(state.config.repair_cap_ns, request.interval_ns * 3 // 2)
    wake(state, request.next_at_ns)


def _next_peer(state: State, candidates: Sequence[bytes], attempts: int) -> bytes | None:
    if attempts < len(candidates):
        return candidates[(state.rotation + attempts) % len(candidates)]
    if not state.others:
        return None
    state.rotation += 1
    return state.others[(state.rotation + (state.me or 0)) % len(state.others)]


def wake(state: State, at_ns: int) -> None:
    """Look again at what is missing at `at_ns`; one timer at a time."""
    if state.repair_at_ns is None or at_ns < state.repair_at_ns:
        state.repair_at_ns = at_ns
        state.set_timer(TimerKind.REPAIR, at_ns)


def on_repair_timer(state: State) -> None:
    """Evaluate the rules again; each asks for what it still misses."""
    if state.repair_at_ns is not None and state.repair_at_ns <= state.now_ns:
        state.repair_at_ns = None
        state.dirty = True


def ask_view(state: State, view: int, candidates: Sequence[bytes]) -> None:
    """Want: the certificates of a view."""
    ask(state, ("view", view), Want(state.epoch, view), candidates)


def ask_block(state: State, digest: bytes, candidates: Sequence[bytes]) -> None:
    """GetBlock: a header that a certificate names; at least f + 1 honest signers of it hold it."""
    ask(state, ("block", digest), GetBlock(digest), candidates)


def ask_payload(state: State, digest: bytes, candidates: Sequence[bytes], delay_ns: int) -> None:
    """GetPayload: after a delay in which the leader's own copy usually comes."""
    ask(state, ("payload", digest), GetPayload(digest), candidates, delay_ns)


def may_answer(state: State, peer: bytes) -> bool:
    """Bounded egress: a peer gets so many answers within one network delay, and no more."""
    since, count = state.answers.get(peer, (state.now_ns, 0))
    if state.now_ns - since >= state.config.delta_ns:
        since, count = state.now_ns, 0
    if len(state.answers) >= _REMEMBERED_PEERS:
        state.answers.clear()
    state.answers[peer] = (since, count + 1)
    return count < ANSWERS_PER_DELTA


def may_answer_stale(state: State, peer: bytes) -> bool:
    """Unasked help: once per peer and network delay."""
    last = state.stale_answers.get(peer)
    if last is not None and state.now_ns - last < state.config.delta_ns:
        return False
    if len(state.stale_answers) >= _REMEMBERED_PEERS:
        state.stale_answers.clear()
    state.stale_answers[peer] = state.now_ns
    return True


def best_certificate(state: State, view: int) -> Certificate | None:
    """R9: the best certificate that clears a view: the highest finalization, else its notarization, else nullification.

    Source: Ava Simplex #306, #599.
    """
    if state.final_certificate is not None and state.final_view >= view:
        return state.final_certificate
    current = state.rounds.get(view)
    if current is None:
        return None
    return current.notarization or current.nullification


def answer_stale(state: State, sender: bytes, current: Round) -> None:
    """R9: a vote for a view that this node cleared more than a network delay ago: its sender lags (P12)."""
    cleared = current.cleared_at_ns
    if cleared is not None and state.now_ns - cleared >= state.config.delta_ns:
        help_forward(state, sender, current.view)


def on_vote_outside(state: State, sender: bytes, view: int) -> None:
    """R9: a vote outside the window is not kept; its sender is helped if it lags, and asked if this node does."""
    if view > state.view:
        ask(state, (_OWN_VIEW_KEY, state.view), Want(state.epoch, state.view), (sender,))
        return
    if view + _BEHIND_VIEWS < state.view or state.now_ns - state.final_at_ns >= state.config.delta_ns:
        help_forward(state, sender, view)


def help_forward(state: State, peer: bytes, view: int) -> None:
    """R9: the best certificate for a peer that stands in `view`."""
    certificate = best_certificate(state, view)
    if certificate is not None and may_answer_stale(state, peer):
        state.send(peer, certificate)


def nudge_leader(state: State, view: int) -> None:
    """R9: no proposal a delay after entering: the leader may not know that the view has begun; send it what began it.

    This takes the place of the paper's relaying of every certificate by everybody: liars who vote to a few only could
    else keep honest nodes apart by more than a timeout, for ever. Source: commonware #4332, #1078.
    """
    if view != state.view or state.is_over or state.validators.leader(view) == state.me:
        return
    current = state.rounds.get(view)
    entry = entry_certificate(state, view)
    if entry is not None and (current is None or current.proposal is None):
        state.send(state.validators.leader_key(view), entry)


def entry_certificate(state: State, view: int) -> Certificate | None:
    """R8: the best certificate that let this node enter a view: finalization, else nullification, else notarization."""
    if state.final_view == view - 1:
        return state.final_certificate
    before = state.rounds.get(view - 1)
    if before is None:
        return None
    return before.nullification or before.notarization


def on_want(state: State, sender: bytes, want: Want) -> None:
    """Answer Want: the highest finalization, else both certificates of the view: the asker may lack either."""
    if not is_this_epoch(state, sender, want.epoch) or not may_answer(state, sender):
        return
    if state.final_certificate is not None and state.final_view >= want.view:
        state.send(sender, state.final_certificate)
        return
    current = state.rounds.get(want.view)
    if current is None:
        return
    for kind in (VoteKind.NOTARIZE, VoteKind.NULLIFY):
        certificate = current.certificates.get(kind)
        if certificate is not None:
            state.send(sender, certificate)


def is_this_epoch(state: State, sender: bytes, epoch: int) -> bool:
    """Only this epoch's messages count (P13). Older ones are answered with the boundary certificate of theirs."""
    if epoch == state.epoch:
        return True
    if epoch < state.epoch:
        if epoch + 1 < state.epoch or state.now_ns - state.opened_at_ns >= state.config.delta_ns:
            answer_old_epoch(state, sender, epoch)
    else:
        ask(state, (_OWN_VIEW_KEY, state.view), Want(state.epoch, state.view), (sender,))
    return False


def answer_old_epoch(state: State, sender: bytes, epoch: int) -> None:
    """R12: what ended that epoch; from the block store if it is long ago."""
    if not may_answer_stale(state, sender):
        return
    certificate = state.boundaries.get(epoch)
    if certificate is not None:
        state.send(sender, certificate)
    else:
        height = boundary_height(epoch, state.config.epoch_length)
        state.out.append(ServeRange(sender, height, 1))


def on_get_block(state: State, sender: bytes, request: GetBlock) -> None:
    """Answer with a header from memory, or let the host look into its store."""
    if not may_answer(state, sender):
        return
    header = state.header_of(request.digest)
    if header is not None:
        state.send(sender, Blocks((header,), None))
    else:
        state.out.append(ServeBlock(sender, request.digest))


def on_get_payload(state: State, sender: bytes, request: GetPayload) -> None:
    """Let the host answer from its store."""
    if may_answer(state, sender):
        state.out.append(ServePayload(sender, request.digest))


def on_get_range(state: State, sender: bytes, request: GetRange) -> None:
    """Let the host answer from its store, up to the end of the epoch in which the range begins."""
    start, length = request.from_height, state.config.epoch_length
    if 1 <= start <= state.delivered.height and may_answer(state, sender):
        end = min(state.delivered.height, boundary_height((start - 1) // length, length))
        state.out.append(ServeRange(sender, start, min(MAX_HEADERS, end - start + 1)))


def greet(state: State, peer: bytes) -> None:
    """Hello: tell a peer where this node stands."""
    state.send(peer, own_hello(state))


def own_hello(state: State) -> Hello:
    """Where this node stands."""
    config = state.config
    chain_id = state.validators.chain_id
    return Hello(chain_id, state.epoch, state.view, state.final_view, config.lowest_version, config.highest_version)


def on_hello(state: State, sender: bytes, hello: Hello) -> None:
    """The peer that is ahead pushes its highest certificate (Ava README); the one behind says hello back."""
    if hello.chain_id != state.validators.chain_id:
        state.fault(sender, "it is of another chain: disconnect")
        return
    if hello.epoch == state.epoch and not hello.lowest_version <= state.version <= hello.highest_version:
        state.fault(sender, f"it does not speak protocol version {state.version} of this epoch: it must be upgraded")
    if hello.epoch < state.epoch:
        answer_old_epoch(state, sender, hello.epoch)
    elif hello.epoch > state.epoch:
        ask(state, (_OWN_VIEW_KEY, state.view), Want(state.epoch, state.view), (sender,))
    elif hello.final_view < state.final_view:
        help_forward(state, sender, state.final_view)
    elif hello.view < state.view:
        help_forward(state, sender, state.view - 1)
    elif hello.view > state.view or hello.final_view > state.final_view:
        ask(state, (_OWN_VIEW_KEY, state.view), own_hello(state), (sender,))
