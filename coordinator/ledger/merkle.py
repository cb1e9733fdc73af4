"""Merkle trees as in RFC 6962 section 2.1, with batch openings and salts.

Leaves hash as SHA-256(0x00 || leaf), nodes as SHA-256(0x01 || left || right). Pairing neighbours level by level
and promoting an odd last node gives the RFC's tree. `MerkleTree.open` proves any set of leaves at once; for a
contiguous range of an n-leaf tree that takes at most 2 log2 n hashes.

A `SaltTree` derives one 16-byte salt a leaf from a secret, top down, so that the salts of a contiguous range
are revealed by at most 2 log2 n seeds and no other salt can be derived from them (Goldreich, Goldwasser,
Micali, "How to construct random functions", J. ACM 33(4), 1986).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

SALT_SIZE = 16
HASH_SIZE = 32


class OpeningError(ValueError):
    """An opening that does not lead to the committed root, or that is malformed."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf's bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """The tree over leaf hashes; the root of no leaves is SHA-256 of nothing."""

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        self._levels = [list(leaf_hashes)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            above = [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
            self._levels.append(above + below[len(above) * 2 :])

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The RFC 6962 tree hash."""
        return self._levels[-1][0] if self._levels[-1] else hashlib.sha256(b"").digest()

    def open(self, leaves: Iterable[int]) -> list[bytes]:
        """The hashes that a verifier of these leaves lacks, level by level, left to right."""
        known = sorted(set(leaves))
        proof: list[bytes] = []
        for level in self._levels[:-1]:
            members = set(known)
            proof.extend(level[i ^ 1] for i in known if (i ^ 1) not in members and (i ^ 1) < len(level))
            known = sorted({i // 2 for i in known})
        return proof


def verify_opening(root: bytes, size: int, leaf_hashes: Mapping[int, bytes], proof: Sequence[bytes]) -> None:
    """Raise OpeningError unless these leaves are those of a tree of this size with this root."""
    if not leaf_hashes:
        if proof:
            raise OpeningError("an opening of no leaves carries hashes; send none")
        return
    if min(leaf_hashes) < 0 or max(leaf_hashes) >= size:
        raise OpeningError(f"an opened leaf is outside a tree of {size} leaves")
    if any(len(value) != HASH_SIZE for value in (*leaf_hashes.values(), *proof)):
        raise OpeningError(f"a hash is not {HASH_SIZE} bytes; send SHA-256 hashes")
    remaining = iter(proof)
    known = dict(sorted(leaf_hashes.items()))
    width = size
    try:
        while width > 1:
            known = _parents(known, width, remaining)
            width = (width + 1) // 2
    except StopIteration:
        raise OpeningError("an opening ends too early; send every hash that is missing") from None
    if next(remaining, None) is not None:
        raise OpeningError("an opening carries hashes that are not needed; send only what is missing")
    if known[0] != root:
        raise OpeningError("opened leaves do not lead to the committed root; publish what was committed")


def _parents(known: Mapping[int, bytes], width: int, remaining: Iterable[bytes]) -> dict[int, bytes]:
    """One level up; raises StopIteration when a sibling is missing."""
    supply = iter(remaining)
    siblings = {i ^ 1: next(supply) for i in known if (i ^ 1) not in known and (i ^ 1) < width}
    level = {**known, **siblings}
    above = {}
    for i in known:
        left, right = i & ~1, i | 1
        above[i // 2] = node_hash(level[left], level[right]) if right < width else level[left]
    return above


class SaltTree:
    """Salts for `size` leaves from one secret seed."""

    def __init__(self, seed: bytes, size: int) -> None:
        self._depth = _depth(size)
        self._levels = [[seed[:SALT_SIZE]]]
        for level in range(self._depth):
            below = [_derived(parent, bit) for parent in self._levels[-1] for bit in (0, 1)]
            self._levels.append(below[: _width(size, self._depth - level - 1)])

    @property
    def salts(self) -> list[bytes]:
        """One salt a leaf."""
        return self._levels[-1]

    def reveal(self, leaves: Iterable[int]) -> list[bytes]:
        """Seeds of the largest subtrees that lie within these leaves, in the order `revealed_salts` walks them."""
        chosen = set(leaves)
        size = len(self.salts)
        return [self._levels[level][index] for level, index in _cover(chosen, size, self._depth)]


def revealed_salts(leaves: Iterable[int], size: int, seeds: Sequence[bytes]) -> dict[int, bytes]:
    """The salts of these leaves from revealed seeds. Raises OpeningError when their number is wrong."""
    chosen = set(leaves)
    depth = _depth(size)
    cover = _cover(chosen, size, depth)
    if len(cover) != len(seeds):
        raise OpeningError(f"{len(seeds)} salt seeds given, {len(cover)} needed")
    salts: dict[int, bytes] = {}
    for (level, index), seed in zip(cover, seeds, strict=True):
        block = [seed]
        for _ in range(depth - level):
            block = [_derived(parent, bit) for parent in block for bit in (0, 1)]
        first = index << (depth - level)
        salts.update((first + offset, salt) for offset, salt in enumerate(block) if first + offset < size)
    return salts


def _derived(seed: bytes, bit: int) -> bytes:
    return hashlib.sha256(b"\x02" + seed + bytes([bit])).digest()[:SALT_SIZE]


def _depth(size: int) -> int:
    return max(0, (size - 1).bit_length())


def _width(size: int, height: int) -> int:
    """Nodes at this height above the leaves that have leaves below them."""
    return -(-size // (1 << height))


def _cover(chosen: set[int], size: int, depth: int) -> list[tuple[int, int]]:
    """(level, index) of the largest subtrees whose existing leaves are all chosen; by level upwards, left to right."""
    cover: list[tuple[int, int]] = []
    full = chosen
    for level in range(depth, 0, -1):
        width = _width(size, depth - level)
        parents = {i // 2 for i in full if (i ^ 1) in full or (i ^ 1) >= width}
        cover.extend((level, i) for i in sorted(full) if i // 2 not in parents)
        full = parents
    cover.extend((0, i) for i in sorted(full))
    return cover
