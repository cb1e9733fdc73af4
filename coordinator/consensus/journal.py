"""The journal: what a validator must remember to keep its word, and what lets it resume at once.

Votes are the word. Certificates and certified blocks are not needed for safety; without them a restart of the whole
network could not go on from a block that is notarized but not final. Records are self-contained; framing, checksums
and the removal of a torn last record are the store's. A record corrupted in the middle loses votes: rejoin by
`Start(rejoin_nonce)` instead of replaying the rest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import HEADER_BYTES, Header, decode_header
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.wire import ZERO_HASH, Reader

_VOTE = struct.Struct(">BQQQ32s")
_FLOOR = struct.Struct(">QQQ")


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """A vote that this node has signed; the signature is derived again, signing is deterministic."""

    kind: VoteKind
    epoch: int
    view: int
    parent_view: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A certificate that this node has built or verified."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class CertifiedRecord:
    """The application's verdict on a block; its payload is durable."""

    header: Header
    ok: bool


@dataclass(frozen=True, slots=True)
class FloorRecord:
    """After lost records: this node must not vote in `epoch` before `view` is final.

    `nonce` is that of the start that rejoined. `next_too`: votes of the next epoch may be lost as well.
    """

    epoch: int
    view: int
    nonce: int = 0
    next_too: bool = True


Record = VoteRecord | CertificateRecord | CertifiedRecord | FloorRecord


def encode_record(record: Record) -> bytes:
    """The record's only encoding."""
    if isinstance(record, VoteRecord):
        packed = _VOTE.pack(record.kind, record.epoch, record.view, record.parent_view, record.digest)
        return b"\x01" + packed
    if isinstance(record, CertificateRecord):
        return b"\x02" + record.certificate.encode()
    if isinstance(record, CertifiedRecord):
        return b"\x03" + record.header.encode() + (b"\x01" if record.ok else b"\x00")
    packed = _FLOOR.pack(record.epoch, record.view, record.nonce)
    return b"\x04" + packed + (b"\x01" if record.next_too else b"\x00")


def decode_record(data: bytes) -> Record:
    """The record that these bytes encode; DecodeError unless they are exactly one."""
    reader = Reader(data, "record")
    kind = reader.u8("kind")
    if kind == 1:
        record: Record = _decode_vote(reader)
    elif kind == 2:
        record = CertificateRecord(decode_certificate(reader.take(reader.remaining, "certificate")))
    elif kind == 3:
        record = CertifiedRecord(decode_header(reader.take(HEADER_BYTES, "header")), _decode_flag(reader))
    elif kind == 4:
        epoch, view, nonce = _FLOOR.unpack(reader.take(_FLOOR.size, "floor"))
        record = FloorRecord(epoch, view, nonce, _decode_flag(reader))
    else:
        raise DecodeError(f"record: there is no kind {kind}")
    reader.end()
    return record


def _decode_vote(reader: Reader) -> VoteRecord:
    kind, epoch, view, parent_view, digest = _VOTE.unpack(reader.take(_VOTE.size, "vote"))
    if kind not in VoteKind._value2member_map_:
        raise DecodeError(f"record: there is no kind of vote {kind}")
    if kind == VoteKind.NULLIFY and (parent_view != 0 or digest != ZERO_HASH):
        raise DecodeError("record: a nullify vote names a block")
    if view < 1 or parent_view >= view:
        raise DecodeError(f"record: parent view {parent_view} is not below view {view}, or the view is 0")
    return VoteRecord(VoteKind(kind), epoch, view, parent_view, digest)


def _decode_flag(reader: Reader) -> bool:
    flag = reader.u8("flag")
    if flag > 1:
        raise DecodeError(f"record: the flag is {flag}, it must be 0 or 1")
    return flag == 1
