"""One region through an interval: offers in, gate closed, the agreed schedule out to the devices, readings in.

The gateway owns nothing and decides nothing: offers are its fleets', the schedule is what a quorum of the region's
validators stands behind, and devices check its certificate themselves. Everything here can be done twice, so that a
gateway which ended in the middle begins the interval again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from actors.cluster.fleet_handle import FleetHandle
from actors.cluster.node_calls import NodeCalls
from actors.cluster.reading_intake import ReadingIntake, RefusedReading
from actors.fleet.orders import Refusal, make_order
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.block import decode_block, decode_payload
from coordinator.ledger.genesis import machine_of, start
from coordinator.ledger.readings import MeterBatch, SignedColumn, decode_batch
from coordinator.ledger.receipt import decode_receipt
from coordinator.ledger.transaction import SignedTransaction
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.service.errors import CallFailed, ServiceError
from coordinator.service.modules import MODULES
from coordinator.settlement.interval.confirmations import CONFIRM_REGION, decode_confirmation
from coordinator.settlement.interval.outages import Outage
from coordinator.settlement.interval.region import BILLED_EVENT, DISPATCH_EVENT, OFFERS, OUTAGE, TARGET, RegionIntervals
from coordinator.settlement.interval.schedules import Schedule, decode_schedule
from coordinator.settlement.interval.topics import ALONE, Interval, Step, Topic
from protos.gridaccord.v1 import ledger_pb2 as ledger_pb
from protos.gridaccord.v1 import service_pb2 as pb

_COLUMNS_A_BATCH = 2**12
"""All validators check a batch before it is final: on two cores 33,000 columns were not within a call's deadline."""
_TOO_LATE = ("gate_closed", "no_such_interval")


class IntervalRefused(ServiceError):
    """The region's chain did not take what its gateway said about an interval."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds that an interval took in this region, by what for."""

    offers: float = 0.0
    coupling: float = 0.0
    dispatch: float = 0.0
    readings: float = 0.0


@dataclass(frozen=True, slots=True)
class RegionInterval:
    """What came of an interval in a region. `rounds` is 0 where the region cleared alone.

    `price` is the mean over scheduled withdrawals, in micro-units per MWh; None where nothing is withdrawn.
    """

    region: str
    rounds: int
    attempts: int
    price: int | None
    phases: Phases
    height: int
    readings: int
    not_obeyed: tuple[Refusal, ...] = ()
    refused: tuple[RefusedReading, ...] = ()
    snapshots: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def is_coupled(self) -> bool:
        """Rather than cleared alone."""
        return self.rounds > 0


@dataclass(frozen=True, slots=True)
class _Agreed:
    """A schedule that a quorum stands behind, and the proof of its dispatch event."""

    topic: Topic
    schedule: Schedule
    proof: pb.ReceiptProof
    event: int
    height: int


class RegionGateway:
    """Of one region, at one organization."""

    def __init__(self, home: Path, region: str, fleets: Sequence[FleetHandle], meter_keys: dict[str, bytes]) -> None:
        """Raises ConfigurationError."""
        self.region = region
        self._calls = NodeCalls(home, region)
        self._fleets = tuple(fleets)
        self._intake = ReadingIntake(self._calls.genesis.chain_id, meter_keys.get)

    async def ready(self) -> tuple[str, ...]:
        """Until the region's chain finalizes blocks; the nodes that are not there after a while."""
        return await self._calls.ready()

    async def close(self) -> None:
        """End the connections."""
        await self._calls.close()

    async def open_ties(self, from_s: int, until_s: int | None, only: str | None) -> None:
        """Announce that the region's ends of tie-lines are open from an interval on, and until which, if it is known.

        All of them, or one by its name.

        Raises IntervalRefused, CallFailed.
        """
        ties = [tie for tie in self._ties() if only in (None, tie)]
        words = [Outage(tie, from_s, True) for tie in ties]
        if until_s is not None:
            words += [Outage(tie, until_s, False) for tie in ties]
        for word in words:
            await self._say(OUTAGE, word.encode())

    def _ties(self) -> list[str]:
        """Tie-lines whose ends here are this organization's, by genesis."""
        genesis = self._calls.genesis
        founded = start(genesis, machine_of(genesis, MODULES, Ed25519Scheme()))
        owners = RegionIntervals.of(founded.view).ties.owners()
        return [tie for tie, owner in owners.items() if owner == self._calls.organization]

    async def run_interval(self, interval: Interval, from_height: int) -> RegionInterval:
        """Take the region through an interval. Its blocks are looked at from a height before it on.

        Raises IntervalRefused, CallFailed.
        """
        marks = [time.monotonic()]
        await self._open(interval)
        marks.append(time.monotonic())
        agreed = await self._schedule(interval, from_height)
        marks.append(time.monotonic())
        not_obeyed = await self._dispatch(agreed)
        batches = await asyncio.gather(*(fleet.operate(interval) for fleet in self._fleets))
        snapshots = tuple(fleet.snapshot for fleet in self._fleets)
        marks.append(time.monotonic())
        count, refused = 0, list[RefusedReading]()
        for batch in filter(None, batches):
            passed, left_out = await self._deliver(decode_batch(batch))
            count, refused = count + passed, refused + left_out
        marks.append(time.monotonic())
        is_alone = agreed.topic.attempt == ALONE
        return RegionInterval(
            region=self.region,
            rounds=0 if is_alone else agreed.topic.round,
            attempts=0 if is_alone else agreed.topic.attempt + 1,
            price=_mean_price(agreed.schedule),
            phases=Phases(*(later - earlier for earlier, later in pairwise(marks))),
            height=agreed.height,
            readings=count,
            not_obeyed=not_obeyed,
            refused=tuple(refused),
            snapshots=snapshots,
        )

    # Offers.

    async def _open(self, interval: Interval) -> None:
        """Offers of all fleets, and the word that closes the gate."""
        for offers in await asyncio.gather(*(fleet.offers(interval) for fleet in self._fleets)):
            await self._say(OFFERS, offers.encode())
        await self._say(TARGET, interval.encode())

    async def _say(self, kind: str, content: bytes) -> None:
        reply = await self._calls.send(kind, content)
        if reply.code and reply.code not in _TOO_LATE:
            raise IntervalRefused(f"region {self.region}: {kind}: {reply.code}: {reply.detail}")

    # Schedule.

    async def _schedule(self, interval: Interval, from_height: int) -> _Agreed:
        """Wait for the schedule that a quorum of the region's validators stands behind."""
        messages: dict[bytes, bytes] = {}
        async for encoded in self._calls.blocks(from_height):
            block = decode_block(encoded)
            for signed in decode_payload(block.payload):
                agreed = await self._agreed(signed, interval, messages, block.header.height)
                if agreed is not None:
                    return agreed
        raise AssertionError("blocks come for ever")

    async def _agreed(
        self, signed: SignedTransaction, interval: Interval, messages: dict[bytes, bytes], height: int
    ) -> _Agreed | None:
        if signed.transaction.kind != CONFIRM_REGION:
            return None
        given = decode_confirmation(signed.transaction.content)
        if given.topic.step is not Step.SCHEDULE or given.topic.interval != interval:
            return None
        if given.message is not None:
            messages[given.digest] = given.message
        proof = await self._calls.receipt(signed.digest(self._calls.genesis.chain_id))
        kinds = [event.kind for event in decode_receipt(proof.receipt).events]
        if DISPATCH_EVENT not in kinds:
            return None
        schedule = decode_schedule(messages[given.digest])
        return _Agreed(given.topic, schedule, proof, kinds.index(DISPATCH_EVENT), height)

    async def _dispatch(self, agreed: _Agreed) -> tuple[Refusal, ...]:
        """The order goes to all devices with its proof: each of them checks what it is told."""
        proof, boundaries = event_proof(agreed.proof, agreed.event), tuple(agreed.proof.finality.boundaries)
        interval, rows = agreed.topic.interval, agreed.schedule.rows
        orders = [make_order(proof, boundaries, interval, rows, fleet.resources) for fleet in self._fleets]
        pairs = zip(self._fleets, orders, strict=True)
        refused = await asyncio.gather(*(fleet.instruct(order) for fleet, order in pairs))
        return tuple(refusal for of_fleet in refused for refusal in of_fleet)

    async def billed(self, interval: Interval, from_height: int) -> None:
        """Until the bills of an interval are made. They come by themselves, once its readings are final."""
        async for encoded in self._calls.blocks(from_height):
            for signed in decode_payload(decode_block(encoded).payload):
                if signed.transaction.kind != CONFIRM_REGION:
                    continue
                topic = decode_confirmation(signed.transaction.content).topic
                if topic.step is Step.METERED and topic.interval == interval and await self._made_bills(signed):
                    return

    async def _made_bills(self, signed: SignedTransaction) -> bool:
        reply = await self._calls.receipt(signed.digest(self._calls.genesis.chain_id))
        return any(event.kind == BILLED_EVENT for event in decode_receipt(reply.receipt).events)

    # Readings.

    async def _deliver(self, batch: MeterBatch) -> tuple[int, list[RefusedReading]]:
        """Readings of one fleet, until they are final: how many, and what was left out. Raises IntervalRefused."""
        count, (columns, refused) = 0, self._intake.sift(batch.columns, int(time.time()))
        for first in range(0, len(columns), _COLUMNS_A_BATCH):
            passed, left_out = await self._deliver_some(columns[first : first + _COLUMNS_A_BATCH])
            count, refused = count + passed, refused + left_out
        return count, refused

    async def _deliver_some(self, columns: tuple[SignedColumn, ...]) -> tuple[int, list[RefusedReading]]:
        """In one batch. Raises IntervalRefused where a refusal is about none of them."""
        refused: list[RefusedReading] = []
        while columns:
            try:
                reply = await self._calls.deliver(MeterBatch(os.urandom(16), columns))
            except CallFailed as error:
                # Each time at least one column less: this ends.
                blamed = self._intake.blamed(columns, str(error))
                if not blamed:
                    raise IntervalRefused(f"region {self.region}: readings: {error}") from None
                refused += blamed
                left_out = {one.device for one in blamed}
                columns = tuple(signed for signed in columns if signed.column.device not in left_out)
                continue
            if reply.code:
                raise IntervalRefused(f"region {self.region}: readings: {reply.code}: {reply.detail}")
            self._intake.delivered(columns)
            break
        return sum(len(signed.column.clocks_ms) for signed in columns), refused


def event_proof(proof: pb.ReceiptProof, event: int) -> bytes:
    """The proof of one event of a receipt, as devices and other chains take it."""
    finality = proof.finality
    return ledger_pb.EventProof(
        certificate=finality.certificate,
        certified=finality.certified,
        history=finality.history,
        header=finality.header,
        receipt=proof.receipt,
        inclusion=proof.inclusion,
        receipts=proof.receipts,
        event=event,
    ).SerializeToString()


def _mean_price(schedule: Schedule) -> int | None:
    """Over withdrawals, in micro-units per MWh."""
    withdrawn = [(-row.power_w, row.price) for row in schedule.rows if row.power_w < 0]
    total = sum(power for power, _ in withdrawn)
    return sum(power * price for power, price in withdrawn) // (total << PRICE_BITS) if total else None
