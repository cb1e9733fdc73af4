"""The byte form in which a ledger keeps the records of hub and regions. Strict, as everything that is hashed."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import TypeVar

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.codec import Reader, Writer
from coordinator.settlement.escrow.encoding import LEGS_MAX, decode_open, read_leg, write_leg
from coordinator.settlement.escrow.records import HubRecord, RegionRecord, RegionState, Vote
from coordinator.settlement.escrow.types import HASH_SIZE, Kind, Outcome, Reason, SettlementId, Verdict

_E = TypeVar("_E", bound=Enum)
_DECODED_MAX = 512
"""More than are unclosed at once: each OPEN looks at all of them, and so does each relay after each block."""


def encode_hub_record(record: HubRecord) -> bytes:
    """All but the id, which is its key."""
    writer = Writer().bytes(record.opening.encoded)
    for vote in record.votes:
        _maybe(writer, None if vote is None else vote.verdict).uint64(0 if vote is None else vote.height)
    for done in record.applied:
        writer.flag(done)
    _maybe(_maybe(writer, record.outcome), record.reason).uint64(record.decided_height or 0)
    return writer.text(record.signer).encoded


@lru_cache(maxsize=_DECODED_MAX)
def decode_hub_record(sid: SettlementId, data: bytes) -> HubRecord:
    """Raises DecodeError."""
    reader = Reader(data)
    opening = decode_open(reader.bytes())
    participants = opening.open.participants
    votes = tuple(_votes(reader, len(participants)))
    applied = tuple(reader.flag() for _ in participants)
    outcome, reason, height = _read(reader, Outcome), _read(reader, Reason), reader.uint64()
    signer = reader.text()
    reader.end()
    if (outcome is None) != (reason is None) or (outcome is None and height):
        raise DecodeError(f"settlement {sid} is half decided")
    return HubRecord(sid, opening, votes, applied, outcome, reason, height if outcome else None, signer)


def _votes(reader: Reader, count: int) -> Iterator[Vote | None]:
    for _ in range(count):
        verdict, height = _read(reader, Verdict), reader.uint64()
        if verdict is None and height:
            raise DecodeError("a vote that was not given has a height")
        yield None if verdict is None else Vote(verdict, height)


def encode_region_record(record: RegionRecord) -> bytes:
    """All but the id, which is its key."""
    writer = Writer().raw(record.open_digest)
    _maybe(_maybe(_maybe(writer, record.state), record.verdict), record.kind)
    writer.uint64(record.epoch).uint64(record.applied_epoch).uint64(record.in_doubt_since).bytes(record.nonce)
    writer.uint32(len(record.legs))
    for leg in record.legs:
        write_leg(writer, leg)
    return writer.encoded


def decode_region_record(sid: SettlementId, data: bytes) -> RegionRecord:
    """Raises DecodeError."""
    reader = Reader(data)
    digest, state, verdict = reader.raw(HASH_SIZE), _read(reader, RegionState), _read(reader, Verdict)
    kind = _read(reader, Kind)
    epoch, applied_epoch, since, nonce = reader.uint64(), reader.uint64(), reader.uint64(), reader.bytes()
    count = reader.uint32()
    if state is None or kind is None or count > LEGS_MAX:
        raise DecodeError(f"the record of {sid} has no state, no kind or {count} legs")
    legs = tuple(read_leg(reader) for _ in range(count))
    reader.end()
    return RegionRecord(sid, digest, state, verdict, epoch, applied_epoch, since, kind, nonce, legs)


def _maybe(writer: Writer, value: Enum | None) -> Writer:
    return writer.raw(bytes([0 if value is None else value.value]))


def _read(reader: Reader, kind: type[_E]) -> _E | None:
    value = reader.raw(1)[0]
    try:
        return kind(value) if value else None
    except ValueError:
        raise DecodeError(f"a {kind.__name__} is {value}; this version does not know it") from None
