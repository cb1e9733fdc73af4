"""From the readings of a region's meters to the energy of its resources, and at its ends of tie-lines, in an interval.

A resource has any number of metering points. A point has a register of what is injected, one of what is withdrawn, or
both, each a device of its own that the resource's owner registered:

    <resource>.injected    <resource>.injected.<point>       the point is one label: no dot, and neither word
    <resource>.withdrawn   <resource>.withdrawn.<point>

so that a device's name says one thing only, whatever dots there are in the resource's. Registers only grow. A point's
energy is the difference of its registers at the interval's ends, injection less withdrawal; a resource's is the sum of
its points. A point that lacks a register at an end, or shows what no resource can do, is silent: an equal share of the
resource's schedule stands in for it (all of the schedule where all are silent, or there is none), and the row says so.
A tie-line has meters by the same names: what it injects into this region's grid, and what it withdraws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.ledger.records import DEVICE, Device
from coordinator.ledger.view import View
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.region_records import Position
from coordinator.settlement.interval.schedules import Metered, is_plausible, scheduled_wh
from coordinator.settlement.interval.topics import Interval

INJECTED, WITHDRAWN = ".injected", ".withdrawn"
_SIGNS = {INJECTED[1:]: 1, WITHDRAWN[1:]: -1}
_ONLY = ""


@dataclass(frozen=True, slots=True)
class Register:
    """A device that counts energy in one direction: sign 1 for injection, -1 for withdrawal."""

    device: str
    sign: int


Point = tuple[Register, ...]
Meters = Mapping[str, Sequence[Point]]
"""The metering points of each resource that has one."""


def register_place(device: str) -> tuple[str, str, int] | None:
    """Which resource's register a device is by its name, at which point and with which sign; None for other names."""
    head, _, last = device.rpartition(".")
    if last in _SIGNS:
        return head, _ONLY, _SIGNS[last]
    resource, _, direction = head.rpartition(".")
    return (resource, last, _SIGNS[direction]) if last and direction in _SIGNS else None


def meters(view: View) -> Meters:
    """All that count, of resources and tie-lines. Anyone may register a device under any name: only the owner of the
    resource, or who is to meter the tie-line, makes it a meter."""
    books = RegionIntervals.of(view)
    owners = {name: resource.owner for name, resource in books.resources().items()} | books.ties.owners()
    found: dict[str, dict[str, list[Register]]] = {}
    for key, value in view.items(DEVICE):
        device = key[len(DEVICE) :].decode()
        place = register_place(device)
        if place is None or place[0] not in owners or Device.decode(value).owner != owners[place[0]]:
            continue
        resource, point, sign = place
        found.setdefault(resource, {}).setdefault(point, []).append(Register(device, sign))
    return {resource: [tuple(registers) for registers in points.values()] for resource, points in found.items()}


def devices(meters: Meters) -> list[str]:
    """Every register."""
    return [register.device for points in meters.values() for point in points for register in point]


def metered(
    grown_wh: Mapping[str, int], meters: Meters, interval: Interval, positions: Mapping[str, Position]
) -> list[Metered]:
    """One row a resource, in the order of their names. `grown_wh`: what registers grew by, of devices that show it."""
    rows = []
    for name, position in positions.items():
        points = meters.get(name, ())
        heard = heard_wh(grown_wh, points, interval)
        silent = len(points) - len(heard)
        total = sum(heard) + (scheduled_wh(position.power_w, interval.duration_s, silent, len(points)) if silent else 0)
        if heard and is_plausible(total, interval.duration_s):
            rows.append(Metered(name, total, substituted=silent > 0))
        else:
            rows.append(Metered(name, scheduled_wh(position.power_w, interval.duration_s), substituted=True))
    return rows


def heard_wh(grown_wh: Mapping[str, int], points: Sequence[Point], interval: Interval) -> list[int]:
    """The energy of each point that is not silent."""
    found = (_energy_wh(grown_wh, point, interval) for point in points)
    return [energy for energy in found if energy is not None]


def _energy_wh(grown_wh: Mapping[str, int], point: Point, interval: Interval) -> int | None:
    if any(register.device not in grown_wh for register in point):
        return None
    energy = sum(grown_wh[register.device] * register.sign for register in point)
    return energy if is_plausible(energy, interval.duration_s) else None
