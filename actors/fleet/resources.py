"""What the resources of a plan offer and do, interval after interval: curves known ahead, batteries by what they store.

In each interval: `curve` of any, then `operate`, which goes on to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from actors.fleet import storage
from actors.fleet.plan import FleetError, FleetPlan
from coordinator.settlement.interval.schedules import Curve, Offers
from coordinator.settlement.interval.topics import Interval
from topology.arrays import IntArray


class Resources:
    """Of one plan. `names` are in the order of offers and schedules; powers have one entry each, injection positive."""

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self.names = tuple(entry.name for entry in plan.entries)
        self._curves = {entry.name: entry.curves for entry in plan.resources}
        self._batteries = {entry.name: entry for entry in plan.batteries}
        forecast, length = plan.forecast_micro_per_mwh, plan.duration_s
        self._values = {name: storage.values_after(b, forecast, length) for name, b in self._batteries.items()}
        self._stored = {b.name: b.stored_wh * storage.UNITS_PER_WH for b in plan.batteries}
        self._operated = 0

    @property
    def coming(self) -> Interval | None:
        """The interval that is operated next, None when the plan is over."""
        return self._plan.intervals[self._operated] if self._operated < len(self._plan.intervals) else None

    @property
    def stored_wh(self) -> dict[str, float]:
        """State of charge by battery."""
        return {name: stored / storage.UNITS_PER_WH for name, stored in self._stored.items()}

    def offers(self, interval: Interval) -> Offers:
        """Curves of all resources for the coming interval. Raises FleetError for another one."""
        self.check_coming(interval)
        return Offers(interval, tuple((name, self.curve(name)) for name in self.names))

    def curve(self, name: str) -> Curve:
        """What a resource offers for the coming interval."""
        battery = self._batteries.get(name)
        if battery is None:
            return self._curves[name][self._operated]
        value = self._values[name][self._operated]
        return storage.offer(battery, value, self._stored[name], self._plan.duration_s)

    def idle_w(self) -> IntArray:
        """What each resource does on its own: units inject what is not up for sale, loads withdraw, batteries rest."""
        idle = [self._curves[name][self._operated].fixed_w if name in self._curves else 0 for name in self.names]
        return np.array(idle, dtype=np.int64)

    def operate(self, interval: Interval, power_w: IntArray) -> None:
        """The coming interval passes at these powers, within what was offered. Raises FleetError for another one."""
        self.check_coming(interval)
        told = dict(zip(self.names, power_w.tolist(), strict=True))
        for name, battery in self._batteries.items():
            moved = storage.after(battery, self._stored[name], told[name], interval.duration_s)
            assert 0 <= moved <= battery.capacity_wh * storage.UNITS_PER_WH, f"{name} did what it had not offered"
            self._stored[name] = moved
        self._operated += 1

    def check_coming(self, interval: Interval) -> None:
        """Raise FleetError for an interval that is not the coming one."""
        if interval != self.coming:
            raise FleetError(f"fleet of {self._plan.region}: {self.coming} comes next, not {interval}; go in order")

    def state(self) -> Mapping[str, IntArray]:
        """What `resume` takes."""
        stored = [self._stored[battery.name] for battery in self._plan.batteries]
        return {"operated": np.array([self._operated]), "stored": np.array(stored, dtype=np.int64)}

    def resume(self, operated: int, stored: Sequence[int]) -> None:
        """Go on from what `state` gave."""
        self._operated = operated
        self._stored = {battery.name: amount for battery, amount in zip(self._plan.batteries, stored, strict=True)}
