"""The actors as Ray hosts them: thin shells around a node, a gateway and a fleet.

A killed actor is started again by Ray with the arguments that it was made with. A node then goes on from its journal.
A gateway keeps nothing. A fleet begins as at the start: it tells whoever calls it with the mark of a later moment
that it has forgotten, and is given its last snapshot and the calls since then once more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.cluster.fleet_handle import FleetHandle, encoded
from actors.cluster.node_thread import NodeThread
from actors.cluster.region_gateway import RegionGateway, RegionInterval
from actors.cluster.remote_fleet import FleetForgot, RemoteFleet, mark_of
from actors.fleet.fleet import Fleet
from actors.fleet.orders import DispatchOrder, Refusal
from actors.fleet.plan import FleetPlan
from coordinator.ledger.genesis import decode_genesis
from coordinator.settlement.interval.schedules import Offers
from coordinator.settlement.interval.topics import Interval

_FAILED = 70
"""Exit code of a process whose node has ended by itself; what ended it is in its log."""


class ValidatorHost:
    """Validator j of every region and seat j of the hub, in one process: what is lost with it, each chain tolerates."""

    def __init__(self, home: str, log: str) -> None:
        self._node = NodeThread(Path(home), Path(log), lambda _: os._exit(_FAILED))

    def process(self) -> int:
        """Its id, once it runs."""
        return os.getpid()

    def stop(self) -> None:
        """End the node and close its ledgers."""
        self._node.stop()


class DeviceFleet:
    """Thousands of devices in columns. `mark` says after which snapshot the caller believes it to be."""

    def __init__(self, plan: FleetPlan, genesis: bytes) -> None:
        self._plan, self._genesis = plan, decode_genesis(genesis)
        self._fleet = Fleet.make(plan, self._genesis)
        self._mark = b""

    def offers(self, mark: bytes, interval: Interval) -> Offers:
        """Curves of its resources. Raises FleetForgot."""
        self._check(mark)
        return self._fleet.offers(interval)

    def instruct(self, mark: bytes, order: DispatchOrder) -> tuple[Refusal, ...]:
        """What its devices do not obey, and why. Raises FleetForgot."""
        self._check(mark)
        return tuple(self._fleet.instruct(order))

    def operate(self, mark: bytes, interval: Interval) -> tuple[bytes, bytes]:
        """Go through an interval: its encoded readings, and a snapshot after it. Raises FleetForgot."""
        self._check(mark)
        batch, snapshot = encoded(self._fleet.operate(interval)), self._fleet.snapshot()
        self._mark = mark_of(snapshot)
        return batch, snapshot

    def restore(self, snapshot: bytes) -> None:
        """Be as it was then; empty: as at the beginning."""
        plan, genesis = self._plan, self._genesis
        self._fleet = Fleet.restore(plan, genesis, snapshot) if snapshot else Fleet.make(plan, genesis)
        self._mark = mark_of(snapshot)

    def _check(self, mark: bytes) -> None:
        if mark != self._mark:
            raise FleetForgot(f"fleet of {self._plan.region}: it was started again; restore it")


class RegionActor:
    """The regional cluster: gateway of the region's devices to its chain."""

    def __init__(
        self,
        home: str,
        region: str,
        fleets: Sequence[tuple[Any, FleetPlan, bytes]],
        meter_keys: Mapping[str, bytes],
    ) -> None:
        handles: list[FleetHandle] = [RemoteFleet(actor, plan, snapshot) for actor, plan, snapshot in fleets]
        self._gateway = RegionGateway(Path(home), region, handles, dict(meter_keys))

    async def ready(self) -> None:
        """Until its chain finalizes blocks."""
        await self._gateway.ready()

    async def run_interval(self, interval: Interval, from_height: int) -> RegionInterval:
        """See `RegionGateway.run_interval`."""
        return await self._gateway.run_interval(interval, from_height)

    async def billed(self, interval: Interval, from_height: int) -> None:
        """See `RegionGateway.billed`."""
        await self._gateway.billed(interval, from_height)

    async def close(self) -> None:
        """End its connections."""
        await self._gateway.close()
