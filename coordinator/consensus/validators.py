"""The validators of one epoch: who they are, how many may fail, who leads which view."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from coordinator.consensus.wire import HASH_BYTES

_DOMAIN = b"gridaccord/consensus/v1/validators"
MAX_VALIDATORS = 1024


def max_faulty(size: int) -> int:
    """f: the most validators of `size` that may be faulty."""
    return (size - 1) // 3


def quorum(size: int) -> int:
    """q = n - f: any two quorums share an honest validator, and the honest ones alone are a quorum."""
    return size - max_faulty(size)


@dataclass(frozen=True, slots=True)
class ValidatorSet:
    """The validators of an epoch; the order of the 32-byte Ed25519 public keys is their index."""

    chain_id: bytes
    epoch: int
    public_keys: tuple[bytes, ...]
    root: bytes = field(init=False, repr=False, compare=False)
    """SHA-256 over a domain tag, n and the keys: what a header commits to."""
    _index: dict[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.chain_id) != HASH_BYTES:
            raise ValueError(f"chain_id has {len(self.chain_id)} bytes, it must be a 32-byte hash")
        if not 1 <= len(self.public_keys) <= MAX_VALIDATORS:
            raise ValueError(f"{len(self.public_keys)} validators; an epoch has 1 to {MAX_VALIDATORS}")
        if any(len(key) != HASH_BYTES for key in self.public_keys):
            raise ValueError("a validator's public key is not 32 bytes")
        index = {key: i for i, key in enumerate(self.public_keys)}
        if len(index) != len(self.public_keys):
            raise ValueError("the same public key stands twice in one validator set")
        if self.epoch < 0:
            raise ValueError(f"epoch {self.epoch} is negative")
        content = _DOMAIN + len(self.public_keys).to_bytes(2, "big") + b"".join(self.public_keys)
        object.__setattr__(self, "root", hashlib.sha256(content).digest())
        object.__setattr__(self, "_index", index)

    @property
    def size(self) -> int:
        """n."""
        return len(self.public_keys)

    @property
    def max_faulty(self) -> int:
        """f."""
        return max_faulty(len(self.public_keys))

    @property
    def quorum(self) -> int:
        """q."""
        return quorum(len(self.public_keys))

    def leader(self, view: int) -> int:
        """Index of the leader of a view: it depends on nothing that a validator could choose (P13)."""
        return (view + self.epoch) % len(self.public_keys)

    def leader_key(self, view: int) -> bytes:
        """Public key of the leader of a view."""
        return self.public_keys[self.leader(view)]

    def index_of(self, public_key: bytes) -> int | None:
        """Index of a validator; None for anybody else."""
        return self._index.get(public_key)
