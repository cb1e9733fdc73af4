"""Small conversions between arrays and messages, and the error of a message that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from topology.arrays import BoolArray, FloatArray, IntArray

HUB = -1
"""The sender of the hub's messages in errors."""
FINE_BITS = 10
"""Message fields ending in _fine are in 2**-10 of their unit."""


class ProtocolError(ValueError):
    """A message that breaks the protocol; names the region that sent it (or `HUB`) and what is wrong."""

    def __init__(self, region: int, problem: str) -> None:
        self.region = region
        super().__init__(f"{'hub' if region < 0 else f'region {region}'}: {problem}")


_M = TypeVar("_M", bound=Message)


def parse(kind: type[_M], data: bytes, sender: int) -> _M:
    """A message from bytes; raises ProtocolError naming the sender when they are not one."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProtocolError(sender, f"bytes are not a {kind.DESCRIPTOR.name} ({error}); send it again") from error


def only(intervals: Sequence[_M], sender: int) -> _M:
    """The one interval of a message; raises ProtocolError when it has none or several."""
    if len(intervals) != 1:
        raise ProtocolError(sender, f"a message about {len(intervals)} intervals; this session couples one at a time")
    return intervals[0]


class _Scope(Protocol):
    carrier: str
    asset: str
    topology_id: bytes
    region: int


def expect_scope(scope: _Scope, expected: _Scope, sender: int) -> None:
    """Raise ProtocolError unless a message is about this market and this topology, and from its sender."""
    same = (scope.carrier, scope.asset) == (expected.carrier, expected.asset)
    expect(
        same, sender, f"a message about {scope.carrier} in {scope.asset}, not {expected.carrier} in {expected.asset}"
    )
    expect(scope.topology_id == expected.topology_id, sender, "a message for another topology; publish it again")
    expect(sender < 0 or scope.region == sender, sender, f"a message in the name of region {scope.region}")


def expect(condition: bool, sender: int, problem: str) -> None:
    """Raise ProtocolError unless the condition holds."""
    if not condition:
        raise ProtocolError(sender, problem)


def scattered(size: int, index: Sequence[int], values: Sequence[int], sender: int, what: str) -> IntArray:
    """Values at these positions, zero elsewhere; raises ProtocolError on a bad position or differing lengths."""
    result = np.zeros(size, dtype=np.int64)
    _overwrite(result, index, values, sender, what)
    return result


def overwritten(base: IntArray, index: Sequence[int], values: Sequence[int], sender: int, what: str) -> IntArray:
    """A copy with other values at these positions; raises ProtocolError as `scattered` does."""
    result = base.copy()
    _overwrite(result, index, values, sender, what)
    return result


def _overwrite(target: IntArray, index: Sequence[int], values: Sequence[int], sender: int, what: str) -> None:
    positions = integers(index)
    expect(len(positions) == len(values), sender, f"{what}: positions and values differ in number")
    ascending = bool((np.diff(positions) > 0).all())
    in_range = not positions.size or (positions[0] >= 0 and positions[-1] < len(target))
    expect(ascending and in_range, sender, f"{what}: positions must ascend below {len(target)}")
    target[positions] = integers(values)


def integers(values: Iterable[int], sender: int = -1) -> IntArray:
    """A repeated field as an array; raises ProtocolError naming the sender when a number needs more than 64 bits."""
    try:
        return np.array(list(values), dtype=np.int64)
    except OverflowError as error:
        raise ProtocolError(sender, "a number does not fit 64 bits signed") from error


def fine(value: float) -> int:
    """One number in 2**-10, half to even."""
    return round(value * (1 << FINE_BITS))


def to_fine(values: FloatArray) -> IntArray:
    """Numbers in 2**-10, half to even."""
    return np.rint(np.ldexp(values, FINE_BITS)).astype(np.int64)


def from_fine(values: IntArray) -> FloatArray:
    """The reverse of `to_fine`."""
    return np.ldexp(values.astype(np.float64), -FINE_BITS)


def runs(sorted_values: IntArray) -> list[int]:
    """Ascending distinct integers as first, count, first, count, ..."""
    if not sorted_values.size:
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(sorted_values) != 1) + 1])
    counts = np.diff(np.concatenate([starts, [len(sorted_values)]]))
    return [int(v) for pair in zip(sorted_values[starts], counts, strict=True) for v in pair]


def from_runs(values: Iterable[int], limit: int, total: int) -> IntArray:
    """The reverse of `runs`; raises ValueError when they do not ascend, reach `limit`, or hold not `total` numbers."""
    flat = list(values)
    if sum(flat[1::2]) != total or len(flat) % 2:
        raise ValueError(f"runs of {sum(flat[1::2])} numbers, {total} are needed")
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    position = 0
    for first, count in pairs:
        if first < position or count < 1 or first + count > limit:
            raise ValueError(f"a run of {count} from {first} is out of order or beyond {limit}")
        position = first + count
    return np.concatenate([np.arange(f, f + c) for f, c in pairs]) if pairs else np.zeros(0, dtype=np.int64)


def bitmap(flags: BoolArray) -> bytes:
    """One bit a flag, lowest bit first."""
    return np.packbits(flags, bitorder="little").tobytes()


def from_bitmap(data: bytes, size: int) -> BoolArray:
    """The reverse of `bitmap`; raises ValueError on a wrong length or on bits beyond `size`."""
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little").astype(np.bool_)
    if len(data) != -(-size // 8) or bits[size:].any():
        raise ValueError(f"a bitmap of {len(data)} bytes does not fit {size} flags")
    return bits[:size]
