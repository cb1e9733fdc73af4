"""The journal: what was accepted is found again after any crash, in order; other damage is never overlooked."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from coordinator.ledger import journal_file
from coordinator.ledger.errors import JournalCorrupt, StoreError, StoreFull
from coordinator.ledger.journal_file import JournalFile

CHAIN_ID, KEY = b"c" * 32, b"k" * 32
HEAD = 21 + 32 + 32 + 8 + 16
SECTOR = 512


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "consensus.journal"


def opened(path: Path) -> JournalFile:
    return JournalFile(path, CHAIN_ID, KEY)


def created(path: Path) -> JournalFile:
    return JournalFile.create(path, CHAIN_ID, KEY)


def test_records_and_payloads_are_found_again_in_order(path: Path) -> None:
    with created(path) as journal:
        journal.append([b"one", b""], {digest(1): b"payload", digest(2): b""})
        journal.append([])
        journal.append([b"three"])
        assert (journal.payload(digest(1)), journal.payload(digest(2)), journal.payload(digest(3))) == (
            b"payload",
            b"",
            None,
        )
    assert path.stat().st_mode & 0o777 == 0o600
    with opened(path) as journal:
        assert journal.found.records == (b"one", b"", b"three")
        assert journal.found.message == "the journal is whole"
        assert (journal.payload(digest(1)), journal.payload(digest(2))) == (b"payload", b"")
        journal.append([b"four"])
    assert opened(path).found.records == (b"one", b"", b"three", b"four")


def test_it_is_written_anew_with_what_is_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "_LONG_RECORDS", 10)
    with created(path) as journal:
        for number in range(11):
            assert not journal.is_long
            journal.append([b"%d" % number], {digest(number): b"payload %d" % number})
        assert journal.is_long
        journal.drop([digest(number) for number in range(9)])
        size = path.stat().st_size
        journal.rewrite([b"checkpoint"])
        assert path.stat().st_size < size / 2
        assert (journal.payload(digest(8)), journal.payload(digest(9))) == (None, b"payload 9")
        journal.append([b"later"], {digest(20): b"new"})
    with opened(path) as journal:
        assert journal.found.records == (b"checkpoint", b"later")
        assert [number for number in range(30) if journal.payload(digest(number)) is not None] == [9, 10, 20]
        journal.retain([digest(20)])
        journal.rewrite([])
        assert journal.payload(digest(20)) == b"new"
    assert not path.with_name(path.name + ".new").exists()


def test_where_much_is_needed_it_is_not_written_anew_each_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "_LONG_BYTES", 10_000)
    with created(path) as journal:
        journal.append([], {digest(1): bytes(20_000)})
        assert journal.is_long
        journal.rewrite([b"all of it is needed"])
        journal.append([b"more"])
        assert not journal.is_long


def test_one_that_was_long_when_its_node_stopped_is_long_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: each start took what stood there for what is needed, and let it grow to twice as much."""
    monkeypatch.setattr(journal_file, "_LONG_RECORDS", 10)
    with created(path) as journal:
        journal.append([b""] * 11)
    with opened(path) as journal:
        assert journal.is_long


def test_every_torn_end_is_dropped_whole_and_every_other_damage_is_named(path: Path) -> None:
    payload = bytes(range(1, 256)) * 6
    with created(path) as journal:
        journal.append([b"kept"], {digest(1): b"kept too"})
        start = path.stat().st_size
        journal.append([b"torn", b"with it"], {digest(2): payload})
    whole = path.read_bytes()
    cut_short = [whole[:size] for size in range(start + 1, len(whole), 7)]
    longer = [whole[:size] + bytes(len(whole) - size) for size in (start, *range(SECTOR, len(whole), SECTOR))]
    holes = [
        whole[:edge] + bytes(SECTOR) + whole[edge + SECTOR :]
        for edge in range(SECTOR * (1 + (start + 28) // SECTOR), len(whole) - SECTOR, SECTOR)
    ]
    assert len(holes) > 1
    for torn in (*cut_short, *longer, *holes, whole[:start] + bytes(99)):
        path.write_bytes(torn)
        with opened(path) as journal:
            assert journal.found.records == (b"kept",)
            assert journal.found.dropped_bytes == len(torn) - start
            assert "torn" in journal.found.message
            assert (journal.payload(digest(1)), journal.payload(digest(2))) == (b"kept too", None)
            journal.append([b"next"])
        assert opened(path).found.records == (b"kept", b"next")
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(JournalCorrupt):
            opened(path)


def test_a_frame_that_stands_in_anothers_place_is_damage(path: Path) -> None:
    with created(path) as journal:
        journal.append([b"a"])
        first = path.stat().st_size
        journal.append([b"b"])
    whole = path.read_bytes()
    for wrong in (whole[:HEAD] + whole[first:], whole + whole[first:]):
        path.write_bytes(wrong)
        with pytest.raises(JournalCorrupt, match="rejoins"):
            opened(path)


def test_a_missing_journal_or_one_of_another_chain_or_key_is_refused(path: Path) -> None:
    with pytest.raises(JournalCorrupt, match="no journal"):
        opened(path)
    created(path).close()
    with pytest.raises(JournalCorrupt, match="already"):
        created(path)
    for chain_id, key in ((b"d" * 32, KEY), (CHAIN_ID, b"l" * 32)):
        with pytest.raises(JournalCorrupt, match="another chain or key"):
            JournalFile(path, chain_id, key)


def test_a_full_disk_keeps_what_was_accepted_and_takes_nothing_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = created(path)
    journal.append([b"accepted"])
    write = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return write(handle, bytes(data)[: len(data) // 2])

    monkeypatch.setattr(journal_file.os, "write", half)
    with pytest.raises(StoreFull, match="make room"):
        journal.append([b"refused"])
    monkeypatch.undo()
    with pytest.raises(StoreError, match="start again"):
        journal.append([b"too late"])
    journal.close()
    with opened(path) as journal:
        assert journal.found.records == (b"accepted",)
        assert journal.found.dropped_bytes > 0


def append_for_ever(path: Path, report: int) -> None:
    """In a child that is killed: tell of each append that was accepted."""
    try:
        with opened(path) as journal:
            number = len(journal.found.records)
            while True:
                journal.append([b"%d" % number], {digest(number): bytes([number % 256]) * 3000})
                number += 1
                os.write(report, b".")
                if number % 7 == 0:
                    journal.rewrite([b"%d" % n for n in range(number)])
    finally:
        os._exit(1)


def test_nothing_accepted_is_lost_when_the_process_is_killed(path: Path) -> None:
    created(path).close()
    count = 0
    for spins in range(0, 40_000, 2_000):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            append_for_ever(path, writing)
        os.close(writing)
        accepted = count + len(os.read(reading, 1))
        for _ in range(spins):
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(reading, 4096):
            accepted += len(more)
        os.close(reading)
        with opened(path) as journal:
            count = len(journal.found.records)
            assert journal.found.records == tuple(b"%d" % number for number in range(count))
            assert accepted <= count <= accepted + 1, "one may have become durable before that could be told"
            for number in range(count):
                assert journal.payload(digest(number)) == bytes([number % 256]) * 3000


class Model(RuleBasedStateMachine):
    """Any sequence of what a host does, beside a list and a dictionary."""

    folder: Path
    number = 0

    @initialize()
    def create(self) -> None:
        Model.number += 1
        self.path = Model.folder / f"journal{Model.number}"
        self.journal = created(self.path)
        self.records: list[bytes] = []
        self.payloads: dict[bytes, bytes] = {}

    @rule(
        records=st.lists(st.binary(max_size=40), max_size=4),
        payloads=st.dictionaries(st.integers(0, 5).map(digest), st.binary(max_size=700), max_size=2),
    )
    def append(self, records: list[bytes], payloads: dict[bytes, bytes]) -> None:
        self.journal.append(records, payloads)
        self.records += records
        self.payloads |= payloads

    @rule(number=st.integers(0, 5))
    def drop(self, number: int) -> None:
        self.journal.drop([digest(number)])
        self.payloads.pop(digest(number), None)

    @rule(records=st.lists(st.binary(max_size=40), max_size=4))
    def rewrite(self, records: list[bytes]) -> None:
        self.journal.rewrite(records)
        self.records = list(records)

    @rule(torn=st.binary(max_size=20))
    def crash(self, torn: bytes) -> None:
        self.journal.close()
        with self.path.open("ab") as file:
            file.write(torn)
        self.journal = opened(self.path)
        assert self.journal.found.records == tuple(self.records)
        self.journal.retain(set(self.payloads))

    @invariant()
    def everything_is_there(self) -> None:
        for number in range(6):
            assert self.journal.payload(digest(number)) == self.payloads.get(digest(number))

    def teardown(self) -> None:
        self.journal.close()


def test_it_is_as_good_as_a_list_and_a_dictionary(tmp_path: Path) -> None:
    Model.folder = tmp_path
    run_state_machine_as_test(Model)  # type: ignore[no-untyped-call]


@given(st.binary(max_size=300))
def test_no_bytes_make_it_stumble(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        created(path).close()
        with path.open("ab") as file:
            file.write(data)
        with suppress(JournalCorrupt), opened(path) as journal:
            assert journal.found.records == ()
