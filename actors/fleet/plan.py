"""What a fleet is made of: resources with their curves, batteries, meters, and which devices misbehave when.

A plan says everything: two fleets of one plan have the same keys and make the same offers and readings. So do the
shards of a plan together, because whatever is drawn by lot is drawn from the seed and a device's or resource's name.
Power in W, injection positive; energy in Wh; prices in micro-units per MWh.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

from coordinator.ledger.codec import INT64_MAX
from coordinator.settlement.interval.schedules import Curve
from coordinator.settlement.interval.topics import Interval

PER_MILLE = 1000
MILLION = 1_000_000


class FleetError(ValueError):
    """A plan that no fleet can be made from, or a call out of order: names what is wrong and the remedy."""


class Lie(IntEnum):
    """Ordinary ways in which meters lie. All but SLOW are refused by the rules of readings."""

    REPEATED = 1
    """Register and clock of the interval before, once more."""
    SENTINEL = 2
    """What a broken register shows for "no value": 2**32 - 1 Wh."""
    BACKWARDS = 3
    """The register shrinks as energy flows."""
    FORGED = 4
    """Signed by a key that is not the device's."""
    SLOW = 5
    """The register grows by half: nothing in a single meter's readings shows it."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A share of households' meters, in millionths, that lie in intervals starting in [from_s, until_s).

    Each of them lies in one of these ways.
    """

    share_ppm: int
    lies: tuple[Lie, ...] = (Lie.REPEATED, Lie.SENTINEL, Lie.BACKWARDS, Lie.FORGED)
    from_s: int = 0
    until_s: int = INT64_MAX

    def __post_init__(self) -> None:
        _check_share(self.share_ppm)
        if not self.lies:
            raise FleetError("lying: name at least one way to lie")


@dataclass(frozen=True, slots=True)
class Late:
    """A share of households' meters, in millionths, that hold back their reading of an interval; drawn anew in each.

    It comes with the first reading that is not held back. Intervals are those that start in [from_s, until_s), but for
    the plan's last: what is late is not lost.
    """

    share_ppm: int
    from_s: int = 0
    until_s: int = INT64_MAX

    def __post_init__(self) -> None:
        _check_share(self.share_ppm)


@dataclass(frozen=True, slots=True)
class PlannedResource:
    """A unit or a load: one curve an interval, known ahead. Uninstructed, it injects or withdraws what is fixed.

    `injected` says whether it has a meter for injection, `withdrawn` how many it has for withdrawal: where there are
    several, they are households'.
    """

    name: str
    curves: tuple[Curve, ...]
    injected: bool
    withdrawn: int = 0

    @property
    def meters(self) -> int:
        """Of both directions."""
        return self.injected + self.withdrawn


@dataclass(frozen=True, slots=True)
class PlannedBattery:
    """A battery: power limits at its meter in W, capacity and first state of charge in Wh, efficiencies per mille.

    Charging x Wh stores `charge_per_mille` thousandths of it; x Wh stored give `discharge_per_mille` thousandths.
    """

    name: str
    charge_w: int
    discharge_w: int
    capacity_wh: int
    stored_wh: int
    charge_per_mille: int = 950
    discharge_per_mille: int = 950

    def __post_init__(self) -> None:
        if min(self.charge_w, self.discharge_w, self.capacity_wh) <= 0:
            raise FleetError(f"{self.name}: power limits and capacity must be positive")
        if not 0 <= self.stored_wh <= self.capacity_wh:
            raise FleetError(f"{self.name}: {self.stored_wh} Wh stored of {self.capacity_wh} Wh; correct the first")
        if not all(0 < share <= PER_MILLE for share in (self.charge_per_mille, self.discharge_per_mille)):
            raise FleetError(f"{self.name}: efficiencies are 1 to {PER_MILLE} per mille")

    @property
    def injected(self) -> bool:
        """It has a meter for injection,"""
        return True

    @property
    def withdrawn(self) -> int:
        """and one for withdrawal."""
        return 1

    @property
    def meters(self) -> int:
        """Of both directions."""
        return 2


Planned = PlannedResource | PlannedBattery


@dataclass(frozen=True)
class FleetPlan:
    """Resources of one region, all owned by one participant, for consecutive intervals.

    `forecast_micro_per_mwh` has the price that batteries expect in each interval.
    """

    region: str
    owner: str
    seed: int
    intervals: tuple[Interval, ...]
    resources: tuple[PlannedResource, ...]
    batteries: tuple[PlannedBattery, ...] = ()
    forecast_micro_per_mwh: tuple[int, ...] = ()
    lying: tuple[Lying, ...] = ()
    late: tuple[Late, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.intervals)
        if not count:
            raise FleetError(f"fleet of {self.region}: a plan has at least one interval")
        if any(
            later.start_s != earlier.end_s for earlier, later in zip(self.intervals, self.intervals[1:], strict=False)
        ):
            raise FleetError(f"fleet of {self.region}: intervals follow one another without gaps")
        if len({interval.duration_s for interval in self.intervals}) != 1:
            raise FleetError(f"fleet of {self.region}: intervals are of one length")
        for resource in self.resources:
            if len(resource.curves) != count:
                raise FleetError(f"{resource.name}: {len(resource.curves)} curves for {count} intervals")
        if self.batteries and len(self.forecast_micro_per_mwh) != count:
            raise FleetError(f"fleet of {self.region}: batteries need a forecast price for each of {count} intervals")
        if len({entry.name for entry in self.entries}) != len(self.entries):
            raise FleetError(f"fleet of {self.region}: a resource is given twice")

    @property
    def duration_s(self) -> int:
        """Length of an interval."""
        return self.intervals[0].duration_s

    @property
    def entries(self) -> tuple[Planned, ...]:
        """Resources and batteries in the order of their names' bytes, which is that of offers and schedules."""
        return tuple(sorted((*self.resources, *self.batteries), key=lambda entry: entry.name.encode()))

    @property
    def meters(self) -> int:
        """How many devices it has."""
        return sum(entry.meters for entry in self.entries)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all that the plan says."""
        return hashlib.sha256(repr(self).encode()).digest()

    def position(self, interval: Interval) -> int:
        """The place of an interval in the plan. Raises FleetError."""
        offset = interval.start_s - self.intervals[0].start_s
        place = offset // self.duration_s
        if not 0 <= place < len(self.intervals) or self.intervals[place] != interval:
            raise FleetError(f"fleet of {self.region}: {interval} is not in its plan")
        return place

    def draw(self, purpose: str, name: str, size: int) -> bytes:
        """Bytes drawn by lot: the same in whichever shard the name is."""
        head = f"gridaccord/fleet/{self.seed}/{self.region}/{purpose}/".encode()
        return hashlib.shake_256(head + name.encode()).digest(size)


def shards(plan: FleetPlan, count: int) -> tuple[FleetPlan, ...]:
    """The plan cut into at most so many, with about the same number of meters each. Raises FleetError.

    A resource is in one shard with all its meters, so there are no more shards than resources.
    """
    if count < 1:
        raise FleetError(f"fleet of {plan.region}: {count} shards; give 1 or more")
    entries = sorted(plan.entries, key=lambda entry: (-entry.meters, entry.name))
    members: list[set[str]] = [set() for _ in range(min(count, len(entries)))]
    meters = [0] * len(members)
    for entry in entries:
        lightest = meters.index(min(meters))
        members[lightest].add(entry.name)
        meters[lightest] += entry.meters
    return tuple(_part(plan, names) for names in members)


def _part(plan: FleetPlan, names: set[str]) -> FleetPlan:
    resources = tuple(entry for entry in plan.resources if entry.name in names)
    return replace(plan, resources=resources, batteries=tuple(entry for entry in plan.batteries if entry.name in names))


def _check_share(share_ppm: int) -> None:
    if not 0 <= share_ppm <= MILLION:
        raise FleetError(f"a share of {share_ppm} millionths; give 0 to {MILLION}")
