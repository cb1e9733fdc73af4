"""The actors as Ray hosts them: thin shells around a node, a gateway and a fleet.

Ray starts a killed one again, empty. A node goes on from its journal; a gateway and a fleet raise `Forgot` and are told
what they are. A fleet is called with the mark of the snapshot after which the caller believes it to be.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from actors.cluster.backend import Part
from actors.cluster.fleet_handle import encoded
from actors.cluster.node_thread import NodeThread
from actors.cluster.region_gateway import RegionGateway, RegionInterval
from actors.cluster.remote_fleet import RemoteFleet, mark_of
from actors.cluster.restarts import Forgot
from actors.fleet.fleet import Fleet
from actors.fleet.orders import DispatchOrder, Refusal
from actors.fleet.plan import FleetPlan
from coordinator.ledger.genesis import decode_genesis
from coordinator.settlement.interval.schedules import Offers
from coordinator.settlement.interval.topics import Interval

_FAILED, _ORPHANED = 70, 71
"""Exit codes of a process whose node has ended by itself (its log says why), and of one whose Ray node is gone."""
_LOOK_S = 1.0


class ValidatorHost:
    """Validator j of every region and seat j of the hub, in one process: what is lost with it, each chain tolerates."""

    def __init__(self, home: str, log: str) -> None:
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        self._node = NodeThread(Path(home), Path(log), lambda _: os._exit(_FAILED))

    def place(self) -> str:
        """The node of the Ray cluster that it is on, by its id, once it runs."""
        found: str = ray.get_runtime_context().get_node_id()
        return found

    def equivocate(self) -> None:
        """Break the protocol from now on."""
        self._node.equivocate()

    def stop(self) -> None:
        """End the node and close its ledgers."""
        self._node.stop()


def _end_with_parent(parent: int) -> None:
    """A validator whose Ray node was killed must not keep its ledgers: the run may be resumed elsewhere."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(_ORPHANED)


class DeviceFleet:
    """Thousands of devices in columns."""

    def __init__(self) -> None:
        self._fleet: Fleet | None = None
        self._mark = b""

    def begin(self, plan: FleetPlan, genesis: bytes, snapshot: bytes) -> None:
        """Be the devices of a plan, as they were at a snapshot; an empty one is the beginning."""
        trusted = decode_genesis(genesis)
        self._fleet = Fleet.restore(plan, trusted, snapshot) if snapshot else Fleet.make(plan, trusted)
        self._mark = mark_of(snapshot)

    def offers(self, mark: bytes, interval: Interval) -> Offers:
        """Curves of its resources. Raises Forgot."""
        return self._at(mark).offers(interval)

    def instruct(self, mark: bytes, order: DispatchOrder) -> tuple[Refusal, ...]:
        """What its devices do not obey, and why. Raises Forgot."""
        return tuple(self._at(mark).instruct(order))

    def operate(self, mark: bytes, interval: Interval) -> tuple[bytes, bytes]:
        """Go through an interval: its encoded readings, and a snapshot after it. Raises Forgot."""
        fleet = self._at(mark)
        batch, snapshot = encoded(fleet.operate(interval)), fleet.snapshot()
        self._mark = mark_of(snapshot)
        return batch, snapshot

    def _at(self, mark: bytes) -> Fleet:
        if self._fleet is None or mark != self._mark:
            raise Forgot("this fleet was started again")
        return self._fleet


class RegionActor:
    """The regional cluster: gateway of the region's devices to its chain."""

    def __init__(self) -> None:
        self._gateway: RegionGateway | None = None

    async def begin(self, part: Part, fleets: Sequence[Any]) -> None:
        """Be the gateway of a region, whose devices are in these fleets."""
        genesis = part.genesis
        planned = zip(fleets, part.fleets, part.snapshots, strict=True)
        handles = [RemoteFleet(actor, plan, genesis, snapshot) for actor, plan, snapshot in planned]
        self._gateway = RegionGateway(part.home, part.region, handles, dict(part.meter_keys))

    async def ready(self) -> tuple[str, ...]:
        """See `RegionGateway.ready`. Raises Forgot."""
        return await self._known().ready()

    async def open_ties(self, from_s: int, until_s: int | None, only: str | None) -> None:
        """See `RegionGateway.open_ties`. Raises Forgot."""
        await self._known().open_ties(from_s, until_s, only)

    async def run_interval(self, interval: Interval, from_height: int) -> RegionInterval:
        """See `RegionGateway.run_interval`. Raises Forgot."""
        return await self._known().run_interval(interval, from_height)

    async def billed(self, interval: Interval, from_height: int) -> None:
        """See `RegionGateway.billed`. Raises Forgot."""
        await self._known().billed(interval, from_height)

    async def close(self) -> None:
        """End its connections."""
        if self._gateway is not None:
            await self._gateway.close()

    def _known(self) -> RegionGateway:
        if self._gateway is None:
            raise Forgot("this gateway was started again")
        return self._gateway
