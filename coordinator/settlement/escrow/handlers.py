"""The escrow protocol as modules of the ledger's state machine: one for the hub, one for a region.

Hub transactions                                   Region transactions
escrow_open      the bytes of an OPEN              escrow_event     proof of a hub event
escrow_receipt   proof of a region's receipt       escrow_boundary  the hub's next boundary
escrow_boundary  a region's next boundary          escrow_suspense  account and asset: pay what is owed and fits
escrow_fork      two finalizations of a region
escrow_region    a validator's signal to register a region

A region's genesis names the hub, so the hub's cannot name regions: chain ids are hashes of genesis documents. Regions
are registered by a quorum of the hub's validators instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from coordinator.ledger import accounts
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import Rejected
from coordinator.ledger.registry import CURRENT, add_participant, committee
from coordinator.ledger.state import Module
from coordinator.ledger.view import Context
from coordinator.settlement.escrow.books import HubParameters, RegionEntry
from coordinator.settlement.escrow.encoding import REGION_BYTES_MAX
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.hub_record import accept_receipt, end_of_block, freeze, open_payment
from coordinator.settlement.escrow.ledger_books import HubLedger, RegionLedger
from coordinator.settlement.escrow.records import HubTransition
from coordinator.settlement.escrow.region_record import Moment, on_hub_event
from coordinator.settlement.escrow.region_section import LIMITS_MAX, MODULE, OPENERS_MAX, read_region_section
from coordinator.settlement.escrow.types import HASH_SIZE, HUB, NEUTRAL
from coordinator.settlement.genesis_section import number_of

_VALIDATORS_MAX = 128
_SIGNAL = b"signal/"
_NEUTRAL_KEY_DOMAIN = b"gridaccord/v1/escrow/neutral account\x00"


def encode_region(
    name: str,
    chain_id: bytes,
    epoch_length: int,
    keys: tuple[bytes, ...],
    limits: Mapping[str, int],
    openers: Sequence[str] = (),
) -> bytes:
    """The content of `escrow_region`: a region, its genesis validators, its limit per asset in micro-units.

    `openers` are participants of the hub who may submit OPENs that debit the region.
    """
    writer = Writer().text(name).raw(chain_id).uint64(epoch_length).uint32(len(keys))
    for key in keys:
        writer.raw(key)
    writer.uint32(len(limits))
    for asset in sorted(limits):
        writer.text(asset).int64(limits[asset])
    writer.uint32(len(openers))
    for opener in openers:
        writer.text(opener)
    return writer.encoded


def _on_hub(step: Callable[[HubLedger, bytes, int], HubTransition]) -> Callable[[Context, bytes], None]:
    def handler(context: Context, content: bytes) -> None:
        books = HubLedger(context)
        try:
            books.apply(step(books, content, context.block.height))
        except EscrowRefused as error:
            raise Rejected(f"escrow_{error.rule.lower()}", str(error)) from None

    return handler


def _open(books: HubLedger, content: bytes, height: int) -> HubTransition:
    return open_payment(books, content, height, books.context.signer)


def _receipt(books: HubLedger, content: bytes, height: int) -> HubTransition:
    return accept_receipt(books, books.chains.event(content), height)


def _fork(books: HubLedger, content: bytes, _height: int) -> HubTransition:
    name_size = content[0] if content else 0
    try:
        name = content[1 : 1 + name_size].decode()
    except UnicodeDecodeError:
        raise Rejected("malformed", "the name of a region is UTF-8") from None
    return freeze(books, books.chains.fork(content[1 + name_size :]), name)


def _hub_boundary(context: Context, content: bytes) -> None:
    HubLedger(context).chains.advance(content)


def _register(context: Context, content: bytes) -> None:
    """A signal for exactly these bytes; a quorum of validators of this epoch registers the region."""
    current = committee(context.view, CURRENT)
    if context.signer not in current.names:
        raise Rejected("not_validator", f"{context.signer} is not a validator of this epoch")
    name = Reader(content).text()
    if HubLedger(context).region(name) is not None:
        raise Rejected("name_taken", f"region {name[:40]!r} is registered")
    subject = _subject(content)
    context.records.put(subject + context.signer.encode(), b"\x01")
    agreeing = sum(context.records.get(subject + name.encode()) is not None for name in current.names)
    if agreeing < current.quorum:
        return
    for key, _ in tuple(context.records.items(subject)):
        context.records.delete(key)
    _registered(HubLedger(context), content)


def _subject(content: bytes) -> bytes:
    return _SIGNAL + hashlib.sha256(content).digest() + b"/"


def has_signalled(books: HubLedger, content: bytes, validator: str) -> bool:
    """Whether a signal of this validator for exactly these bytes of `escrow_region` waits for a quorum."""
    return books.records.get(_subject(content) + validator.encode()) is not None


def _registered(books: HubLedger, content: bytes) -> None:
    reader = Reader(content)
    name, chain_id, epoch_length = reader.text(), reader.raw(HASH_SIZE), reader.uint64()
    keys = tuple(reader.raw(32) for _ in range(min(reader.uint32(), _VALIDATORS_MAX)))
    limits = {reader.text(): reader.int64() for _ in range(min(reader.uint32(), LIMITS_MAX))}
    openers = tuple(reader.text() for _ in range(min(reader.uint32(), OPENERS_MAX)))
    reader.end()
    if not 0 < len(name.encode()) <= REGION_BYTES_MAX or name == HUB or books.region(name) is not None:
        raise Rejected("name_taken", f"region {name[:40]!r} is registered, reserved, or too long")
    if any(amount < 0 for amount in limits.values()):
        raise Rejected("bad_amount", f"a limit of {name} is negative")
    if "" in openers:
        raise Rejected("bad_name", f"an opener of {name} has no name")
    books.chains.follow(chain_id, epoch_length, keys)
    books.put_region(RegionEntry(name, chain_id, 0, openers=openers))
    for asset, amount in limits.items():
        books.put_limit(name, asset, amount)


def _hub_end_of_block(context: Context) -> None:
    books = HubLedger(context)
    while (step := end_of_block(books, context.block.height)) is not None:
        books.apply(step)


def _hub_genesis(context: Context, section: Mapping[str, object]) -> None:
    HubLedger(context).put_parameters(
        HubParameters(*(number_of(section, name, MODULE) for name in ("window_min", "window_max", "netting_window")))
    )


def _region_event(context: Context, content: bytes) -> None:
    books = RegionLedger(context)
    moment = Moment(context.block.height, context.block.epoch)
    try:
        books.apply(on_hub_event(books, books.chains.event(content), moment))
    except EscrowRefused as error:
        raise Rejected(f"escrow_{error.rule.lower()}", str(error)) from None


def _region_suspense(context: Context, content: bytes) -> None:
    reader = Reader(content)
    account, asset = reader.text(), reader.text()
    reader.end()
    RegionLedger(context).pay_suspense(account.encode(), asset)


def _region_boundary(context: Context, content: bytes) -> None:
    RegionLedger(context).chains.advance(content)


def _region_genesis(context: Context, section: Mapping[str, object]) -> None:
    books, found = RegionLedger(context), read_region_section(section)
    books.chains.follow(found.hub_chain_id, found.hub_epoch_length, found.hub_validators)
    books.put_name(found.region, found.hub_chain_id)
    _open_neutral_account(context, found.limits)


def _open_neutral_account(context: Context, limits: Mapping[str, int]) -> None:
    """The account that nettings debit and credit. Its name is taken and nobody can sign for it: its key is a digest,
    to which no private key is known. It owes at most what the region may owe the others."""
    name = NEUTRAL.decode()
    add_participant(context.view, name, hashlib.sha256(_NEUTRAL_KEY_DOMAIN).digest())
    for asset, limit in limits.items():
        accounts.set_credit_limit(context.view, asset, name, limit)


ESCROW_HUB = Module(
    name="escrow_hub",
    handlers={
        "escrow_open": _on_hub(_open),
        "escrow_receipt": _on_hub(_receipt),
        "escrow_fork": _on_hub(_fork),
        "escrow_region": _register,
        "escrow_boundary": _hub_boundary,
    },
    end_of_block=_hub_end_of_block,
    genesis=_hub_genesis,
)
"""The hub's part of the protocol."""

ESCROW_REGION = Module(
    name="escrow_region",
    handlers={
        "escrow_event": _region_event,
        "escrow_boundary": _region_boundary,
        "escrow_suspense": _region_suspense,
    },
    genesis=_region_genesis,
)
"""A region's part of the protocol."""
