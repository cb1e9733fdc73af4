"""Places the actors on a Ray cluster, of its own on this machine or one that runs, and starts again what is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.cluster.backend import Part, RegionHandle
from actors.cluster.connection import connect, take_back_signals
from actors.cluster.ray_actors import DeviceFleet, RegionActor, ValidatorHost
from actors.cluster.region_gateway import RegionInterval
from actors.cluster.restarts import persistently
from actors.scenario import Cluster
from coordinator.service.errors import ServiceError
from coordinator.settlement.interval.topics import Interval

_STARTS = 1_000
"""How often an actor is started again; one whose node cannot start ends by then with its reason in the log."""
_PLACE_S = 60.0
_A_LITTLE = 0.001


class RemoteRegion:
    """A region's gateway in another process. What is under way when that ends begins again."""

    def __init__(self, actor: Any, part: Part, fleets: Sequence[Any]) -> None:
        self._actor = actor
        self._part = part
        self._fleets = tuple(fleets)

    async def ready(self) -> tuple[str, ...]:
        """See `RegionGateway.ready`."""
        absent: tuple[str, ...] = await persistently(lambda: self._actor.ready.remote(), self._begin)
        return absent

    async def open_ties(self, from_s: int, until_s: int | None, only: str | None) -> None:
        """See `RegionGateway.open_ties`."""
        await persistently(lambda: self._actor.open_ties.remote(from_s, until_s, only), self._begin)

    async def run_interval(self, interval: Interval, from_height: int) -> RegionInterval:
        """See `RegionGateway.run_interval`."""
        found: RegionInterval = await persistently(
            lambda: self._actor.run_interval.remote(interval, from_height), self._begin
        )
        self._part = replace(self._part, snapshots=found.snapshots)
        return found

    async def billed(self, interval: Interval, from_height: int) -> None:
        """See `RegionGateway.billed`."""
        await persistently(lambda: self._actor.billed.remote(interval, from_height), self._begin)

    async def close(self) -> None:
        """End its connections."""
        await _quietly(self._actor.close.remote())

    async def _begin(self) -> None:
        await self._actor.begin.remote(self._part, self._fleets)


class RayBackend:
    """See `Backend`."""

    def __init__(self, cluster: Cluster, logs: Path) -> None:
        self._cluster = cluster
        self._logs = logs
        self._validators: dict[str, Any] = {}
        self._fleets: dict[str, list[Any]] = {}
        self._gateways: dict[str, Any] = {}
        self._regions: dict[str, RemoteRegion] = {}
        self._group: PlacementGroup | None = None

    async def start(self, homes: Mapping[str, Path], parts: Sequence[Part]) -> Mapping[str, RegionHandle]:
        """Validators first, so that gateways find them. Raises ServiceError where there is no place for them."""
        await asyncio.to_thread(connect, self._cluster.address)
        take_back_signals()
        self._check_hosts()
        placed = self._place(len(homes)) if self._cluster.spread else None
        host = ray.remote(ValidatorHost)
        for number, (name, home) in enumerate(homes.items()):
            where = {**_at(self._cluster.hosts.get(name)), **_in(placed, number)}
            options = {"num_cpus": 0, "max_restarts": _STARTS, "name": f"validators-{name}", **where}
            self._validators[name] = host.options(**options).remote(str(home), str(self._logs / f"{name}.log"))
        await asyncio.gather(*(actor.place.remote() for actor in self._validators.values()))
        for part in parts:
            self._regions[part.region] = self._region(part)
        return self._regions

    def _check_hosts(self) -> None:
        there = {node["NodeManagerAddress"] for node in _alive()}
        missing = sorted(set(self._cluster.hosts.values()) - there)
        if missing:
            known = ", ".join(sorted(there))
            raise ServiceError(f"cluster.hosts: no Ray node is at {', '.join(missing)}; there are {known}")

    def _place(self, count: int) -> PlacementGroup:
        group: PlacementGroup = placement_group([{"CPU": 0.01}] * count, strategy="STRICT_SPREAD")
        self._group = group
        if not group.wait(_PLACE_S):
            nodes = len(_alive())
            raise ServiceError(
                f"cluster: {count} processes with validators want a node each, {nodes} are there; add nodes, or leave"
                " out cluster.spread"
            )
        return group

    def _region(self, part: Part) -> RemoteRegion:
        fleet = ray.remote(DeviceFleet).options(num_cpus=0, max_restarts=_STARTS)
        self._fleets[part.region] = fleets = [fleet.remote() for _ in part.fleets]
        actor = ray.remote(RegionActor).options(num_cpus=0, max_restarts=_STARTS, name=f"region-{part.region}")
        self._gateways[part.region] = gateway = actor.remote()
        return RemoteRegion(gateway, part, fleets)

    def places(self) -> dict[str, str]:
        """The node of the Ray cluster that each organization's process is on, by its id."""
        return {name: ray.get(actor.place.remote()) for name, actor in self._validators.items()}

    async def kill_validators(self, organization: str) -> None:
        """End a process with validators at once; Ray starts it again."""
        ray.kill(self._validators[organization], no_restart=False)

    async def turn_byzantine(self, organization: str) -> None:
        """Its validators equivocate from now on; started again, they are honest."""
        await self._validators[organization].equivocate.remote()

    async def kill_fleet(self, region: str) -> None:
        """End the first process with a region's devices; Ray starts it again."""
        ray.kill(self._fleets[region][0], no_restart=False)

    async def stop(self) -> None:
        """Gateways, then nodes; a cluster that was started for this run ends."""
        if not ray.is_initialized():
            return
        for region in self._regions.values():
            await region.close()
        await asyncio.gather(*(_quietly(actor.stop.remote()) for actor in self._validators.values()))
        fleets = [fleet for of_region in self._fleets.values() for fleet in of_region]
        for actor in (*self._validators.values(), *self._gateways.values(), *fleets):
            ray.kill(actor)
        if self._group is not None:
            remove_placement_group(self._group)
        await asyncio.to_thread(ray.shutdown)


def _alive() -> list[dict[str, Any]]:
    """The nodes of the cluster, as Ray describes them."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


async def _quietly(call: Any) -> None:
    """What is dead already needs no end."""
    try:
        await call
    except RayActorError:
        return


def _in(group: PlacementGroup | None, number: int) -> dict[str, Any]:
    """Options of an actor in a bundle of its own."""
    if group is None:
        return {}
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)}


def _at(host: str | None) -> dict[str, Any]:
    """Options of an actor on the node with an address; Ray has a resource of that name there."""
    return {} if host is None else {"resources": {f"node:{host}": _A_LITTLE}}
