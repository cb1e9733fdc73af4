"""From a scenario to what is run: the case's intervals, the devices of each region, and the consortium's folders."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from actors.cases import MarketInterval
from actors.cluster.backend import Part
from actors.fleet.case_plan import case_intervals
from actors.fleet.devices import device_keys
from actors.fleet.plan import FleetPlan, shards
from actors.founding import found_consortium
from actors.ports import free_ports
from actors.runner.driver import Run
from actors.runner.market import ScenarioMarket, market_of
from actors.runner.run_folder import RunFolder
from actors.scenario import FaultKind, Scenario
from coordinator.service.errors import ConfigurationError
from topology.case_files import read_case

_REGIONS_TO_BEGIN = 2


def prepare(scenario: Scenario, folder: RunFolder, *, resume: bool) -> Run:
    """Make or check the run's folder. Raises ConfigurationError, GridError, OfferError, FleetError, FileExistsError."""
    market = market_of(scenario, read_case(scenario.case))
    _check_faults(scenario, market)
    _check_silence(scenario, len(market.regions), len(market.intervals))
    _check_past(scenario, market.intervals[-1])
    keys = {region: dict(device_keys(plan)) for region, plan in market.plans.items()}
    if resume:
        folder.check(scenario)
    else:
        ports = _ports(scenario)
        folder.begin(scenario)
        meters = {name: list(of.items()) for name, of in keys.items()}
        found_consortium(scenario, market.regions, market.intervals, meters, ports, folder.consortium)
    return Run(
        scenario,
        folder,
        case_intervals(market.intervals),
        tuple(interval.time for interval in market.intervals),
        tuple(_part(scenario, folder, market.owners[name], plan, keys[name]) for name, plan in market.plans.items()),
    )


def _part(scenario: Scenario, folder: RunFolder, owner: str, plan: FleetPlan, keys: Mapping[str, bytes]) -> Part:
    fleets = shards(plan, scenario.devices.fleets)
    return Part(plan.region, folder.home(owner), fleets, folder.snapshots(plan.region, len(fleets)), keys)


def _check_faults(scenario: Scenario, market: ScenarioMarket) -> None:
    regions = market.regions
    for fault in scenario.faults:
        if fault.region is not None and fault.region not in regions:
            raise ConfigurationError(f"fault {fault.kind}: region {fault.region} is not one of {', '.join(regions)}")
        if fault.validators is not None and fault.validators not in scenario.organizations:
            known = ", ".join(scenario.organizations)
            raise ConfigurationError(f"fault {fault.kind}: validators {fault.validators} are not one of {known}")
        if fault.line is not None and fault.line not in _tie_lines(market, fault.region):
            known = ", ".join(_tie_lines(market, fault.region))
            raise ConfigurationError(
                f"fault {fault.kind}: {fault.line} is no tie-line of region {fault.region}; it has {known}"
            )


def _tie_lines(market: ScenarioMarket, region: str | None) -> list[str]:
    """Branches in service with one end in a region."""
    of = market.region_of_bus
    branches = [branch for branch in market.case.grid.branches if branch.in_service]
    ends = [(branch.id, (of[branch.from_bus], of[branch.to_bus])) for branch in branches]
    return [name for name, (here, there) in ends if here != there and region in (here, there)]


def _check_silence(scenario: Scenario, regions: int, intervals: int) -> None:
    """An interval begins with two regions; the only one that speaks would wait for the silent ones, and they for it."""
    silences = [fault for fault in scenario.faults if fault.kind is FaultKind.SILENT]
    for number in range(intervals):
        silent = {fault.region for fault in silences if fault.lasts(number)}
        if silent and regions - len(silent) < _REGIONS_TO_BEGIN:
            problem = f"in interval {number} {regions - len(silent)} of {regions} regions speak, and two begin one"
            raise ConfigurationError(f"fault silent: {problem}; let fewer be silent at a time")


def _check_past(scenario: Scenario, last: MarketInterval) -> None:
    """Chains take no readings of an interval that is not over by their clocks."""
    if last.end_s > time.time():
        remedy = "give a case of the past, or fewer intervals"
        raise ConfigurationError(f"{scenario.case}: the interval at {last.time} is not over yet; {remedy}")


def _ports(scenario: Scenario) -> Sequence[int]:
    """One for each organization: those that the scenario says, or what is free here. Raises ConfigurationError."""
    count, first = len(scenario.organizations), scenario.cluster.port
    if first is not None:
        return range(first, first + count)
    try:
        return free_ports(count, scenario.cluster.host)
    except OSError as error:
        remedy = "give an address of this machine, or cluster.port, the first of free ports"
        raise ConfigurationError(f"cluster.host {scenario.cluster.host}: {error}; {remedy}") from None
