"""What a node does between its chains: registers regions, relays between the hub and each, and drives intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from coordinator.consensus.signing import Signer
from coordinator.ledger.genesis import Genesis
from coordinator.service.evidence import Evidence
from coordinator.service.final_chain import Ledger
from coordinator.service.following import FollowedChain
from coordinator.service.home import Home
from coordinator.service.host import ChainHost
from coordinator.service.interval_engine import IntervalEngine, RegionSeat
from coordinator.service.interval_files import couples, hub_knowledge, read_public, region_knowledge
from coordinator.service.log import Log
from coordinator.service.metrics import NodeMetrics
from coordinator.service.own_transactions import ForwardedTransactions, OwnTransactions
from coordinator.service.registering import regions_of, register
from coordinator.service.relay import Relay, Side
from coordinator.service.waiting import first_error
from coordinator.settlement.escrow.registration import is_hub, region_section
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_duty import HubDuty
from coordinator.settlement.interval.region_duty import RegionDuty


class Interregional:
    """Of one node. Without a hub it has nothing to do."""

    def __init__(
        self,
        home: Home,
        hosts: Mapping[bytes, ChainHost],
        followed: Mapping[bytes, FollowedChain],
        signer: Signer,
        log: Log,
    ) -> None:
        """`followed` are chains that this node has no seat on. Raises ConfigurationError."""
        self._hosts = hosts
        self._followed = followed
        self._signer = signer
        self._log = log
        self._name = me = f"{home.settings.organization}-validator"
        self._forwarded = {chain_id: ForwardedTransactions(chain, signer, me) for chain_id, chain in followed.items()}
        ledgers: dict[bytes, tuple[Genesis, Ledger]] = {
            **{chain_id: (host.genesis, host.writer) for chain_id, host in hosts.items()},
            **{chain_id: (chain.genesis, chain.ledger) for chain_id, chain in followed.items()},
        }
        settling = {chain_id: one for chain_id, one in ledgers.items() if _settles(one[0])}
        self.evidence = {chain_id: Evidence(ledger) for chain_id, (_, ledger) in settling.items()}
        """By chain, of those that take part in settlements."""
        hubs = [chain_id for chain_id, (genesis, _) in settling.items() if is_hub(genesis)]
        self._hub = hubs[0] if hubs else None
        self._regions = () if self._hub is None else regions_of(home, self._hub)
        self._home = home
        self._engine: IntervalEngine | None = None

    async def open(self) -> None:
        """Once the hosts are open. Raises StoreError."""
        for evidence in self.evidence.values():
            await asyncio.wrap_future(evidence.submit(evidence.open))
        if self._hub is not None:
            hub = self._side(self._hub)
            self._engine = self._made_engine(hub) if couples(hub.host.genesis) else None

    def _made_engine(self, hub: Side) -> IntervalEngine:
        """Raises ConfigurationError where the grid's files are missing or are others."""
        view = hub.host.told.view
        public = read_public(self._home.chain_folder(hub.host.genesis.name), HubIntervals.of(view).parameters.topology)
        seats = []
        for region in self._regions:
            host = self._hosts.get(region.chain_id)
            if host is not None and couples(host.genesis):
                folder = self._home.chain_folder(host.genesis.name)
                known = region_knowledge(host.told.view, public, folder)
                seats.append(RegionSeat(self._side(region.chain_id), RegionDuty(self._name, known)))
        is_seated = hub.host.genesis.chain_id in self._hosts
        duty = HubDuty(self._name, hub_knowledge(view, public)) if is_seated else None
        return IntervalEngine(self._name, hub, duty, seats, self._log)

    async def run(self) -> None:
        """Until cancelled; raises what makes it impossible to go on."""
        try:
            await self._run()
        except BaseExceptionGroup as group:
            raise first_error(group) from group

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._hub is not None:
                hub = self._side(self._hub)
                if self._hub in self._hosts:
                    tasks.create_task(register(hub.host, hub.own, self._name, self._regions, self._log))
                for region in self._regions:
                    if region.chain_id in self._hosts:
                        relay = Relay(hub, self._side(region.chain_id), self._name, self._log)
                        tasks.create_task(relay.run())
            if self._engine is not None:
                tasks.create_task(self._engine.run())
            await asyncio.Event().wait()

    def _side(self, chain_id: bytes) -> Side:
        evidence, host = self.evidence[chain_id], self._hosts.get(chain_id)
        if host is not None:
            return Side(host, evidence, OwnTransactions(host, self._signer, self._name))
        return Side(self._followed[chain_id], evidence, self._forwarded[chain_id])

    def show(self, metrics: NodeMetrics) -> None:
        """Where the coupling stands."""
        if self._hub is None or self._engine is None:
            return
        host = self._hosts.get(self._hub) or self._followed[self._hub]
        books = HubIntervals.of(host.told.view)
        running = books.running
        if running is None:
            metrics.coupling(host.genesis.name, 0, 0, len(books.absent))
        else:
            metrics.coupling(host.genesis.name, running.attempt + 1, running.round, len(running.excluded))

    async def close(self) -> None:
        """Release the files."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)
        for evidence in self.evidence.values():
            await asyncio.to_thread(evidence.close)


def _settles(genesis: Genesis) -> bool:
    return is_hub(genesis) or region_section(genesis) is not None
