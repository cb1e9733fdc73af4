"""Meter readings: ordinary lies are refused by name, corrections are versions, a single reading can be shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.errors import DecodeError
from coordinator.ledger.block_readings import check_block_readings
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.merkle import MerkleTree, SaltTree, leaf_hash, revealed_salts, verify_opening
from coordinator.ledger.readings import (
    BATCH_COLUMNS_MAX,
    SENTINELS_WH,
    Column,
    MeterBatch,
    PendingReadings,
    ReadingRules,
    SignedColumn,
    check_batch,
    decode_batch,
    reading_rules,
    sign_column,
)
from coordinator.ledger.registry import device_of
from coordinator.ledger.store import Store
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.ledger.support import QUARTER_S, TIME_MS, Chain, codes

NOW_S = TIME_MS // 1000 + 1
LAST = NOW_S // QUARTER_S * QUARTER_S - QUARTER_S
"""Start of the last interval that has ended."""


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(path=tmp_path / "ledger.sqlite")


def at(chain: Chain, ago: int, registers: Sequence[int], *, version: int = 0, device: str = "meter-a") -> SignedColumn:
    return chain.column(device, LAST - ago * QUARTER_S, registers, version=version)


def batch_of(*columns: SignedColumn) -> MeterBatch:
    return MeterBatch(b"salt" * 4, columns)


def check(chain: Chain, batch: MeterBatch, *, pending: PendingReadings | None = None, **rules: int) -> None:
    assert chain.store is not None

    def device_key(name: str) -> bytes | None:
        device = device_of(chain.state.view, name)
        return None if device is None else device.public_key

    check_batch(
        batch,
        batch.commitment,
        pending or PendingReadings(chain.store.readings),
        device_key,
        rules=replace(ReadingRules(), **rules),
        now_s=NOW_S,
        chain_id=chain.chain_id,
        scheme=chain.scheme,
    )


def commit(chain: Chain, *columns: SignedColumn) -> None:
    batch = batch_of(*columns)
    check(chain, batch)
    chain.add(chain.readings("alice", batch), batches={0: batch})


def test_good_readings_are_accepted_kept_and_read_back(chain: Chain) -> None:
    columns = (at(chain, 5, [100, 100, 130]), at(chain, 5, [9], device="meter-b"))
    commit(chain, *columns)
    assert chain.store is not None
    assert chain.store.readings.batch(1, 0) == batch_of(*columns)
    commit(chain, at(chain, 2, [131, 140]))
    assert [r.register_wh for r in chain.store.readings.between("meter-a", 0, NOW_S)] == [100, 100, 130, 131, 140]


def test_registers_of_many_devices_at_a_time_are_those_of_readings_that_end_then(chain: Chain) -> None:
    commit(chain, at(chain, 5, [100, 120, 130]), at(chain, 5, [7], device="meter-b"))
    commit(chain, at(chain, 4, [125], version=1))
    assert chain.store is not None
    registers, devices = chain.store.readings.registers_wh, ["meter-b", "meter-a", "nobody"]
    end_s = LAST - 4 * QUARTER_S
    assert registers(devices, end_s) == {"meter-a": 100, "meter-b": 7}
    assert registers(devices, end_s + QUARTER_S) == {"meter-a": 125}, "corrected"
    assert registers(["meter-b"], end_s + QUARTER_S) == {}
    assert registers(devices, end_s + 1) == registers(devices, end_s - QUARTER_S) == {}


BAD = {
    "register runs backwards": lambda c: at(c, 1, [101, 100]),
    "runs backwards, 800 to 499": lambda c: at(c, 2, [499]),
    "runs backwards, 801 to 500": lambda c: at(c, 9, [600, 801]),
    "sentinel": lambda c: at(c, 1, [SENTINELS_WH[1]]),
    "sentinel or negative": lambda c: at(c, 1, [-1]),
    "delivered before": lambda c: at(c, 4, [500]),
    "has not ended": lambda c: at(c, -1, [900]),
    "late": lambda c: at(c, 5000, [1]),
    "version 2 where 1 is next": lambda c: at(c, 4, [500], version=2),
    "not delivered as such": lambda c: at(c, 2, [500], version=1),
    "runs backwards, 801 to 800": lambda c: at(c, 4, [801], version=1),
}


@pytest.mark.parametrize("reason", BAD)
def test_ordinary_lies_are_refused_by_name(chain: Chain, reason: str) -> None:
    commit(chain, at(chain, 7, [500]), at(chain, 4, [501]), at(chain, 3, [800]))
    with pytest.raises(ReadingsRefused, match=reason):
        check(chain, batch_of(BAD[reason](chain)))


def test_clocks_must_run_and_be_right(chain: Chain) -> None:
    good = at(chain, 2, [1, 2]).column
    standing = replace(good, clocks_ms=(good.clocks_ms[0], good.clocks_ms[0]))
    for column, reason in ((standing, "clock"), (replace(good, clocks_ms=(0, 1)), "clock is off")):
        with pytest.raises(ReadingsRefused, match=reason):
            check(chain, batch_of(sign(chain, column)), clock_limit_ms=2_000_000 if column is standing else 120_000)


def sign(chain: Chain, column: Column) -> SignedColumn:
    return sign_column(chain.signer(column.device), chain.chain_id, column)


def test_only_the_device_signs_and_only_for_this_chain(chain: Chain) -> None:
    good = at(chain, 2, [1, 2])
    other = Chain(epoch_length=9)
    forged = (
        replace(good, column=replace(good.column, registers_wh=(1, 3))),
        replace(good, column=replace(good.column, device="meter-b")),
        replace(good, column=replace(good.column, device="nobody")),
        at(other, 2, [1, 2]),
    )
    for signed in forged:
        with pytest.raises(ReadingsRefused, match=r"signature|not a registered device"):
            check(chain, batch_of(signed))


def test_overlapping_intervals_are_refused(chain: Chain) -> None:
    commit(chain, at(chain, 4, [10]))
    hour = replace(at(chain, 0, [1]).column, start_s=LAST // 3600 * 3600 - 3600, duration_s=3600)
    hour = replace(hour, clocks_ms=(hour.end_s * 1000,))
    with pytest.raises(ReadingsRefused, match=r"overlaps|delivered before"):
        check(chain, batch_of(sign(chain, hour)))


def test_corrections_are_versions_never_edits(chain: Chain) -> None:
    commit(chain, at(chain, 6, [100, 200, 300]))
    commit(chain, at(chain, 5, [150], version=1))
    commit(chain, at(chain, 5, [180], version=2))
    assert chain.store is not None
    latest = chain.store.readings.between("meter-a", 0, NOW_S)
    assert [(r.register_wh, r.version) for r in latest] == [(100, 0), (180, 2), (300, 0)]
    history = [(r.start_s, r.version, r.register_wh) for _, r in chain.store.readings.by_device()]
    start = LAST - 5 * QUARTER_S
    assert history == [
        (start - QUARTER_S, 0, 100),
        (start, 0, 200),
        (start, 1, 150),
        (start, 2, 180),
        (start + QUARTER_S, 0, 300),
    ]


def test_a_batch_and_blocks_that_are_not_committed_are_seen(chain: Chain) -> None:
    assert chain.store is not None
    pending = PendingReadings(chain.store.readings)
    check(chain, batch_of(at(chain, 6, [100]), at(chain, 5, [150])), pending=pending)
    for columns, reason in (
        ((at(chain, 5, [150]),), "delivered before"),
        ((at(chain, 4, [149]),), "backwards"),
        ((at(chain, 7, [101]),), "backwards"),
        ((at(chain, 4, [160]), at(chain, 4, [160])), "delivered before"),
    ):
        with pytest.raises(ReadingsRefused, match=reason):
            check(chain, batch_of(*columns), pending=pending)
            pending = PendingReadings(chain.store.readings)
    with pytest.raises(ReadingsRefused, match="commits to"):
        good, other = batch_of(at(chain, 2, [160])), batch_of(at(chain, 2, [161]))
        check_batch(
            good,
            other.commitment,
            pending,
            lambda name: None,
            rules=ReadingRules(),
            now_s=NOW_S,
            chain_id=chain.chain_id,
            scheme=chain.scheme,
        )


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4), st.integers(0, 2), st.integers(0, 30)), max_size=12))
def test_whatever_is_accepted_is_in_order(steps: list[tuple[int, int, int, int]]) -> None:
    chain = Chain(real=False)
    pending = PendingReadings(_Nothing())
    chain.store = _WithReadings()  # type: ignore[assignment]
    for ago, count, version, register in steps:
        column = at(chain, ago + 3, [register + n for n in range(count)], version=version)
        trial = PendingReadings(pending)
        try:
            check(chain, batch_of(column), pending=trial)
        except ReadingsRefused:
            continue
        pending.add(column.column)
    series = pending.between("meter-a", 0, NOW_S)
    for earlier, later in pairwise(series):
        assert earlier.register_wh <= later.register_wh
        assert earlier.clock_ms < later.clock_ms
        assert earlier.end_s <= later.start_s


class _Nothing:
    def before(self, device: str, start_s: int) -> None:
        return None

    def between(self, device: str, start_s: int, end_s: int) -> list[object]:
        return []

    after = before


class _WithReadings:
    readings = _Nothing()


STEP = st.tuples(st.integers(0, 20), st.integers(1, 5))


@given(st.lists(STEP, max_size=12), st.integers(-1, 26), st.integers(0, 8))
def test_pending_readings_are_found_as_if_they_were_searched_one_by_one(
    steps: list[tuple[int, int]], start: int, length: int
) -> None:
    pending, known = PendingReadings(_Nothing()), {}
    for version, (first, count) in enumerate(steps):
        column = Column("meter-a", first, 1, version, tuple(range(count)), tuple(range(count)))
        pending.add(column)
        known |= {reading.start_s: reading for reading in column.readings()}
    earlier = [known[at] for at in sorted(known) if at < start]
    later = [known[at] for at in sorted(known) if at >= start]
    assert pending.before("meter-a", start) == (earlier[-1] if earlier else None)
    assert pending.after("meter-a", start) == (later[0] if later else None)
    assert pending.between("meter-a", start, start + length) == [r for r in later if r.start_s < start + length]
    assert pending.before("meter-b", start) is None


class _Counted(int):
    """A time that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        _Counted.compared += 1
        return int(self) < other

    def __gt__(self, other: int) -> bool:
        _Counted.compared += 1
        return int(self) > other


def test_a_reading_is_found_among_many_pending_ones_without_looking_at_all() -> None:
    """A batch may have thousands of columns of one device, and each is looked up."""
    pending = PendingReadings(_Nothing())
    for start_s in range(4096):
        pending.add(Column("meter-a", start_s, 1, 0, (start_s,), (start_s,)))
    _Counted.compared = 0
    found = (pending.before("meter-a", _Counted(2000)), pending.after("meter-a", _Counted(2000)))
    assert [reading.start_s for reading in found if reading is not None] == [1999, 2000]
    assert len(pending.between("meter-a", _Counted(2000), _Counted(2003))) == 3
    assert 0 < _Counted.compared <= 4 * 13


def test_a_batch_has_no_more_columns_than_a_block_s_time_allows(chain: Chain) -> None:
    column = at(chain, 6, [1]).envelope.message()
    data = pb.MeterBatch(salt_seed=bytes(16), columns=[column] * (BATCH_COLUMNS_MAX + 1)).SerializeToString()
    with pytest.raises(DecodeError, match="columns; at most"):
        decode_batch(data)
    many = pb.ReadingsCommitment(root=bytes(32), size=BATCH_COLUMNS_MAX + 1, columns=BATCH_COLUMNS_MAX + 1, end_s=1)
    assert codes(chain.add(chain.transaction("alice", "readings", many.SerializeToString()))) == ["malformed"]
    many.columns -= 1
    assert codes(chain.make(chain.transaction("alice", "readings", many.SerializeToString())).applied) == [""]


def test_one_reading_is_shown_without_its_neighbours(chain: Chain) -> None:
    batch = batch_of(at(chain, 6, [100, 200, 300]), at(chain, 6, [5], device="meter-b"))
    readings, salts = list(batch.readings()), SaltTree(batch.salt_seed, batch.size)
    tree = MerkleTree([leaf_hash(r.leaf(salt)) for r, salt in zip(readings, salts.salts, strict=True)])
    salt = revealed_salts([2], batch.size, salts.reveal([2]))[2]
    verify_opening(batch.commitment.root, batch.size, {2: leaf_hash(readings[2].leaf(salt))}, tree.open([2]))
    assert batch_of(*batch.columns).commitment == decode_batch(batch.encode()).commitment
    assert replace(batch, salt_seed=bytes(16)).commitment.root != batch.commitment.root


def test_rules_come_from_genesis() -> None:
    assert reading_rules(Chain().state.view) == ReadingRules()
    assert reading_rules(Chain(parameters={"late_limit_s": "60"}).state.view).late_limit_s == 60


def test_old_readings_are_pruned_and_young_ones_stay(tmp_path: Path) -> None:
    chain = Chain(path=tmp_path / "ledger.sqlite", parameters={"late_limit_s": "3600"})
    store = chain.store
    assert isinstance(store, Store)
    for number in range(3):
        batch = batch_of(at(chain, 3 - number, [number]))
        made = chain.make(
            chain.readings("alice", batch), batches={0: batch}, time_ms=TIME_MS + 2_000_000 * (number + 1)
        )
        store.commit([made])
    assert store.prune_readings(3600) == 1
    assert [store.readings.batch(height, 0) is None for height in (1, 2, 3)] == [True, False, False]
    assert store.prune_readings(3600) == 0


def test_a_block_is_not_voted_for_without_its_batches(chain: Chain) -> None:
    before, good, other = chain.state, batch_of(at(chain, 6, [1, 2])), batch_of(at(chain, 6, [1, 3]))
    malformed = chain.transaction("bob", "readings", b"")
    made = chain.make(chain.pay("alice", "bob", 1), chain.readings("alice", good, ahead=1), malformed)
    assert chain.store is not None
    for batches, reason in (
        ({1: good}, None),
        ({}, "missing"),
        ({1: good, 2: good}, "does not commit"),
        ({1: other}, "commits to"),
    ):
        pending = PendingReadings(chain.store.readings)
        with nullcontext() if reason is None else pytest.raises(ReadingsRefused, match=reason):
            check_block_readings(before, made.block, made.applied, batches, pending, chain.scheme)
