"""From a scenario to what is run: the case's intervals, the devices of each region, and the consortium's folders."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from actors.cases import MarketInterval, run_intervals
from actors.cluster.backend import Part
from actors.fleet.case_plan import BatterySite, FleetParameters, plans_of_case
from actors.fleet.devices import devices_of
from actors.fleet.plan import MILLION, PER_MILLE, FleetPlan, Late, Lying, PlannedBattery, shards
from actors.fleet.readings import Meters
from actors.founding import BATTERY, found_consortium, owner_of
from actors.runner.driver import Run
from actors.runner.run_folder import RunFolder
from actors.scenario import Battery, FaultKind, Scenario
from coordinator.service.errors import ConfigurationError
from coordinator.settlement.interval.topics import Interval
from topology.case_files import choose_regions, read_case
from topology.dc import build_dc_network

_WH_PER_MWH = _W_PER_MW = 1_000_000


def prepare(scenario: Scenario, folder: RunFolder, *, resume: bool) -> Run:
    """Make or check the run's folder. Raises ConfigurationError, GridError, OfferError, FleetError, FileExistsError."""
    case = read_case(scenario.case)
    network = build_dc_network(case.grid)
    region_of_bus = dict(zip(network.bus_ids, choose_regions(case.grid, network, scenario.regions), strict=True))
    regions = list(dict.fromkeys(region_of_bus.values()))
    _check(scenario, regions, region_of_bus)
    markets = run_intervals(case, str(scenario.case), None)[: scenario.intervals]
    owners = {region: owner_of(scenario, regions, region) for region in regions}
    hours = (markets[-1].end_s - markets[0].start_s) // 3600
    plans = plans_of_case(case, str(scenario.case), region_of_bus, owners, _parameters(scenario, markets), hours)
    keys = {region: meter_keys(plan) for region, plan in plans.items()}
    if resume:
        folder.check(scenario)
    else:
        folder.begin(scenario)
        ports = _free_ports(len(scenario.organizations), scenario.cluster.host)
        found_consortium(
            scenario, regions, markets, {name: list(of.items()) for name, of in keys.items()}, ports, folder.consortium
        )
    return Run(
        scenario,
        folder,
        tuple(Interval(market.start_s, market.duration_s) for market in markets),
        tuple(market.time for market in markets),
        tuple(_part(scenario, folder, owners[name], plans[name], keys[name]) for name in regions),
    )


def meter_keys(plan: FleetPlan) -> dict[str, bytes]:
    """Public keys of a plan's devices, by name."""
    devices = devices_of(plan)
    signers = Meters(plan, devices).signers
    return {name: signer.public_key for name, signer in zip(devices.names, signers, strict=True)}


def _part(scenario: Scenario, folder: RunFolder, owner: str, plan: FleetPlan, keys: Mapping[str, bytes]) -> Part:
    fleets = shards(plan, scenario.devices.fleets)
    return Part(plan.region, folder.home(owner), fleets, folder.snapshots(plan.region, len(fleets)), keys)


def _check(scenario: Scenario, regions: list[str], region_of_bus: Mapping[str, str]) -> None:
    for battery in scenario.batteries:
        if battery.bus not in region_of_bus:
            raise ConfigurationError(f"battery {battery.name}: bus {battery.bus} is not in the case")
    for fault in scenario.faults:
        if fault.region is not None and fault.region not in regions:
            raise ConfigurationError(f"fault {fault.kind}: region {fault.region} is not one of {', '.join(regions)}")
        if fault.validators is not None and fault.validators not in scenario.organizations:
            known = ", ".join(scenario.organizations)
            raise ConfigurationError(f"fault {fault.kind}: validators {fault.validators} are not one of {known}")


def _parameters(scenario: Scenario, markets: Sequence[MarketInterval]) -> FleetParameters:
    lying, late = (_times(scenario, kind, markets) for kind in (FaultKind.LYING_METERS, FaultKind.LATE_READINGS))
    return FleetParameters(
        seed=scenario.seed,
        meters=scenario.devices.meters,
        flexible_per_mille=round(scenario.devices.flexible_share * PER_MILLE),
        batteries=tuple(_battery(one) for one in scenario.batteries),
        lying=tuple(Lying(share, from_s=from_s, until_s=until_s) for share, from_s, until_s in lying),
        late=tuple(Late(share, from_s, until_s) for share, from_s, until_s in late),
    )


def _times(scenario: Scenario, kind: FaultKind, markets: Sequence[MarketInterval]) -> list[tuple[int, int, int]]:
    """Share in millionths, and seconds from which on and until when, of faults of a kind."""
    starts = [*(market.start_s for market in markets), markets[-1].end_s]
    found = [fault for fault in scenario.faults if fault.kind is kind and fault.interval < len(markets)]
    ends = [min(fault.interval + fault.intervals, len(markets)) for fault in found]
    shares = [round((fault.share or 0) * MILLION) for fault in found]
    return [(share, starts[fault.interval], starts[end]) for fault, end, share in zip(found, ends, shares, strict=True)]


def _battery(given: Battery) -> BatterySite:
    power_w, one_way = round(given.power_mw * _W_PER_MW), round(given.efficiency**0.5 * PER_MILLE)
    capacity_wh = round(given.energy_mwh * _WH_PER_MWH)
    planned = PlannedBattery(
        BATTERY + given.name, power_w, power_w, capacity_wh, round(capacity_wh * given.initial), one_way, one_way
    )
    return BatterySite(given.bus, planned)


def _free_ports(number: int, host: str) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]
