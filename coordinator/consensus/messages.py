"""Messages between validators and their bytes: one tag byte, then fixed-width fields.

`decode` raises DecodeError and nothing else, refuses more than MAX_MESSAGE_BYTES before looking at them, and allocates
less than 8 times the length of its input plus 16 KiB. The sender of a message is known from the transport, which
authenticates it by its key; the chain is known from the connection and, for votes, from what they sign.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.consensus.certificate import MAX_CERTIFICATE_BYTES, Certificate, decode_certificate
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import HEADER_BYTES, Header, decode_header
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.wire import SIGNATURE_BYTES, ZERO_HASH, Reader, sized

MAX_PAYLOAD_BYTES = 4 << 20
MAX_HEADERS = 256
MAX_JUSTIFICATION = 5
MAX_MESSAGE_BYTES = max(MAX_PAYLOAD_BYTES, MAX_HEADERS * HEADER_BYTES + 8 * MAX_CERTIFICATE_BYTES) + 1024


@dataclass(frozen=True, slots=True)
class Vote:
    """The sender's vote; a nullify vote has parent view 0 and a zero digest."""

    kind: VoteKind
    epoch: int
    view: int
    parent_view: int
    digest: bytes
    signature: bytes

    @property
    def value(self) -> tuple[int, bytes]:
        """What is voted for: parent view and digest."""
        return self.parent_view, self.digest


@dataclass(frozen=True, slots=True)
class Proposal:
    """The leader's block for a view, with its notarize vote and certificates on which the block's ancestry rests."""

    epoch: int
    view: int
    parent_view: int
    header: Header
    signature: bytes
    justification: tuple[Certificate, ...] = ()

    @property
    def value(self) -> tuple[int, bytes]:
        """What is proposed: parent view and digest."""
        return self.parent_view, self.header.digest


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for the best certificate that settles a view."""

    epoch: int
    view: int


@dataclass(frozen=True, slots=True)
class GetBlock:
    """Asks for a header by its digest."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class GetPayload:
    """Asks for payload bytes by their digest."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class GetRange:
    """Asks for finalized headers from a height on."""

    from_height: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Headers in ascending order, each the parent of the next, and the finalization of the last if it was asked for."""

    headers: tuple[Header, ...]
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class Payload:
    """A block's payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """Where the sender stands, and the protocol versions that it speaks."""

    chain_id: bytes
    epoch: int
    view: int
    final_view: int
    lowest_version: int
    highest_version: int


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """A validator that lost records asks in which view its peers are; the nonce is of this start."""

    epoch: int
    nonce: int


@dataclass(frozen=True, slots=True)
class ViewReply:
    """The answer: the sender's view, proved by a certificate of the view before (None in view 1)."""

    epoch: int
    nonce: int
    view: int
    certificate: Certificate | None


Message = (
    Vote
    | Proposal
    | Certificate
    | Want
    | GetBlock
    | GetPayload
    | GetRange
    | Blocks
    | Payload
    | Hello
    | ViewRequest
    | ViewReply
)

_VOTE = struct.Struct(f">BQQQ32s{SIGNATURE_BYTES}s")
_PROPOSAL = struct.Struct(f">QQQ{SIGNATURE_BYTES}sB")
_PAIR = struct.Struct(">QQ")
_HELLO = struct.Struct(">32sQQQHH")
_REPLY = struct.Struct(">QQQ")


def encode(message: Message) -> bytes:
    """The message's only encoding."""
    tag = _TAGS[type(message)]
    return bytes((tag,)) + _ENCODERS[tag](message)


def decode(data: bytes) -> Message:
    """The message that these bytes encode; DecodeError unless they are exactly one."""
    if not data:
        raise DecodeError("message: no bytes")
    if len(data) > MAX_MESSAGE_BYTES:
        raise DecodeError(f"message: {len(data)} bytes are more than the limit of {MAX_MESSAGE_BYTES}")
    decoder = _DECODERS.get(data[0])
    if decoder is None:
        raise DecodeError(f"message: there is no kind {data[0]}")
    reader = Reader(data, decoder.__name__.removeprefix("_decode_"))
    reader.u8("kind")
    message = decoder(reader)
    reader.end()
    return message


def _encode_vote(vote: Vote) -> bytes:
    return _VOTE.pack(vote.kind, vote.epoch, vote.view, vote.parent_view, vote.digest, vote.signature)


def _decode_vote(reader: Reader) -> Vote:
    kind, epoch, view, parent_view, digest, signature = _VOTE.unpack(reader.take(_VOTE.size, "vote"))
    if kind not in VoteKind._value2member_map_:
        raise DecodeError(f"vote: there is no kind {kind}")
    if kind == VoteKind.NULLIFY and (parent_view != 0 or digest != ZERO_HASH):
        raise DecodeError("vote: a nullify vote names a block")
    _check_views(view, parent_view)
    return Vote(VoteKind(kind), epoch, view, parent_view, digest, signature)


def _check_views(view: int, parent_view: int) -> None:
    if view < 1 or parent_view >= view:
        raise DecodeError(f"vote: parent view {parent_view} is not below view {view}, or the view is 0")


def _encode_proposal(proposal: Proposal) -> bytes:
    head = _PROPOSAL.pack(
        proposal.epoch, proposal.view, proposal.parent_view, proposal.signature, len(proposal.justification)
    )
    certificates = (sized(certificate.encode()) for certificate in proposal.justification)
    return b"".join((head, proposal.header.encode(), *certificates))


def _decode_proposal(reader: Reader) -> Proposal:
    epoch, view, parent_view, signature, count = _PROPOSAL.unpack(reader.take(_PROPOSAL.size, "head"))
    if view < 1 or count > MAX_JUSTIFICATION:
        raise DecodeError(f"proposal: view {view} with {count} certificates, the limit is {MAX_JUSTIFICATION}")
    header = decode_header(reader.take(HEADER_BYTES, "header"))
    justification = tuple(_certificate(reader) for _ in range(count))
    return Proposal(epoch, view, parent_view, header, signature, justification)


def _certificate(reader: Reader) -> Certificate:
    return decode_certificate(reader.sized(MAX_CERTIFICATE_BYTES, "certificate"))


def _optional(certificate: Certificate | None) -> bytes:
    return b"\x00" if certificate is None else b"\x01" + sized(certificate.encode())


def _decode_optional(reader: Reader) -> Certificate | None:
    flag = reader.u8("flag of the certificate")
    if flag > 1:
        raise DecodeError(f"message: the flag of a certificate is {flag}, it must be 0 or 1")
    return _certificate(reader) if flag else None


def _encode_certificate(certificate: Certificate) -> bytes:
    return certificate.encode()


def _decode_certificate(reader: Reader) -> Certificate:
    return decode_certificate(reader.take(reader.remaining, "certificate"))


def _encode_want(want: Want) -> bytes:
    return _PAIR.pack(want.epoch, want.view)


def _decode_want(reader: Reader) -> Want:
    return Want(*_PAIR.unpack(reader.take(_PAIR.size, "want")))


def _encode_digest(request: GetBlock | GetPayload) -> bytes:
    return request.digest


def _decode_get_block(reader: Reader) -> GetBlock:
    return GetBlock(reader.hash("digest"))


def _decode_get_payload(reader: Reader) -> GetPayload:
    return GetPayload(reader.hash("digest"))


def _encode_get_range(request: GetRange) -> bytes:
    return request.from_height.to_bytes(8, "big")


def _decode_get_range(reader: Reader) -> GetRange:
    return GetRange(reader.u64("height"))


def _encode_blocks(blocks: Blocks) -> bytes:
    headers = (header.encode() for header in blocks.headers)
    return b"".join((len(blocks.headers).to_bytes(2, "big"), *headers, _optional(blocks.certificate)))


def _decode_blocks(reader: Reader) -> Blocks:
    count = reader.u16("count")
    if not 1 <= count <= MAX_HEADERS:
        raise DecodeError(f"blocks: {count} headers, there are 1 to {MAX_HEADERS}")
    headers = tuple(decode_header(reader.take(HEADER_BYTES, "header")) for _ in range(count))
    return Blocks(headers, _decode_optional(reader))


def _encode_payload(message: Payload) -> bytes:
    return message.payload


def _decode_payload(reader: Reader) -> Payload:
    if reader.remaining > MAX_PAYLOAD_BYTES:
        raise DecodeError(f"payload: {reader.remaining} bytes are more than the limit of {MAX_PAYLOAD_BYTES}")
    return Payload(reader.take(reader.remaining, "bytes"))


def _encode_hello(hello: Hello) -> bytes:
    return _HELLO.pack(
        hello.chain_id, hello.epoch, hello.view, hello.final_view, hello.lowest_version, hello.highest_version
    )


def _decode_hello(reader: Reader) -> Hello:
    return Hello(*_HELLO.unpack(reader.take(_HELLO.size, "hello")))


def _encode_view_request(request: ViewRequest) -> bytes:
    return _PAIR.pack(request.epoch, request.nonce)


def _decode_view_request(reader: Reader) -> ViewRequest:
    return ViewRequest(*_PAIR.unpack(reader.take(_PAIR.size, "request")))


def _encode_view_reply(reply: ViewReply) -> bytes:
    return _REPLY.pack(reply.epoch, reply.nonce, reply.view) + _optional(reply.certificate)


def _decode_view_reply(reader: Reader) -> ViewReply:
    epoch, nonce, view = _REPLY.unpack(reader.take(_REPLY.size, "reply"))
    return ViewReply(epoch, nonce, view, _decode_optional(reader))


_TAGS: dict[type, int] = {
    Vote: 1,
    Proposal: 2,
    Certificate: 3,
    Want: 4,
    GetBlock: 5,
    GetPayload: 6,
    GetRange: 7,
    Blocks: 8,
    Payload: 9,
    Hello: 10,
    ViewRequest: 11,
    ViewReply: 12,
}
_ENCODERS: dict[int, Callable[..., bytes]] = {
    1: _encode_vote,
    2: _encode_proposal,
    3: _encode_certificate,
    4: _encode_want,
    5: _encode_digest,
    6: _encode_digest,
    7: _encode_get_range,
    8: _encode_blocks,
    9: _encode_payload,
    10: _encode_hello,
    11: _encode_view_request,
    12: _encode_view_reply,
}
_DECODERS: dict[int, Callable[[Reader], Message]] = {
    1: _decode_vote,
    2: _decode_proposal,
    3: _decode_certificate,
    4: _decode_want,
    5: _decode_get_block,
    6: _decode_get_payload,
    7: _decode_get_range,
    8: _decode_blocks,
    9: _decode_payload,
    10: _decode_hello,
    11: _decode_view_request,
    12: _decode_view_reply,
}
