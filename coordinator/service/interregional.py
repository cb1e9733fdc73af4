"""What a node does between its chains: registers regions on the hub, and relays between the hub and each region."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from coordinator.consensus.signing import Signer
from coordinator.service.evidence import Evidence
from coordinator.service.home import Home
from coordinator.service.host import ChainHost
from coordinator.service.log import Log
from coordinator.service.own_transactions import OwnTransactions
from coordinator.service.registering import regions_of, register
from coordinator.service.relay import Relay, Side
from coordinator.settlement.escrow.registration import is_hub, region_section


class Interregional:
    """Of one node. Without a hub it has nothing to do."""

    def __init__(self, home: Home, hosts: Mapping[bytes, ChainHost], signer: Signer, log: Log) -> None:
        """Raises ConfigurationError."""
        self._hosts = hosts
        self._signer = signer
        self._log = log
        self._name = f"{home.settings.organization}-validator"
        self.evidence = {chain_id: Evidence(host.writer) for chain_id, host in hosts.items() if _settles(host)}
        """By chain, of those that take part in settlements."""
        hubs = [chain_id for chain_id in self.evidence if is_hub(hosts[chain_id].genesis)]
        self._hub = hubs[0] if hubs else None
        self._regions = () if self._hub is None else regions_of(home, self._hub)

    async def open(self) -> None:
        """Once the hosts are open. Raises StoreError."""
        for evidence in self.evidence.values():
            await asyncio.wrap_future(evidence.submit(evidence.open))

    async def run(self) -> None:
        """Until cancelled; raises what makes it impossible to go on."""
        try:
            await self._run()
        except BaseExceptionGroup as group:
            raise _first(group) from group

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._hub is not None:
                hub = self._side(self._hub)
                tasks.create_task(register(hub.host, hub.own, self._name, self._regions, self._log))
                for region in self._regions:
                    if region.chain_id in self._hosts:
                        relay = Relay(hub, self._side(region.chain_id), self._name, self._log)
                        tasks.create_task(relay.run())
            await asyncio.Event().wait()

    def _side(self, chain_id: bytes) -> Side:
        host = self._hosts[chain_id]
        return Side(host, self.evidence[chain_id], OwnTransactions(host, self._signer, self._name))

    async def close(self) -> None:
        """Release the files."""
        for evidence in self.evidence.values():
            await asyncio.to_thread(evidence.close)


def _settles(host: ChainHost) -> bool:
    return is_hub(host.genesis) or region_section(host.genesis) is not None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
