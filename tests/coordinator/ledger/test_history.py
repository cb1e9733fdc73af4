"""The history tree against the recursion of RFC 9162, its own proofs, and the published vectors (98 + 98)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.ledger.history import (
    EMPTY_ROOT,
    Frontier,
    MemoryNodes,
    leaves_root,
    peak_places,
    prove_leaf,
    verify_consistency,
    verify_inclusion,
)
from coordinator.ledger.merkle import MerkleTree, OpeningError, leaf_hash, verify_opening

VECTORS = Path(__file__).parents[3].parent / "shared" / "vectors" / "transparency-dev-merkle"
LEAVES = [bytes([number]) * (number % 5) + b"!" for number in range(80)]


def grown(size: int) -> MemoryNodes:
    nodes = MemoryNodes()
    for leaf in LEAVES[:size]:
        nodes.append(leaf)
    return nodes


def root_of(size: int) -> bytes:
    return MerkleTree([leaf_hash(leaf) for leaf in LEAVES[:size]]).root


@pytest.mark.parametrize("size", range(70))
def test_frontier_and_tree_have_the_root_of_the_whole_tree(size: int) -> None:
    nodes = grown(size)
    assert nodes.frontier.root == nodes.tree.root == root_of(size)
    assert leaves_root(LEAVES[:size]) == root_of(size)


def test_a_frontier_is_logarithmic_and_found_again_among_the_nodes() -> None:
    nodes = grown(77)
    assert len(nodes.frontier.peaks) == (77).bit_count()
    assert len(nodes.nodes) < 2 * 77
    again = Frontier(77, tuple(nodes.nodes[place] for place in peak_places(77)))
    assert again == nodes.frontier
    assert Frontier().root == EMPTY_ROOT


@given(st.integers(1, 70), st.data())
def test_inclusion_proofs_hold_for_every_past_size_and_no_other_leaf(size: int, data: st.DataObject) -> None:
    tree = grown(70).tree
    place = data.draw(st.integers(0, size - 1))
    proof = tree.prove_inclusion(place, size)
    verify_inclusion(root_of(size), size, place, LEAVES[place], proof)
    assert list(proof) == MerkleTree([leaf_hash(leaf) for leaf in LEAVES[:size]]).open([place])
    with pytest.raises(OpeningError):
        verify_inclusion(root_of(size), size, place, b"another", proof)
    with pytest.raises(OpeningError):
        verify_inclusion(root_of(size), size, place, LEAVES[place], [*proof, bytes(32)])


@given(st.integers(1, 70), st.data())
def test_consistency_proofs_hold_and_nothing_else_does(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    proof = grown(70).tree.prove_consistency(first, second)
    verify_consistency(first, second, root_of(first), root_of(second), proof)
    other = data.draw(st.integers(1, 70).filter(lambda size: size not in (first, second)))
    for wrong in (
        (first, second, root_of(other), root_of(second), proof),
        (first, second, root_of(first), root_of(other), proof),
        (first, second, root_of(first), root_of(second), (*proof, bytes(32))),
        (0, second, EMPTY_ROOT, root_of(second), ()),
    ):
        with pytest.raises(OpeningError):
            verify_consistency(*wrong)
    if proof:
        with pytest.raises(OpeningError):
            verify_consistency(first, second, root_of(first), root_of(second), proof[:-1])


@given(st.integers(1, 40), st.data())
def test_leaves_of_a_block_are_proved_by_place(size: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, size - 1))
    proof = prove_leaf(LEAVES[:size], place)
    verify_inclusion(root_of(size), size, place, LEAVES[place], proof)


def vectors(folder: str) -> list[Path]:
    return sorted((VECTORS / folder).rglob("*.json")) if VECTORS.is_dir() else []


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def decoded(case: dict[str, Any], *fields: str) -> list[bytes]:
    return [base64.b64decode(case[field] or "") for field in fields]


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared test vectors are not beside the repository")
@pytest.mark.parametrize("path", vectors("consistency"), ids=label)
def test_published_consistency_proofs(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    root1, root2 = decoded(case, "root1", "root2")
    proof = [base64.b64decode(node) for node in case["proof"] or []]
    assert case["wantErr"] or case["size1"], "a proof from an empty tree says nothing"
    if case["wantErr"]:
        with pytest.raises(OpeningError):
            verify_consistency(case["size1"], case["size2"], root1, root2, proof)
    else:
        verify_consistency(case["size1"], case["size2"], root1, root2, proof)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared test vectors are not beside the repository")
@pytest.mark.parametrize("path", vectors("inclusion"), ids=label)
def test_published_inclusion_proofs(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    leaf, root = decoded(case, "leafHash", "root")
    arguments = (root, case["treeSize"], {case["leafIdx"]: leaf}, [base64.b64decode(n) for n in case["proof"] or []])
    if case["wantErr"]:
        with pytest.raises(OpeningError):
            verify_opening(*arguments)
    else:
        verify_opening(*arguments)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared test vectors are not beside the repository")
def test_all_published_vectors_are_there() -> None:
    assert (len(vectors("consistency")), len(vectors("inclusion"))) == (98, 98)
