"""All parts of a run in one process: nodes in threads, gateways on the runner's event loop, fleets beside them.

For small runs and to compare: nothing here can be killed alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from actors.cluster.backend import Part, RegionHandle
from actors.cluster.fleet_handle import LocalFleet
from actors.cluster.node_thread import NodeThread
from actors.cluster.region_gateway import RegionGateway
from actors.fleet.fleet import Fleet
from coordinator.ledger.genesis import decode_genesis
from coordinator.service.errors import ConfigurationError

_NEEDS_RAY = "needs processes of its own; run the scenario on Ray"


class LocalBackend:
    """See `Backend`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._nodes: dict[str, NodeThread] = {}
        self._gateways: list[RegionGateway] = []
        self._failures: list[BaseException] = []

    async def start(self, homes: Mapping[str, Path], parts: Sequence[Part]) -> Mapping[str, RegionHandle]:
        """Nodes first, so that gateways find them."""
        for name, home in homes.items():
            self._nodes[name] = NodeThread(home, self._logs / f"{name}.log", self._failures.append)
        found: dict[str, RegionHandle] = {}
        for part in parts:
            gateway = RegionGateway(part.home, part.region, _fleets(part), dict(part.meter_keys))
            self._gateways.append(gateway)
            found[part.region] = gateway
        return found

    async def kill_validators(self, organization: str) -> None:
        """Raises ConfigurationError."""
        raise ConfigurationError(f"kill_validators {organization}: {_NEEDS_RAY}")

    async def turn_byzantine(self, organization: str) -> None:
        """Its validators equivocate from now on."""
        self._nodes[organization].equivocate()

    async def kill_fleet(self, region: str) -> None:
        """Raises ConfigurationError."""
        raise ConfigurationError(f"kill_fleet {region}: {_NEEDS_RAY}")

    async def stop(self) -> None:
        """Gateways, then nodes. Raises what ended a node before."""
        for gateway in self._gateways:
            await gateway.close()
        await asyncio.gather(*(asyncio.to_thread(node.stop) for node in self._nodes.values()))
        if self._failures:
            raise self._failures[0]


def _fleets(part: Part) -> list[LocalFleet]:
    genesis = decode_genesis(part.genesis)
    pairs = zip(part.fleets, part.snapshots, strict=True)
    made = [(Fleet.restore(plan, genesis, data) if data else Fleet.make(plan, genesis), plan) for plan, data in pairs]
    return [LocalFleet(fleet, plan) for fleet, plan in made]
