"""The small worlds of the model: one settlement of three regions, and what may go wrong beside the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.settlement.escrow.admission import reserve
from coordinator.settlement.escrow.books import HubParameters, RegionEntry
from coordinator.settlement.escrow.encoding import encode_event, seal
from coordinator.settlement.escrow.hub_record import open_netting, open_payment
from coordinator.settlement.escrow.invariants import HubObserved, RegionObserved
from coordinator.settlement.escrow.memory import HubMemory, RegionMemory
from coordinator.settlement.escrow.renetting import collateral_account
from coordinator.settlement.escrow.types import (
    HASH_SIZE,
    NEUTRAL,
    SIGNATURE_SIZE,
    Authorisation,
    Kind,
    Leg,
    Open,
    Receipt,
    SettlementId,
    Verdict,
)
from coordinator.settlement.escrow.world import HubChain, Published, RegionChain, World, chain_id

HUB_CHAIN = chain_id("hub")
ASSET = "EUR"
SHOP = b"shop"
NONCE = bytes(HASH_SIZE)
LIMIT = 100
FUNDS = 12


@dataclass(frozen=True, slots=True)
class Scenario:
    """One settlement. Places are indices of regions; -1 is nobody.

    `spender` may pay its money away before it sees the OPEN. `mover` may change its epoch, once. `equivocator`'s chain
    forks and says NO as well. Leaders of even hub heights leave out receipts of `censored`. In a `short` world only the
    first settlement can miss its deadline, and the search ends when all is applied, before records are closed.
    """

    name: str
    amounts: tuple[int, ...]
    kind: Kind = Kind.PAYMENT
    window_blocks: int = 2
    spender: int = -1
    mover: int = -1
    equivocator: int = -1
    censored: int = -1
    short: bool = False


SCENARIOS = (
    Scenario("payment", (-10, 4, 6), spender=0),
    Scenario("two payers", (-5, -5, 10), spender=1, window_blocks=1),
    Scenario("epoch", (-10, 4, 6), mover=1, window_blocks=1),
    Scenario("equivocation", (-10, 4, 6), equivocator=1, window_blocks=1),
    Scenario("censorship", (-10, 4, 6), censored=0, window_blocks=3),
    Scenario("netting", (-10, 4, 6), kind=Kind.NETTING, window_blocks=1, short=True),
)

LARGE_SCENARIOS = (Scenario("netting, spent", (-10, 4, 6), Kind.NETTING, window_blocks=1, spender=0, short=True),)
"""Minutes rather than seconds."""


def everybody_signed(_account: bytes, _message: bytes, _signature: bytes) -> bool:
    """Signatures are not what the model is about."""
    return True


def names(scenario: Scenario) -> tuple[str, ...]:
    """The regions: A, B, C."""
    return tuple("ABCDEFGH"[: len(scenario.amounts)])


def build(scenario: Scenario) -> World:
    """The world after the hub's block that holds the OPEN."""
    account = NEUTRAL if scenario.kind is Kind.NETTING else b"owner"
    pairs = tuple(zip(names(scenario), scenario.amounts, strict=True))
    legs = tuple(Leg(name, account, ASSET, amount) for name, amount in pairs)
    hub = _open(_hub(names(scenario), scenario.window_blocks), legs, scenario.kind)
    regions = []
    for name, amount in pairs:
        mandates = {(NONCE, NEUTRAL, ASSET): amount} if scenario.kind is Kind.NETTING else {}
        balances = {(account, ASSET): FUNDS, (SHOP, ASSET): 0}
        books = RegionMemory(name, HUB_CHAIN, balances, mandates=mandates, signed=everybody_signed)
        regions.append(RegionChain(RegionObserved(books)))
    if scenario.equivocator >= 0:
        place = scenario.equivocator
        regions[place] = replace(regions[place], strays=(_stray_no(hub, names(scenario)[place]),))
    return World(hub.finished(), tuple(regions))


def _hub(regions: tuple[str, ...], window_blocks: int) -> HubChain:
    books = HubMemory(
        HUB_CHAIN,
        HubParameters(1, window_blocks, window_blocks),
        {name: RegionEntry(name, chain_id(name), 0) for name in regions},
        limits={(name, ASSET): LIMIT for name in regions},
        accounts={(collateral_account(name).decode(), ASSET): LIMIT for name in regions},
    )
    return HubChain(HubObserved(books, 0))


def _open(hub: HubChain, legs: tuple[Leg, ...], kind: Kind) -> HubChain:
    if kind is Kind.NETTING:
        for leg in legs:
            if leg.amount < 0:
                hub = hub.after(reserve(hub.books, NONCE, leg.region, leg.asset, -leg.amount))
        return hub.after(open_netting(hub.books, NONCE, legs, hub.height))
    signatures = tuple(Authorisation(leg.region, leg.account, bytes(SIGNATURE_SIZE)) for leg in legs if leg.amount < 0)
    deadline = hub.height + hub.books.parameters.window_max_blocks
    opening = seal(Open(HUB_CHAIN, NONCE, kind, deadline, legs, authorisations=signatures))
    return hub.after(open_payment(hub.books, opening.encoded, hub.height))


def _stray_no(hub: HubChain, region: str) -> Published:
    sid = SettlementId(1, 0)
    digest = hub.books.records[sid].opening.digest
    return Published(1, encode_event(Receipt(HUB_CHAIN, region, Verdict.NO, sid, digest, 0)))
