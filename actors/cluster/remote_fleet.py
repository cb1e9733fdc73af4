"""A fleet in another process, as its gateway sees it: what was lost with the process is said to it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from actors.cluster.restarts import persistently
from actors.fleet.orders import DispatchOrder, Refusal
from actors.fleet.plan import FleetPlan
from coordinator.settlement.interval.schedules import Offers
from coordinator.settlement.interval.topics import Interval


def mark_of(snapshot: bytes) -> bytes:
    """What stands for a snapshot; an empty one is the beginning."""
    return hashlib.sha256(snapshot).digest()


class RemoteFleet:
    """See `FleetHandle`. `actor` is a `DeviceFleet`."""

    def __init__(self, actor: Any, plan: FleetPlan, genesis: bytes, snapshot: bytes) -> None:
        self._actor = actor
        self._plan = plan
        self._genesis = genesis
        self._snapshot = snapshot
        self._since: list[DispatchOrder] = []

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of those that it has all meters of."""
        return tuple(entry.name for entry in self._plan.entries)

    @property
    def snapshot(self) -> bytes:
        """After the last interval that it went through."""
        return self._snapshot

    async def offers(self, interval: Interval) -> Offers:
        """Curves of its resources."""
        found: Offers = await self._call(lambda mark: self._actor.offers.remote(mark, interval))
        return found

    async def instruct(self, order: DispatchOrder) -> tuple[Refusal, ...]:
        """Give an order to the devices."""
        refused: tuple[Refusal, ...] = await self._call(lambda mark: self._actor.instruct.remote(mark, order))
        self._since.append(order)
        return refused

    async def operate(self, interval: Interval) -> bytes:
        """Go through an interval."""
        batch: bytes
        batch, self._snapshot = await self._call(lambda mark: self._actor.operate.remote(mark, interval))
        self._since = []
        return batch

    async def _call(self, call: Callable[[bytes], Any]) -> Any:
        return await persistently(lambda: call(mark_of(self._snapshot)), self._begin)

    async def _begin(self) -> None:
        """As it was after the last interval, with the orders since then."""
        await self._actor.begin.remote(self._plan, self._genesis, self._snapshot)
        for order in self._since:
            await self._actor.instruct.remote(mark_of(self._snapshot), order)
