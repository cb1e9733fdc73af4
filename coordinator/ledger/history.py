"""The history of a chain: the RFC 9162 tree over the digests of its headers, which only grows.

`Frontier` is all that appending needs: the roots of the complete subtrees, one for each bit of the size (a Merkle
mountain range). `HistoryTree` adds the proofs: it reads complete nodes from where appending has put them, at most
two a header, so a proof takes O(log n) reads. Both give the tree hash of RFC 9162, section 2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from coordinator.ledger.merkle import HASH_SIZE, MerkleTree, OpeningError, leaf_hash, node_hash, verify_opening

EMPTY_ROOT = hashlib.sha256(b"").digest()
DEPTH_MAX = 64

Node = tuple[int, int, bytes]
"""A complete subtree: its level (0: leaves), its place in the level, its hash."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree's size and its peaks: the roots of its complete subtrees, the largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.peaks) == self.size.bit_count(), "a frontier has one peak for each bit of its size"

    def append(self, leaf: bytes) -> Frontier:
        """The tree with one more leaf."""
        return self.grown(leaf)[0]

    def grown(self, leaf: bytes) -> tuple[Frontier, tuple[Node, ...]]:
        """The tree with one more leaf, and the nodes that are complete now and were not before."""
        peaks = list(self.peaks)
        level, place, current = 0, self.size, leaf_hash(leaf)
        nodes = [(level, place, current)]
        while place & 1:
            current = node_hash(peaks.pop(), current)
            level, place = level + 1, place >> 1
            nodes.append((level, place, current))
        return Frontier(self.size + 1, (*peaks, current)), tuple(nodes)

    @property
    def root(self) -> bytes:
        """The tree hash."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def peak_places(size: int) -> Iterator[tuple[int, int]]:
    """Level and place of each peak of a tree of this size, the largest first."""
    start = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            yield level, start >> level
            start += 1 << level


@dataclass(frozen=True, slots=True)
class HistoryTree:
    """Proofs about a tree of `size` leaves. `node(level, place)` gives the hash of a complete subtree."""

    size: int
    node: Callable[[int, int], bytes]

    @property
    def root(self) -> bytes:
        """The tree hash."""
        return self._hash(0, self.size) if self.size else EMPTY_ROOT

    def prove_inclusion(self, place: int, size: int) -> tuple[bytes, ...]:
        """RFC 9162, section 2.1.3.1: that a leaf is in the tree of the first `size` leaves."""
        assert 0 <= place < size <= self.size, f"leaf {place} of {size} in a tree of {self.size}"
        return tuple(reversed([self._hash(*span) for span in _siblings(place, size)]))

    def prove_consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """RFC 9162, section 2.1.4.1: that the tree of `first` leaves is a prefix of that of `second`."""
        assert 0 < first <= second <= self.size, f"from {first} to {second} in a tree of {self.size}"
        return tuple(reversed([self._hash(*span) for span in _subproof(first, second)]))

    def _hash(self, start: int, end: int) -> bytes:
        """The tree hash over leaves start to end; start is a multiple of a power of two no less than their number."""
        frontier = []
        while start < end:
            level = (end - start).bit_length() - 1
            frontier.append(self.node(level, start >> level))
            start += 1 << level
        root = frontier.pop()
        while frontier:
            root = node_hash(frontier.pop(), root)
        return root


@dataclass(slots=True)
class MemoryNodes:
    """Nodes kept in memory, for tests and small trees."""

    frontier: Frontier = field(default_factory=Frontier)
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def append(self, leaf: bytes) -> None:
        """Add a leaf."""
        self.frontier, new = self.frontier.grown(leaf)
        self.nodes.update(((level, place), value) for level, place, value in new)

    @property
    def tree(self) -> HistoryTree:
        """The tree as it is now."""
        return HistoryTree(self.frontier.size, lambda level, place: self.nodes[level, place])


def verify_inclusion(root: bytes, size: int, place: int, leaf: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162, section 2.1.3.2. Raises OpeningError."""
    verify_opening(root, size, {place: leaf_hash(leaf)}, proof)


def verify_consistency(first: int, second: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162, section 2.1.4.2. Raises OpeningError; a proof from an empty tree says nothing and is refused."""
    if not 0 < first <= second < 1 << DEPTH_MAX:
        raise OpeningError(f"consistency from size {first} to {second}; the first is at least 1, the second no less")
    if first == second:
        if proof or root1 != root2:
            raise OpeningError("two trees of one size have one root and an empty proof")
        return
    if any(len(value) != HASH_SIZE for value in (root1, root2, *proof)):
        raise OpeningError(f"a hash is not {HASH_SIZE} bytes; send SHA-256 hashes")
    path = [root1, *proof] if first & (first - 1) == 0 else list(proof)
    _climb(first - 1, second - 1, root1, root2, path)


def _climb(place: int, last: int, root1: bytes, root2: bytes, path: Sequence[bytes]) -> None:
    """Steps 3 to 7: rebuild both roots from the node that the two trees share."""
    while place & 1:
        place, last = place >> 1, last >> 1
    if not path:
        raise OpeningError("a consistency proof is empty; send every hash that is missing")
    old = new = path[0]
    for value in path[1:]:
        if last == 0:
            raise OpeningError("a consistency proof carries hashes that are not needed; send only what is missing")
        if place & 1 or place == last:
            old, new = node_hash(value, old), node_hash(value, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, value)
        place, last = place >> 1, last >> 1
    if last:
        raise OpeningError("a consistency proof ends too early; send every hash that is missing")
    if old != root1 or new != root2:
        raise OpeningError("a consistency proof does not lead to both roots")


def _siblings(place: int, size: int) -> Iterator[tuple[int, int]]:
    """Spans beside the way from the root down to a leaf."""
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if place < middle:
            yield middle, end
            end = middle
        else:
            yield start, middle
            start = middle


def _subproof(first: int, size: int) -> Iterator[tuple[int, int]]:
    """Spans of a consistency proof from the root down; the last is the node shared, unless it is the whole old tree."""
    start, end = 0, size
    while first < end:
        middle = start + _split(end - start)
        if first <= middle:
            yield middle, end
            end = middle
        else:
            yield start, middle
            start = middle
    if start:
        yield start, end


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def leaves_root(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaves: of a block's transactions or receipts."""
    return MerkleTree([leaf_hash(leaf) for leaf in leaves]).root


def prove_leaf(leaves: Sequence[bytes], place: int) -> tuple[bytes, ...]:
    """The inclusion proof of one of these leaves."""
    return tuple(MerkleTree([leaf_hash(leaf) for leaf in leaves]).open([place]))
