"""Carries proofs between the hub and a region: the host of the escrow protocol, without a decision of its own.

What is to be carried follows from the finalized states of both chains (`missing`), whose turn it is from `turns`, the
proof from the source's own ledger (`evidence`). A duplicate changes nothing on its target.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from coordinator.ledger.errors import TransactionRefused
from coordinator.ledger.registry import CURRENT, committee, participant_of
from coordinator.service.errors import ServiceError
from coordinator.service.evidence import Evidence
from coordinator.service.final_chain import FinalChain
from coordinator.service.log import Log
from coordinator.service.own_transactions import Transactions
from coordinator.service.turns import Moment, Turns
from coordinator.service.waiting import first_of
from coordinator.settlement.escrow.finalized import hub_books, region_books
from coordinator.settlement.escrow.missing import Item, Kind, check_agreement, missing

_UNDER_WAY_MAX = 32
_ROUND_S, _REST = 0.02, 4
"""Between two looks at what is missing at least this, and so many times what the last one took."""
_UNPROVABLE_S = 0.25
"""After this a proof is tried again that needs a boundary to be taken in first."""
_PATIENCE_DELAYS, _PATIENCE_HEARTBEATS = 10, 3


@dataclass(slots=True)
class Side:
    """One of the two chains, validated on this node or followed. `under_way` are items being submitted to it."""

    host: FinalChain
    evidence: Evidence
    own: Transactions
    under_way: set[Item] = field(default_factory=set)


class Relay:
    """Between the hub and one region, in both directions."""

    def __init__(self, hub: Side, region: Side, own_name: str, log: Log) -> None:
        self._hub = hub
        self._region = region
        self._own_name = own_name
        self._log = log.bind(relay=region.host.genesis.name)
        self._turns = Turns(own_name, max(map(_patience_s, (hub.host, region.host))))
        self._seen: tuple[bytes, bytes] | None = None
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                started_s = time.monotonic()
                blocks = [self._hub.host.new_block, self._region.host.new_block]
                await self._look()
                self._start()
                took_s = time.monotonic() - started_s
                at_s = self._turns.next_s(self._now())
                await first_of(blocks, None if at_s is None else max(0.0, at_s - time.monotonic()))
                await asyncio.sleep(max(_ROUND_S, _REST * took_s))

    def _start(self) -> None:
        """Submit what is this node's turn."""
        now = self._now()
        for item in self._turns.due(now):
            target = self._hub if item.to_hub else self._region
            if item not in target.under_way and len(target.under_way) < _UNDER_WAY_MAX:
                target.under_way.add(item)
                self._turns.submitted(item, now)
                self._tasks.create_task(self._carry_and_forget(item, target))

    async def _look(self) -> None:
        """What is missing, if one of the two has finalized something since."""
        hub, region = self._hub.host.told, self._region.host.told
        seen = (hub.header.digest, region.header.digest)
        if seen == self._seen:
            return
        self._seen = seen
        here, seated = {*committee(region.view, CURRENT).names}, {*committee(hub.view, CURRENT).names}
        evidence = self._region.evidence
        await asyncio.wrap_future(evidence.submit(check_agreement, hub_books(hub), region_books(region)))
        found = await asyncio.wrap_future(evidence.submit(missing, hub_books(hub), region_books(region)))
        if participant_of(hub.view, self._own_name) is None:
            found = tuple(item for item in found if not item.to_hub)
        self._turns.update(found, sorted(here & seated), self._now(), sorted(here - seated))

    def _now(self) -> Moment:
        hub, region = self._hub.host.told.header, self._region.host.told.header
        return Moment(time.monotonic(), hub.height, region.height)

    async def _carry_and_forget(self, item: Item, target: Side) -> None:
        try:
            await self.carry(item, target)
        finally:
            target.under_way.discard(item)

    async def carry(self, item: Item, target: Side) -> None:
        """Prove an item and submit it to its target."""
        content = await self._prove(item, target)
        if content is None:
            self._turns.put_off(item, time.monotonic() + _UNPROVABLE_S)
            return

        async def is_still_missing() -> None:
            if item not in self._turns:
                raise ServiceError("another relay has brought it meanwhile")

        try:
            outcome = await target.own.submit(_KINDS[item.kind], content, is_still_missing)
        except (TransactionRefused, ServiceError) as error:
            self._log.warning("not relayed", item=str(item), reason=str(error))
            return
        receipt = outcome.receipt
        self._log.info("relayed", item=str(item), height=outcome.height, code=receipt.code, detail=receipt.detail)

    async def _prove(self, item: Item, target: Side) -> bytes | None:
        """None where the source has no certificate yet that the target can check."""
        source = self._region if item.to_hub else self._hub
        evidence = source.evidence
        if item.kind is Kind.BOUNDARY:
            return await asyncio.wrap_future(evidence.submit(evidence.boundary, item.epoch))
        books = (hub_books if item.to_hub else region_books)(target.host.told)
        known_epoch = books.chains.epoch(source.host.genesis.chain_id)
        return await asyncio.wrap_future(evidence.submit(evidence.event, item.kind, item.sid, known_epoch))


_KINDS = {
    Kind.BOUNDARY: "escrow_boundary",
    Kind.OPENED: "escrow_event",
    Kind.DECIDED: "escrow_event",
    Kind.CLOSED: "escrow_event",
    Kind.VERDICT: "escrow_receipt",
    Kind.APPLIED: "escrow_receipt",
}


def _patience_s(host: FinalChain) -> float:
    """How long the next node waits at least for one whose turn it is."""
    pace = host.pace
    each_ms = max(pace.heartbeat_ms, pace.minimum_interval_ms)
    return (_PATIENCE_DELAYS * pace.delay_ms + _PATIENCE_HEARTBEATS * each_ms) / 1000
