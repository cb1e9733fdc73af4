"""Every oracle sees what it is for: each of these histories breaks one thing, and exactly that is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import Build, PeerFault
from coordinator.consensus.evidence import SignedVote, make_evidence
from coordinator.consensus.header import Header
from coordinator.consensus.journal import VoteRecord
from coordinator.consensus.messages import Proposal, Want
from coordinator.consensus.round import Round
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.consensus.state import Block, Request
from coordinator.simulation.chain import Chain
from coordinator.simulation.errors import SafetyFailure
from coordinator.simulation.options import Options
from coordinator.simulation.oracle import Oracle
from tests.coordinator.simulation.directed import make, until

N, Z, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE
NULL = (0, bytes(32))
FAR = 90
"""A view that the run has not reached."""


def ran(epoch_length: int = 1000) -> Chain:
    """A chain of four that has finalized three blocks."""
    chain = make(Options(4, epoch_length=epoch_length))
    chain.start()
    until(chain, 3, 50)
    return chain


def record(kind: VoteKind, view: int, value: tuple[int, bytes]) -> VoteRecord:
    """A vote of epoch 0."""
    return VoteRecord(kind, 0, view, *value)


def certificate(chain: Chain, kind: VoteKind, view: int, value: tuple[int, bytes], written: bool = True) -> Certificate:
    """A certificate with true signatures of nodes 0 to 2, of votes that they wrote or did not."""
    signers = (0, 1, 2)
    signed = vote_bytes(kind, chain.application.chain_id, 0, view, *value)
    for number in signers if written else ():
        chain.oracle.on_record(chain.nodes[number], record(kind, view, value))
    signatures = tuple(chain.nodes[number].signer.sign(signed) for number in signers)
    return Certificate(kind, chain.application.chain_id, 0, view, *value, 4, signers, signatures)


def rival(chain: Chain, height: int) -> Header:
    """A valid block that is not the final one of its height."""
    parent = chain.oracle.states[height - 1]
    current, _ = chain.application.epochs_after(parent)
    template = Build(1, parent.header, 1, 0, height, parent.header.time_ms + 7, current.validators.root)
    header, payload = chain.application.build(parent, template, (b"rival",))
    chain.application.execute(parent, header, payload)
    chain.oracle.see_header(header)
    return header


def two_notarize_votes(chain: Chain) -> None:
    oracle, node = chain.oracle, chain.nodes[0]
    cast = next(key for key, value in oracle.votes.items() if value.notarize and key[2] == 0)
    oracle.on_cast(node, record(N, cast[1], (0, b"x" * 32)))


def two_finalize_votes(chain: Chain) -> None:
    digest = chain.oracle.finalized[1].digest
    chain.oracle.on_cast(chain.nodes[0], record(F, FAR, (1, digest)))
    chain.oracle.on_cast(chain.nodes[0], record(F, FAR, (2, digest)))


def finalize_then_nullify(chain: Chain) -> None:
    chain.oracle.on_cast(chain.nodes[0], record(F, FAR, (1, chain.oracle.finalized[1].digest)))
    chain.oracle.on_cast(chain.nodes[0], record(Z, FAR, NULL))


def nullify_then_finalize(chain: Chain) -> None:
    chain.oracle.on_cast(chain.nodes[0], record(Z, FAR, NULL))
    chain.oracle.on_cast(chain.nodes[0], record(F, FAR, (1, chain.oracle.finalized[1].digest)))


def nullify_then_notarize(chain: Chain) -> None:
    chain.oracle.on_cast(chain.nodes[0], record(Z, FAR, NULL))
    chain.oracle.on_cast(chain.nodes[0], record(N, FAR, (1, chain.oracle.finalized[1].digest)))


def nobody_proposed(chain: Chain) -> None:
    follower = chain.nodes[(FAR + 1) % 4]
    chain.oracle.on_cast(follower, record(N, FAR, (1, chain.oracle.finalized[2].digest)))


def proposed(chain: Chain, header: Header, parent_view: int) -> None:
    """A proposal by the leader of a far view, and a vote of another for it."""
    leader = chain.nodes[FAR % 4]
    chain.oracle.see_proposal(leader.signer.public_key, Proposal(0, FAR, parent_view, header, b""))
    chain.oracle.on_cast(chain.nodes[(FAR + 1) % 4], record(N, FAR, (parent_view, header.digest)))


def skipped_views(chain: Chain) -> None:
    proposed(chain, rival(chain, 2), 1)


def parent_not_notarized(chain: Chain) -> None:
    proposed(chain, rival(chain, 2), FAR - 1)


def time_does_not_advance(chain: Chain) -> None:
    header = replace(rival(chain, 2), time_ms=chain.oracle.finalized[1].time_ms)
    proposed(chain, header, FAR - 1)


def payload_not_durable(chain: Chain) -> None:
    chain.oracle.on_cast(chain.nodes[0], record(F, FAR, (1, rival(chain, 4).digest)))


def no_quorum(chain: Chain) -> None:
    one = certificate(chain, Z, FAR, NULL)
    chain.oracle.on_certificate(replace(one, signers=one.signers[1:], signatures=one.signatures[1:]))


def invalid_signature(chain: Chain) -> None:
    one = certificate(chain, Z, FAR, NULL)
    chain.oracle.on_certificate(replace(one, signatures=(*one.signatures[1:], bytes(64))))


def vote_never_cast(chain: Chain) -> None:
    chain.oracle.on_certificate(certificate(chain, Z, FAR, NULL, written=False))


def two_notarizations(chain: Chain) -> None:
    for header in (chain.oracle.finalized[1], chain.oracle.finalized[2]):
        chain.oracle.on_certificate(certificate(chain, N, FAR, (1, header.digest)))


def nullified_and_finalized(chain: Chain) -> None:
    value = (1, chain.oracle.finalized[1].digest)
    certificate(chain, N, FAR, value)
    chain.oracle.on_certificate(certificate(chain, F, FAR, value))
    chain.oracle.on_certificate(certificate(chain, Z, FAR, NULL))


def finalized_unnotarized(chain: Chain) -> None:
    chain.oracle.on_certificate(certificate(chain, F, FAR, (1, chain.oracle.finalized[1].digest)))


def fork(chain: Chain) -> None:
    node = chain.nodes[0]
    node.state = chain.oracle.states[1]
    header = rival(chain, 2)
    chain.oracle.on_delivered(node, header, None, chain.application.state(header.digest))


def delivered_out_of_order(chain: Chain) -> None:
    node = chain.nodes[0]
    node.state = chain.application.genesis
    chain.oracle.on_delivered(node, chain.oracle.finalized[2], None, chain.oracle.states[2])


def delivered_invalid(chain: Chain) -> None:
    node = chain.nodes[0]
    node.state = chain.oracle.states[1]
    chain.oracle.on_delivered(node, chain.oracle.finalized[2], None, None)


def delivered_unfinalized(chain: Chain) -> None:
    node, top = chain.nodes[0], len(chain.oracle.finalized)
    node.state = chain.oracle.states[-1]
    header = rival(chain, top)
    chain.oracle.on_delivered(node, header, None, chain.application.state(header.digest))
    chain.oracle.after_step(node, 0, 1)


def wrong_epoch(chain: Chain) -> None:
    node, top = chain.nodes[0], len(chain.oracle.finalized)
    node.state = chain.oracle.states[-1]
    header = replace(rival(chain, top), epoch=1)
    chain.oracle.on_delivered(node, header, None, chain.oracle.states[-1])


def wrong_validators(chain: Chain) -> None:
    node, top = chain.nodes[0], len(chain.oracle.finalized)
    node.state = chain.oracle.states[-1]
    header = replace(rival(chain, top), next_validators_root=bytes(32))
    chain.oracle.on_delivered(node, header, None, chain.oracle.states[-1])


def epoch_too_early(chain: Chain) -> None:
    chain.oracle.on_epoch(chain.nodes[0], 1)


def proposes_without_leading(chain: Chain) -> None:
    follower = chain.nodes[(FAR + 1) % 4]
    chain.oracle.on_sent(follower, Proposal(0, FAR, 0, chain.oracle.finalized[1], b""), (b"peer",))


def same_request(chain: Chain) -> None:
    for _ in range(6):
        chain.oracle.on_sent(chain.nodes[0], Want(0, 1), (b"peer",))


def flood(chain: Chain) -> None:
    for number in range(20_000):
        chain.oracle.on_sent(chain.nodes[0], Want(0, number), (b"peer",))


def too_many_views(chain: Chain) -> None:
    node = chain.nodes[0]
    assert node.core is not None
    node.core._state.rounds.update({FAR + number: Round(FAR + number) for number in range(40)})
    chain.oracle.after_step(node, *node.position)


def honest_accused(chain: Chain) -> None:
    validators = chain.application.epochs_after(chain.application.genesis)[0].validators
    votes = (SignedVote(Z, *NULL, bytes(64)), SignedVote(F, 1, b"x" * 32, bytes(64)))
    evidence = make_evidence(validators, 1, 1, *votes)
    chain.oracle.on_fault(chain.nodes[0], PeerFault(chain.nodes[1].signer.public_key, "two votes", evidence))


def epoch_never_announced(chain: Chain) -> None:
    chain.oracle.members(7)


def unknown_block(chain: Chain) -> None:
    chain.oracle.on_cast(chain.nodes[FAR % 4], record(N, FAR, (1, b"x" * 32)))


def other_validators(chain: Chain) -> None:
    chain.oracle.on_certificate(replace(certificate(chain, Z, FAR, NULL), size=5))


def rests_on_view_0(chain: Chain) -> None:
    for view in range(1, FAR):
        certificate(chain, Z, view, NULL)
    proposed(chain, rival(chain, 3), 0)


def unknown_block_finalized(chain: Chain) -> None:
    value = (1, b"x" * 32)
    certificate(chain, N, FAR, value)
    chain.oracle.on_certificate(certificate(chain, F, FAR, value))


def delivered_on_top(chain: Chain, header: Header, one: Certificate | None = None) -> None:
    """A node delivers a block after the newest."""
    node = chain.nodes[0]
    node.state = chain.oracle.states[-1]
    chain.oracle.on_delivered(node, header, one, chain.oracle.states[-1])


def certificate_of_another(chain: Chain) -> None:
    top = len(chain.oracle.finalized)
    delivered_on_top(chain, rival(chain, top), chain.oracle.finalizations[1])


def parent_not_final(chain: Chain) -> None:
    delivered_on_top(chain, replace(rival(chain, len(chain.oracle.finalized)), parent_digest=bytes(32)))


def final_block_too_early(chain: Chain) -> None:
    delivered_on_top(chain, replace(rival(chain, len(chain.oracle.finalized)), time_ms=0))


def too_many_requests(chain: Chain) -> None:
    node = chain.nodes[0]
    assert node.core is not None
    node.core._state.requests.update({("view", number): Request(0, 0, 0) for number in range(600)})
    chain.oracle.after_step(node, *node.position)


def too_many_blocks(chain: Chain) -> None:
    node = chain.nodes[0]
    assert node.core is not None
    header = chain.oracle.finalized[1]
    node.core._state.blocks.update({number.to_bytes(32, "big"): Block(header, True) for number in range(3000)})
    chain.oracle.after_step(node, *node.position)


@pytest.mark.parametrize(
    ("violation", "words"),
    [
        (two_notarize_votes, "notarize for two blocks"),
        (two_finalize_votes, "finalize for two blocks"),
        (finalize_then_nullify, "both finalize and nullify"),
        (nullify_then_finalize, "both nullify and finalize"),
        (nullify_then_notarize, "notarize after nullify"),
        (nobody_proposed, "its leader did not propose"),
        (skipped_views, "skips view 2, which cannot have been nullified"),
        (parent_not_notarized, "cannot be notarized in view"),
        (time_does_not_advance, "does not follow its parent in height and time"),
        (payload_not_durable, "whose payload is not durable"),
        (no_quorum, "no quorum of distinct signers"),
        (invalid_signature, "invalid signature"),
        (vote_never_cast, "a vote that node 0 never cast"),
        (two_notarizations, "two notarize certificates"),
        (nullified_and_finalized, "both nullified and finalized"),
        (finalized_unnotarized, "cannot have been notarized in it"),
        (fork, "agreement: two blocks of height 2"),
        (delivered_out_of_order, "it delivered height 2 after 0"),
        (delivered_invalid, "which is invalid"),
        (delivered_unfinalized, "nothing at or above it has a finalization"),
        (wrong_epoch, "it belongs to 0"),
        (wrong_validators, "other validators than were announced"),
        (epoch_too_early, "epoch 1 began at height"),
        (proposes_without_leading, "which it does not lead"),
        (same_request, "the same request more than"),
        (flood, "messages in view"),
        (too_many_views, "views above finality"),
        (honest_accused, "evidence against honest node"),
        (epoch_never_announced, "its validators were never announced"),
        (unknown_block, "it voted for an unknown block"),
        (other_validators, "is of other validators"),
        (rests_on_view_0, "the block does not begin the epoch"),
        (unknown_block_finalized, "is finalized for an unknown block"),
        (certificate_of_another, "with the certificate of something else"),
        (parent_not_final, "is final and its parent is not"),
        (final_block_too_early, "is not later than its parent"),
        (too_many_requests, "it keeps 6.. requests"),
        (too_many_blocks, "it keeps 30.. blocks"),
    ],
)
def test_a_violation_is_named(violation: Callable[[Chain], None], words: str) -> None:
    chain = ran()
    with pytest.raises(SafetyFailure, match=words):
        violation(chain)


def test_a_boundary_needs_its_own_finalization() -> None:
    chain = ran(epoch_length=2)
    node = chain.nodes[0]
    node.state = chain.oracle.states[1]
    oracle = Oracle(chain.application, ())
    oracle.finalized = chain.oracle.finalized[:3]
    with pytest.raises(SafetyFailure, match="boundary block 2 was delivered without its own"):
        oracle.on_delivered(node, chain.oracle.finalized[2], None, chain.oracle.states[2])


def test_the_restated_arithmetic_is_that_of_the_paper() -> None:
    """n = 3f + 1, 3f + 2, 3f + 3 validators: a quorum is n - f."""
    chain = ran()
    members = chain.oracle.members(0)
    for size in range(1, 101):
        faulty = (size - 1) // 3
        assert replace(members, keys=members.keys[:1] * size).quorum == size - faulty
        assert Options(size).max_faulty == faulty
