"""The state as key/value entries under one root: a crit-bit tree (Morrison's PATRICIA) with hashes.

A key is read as bits, nine a byte: one that says "a byte follows", then its eight. An inner node names the first
bit in which the keys below it differ, so the shape is a function of the set of keys alone, whatever the order of
writes, and keys stand in the order of their bytes.

    leaf   SHA-256(0x02 || length of key || key || SHA-256(value))
    inner  SHA-256(0x03 || bit || hash of the 0 side || hash of the 1 side)
    empty  32 zero bytes

A proof is the path that a key's own bits take. It ends at the key's leaf (inclusion) or at another's, which
proves absence: were the key in the tree, its bits would lead to it. Trees are immutable and share their nodes:
a write copies one path, and only copied nodes are hashed again, when the root is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.merkle import HASH_SIZE, OpeningError

KEY_MAX = 128
VALUE_MAX = 2**20
EMPTY_ROOT = bytes(HASH_SIZE)
_BITS = 9
DEPTH_MAX = KEY_MAX * _BITS + 1


class _Leaf:
    __slots__ = ("hash", "key", "value")

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self.value = value
        self.hash: bytes | None = None


class _Inner:
    __slots__ = ("bit", "hash", "one", "zero")

    def __init__(self, bit: int, zero: _Node, one: _Node) -> None:
        self.bit = bit
        self.zero = zero
        self.one = one
        self.hash: bytes | None = None

    def child(self, key: bytes) -> _Node:
        return self.one if _bit(key, self.bit) else self.zero

    def replaced(self, key: bytes, child: _Node) -> _Inner:
        return _Inner(self.bit, self.zero, child) if _bit(key, self.bit) else _Inner(self.bit, child, self.one)


_Node = _Leaf | _Inner


@dataclass(frozen=True, slots=True)
class StateProof:
    """Path of a key from the root: the bits branched on, the hashes beside it, and the leaf it ends at.

    `leaf_key` is None in an empty tree. The leaf's value stands as its hash, so that a proof of absence does not
    show a neighbour's value.
    """

    bits: tuple[int, ...]
    siblings: tuple[bytes, ...]
    leaf_key: bytes | None
    leaf_value_hash: bytes

    def encode(self) -> bytes:
        """The one byte form."""
        writer = Writer().uint32(len(self.bits))
        for bit, sibling in zip(self.bits, self.siblings, strict=True):
            writer.uint32(bit).raw(sibling)
        writer.flag(self.leaf_key is not None).bytes(self.leaf_key or b"")
        return writer.raw(self.leaf_value_hash).encoded


def decode_state_proof(data: bytes) -> StateProof:
    """Raises DecodeError for anything that `StateProof.encode` does not write."""
    reader = Reader(data)
    depth = reader.uint32()
    if depth > DEPTH_MAX:
        raise DecodeError(f"a state proof of {depth} levels; no key has more than {DEPTH_MAX} bits")
    steps = [(reader.uint32(), reader.raw(HASH_SIZE)) for _ in range(depth)]
    if any(bit >= DEPTH_MAX for bit, _ in steps):
        raise DecodeError(f"a state proof branches past bit {DEPTH_MAX}, where no key has one")
    there = reader.flag()
    key = reader.bytes()
    value_hash = reader.raw(HASH_SIZE)
    reader.end()
    if not there and (key or depth or value_hash != bytes(HASH_SIZE)):
        raise DecodeError("a state proof of an empty tree holds a path or a leaf")
    bits, siblings = tuple(bit for bit, _ in steps), tuple(sibling for _, sibling in steps)
    return StateProof(bits, siblings, key if there else None, value_hash)


class StateTree:
    """An immutable map from keys to values with a root; `set` and `delete` give another tree."""

    __slots__ = ("_root",)

    def __init__(self, root: _Node | None = None) -> None:
        self._root = root

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None where there is none."""
        leaf = _nearest(self._root, key)
        return leaf.value if leaf is not None and leaf.key == key else None

    def set(self, key: bytes, value: bytes) -> StateTree:
        """The tree with this entry."""
        assert len(key) <= KEY_MAX, f"a key of {len(key)} bytes; at most {KEY_MAX}"
        assert len(value) <= VALUE_MAX, f"a value of {len(value)} bytes; at most {VALUE_MAX}"
        if self._root is None:
            return StateTree(_Leaf(key, value))
        nearest = _nearest(self._root, key)
        assert nearest is not None
        if nearest.key == key and nearest.value == value:
            return self
        bit = _first_difference(nearest.key, key)
        path, node = _descend(self._root, key, bit)
        new: _Node = _Leaf(key, value)
        if nearest.key != key:
            new = _Inner(bit, node, new) if _bit(key, bit) else _Inner(bit, new, node)
        return StateTree(_rebuilt(path, key, new))

    def delete(self, key: bytes) -> StateTree:
        """The tree without this key; the same tree if it has none."""
        if self._root is None:
            return self
        path, node = _descend(self._root, key, DEPTH_MAX)
        if not isinstance(node, _Leaf) or node.key != key:
            return self
        if not path:
            return StateTree()
        parent = path.pop()
        return StateTree(_rebuilt(path, key, parent.zero if _bit(key, parent.bit) else parent.one))

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Entries whose key starts with this, in the order of their keys."""
        if self._root is None:
            return
        _, top = _descend(self._root, prefix, len(prefix) * _BITS)
        stack = [top]
        while stack:
            node = stack.pop()
            if isinstance(node, _Inner):
                stack += (node.one, node.zero)
            elif node.key.startswith(prefix):
                yield node.key, node.value
            else:
                return

    def shares(self, other: StateTree, prefix: bytes) -> bool:
        """Whether nothing under a prefix was written between these trees; only True means anything. Takes no time."""
        return self.part(prefix) is other.part(prefix)

    def part(self, prefix: bytes) -> object:
        """Stands for all that is under a prefix: the same object in two trees means that nothing there was written."""
        return None if self._root is None else _descend(self._root, prefix, len(prefix) * _BITS)[1]

    @property
    def root(self) -> bytes:
        """The root hash; hashes what changed since it was last asked for."""
        return EMPTY_ROOT if self._root is None else _hashed(self._root)

    def prove(self, key: bytes) -> StateProof:
        """That the key has its value, or that it is absent."""
        if self._root is None:
            return StateProof((), (), None, bytes(HASH_SIZE))
        _hashed(self._root)
        path, leaf = _descend(self._root, key, DEPTH_MAX)
        assert isinstance(leaf, _Leaf)
        siblings = tuple(_hashed(node.zero if _bit(key, node.bit) else node.one) for node in path)
        return StateProof(tuple(node.bit for node in path), siblings, leaf.key, _value_hash(leaf.value))


def verify_state(root: bytes, key: bytes, value: bytes | None, proof: StateProof) -> None:
    """Raise OpeningError unless under this root the key has this value, or with None is absent."""
    if proof.leaf_key is None:
        if root != EMPTY_ROOT or proof.bits or value is not None:
            raise OpeningError("a proof of an empty state for one that is not")
        return
    if value is None and proof.leaf_key == key:
        raise OpeningError("the key is in the state; a proof of absence ends at another key")
    if value is not None and (proof.leaf_key != key or proof.leaf_value_hash != _value_hash(value)):
        raise OpeningError("the proof is of another entry")
    _verify_path(root, key, proof)


def _verify_path(root: bytes, key: bytes, proof: StateProof) -> None:
    assert proof.leaf_key is not None
    if list(proof.bits) != sorted(set(proof.bits)) or len(proof.bits) != len(proof.siblings):
        raise OpeningError("a state path does not branch at growing bits")
    if any(_bit(key, bit) != _bit(proof.leaf_key, bit) for bit in proof.bits):
        raise OpeningError("a state path does not follow the bits of the key")
    current = _leaf_hash(proof.leaf_key, proof.leaf_value_hash)
    for bit, sibling in zip(reversed(proof.bits), reversed(proof.siblings), strict=True):
        pair = (sibling, current) if _bit(key, bit) else (current, sibling)
        current = _inner_hash(bit, *pair)
    if current != root:
        raise OpeningError("a state path does not lead to the root")


def tree_of(entries: Iterable[tuple[bytes, bytes]]) -> StateTree:
    """The tree of these entries."""
    tree = StateTree()
    for key, value in entries:
        tree = tree.set(key, value)
    return tree


def _bit(key: bytes, bit: int) -> int:
    place, within = divmod(bit, _BITS)
    if place >= len(key):
        return 0
    return 1 if within == 0 else key[place] >> (8 - within) & 1


def _first_difference(left: bytes, right: bytes) -> int:
    """The first bit in which two keys differ; past their end where they do not."""
    shared = min(len(left), len(right))
    difference = int.from_bytes(left[:shared], "big") ^ int.from_bytes(right[:shared], "big")
    if not difference:
        return DEPTH_MAX if len(left) == len(right) else shared * _BITS
    leading = shared * 8 - difference.bit_length()
    return leading // 8 * _BITS + leading % 8 + 1


def _nearest(node: _Node | None, key: bytes) -> _Leaf | None:
    while isinstance(node, _Inner):
        node = node.child(key)
    return node


def _descend(node: _Node, key: bytes, limit: int) -> tuple[list[_Inner], _Node]:
    """The inner nodes on the way of a key that branch before bit `limit`, and what is below them."""
    path = []
    while isinstance(node, _Inner) and node.bit < limit:
        path.append(node)
        node = node.child(key)
    return path, node


def _rebuilt(path: Sequence[_Inner], key: bytes, node: _Node) -> _Node:
    for parent in reversed(path):
        node = parent.replaced(key, node)
    return node


def _hashed(top: _Node) -> bytes:
    """The hash of a node, after those below it that lack theirs; without recursion, as keys may share long prefixes."""
    stack = [top]
    while stack:
        node = stack[-1]
        if node.hash is not None:
            stack.pop()
        elif isinstance(node, _Leaf):
            node.hash = _leaf_hash(node.key, _value_hash(node.value))
        elif node.zero.hash is None or node.one.hash is None:
            stack += (child for child in (node.zero, node.one) if child.hash is None)
        else:
            node.hash = _inner_hash(node.bit, node.zero.hash, node.one.hash)
    assert top.hash is not None
    return top.hash


def _value_hash(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _leaf_hash(key: bytes, value_hash: bytes) -> bytes:
    return hashlib.sha256(b"\x02" + len(key).to_bytes(2, "big") + key + value_hash).digest()


def _inner_hash(bit: int, zero: bytes, one: bytes) -> bytes:
    return hashlib.sha256(b"\x03" + bit.to_bytes(2, "big") + zero + one).digest()
