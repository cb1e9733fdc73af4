"""What a gateway asks of a fleet of devices, wherever that is."""

from __future__ import annotations

import asyncio
from typing import Protocol

from actors.fleet.fleet import Fleet
from actors.fleet.orders import DispatchOrder, Refusal
from actors.fleet.plan import FleetPlan
from coordinator.ledger.readings import MeterBatch
from coordinator.settlement.interval.schedules import Offers
from coordinator.settlement.interval.topics import Interval


class FleetHandle(Protocol):
    """A shard of a region's devices."""

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of those that it has all meters of."""

    @property
    def snapshot(self) -> bytes:
        """After the last interval that it went through; what a later run goes on from."""

    async def offers(self, interval: Interval) -> Offers:
        """Curves of its resources."""

    async def instruct(self, order: DispatchOrder) -> tuple[Refusal, ...]:
        """Give an order to the devices; what they do not obey, and why."""

    async def operate(self, interval: Interval) -> bytes:
        """Go through an interval: an encoded `MeterBatch`, empty where no meter has anything to say."""


class LocalFleet:
    """In this process."""

    def __init__(self, fleet: Fleet, plan: FleetPlan) -> None:
        self._fleet = fleet
        self._plan = plan

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of those that it has all meters of."""
        return tuple(entry.name for entry in self._plan.entries)

    @property
    def snapshot(self) -> bytes:
        """After the last interval that it went through."""
        return self._fleet.snapshot()

    async def offers(self, interval: Interval) -> Offers:
        """Curves of its resources."""
        return await asyncio.to_thread(self._fleet.offers, interval)

    async def instruct(self, order: DispatchOrder) -> tuple[Refusal, ...]:
        """Give an order to the devices."""
        return tuple(await asyncio.to_thread(self._fleet.instruct, order))

    async def operate(self, interval: Interval) -> bytes:
        """Go through an interval."""
        return encoded(await asyncio.to_thread(self._fleet.operate, interval))


def encoded(batch: MeterBatch | None) -> bytes:
    """Readings as they travel; nothing where there are none."""
    return b"" if batch is None else batch.encode()
