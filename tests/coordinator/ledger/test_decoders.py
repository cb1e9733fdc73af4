"""Every decoder of the ledger: round trip, no error but DecodeError, memory bounded by the size of the input."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.block import PAYLOAD_MAX, Block, decode_block, decode_payload, encode_payload
from coordinator.ledger.boundary import Boundary, decode_boundary
from coordinator.ledger.envelope import SignedType, decode_envelope
from coordinator.ledger.genesis import decode_genesis
from coordinator.ledger.proofs import decode_event_proof
from coordinator.ledger.readings import MeterBatch, decode_batch, decode_column
from coordinator.ledger.receipt import Event, Receipt, decode_receipt
from coordinator.ledger.records import Account, Asset, Committee, Device, Escrow, KeyHolder, Participant, Protocol
from coordinator.ledger.state_tree import decode_state_proof, tree_of
from coordinator.ledger.transaction import decode_transaction
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import QUARTER_S, TIME_MS, Chain

CHAIN = Chain()
PAY = CHAIN.pay("alice", "bob", 5)
MADE = CHAIN.make(PAY)
COLUMN = CHAIN.column("meter-a", TIME_MS // 1000 // QUARTER_S * QUARTER_S, [1, 2, 3])
assert MADE.certificate is not None
BOUNDARY = Boundary(MADE.block.header, MADE.certificate, CHAIN.genesis.validators.public_keys)
RECEIPT = Receipt(b"c" * 32, 7, 1, b"t" * 32, "", (Event("kind", b"payload"), Event("other", b"")))
PROOF = pb.EventProof(
    certificate=MADE.certificate.encode(),
    certified=MADE.block.header.encode(),
    header=MADE.block.header.encode(),
    receipt=RECEIPT.encode(),
    inclusion=[b"h" * 32],
    receipts=2,
).SerializeToString()

DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "envelope": (lambda data: decode_envelope(data, SignedType.TRANSACTION), PAY.encoded),
    "transaction": (decode_transaction, PAY.encoded),
    "payload": (decode_payload, encode_payload([PAY])),
    "block": (decode_block, MADE.block.encode()),
    "receipt": (decode_receipt, RECEIPT.encode()),
    "boundary": (decode_boundary, BOUNDARY.encode()),
    "event proof": (decode_event_proof, PROOF),
    "state proof": (decode_state_proof, tree_of([(b"a", b"1"), (b"b", b"2")]).prove(b"a").encode()),
    "column": (decode_column, COLUMN.column.encode()),
    "batch": (decode_batch, MeterBatch(b"s" * 16, (COLUMN,)).encode()),
    "genesis": (decode_genesis, CHAIN.genesis.encoded),
    "account": (Account.decode, Account(5, 7).encode()),
    "asset": (Asset.decode, Asset("carol", 5, 3).encode()),
    "escrow": (Escrow.decode, Escrow("alice", "EUR", 5).encode()),
    "participant": (Participant.decode, Participant(b"k" * 32, 5, True).encode()),
    "device": (Device.decode, Device("alice", "bob", b"k" * 32).encode()),
    "key holder": (KeyHolder.decode, KeyHolder("alice", True, True).encode()),
    "committee": (Committee.decode, Committee((("v0", b"k" * 32), ("v1", b"l" * 32))).encode()),
    "protocol": (Protocol.decode, Protocol(1, 1, 2).encode()),
}
names = pytest.mark.parametrize("name", DECODERS)


@names
@settings(max_examples=60)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_decoded_or_refused(name: str, data: bytes) -> None:
    with suppress(DecodeError):
        DECODERS[name][0](data)


@names
@settings(max_examples=60)
@given(data=st.data())
def test_bytes_near_a_good_encoding_are_decoded_or_refused(name: str, data: st.DataObject) -> None:
    decode, encoded = DECODERS[name]
    changed = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)))
    for attempt in (bytes(changed), bytes(changed[:cut]), bytes(changed) + encoded[:cut]):
        with suppress(DecodeError):
            decode(attempt)


@names
def test_what_is_encoded_is_decoded_and_what_is_cut_is_refused(name: str) -> None:
    decode, encoded = DECODERS[name]
    found = decode(encoded)
    again = getattr(found, "encode", None)
    if again is not None:
        assert again() == encoded
    fixed = name not in ("envelope", "transaction", "payload", "block", "boundary", "event proof", "batch")
    # The last byte of a genesis document is a newline that JSON does not need.
    for cut in range(len(encoded) - (name == "genesis")) if fixed else ():
        with pytest.raises(DecodeError):
            decode(encoded[:cut])
    if fixed and name != "genesis":
        with pytest.raises(DecodeError):
            decode(encoded + b"\0")


LYING = {
    "receipt": RECEIPT.encode()[:78] + b"\xff" * 4,
    "column": COLUMN.column.encode()[:25] + b"\xff" * 4,
    "committee": b"\xff\xff\xff\xff",
    "state proof": b"\xff\xff\xff\xff",
    "payload": b"\x0a\xff\xff\xff\x7f",
    "batch": b"\x12\xff\xff\xff\x7f",
    "genesis": b"[" * 100_000,
}


@pytest.mark.parametrize("name", LYING)
def test_a_length_that_lies_allocates_nothing(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            DECODERS[name][0](LYING[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(LYING[name]) + 200_000


def test_unknown_fields_and_sizes_beyond_the_bound_are_refused() -> None:
    unknown = b"\xfa\x3f\x01x"
    for name in ("envelope", "transaction", "payload", "block", "boundary", "event proof", "batch"):
        decode, encoded = DECODERS[name]
        with pytest.raises(DecodeError, match="does not know"):
            decode(encoded + unknown)
    with pytest.raises(DecodeError, match="at most"):
        decode_payload(bytes(PAYLOAD_MAX + 1))
    with pytest.raises(DecodeError, match="does not know"):
        inner = COLUMN.envelope.encode() + unknown
        decode_batch(
            pb.MeterBatch(salt_seed=b"s" * 16).SerializeToString()
            + b"\x12"
            + bytes([len(inner) % 128 | 128, len(inner) // 128])
            + inner
        )


def test_an_envelope_encoded_in_another_way_is_the_same_transaction() -> None:
    """Protobuf has no canonical form: a repeated field changes the bytes and not what is signed."""
    twice = pb.Envelope(type=1).SerializeToString() + PAY.encoded
    found = decode_transaction(twice)
    assert found.encoded != PAY.encoded
    assert found.digest(CHAIN.chain_id) == PAY.digest(CHAIN.chain_id)
    assert found.envelope.is_signed_by(CHAIN.key("alice"), CHAIN.chain_id, CHAIN.scheme)


def test_a_block_s_payload_is_its_header_s() -> None:
    with pytest.raises(DecodeError, match="commits to"):
        decode_block(Block(MADE.block.header, b"").encode())


NUMBERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(max_size=30)
KEYS = st.binary(min_size=32, max_size=32)


@settings(max_examples=40)
@given(NUMBERS, NUMBERS, TEXTS, TEXTS, KEYS, st.booleans(), st.integers(0, 2**64 - 1))
def test_records_come_back_as_they_were(
    a: int, b: int, text: str, other: str, key: bytes, flag: bool, sequence: int
) -> None:
    for record in (
        Account(a, b),
        Asset(text, sequence << 64 | 1, sequence),
        Escrow(text, other, a),
        Participant(key, sequence, flag),
        Device(text, other, key),
        KeyHolder(text, flag, not flag),
        Committee(((text, key), (other, key))),
        Protocol(sequence % 2**32, 0, 1),
    ):
        assert type(record).decode(record.encode()) == record
