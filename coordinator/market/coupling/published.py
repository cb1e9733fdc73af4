"""What regions have published: their steps and sums of an interval, and their factors, which stay for the topology."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from coordinator.ledger.merkle import OpeningError, leaf_hash, revealed_salts, verify_opening
from coordinator.market.certificate import largest
from coordinator.market.coupling.wire import FINE_BITS, ProtocolError, expect, from_runs, integers
from coordinator.market.flowgate_program import ROOM_W
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray

_UNKNOWN = -(1 << 62)
POWER_LIMIT_W = 1 << 50
"""Sums at or above a million GW are refused, so that nothing can overflow."""
MAXIMUM_BUSES = 1 << 17
"""Pseudonyms at or above this are refused, so that a message cannot make the hub allocate without bound."""


@dataclass
class Published:
    """What one region has published for the interval: steps in the order of publication, and its latest sums.

    `root` and `size` are its commitment, against which every step opens.
    """

    region: int
    root: bytes
    size: int
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

    @property
    def buses(self) -> IntArray:
        """The pseudonym of each step's bus."""
        return _joined(self.bus)

    @property
    def prices(self) -> IntArray:
        """In micro-units per MWh."""
        return _joined(self.price)

    @property
    def widths(self) -> IntArray:
        """In W."""
        return _joined(self.width)

    @property
    def components(self) -> IntArray:
        """The component of each step's bus."""
        return _joined(self.component)

    def copy(self) -> Published:
        """Another that what is taken from now on does not reach."""
        return replace(
            self,
            bus=list(self.bus),
            price=list(self.price),
            width=list(self.width),
            component=list(self.component),
            leaves=set(self.leaves),
        )

    def take(self, message: pb.IntervalSubmission, gate_count: int, components: int) -> None:
        """Check a submission against the commitment and keep it. Raises ProtocolError naming what is wrong."""
        region, count = self.region, len(message.bus)
        same = len(message.price_micro_per_mwh) == len(message.width_w) == count
        named = len(message.component) == (count if components > 1 else 0)
        expect(same and named, region, "the lists of published steps differ in length")
        sums = (message.base_w, message.unpublished_more_w, message.unpublished_less_w)
        covered = len(message.gate_loading_fine) == gate_count and all(len(part) == components for part in sums)
        expect(covered, region, "the submission does not cover the active flowgates and components")
        expect(all(c < components for c in message.component), region, "a published step is in an unknown component")
        self._check_opening(message)
        self.bus.append(integers(message.bus))
        self.price.append(integers(message.price_micro_per_mwh))
        self.width.append(integers(message.width_w))
        self.component.append(integers(message.component) if message.component else np.zeros(count, dtype=np.int64))
        self.base_w = integers(message.base_w, region)
        self.loading_fine = integers(message.gate_loading_fine, region)
        expect(largest(self.base_w) < POWER_LIMIT_W, region, "its base is out of range")
        expect(largest(self.loading_fine) < POWER_LIMIT_W << FINE_BITS, region, "a loading is out of range")
        self.unpublished_more_w = np.minimum(integers(message.unpublished_more_w), ROOM_W)
        self.unpublished_less_w = np.minimum(integers(message.unpublished_less_w), ROOM_W)

    def _check_opening(self, message: pb.IntervalSubmission) -> None:
        columns = (message.bus, message.price_micro_per_mwh, message.width_w)
        contents = np.stack([integers(column, self.region) for column in columns], axis=1).astype(">i8").tobytes()
        try:
            leaves = from_runs(message.leaf, self.size, len(message.bus)).tolist()
            salts = revealed_salts(leaves, self.size, list(message.salt_seed))
            hashes = {leaf: leaf_hash(salts[leaf] + contents[24 * i : 24 * i + 24]) for i, leaf in enumerate(leaves)}
            verify_opening(self.root, self.size, hashes, list(message.proof))
        except (OpeningError, ValueError) as error:
            said = f"published steps do not open against the offers root: {error}"
            raise ProtocolError(self.region, said) from error
        again = self.leaves.intersection(leaves)
        expect(not again, self.region, f"publishes {len(again)} steps a second time")
        self.leaves.update(leaves)


def _joined(parts: list[IntArray]) -> IntArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


class FactorCache:
    """Factors that a region has published, by flowgate and bus pseudonym, in 2**-40."""

    def __init__(self) -> None:
        self._values = np.full((0, 0), _UNKNOWN, dtype=np.int64)

    def copy(self) -> FactorCache:
        """Another that what is stored from now on does not reach."""
        other = FactorCache()
        other._values = self._values.copy()
        return other

    def at(self, region: int, gate_count: int, bus: int) -> IntArray:
        """The factors of one bus on all flowgates."""
        return self.get(region, gate_count, np.array([bus], dtype=np.int64))[:, 0]

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
