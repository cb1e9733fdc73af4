"""Carries a manifest out on a running consortium: load and faults, phase by phase.

A transaction is signed once and given to one node after the other until its receipt is there, so whatever dies
meanwhile, each is carried out once.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from coordinator.consensus.signing import Ed25519Scheme, Ed25519Signer
from coordinator.ledger.envelope import Holder, KeyClaim, prove_possession
from coordinator.ledger.keys import load_key
from coordinator.ledger.readings import Column, MeterBatch, SignedColumn, sign_column
from coordinator.ledger.receipt import Receipt
from coordinator.ledger.transaction import Transaction, sign_transaction
from coordinator.service.errors import CallFailed
from coordinator.service.paying import Payment as Wanted
from coordinator.service.paying import opened_in, sign_payment
from coordinator.service.proving import verify_receipt
from coordinator.settlement.escrow.types import SettlementId
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.region import OFFERS, TARGET, RegionIntervals
from coordinator.settlement.interval.schedules import Offers
from coordinator.settlement.interval.topics import Interval
from protos.gridaccord.v1 import ledger_pb2
from protos.gridaccord.v1 import service_pb2 as pb
from tests.coordinator.service.consortium_harness import ASSET, HUB, ORGANIZATIONS, REGIONS, Consortium
from tests.coordinator.service.gated_network import GatedNetwork
from tests.coordinator.service.manifest_faults import CHAINS, PATIENCE_S, Faults
from tests.coordinator.service.manifest_plan import (
    Coupling,
    Expected,
    Local,
    Manifest,
    Money,
    Operation,
    Payment,
    Readings,
)
from tests.coordinator.service.small_market import LOADS, curves_of, interval_of

STEPPER = ORGANIZATIONS[0]
"""Closes gates, and owns all resources."""
METERS = 3
"""A region."""
_ATTEMPT_S = 6.0
_VALID_BLOCKS = 10**6
_STEP_S = 60
_SAME_HEIGHT_BLOCKS = 20
_REFUSALS = {"transfer": "insufficient_balance", "escrow_open": "escrow_h1"}


@dataclass(slots=True)
class Done:
    """What the operations of a manifest came to: payments with what must become of them, readings by region."""

    intervals: list[Interval] = field(default_factory=list)
    settlements: dict[SettlementId, Expected] = field(default_factory=dict)
    registers: dict[str, dict[tuple[str, int], int]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    phases_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """By chain, heights and epochs that are to be left behind."""

    heights: Mapping[str, int] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)

    def is_behind(self, chain: pb.ChainStatus) -> bool:
        """Whether a node has come further."""
        return chain.height > self.heights.get(chain.name, -1) and chain.epoch > self.epochs.get(chain.name, -1)


class Run:
    """Of one manifest."""

    def __init__(self, manifest: Manifest, consortium: Consortium, network: GatedNetwork) -> None:
        self._manifest = manifest
        self._consortium = consortium
        self._faults = Faults(consortium, network)
        self._sequences: Counter[tuple[str, str]] = Counter()
        self._keys = {name: load_key(consortium.home(name) / "keys" / "participant.key") for name in ORGANIZATIONS}
        self._salts = random.Random(manifest.seed)
        self._read_from_s = int(time.time()) // _STEP_S * _STEP_S - 20 * 86_400
        self.done = Done(registers={region: {} for region in REGIONS})

    async def carry_out(self) -> Done:
        """All phases, and then until everything is settled."""
        await self._recovered("the beginning")
        await asyncio.gather(*(self._register_meters(region) for region in REGIONS))
        for phase in self._manifest.phases:
            started = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._faults.happen(phase.fault))
                for operations in _in_turn(phase.operations):
                    tasks.create_task(self._work(operations, started))
            await self._recovered(str(phase.fault), phase.fault.loses_records)
            await self._billed()
            self.done.phases_s.append(round(time.monotonic() - started, 1))
        for name in ORGANIZATIONS:

            async def at_rest(name: str = name) -> bool:
                return self._consortium.is_at_rest(name)

            await self._consortium.until(f"{name} is at rest", at_rest, PATIENCE_S)
        return self.done

    # Between faults.

    async def _recovered(self, after: str, with_lost_records: bool = False) -> None:
        """Until every node is connected to all others, votes, and has finalized something new on every chain.

        Who has lost records may have voted in the next epoch as well, so that one has to be under way too.
        """
        heights = {chain: max(self._faults.height(name, chain) for name in ORGANIZATIONS) for chain in CHAINS}
        epochs = await self._all_well(after, Progress(heights))
        if with_lost_records:
            await self._all_well(f"{after} and an epoch more", Progress(epochs=epochs))

    async def _all_well(self, after: str, progress: Progress) -> dict[str, int]:
        """The highest epoch of each chain, once all is well."""
        replies: list[pb.StatusReply] = []

        async def are_well() -> bool:
            answers = await asyncio.gather(*(self._status(name) for name in ORGANIZATIONS))
            replies[:] = [reply for reply in answers if reply is not None]
            return len(replies) == len(ORGANIZATIONS) and _are_well(replies, progress)

        try:
            await self._consortium.until(f"all are well after {after}", are_well, PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast status, beyond {progress} wanted: {replies}") from None
        chains = [chain for reply in replies for chain in reply.chains]
        return {name: max(chain.epoch for chain in chains if chain.name == name) for name in CHAINS}

    async def _billed(self) -> None:
        """Until every node has the bills of all intervals so far, coupled or not."""
        for name in ORGANIZATIONS if self.done.intervals else ():

            async def is_billed(name: str = name) -> bool:
                return self._has_bills(name, self.done.intervals[-1])

            await self._consortium.until(f"{name} has all bills", is_billed, PATIENCE_S)

    def _has_bills(self, name: str, interval: Interval) -> bool:
        last = HubIntervals.of(self._consortium.state(name, HUB).view).last
        if last is None or last < interval:
            return False
        for region in REGIONS:
            positions = RegionIntervals.of(self._consortium.state(name, region).view).positions(interval)
            is_billed = bool(positions) and all(position.version for position in positions.values())
            if not is_billed or positions[LOADS[region]].substituted:
                return False
        return True

    async def _status(self, name: str) -> pb.StatusReply | None:
        async with self._consortium.client(name, "auditor") as client:
            try:
                reply: pb.StatusReply = await client.call("GetStatus", pb.StatusRequest(), _ATTEMPT_S)
            except CallFailed:
                return None
        return reply

    # Load.

    async def _work(self, operations: list[Operation], started: float) -> None:
        for operation in operations:
            await asyncio.sleep(started + operation.at_ms / 1000 - time.monotonic())
            match operation:
                case Local():
                    await self._move(operation)
                case Payment():
                    await self._pay(operation)
                case Readings():
                    await self._read(operation)
                case Coupling():
                    await self._couple(operation)
            self.done.counts[type(operation).__name__.lower()] += 1

    async def _move(self, wanted: Local) -> None:
        if wanted.kind is Money.TRANSFER:
            content = ledger_pb2.Transfer(to=wanted.payee, asset=ASSET, amount=wanted.amount).SerializeToString()
        else:
            content = ledger_pb2.Issue(owner=wanted.payee, asset=ASSET, amount=wanted.amount).SerializeToString()
        receipt = await self._submit(wanted.region, wanted.signer, wanted.kind.value, content, wanted.via)
        self._check(wanted, wanted.kind.value, receipt)

    async def _pay(self, wanted: Payment) -> None:
        hub = self._consortium.genesis[HUB]
        payment = Wanted(wanted.signer, wanted.source, wanted.target, wanted.account, ASSET, wanted.amount)
        height = max(self._faults.height(name, HUB) for name in ORGANIZATIONS)
        content = sign_payment(payment, hub, height, self._keys[wanted.signer]).encoded
        receipt = await self._submit(HUB, wanted.signer, "escrow_open", content, wanted.via)
        self._check(wanted, "escrow_open", receipt)
        if not receipt.code:
            self.done.settlements[opened_in(receipt)] = wanted.expected

    def _check(self, wanted: Local | Payment, kind: str, receipt: Receipt) -> None:
        expected = _REFUSALS[kind] if wanted.expected is Expected.REFUSED else ""
        assert receipt.code == expected, f"{wanted}: {receipt.code or 'carried out'}"

    async def _couple(self, wanted: Coupling) -> None:
        """Offers of all resources, and then the word that closes the gates."""
        interval = interval_of(len(self.done.intervals))
        self.done.intervals.append(interval)
        offered = curves_of(self._consortium.file.parent, random.Random(wanted.seed))
        for region, curves in offered.items():
            content = Offers(interval, tuple(sorted(curves.items()))).encode()
            await self._speak(region, OFFERS, content, wanted.via)
        for region in REGIONS:
            await self._speak(region, TARGET, interval.encode(), wanted.via)
        for region, load_wh in zip(REGIONS, wanted.loads_wh, strict=True):
            meter, before_s = meter_of(region), interval.start_s - interval.duration_s
            is_first = (meter, before_s) not in self.done.registers[region]
            column = self._column(region, meter, before_s, (0, load_wh) if is_first else (load_wh,))
            await self._deliver(wanted, region, [column])

    async def _speak(self, region: str, kind: str, content: bytes, via: str) -> None:
        receipt = await self._submit(region, STEPPER, kind, content, via)
        assert not receipt.code, f"{kind} in {region}: {receipt.code} {receipt.detail}"

    async def _read(self, wanted: Readings) -> None:
        """Every meter's next columns; registers grow alike."""
        region, from_s = wanted.region, self._read_from_s
        columns = [self._column(region, device, from_s, wanted.growth_wh) for device in _meters(region)]
        await self._deliver(wanted, region, columns)

    def _column(self, region: str, device: str, from_s: int, growth_wh: Sequence[int]) -> SignedColumn:
        """A meter's next registers; the first of all are from a time on."""
        known, chain_id = self.done.registers[region], self._consortium.genesis[region].chain_id
        begun = [start_s for name, start_s in known if name == device]
        start_s = max(begun) + _STEP_S if begun else from_s
        last = known[device, start_s - _STEP_S] if begun else 0
        registers = tuple(last + sum(growth_wh[: n + 1]) for n in range(len(growth_wh)))
        ends_s = [start_s + _STEP_S * (n + 1) for n in range(len(registers))]
        column = Column(device, start_s, _STEP_S, 0, tuple(1000 * end_s for end_s in ends_s), registers)
        known |= {(device, end_s - _STEP_S): value for end_s, value in zip(ends_s, registers, strict=True)}
        return sign_column(_key_of(device), chain_id, column)

    async def _deliver(self, wanted: Readings | Coupling, region: str, columns: Sequence[SignedColumn]) -> None:
        chain_id = self._consortium.genesis[region].chain_id
        batch = MeterBatch(self._salts.randbytes(16), tuple(columns))
        for at in self._nodes(wanted.via, f"{wanted} is final"):
            async with self._consortium.client(at) as client:
                try:
                    reply = await client.submit_readings(chain_id, batch, _ATTEMPT_S)
                except CallFailed as error:
                    if "delivered before" in str(error):
                        return
                    await asyncio.sleep(0.1)
                    continue
            assert not reply.code, f"{wanted}: {reply.code}: {reply.detail}"
            return

    async def _register_meters(self, region: str) -> None:
        owner, chain_id = ORGANIZATIONS[0], self._consortium.genesis[region].chain_id
        for device in (*_meters(region), *([meter_of(region)] if self._manifest.has_intervals else [])):
            claim = KeyClaim(Holder.DEVICE, device, owner, owner)
            key = _key_of(device)
            possession = prove_possession(key, chain_id, claim)
            content = ledger_pb2.NewDevice(device=device, public_key=key.public_key, possession=possession)
            receipt = await self._submit(region, owner, "register_device", content.SerializeToString(), owner)
            assert not receipt.code, f"{device}: {receipt.code}"

    # Transactions.

    async def _submit(self, chain: str, signer: str, kind: str, content: bytes, via: str) -> Receipt:
        """The receipt of a transaction, proven from genesis."""
        genesis = self._consortium.genesis[chain]
        body = Transaction(signer, self._sequences[chain, signer], _VALID_BLOCKS, kind, content)
        self._sequences[chain, signer] += 1
        signed = sign_transaction(self._keys[signer], genesis.chain_id, body)
        digest = signed.digest(genesis.chain_id)
        submission = pb.SubmitRequest(chain_id=genesis.chain_id, transaction=signed.encoded, wait=True)
        query = pb.TransactionRequest(chain_id=genesis.chain_id, digest=digest)
        for at in self._nodes(via, f"{body} is final"):
            async with self._consortium.client(at) as client:
                try:
                    await client.call("Submit", submission, _ATTEMPT_S)
                except CallFailed:
                    await asyncio.sleep(0.1)  # It may be final all the same.
                try:
                    proof = await client.call("GetTransaction", query, _ATTEMPT_S)
                except CallFailed:
                    continue
            return verify_receipt(proof, digest, genesis, Ed25519Scheme())[1]
        raise AssertionError("unreachable")

    def _nodes(self, via: str, what: str) -> Iterator[str]:
        """One after the other, again and again; fails after a deadline."""
        deadline = time.monotonic() + PATIENCE_S
        place = ORGANIZATIONS.index(via)
        for name in cycle(islice(cycle(ORGANIZATIONS), place, place + len(ORGANIZATIONS))):
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {one}\n{self._consortium.log(one)[-2500:]}" for one in ORGANIZATIONS)
                raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}\n{logs}")
            yield name


def _in_turn(operations: tuple[Operation, ...]) -> list[list[Operation]]:
    """Those of one signer, or of one region's meters, one after another; the others beside them."""
    queues: dict[str, list[Operation]] = {}
    for operation in operations:
        queues.setdefault(_queue(operation), []).append(operation)
    return list(queues.values())


def _queue(operation: Operation) -> str:
    match operation:
        case Readings():
            return f"meters of {operation.region}"
        case Coupling():
            return STEPPER
    return operation.signer


def _are_well(replies: list[pb.StatusReply], progress: Progress) -> bool:
    """Connected, voting, healthy, beyond this, and close together."""
    connected = all(peer.connected for reply in replies for peer in reply.peers)
    chains = [chain for reply in replies for chain in reply.chains]
    sound = all(one.may_vote and one.healthy and progress.is_behind(one) for one in chains)
    heights = [[one.height for one in chains if one.name == name] for name in CHAINS]
    close = all(max(found) - min(found) <= _SAME_HEIGHT_BLOCKS for found in heights)
    registered = all(len(one.regions) == len(REGIONS) for one in chains if one.name == HUB)
    return connected and sound and close and registered


def meter_of(region: str) -> str:
    """The device that meters a region's load."""
    return f"{LOADS[region]}.withdrawn"


def _meters(region: str) -> list[str]:
    return [f"{region}-meter-{number}" for number in range(METERS)]


def _key_of(device: str) -> Ed25519Signer:
    return Ed25519Signer(hashlib.sha256(device.encode()).digest())
