"""Where the parts of a run are: what the runner asks, the same of Ray actors and of one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from actors.cluster.region_gateway import RegionInterval
from actors.fleet.plan import FleetPlan
from coordinator.service.home import Home
from coordinator.settlement.interval.topics import Interval


@dataclass(frozen=True, slots=True)
class Part:
    """A region's gateway and fleets: its organization's folder, and for each fleet its plan and where it goes on."""

    region: str
    home: Path
    fleets: tuple[FleetPlan, ...]
    snapshots: tuple[bytes, ...]
    meter_keys: Mapping[str, bytes]

    @property
    def genesis(self) -> bytes:
        """Of the region's chain, the exact bytes. Raises ConfigurationError."""
        return Home(self.home).genesis(self.region).encoded


class RegionHandle(Protocol):
    """A region's gateway."""

    async def ready(self) -> tuple[str, ...]:
        """See `RegionGateway.ready`."""

    async def open_ties(self, from_s: int, until_s: int | None, only: str | None) -> None:
        """See `RegionGateway.open_ties`."""

    async def run_interval(self, interval: Interval, from_height: int) -> RegionInterval:
        """See `RegionGateway.run_interval`."""

    async def billed(self, interval: Interval, from_height: int) -> None:
        """See `RegionGateway.billed`."""


class Backend(Protocol):
    """Starts and ends everything. Homes are folders of validators, by organization."""

    async def start(self, homes: Mapping[str, Path], parts: Sequence[Part]) -> Mapping[str, RegionHandle]:
        """Everything that runs; the gateways by region."""

    async def kill_validators(self, organization: str) -> None:
        """End a process with validators at once, without a word; it is started again."""

    async def turn_byzantine(self, organization: str) -> None:
        """Its validators equivocate from now on, on every chain."""

    async def kill_fleet(self, region: str) -> None:
        """End the first process with a region's devices; it is started again."""

    async def stop(self) -> None:
        """End everything; ledgers are closed."""
