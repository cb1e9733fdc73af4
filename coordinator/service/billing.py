"""Which bill a region owes next: looked for again only when devices, readings, schedules or the gate have changed.

And what its meters show at its ends of tie-lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.ledger.records import DEVICE
from coordinator.ledger.state_tree import StateTree
from coordinator.ledger.store import Finalized
from coordinator.ledger.view import View
from coordinator.service.metering import Meters, devices, heard_wh, metered, meters
from coordinator.settlement.interval.region import BILLED_UNDER, RegionIntervals
from coordinator.settlement.interval.region_records import Position
from coordinator.settlement.interval.schedules import Metered
from coordinator.settlement.interval.topics import Interval

_BILLED_BACK = 4
"""Intervals whose bills are looked at again when readings come."""
RegistersWh = Callable[[Sequence[str], int], Mapping[str, int]]
"""What the registers of devices show at a time, of those that do."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What is to be stated of an interval: a version, and its rows."""

    interval: Interval
    version: int
    rows: tuple[Metered, ...]


class Billing:
    """Of one region on a node."""

    def __init__(self, registers_wh: RegistersWh) -> None:
        self._registers_wh = registers_wh
        self._gates: deque[Interval] = deque(maxlen=_BILLED_BACK)
        self._meters: Meters = {}
        self._ties: Meters = {}
        self._ties_grown_wh: dict[Interval, Mapping[str, int]] = {}
        self._grown_wh: dict[Interval, Mapping[str, int]] = {}
        self._seen: StateTree | None = None
        self._has_readings = False
        self._due: Bill | None = None

    def on_block(self, final: Finalized) -> None:
        """The region's next final block."""
        self._has_readings |= bool(final.batches)

    def due(self, view: View) -> Bill | None:
        """The oldest bill that is due by this final state and the readings at hand."""
        seen, self._seen = self._seen, view.tree
        is_same = [seen is not None and view.tree.shares(seen, prefix) for prefix in (DEVICE, *BILLED_UNDER)]
        if all(is_same) and not self._has_readings:
            return self._due
        if not is_same[0]:
            found, ties = meters(view), RegionIntervals.of(view).ties.owners()
            self._ties = {name: points for name, points in found.items() if name in ties}
            self._meters = {name: points for name, points in found.items() if name not in ties}
        if not is_same[0] or self._has_readings:
            self._grown_wh.clear()
            self._ties_grown_wh.clear()
        self._has_readings = False
        self._due = self._find(RegionIntervals.of(view))
        return self._due

    def _find(self, books: RegionIntervals) -> Bill | None:
        """Of the last intervals."""
        gate = books.gate
        if not self._gates:
            self._gates.extend(books.scheduled())
        if gate is not None and gate not in self._gates:
            self._gates.append(gate)
            for known in (self._grown_wh, self._ties_grown_wh):
                for old in known.keys() - set(self._gates):
                    del known[old]
        for interval in self._gates:
            bill = self._of(interval, books.positions(interval), is_past=gate is not None and interval < gate)
            if bill is not None:
                return bill
        return None

    def _of(self, interval: Interval, positions: Mapping[str, Position], *, is_past: bool) -> Bill | None:
        """All rows, once the meters are there or the next gate is closed; then what came late."""
        if not _is_open(positions, self._meters):
            return None
        rows = metered(self._grown(self._grown_wh, self._meters, interval), self._meters, interval, positions)
        first = [row for row in rows if positions[row.resource].version == 0]
        if first:
            is_silent = any(row.substituted and row.resource in self._meters for row in first)
            return None if is_silent and not is_past else Bill(interval, 1, tuple(first))
        late = [row for row in rows if _is_better(row, positions[row.resource])]
        if not late:
            return None
        version = min(positions[row.resource].version for row in late) + 1
        following = (row for row in late if positions[row.resource].version + 1 == version)
        return Bill(interval, version, tuple(following))

    @property
    def recent(self) -> tuple[Interval, ...]:
        """The last intervals, as `due` has seen them."""
        return tuple(self._gates)

    def tie_rows(self, interval: Interval, *, is_urgent: bool) -> tuple[Metered, ...] | None:
        """What meters at tie-lines show of one of the recent intervals: all, or where it is urgent those that do."""
        if not self._ties:
            return None
        grown_wh, rows = self._grown(self._ties_grown_wh, self._ties, interval), []
        for name, points in sorted(self._ties.items()):
            heard = heard_wh(grown_wh, points, interval)
            if len(heard) == len(points):
                rows.append(Metered(name, sum(heard)))
        is_urgent |= len(self._gates) == _BILLED_BACK and interval == self._gates[0]
        return tuple(rows) if len(rows) == len(self._ties) or (rows and is_urgent) else None

    def _grown(self, known: dict[Interval, Mapping[str, int]], meters: Meters, interval: Interval) -> Mapping[str, int]:
        if interval not in known:
            asked = devices(meters)
            before, after = (self._registers_wh(asked, at_s) for at_s in (interval.start_s, interval.end_s))
            known[interval] = {name: after[name] - before[name] for name in before.keys() & after.keys()}
        return known[interval]


def _is_open(positions: Mapping[str, Position], meters: Meters) -> bool:
    """Whether a bill of an interval is missing, or stands on a schedule where a meter could still speak."""
    return any(
        position.version == 0 or (position.substituted and name in meters) for name, position in positions.items()
    )


def _is_better(row: Metered, billed: Position) -> bool:
    """Whether meters that were silent when it was billed have spoken since."""
    return billed.substituted and not (row.substituted and row.energy_wh == billed.metered_wh)
