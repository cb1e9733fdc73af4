"""What regions have published: their steps and sums of an interval, and their factors, which stay for the topology."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from coordinator.market.coupling.wire import ProtocolError, expect, integers
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray

_UNKNOWN = -(1 << 62)
MAXIMUM_BUSES = 1 << 17
"""Pseudonyms at or above this are refused, so that a message cannot make the hub allocate without bound."""


@dataclass
class Published:
    """What one region has published for the interval: steps in the order of publication, and its latest sums."""

    bus: list[IntArray] = field(default_factory=list)
    price: list[IntArray] = field(default_factory=list)
    width: list[IntArray] = field(default_factory=list)
    component: list[IntArray] = field(default_factory=list)
    leaves: set[int] = field(default_factory=set)
    base_w: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    loading_fine: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unpublished_more_w: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unpublished_less_w: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def count(self) -> int:
        """Steps published so far."""
        return sum(len(part) for part in self.bus)


class FactorCache:
    """Factors that a region has published, by flowgate and bus pseudonym, in 2**-40."""

    def __init__(self) -> None:
        self._values = np.full((0, 0), _UNKNOWN, dtype=np.int64)

    def store(self, region: int, block: pb.FactorBlock, gate_count: int) -> None:
        gates, buses = integers(block.gate), integers(block.bus)
        known = not len(gates) or gates.max() < gate_count
        known = known and (not len(buses) or buses.max() < MAXIMUM_BUSES)
        expect(known, region, f"a factor block names a flowgate or a bus that cannot be (limit {MAXIMUM_BUSES} buses)")
        expect(len(block.factor) == len(gates) * len(buses), region, "a factor block has the wrong number of factors")
        rows, columns = self._values.shape
        if len(buses) and (gate_count > rows or buses.max() >= columns):
            grown = np.full((gate_count, max(columns, int(buses.max()) + 1)), _UNKNOWN, dtype=np.int64)
            grown[:rows, :columns] = self._values
            self._values = grown
        self._values[np.ix_(gates, buses)] = integers(block.factor).reshape(len(gates), len(buses))

    def get(self, region: int, gate_count: int, buses: IntArray) -> IntArray:
        if gate_count == 0 or not buses.size:
            return np.zeros((gate_count, len(buses)), dtype=np.int64)
        rows, columns = self._values.shape
        factors = self._values[:gate_count, buses] if buses.max() < columns and gate_count <= rows else None
        if factors is None or (factors == _UNKNOWN).any():
            raise ProtocolError(region, "a published step lacks a factor on an active flowgate; publish it")
        return factors
