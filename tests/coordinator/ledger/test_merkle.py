"""Merkle trees against the recursion of RFC 6962, the inclusion proofs of RFC 9162, and published vectors."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coordinator.ledger.merkle import (
    MerkleTree,
    OpeningError,
    SaltTree,
    leaf_hash,
    node_hash,
    revealed_salts,
    verify_opening,
)

VECTORS = Path(__file__).parents[3].parent / "shared" / "vectors" / "transparency-dev-merkle"
SIZES = st.integers(1, 70)


def split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    middle = split(len(leaves))
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:middle]) + tree_hash(leaves[middle:])).digest()


def audit_path(place: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1 (the inclusion proof of RFC 9162, section 2.1.3.1)."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if place < middle:
        return [*audit_path(place, leaves[:middle]), tree_hash(leaves[middle:])]
    return [*audit_path(place - middle, leaves[middle:]), tree_hash(leaves[:middle])]


def leaves_of(size: int) -> list[bytes]:
    return [bytes([number % 251]) * (number % 7) + number.to_bytes(2, "big") for number in range(size)]


def tree_of(leaves: list[bytes]) -> MerkleTree:
    return MerkleTree([leaf_hash(leaf) for leaf in leaves])


@pytest.mark.parametrize("size", range(40))
def test_roots_are_those_of_the_recursion(size: int) -> None:
    leaves = leaves_of(size)
    assert tree_of(leaves).root == tree_hash(leaves)
    assert tree_of(leaves).size == size


@pytest.mark.parametrize("size", range(1, 34))
def test_a_single_opening_is_the_inclusion_proof(size: int) -> None:
    leaves = leaves_of(size)
    tree = tree_of(leaves)
    for place in range(size):
        proof = tree.open([place])
        assert proof == audit_path(place, leaves)
        verify_opening(tree.root, size, {place: leaf_hash(leaves[place])}, proof)


@st.composite
def openings(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    size = draw(SIZES)
    chosen = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=size, unique=True))
    return leaves_of(size), sorted(chosen)


def opened(leaves: list[bytes], chosen: list[int]) -> tuple[bytes, dict[int, bytes], list[bytes]]:
    tree = tree_of(leaves)
    return tree.root, {place: leaf_hash(leaves[place]) for place in chosen}, tree.open(chosen)


@given(openings())
def test_any_set_of_leaves_opens(opening: tuple[list[bytes], list[int]]) -> None:
    leaves, chosen = opening
    root, hashes, proof = opened(leaves, chosen)
    verify_opening(root, len(leaves), hashes, proof)
    backwards = dict(reversed(hashes.items()))
    verify_opening(root, len(leaves), backwards, proof)


@given(openings(), st.data())
def test_a_changed_leaf_is_refused(opening: tuple[list[bytes], list[int]], data: st.DataObject) -> None:
    leaves, chosen = opening
    root, hashes, proof = opened(leaves, chosen)
    place = data.draw(st.sampled_from(chosen))
    with pytest.raises(OpeningError):
        verify_opening(root, len(leaves), {**hashes, place: leaf_hash(b"another")}, proof)


@given(openings(), st.data())
def test_a_changed_proof_is_refused(opening: tuple[list[bytes], list[int]], data: st.DataObject) -> None:
    leaves, chosen = opening
    root, hashes, proof = opened(leaves, chosen)
    changed = list(proof)
    kind = data.draw(st.sampled_from(["drop", "flip", "add", "swap", "shorten"]))
    place = data.draw(st.integers(0, max(0, len(proof) - 1)))
    if kind == "add":
        changed.insert(place, b"\x00" * 32)
    elif not proof:
        return
    elif kind == "drop":
        del changed[place]
    elif kind == "flip":
        changed[place] = bytes([changed[place][0] ^ 1]) + changed[place][1:]
    elif kind == "shorten":
        changed[place] = changed[place][:-1]
    else:
        changed[0], changed[place] = changed[place], changed[0]
        assume(changed != proof)
    with pytest.raises(OpeningError):
        verify_opening(root, len(leaves), hashes, changed)


@given(openings(), st.integers(0, 140))
def test_another_size_is_refused_or_needs_the_same_hashes(opening: tuple[list[bytes], list[int]], size: int) -> None:
    """The size is committed beside the root; a wrong one passes only where the leaves' paths are the same."""
    leaves, chosen = opening
    root, hashes, proof = opened(leaves, chosen)
    assume(size <= max(chosen))
    with pytest.raises(OpeningError):
        verify_opening(root, size, hashes, proof)


@given(openings(), st.data())
def test_a_leaf_at_another_place_is_refused(opening: tuple[list[bytes], list[int]], data: st.DataObject) -> None:
    leaves, chosen = opening
    assume(len(leaves) > len(chosen))
    root, hashes, proof = opened(leaves, chosen)
    moved = data.draw(st.sampled_from(chosen))
    target = data.draw(st.sampled_from(sorted(set(range(len(leaves))) - set(chosen))))
    del hashes[moved]
    with pytest.raises(OpeningError):
        verify_opening(root, len(leaves), {**hashes, target: leaf_hash(leaves[moved])}, proof)


@pytest.mark.parametrize("place", [-1, 8, 2**40])
def test_a_leaf_outside_the_tree_is_refused(place: int) -> None:
    with pytest.raises(OpeningError, match="outside"):
        verify_opening(tree_of(leaves_of(8)).root, 8, {place: leaf_hash(b"")}, [])


def test_an_opening_of_nothing_is_empty() -> None:
    tree = tree_of(leaves_of(5))
    assert tree.open([]) == []
    verify_opening(tree.root, 5, {}, [])
    with pytest.raises(OpeningError, match="no leaves"):
        verify_opening(tree.root, 5, {}, [tree.root])
    with pytest.raises(OpeningError):
        verify_opening(tree.root, 0, {0: leaf_hash(b"")}, [])


def test_an_inner_node_is_not_a_leaf() -> None:
    leaves = [leaf_hash(leaf) for leaf in leaves_of(4)]
    upper = [node_hash(leaves[0], leaves[1]), node_hash(leaves[2], leaves[3])]
    assert MerkleTree(leaves).root == node_hash(*upper)
    forged = leaf_hash(leaves[0] + leaves[1])
    with pytest.raises(OpeningError):
        verify_opening(MerkleTree(leaves).root, 2, {0: forged}, [upper[1]])


@given(SIZES, st.data())
def test_a_range_opens_with_two_hashes_a_level(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    tree = tree_of(leaves_of(size))
    assert len(tree.open(range(first, last + 1))) <= 2 * max(1, (size - 1).bit_length())


@given(st.integers(0, 70), st.data())
def test_salts_are_revealed_for_the_chosen_leaves_and_no_others(size: int, data: st.DataObject) -> None:
    tree = SaltTree(b"secret".ljust(16, b"."), size)
    assert len(tree.salts) == size
    assert len(set(tree.salts)) == size
    chosen = data.draw(st.sets(st.integers(0, size - 1), max_size=size)) if size else set()
    seeds = tree.reveal(chosen)
    assert revealed_salts(chosen, size, seeds) == {place: tree.salts[place] for place in chosen}
    hidden = {tree.salts[place] for place in range(size) if place not in chosen}
    assert not hidden & descendants(seeds, depth=max(0, (size - 1).bit_length()))


def descendants(seeds: list[bytes], depth: int) -> set[bytes]:
    """Everything that these seeds derive within `depth` levels, written once more by hand."""
    reached, layer = set(seeds), list(seeds)
    for _ in range(depth):
        layer = [hashlib.sha256(b"\x02" + seed + bytes([bit])).digest()[:16] for seed in layer for bit in (0, 1)]
        reached.update(layer)
    return reached


@given(SIZES, st.data())
def test_a_wrong_number_of_seeds_is_refused(size: int, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=size))
    seeds = SaltTree(b"secret".ljust(16, b"."), size).reveal(chosen)
    for wrong in (seeds[:-1], [*seeds, b"." * 16]):
        with pytest.raises(OpeningError, match="seeds"):
            revealed_salts(chosen, size, wrong)


@given(SIZES, st.data())
def test_a_range_of_salts_takes_two_seeds_a_level(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    assert len(SaltTree(b"s" * 16, size).reveal(range(first, last + 1))) <= 2 * max(1, (size - 1).bit_length())


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def vectors(folder: str) -> list[Path]:
    return sorted((VECTORS / folder).rglob("*.json")) if VECTORS.is_dir() else []


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared test vectors are not beside the repository")
@pytest.mark.parametrize("path", vectors("inclusion"), ids=label)
def test_published_inclusion_proofs(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    leaf, root = (base64.b64decode(case[field] or "") for field in ("leafHash", "root"))
    proof = [base64.b64decode(node) for node in case["proof"] or []]
    if case["wantErr"]:
        with pytest.raises(OpeningError):
            verify_opening(root, case["treeSize"], {case["leafIdx"]: leaf}, proof)
    else:
        verify_opening(root, case["treeSize"], {case["leafIdx"]: leaf}, proof)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared test vectors are not beside the repository")
def test_published_roots() -> None:
    case = json.loads((VECTORS / "rfc6962_reference_tree.json").read_text(encoding="utf-8"))
    leaves = [bytes.fromhex(leaf) for leaf in case["leaves_hex"]]
    assert [tree_of(leaves[:size]).root.hex() for size in range(len(leaves) + 1)] == case["roots_hex"]
