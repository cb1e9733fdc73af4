"""One encoding for every value, and no error but DecodeError for anything else."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.errors import DecodeError
from coordinator.settlement.escrow.encoding import (
    EVENT_BYTES_MAX,
    LEGS_MAX,
    OPEN_BYTES_MAX,
    decode_event,
    decode_open,
    encode_event,
    encode_sid,
    seal,
)
from coordinator.settlement.escrow.types import (
    AMOUNT_MAX,
    HEIGHT_MAX,
    INDEX_MAX,
    Authorisation,
    Closed,
    Decided,
    Event,
    Kind,
    Leg,
    Open,
    Opened,
    Outcome,
    Receipt,
    Replaced,
    SettlementId,
    Verdict,
)
from tests.coordinator.settlement.escrow_support import FIRST, leg, payment

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
HASHES = st.binary(min_size=32, max_size=32)
HEIGHTS = st.integers(0, HEIGHT_MAX)
SIDS = st.builds(SettlementId, HEIGHTS, st.integers(0, INDEX_MAX))
ACCOUNTS = st.binary(min_size=1, max_size=64)
LEGS = st.builds(Leg, NAMES, ACCOUNTS, st.text("ABC", min_size=1, max_size=16), st.integers(-AMOUNT_MAX, AMOUNT_MAX))
SIGNED = st.builds(Authorisation, NAMES, ACCOUNTS, st.binary(min_size=64, max_size=64))


def ascending_legs(legs: list[Leg]) -> tuple[Leg, ...]:
    return tuple(sorted({(item.region, item.account, item.asset): item for item in legs}.values()))


def ascending_signed(items: list[Authorisation]) -> tuple[Authorisation, ...]:
    return tuple(sorted({(item.region, item.account): item for item in items}.values()))


OPENS = st.builds(
    Open,
    HASHES,
    HASHES,
    st.sampled_from(Kind),
    HEIGHTS,
    st.lists(LEGS, max_size=6).map(ascending_legs),
    st.none() | st.builds(Replaced, SIDS, HASHES),
    st.lists(SIGNED, max_size=4).map(ascending_signed),
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Opened, SIDS, OPENS.map(seal)),
    st.builds(Decided, SIDS, HASHES, st.sampled_from(Outcome), st.lists(NAMES, unique=True).map(sorted).map(tuple)),
    st.builds(Closed, SIDS),
    st.builds(Receipt, HASHES, NAMES, st.sampled_from(Verdict), SIDS, HASHES, HEIGHTS),
)


@given(OPENS)
def test_an_open_comes_back_with_its_exact_bytes(value: Open) -> None:
    opening = seal(value)
    again = decode_open(opening.encoded)
    assert (again.open, again.encoded) == (value, opening.encoded)
    assert again.digest == hashlib.sha256(opening.encoded).digest()


@given(EVENTS)
def test_an_event_comes_back(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_decode_error(data: bytes) -> None:
    for decode in (decode_open, decode_event):
        for prefix in (b"", b"GAEO\x01", b"GAEV\x01\x01", b"GAEV\x01\x02", b"GAEV\x01\x04"):
            with pytest.raises(DecodeError):
                decode(prefix + data + b"\x00" * 3)


@given(EVENTS, st.data())
def test_a_changed_byte_gives_another_event_or_a_decode_error(event: Event, data: st.DataObject) -> None:
    encoded = bytearray(encode_event(event))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_event(bytes(encoded))
    except DecodeError:
        return
    assert other != event
    assert encode_event(other) == bytes(encoded)


@given(EVENTS, st.data())
def test_what_is_cut_or_followed_by_more_is_refused(event: Event, data: st.DataObject) -> None:
    encoded = encode_event(event)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + b"\x00"):
        with pytest.raises(DecodeError):
            decode_event(wrong)


@given(SIDS, SIDS)
def test_ids_sort_as_their_bytes(first: SettlementId, second: SettlementId) -> None:
    assert (first < second) == (encode_sid(first) < encode_sid(second))


def test_an_id_and_its_predecessor_have_nothing_between_them() -> None:
    assert SettlementId(5, 3).predecessor == SettlementId(5, 2)
    assert SettlementId(5, 0).predecessor == SettlementId(4, INDEX_MAX)


def test_lengths_and_counts_are_bounded() -> None:
    for data in (b"GAEO\x01" + bytes(OPEN_BYTES_MAX), b"GAEV\x01" + bytes(EVENT_BYTES_MAX)):
        with pytest.raises(DecodeError, match="send at most"):
            decode_open(data) if data.startswith(b"GAEO") else decode_event(data)
    many = tuple(sorted(leg("A", 1, index.to_bytes(2, "big")) for index in range(LEGS_MAX + 1)))
    with pytest.raises(DecodeError, match="entries"):
        seal(replace(payment().open, legs=many))


@pytest.mark.parametrize(
    "wrong",
    [
        leg("", 1),
        leg("A" * 33, 1),
        leg("A", 1, b""),
        leg("A", 1, b"x" * 65),
        leg("A", 1, asset=""),
        leg("A", 1, asset="E" * 17),
    ],
)
def test_names_have_their_lengths(wrong: Leg) -> None:
    with pytest.raises(DecodeError, match="use 1 to"):
        seal(replace(payment().open, legs=(wrong,)))


def test_the_order_of_legs_is_part_of_the_form() -> None:
    with pytest.raises(DecodeError, match="ascend strictly"):
        seal(replace(payment().open, legs=(leg("B", 4), leg("A", -4))))


def test_signatures_do_not_change_what_is_signed() -> None:
    opening = payment()
    other = seal(replace(opening.open, authorisations=()))
    assert other.body_digest == opening.body_digest
    assert other.digest != opening.digest


def test_every_field_changes_what_is_signed() -> None:
    value = payment().open
    changed = [
        replace(value, hub_chain_id=bytes(32)),
        replace(value, nonce=bytes(32)),
        replace(value, kind=Kind.NETTING),
        replace(value, deadline_height=5),
        replace(value, legs=value.legs[1:]),
        replace(value, replaces=Replaced(FIRST, bytes(32))),
    ]
    digests = [seal(item).body_digest for item in (value, *changed)]
    assert len(set(digests)) == len(digests)
