"""From a scenario to its market: the case cut into regions, its intervals, and the devices of each region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.cases import MarketInterval, run_intervals
from actors.fleet.case_plan import BatterySite, FleetParameters, plans_of_case
from actors.fleet.plan import MILLION, PER_MILLE, FleetPlan, Late, Lying, PlannedBattery
from actors.founding import BATTERY, owner_of
from actors.scenario import Battery, FaultKind, Scenario
from coordinator.service.errors import ConfigurationError
from topology.case_files import choose_regions
from topology.dc import build_dc_network
from topology.grid import Case

_WH_PER_MWH = _W_PER_MW = 1_000_000


@dataclass(frozen=True, slots=True)
class ScenarioMarket:
    """What a scenario says about its market. `plans` and `owners` are by region, in the regions' order."""

    case: Case
    region_of_bus: Mapping[str, str]
    intervals: tuple[MarketInterval, ...]
    owners: Mapping[str, str]
    parameters: FleetParameters
    plans: Mapping[str, FleetPlan]

    @property
    def regions(self) -> list[str]:
        """Their names."""
        return list(self.plans)


def market_of(scenario: Scenario, case: Case) -> ScenarioMarket:
    """`case` is the scenario's. Raises ConfigurationError, GridError, OfferError, FleetError."""
    network = build_dc_network(case.grid)
    region_of_bus = dict(zip(network.bus_ids, choose_regions(case.grid, network, scenario.regions), strict=True))
    for battery in scenario.batteries:
        if battery.bus not in region_of_bus:
            raise ConfigurationError(f"battery {battery.name}: bus {battery.bus} is not in the case")
    regions = list(dict.fromkeys(region_of_bus.values()))
    owners = {region: owner_of(scenario, regions, region) for region in regions}
    intervals = run_intervals(case, str(scenario.case), None)[: scenario.intervals]
    parameters = fleet_parameters(scenario, intervals)
    plans = plans_of_case(case, intervals, region_of_bus, owners, parameters)
    return ScenarioMarket(case, region_of_bus, intervals, owners, parameters, plans)


def fleet_parameters(scenario: Scenario, intervals: Sequence[MarketInterval]) -> FleetParameters:
    """What the scenario says about devices, in whole numbers."""
    lying, late = (_times(scenario, kind, intervals) for kind in (FaultKind.LYING_METERS, FaultKind.LATE_READINGS))
    return FleetParameters(
        seed=scenario.seed,
        meters=scenario.devices.meters,
        flexible_per_mille=round(scenario.devices.flexible_share * PER_MILLE),
        batteries=tuple(_battery(one) for one in scenario.batteries),
        lying=tuple(Lying(share, from_s=from_s, until_s=until_s) for share, from_s, until_s in lying),
        late=tuple(Late(share, from_s, until_s) for share, from_s, until_s in late),
    )


def _times(scenario: Scenario, kind: FaultKind, intervals: Sequence[MarketInterval]) -> list[tuple[int, int, int]]:
    """Share in millionths, and seconds from which on and until when, of faults of a kind."""
    starts = [*(interval.start_s for interval in intervals), intervals[-1].end_s]
    found = [fault for fault in scenario.faults if fault.kind is kind and fault.interval < len(intervals)]
    ends = [min(fault.interval + fault.intervals, len(intervals)) for fault in found]
    shares = [round((fault.share or 0) * MILLION) for fault in found]
    return [(share, starts[fault.interval], starts[end]) for fault, end, share in zip(found, ends, shares, strict=True)]


def _battery(given: Battery) -> BatterySite:
    power_w, one_way = round(given.power_mw * _W_PER_MW), round(given.efficiency**0.5 * PER_MILLE)
    capacity_wh = round(given.energy_mwh * _WH_PER_MWH)
    planned = PlannedBattery(
        BATTERY + given.name, power_w, power_w, capacity_wh, round(capacity_wh * given.initial), one_way, one_way
    )
    return BatterySite(given.bus, planned)
