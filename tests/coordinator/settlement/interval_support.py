"""A hub and its regions as ledgers in memory: validators do their duties, proofs are relayed, blocks made in turn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coordinator.ledger.accounts import balance
from coordinator.ledger.block import decode_payload
from coordinator.ledger.handlers import CORE
from coordinator.ledger.state import Module
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.region import RegionAgent
from coordinator.market.offers import MarketRules
from coordinator.settlement.escrow.handlers import ESCROW_HUB, ESCROW_REGION, encode_region
from coordinator.settlement.escrow.types import Closed, Decided, Opened, Receipt
from coordinator.settlement.interval.confirmations import CONFIRM_HUB, decode_confirmation, digest_of, event_payload
from coordinator.settlement.interval.decisions import Agreed, HubMessage, decode_hub_message
from coordinator.settlement.interval.hub import INTERVAL_EVENT, INTERVAL_HUB, MESSAGE, encode_message
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_duty import HubDuty, Request
from coordinator.settlement.interval.hub_party import HubKnowledge
from coordinator.settlement.interval.outages import Outage
from coordinator.settlement.interval.region import INTERVAL_REGION, OFFERS, OUTAGE
from coordinator.settlement.interval.region_duty import RegionDuty, Relayed
from coordinator.settlement.interval.region_party import RegionKnowledge
from coordinator.settlement.interval.schedules import Curve, Metered, Offers
from coordinator.settlement.interval.topics import Interval
from tests.coordinator.ledger.support import VALIDATORS, codes
from tests.coordinator.settlement.interval_chain import COLLATERAL, CREDIT, IntervalChain, event_proof
from topology.regions import RegionCut

RULES = MarketRules()
HUB_NUMBERS = {"duration_s": 3600, "step_blocks": 12, "absent_blocks": 3, "round_limit": 20, "session_intervals": 50}


@dataclass
class IntervalNet:
    """Everything for some regions of one grid. `resources`: bus of each resource, by region; alice owns them all."""

    cut: RegionCut
    resources: Sequence[dict[str, str]]
    opens_s: int
    numbers: dict[str, int] = field(default_factory=lambda: dict(HUB_NUMBERS))
    silent: set[int] = field(default_factory=set)
    unheard: set[int] = field(default_factory=set)
    """Regions whose statements nobody relays."""
    fallback: str = "zero_exchange"
    collateral: int = COLLATERAL
    """Of each region, as hub validators judge agreements by it."""
    tie_meters: dict[str, object] | None = None
    """Rules of metered exchange; none of it without."""
    tie_rows: Callable[[int, Interval], tuple[Metered, ...] | None] = field(default=lambda _number, _interval: None)
    """What a region's meters at its ends of tie-lines show of an interval, once they do."""
    idle_validators: set[tuple[int, str]] = field(default_factory=set)
    """(region number, or -1 for the hub; name) of validators that do nothing."""
    real: bool = False
    """Whether signatures are Ed25519's, as an audit demands, or quick stand-ins."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Of the regions' genesis documents."""

    def __post_init__(self) -> None:
        names = self.cut.interconnection.region_names
        secrets = [hashlib.sha256(name.encode()).digest() for name in names]
        agents = [RegionAgent(grid, RULES, secret) for grid, secret in zip(self.cut.regions, secrets, strict=True)]
        self.public = PublicNetwork(self.cut.interconnection, [agent.boundary_equivalent() for agent in agents])
        topology = self.public.topology_id.hex()
        section = {"asset": "EUR", "topology": topology, "opens_s": self.opens_s}
        windows = {"window_min": 1, "window_max": 60, "netting_window": 20}
        rules = {"collateral": COLLATERAL, "fallback": self.fallback}
        on_hub = {**section, **self.numbers, **rules, "regions": list(names)}
        on_hub["ties"] = [
            {"name": n, "from": names[a], "to": names[b], "limit_w": 10**9} for n, a, b in self.tie_ends()
        ]
        if self.tie_meters is not None:
            on_hub["tie_meters"] = self.tie_meters
        self.hub = IntervalChain(
            modules=(CORE, ESCROW_HUB, INTERVAL_HUB),
            sections={"escrow_hub": windows, "interval_hub": on_hub},
            real=self.real,
        )
        self.regions = [self._region(number, section) for number in range(len(names))]
        self._register(names)
        self.secrets = secrets
        self.forget_hub()
        self.region_duties = [self._duties(number) for number in range(len(names))]
        self._escrow_done: set[bytes] = set()
        self._texts: dict[bytes, HubMessage] = {}
        self._seen = [0] * len(names)
        self.target: Interval | None = None
        self.intervals: list[Interval] = []

    def _region(self, number: int, section: dict[str, object]) -> IntervalChain:
        resources = [{"name": name, "bus": bus, "owner": "alice"} for name, bus in self.resources[number].items()]
        name = self.cut.interconnection.region_names[number]
        escrow = {
            "region": name,
            "hub_chain_id": self.hub.chain_id.hex(),
            "hub_epoch_length": self.hub.epoch_length,
            "limits": {"EUR": CREDIT},
            "hub_validators": [self.hub.key(validator).hex() for validator in VALIDATORS],
        }
        own = {
            **section,
            "ties": [{"name": n, "owner": "bob"} for n, *ends in self.tie_ends() if number in ends],
            "duration_s": 3600,
            "gate_closure_s": 0,
            "horizon": 48,
            "imbalance_spread": 0,
            "resources": resources,
        }
        modules: tuple[Module, ...] = (CORE, ESCROW_REGION, INTERVAL_REGION)
        sections = {"escrow_region": escrow, "interval_region": own}
        return IntervalChain(modules=modules, name=name, sections=sections, real=self.real, parameters=self.parameters)

    def tie_ends(self) -> list[tuple[str, int, int]]:
        """Each tie-line and the regions at its ends."""
        public = self.cut.interconnection
        ends = (public.boundary_region[end].tolist() for end in (public.tie_from, public.tie_to))
        return list(zip(public.tie_names, *ends, strict=True))

    def _register(self, names: Sequence[str]) -> None:
        for name, region in zip(names, self.regions, strict=True):
            keys = tuple(map(region.key, VALIDATORS))
            content = encode_region(name, region.chain_id, region.epoch_length, keys, {"EUR": 10 * COLLATERAL})
            for validator in VALIDATORS[:3]:
                assert self.hub.block(("escrow_region", content), signer=validator) == [""]

    def forget_hub(self) -> None:
        """All hub validators are new, or have lost what they remembered."""
        self.hub_duties = {name: self.new_hub_duty(name) for name in VALIDATORS}

    def new_hub_duty(self, name: str) -> HubDuty:
        """Of a validator that remembers nothing."""
        known = HubKnowledge(self.public, RULES, "EUR", self.collateral, meters_ties=self.tie_meters is not None)
        return HubDuty(name, known)

    def forget(self, number: int) -> None:
        """So are those of a region."""
        self.region_duties[number] = self._duties(number)

    def _duties(self, number: int) -> dict[str, RegionDuty]:
        return {name: self.new_region_duty(number, name) for name in VALIDATORS}

    def new_region_duty(self, number: int, name: str) -> RegionDuty:
        """Of a validator that remembers nothing."""
        secret = self.secrets[number]
        known = RegionKnowledge(self.cut.regions[number], self.public, RULES, secret, "EUR", PublicationWindow())
        return RegionDuty(name, known)

    def offer(self, number: int, interval: Interval, curves: dict[str, Curve]) -> None:
        """All of a region's offers, in one block."""
        content = Offers(interval, tuple(sorted(curves.items(), key=lambda item: item[0].encode()))).encode()
        assert codes(self.regions[number].grow([("alice", (OFFERS, content))]).applied) == [""]

    def switch(self, number: int, tie: str, from_s: int, *, out: bool) -> str:
        """Bob opens or closes a region's end of a tie-line, from an interval on; what became of it."""
        content = Outage(tie, from_s, out).encode()
        return codes(self.regions[number].grow([("bob", (OUTAGE, content))]).applied)[0]

    # One block of each chain.

    def step(self) -> None:
        """What is owed, relayed and final after one more block of every chain."""
        hub_view = self.hub.state.view
        requests = [
            (name, request)
            for name, duty in self.hub_duties.items()
            if (-1, name) not in self.idle_validators
            for request in duty.owed(hub_view)
        ]
        requests += [("v0", request) for number in range(len(self.regions)) for request in self._relayed(number)]
        requests += [("v1", ("escrow_receipt", proof)) for proof in self._new_receipts()]
        finalized = self.hub.grow(requests)
        for duty in self.hub_duties.values():
            duty.on_block(finalized.block, finalized.applied.receipts, self.hub.state.view)
        for number in range(len(self.regions)):
            self._step_region(number)

    def _step_region(self, number: int) -> None:
        region, duties = self.regions[number], self.region_duties[number]
        if number in self.silent:
            return
        unseen, self._seen[number] = self.hub.blocks[self._seen[number] :], len(self.hub.blocks)
        for duty in duties.values():
            for block in unseen:
                duty.on_hub_block(block.block, block.applied.receipts)
            duty.advance(self.hub.state.view, region.state.view)
        requests = [
            (name, request)
            for name, duty in duties.items()
            if (number, name) not in self.idle_validators
            for request in (
                *duty.owed(self.hub.state.view, region.state.view, self.target),
                *self._exchange(number, duty),
            )
        ]
        requests += [("v2", ("escrow_event", proof)) for proof in self._new_hub_events(number)]
        region.grow(requests)
        for duty in duties.values():
            duty.on_region_block(region.state.header.height)

    def _exchange(self, number: int, duty: RegionDuty) -> list[Request]:
        hub, region = self.hub.state.view, self.regions[number].state.view
        requests = duty.accept(hub, region)
        for awaited in duty.awaited(hub, self.intervals):
            rows = self.tie_rows(number, awaited.interval)
            requests += [] if rows is None else duty.state_ties(region, awaited.interval, rows)
        return requests

    def _relayed(self, number: int) -> list[Request]:
        if number in self.silent | self.unheard:
            return []
        region, hub = self.regions[number], self.hub.state.view
        for name, duty in self.region_duties[number].items():
            if (number, name) in self.idle_validators:
                continue
            relayed = (duty.to_relay(hub, region.state.view), *self._of_exchange(duty, region))
            if proven := [(MESSAGE, self._proven(region, found)) for found in relayed if found is not None]:
                return proven
        return []

    def _of_exchange(self, duty: RegionDuty, region: IntervalChain) -> list[Relayed]:
        return duty.later_to_relay(self.hub.state.view, region.state.view, self.intervals)

    def _proven(self, region: IntervalChain, found: Relayed) -> bytes:
        return encode_message(event_proof(region, event_payload(found.topic, found.digest)), found.message)

    def _new_hub_events(self, number: int) -> list[bytes]:
        proofs = self.hub.proofs(Opened, Decided, Closed)
        return [proof for proof in proofs if self._once(bytes([number]) + digest_of(proof))]

    def _new_receipts(self) -> list[bytes]:
        awake = (region for number, region in enumerate(self.regions) if number not in self.silent)
        return [proof for region in awake for proof in region.proofs(Receipt) if self._once(digest_of(proof))]

    def _once(self, key: bytes) -> bool:
        if key in self._escrow_done:
            return False
        self._escrow_done.add(key)
        return True

    # Looking at it.

    def run(self, interval: Interval, limit: int = 200) -> None:
        """Until the hub has ended this interval."""
        self.target = interval
        self.intervals.append(interval)
        for _ in range(limit):
            if HubIntervals.of(self.hub.state.view).last == interval:
                return
            self.step()
        raise AssertionError(f"not ended after {limit} blocks: {HubIntervals.of(self.hub.state.view).running}")

    def neutral(self, number: int) -> int:
        """The balance of a region's neutrality account."""
        return balance(self.regions[number].state.view, "neutral", "EUR")

    def agreements(self) -> list[Agreed]:
        """All agreements on the hub, in their order."""
        found: list[Agreed] = []
        for finalized in self.hub.blocks:
            signed = decode_payload(finalized.block.payload)
            for entry, receipt in zip(signed, finalized.applied.receipts, strict=False):
                if entry.transaction.kind != CONFIRM_HUB:
                    continue
                given = decode_confirmation(entry.transaction.content)
                if given.message is not None:
                    self._texts[given.digest] = decode_hub_message(given.message)
                said = self._texts.get(given.digest)
                if isinstance(said, Agreed) and any(event.kind == INTERVAL_EVENT for event in receipt.events):
                    found.append(said)
        return found
