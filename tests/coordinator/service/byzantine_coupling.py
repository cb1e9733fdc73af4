"""A validator that attacks the coupling: the real node, with seats on the hub and every region, lies in all of them.

    python -m tests.coordinator.service.byzantine_coupling HOME

It equivocates in consensus all the time, and attacks each interval in another way, in this order:

lie         it proposes and confirms what is false, before its turn: results, states, transfers, blame, bills
garbage     it relays regions' messages with broken proofs, with proofs of other messages, and without any
withhold    it says and relays nothing
replay      it says and relays what it and others said before, in this interval and in earlier ones
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.block import decode_payload
from coordinator.ledger.errors import Rejected, TransactionRefused
from coordinator.ledger.store import Finalized
from coordinator.service import interregional
from coordinator.service.errors import ServiceError
from coordinator.service.interval_engine import IntervalEngine, RegionSeat, _Owed, _ToProve
from coordinator.service.relay import Relay, Side
from coordinator.settlement.escrow.finalized import hub_books
from coordinator.settlement.escrow.missing import Item
from coordinator.settlement.interval.confirmations import (
    CONFIRM_HUB,
    CONFIRM_REGION,
    Confirmation,
    decode_confirmation,
    digest_of,
    event_payload,
    proposal,
)
from coordinator.settlement.interval.decisions import Agreed, Blamed, Opened, Said, decode_hub_message
from coordinator.settlement.interval.hub import MESSAGE, encode_message
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_duty import Request
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.schedules import decode_metered, decode_schedule, encode_metered
from coordinator.settlement.interval.topics import HUB_STEPS, Step, Topic
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.coordinator.service import byzantine

MODES = ("lie", "garbage", "withhold", "replay")
_STOLEN = 1_000_000
_KEPT = 500
_REPLAYED_A_ROUND = 3
_RNG = random.Random(2)


def false_hub_message(message: bytes, number: int) -> bytes:
    """Another message for the same step; which lie it is depends on `number`."""
    said = decode_hub_message(message)
    if number % 3 == 0:
        return Blamed((number % 2,), "its numbers do not add up").encode()
    match said:
        case Said(text):
            return Said(_false_numbers(text)).encode()
        case Agreed():
            giver, taker, *others = said.regions
            moved = (replace(giver, amount=giver.amount - _STOLEN), replace(taker, amount=taker.amount + _STOLEN))
            half = said.objective_micro_per_h // 2
            return replace(said, regions=(*moved, *others), objective_micro_per_h=half).encode()
        case Opened():
            return replace(said, objecting=(0,)).encode()
        case Blamed():
            return replace(said, reason="another one").encode()
    raise AssertionError("there are no other hub messages")


def _false_numbers(text: bytes) -> bytes:
    """A result with other prices, or a boundary state with other angles."""
    result, state = pb.CouplingResult(), pb.BoundaryState()
    for message, name in ((result, "energy_price"), (state, "angle")):
        try:
            message.ParseFromString(text)
        except Exception:  # It is the other one.
            continue
        values = getattr(message.intervals[0], name) if message.intervals else []
        if values:
            values[0] += 2**40
            return bytes(message.SerializeToString())
    return text + b"\x00"


def false_region_message(topic: Topic, message: bytes) -> bytes:
    """Another message of a region's."""
    if topic.step is Step.SCHEDULE:
        schedule = decode_schedule(message)
        return replace(schedule, transfer=schedule.transfer + _STOLEN).encode()
    if topic.step is Step.METERED:
        return encode_metered([replace(row, energy_wh=2 * row.energy_wh + 1) for row in decode_metered(message)])
    return message + b"\x00" if message else b"\x01"


def false(request: Request) -> Request:
    """What a validator would say, turned into its opposite."""
    kind, content = request
    if kind not in (CONFIRM_HUB, CONFIRM_REGION):
        return request
    given = decode_confirmation(content)
    if given.message is None:
        return kind, Confirmation(given.topic, digest_of(given.digest)).encode()
    if kind == CONFIRM_HUB:
        lie = false_hub_message(given.message, int(given.topic.step) + given.topic.interval.start_s // 60)
    else:
        lie = false_region_message(given.topic, given.message)
    return kind, proposal(given.topic, lie).encode()


def spoiled(proof: bytes, message: bytes, other: bytes) -> Iterator[bytes]:
    """Contents of `interval_message` that prove nothing."""
    place = _RNG.randrange(len(proof))
    yield encode_message(proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :], message)
    yield encode_message(proof, message + b"\x00")
    yield encode_message(proof, other)
    yield encode_message(proof[:place], message)
    yield encode_message(b"", message)
    yield _RNG.randbytes(200)


class HostileEngine(IntervalEngine):
    """The intervals as an attacker drives them."""

    _heard: ClassVar[deque[tuple[bool, Request]]] = deque(maxlen=_KEPT)
    """What anybody has said: whether on the hub, and the transaction."""

    _salvos: ClassVar[set[tuple[bytes, Topic]]] = set()
    """What it has relayed wrongly: once is enough, it is no flood."""

    @property
    def mode(self) -> str:
        """How it attacks now: by the interval under way on the hub, or the one that comes."""
        books = HubIntervals.of(self._hub.host.told.view)
        parameters = books.parameters
        running, last = books.running, books.last
        start_s = running.interval.start_s if running else last.end_s if last else parameters.opens_s
        return MODES[(start_s - parameters.opens_s) // parameters.duration_s % len(MODES)]

    def _round(self) -> list[_Owed | _ToProve]:
        self._listen(self._hub_blocks, on_hub=True)
        for seat in self._seats:
            self._listen(seat.blocks, on_hub=False)
        due, mode = super()._round(), self.mode
        if mode == "withhold":
            return []
        if mode == "replay":
            return [*due, *self._again()]
        if mode == "garbage":
            return due
        lies: list[_Owed | _ToProve] = [
            replace(owed, request=false(owed.request)) if isinstance(owed, _Owed) else owed for owed in due
        ]
        return lies + [_Owed(side, false(request)) for side, request in self._early()]

    def _listen(self, blocks: Sequence[Finalized], on_hub: bool) -> None:
        kinds = (CONFIRM_HUB, MESSAGE) if on_hub else (CONFIRM_REGION,)
        for final in blocks:
            said = [signed.transaction for signed in decode_payload(final.block.payload)]
            self._heard.extend((on_hub, (one.kind, one.content)) for one in said if one.kind in kinds)

    def _again(self) -> Iterator[_Owed]:
        for on_hub, request in _RNG.sample(list(self._heard), min(_REPLAYED_A_ROUND, len(self._heard))):
            yield _Owed(self._hub if on_hub else _RNG.choice(self._seats).side, request)

    def _early(self) -> Iterator[tuple[Side, Request]]:
        """What others have not proposed yet."""
        running = HubIntervals.of(self._hub.host.told.view).running
        if running is None:
            return
        if running.topic.step in HUB_STEPS:
            message = self._duty._party.propose(running.topic)
            if message is not None:
                yield self._hub, (CONFIRM_HUB, proposal(running.topic, message).encode())
            return
        for seat in self._seats:
            message = seat.duty._party.message(running.topic)
            if message is not None:
                yield seat.side, (CONFIRM_REGION, proposal(running.topic, message).encode())

    def _is_relay_turn(self, seat: RegionSeat, relayed: object) -> bool:
        return True

    async def _relay(self, owed: _ToProve) -> None:
        if self.mode == "replay":
            await super()._relay(owed)
            return
        topic = owed.relayed.topic
        if (salvo := (owed.seat.side.host.genesis.chain_id, topic)) in self._salvos:
            return
        host, evidence = owed.seat.side.host, owed.seat.side.evidence
        stated = RegionIntervals.of(host.told.view).stated(topic)
        known = hub_books(self._hub.host.told).chains.epoch(host.genesis.chain_id)
        if stated is None:
            return
        try:
            work = evidence.submit(evidence.statement, event_payload(topic, stated), known)
            proof = await asyncio.wrap_future(work)
        except Rejected:
            return
        if proof is not None:
            self._salvos.add(salvo)
            for content in spoiled(proof, owed.relayed.message, _RNG.randbytes(64)):
                await self._try(self._hub, (MESSAGE, content))

    async def _try(self, side: Side, request: Request) -> None:
        try:
            await side.own.submit(*request)
        except (TransactionRefused, ServiceError, DecodeError, Rejected):
            return


class IdleRelay(Relay):
    """Nothing between the chains passes by it."""

    async def carry(self, item: Item, target: Side) -> None:
        """It could, and does not."""
        await asyncio.sleep(1.0)


def main(home: Path) -> None:
    """Run the node."""
    interregional.IntervalEngine = HostileEngine  # type: ignore[misc]
    interregional.Relay = IdleRelay  # type: ignore[misc]
    byzantine.main(home, "equivocate")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
