"""Strict fixed-width binary: big-endian integers, length-checked fields, no byte left over.

Every length in a message is checked against the bytes that are there before anything is allocated for it, so
decoding takes at most a small multiple of the input's own length.
"""

from __future__ import annotations

import struct

from coordinator.consensus.errors import DecodeError

HASH_BYTES = 32
SIGNATURE_BYTES = 64
ZERO_HASH = bytes(HASH_BYTES)

_U8, _U16, _U32, _U64 = struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")


class Reader:
    """Reads fields one after another and refuses what is cut short or left over."""

    __slots__ = ("_data", "_offset", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._offset = 0
        self._what = what

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._offset

    def take(self, size: int, field: str) -> bytes:
        """The next `size` bytes."""
        end = self._offset + size
        if end > len(self._data):
            raise DecodeError(f"{self._what}: {field} is cut short, {size} bytes expected, {self.remaining} left")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def _integer(self, form: struct.Struct, field: str) -> int:
        value: int = form.unpack(self.take(form.size, field))[0]
        return value

    def u8(self, field: str) -> int:
        """One byte."""
        return self._integer(_U8, field)

    def u16(self, field: str) -> int:
        """Two bytes."""
        return self._integer(_U16, field)

    def u32(self, field: str) -> int:
        """Four bytes."""
        return self._integer(_U32, field)

    def u64(self, field: str) -> int:
        """Eight bytes."""
        return self._integer(_U64, field)

    def hash(self, field: str) -> bytes:
        """A SHA-256 value or a public key."""
        return self.take(HASH_BYTES, field)

    def sized(self, limit: int, field: str) -> bytes:
        """Bytes preceded by their length in four bytes, at most `limit`."""
        size = self.u32(f"length of {field}")
        if size > limit:
            raise DecodeError(f"{self._what}: {field} of {size} bytes is longer than the limit of {limit}")
        return self.take(size, field)

    def end(self) -> None:
        """Refuse what is left over."""
        if self.remaining:
            raise DecodeError(f"{self._what}: {self.remaining} bytes after its end")


def sized(data: bytes) -> bytes:
    """The bytes preceded by their length in four bytes."""
    return _U32.pack(len(data)) + data
