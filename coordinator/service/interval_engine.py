"""Drives the intervals on a node with seats on regions and on the hub, or following it: statements, relays, bills.

What is due follows from the final states of the chains and what was heard since the session began (`hub_duty`,
`region_duty`); a node that was away sits out until the next session. Computing takes a thread of its own, so that
votes never wait for an optimum.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from coordinator.ledger.errors import Rejected, TransactionRefused
from coordinator.ledger.receipt import DONE
from coordinator.ledger.registry import CURRENT, committee, participant_of
from coordinator.ledger.store import Finalized
from coordinator.ledger.view import View
from coordinator.service.billing import Billing
from coordinator.service.errors import ServiceError
from coordinator.service.log import Log
from coordinator.service.relay import Side
from coordinator.service.waiting import first_of
from coordinator.settlement.escrow.finalized import hub_books
from coordinator.settlement.interval.confirmations import event_payload
from coordinator.settlement.interval.hub import MESSAGE, encode_message
from coordinator.settlement.interval.hub_duty import HubDuty, Request
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.region_duty import RegionDuty, Relayed
from coordinator.settlement.interval.turns import TURN_BLOCKS, is_turn

_IDLE_S = 0.5
_TOO_LATE = ("stated", "unexpected", "gate_closed", "again")
"""What becomes of a word that a quorum did not need any more."""


@dataclass(slots=True)
class RegionSeat:
    """A region's chain on this node, and this validator's part in its statements."""

    side: Side
    duty: RegionDuty
    blocks: deque[Finalized] = field(default_factory=deque)
    billing: Billing = field(init=False)

    def __post_init__(self) -> None:
        evidence = self.side.evidence
        self.billing = Billing(lambda devices, at_s: evidence.submit(evidence.registers_wh, devices, at_s).result())


@dataclass(frozen=True, slots=True)
class _Owed:
    side: Side
    request: Request


@dataclass(frozen=True, slots=True)
class _ToProve:
    seat: RegionSeat
    relayed: Relayed


class IntervalEngine:
    """Of one node."""

    def __init__(self, me: str, hub: Side, duty: HubDuty | None, seats: Sequence[RegionSeat], log: Log) -> None:
        """`duty` is the hub's; None on a node that only follows it."""
        self._me = me
        self._hub = hub
        self._duty = duty
        self._seats = tuple(seats)
        self._log = log.bind(part="intervals")
        self._hub_blocks: deque[Finalized] = deque()
        self._under_way: set[tuple[int, Request]] = set()
        self._relaying: dict[tuple[int, bytes], int] = {}
        self._fault = ""
        self._thread = ThreadPoolExecutor(1, "intervals")
        hub.host.followers.append(self._hub_blocks.extend)
        for seat in self._seats:
            seat.side.host.followers.append(seat.blocks.extend)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                coming = [self._hub.host.new_block, *(seat.side.host.new_block for seat in self._seats)]
                for owed in await loop.run_in_executor(self._thread, self._round):
                    if isinstance(owed, _ToProve):
                        tasks.create_task(self._relay(owed))
                    else:
                        self._say(tasks, owed)
                await first_of(coming, _IDLE_S)

    def close(self) -> None:
        """Wait for what the thread is at, before the ledgers that it reads are closed."""
        self._thread.shutdown(cancel_futures=True)

    # In the thread.

    def _round(self) -> list[_Owed | _ToProve]:
        hub = self._hub.host.told.view
        while self._hub_blocks:
            final = self._hub_blocks.popleft()
            view = final.applied.state.view
            if self._duty is not None:
                self._duty.on_block(final.block, final.applied.receipts, view)
            for seat in self._seats:
                seat.duty.on_hub_block(final.block, final.applied.receipts)
            hub = view
        requests = [] if self._duty is None else self._duty.owed(hub)
        owed: list[_Owed | _ToProve] = [_Owed(self._hub, request) for request in requests]
        for seat in self._seats:
            owed += self._of_region(seat)
        self._tell_fault()
        return owed

    def _of_region(self, seat: RegionSeat) -> list[_Owed | _ToProve]:
        while seat.blocks:
            final = seat.blocks.popleft()
            seat.duty.on_region_block(final.block.header.height)
            seat.billing.on_block(final)
        hub, state = self._hub.host.told.view, seat.side.host.told
        region = state.view
        seat.duty.advance(hub, region)
        books = RegionIntervals.of(region)
        requests = seat.duty.owed(hub, region, books.due(state.header.time_ms))
        found: list[_Owed | _ToProve] = [_Owed(seat.side, request) for request in requests]
        bill = seat.billing.due(region)
        requests = [] if bill is None else seat.duty.bill(region, bill.interval, bill.version, bill.rows)
        requests += self._exchange(seat, hub, region)
        relayed = [seat.duty.to_relay(hub, region), *seat.duty.later_to_relay(hub, region, seat.billing.recent)]
        found += [_Owed(seat.side, request) for request in requests]
        return found + [_ToProve(seat, one) for one in relayed if one is not None and self._is_relay_turn(seat, one)]

    def _exchange(self, seat: RegionSeat, hub: View, region: View) -> list[Request]:
        requests = seat.duty.accept(hub, region)
        for awaited in seat.duty.awaited(hub, seat.billing.recent):
            rows = seat.billing.tie_rows(awaited.interval, is_urgent=awaited.is_urgent)
            requests += [] if rows is None else seat.duty.state_ties(region, awaited.interval, rows)
        return requests

    def _is_relay_turn(self, seat: RegionSeat, relayed: Relayed) -> bool:
        """Nodes with seats on both chains take turns, by blocks of the hub; after them those that follow it."""
        hub, region = self._hub.host.told, seat.side.host.told
        key = (id(seat), relayed.topic.encode())
        if key not in self._relaying and len(self._relaying) > 256:
            self._relaying.clear()
        since = self._relaying.setdefault(key, hub.header.height)
        here, seated = committee(region.view, CURRENT).names, committee(hub.view, CURRENT).names
        waited, ring = hub.header.height - since, [name for name in seated if name in here]
        others = [name for name in here if name not in seated]
        if self._me in others and participant_of(hub.view, self._me) is not None:
            return is_turn(key[1], others, self._me, waited - len(ring) * TURN_BLOCKS)
        return self._me in ring and is_turn(key[1], ring, self._me, waited)

    def _tell_fault(self) -> None:
        faults = ["" if self._duty is None else self._duty.fault, *(seat.duty.fault for seat in self._seats)]
        fault = next((text for text in faults if text), "")
        if fault and fault != self._fault:
            self._log.warning("sits out", reason=fault)
        self._fault = fault

    # On the loop.

    def _say(self, tasks: asyncio.TaskGroup, owed: _Owed) -> None:
        key = (id(owed.side), owed.request)
        if key not in self._under_way:
            self._under_way.add(key)
            tasks.create_task(self._submit(owed.side, owed.request, key))

    async def _submit(self, side: Side, request: Request, key: tuple[int, Request]) -> None:
        try:
            outcome = await side.own.submit(*request)
            if outcome.receipt.code not in (DONE, *_TOO_LATE):
                self._log.info("not counted", kind=request[0], code=outcome.receipt.code, detail=outcome.receipt.detail)
        except (TransactionRefused, ServiceError) as error:
            self._log.warning("statement failed", kind=request[0], reason=str(error))
        finally:
            self._under_way.discard(key)

    async def _relay(self, owed: _ToProve) -> None:
        """Prove a statement of a region on the hub."""
        seat, topic = owed.seat, owed.relayed.topic
        chain_id = seat.side.host.genesis.chain_id
        key = (id(self._hub), (MESSAGE, chain_id + topic.encode()))
        if key in self._under_way:
            return
        self._under_way.add(key)
        try:
            known = hub_books(self._hub.host.told).chains.epoch(chain_id)
            evidence = seat.side.evidence
            payload = event_payload(topic, owed.relayed.digest)
            proof = await asyncio.wrap_future(evidence.submit(evidence.statement, payload, known))
            if proof is not None:
                await self._hub.own.submit(MESSAGE, encode_message(proof, owed.relayed.message))
        except (Rejected, TransactionRefused, ServiceError) as error:
            self._log.warning("relaying failed", topic=str(topic), reason=str(error))
        finally:
            self._under_way.discard(key)
