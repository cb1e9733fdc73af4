"""Every decoder: round trips, and nothing but DecodeError for bytes that are not an encoding."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.consensus import journal, messages
from coordinator.consensus.certificate import Certificate, decode_certificate
from coordinator.consensus.errors import DecodeError
from coordinator.consensus.evidence import Evidence, SignedVote, decode_evidence
from coordinator.consensus.header import HEADER_BYTES, Header, decode_header
from coordinator.consensus.signing import VoteKind
from coordinator.consensus.validators import quorum

U16, U64 = st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1)
HASH, SIGNATURE = st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)
HEADERS = st.builds(Header, U16, HASH, U64, U64, U64, *[HASH] * 8)


@st.composite
def values(draw: st.DrawFn, kind: VoteKind) -> tuple[int, int, bytes]:
    """View, parent view and digest of a vote."""
    view = draw(st.integers(1, 2**64 - 1))
    if kind is VoteKind.NULLIFY:
        return view, 0, bytes(32)
    return view, draw(st.integers(0, view - 1)), draw(HASH)


@st.composite
def certificates(draw: st.DrawFn) -> Certificate:
    """Any well-formed certificate."""
    kind = draw(st.sampled_from(VoteKind))
    view, parent_view, digest = draw(values(kind))
    size = draw(st.integers(1, 20))
    count = draw(st.integers(quorum(size), size))
    signers = tuple(sorted(draw(st.permutations(range(size)))[:count]))
    signatures = tuple(draw(st.lists(SIGNATURE, min_size=count, max_size=count)))
    return Certificate(kind, draw(HASH), draw(U64), view, parent_view, digest, size, signers, signatures)


@st.composite
def votes(draw: st.DrawFn) -> messages.Vote:
    """Any vote."""
    kind = draw(st.sampled_from(VoteKind))
    return messages.Vote(kind, draw(U64), *draw(values(kind)), draw(SIGNATURE))


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    """Any two votes in order."""
    pair = []
    for _ in range(2):
        kind = draw(st.sampled_from(VoteKind))
        _, parent_view, digest = draw(values(kind))
        pair.append(SignedVote(kind, parent_view, digest, draw(SIGNATURE)))
    return Evidence(draw(HASH), draw(U64), draw(U64), draw(U16), *sorted(pair))


OPTIONAL = st.none() | certificates()
MESSAGES = st.one_of(
    votes(),
    certificates(),
    st.builds(
        messages.Proposal,
        U64,
        st.integers(1, 2**64 - 1),
        U64,
        HEADERS,
        SIGNATURE,
        st.lists(certificates(), max_size=messages.MAX_JUSTIFICATION).map(tuple),
    ),
    st.builds(messages.Want, U64, U64),
    st.builds(messages.GetBlock, HASH),
    st.builds(messages.GetPayload, HASH),
    st.builds(messages.GetRange, U64),
    st.builds(messages.Blocks, st.lists(HEADERS, min_size=1, max_size=4).map(tuple), OPTIONAL),
    st.builds(messages.Payload, st.binary(max_size=200)),
    st.builds(messages.Hello, HASH, U64, U64, U64, U16, U16),
    st.builds(messages.ViewRequest, U64, U64),
    st.builds(messages.ViewReply, U64, U64, U64, OPTIONAL),
)


@st.composite
def records(draw: st.DrawFn) -> journal.Record:
    """Any record."""
    vote = draw(votes())
    return draw(
        st.sampled_from(
            [
                journal.VoteRecord(vote.kind, vote.epoch, vote.view, vote.parent_view, vote.digest),
                journal.CertificateRecord(draw(certificates())),
                journal.CertifiedRecord(draw(HEADERS), draw(st.booleans())),
                journal.FloorRecord(draw(U64), draw(U64), draw(U64), draw(st.booleans())),
            ]
        )
    )


@given(MESSAGES)
def test_messages_round_trip(message: messages.Message) -> None:
    assert messages.decode(messages.encode(message)) == message


@given(records())
def test_records_round_trip(record: journal.Record) -> None:
    assert journal.decode_record(journal.encode_record(record)) == record


@given(HEADERS)
def test_headers_round_trip_and_their_digest_is_that_of_the_bytes(header: Header) -> None:
    assert decode_header(header.encode()) == header
    assert decode_header(header.encode()).digest == header.digest


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_every_314_bytes_are_one_header(data: bytes) -> None:
    assert decode_header(data).encode() == data


@given(certificates())
def test_certificates_round_trip(certificate: Certificate) -> None:
    assert decode_certificate(certificate.encode()) == certificate


@given(evidence())
def test_evidence_round_trips(item: Evidence) -> None:
    assert decode_evidence(item.encode()) == item


DECODERS: list[Callable[[bytes], object]] = [
    messages.decode,
    decode_certificate,
    decode_header,
    journal.decode_record,
    decode_evidence,
]
ENCODERS: list[Callable[[object], bytes]] = [
    messages.encode,  # type: ignore[list-item]
    lambda certificate: certificate.encode(),  # type: ignore[attr-defined]
    lambda header: header.encode(),  # type: ignore[attr-defined]
    journal.encode_record,  # type: ignore[list-item]
    lambda item: item.encode(),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("which", range(len(DECODERS)), ids=lambda i: DECODERS[i].__name__)
@given(data=st.binary(max_size=1500))
@example(data=b"")
def test_arbitrary_bytes_raise_nothing_but_decode_errors(which: int, data: bytes) -> None:
    check_canonical(which, data)


@given(tag=st.integers(0, 14), data=st.binary(max_size=800))
def test_arbitrary_bodies_of_every_message(tag: int, data: bytes) -> None:
    check_canonical(0, bytes([tag]) + data)


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """One small damage: a byte changed, removed, added, or the end cut off."""
    position = draw(st.integers(0, len(data) - 1))
    how = draw(st.sampled_from(["flip", "drop", "add", "cut", "double"]))
    if how == "flip":
        return data[:position] + bytes([data[position] ^ draw(st.integers(1, 255))]) + data[position + 1 :]
    if how == "drop":
        return data[:position] + data[position + 1 :]
    if how == "add":
        return data[:position] + bytes([draw(st.integers(0, 255))]) + data[position:]
    return data[:position] if how == "cut" else data + data[position:]


@given(st.data(), MESSAGES)
def test_damaged_messages(data: st.DataObject, message: messages.Message) -> None:
    check_canonical(0, data.draw(mutated(messages.encode(message))))


@given(st.data(), certificates())
def test_damaged_certificates(data: st.DataObject, certificate: Certificate) -> None:
    check_canonical(1, data.draw(mutated(certificate.encode())))


@given(st.data(), records())
def test_damaged_records(data: st.DataObject, record: journal.Record) -> None:
    check_canonical(3, data.draw(mutated(journal.encode_record(record))))


@given(st.data(), evidence())
def test_damaged_evidence(data: st.DataObject, item: Evidence) -> None:
    check_canonical(4, data.draw(mutated(item.encode())))


def check_canonical(which: int, data: bytes) -> None:
    """Either a DecodeError or something whose encoding is exactly these bytes."""
    try:
        decoded = DECODERS[which](data)
    except DecodeError:
        return
    assert ENCODERS[which](decoded) == data


def test_a_length_that_is_not_there_allocates_nothing() -> None:
    """The stated bound: 8 times the input plus 16 KiB, whatever the lengths in it promise."""
    claims = [
        bytes([1, 1]) * 60,
        bytes([8]) + (256).to_bytes(2, "big") + bytes(400),
        bytes([2]) + bytes(24) + bytes(64) + b"\x05" + bytes(HEADER_BYTES) + b"\xff\xff\xff\xff",
        bytes([12]) + bytes(24) + b"\x01" + (65535).to_bytes(4, "big"),
        bytes([3, 1, 1]) + bytes(32 + 24 + 32) + (1024).to_bytes(2, "big") + b"\xff" * 128,
    ]
    for data in claims:
        assert allocated(data) <= 8 * len(data) + 16_384


def test_large_valid_messages_stay_within_the_bound() -> None:
    header = Header(1, bytes(32), 0, 1, 1, *[bytes(32)] * 8)
    certificate = Certificate(
        VoteKind.NOTARIZE,
        bytes(32),
        0,
        2,
        1,
        bytes(32),
        1000,
        tuple(range(1000)),
        tuple(bytes([i % 256]) * 64 for i in range(1000)),
    )
    for message in (
        messages.Blocks((header,) * 256, None),
        messages.Payload(bytes(1 << 20)),
        certificate,
        messages.Proposal(0, 3, 2, header, bytes(64), (certificate,) * 5),
    ):
        data = messages.encode(message)
        assert allocated(data) <= 8 * len(data) + 16_384


def allocated(data: bytes) -> int:
    """Most bytes allocated while decoding."""
    tracemalloc.start()
    try:
        messages.decode(data)
    except DecodeError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_messages_beyond_the_limit_are_refused_unread() -> None:
    with pytest.raises(DecodeError, match="more than the limit"):
        messages.decode(bytes([9]) + bytes(messages.MAX_MESSAGE_BYTES))
    with pytest.raises(DecodeError, match="more than the limit"):
        messages.decode(bytes([9]) + bytes(messages.MAX_PAYLOAD_BYTES + 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [("version", 2**16), ("height", -1), ("epoch", 2**64), ("parent_digest", b"short"), ("chain_id", bytes(33))],
)
def test_a_header_refuses_what_it_cannot_encode(name: str, value: int | bytes) -> None:
    fields: dict[str, object] = dict.fromkeys(Header.__dataclass_fields__, bytes(32))
    fields |= {"version": 1, "epoch": 0, "height": 1, "time_ms": 1, name: value}
    del fields["digest"]
    with pytest.raises(ValueError, match=r"fit|32 bytes"):
        Header(**fields)  # type: ignore[arg-type]
