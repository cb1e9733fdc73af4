"""A payment from one region to another: the OPEN that an owner signs, and what became of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

from coordinator.consensus.signing import Ed25519Scheme, Signer
from coordinator.ledger.genesis import Genesis, machine_of, start
from coordinator.ledger.receipt import Receipt
from coordinator.service.errors import ConfigurationError
from coordinator.service.home import Home
from coordinator.service.modules import MODULES
from coordinator.settlement.escrow.books import HubParameters
from coordinator.settlement.escrow.chains import ESCROW_EVENT
from coordinator.settlement.escrow.encoding import authorisation_bytes, decode_event, seal
from coordinator.settlement.escrow.finalized import hub_books
from coordinator.settlement.escrow.registration import is_hub
from coordinator.settlement.escrow.types import (
    AMOUNT_MAX,
    Authorisation,
    Kind,
    Leg,
    Open,
    Opened,
    Opening,
    SettlementId,
)
from protos.gridaccord.v1 import service_pb2 as pb

_INCLUSION_BLOCKS = 20
"""Hub blocks that may pass before the OPEN stands in one."""


@dataclass(frozen=True, slots=True)
class Payment:
    """What an owner wants: `amount` micro-units from its account in one region to an account in another."""

    owner: str
    source: str
    target: str
    account: str
    asset: str
    amount: int


def hub_of(home: Home) -> Genesis:
    """The genesis of the hub that a folder's node is part of. Raises ConfigurationError."""
    found = [home.genesis(chain.name) for chain in (*home.settings.chains, *home.settings.follows)]
    hubs = [genesis for genesis in found if is_hub(genesis)]
    if not hubs:
        raise ConfigurationError(f"{home.path}: none of its chains is a hub; pay from the folder of a node that has it")
    return hubs[0]


def payment(owner: str, source: str, target: str, asset: str, amount: int) -> Payment:
    """Raises ConfigurationError where the target is not REGION:ACCOUNT or the amount cannot be."""
    region, separator, account = target.partition(":")
    if not (region and separator and account):
        raise ConfigurationError(f"{target}: whom to pay is REGION:ACCOUNT")
    if region == source:
        raise ConfigurationError(f"{source} pays itself; within a region use submit transfer")
    if not 0 < amount <= AMOUNT_MAX:
        raise ConfigurationError(f"an amount of {amount}; it is positive and fits int64")
    return Payment(owner, source, region, account, asset, amount)


def sign_payment(wanted: Payment, hub: Genesis, height: int, signer: Signer, window_blocks: int = 0) -> Opening:
    """The OPEN, signed by its owner, for a hub that is at this height. Raises DecodeError.

    `window_blocks` is how long the regions have to agree; 0: as long as with a netting.
    """
    legs = (
        Leg(wanted.source, wanted.owner.encode(), wanted.asset, -wanted.amount),
        Leg(wanted.target, wanted.account.encode(), wanted.asset, wanted.amount),
    )
    deadline = height + (window_blocks or _window_blocks(_parameters(hub)))
    body = Open(hub.chain_id, secrets.token_bytes(32), Kind.PAYMENT, deadline, tuple(sorted(legs)))
    signature = signer.sign(authorisation_bytes(seal(body).body_digest))
    authorisation = Authorisation(wanted.source, wanted.owner.encode(), signature)
    return seal(replace(body, authorisations=(authorisation,)))


def _parameters(hub: Genesis) -> HubParameters:
    return hub_books(start(hub, machine_of(hub, MODULES, Ed25519Scheme()))).parameters


def _window_blocks(parameters: HubParameters) -> int:
    """As long as a netting has, and not so short that the OPEN is too late when a block takes it."""
    wanted = max(parameters.netting_window_blocks, parameters.window_min_blocks + _INCLUSION_BLOCKS)
    return min(wanted, parameters.window_max_blocks)


def opened_in(receipt: Receipt) -> SettlementId:
    """The settlement that a transaction opened."""
    events = [decode_event(event.payload) for event in receipt.events if event.kind == ESCROW_EVENT]
    (opened,) = [event for event in events if isinstance(event, Opened)]
    return opened.sid


def is_done(reply: pb.SettlementReply) -> bool:
    """Whether a settlement is decided, and applied in every region."""
    return reply.closed or (reply.state != "open" and all(one.applied for one in reply.participants))


def refusal(reply: pb.SettlementReply) -> str:
    """Why a settlement was aborted."""
    return f"{reply.reason or 'closed'}: {', '.join(_said(reply.participants)) or 'nobody said no'}"


def _said(participants: Iterable[pb.SettlementParticipant]) -> list[str]:
    return [f"{one.region} said {one.verdict or 'nothing'}" for one in participants if one.verdict != "yes"]
