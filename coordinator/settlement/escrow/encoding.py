"""The one byte form of OPENs and events. What is signed or hashed is kept as the bytes that came; decoders are strict.

Big-endian, fixed width, text and byte strings behind their length (`coordinator.ledger.codec`). Anything else than
the one encoding of a value raises DecodeError, and no decoder reads more than its stated bounds.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from enum import Enum
from typing import TypeVar

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import Reader, Writer
from coordinator.settlement.escrow.types import (
    AMOUNT_MAX,
    HASH_SIZE,
    HEIGHT_MAX,
    SIGNATURE_SIZE,
    Authorisation,
    Closed,
    Decided,
    Event,
    Kind,
    Leg,
    Open,
    Opened,
    Opening,
    Outcome,
    Receipt,
    Replaced,
    SettlementId,
    Verdict,
)

LEGS_MAX = 256
OPEN_BYTES_MAX = 2**16 - 256
EVENT_BYTES_MAX = 2**16 - 1
REGION_BYTES_MAX = 32
ACCOUNT_BYTES_MAX = 64
ASSET_BYTES_MAX = 16
SID_SIZE = 12

_OPEN_MAGIC = b"GAEO\x01"
_EVENT_MAGIC = b"GAEV\x01"
_BODY_DOMAIN = b"gridaccord/v1/escrow/body\x00"
_AUTHORISATION_DOMAIN = b"gridaccord/v1/escrow/authorise\x00"
_OPENED, _DECIDED, _CLOSED, _RECEIPT = b"\x01", b"\x02", b"\x03", b"\x04"
_E = TypeVar("_E", bound=Enum)


def authorisation_bytes(body_digest: bytes) -> bytes:
    """What the owner of a debited account signs."""
    return _AUTHORISATION_DOMAIN + body_digest


def body_digest(opening: Open) -> bytes:
    """SHA-256 of everything but the authorisations: what owners sign, and what the hub opens once."""
    return hashlib.sha256(_BODY_DOMAIN + _body(opening)).digest()


def seal(opening: Open) -> Opening:
    """An OPEN with its bytes. Raises DecodeError where those who read it would."""
    writer = Writer().raw(_body(opening)).uint32(len(opening.authorisations))
    for item in opening.authorisations:
        writer.text(item.region).bytes(item.account).raw(item.signature)
    return decode_open(writer.encoded)


def _body(opening: Open) -> bytes:
    writer = Writer().raw(_OPEN_MAGIC).raw(opening.hub_chain_id).raw(opening.nonce).raw(bytes([opening.kind.value]))
    writer.uint64(opening.deadline_height).flag(opening.replaces is not None)
    if opening.replaces is not None:
        writer.raw(encode_sid(opening.replaces.sid)).raw(opening.replaces.open_digest)
    writer.uint32(len(opening.legs))
    for leg in opening.legs:
        write_leg(writer, leg)
    return writer.encoded


def decode_open(data: bytes) -> Opening:
    """Take an OPEN apart."""
    if len(data) > OPEN_BYTES_MAX:
        raise DecodeError(f"an OPEN has {len(data)} bytes; send at most {OPEN_BYTES_MAX}")
    reader = Reader(data)
    _magic(reader, _OPEN_MAGIC)
    hub_chain_id, nonce = reader.raw(HASH_SIZE), reader.raw(HASH_SIZE)
    kind, deadline = _enum(reader, Kind), read_height(reader)
    replaces = Replaced(read_sid(reader), reader.raw(HASH_SIZE)) if reader.flag() else None
    legs = tuple(read_leg(reader) for _ in range(_count(reader)))
    _ascending([(leg.region, leg.account, leg.asset) for leg in legs], "legs")
    authorisations = tuple(_authorisation(reader) for _ in range(_count(reader)))
    _ascending([(item.region, item.account) for item in authorisations], "authorisations")
    reader.end()
    value = Open(hub_chain_id, nonce, kind, deadline, legs, replaces, authorisations)
    return Opening(value, data, body_digest(value))


def _authorisation(reader: Reader) -> Authorisation:
    return Authorisation(read_region(reader), read_account(reader), reader.raw(SIGNATURE_SIZE))


def encode_event(event: Event) -> bytes:
    """The bytes that stand in a block's receipts tree."""
    writer = Writer().raw(_EVENT_MAGIC)
    match event:
        case Opened(sid, opening):
            writer.raw(_OPENED).raw(encode_sid(sid)).raw(opening.encoded)
        case Decided(sid, open_digest, outcome, participants):
            writer.raw(_DECIDED).raw(encode_sid(sid)).raw(open_digest).raw(bytes([outcome.value]))
            writer.uint32(len(participants))
            for region in participants:
                writer.text(region)
        case Closed(watermark):
            writer.raw(_CLOSED).raw(encode_sid(watermark))
        case Receipt(hub_chain_id, region, verdict, sid, open_digest, epoch):
            writer.raw(_RECEIPT).raw(hub_chain_id).text(region).raw(bytes([verdict.value]))
            writer.raw(encode_sid(sid)).raw(open_digest).uint64(epoch)
    return writer.encoded


def decode_event(data: bytes) -> Event:
    """Take an event apart."""
    if len(data) > EVENT_BYTES_MAX:
        raise DecodeError(f"an event has {len(data)} bytes; send at most {EVENT_BYTES_MAX}")
    reader = Reader(data)
    _magic(reader, _EVENT_MAGIC)
    tag = reader.raw(1)
    if tag == _OPENED:
        return Opened(read_sid(reader), decode_open(data[len(_EVENT_MAGIC) + 1 + SID_SIZE :]))
    event: Event
    if tag == _DECIDED:
        sid, open_digest, outcome = read_sid(reader), reader.raw(HASH_SIZE), _enum(reader, Outcome)
        participants = tuple(read_region(reader) for _ in range(_count(reader)))
        _ascending([(region,) for region in participants], "participants")
        event = Decided(sid, open_digest, outcome, participants)
    elif tag == _CLOSED:
        event = Closed(read_sid(reader))
    elif tag == _RECEIPT:
        chain, region, verdict = reader.raw(HASH_SIZE), read_region(reader), _enum(reader, Verdict)
        event = Receipt(chain, region, verdict, read_sid(reader), reader.raw(HASH_SIZE), read_height(reader))
    else:
        raise DecodeError(f"an event is of kind {tag[0]}; this version knows 1 to 4")
    reader.end()
    return event


def encode_sid(sid: SettlementId) -> bytes:
    """Twelve bytes that sort as ids do."""
    return Writer().uint64(sid.height).uint32(sid.index).encoded


def read_sid(reader: Reader) -> SettlementId:
    """A settlement id."""
    return SettlementId(read_height(reader), reader.uint32())


def read_height(reader: Reader) -> int:
    """A height or an epoch: an unsigned number that stays in int64."""
    value = reader.uint64()
    if value > HEIGHT_MAX:
        raise DecodeError(f"a height or epoch is {value}; it is at most {HEIGHT_MAX}")
    return value


def write_leg(writer: Writer, leg: Leg) -> None:
    """Append a leg. An amount beyond int64 is refused here as it is by readers."""
    if not -AMOUNT_MAX <= leg.amount <= AMOUNT_MAX:
        raise DecodeError(f"a leg of {leg.region} moves {leg.amount}; amounts are at most {AMOUNT_MAX} either way")
    writer.text(leg.region).bytes(leg.account).text(leg.asset).int64(leg.amount)


def read_leg(reader: Reader) -> Leg:
    """A leg."""
    region, account = read_region(reader), read_account(reader)
    asset, amount = _bounded(reader.text(), ASSET_BYTES_MAX, "asset"), reader.int64()
    if amount < -AMOUNT_MAX:
        raise DecodeError(f"a leg of {region} moves {amount}; amounts are at most {AMOUNT_MAX} either way")
    return Leg(region, account, asset, amount)


def read_region(reader: Reader) -> str:
    """The name of a region."""
    return _bounded(reader.text(), REGION_BYTES_MAX, "region")


def read_account(reader: Reader) -> bytes:
    """The name of an account."""
    value = reader.bytes()
    if not 0 < len(value) <= ACCOUNT_BYTES_MAX:
        raise DecodeError(f"an account has {len(value)} bytes; use 1 to {ACCOUNT_BYTES_MAX}")
    return value


def _bounded(value: str, limit: int, name: str) -> str:
    if not 0 < len(value.encode()) <= limit:
        raise DecodeError(f"the name of a {name} has {len(value.encode())} bytes; use 1 to {limit}")
    return value


def _count(reader: Reader) -> int:
    count = reader.uint32()
    if count > LEGS_MAX:
        raise DecodeError(f"a list has {count} entries; send at most {LEGS_MAX}")
    return count


def _ascending(keys: Sequence[tuple[str] | tuple[str, bytes] | tuple[str, bytes, str]], name: str) -> None:
    if any(not first < second for first, second in itertools.pairwise(keys)):
        raise DecodeError(f"{name} do not ascend strictly; sort them and name each once")


def _magic(reader: Reader, magic: bytes) -> None:
    if reader.raw(len(magic)) != magic:
        raise DecodeError(f"bytes do not begin with {magic!r}; send what this version writes")


def _enum(reader: Reader, kind: type[_E]) -> _E:
    value = reader.raw(1)[0]
    try:
        return kind(value)
    except ValueError:
        raise DecodeError(f"a {kind.__name__} is {value}; this version does not know it") from None
