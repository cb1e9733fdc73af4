"""The one byte form of records that are hashed into the state and the receipts.

Protobuf has no canonical form, so what validators hash independently is written here: big-endian, fixed width,
byte strings and text behind their length. A record has exactly one encoding, and its decoder refuses every other.
"""

from __future__ import annotations

import struct

from coordinator.consensus.errors import DecodeError

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
BYTES_MAX = 2**16 - 1

_INT64 = struct.Struct(">q")
_UINT64 = struct.Struct(">Q")
_UINT32 = struct.Struct(">I")
_UINT16 = struct.Struct(">H")


class Writer:
    """Builds a record, field by field."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def int64(self, value: int) -> Writer:
        """A signed amount."""
        assert INT64_MIN <= value <= INT64_MAX, f"{value} is outside int64"
        return self.raw(_INT64.pack(value))

    def uint128(self, value: int) -> Writer:
        """A total of amounts, which only grows."""
        return self.raw(value.to_bytes(16, "big"))

    def uint64(self, value: int) -> Writer:
        """A height, a sequence number or a time."""
        return self.raw(_UINT64.pack(value))

    def uint32(self, value: int) -> Writer:
        """A count or a small number."""
        return self.raw(_UINT32.pack(value))

    def flag(self, value: bool) -> Writer:
        """One byte, 0 or 1."""
        return self.raw(b"\x01" if value else b"\x00")

    def raw(self, value: bytes) -> Writer:
        """Bytes whose length the reader knows."""
        self._parts.append(value)
        return self

    def text(self, value: str) -> Writer:
        """UTF-8 behind a 16-bit length."""
        return self.bytes(value.encode("utf-8"))

    @property
    def encoded(self) -> bytes:
        """The record."""
        return b"".join(self._parts)

    def bytes(self, value: bytes) -> Writer:
        """Bytes behind a 16-bit length."""
        assert len(value) <= BYTES_MAX, f"{len(value)} bytes are too long for a record"
        return self.raw(_UINT16.pack(len(value)) + value)


class Reader:
    """Takes a record apart. Raises DecodeError where it ends too early; `end` refuses what is left over."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def raw(self, size: int) -> bytes:
        """The next so many bytes."""
        value = self._data[self._place : self._place + size]
        if len(value) != size:
            raise DecodeError(f"a record ends {size - len(value)} bytes too early; send it whole")
        self._place += size
        return value

    def int64(self) -> int:
        """A signed amount."""
        return int.from_bytes(self.raw(8), "big", signed=True)

    def uint128(self) -> int:
        """A total of amounts."""
        return int.from_bytes(self.raw(16), "big")

    def uint64(self) -> int:
        """A height, a sequence number or a time."""
        return int.from_bytes(self.raw(8), "big")

    def uint32(self) -> int:
        """A count or a small number."""
        return int.from_bytes(self.raw(4), "big")

    def flag(self) -> bool:
        """One byte, 0 or 1."""
        value = self.raw(1)[0]
        if value > 1:
            raise DecodeError(f"a flag is {value}; it is 0 or 1")
        return value == 1

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.raw(len(self._data) - self._place)

    def bytes(self) -> bytes:
        """Bytes behind a 16-bit length."""
        return self.raw(int.from_bytes(self.raw(2), "big"))

    def text(self) -> str:
        """UTF-8 behind a 16-bit length."""
        try:
            return self.bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise DecodeError("a text is not UTF-8") from None

    def end(self) -> None:
        """Refuse anything after the last field."""
        if self._place != len(self._data):
            raise DecodeError(f"{len(self._data) - self._place} bytes follow a record; send nothing after it")
