"""From a scenario to a consortium: one hub, a chain a region, organizations with a seat on each of them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from actors.cases import MarketInterval
from actors.scenario import Scenario
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.market.offers import MICRO
from coordinator.service.consortium import (
    AccountSettings,
    AssetSettings,
    Consortium,
    ConsortiumChain,
    DeviceSettings,
    Organization,
    found,
)
from coordinator.service.interval_founding import ExtraResource, IntervalSettings
from coordinator.service.roles import ChainRole

HUB = "hub"
CREDIT = 10**15
"""How far an owner may go below zero, in micro-units: what a day's demand costs is on no account beforehand."""
_LIMIT = 10**15
_EPOCH_LENGTH = 1_000
_FOR_EVER_S = 10**9
"""Readings of a simulated day are as old as the day is."""
BATTERY = "battery-"


def owner_of(scenario: Scenario, regions: Sequence[str], region: str) -> str:
    """The organization that owns a region's resources, closes its gates and delivers its readings."""
    return scenario.organizations[list(regions).index(region) % len(scenario.organizations)]


def found_consortium(
    scenario: Scenario,
    regions: Sequence[str],
    intervals: Sequence[MarketInterval],
    meters: Mapping[str, Sequence[tuple[str, bytes]]],
    ports: Sequence[int],
    output: Path,
) -> None:
    """Write the folders of all organizations below `output`, which does not exist yet.

    `meters` are names and public keys by region. Raises ConfigurationError.
    """
    market = scenario.market
    owners = {region: owner_of(scenario, regions, region) for region in regions}
    assets = (AssetSettings(name=market.asset, issuer=scenario.organizations[0]),)
    hub = ConsortiumChain(
        name=HUB, role=ChainRole.HUB, epoch_length=_EPOCH_LENGTH, pace=scenario.hub_pace, assets=assets
    )
    chains = tuple(
        ConsortiumChain(
            name=region,
            role=ChainRole.REGION,
            epoch_length=_EPOCH_LENGTH,
            pace=scenario.pace,
            assets=assets,
            accounts=(AccountSettings(owner=owners[region], asset=market.asset, credit_limit=CREDIT),),
            limits={market.asset: _LIMIT},
            devices=tuple(
                DeviceSettings(name=name, owner=owners[region], account=owners[region], public_key=key.hex())
                for name, key in meters[region]
            ),
            parameters={"late_limit_s": str(_FOR_EVER_S)},
        )
        for region in regions
    )
    first = intervals[0]
    settings = IntervalSettings(
        grid=scenario.case,
        regions=scenario.regions,
        asset=market.asset,
        opens=datetime.datetime.fromtimestamp(first.start_s, datetime.UTC),
        duration_s=first.duration_s,
        stepper=owners,
        owners=owners,
        resources=tuple(ExtraResource(name=BATTERY + one.name, bus=one.bus) for one in scenario.batteries),
        collateral=market.collateral,
        step_blocks=market.step_blocks,
        absent_blocks=market.absent_blocks,
        round_limit=market.round_limit,
        fallback=market.fallback,
        imbalance_spread=round(market.imbalance_spread_per_mwh * MICRO) << PRICE_BITS,
    )
    consortium = Consortium(
        name="gridaccord",
        organizations=tuple(
            Organization(name=name, address=f"{scenario.cluster.host_of(name)}:{port}")
            for name, port in zip(scenario.organizations, ports, strict=True)
        ),
        chains=(hub, *chains),
        intervals=settings,
    )
    found(consortium, output, datetime.datetime.now(datetime.UTC))
