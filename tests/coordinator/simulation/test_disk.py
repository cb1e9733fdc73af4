"""What a restart finds on a disk after each kind of damage."""

from __future__ import annotations

import random

import pytest

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.header import Header
from coordinator.consensus.journal import FloorRecord, VoteRecord
from coordinator.consensus.rejoin import NEVER
from coordinator.consensus.signing import VoteKind
from coordinator.simulation.disk import Disk, DiskFull, Entry, StoredBlock, frame, parse

ZERO = bytes(32)
LENGTH = 1000


def vote(view: int) -> VoteRecord:
    """A vote of epoch 0."""
    return VoteRecord(VoteKind.NULLIFY, 0, view, 0, ZERO)


def written(views: int) -> Disk:
    """A disk with so many durable votes."""
    disk = Disk()
    for view in range(1, views + 1):
        disk.append(vote(view))
    disk.sync()
    return disk


def test_what_was_written_is_read_back() -> None:
    header = Header(1, ZERO, 0, 1, 1, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    entries: list[Entry] = [vote(1), StoredBlock(header, None), FloorRecord(0, 7, 3, False)]
    assert parse(b"".join(map(frame, entries))) == (entries, "clean")


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_tail_is_dropped_and_durable_votes_stay(seed: int) -> None:
    disk = written(3)
    for view in range(4, 8):
        disk.append(vote(view))
    disk.crash(random.Random(seed), torn=True)
    recovery = disk.recover(LENGTH)
    assert recovery.finding in ("clean", "torn"), f"seed {seed}"
    assert not recovery.must_rejoin
    assert list(recovery.records) == [vote(view) for view in range(1, len(recovery.records) + 1)]
    assert 3 <= len(recovery.records) <= 7


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_never_overlooked(seed: int) -> None:
    disk = written(6)
    disk.flip_bit(random.Random(seed))
    recovery = disk.recover(LENGTH)
    assert recovery.must_rejoin, f"seed {seed}: {recovery.finding}"
    assert list(recovery.records) == [vote(view) for view in range(1, len(recovery.records) + 1)]


@pytest.mark.parametrize("seed", range(5))
def test_lost_votes_are_told_by_the_guard(seed: int) -> None:
    disk = written(6)
    disk.lose_syncs(random.Random(seed))
    recovery = disk.recover(LENGTH)
    assert recovery.must_rejoin, f"seed {seed}"
    assert recovery.finding == "clean, votes lost"


def test_a_rejoin_is_remembered_until_the_floor_is_durable() -> None:
    disk = written(2)
    disk.lose_everything()
    assert disk.recover(LENGTH).must_rejoin
    disk.append(FloorRecord(0, NEVER, 5))
    disk.sync()
    assert disk.recover(LENGTH).must_rejoin
    disk.append(FloorRecord(0, 9, 5))
    disk.sync()
    assert not disk.recover(LENGTH).must_rejoin


def test_of_a_ledger_that_is_ahead_blocks_stay_up_to_the_last_with_a_finalization() -> None:
    header = Header(1, ZERO, 0, 1, 1, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
    certificate = Certificate(VoteKind.FINALIZE, ZERO, 0, 2, 1, header.digest, 4, (0, 1, 2), (bytes(64),) * 3)
    certified, covered = StoredBlock(header, certificate), StoredBlock(header, None)
    disk = written(3)
    for entry in (vote(4), covered, certified, vote(5), covered, vote(6)):
        disk.append(entry)
    disk.crash(random.Random(0), torn=False, ledger_ahead=True)
    assert disk.all_blocks() == [covered, certified]
    assert list(disk.recover(LENGTH).records) == [vote(1), vote(2), vote(3)]


def test_a_full_disk_refuses_to_synchronise() -> None:
    disk = written(1)
    disk.append(vote(2))
    disk.full = True
    with pytest.raises(DiskFull):
        disk.sync()
    disk.crash(random.Random(0), torn=False)
    assert [record.view for record in disk.recover(LENGTH).records] == [1]


def test_a_checkpoint_takes_the_place_of_the_journal() -> None:
    disk = written(5)
    disk.compact((vote(5),), (0, 4))
    assert disk.recover(LENGTH).records == (vote(5),)
    assert sorted(disk.guard) == [(0, 5, 2)]
