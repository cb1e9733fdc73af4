"""From a case and its series to the plans of its regions' fleets.

Units offer their published costs with the hour's availability, loads withdraw the series' demand, exactly as
`gridaccord couple` clears them. Flexible loads are steps of the load's own curve: what a household gives up is what the
same meters do not measure, so it settles with no resource of its own. Batteries expect the price at which the published
curves of the whole grid would meet its demand if no line limited them, with an error drawn by lot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.cases import MarketInterval, interval_demand_w, interval_offers
from actors.fleet.plan import PER_MILLE, FleetError, FleetPlan, Late, Lying, PlannedBattery, PlannedResource
from coordinator.market.costs import DEFAULT_SEGMENTS
from coordinator.market.offers import MICRO, Step
from coordinator.settlement.interval.schedules import Curve
from coordinator.settlement.interval.topics import Interval
from topology.grid import Case


@dataclass(frozen=True, slots=True)
class BatterySite:
    """A battery and the bus it stands at."""

    bus: str
    battery: PlannedBattery


@dataclass(frozen=True, slots=True)
class FleetParameters:
    """What a case does not say.

    `meters` is how many devices all regions have: those of units and batteries, and households behind loads, the same
    number behind each but for one. `flexible_per_mille` of a load's demand is given up at the prices
    `willingness_micro_per_mwh`, in ascending order, an equal part at each.
    `forecast_error_per_mille` is how far batteries' forecasts are off at most.
    """

    seed: int = 0
    meters: int = 3000
    flexible_per_mille: int = 50
    willingness_micro_per_mwh: tuple[int, ...] = (30 * MICRO, 60 * MICRO, 120 * MICRO)
    batteries: tuple[BatterySite, ...] = ()
    forecast_error_per_mille: int = 50
    lying: tuple[Lying, ...] = ()
    late: tuple[Late, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.flexible_per_mille <= PER_MILLE or not 0 <= self.forecast_error_per_mille <= PER_MILLE:
            raise FleetError(f"fleet: flexible share and forecast error are 0 to {PER_MILLE} per mille")
        if list(self.willingness_micro_per_mwh) != sorted(self.willingness_micro_per_mwh):
            raise FleetError("fleet: willingness to pay ascends: what is worth least is given up first")
        if self.flexible_per_mille and not self.willingness_micro_per_mwh:
            raise FleetError("fleet: flexible loads need a willingness to pay; give prices, or no flexible share")


def case_intervals(markets: Sequence[MarketInterval]) -> tuple[Interval, ...]:
    """As regions' chains know them."""
    return tuple(Interval(market.start_s, market.duration_s) for market in markets)


def plans_of_case(
    case: Case,
    markets: Sequence[MarketInterval],
    region_of_bus: Mapping[str, str],
    owner_of: Mapping[str, str],
    parameters: FleetParameters,
) -> dict[str, FleetPlan]:
    """The plan of each region for these intervals, by name. `owner_of` has who owns a region's resources.

    Resources have the names that `coordinator.service.interval_founding` gives them; a battery has its own. Raises
    OfferError and FleetError.
    """
    units, batteries = _units(case, markets), [site.battery for site in parameters.batteries]
    single = sum(unit.meters for unit, _ in units.values()) + sum(battery.meters for battery in batteries)
    found = {**units, **_loads(case, markets, parameters, parameters.meters - single)}
    forecast = _forecast(case, markets, parameters)
    plans = {}
    for region in dict.fromkeys(region_of_bus.values()):
        plans[region] = FleetPlan(
            region,
            owner_of[region],
            parameters.seed,
            case_intervals(markets),
            tuple(entry for entry, bus in found.values() if region_of_bus[bus] == region),
            tuple(site.battery for site in parameters.batteries if region_of_bus[site.bus] == region),
            forecast,
            parameters.lying,
            parameters.late,
        )
    return plans


def buses_of_resources(case: Case, parameters: FleetParameters) -> dict[str, str]:
    """The bus of each resource in the plans of a case, by name."""
    units = {f"unit-{unit.id}": unit.bus for unit in case.grid.resources if unit.in_service}
    loads = {f"load-{bus.id}": bus.id for bus in case.grid.buses if bus.demand_mw or bus.shunt_mw}
    return {**units, **loads, **{site.battery.name: site.bus for site in parameters.batteries}}


Placed = dict[str, tuple[PlannedResource, str]]
"""Resources with their buses, by name."""


def _units(case: Case, markets: Sequence[MarketInterval]) -> Placed:
    curves: dict[str, list[Curve]] = {}
    bus_of: dict[str, str] = {}
    for market in markets:
        for offer in interval_offers(case, market, segments=DEFAULT_SEGMENTS, relax_minimum=True, asset="EUR"):
            name = f"unit-{offer.id}"
            curves.setdefault(name, []).append(Curve(offer.fixed_w, offer.steps))
            bus_of[name] = offer.bus
    found = {}
    for name, offered in curves.items():
        withdraws = any(curve.lowest_w < 0 for curve in offered)
        found[name] = (PlannedResource(name, tuple(offered), True, int(withdraws)), bus_of[name])
    return found


def _loads(case: Case, markets: Sequence[MarketInterval], parameters: FleetParameters, households: int) -> Placed:
    demand = [interval_demand_w(case.grid, market) for market in markets]
    curves = {
        bus.id: tuple(_load_curve(given[bus.id], parameters) for given in demand)
        for bus in case.grid.buses
        if bus.demand_mw or bus.shunt_mw
    }
    injecting = [bus for bus, offered in curves.items() if any(curve.highest_w > 0 for curve in offered)]
    households -= len(injecting)
    if households < len(curves):
        least = parameters.meters - households + len(curves)
        raise FleetError(f"fleet: {parameters.meters} meters; units, batteries and loads need at least {least}")
    found = {}
    for number, (bus, offered) in enumerate(curves.items()):
        meters = households // len(curves) + (number < households % len(curves))
        found[f"load-{bus}"] = (PlannedResource(f"load-{bus}", offered, bus in injecting, meters), bus)
    return found


def _load_curve(demand_w: int, parameters: FleetParameters) -> Curve:
    """Demand, and what of it is given up at which price."""
    prices = parameters.willingness_micro_per_mwh
    flexible_w = max(demand_w, 0) * parameters.flexible_per_mille // PER_MILLE
    ends = [flexible_w * number // len(prices) for number in range(len(prices) + 1)] if prices else []
    steps = [Step(ends[n + 1] - ends[n], price) for n, price in enumerate(prices) if ends[n + 1] > ends[n]]
    return Curve(-demand_w, tuple(steps))


def _forecast(case: Case, markets: Sequence[MarketInterval], parameters: FleetParameters) -> tuple[int, ...]:
    return tuple(_forecast_price(case, market, parameters) for market in markets)


def _forecast_price(case: Case, market: MarketInterval, parameters: FleetParameters) -> int:
    """Where published supply meets demand, and an error that the seed and the interval's start determine."""
    offers = interval_offers(case, market, segments=DEFAULT_SEGMENTS, relax_minimum=True, asset="EUR")
    missing_w = sum(interval_demand_w(case.grid, market).values()) - sum(offer.fixed_w for offer in offers)
    price = 0
    for step in sorted((step for offer in offers for step in offer.steps), key=lambda step: step.price_micro_per_mwh):
        if missing_w <= 0:
            break
        missing_w, price = missing_w - step.width_w, step.price_micro_per_mwh
    lot = hashlib.sha256(f"gridaccord/forecast/{parameters.seed}/{market.start_s}".encode()).digest()
    error = int.from_bytes(lot[:8], "big") % (2 * parameters.forecast_error_per_mille + 1)
    return price * (PER_MILLE + error - parameters.forecast_error_per_mille) // PER_MILLE
