"""The columns of a fleet: each device's name and key, and which part of which resource it measures.

A resource's injection and withdrawal are measured by one meter each, or a withdrawal by many: households behind a bus.
Each of them has a share by lot, in whole quanta of power that make whole watt-hours in an interval; what is left
of the resource's power is the first one's, which carries the remainder. So energies add up to the watt-hour, and a
device's energy follows from its power exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from actors.fleet.plan import FleetPlan
from coordinator.consensus.signing import Ed25519Signer
from coordinator.service.metering import INJECTED, WITHDRAWN
from coordinator.settlement.escrow.netting import WATT_SECONDS_PER_WH
from topology.arrays import IntArray

_WEIGHT_LEAST, _WEIGHT_RANGE = 500, 1001
_OPENING_RANGE_WH = 10**8
_CLOCK_RANGE_MS = 1000


@dataclass(frozen=True)
class Devices:
    """One entry a device, in the order of resources' names. `low`, `high` of `total` is its share of its group.

    A group is a resource's meters of one direction, `meters_of_group` their names; `group_resource` has the place of
    its resource by name, `group_sign` is 1 for injection and -1 for withdrawal, `first` has each group's first device.
    """

    names: tuple[str, ...]
    meters_of_group: tuple[Sequence[str], ...]
    group: IntArray
    low: IntArray
    high: IntArray
    total: IntArray
    group_resource: IntArray
    group_sign: IntArray
    first: IntArray
    opening_wh: IntArray
    clock_offset_ms: IntArray

    @property
    def count(self) -> int:
        """How many."""
        return len(self.names)

    def power_w(self, resource_w: IntArray, duration_s: int) -> IntArray:
        """What each device measures when resources inject these powers; never negative."""
        of_group = np.maximum(resource_w[self.group_resource] * self.group_sign, 0)
        quantum = WATT_SECONDS_PER_WH // gcd(WATT_SECONDS_PER_WH, duration_s)
        whole, left = np.divmod((of_group // quantum)[self.group], self.total)
        quanta = whole * (self.high - self.low) + left * self.high // self.total - left * self.low // self.total
        power: IntArray = quanta * quantum
        power[self.first] += of_group % quantum
        return power


def devices_of(plan: FleetPlan) -> Devices:
    """All that the plan says of them, in columns."""
    groups = list(_groups(plan))
    names = [name for _, _, meters in groups for name in meters]
    sizes = np.array([len(meters) for _, _, meters in groups], dtype=np.int64)
    bounds = [np.cumsum([0, *_weights(plan, meters)]) for _, _, meters in groups]
    nothing = np.zeros(0, dtype=np.int64)
    draws = np.array([_draw(plan, name) for name in names], dtype=np.int64).reshape(-1, 2)
    return Devices(
        names=tuple(names),
        meters_of_group=tuple(meters for _, _, meters in groups),
        group=np.repeat(np.arange(len(groups)), sizes),
        low=np.concatenate([nothing, *(bound[:-1] for bound in bounds)]),
        high=np.concatenate([nothing, *(bound[1:] for bound in bounds)]),
        total=np.repeat(np.array([bound[-1] for bound in bounds], dtype=np.int64), sizes),
        group_resource=np.array([place for place, _, _ in groups], dtype=np.int64),
        group_sign=np.array([sign for _, sign, _ in groups], dtype=np.int64),
        first=np.cumsum(sizes) - sizes,
        opening_wh=draws[:, 0],
        clock_offset_ms=draws[:, 1],
    )


def device_keys(plan: FleetPlan) -> list[tuple[str, bytes]]:
    """Each device's name and public key: what a genesis document or a registration says of it."""
    return [(name, signer_of(plan, name).public_key) for _, _, meters in _groups(plan) for name in meters]


def signer_of(plan: FleetPlan, device: str) -> Ed25519Signer:
    """The device's key, derived from the plan's seed: whoever has the plan can sign as its devices."""
    return Ed25519Signer(plan.draw("key", device, 32))


def _groups(plan: FleetPlan) -> Iterator[tuple[int, int, list[str]]]:
    """Place of the resource, sign, and names of the meters."""
    for place, entry in enumerate(plan.entries):
        if entry.injected:
            yield place, 1, [entry.name + INJECTED]
        if entry.withdrawn == 1:
            yield place, -1, [entry.name + WITHDRAWN]
        elif entry.withdrawn > 1:
            yield place, -1, [f"{entry.name}{WITHDRAWN}.{number:05}" for number in range(entry.withdrawn)]


def _weights(plan: FleetPlan, meters: Sequence[str]) -> IntArray:
    """Shares by lot: the largest household uses three times what the smallest does."""
    drawn = np.frombuffer(plan.draw("share", meters[0], 2 * len(meters)), dtype=">u2").astype(np.int64)
    return _WEIGHT_LEAST + drawn % _WEIGHT_RANGE


def _draw(plan: FleetPlan, name: str) -> tuple[int, int]:
    """What the register shows at the beginning, and by how much the clock is off."""
    drawn = plan.draw("opening", name, 16)
    register, clock = int.from_bytes(drawn[:8], "big"), int.from_bytes(drawn[8:], "big")
    return register % _OPENING_RANGE_WH, clock % (2 * _CLOCK_RANGE_MS) - _CLOCK_RANGE_MS
