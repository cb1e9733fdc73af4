"""A fleet in another process, as its gateway sees it: what was lost with the process is said to it again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from ray.exceptions import RayActorError

from actors.fleet.orders import DispatchOrder, Refusal
from actors.fleet.plan import FleetPlan
from coordinator.settlement.interval.schedules import Offers
from coordinator.settlement.interval.topics import Interval

_PAUSE_S = 0.5
_T = TypeVar("_T")


class FleetForgot(RuntimeError):
    """The process of a fleet was started again and is as at the beginning."""


def mark_of(snapshot: bytes) -> bytes:
    """What stands for a snapshot; nothing for the beginning."""
    return hashlib.sha256(snapshot).digest() if snapshot else b""


class RemoteFleet:
    """See `FleetHandle`. `actor` is a `DeviceFleet`."""

    def __init__(self, actor: Any, plan: FleetPlan, snapshot: bytes) -> None:
        self._actor = actor
        self._plan = plan
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
        found: Offers = await self._again(lambda mark: self._actor.offers.remote(mark, interval))
        return found

    async def instruct(self, order: DispatchOrder) -> tuple[Refusal, ...]:
        """Give an order to the devices."""
        refused: tuple[Refusal, ...] = await self._again(lambda mark: self._actor.instruct.remote(mark, order))
        self._since.append(order)
        return refused

    async def operate(self, interval: Interval) -> bytes:
        """Go through an interval."""
        batch: bytes
        batch, self._snapshot = await self._again(lambda mark: self._actor.operate.remote(mark, interval))
        self._since = []
        return batch

    async def _again(self, call: Callable[[bytes], Any]) -> Any:
        while True:
            try:
                return await call(mark_of(self._snapshot))
            except FleetForgot:
                await self._restore()
            except RayActorError:
                await asyncio.sleep(_PAUSE_S)

    async def _restore(self) -> None:
        """Also at the beginning of a run that goes on from an earlier one."""
        try:
            await self._actor.restore.remote(self._snapshot)
            for order in self._since:
                await self._actor.instruct.remote(mark_of(self._snapshot), order)
        except RayActorError:
            await asyncio.sleep(_PAUSE_S)
