"""Small conversions between arrays and messages, and the error of a message that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from topology.arrays import BoolArray, FloatArray, IntArray

FINE_BITS = 10
"""Message fields ending in _fine are in 2**-10 of their unit."""


class ProtocolError(ValueError):
    """A message that breaks the protocol; names the region that sent it (-1: the hub) and what is wrong."""

    def __init__(self, region: int, problem: str) -> None:
        self.region = region
        super().__init__(f"{'hub' if region < 0 else f'region {region}'}: {problem}")


def integers(values: Iterable[int]) -> IntArray:
    """A repeated field as an array."""
    return np.array(list(values), dtype=np.int64)


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


def from_runs(values: Iterable[int], limit: int) -> IntArray:
    """The reverse of `runs`; raises ValueError when they do not ascend or reach `limit`."""
    flat = list(values)
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
