"""From the readings of a region's meters to the energy of its resources in an interval.

A resource has a meter `<resource>.injected`, one `<resource>.withdrawn`, or both; their registers only grow. Energy is
the difference of the registers at the interval's ends, injection less withdrawal. Where a register is missing, or there
is no meter, or energy comes out that no resource can have, the schedule stands in and the row says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordinator.ledger.readings import ReadingIndex
from coordinator.ledger.registry import device_of
from coordinator.ledger.view import View
from coordinator.settlement.interval.region import Position, RegionIntervals
from coordinator.settlement.interval.schedules import Metered, is_plausible, scheduled_wh
from coordinator.settlement.interval.topics import Interval

INJECTED, WITHDRAWN = ".injected", ".withdrawn"


def metered(
    readings: ReadingIndex, is_device: Callable[[str], bool], interval: Interval, positions: Mapping[str, Position]
) -> list[Metered]:
    """One row a resource, in the order of their names."""
    rows = []
    for name in positions:
        meters = [(name + suffix, sign) for suffix, sign in ((INJECTED, 1), (WITHDRAWN, -1))]
        signed = [(energy_wh(readings, meter, interval), sign) for meter, sign in meters if is_device(meter)]
        known = [energy * sign for energy, sign in signed if energy is not None]
        if signed and len(known) == len(signed) and is_plausible(sum(known), interval.duration_s):
            rows.append(Metered(name, sum(known)))
        else:
            rows.append(Metered(name, scheduled_wh(positions[name].power_w, interval.duration_s), substituted=True))
    return rows


def meters(view: View) -> Callable[[str], bool]:
    """Which devices count. Anyone may register a device under any name: only the resource's owner makes it a meter."""
    books = RegionIntervals.of(view)

    def is_meter(name: str) -> bool:
        resource, device = books.resource(name.rpartition(".")[0]), device_of(view, name)
        return resource is not None and device is not None and device.owner == resource.owner

    return is_meter


def has_meter(is_device: Callable[[str], bool], resource: str) -> bool:
    """Whether a resource has a meter at all."""
    return is_device(resource + INJECTED) or is_device(resource + WITHDRAWN)


def energy_wh(readings: ReadingIndex, meter: str, interval: Interval) -> int | None:
    """What a meter's register grew by in an interval; None where one of the two registers is missing."""
    before, inside = readings.before(meter, interval.start_s), readings.between(meter, interval.start_s, interval.end_s)
    if before is None or before.end_s != interval.start_s or not inside or inside[-1].end_s != interval.end_s:
        return None
    return inside[-1].register_wh - before.register_wh
