"""Proofs of events: from genesis alone, over epochs, of transitively final blocks; and what proves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import Header
from coordinator.consensus.light_client import LightClient
from coordinator.consensus.signing import VoteKind
from coordinator.ledger.boundary import Boundary, decode_boundary, follow
from coordinator.ledger.errors import ProofRefused
from coordinator.ledger.handlers import CORE
from coordinator.ledger.proofs import EventProof, decode_event_proof, prove_event, verify_event
from coordinator.ledger.state import Module
from coordinator.ledger.store import Store
from coordinator.ledger.view import Context
from tests.coordinator.ledger.support import Chain


def note(context: Context, content: bytes) -> None:
    context.emit("noted", content)
    context.emit("noted again", content)


def ring(context: Context) -> None:
    context.emit("rung", context.block.height.to_bytes(8, "big"))


NOTES = Module("notes", {"note": note}, end_of_block=ring)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    chain = Chain(path=tmp_path_factory.mktemp("proofs") / "ledger.sqlite", epoch_length=4, modules=(CORE, NOTES))
    assert chain.store is not None
    for number in range(5):
        content = b"note %d" % number
        first = chain.make(chain.transaction("alice", "note", content), chain.pay("bob", "alice", 1), certified=False)
        chain.store.commit([first, chain.make()])
    return chain


def store(chain: Chain) -> Store:
    assert chain.store is not None
    return chain.store


def client(chain: Chain) -> LightClient:
    return follow(chain.genesis, store(chain).boundaries(), chain.scheme)


@pytest.mark.parametrize("height", range(1, 11))
def test_every_event_is_proved_from_genesis(chain: Chain, height: int) -> None:
    validators = client(chain).validators
    for place, receipt in enumerate(store(chain).receipts(height)):
        for number, event in enumerate(receipt.events):
            proof = decode_event_proof(prove_event(store(chain), height, place, number).encode())
            proven = verify_event(proof, validators, chain.scheme)
            assert (proven.event, proven.header.height, proven.receipt) == (event, height, receipt)
            assert (proof.certified.height, bool(proof.history)) == (height + height % 2, bool(height % 2))


def good(chain: Chain) -> EventProof:
    return prove_event(store(chain), 5, 0, 1)


def header(chain: Chain, height: int) -> Header:
    block = store(chain).block(height)
    assert block is not None
    return block.header


def test_nothing_is_proved_by_parts_of_other_proofs(chain: Chain) -> None:
    proof, other = good(chain), prove_event(store(chain), 7, 0, 1)
    direct = prove_event(store(chain), 6, 0, 0)
    stranger = Chain(epoch_length=4, modules=(CORE, NOTES), parameters={"late_limit_s": "77"})
    validators = stranger.state.epoch_configs()[0].validators
    fake = stranger.certificate(replace(proof.certified, chain_id=stranger.chain_id), validators)
    notarized = chain.certificate(proof.certified, client(chain).validators(1), VoteKind.NOTARIZE)
    wrong = {
        "finalizes nothing": replace(proof, certificate=notarized),
        "another block, or": replace(proof, certificate=other.certificate),
        "certificate: it is of another": replace(proof, certificate=fake),
        "not before the certified": replace(proof, header=header(chain, 7)),
        "history: opened leaves": replace(proof, header=header(chain, 4)),
        "history: an opening ends": replace(proof, history=()),
        "hashes are given where none": replace(direct, history=proof.history),
        "receipt: it is of another": replace(proof, receipt=other.receipt),
        "receipt: an opening carries": replace(proof, inclusion=(*proof.inclusion, bytes(32))),
        "receipt: place 0 of 0": replace(proof, receipts=0),
        "event: number 2": replace(proof, event=2),
        "receipt: 1 bytes follow": replace(proof, receipt=proof.receipt + b"\0"),
    }
    for reason, forged in wrong.items():
        with pytest.raises(ProofRefused, match=reason):
            verify_event(forged, client(chain).validators, chain.scheme)


def test_an_epoch_that_is_not_known_yet_and_another_chain_are_refused(chain: Chain) -> None:
    early = LightClient(chain.genesis.validators, 4, chain.scheme)
    verify_event(prove_event(store(chain), 3, 0, 0), early.validators, chain.scheme)
    with pytest.raises(ProofRefused, match="validators of epoch 1 are not known"):
        verify_event(good(chain), early.validators, chain.scheme)
    stranger = Chain(epoch_length=4, modules=(CORE, NOTES), parameters={"late_limit_s": "77"})
    known = LightClient(stranger.genesis.validators, 4, chain.scheme)
    with pytest.raises(ProofRefused, match="another chain"):
        verify_event(prove_event(store(chain), 3, 0, 0), known.validators, chain.scheme)


def test_boundaries_are_walked_in_order(chain: Chain) -> None:
    boundaries = [decode_boundary(boundary.encode()) for boundary in store(chain).boundaries()]
    assert follow(chain.genesis, boundaries, chain.scheme).epoch == 2
    swapped = replace(boundaries[0], next_validators=boundaries[0].next_validators[::-1])
    for wrong in ([boundaries[1]], [swapped], [replace(boundaries[0], certificate=boundaries[1].certificate)]):
        with pytest.raises(ProofRefused, match="boundary of epoch"):
            follow(chain.genesis, wrong, chain.scheme)
    for keys in ((), (b"short",), (b"k" * 32, b"k" * 32)):
        with pytest.raises(DecodeError):
            decode_boundary(Boundary(boundaries[0].header, boundaries[0].certificate, keys).encode())


@given(st.data())
def test_a_changed_proof_is_refused_or_says_the_same(chain: Chain, data: st.DataObject) -> None:
    proof = good(chain)
    encoded = bytearray(proof.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        forged = decode_event_proof(bytes(encoded))
        proven = verify_event(forged, client(chain).validators, chain.scheme)
    except (DecodeError, ProofRefused):
        return
    # Only which event of the same receipt is asked for, or a size with the same path, may be another.
    assert proven.receipt == verify_event(proof, client(chain).validators, chain.scheme).receipt


def test_there_is_no_proof_of_what_did_not_happen(chain: Chain) -> None:
    for height, place, event in ((5, 0, 2), (5, 9, 0), (99, 0, 0), (5, 1, 0), (5, -1, 0)):
        with pytest.raises(ProofRefused, match="there is no event"):
            prove_event(store(chain), height, place, event)


def test_a_proof_is_small(chain: Chain, tmp_path: Path) -> None:
    assert len(good(chain).encode()) < 1500
