"""Validators, votes, certificates, evidence: what is signed, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.consensus.certificate import Certificate, decode_certificate, verify_certificate
from coordinator.consensus.errors import CertificateRefused, DecodeError, EvidenceRefused
from coordinator.consensus.evidence import (
    Evidence,
    EvidenceKind,
    SignedVote,
    decode_evidence,
    expired,
    make_evidence,
    verify_evidence,
)
from coordinator.consensus.header import payload_digest
from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer, VoteKind, vote_bytes
from coordinator.consensus.tally import Tally
from coordinator.consensus.validators import ValidatorSet, max_faulty, quorum

CHAIN, OTHER, DIGEST = b"c" * 32, b"o" * 32, b"d" * 32
SIGNERS = [Ed25519Signer(bytes([i]) * 32) for i in range(4)]
KEYS = tuple(signer.public_key for signer in SIGNERS)
VALIDATORS = ValidatorSet(CHAIN, 3, KEYS)
SCHEME = Ed25519Scheme()


def certificate(kind: VoteKind = VoteKind.FINALIZE, signers: tuple[int, ...] = (0, 2, 3)) -> Certificate:
    """A valid certificate."""
    parent_view, digest = (0, bytes(32)) if kind is VoteKind.NULLIFY else (4, DIGEST)
    message = vote_bytes(kind, CHAIN, 3, 5, parent_view, digest)
    signatures = tuple(SIGNERS[i].sign(message) for i in signers)
    return Certificate(kind, CHAIN, 3, 5, parent_view, digest, 4, signers, signatures)


@pytest.mark.parametrize("kind", VoteKind)
def test_a_valid_certificate_of_each_kind(kind: VoteKind) -> None:
    verify_certificate(decode_certificate(certificate(kind).encode()), VALIDATORS, SCHEME)


def test_all_may_sign() -> None:
    verify_certificate(certificate(signers=(0, 1, 2, 3)), VALIDATORS, SCHEME)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chain_id": OTHER}, "another chain"),
        ({"epoch": 4}, "epoch 4"),
        ({"size": 5}, "counts 5"),
        ({"view": 6}, "not valid"),
        ({"parent_view": 3}, "not valid"),
        ({"digest": OTHER}, "not valid"),
        ({"kind": VoteKind.NOTARIZE}, "not valid"),
        ({"signers": (0, 1, 2)}, "not valid"),
        ({"signers": (0, 2)}, "do not match"),
        ({"signers": (0, 3, 2)}, "do not ascend"),
        ({"signers": (0, 0, 2)}, "do not ascend"),
        ({"signers": (0, 2, 4)}, "not a quorum"),
    ],
)
def test_a_certificate_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(CertificateRefused, match=reason):
        verify_certificate(replace(certificate(), **change), VALIDATORS, SCHEME)  # type: ignore[arg-type]


def test_too_few_are_refused_by_the_decoder_and_by_the_verifier() -> None:
    few = certificate(signers=(0, 2))
    with pytest.raises(DecodeError, match="less than the quorum of 3"):
        decode_certificate(few.encode())
    with pytest.raises(CertificateRefused, match="not a quorum"):
        verify_certificate(few, VALIDATORS, SCHEME)


def test_a_small_set_does_not_pass_for_a_large_one() -> None:
    """Three of "four" are no quorum of seven."""
    seven = ValidatorSet(CHAIN, 3, KEYS + tuple(bytes([i]) * 32 for i in range(3)))
    with pytest.raises(CertificateRefused, match="counts 4 validators, the epoch has 7"):
        verify_certificate(certificate(), seven, SCHEME)


def test_different_quorums_prove_the_same_fact_in_different_bytes() -> None:
    one, other = certificate(signers=(0, 1, 2)), certificate(signers=(1, 2, 3))
    assert one.encode() != other.encode()
    assert one.value == other.value


@pytest.mark.parametrize("kind", VoteKind)
def test_what_a_vote_signs_is_its_own(kind: VoteKind) -> None:
    """Kind, chain, epoch, view, parent view and digest each change the signed bytes; all have one length."""
    value = (0, bytes(32)) if kind is VoteKind.NULLIFY else (4, DIGEST)
    variants = {
        vote_bytes(kind, CHAIN, 3, 5, *value),
        vote_bytes(kind, OTHER, 3, 5, *value),
        vote_bytes(kind, CHAIN, 4, 5, *value),
        vote_bytes(kind, CHAIN, 3, 6, *value),
        *(vote_bytes(k, CHAIN, 3, 5, 0, bytes(32)) for k in VoteKind if k is not kind),
    }
    if kind is not VoteKind.NULLIFY:
        variants |= {vote_bytes(kind, CHAIN, 3, 5, 3, DIGEST), vote_bytes(kind, CHAIN, 3, 5, 4, OTHER)}
    assert len(variants) == (6 if kind is VoteKind.NULLIFY else 8)
    assert len({len(variant) for variant in variants}) == 1


def test_a_nullify_vote_names_no_block() -> None:
    with pytest.raises(AssertionError, match="names no block"):
        vote_bytes(VoteKind.NULLIFY, CHAIN, 3, 5, 0, DIGEST)


@pytest.mark.parametrize(
    ("size", "faulty"), [(1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (10, 3), (16, 5), (40, 13), (100, 33)]
)
def test_arithmetic(size: int, faulty: int) -> None:
    assert max_faulty(size) == faulty
    assert quorum(size) == size - faulty
    assert 2 * quorum(size) - size > faulty, "two quorums share an honest validator"
    assert size - faulty >= quorum(size), "the honest ones alone are a quorum"


def test_leaders_rotate_and_shift_with_the_epoch() -> None:
    assert [VALIDATORS.leader(view) for view in range(1, 6)] == [0, 1, 2, 3, 0]
    assert VALIDATORS.leader_key(1) == KEYS[0]


def test_the_root_commits_to_the_keys_and_their_order() -> None:
    roots = {
        VALIDATORS.root,
        ValidatorSet(CHAIN, 3, KEYS[::-1]).root,
        ValidatorSet(CHAIN, 3, KEYS[:3]).root,
    }
    assert len(roots) == 3
    assert ValidatorSet(OTHER, 9, KEYS).root == VALIDATORS.root


@pytest.mark.parametrize(
    ("chain_id", "epoch", "keys", "message"),
    [
        (b"short", 0, KEYS, "chain_id"),
        (CHAIN, 0, (), "0 validators"),
        (CHAIN, 0, (b"short",), "not 32 bytes"),
        (CHAIN, 0, KEYS + KEYS[:1], "twice"),
        (CHAIN, -1, KEYS, "negative"),
    ],
)
def test_impossible_sets(chain_id: bytes, epoch: int, keys: tuple[bytes, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ValidatorSet(chain_id, epoch, keys)


def test_index_of() -> None:
    assert VALIDATORS.index_of(KEYS[2]) == 2
    assert VALIDATORS.index_of(bytes(32)) is None


def signed(kind: VoteKind, parent_view: int, digest: bytes, signer: int = 1) -> SignedVote:
    """A signed vote of view 5."""
    return SignedVote(
        kind, parent_view, digest, SIGNERS[signer].sign(vote_bytes(kind, CHAIN, 3, 5, parent_view, digest))
    )


CONFLICTS = [
    ((VoteKind.NOTARIZE, 4, DIGEST), (VoteKind.NOTARIZE, 4, OTHER), EvidenceKind.CONFLICTING_NOTARIZE),
    ((VoteKind.NOTARIZE, 4, DIGEST), (VoteKind.NOTARIZE, 3, DIGEST), EvidenceKind.CONFLICTING_NOTARIZE),
    ((VoteKind.FINALIZE, 4, DIGEST), (VoteKind.FINALIZE, 4, OTHER), EvidenceKind.CONFLICTING_FINALIZE),
    ((VoteKind.NULLIFY, 0, bytes(32)), (VoteKind.FINALIZE, 4, DIGEST), EvidenceKind.NULLIFY_AND_FINALIZE),
    ((VoteKind.NULLIFY, 0, bytes(32)), (VoteKind.NOTARIZE, 4, DIGEST), None),
    ((VoteKind.NOTARIZE, 4, DIGEST), (VoteKind.FINALIZE, 4, DIGEST), None),
    ((VoteKind.NOTARIZE, 4, DIGEST), (VoteKind.FINALIZE, 4, OTHER), None),
    ((VoteKind.NOTARIZE, 4, DIGEST), (VoteKind.NOTARIZE, 4, DIGEST), None),
    ((VoteKind.NULLIFY, 0, bytes(32)), (VoteKind.NULLIFY, 0, bytes(32)), None),
]


@pytest.mark.parametrize(("one", "other", "kind"), CONFLICTS)
@pytest.mark.parametrize("swap", [False, True])
def test_what_is_evidence(
    one: tuple[VoteKind, int, bytes], other: tuple[VoteKind, int, bytes], kind: EvidenceKind | None, swap: bool
) -> None:
    pair = [signed(*one), signed(*other)][:: -1 if swap else 1]
    item = make_evidence(VALIDATORS, 5, 1, *pair)
    assert item.kind is kind
    if kind is None:
        with pytest.raises(EvidenceRefused, match="honest validator may sign"):
            verify_evidence(item, VALIDATORS, SCHEME)
    else:
        verify_evidence(decode_evidence(item.encode()), VALIDATORS, SCHEME)


def sample() -> Evidence:
    """Two notarize votes."""
    votes = signed(VoteKind.NOTARIZE, 4, DIGEST), signed(VoteKind.NOTARIZE, 4, OTHER)
    return make_evidence(VALIDATORS, 5, 1, *votes)


def test_evidence_has_one_form_and_one_key_an_offence() -> None:
    votes = signed(VoteKind.NOTARIZE, 4, DIGEST), signed(VoteKind.NOTARIZE, 4, OTHER)
    assert make_evidence(VALIDATORS, 5, 1, *votes) == make_evidence(VALIDATORS, 5, 1, *votes[::-1])
    third = make_evidence(VALIDATORS, 5, 1, votes[0], signed(VoteKind.NOTARIZE, 4, b"e" * 32))
    assert third.key == sample().key
    final = make_evidence(VALIDATORS, 5, 1, *(replace(vote, kind=VoteKind.FINALIZE) for vote in votes))
    assert final.key != sample().key


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chain_id": OTHER}, "another chain"),
        ({"epoch": 4}, "epoch"),
        ({"signer": 9}, "no validator 9"),
        ({"signer": 2}, "not valid"),
        ({"view": 6}, "not valid"),
    ],
)
def test_evidence_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(EvidenceRefused, match=reason):
        verify_evidence(replace(sample(), **change), VALIDATORS, SCHEME)  # type: ignore[arg-type]


def test_evidence_in_the_wrong_order_is_no_encoding() -> None:
    item = sample()
    swapped = replace(item, first=item.second, second=item.first)
    with pytest.raises(DecodeError, match="ascending"):
        decode_evidence(swapped.encode())


@pytest.mark.parametrize(("epoch", "gone"), [(2, True), (3, False), (4, False), (5, False), (6, True)])
def test_evidence_expires(epoch: int, gone: bool) -> None:
    assert expired(sample(), epoch, window=2) is gone


def test_a_tally_counts_the_first_vote_of_each_and_verifies_up_to_the_quorum() -> None:
    tally, asked = Tally(), []
    value, other = (1, DIGEST), (1, OTHER)
    assert all(tally.add(i, value, bytes([i])) for i in range(5))
    assert not tally.add(0, other, b"x")

    def is_valid(signer: int, signature: bytes) -> bool:
        asked.append(signer)
        return signer != 1

    assert tally.verify(value, 3, is_valid) == ([0, 2, 3], [1])
    assert asked == [0, 1, 2, 3]
    assert tally.count(value) == 4
    assert tally.add(1, value, b"again")
    assert tally.verify(value, 3, is_valid) == ([0, 2, 3], [])
    assert asked == [0, 1, 2, 3], "verified once"


def test_signing_is_deterministic() -> None:
    assert SIGNERS[0].sign(b"m") == SIGNERS[0].sign(b"m")


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_length_is_not_valid(size: int) -> None:
    assert not SCHEME.verify(KEYS[0], b"m", bytes(size))


def test_a_key_of_another_length_is_not_valid() -> None:
    assert not SCHEME.verify(b"short", b"m", bytes(64))


def test_payload_digests_differ_from_plain_hashes() -> None:
    assert payload_digest(b"") != payload_digest(b"\x00")
