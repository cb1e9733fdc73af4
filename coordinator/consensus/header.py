"""Block headers: 314 bytes, one encoding a header, the digest is the hash of exactly these bytes."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.wire import HASH_BYTES

_DOMAIN = b"gridaccord/consensus/v1/header"
_PAYLOAD_DOMAIN = b"gridaccord/consensus/v1/payload"
_FORMAT = struct.Struct(">H32sQQQ32s32s32s32s32s32s32s32s")
HEADER_BYTES = _FORMAT.size
_U64_END = 1 << 64


def payload_digest(payload: bytes) -> bytes:
    """What a header commits its payload bytes to."""
    return hashlib.sha256(_PAYLOAD_DOMAIN + payload).digest()


@dataclass(frozen=True, slots=True)
class Header:
    """A block, as far as consensus is concerned. It holds no view: the same block may be proposed again in a later one.

    `time_ms` is UTC, greater than the parent's; roots and digests are 32 bytes.
    """

    version: int
    chain_id: bytes
    epoch: int
    height: int
    time_ms: int
    parent_digest: bytes
    transactions_root: bytes
    state_root: bytes
    receipts_root: bytes
    history_root: bytes
    validators_root: bytes
    next_validators_root: bytes
    payload_digest: bytes
    digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.version < 1 << 16:
            raise ValueError(f"header version {self.version} does not fit 16 bits")
        for name, value in (("epoch", self.epoch), ("height", self.height), ("time_ms", self.time_ms)):
            if not 0 <= value < _U64_END:
                raise ValueError(f"header {name} {value} does not fit 64 bits")
        if any(len(part) != HASH_BYTES for part in self._hashes()):
            raise ValueError("every root, digest and the chain_id of a header is 32 bytes")
        object.__setattr__(self, "digest", hashlib.sha256(_DOMAIN + self.encode()).digest())

    def _hashes(self) -> tuple[bytes, ...]:
        return (
            self.chain_id,
            self.parent_digest,
            self.transactions_root,
            self.state_root,
            self.receipts_root,
            self.history_root,
            self.validators_root,
            self.next_validators_root,
            self.payload_digest,
        )

    def encode(self) -> bytes:
        """The header's only encoding."""
        chain_id, *roots = self._hashes()
        return _FORMAT.pack(self.version, chain_id, self.epoch, self.height, self.time_ms, *roots)


def decode_header(data: bytes) -> Header:
    """The header that these bytes encode; DecodeError unless they are exactly one."""
    if len(data) != HEADER_BYTES:
        raise DecodeError(f"header: {len(data)} bytes, a header has exactly {HEADER_BYTES}")
    return Header(*_FORMAT.unpack(data))
