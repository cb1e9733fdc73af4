"""The state tree against a plain dict; roots that depend on the entries alone; proofs of presence and absence."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.merkle import OpeningError
from coordinator.ledger.state_tree import (
    EMPTY_ROOT,
    KEY_MAX,
    StateProof,
    StateTree,
    decode_state_proof,
    tree_of,
    verify_state,
)

KEYS = st.one_of(st.binary(max_size=4), st.sampled_from([b"account/" + bytes([n % 3] * (n % 6)) for n in range(12)]))
ENTRIES = st.dictionaries(KEYS, st.binary(max_size=6), max_size=40)


@given(st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=60))
def test_it_is_a_map_whose_root_depends_on_its_entries_alone(steps: list[tuple[bytes, bytes | None]]) -> None:
    tree, model = StateTree(), {}
    for key, value in steps:
        before = (tree.root, dict(tree.items()))
        changed = tree.delete(key) if value is None else tree.set(key, value)
        assert (tree.root, dict(tree.items())) == before, "a tree never changes"
        tree = changed
        model.pop(key, None) if value is None else model.update({key: value})
    assert list(tree.items()) == sorted(model.items())
    assert all(tree.get(key) == model.get(key) for key, _ in steps)
    assert tree.root == tree_of(sorted(model.items())).root == tree_of(sorted(model.items(), reverse=True)).root
    assert model or tree.root == EMPTY_ROOT


@given(ENTRIES, st.binary(max_size=2))
def test_items_of_a_prefix_are_those_and_in_order(entries: dict[bytes, bytes], prefix: bytes) -> None:
    tree = tree_of(entries.items())
    assert list(tree.items(prefix)) == sorted(item for item in entries.items() if item[0].startswith(prefix))


@given(ENTRIES, KEYS, st.binary(max_size=6))
def test_proofs_show_what_is_there_and_what_is_not(entries: dict[bytes, bytes], key: bytes, other: bytes) -> None:
    tree = tree_of(entries.items())
    proof = decode_state_proof(tree.prove(key).encode())
    verify_state(tree.root, key, entries.get(key), proof)
    for wrong in (None, other, other + b"!"):
        if wrong != entries.get(key):
            with pytest.raises(OpeningError):
                verify_state(tree.root, key, wrong, proof)
    with pytest.raises(OpeningError):
        verify_state(b"r" * 32, key, entries.get(key), proof)


@given(ENTRIES.filter(len), st.data())
def test_a_changed_proof_shows_nothing(entries: dict[bytes, bytes], data: st.DataObject) -> None:
    tree = tree_of(entries.items())
    key = data.draw(st.sampled_from(sorted(entries)) | KEYS)
    encoded = bytearray(tree.prove(key).encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        proof = decode_state_proof(bytes(encoded))
    except DecodeError:
        return
    with pytest.raises(OpeningError):
        verify_state(tree.root, key, entries.get(key), proof)


def test_absence_cannot_be_claimed_by_another_leaf_s_path() -> None:
    tree = tree_of([(bytes([n]), b"v") for n in range(32)])
    stranger = tree.prove(bytes([9]))
    with pytest.raises(OpeningError, match="bits of the key"):
        verify_state(tree.root, bytes([8]), None, stranger)
    with pytest.raises(OpeningError, match="growing"):
        verify_state(tree.root, bytes([9]), b"v", replace(stranger, bits=stranger.bits[::-1]))


def test_long_shared_prefixes_do_no_harm() -> None:
    keys = [b"k" * length for length in range(KEY_MAX + 1)]
    tree = tree_of([(key, b"v") for key in keys])
    assert [key for key, _ in tree.items()] == sorted(keys)
    for key in (b"", keys[-1], b"k" * 60):
        verify_state(tree.root, key, b"v", tree.prove(key))


def test_proofs_grow_with_the_logarithm() -> None:
    tree = tree_of([(n.to_bytes(4, "big"), b"v") for n in range(4096)])
    assert len(tree.prove((77).to_bytes(4, "big")).bits) == 12


@given(st.binary(max_size=200))
def test_proof_bytes_are_decoded_or_refused(data: bytes) -> None:
    with suppress(DecodeError):
        assert decode_state_proof(data).encode() == data


def test_an_empty_tree_has_one_proof() -> None:
    proof = StateTree().prove(b"k")
    assert proof == StateProof((), (), None, bytes(32))
    with pytest.raises(OpeningError):
        verify_state(tree_of([(b"a", b"b")]).root, b"k", None, proof)


@given(ENTRIES, KEYS, st.binary(max_size=2))
def test_trees_share_what_is_under_a_prefix_until_it_is_written(
    entries: dict[bytes, bytes], key: bytes, prefix: bytes
) -> None:
    before = tree_of(entries.items())
    after = before.set(key, b"something else")
    if key.startswith(prefix):
        assert not after.shares(before, prefix)
        assert after.part(prefix) is not before.part(prefix)
    elif any(other.startswith(prefix) for other in entries):
        assert after.shares(before, prefix)
        assert after.part(prefix) is before.part(prefix)
    assert before.shares(before, prefix)
