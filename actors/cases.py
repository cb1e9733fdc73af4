"""Cases as the commands take them: which files, which regions, which intervals, and who offers what in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise

from coordinator.market.costs import offer_from_cost
from coordinator.market.offers import Offer
from topology.dc import watts
from topology.errors import GridError
from topology.grid import Case, Grid

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class MarketInterval:
    """One interval of a case: when, and the values of its series then, in MW.

    `time` is empty for a case without series. A bus or unit that is not in a mapping has no series.
    """

    time: str = ""
    start_s: int = 0
    duration_s: int = SECONDS_PER_HOUR
    demand_mw: Mapping[str, float] = field(default_factory=dict)
    available_mw: Mapping[str, float] = field(default_factory=dict)
    must_take_mw: Mapping[str, float] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        """Its length."""
        return self.duration_s / SECONDS_PER_HOUR

    @property
    def end_s(self) -> int:
        """When the next one may start."""
        return self.start_s + self.duration_s


def market_intervals(case: Case, source: str) -> tuple[MarketInterval, ...]:
    """The intervals of a case's series in order of time; a case without series is one interval without time.

    All last as long as the shortest step between two times, an hour if there is one time only. A series that
    lacks a time raises GridError naming `source`: a value that nobody gave is not made up.
    """
    if not case.series:
        return (MarketInterval(),)
    seconds = {row.time: int(datetime.fromisoformat(row.time).timestamp()) for row in case.series}
    values: dict[int, dict[tuple[str, str], float]] = {start: {} for start in sorted(seconds.values())}
    for row in case.series:
        values[seconds[row.time]][row.element, row.id] = row.value_mw
    time_of = {start: time for time, start in reversed(seconds.items())}
    names = dict.fromkeys((row.element, row.id) for row in case.series)
    for start, given in values.items():
        for element, name in names:
            if (element, name) not in given:
                problem = f"{element} of {name} has no value at {time_of[start]}"
                raise GridError(source, "series.csv", problem, "add the row: a series has a value at every time")
    duration_s = min((later - start for start, later in pairwise(values)), default=SECONDS_PER_HOUR)
    return tuple(
        MarketInterval(
            time_of[start],
            start,
            duration_s,
            demand_mw=_of_element("demand", given),
            available_mw=_of_element("available", given),
            must_take_mw=_of_element("must_take", given),
        )
        for start, given in values.items()
    )


def run_intervals(case: Case, source: str, hours: int | None) -> tuple[MarketInterval, ...]:
    """The intervals of a case with series, those that start in the first so many hours. Raises GridError."""
    if not case.series:
        remedy = "add series.csv with the values of each interval, or use 'clear' for one interval"
        raise GridError(source, "series.csv", "there are no series to run", remedy)
    intervals = market_intervals(case, source)
    end_s = intervals[0].start_s + hours * SECONDS_PER_HOUR if hours is not None else intervals[-1].end_s
    return tuple(interval for interval in intervals if interval.start_s < end_s)


def _of_element(element: str, given: Mapping[tuple[str, str], float]) -> dict[str, float]:
    return {name: value for (kind, name), value in given.items() if kind == element}


def interval_at(intervals: Sequence[MarketInterval], time: str | None, source: str) -> MarketInterval:
    """The interval that starts at an ISO 8601 time, the first one for None. Raises GridError naming `source`."""
    if time is None:
        return intervals[0]
    if not intervals[0].time:
        raise GridError(source, "", f"has no series to pick {time} from", "leave out --time")
    remedy = f"give one of its {len(intervals)} times, {intervals[0].time} to {intervals[-1].time}"
    try:
        instant = datetime.fromisoformat(time)
    except ValueError:
        raise GridError(source, "series.csv", f"time {time!r} is not ISO 8601", remedy) from None
    found = [interval for interval in intervals if datetime.fromisoformat(interval.time) == instant]
    if not found:
        raise GridError(source, "series.csv", f"no values at {time}", remedy)
    return found[0]


def interval_demand_w(grid: Grid, interval: MarketInterval) -> dict[str, int]:
    """Withdrawal per bus in W: the series where there is one, else the demand of the bus, and its shunt."""
    return {bus.id: watts(interval.demand_mw.get(bus.id, bus.demand_mw) + bus.shunt_mw) for bus in grid.buses}


def interval_offers(
    case: Case, interval: MarketInterval, *, segments: int, relax_minimum: bool, asset: str
) -> list[Offer]:
    """The offers of all units in service at their published costs.

    `available` caps what a unit can offer. What it `must_take` is injected whatever the price, so such a unit is
    committed: its costs hold as published from there. The others offer from their minimum, or from zero with
    `relax_minimum`. Raises OfferError naming the unit.
    """
    cost_of = {cost.resource: cost for cost in case.costs}
    offers = []
    for unit in case.grid.resources:
        if not unit.in_service:
            continue
        must_take_mw = interval.must_take_mw.get(unit.id)
        offer = offer_from_cost(
            unit if must_take_mw is None else replace(unit, min_mw=must_take_mw),
            cost_of.get(unit.id),
            segments=segments,
            relax_minimum=relax_minimum and must_take_mw is None,
            available_mw=interval.available_mw.get(unit.id),
        )
        offers.append(replace(offer, asset=asset))
    return offers
