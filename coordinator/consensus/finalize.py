"""R6: finality, and the delivery of finalized blocks in order."""

from __future__ import annotations

from coordinator.consensus import certify, guards, repair, view_entry, voting
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import Deliver
from coordinator.consensus.errors import CertificateRefused, SafetyViolation
from coordinator.consensus.header import Header
from coordinator.consensus.messages import MAX_HEADERS, Blocks, GetRange
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.state import State

PAYLOADS_AHEAD = 16
"""Payloads asked for at once while catching up."""
_RANGE_ATTEMPTS = 8
_WALKED_BLOCKS = 8
"""A gap of so many blocks is walked one after another; that is no faster than the chain grows."""
_WAITING_BLOCKS = 2 * MAX_HEADERS


def finalize(state: State, certificate: Certificate) -> None:
    """R6: a finalization settles its view and all below; an own finalize vote need not exist.

    Only here do timeouts start afresh (R11) and is anything forgotten. Source: Simplex (Chan, Pass 2023), TON rule 5.
    """
    view = certificate.view
    if view <= state.final_view:
        return
    state.final_view = view
    state.final_digest = certificate.digest
    state.final_certificate = certificate
    state.final_at_ns = state.now_ns
    state.direct[certificate.digest] = certificate
    forget_views(state)
    state.dirty = True
    view_entry.enter(state, view + 1)


def forget_views(state: State) -> None:
    """Bounded memory: nothing below the last final view is ever needed again, for no vote is cast there."""
    for view in [view for view in state.rounds if view < state.final_view]:
        del state.rounds[view]
    for view in [view for view in state.uncertified if view <= state.final_view]:
        del state.uncertified[view]
    if len(state.direct) > _WAITING_BLOCKS:
        del state.direct[next(iter(state.direct))]


def tail(state: State) -> Header:
    """The last block that is known to follow the delivered ones."""
    return state.to_deliver[-1] if state.to_deliver else state.delivered


def extend_chain(state: State) -> None:
    """R6: link the last final block to the delivered ones; ask for what is missing, by range if that is much."""
    digest, last = state.final_digest, tail(state)
    if digest is None or digest == last.digest or len(state.to_deliver) >= _WAITING_BLOCKS:
        return
    candidates = state.keys_of(state.final_certificate.signers) if state.final_certificate else ()
    target = state.header_of(digest)
    if target is not None and is_range_needed(state, target.height - last.height):
        start = last.height + 1
        repair.ask(state, ("range", start), GetRange(start), candidates)
        return
    path: list[Header] = []
    while digest != last.digest:
        header = state.header_of(digest)
        if header is None:
            adopt_final_proposal(state, digest)
            header = state.header_of(digest)
        if header is None:
            repair.ask_block(state, digest, candidates)
            return
        assert header.height > last.height, "only headers above the delivered block are kept"
        path.append(header)
        digest = header.parent_digest
        if header.height == last.height + 1 and digest != last.digest:
            raise SafetyViolation(f"a second final block at height {last.height}: more than f are faulty")
    state.to_deliver.extend(reversed(path))
    state.dirty = True


def adopt_final_proposal(state: State, digest: bytes) -> None:
    """The header of the final block, if it is the proposal that this node has of the final view."""
    current = state.rounds.get(state.final_view)
    if current is not None and current.proposal is not None and current.proposal.header.digest == digest:
        state.add_block(current.proposal.header)


def is_range_needed(state: State, gap: int) -> bool:
    """Many blocks are fetched forwards, by range; one after another backwards only if nobody can serve a range."""
    request = state.requests.get(("range", tail(state).height + 1))
    return gap > _WALKED_BLOCKS and (request is None or request.attempts < _RANGE_ATTEMPTS)


def deliver(state: State) -> None:
    """R6: hand finalized blocks over, in order, once their payloads are durable."""
    while state.to_deliver:
        header = state.to_deliver[0]
        block = state.add_block(header)
        assert block is not None, "the next block to deliver is above the delivered one"
        if not block.stored:
            _ask_payloads(state)
            return
        if block.verdict is False:
            raise SafetyViolation(f"block {header.digest.hex()} is final, but the application calls it invalid")
        state.to_deliver.popleft()
        state.delivered = header
        state.out.append(Deliver(header, state.direct.pop(header.digest, None)))
        forget_blocks(state)
        state.dirty = True


def _ask_payloads(state: State) -> None:
    certificate = state.final_certificate
    signers = state.keys_of(certificate.signers) if certificate else ()
    for index, header in enumerate(state.to_deliver):
        if index == PAYLOADS_AHEAD:
            return
        block = state.add_block(header)
        if block is not None and not block.stored:
            repair.ask_payload(state, header.payload_digest, signers, 0)


def forget_blocks(state: State) -> None:
    """Bounded memory: what is not above the delivered block is the host's to keep."""
    height = state.delivered.height
    for digest in [digest for digest, block in state.blocks.items() if block.header.height <= height]:
        del state.blocks[digest]


def on_blocks(state: State, sender: bytes, blocks: Blocks) -> None:
    """Headers that were asked for: by digest, or a range that its last header's finalization proves."""
    headers = blocks.headers
    if not guards.is_hash_chain(headers):
        state.fault(sender, "its headers do not form a chain")
        return
    if blocks.certificate is not None:
        _take_range(state, sender, headers, blocks.certificate)
    elif ("block", headers[-1].digest) in state.requests and is_wanted(state, headers[-1]):
        for header in headers:
            state.add_block(header)


def is_wanted(state: State, header: Header) -> bool:
    """Whether a header is of this epoch and above the delivered one."""
    return header.epoch == state.epoch and state.delivered.height < header.height <= state.last_height


def _take_range(state: State, sender: bytes, headers: tuple[Header, ...], certificate: Certificate) -> None:
    if certificate.kind is not VoteKind.FINALIZE or certificate.epoch != state.epoch:
        return
    if certificate.digest != headers[-1].digest:
        state.fault(sender, "the certificate of its range is not of the last header")
        return
    last = tail(state)
    fresh = [header for header in headers if header.height > last.height]
    continues = bool(fresh) and fresh[0].parent_digest == last.digest and len(state.to_deliver) < _WAITING_BLOCKS
    if continues:
        try:
            voting.verify(state, state.rounds.get(certificate.view), certificate)
        except CertificateRefused as refusal:
            state.fault(sender, f"its certificate is refused: {refusal.reason}")
            return
        state.to_deliver.extend(fresh)
        state.direct[certificate.digest] = certificate
        state.dirty = True
    voting.accept_certificate(state, sender, certificate)


def apply_certificate(state: State, certificate: Certificate) -> None:
    """Act on a new certificate: R4 notarization, R5 nullification, R6 finalization."""
    if certificate.kind is VoteKind.FINALIZE:
        finalize(state, certificate)
    elif certificate.view <= state.final_view:
        return
    elif certificate.kind is VoteKind.NULLIFY:
        view_entry.enter(state, certificate.view + 1)
    else:
        state.uncertified[certificate.view] = None
        certify.adopt_proposed(state, certificate.view, certificate.digest)
