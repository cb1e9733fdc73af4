"""Evidence on the chain: whoever double-voted is convicted once, whatever is forged or brought late convicts nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.evidence import Evidence, EvidenceKind, SignedVote, decode_evidence
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.ledger import registry
from coordinator.ledger.audit import audit
from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.handlers import CORE
from coordinator.ledger.misconduct import COUNTER, EVENT, EVIDENCE, Offence, offences
from coordinator.ledger.records import MISCONDUCT, REPUTATION
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import VALIDATORS, Chain, codes

A, B = bytes([1]) * 32, bytes([2]) * 32
VIEW = 7
FIVE = (*VALIDATORS, "alice")


def vote(chain: Chain, name: str, kind: VoteKind, digest: bytes, *, epoch: int = 0, view: int = VIEW) -> SignedVote:
    parent = 0 if kind is VoteKind.NULLIFY else view - 1
    message = vote_bytes(kind, chain.chain_id, epoch, view, parent, digest)
    return SignedVote(kind, parent, digest, chain.signer(name).sign(message))


def evidence(
    chain: Chain,
    name: str = "v3",
    *,
    epoch: int = 0,
    view: int = VIEW,
    index: int | None = None,
    key: str | None = None,
) -> Evidence:
    """That a validator notarized two blocks in one view."""
    votes = [vote(chain, key or name, VoteKind.NOTARIZE, digest, epoch=epoch, view=view) for digest in (A, B)]
    return Evidence(chain.chain_id, epoch, view, VALIDATORS.index(name) if index is None else index, *votes)


def bring(chain: Chain, found: Evidence | bytes, by: str = "bob") -> str:
    content = found if isinstance(found, bytes) else found.encode()
    (code,) = codes(chain.add(chain.transaction(by, EVIDENCE, content)))
    return code


def convictions(chain: Chain) -> list[bytes]:
    counted = [key for key, _ in chain.state.tree.items(REPUTATION) if key.endswith(COUNTER.encode())]
    return [key for key, _ in chain.state.tree.items(MISCONDUCT)] + counted


def five(epoch_length: int = 4) -> Chain:
    """A chain in epoch 2, whose validators are five."""
    chain = Chain(epoch_length=epoch_length)
    content = pb.ValidatorSignal(validators=FIVE).SerializeToString()
    chain.add(*(chain.transaction(name, "signal_validators", content) for name in VALIDATORS))
    while chain.state.header.height < 2 * epoch_length:
        chain.add()
    return chain


@pytest.mark.parametrize(
    ("kinds", "broken"),
    [
        ((VoteKind.NOTARIZE, VoteKind.NOTARIZE), EvidenceKind.CONFLICTING_NOTARIZE),
        ((VoteKind.FINALIZE, VoteKind.FINALIZE), EvidenceKind.CONFLICTING_FINALIZE),
        ((VoteKind.NULLIFY, VoteKind.FINALIZE), EvidenceKind.NULLIFY_AND_FINALIZE),
    ],
)
def test_whoever_signs_two_votes_that_exclude_each_other_is_convicted_once(
    kinds: tuple[VoteKind, VoteKind], broken: EvidenceKind
) -> None:
    chain = Chain()
    digests = [bytes(32) if kind is VoteKind.NULLIFY else digest for kind, digest in zip(kinds, (A, B), strict=True)]
    votes = sorted(vote(chain, "v3", kind, digest) for kind, digest in zip(kinds, digests, strict=True))
    found = Evidence(chain.chain_id, 0, VIEW, 3, *votes)
    applied = chain.add(chain.transaction("bob", EVIDENCE, found.encode()))
    assert codes(applied) == [""]
    assert [event.kind for event in applied.receipts[0].events] == [EVENT]
    (offence,) = offences(chain.state.view, "v3")
    assert (offence.kind, offence.epoch, offence.view, offence.height) == (broken, 0, VIEW, 1)
    assert Offence.decode(offence.encode()) == offence
    assert bring(chain, found, by="v3") == "counted_already"
    assert registry.reputation(chain.state.view, "v3", COUNTER) == 1
    assert bring(chain, evidence(chain, view=VIEW + 1)) == ""
    assert registry.reputation(chain.state.view, "v3", COUNTER) == 2


def test_other_votes_of_the_same_offence_do_not_count_again() -> None:
    chain = Chain()
    assert bring(chain, evidence(chain)) == ""
    votes = sorted(vote(chain, "v3", VoteKind.NOTARIZE, digest) for digest in (A, bytes([3]) * 32))
    assert bring(chain, Evidence(chain.chain_id, 0, VIEW, 3, *votes)) == "counted_already"


def test_a_convict_loses_its_seat_with_a_full_epoch_of_notice_where_four_remain() -> None:
    chain = five()
    assert bring(chain, evidence(chain, "v2", epoch=2)) == ""
    seats = []
    while chain.state.header.height < 17:
        current = chain.state.epoch_configs()[0]
        seats.append((current.epoch, chain.key("v2") in current.validators.public_keys))
        chain.add()
    assert dict(seats) == {2: True, 3: True, 4: False}
    # Four are left: the next convict stays, and is marked.
    assert bring(chain, evidence(chain, "v1", epoch=4, index=1)) == ""
    assert registry.committee(chain.state.view, registry.PENDING).names == ("v0", "v1", "v3", "alice")
    assert registry.reputation(chain.state.view, "v1", COUNTER) == 1


def test_a_convict_may_still_act_and_a_quorum_may_take_it_back_but_not_by_signals_of_before() -> None:
    chain = five()
    content = pb.ValidatorSignal(validators=FIVE).SerializeToString()
    for name in ("v0", "v1", "v2"):
        chain.add(chain.transaction(name, "signal_validators", content))
    assert bring(chain, evidence(chain, epoch=chain.state.header.epoch)) == ""
    without = ("v0", "v1", "v2", "alice")
    assert registry.committee(chain.state.view, registry.PENDING).names == without
    assert codes(chain.add(chain.transaction("v3", "signal_validators", content))) == [""]
    assert registry.committee(chain.state.view, registry.PENDING).names == without
    chain.add(*(chain.transaction(name, "signal_validators", content) for name in ("v0", "v1", "alice")))
    assert registry.committee(chain.state.view, registry.PENDING).names == FIVE


def test_votes_of_the_epoch_before_count_with_the_keys_of_that_epoch() -> None:
    chain = Chain(epoch_length=5)
    claim = KeyClaim(Holder.PARTICIPANT, "v3", "v3")
    rotation = pb.NewKey(
        public_key=chain.key("v3b"), possession=prove_possession(chain.signer("v3b"), chain.chain_id, claim)
    )
    chain.add(chain.transaction("v3", "rotate_key", rotation.SerializeToString()))
    old, early = evidence(chain, epoch=1), evidence(chain, epoch=0)
    while chain.state.header.height < 10:
        chain.add()
    assert chain.state.epoch_configs()[0].validators.public_keys[3] == chain.key("v3b")
    assert bring(chain, early) == "expired"
    assert bring(chain, old) == ""
    assert bring(chain, evidence(chain, epoch=2)) == "bad_evidence", "the key of before votes no more"
    assert bring(chain, evidence(chain, epoch=2, key="v3b")) == ""
    assert bring(chain, evidence(chain, epoch=3, key="v3b")) == "expired", "an epoch that has not begun"
    assert registry.reputation(chain.state.view, "v3", COUNTER) == 2


def _forgeries(chain: Chain) -> dict[str, tuple[Evidence, str]]:
    real, other = evidence(chain), Chain(parameters={"late_limit_s": "1"})
    same = vote(chain, "v3", VoteKind.NOTARIZE, A)
    legal = sorted((same, vote(chain, "v3", VoteKind.NULLIFY, bytes(32))))
    return {
        "another chain": (evidence(other), "bad_evidence"),
        "another chain, renamed": (replace(evidence(other), chain_id=chain.chain_id), "bad_evidence"),
        "another epoch, renamed": (replace(evidence(chain, epoch=1), epoch=0), "bad_evidence"),
        "an epoch to come": (evidence(chain, epoch=1), "expired"),
        "another view": (replace(real, view=VIEW + 1), "bad_evidence"),
        "another signer": (replace(real, signer=0), "bad_evidence"),
        "no such signer": (replace(real, signer=4), "bad_evidence"),
        "signed by another": (evidence(chain, key="v0"), "bad_evidence"),
        "one vote twice": (replace(real, first=same, second=same), "bad_evidence"),
        "votes that are legal": (replace(real, first=legal[0], second=legal[1]), "bad_evidence"),
        "votes of two views": (
            replace(real, second=vote(chain, "v3", VoteKind.NOTARIZE, B, view=VIEW + 1)),
            "bad_evidence",
        ),
        "votes in another order": (replace(real, first=real.second, second=real.first), "malformed"),
    }


@pytest.mark.parametrize("name", _forgeries(Chain(real=False)))
def test_what_proves_nothing_convicts_nobody(name: str) -> None:
    chain = Chain()
    forged, code = _forgeries(chain)[name]
    assert bring(chain, forged) == code
    assert convictions(chain) == []
    assert registry.committee(chain.state.view, registry.PENDING).names == VALIDATORS


# Fuzzing. One chain: what is refused leaves nothing, so examples do not disturb each other.
CHAIN = Chain()
REAL = evidence(CHAIN).encode()


def _refused(content: bytes) -> None:
    before = CHAIN.state
    _, applied = CHAIN.machine.build(before, [CHAIN.transaction("bob", EVIDENCE, content)], before.header.time_ms + 1)
    (code,) = codes(applied)
    assert code in ("malformed", "bad_evidence", "expired"), content.hex()
    assert not list(applied.state.tree.items(MISCONDUCT)), content.hex()


@given(st.binary(max_size=2 * len(REAL)))
def test_no_bytes_at_random_convict(content: bytes) -> None:
    _refused(content)


@given(st.integers(0, 8 * len(REAL) - 1))
def test_no_bit_of_evidence_can_be_changed(bit: int) -> None:
    changed = bytearray(REAL)
    changed[bit // 8] ^= 1 << bit % 8
    _refused(bytes(changed))


LEGAL = st.tuples(st.sampled_from(VALIDATORS), st.integers(1, 9), st.sampled_from((A, B)), st.booleans(), st.booleans())


@given(
    signed=st.lists(LEGAL, min_size=1, max_size=6),
    claimed=st.tuples(st.integers(0, 2), st.integers(0, 10), st.integers(0, 5)),
    places=st.tuples(st.integers(0, 50), st.integers(0, 50)),
)
def test_no_two_votes_that_honest_validators_sign_convict_one(
    signed: list[tuple[str, int, bytes, bool, bool]],
    claimed: tuple[int, int, int],
    places: tuple[int, int],
) -> None:
    """Honest: one block a view, and never both nullify and finalize; an adversary puts any two votes together."""
    blocks: dict[tuple[str, int], tuple[bytes, bool]] = {}
    votes = []
    for name, view, digest, nullifies, notarizes in signed:
        digest, nullifies = blocks.setdefault((name, view), (digest, nullifies))
        if nullifies:
            votes.append(vote(CHAIN, name, VoteKind.NULLIFY, bytes(32), view=view))
        kind = VoteKind.NOTARIZE if notarizes or nullifies else VoteKind.FINALIZE
        votes.append(vote(CHAIN, name, kind, digest, view=view))
    epoch, view, signer = claimed
    first, second = sorted(votes[place % len(votes)] for place in places)
    _refused(Evidence(CHAIN.chain_id, epoch, view, signer, first, second).encode())


@given(st.sampled_from(VALIDATORS), st.integers(1, 2**63), st.sampled_from((VoteKind.NOTARIZE, VoteKind.FINALIZE)))
def test_real_evidence_convicts_whatever_the_view(name: str, view: int, kind: VoteKind) -> None:
    """The other side: the fuzz tests above would also pass if nothing ever convicted."""
    first, second = sorted(vote(CHAIN, name, kind, digest, view=view) for digest in (A, B))
    content = Evidence(CHAIN.chain_id, 0, view, VALIDATORS.index(name), first, second).encode()
    assert decode_evidence(content).encode() == content
    before = CHAIN.state
    _, applied = CHAIN.machine.build(before, [CHAIN.transaction("bob", EVIDENCE, content)], before.header.time_ms + 1)
    assert codes(applied) == [""]
    assert [offence.view for offence in offences(applied.state.view, name)] == [view]


def test_an_audit_verifies_convictions_by_replay(tmp_path: Path) -> None:
    chain = Chain(epoch_length=3, path=tmp_path / "ledger.sqlite")
    assert bring(chain, evidence(chain)) == ""
    for _ in range(4):
        chain.add()
    assert bring(chain, evidence(chain, view=VIEW + 1)) == ""
    assert chain.store is not None
    chain.store.close()
    report = audit(tmp_path / "ledger.sqlite", (CORE,), chain.scheme, chain_id=chain.chain_id)
    assert report.finding is None
    assert report.height == chain.state.header.height
