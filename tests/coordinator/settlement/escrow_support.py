"""Small worlds and short words for the tests of the escrow protocol."""

from __future__ import annotations

from dataclasses import replace

from coordinator.settlement.escrow.books import HubParameters, RegionEntry
from coordinator.settlement.escrow.encoding import decode_event, encode_event, seal
from coordinator.settlement.escrow.hub_record import open_payment
from coordinator.settlement.escrow.invariants import HubObserved, RegionObserved, check
from coordinator.settlement.escrow.memory import HubMemory, RegionMemory
from coordinator.settlement.escrow.proofs import ProvenEvent
from coordinator.settlement.escrow.renetting import collateral_account
from coordinator.settlement.escrow.scenarios import everybody_signed
from coordinator.settlement.escrow.types import (
    Authorisation,
    Decided,
    Event,
    Kind,
    Leg,
    Open,
    Opened,
    Opening,
    Receipt,
    SettlementId,
    Verdict,
)
from coordinator.settlement.escrow.world import HubChain, RegionChain, World, chain_id

HUB_CHAIN = chain_id("hub")
EUR = "EUR"
FIRST = SettlementId(1, 0)
SIGNATURE = bytes(64)


def leg(region: str, amount: int, account: bytes = b"owner", asset: str = EUR) -> Leg:
    return Leg(region, account, asset, amount)


LEGS = (leg("A", -10), leg("B", 4), leg("C", 6))


def payment(legs: tuple[Leg, ...] = LEGS, *, deadline: int = 4, nonce: int = 1, hub: bytes = HUB_CHAIN) -> Opening:
    """A payment that every owner of a debited account signed."""
    debited = sorted({(item.region, item.account) for item in legs if item.amount < 0})
    signatures = tuple(Authorisation(region, account, SIGNATURE) for region, account in debited)
    legs = tuple(sorted(legs))
    return seal(Open(hub, nonce.to_bytes(32, "big"), Kind.PAYMENT, deadline, legs, authorisations=signatures))


def hub_books(regions: str = "ABC", *, limit: int = 100, window: tuple[int, int] = (1, 10)) -> HubMemory:
    return HubMemory(
        HUB_CHAIN,
        HubParameters(window[0], window[1], 2),
        {name: RegionEntry(name, chain_id(name), 0) for name in regions},
        limits={(name, EUR): limit for name in regions},
        accounts={(collateral_account(name).decode(), EUR): limit for name in regions},
    )


def region_books(name: str, funds: int = 20, account: bytes = b"owner") -> RegionMemory:
    return RegionMemory(name, HUB_CHAIN, {(account, EUR): funds}, signed=everybody_signed)


class Chains:
    """A world that changes in place, and checks the invariants after every change."""

    def __init__(self, regions: str = "ABC", hub: HubMemory | None = None, funds: int = 20) -> None:
        chains = tuple(RegionChain(RegionObserved(region_books(name, funds))) for name in regions)
        self.world = World(HubChain(HubObserved(hub or hub_books(regions), 0)), chains)
        self.names = regions
        self.supply = self.world.supply()

    @property
    def hub(self) -> HubChain:
        return self.world.hub

    def region(self, name: str) -> RegionChain:
        return self.world.regions[self.names.index(name)]

    def put(self, world: World) -> None:
        pairs = zip((self.world.hub, *self.world.regions), (world.hub, *world.regions), strict=True)
        if all(old is new for old, new in pairs):
            return
        self.world = world
        check(world.observation(self.supply))

    def open(self, opening: Opening | None = None) -> SettlementId:
        """Open a payment in the hub's block and finish the block."""
        encoded = (opening or payment(deadline=self.hub.height + 3)).encoded
        self.put(self.world.with_hub(self.hub.after(open_payment(self.hub.books, encoded, self.hub.height))))
        sid = self.hub.books.last_sid
        assert sid is not None
        self.tick()
        return sid

    def tick(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.put(self.world.finished())

    def tick_to(self, height: int) -> None:
        """Finish blocks until this height is under construction."""
        while self.hub.height < height:
            self.tick()

    def relay_to(self, name: str, *kinds: type[Event]) -> None:
        """Give a region every final hub event of these kinds, in order; all without kinds."""
        for proven in tuple(self.hub.proofs()):
            if not kinds or isinstance(decode_event(proven.event), kinds):
                self.put(self.world.to_region(self.names.index(name), proven))

    def receipts(self, name: str, *verdicts: Verdict) -> list[ProvenEvent]:
        """Proofs of a region's receipts with these verdicts; all without verdicts."""
        proofs = list(self.region(name).proofs())
        return [item for item in proofs if not verdicts or receipt_in(item).verdict in verdicts]

    def relay_from(self, name: str, *verdicts: Verdict) -> None:
        """Give the hub the receipts of a region."""
        for proven in self.receipts(name, *verdicts):
            self.put(self.world.to_hub(proven))

    def everybody(self, *verdicts: Verdict) -> None:
        """Relay both ways until nothing changes, then finish the block."""
        for name in self.names:
            self.relay_to(name)
            self.relay_from(name, *verdicts)
        self.tick()

    def state(self, name: str, sid: SettlementId = FIRST) -> str:
        record = self.region(name).books.record(sid)
        return "NONE" if record is None else record.state.name

    def outcome(self, sid: SettlementId = FIRST) -> str:
        outcomes = [item.outcome.name for item in self.hub.observed.decided if item.sid == sid]
        return outcomes[0] if outcomes else "OPEN"

    def free(self, name: str, account: bytes = b"owner") -> int:
        return self.region(name).books.free(account, EUR)

    def set_region(self, name: str, chain: RegionChain) -> None:
        self.put(self.world.with_region(self.names.index(name), chain))

    def set_hub_books(self, books: HubMemory) -> None:
        self.put(self.world.with_hub(replace(self.hub, observed=replace(self.hub.observed, books=books))))


def receipt_in(proven: ProvenEvent) -> Receipt:
    event = decode_event(proven.event)
    assert isinstance(event, Receipt)
    return event


def proven_receipt(receipt: Receipt, *, chain: bytes | None = None, epoch: int = 0) -> ProvenEvent:
    return ProvenEvent(chain or chain_id(receipt.region), epoch, 1, encode_event(receipt))


def proven_hub(event: Event, *, chain: bytes = HUB_CHAIN, height: int | None = None) -> ProvenEvent:
    at = event.sid.height if height is None and isinstance(event, Opened | Decided) else height or 1
    return ProvenEvent(chain, 0, at, encode_event(event))
