"""The files of a validator: what a start makes of them, whichever of them is lost, old, or behind the others."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from coordinator.consensus.journal import CertifiedRecord, FloorRecord, Record, VoteRecord
from coordinator.consensus.signing import Ed25519Scheme, VoteKind
from coordinator.ledger.audit import audit
from coordinator.ledger.errors import GuardCorrupt, JournalCorrupt, StoreFull
from coordinator.ledger.journal_file import JournalFile
from coordinator.ledger.store import Store
from coordinator.service.modules import MODULES
from coordinator.service.writer import Batch, Recovered, Writer
from tests.coordinator.ledger.support import Chain
from tests.coordinator.service.lone_chain import genesis, running

KEY = b"k" * 32
PAYLOAD = b"of a block that is not final"


def vote(view: int) -> VoteRecord:
    return VoteRecord(VoteKind.NOTARIZE, 0, view, view - 1, bytes([view]) * 32)


class Files:
    """A writer over a folder, and a chain that makes blocks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = Chain()
        self.ledger, self.journal, self.guard = (
            folder / name for name in ("ledger.sqlite", "consensus.journal", "sign.guard")
        )
        self.writer: Writer

    def open(self, *, force_rejoin: bool = False) -> Recovered:
        self.writer = Writer(self.folder, self.chain.genesis, self.chain.machine, KEY)
        try:
            return self.writer.open(force_rejoin).result()
        except BaseException:
            self.writer.close()
            raise

    def write(self, *records: Record, payloads: dict[bytes, bytes] | None = None, blocks: int = 0) -> None:
        finalized = [self.chain.make() for _ in range(blocks)]
        certificate = finalized[-1].certificate if finalized else None
        final_round = None if certificate is None else (certificate.epoch, certificate.view)
        batch = Batch(records=list(records), payloads=payloads or {}, finalized=finalized, final_round=final_round)
        self.writer.write(batch).result()

    def reopen(self, *, force_rejoin: bool = False) -> Recovered:
        self.writer.close()
        return self.open(force_rejoin=force_rejoin)

    @property
    def height(self) -> int:
        return self.writer.store.state.header.height


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    assert made.open().is_new
    return made


def certified(files: Files) -> CertifiedRecord:
    """The verdict on the block that would come next, with a payload of its own."""
    header = Chain().make(files.chain.pay("alice", "bob", 5)).block.header
    return CertifiedRecord(header, ok=True)


def test_a_validator_goes_on_from_its_files(files: Files) -> None:
    verdict = certified(files)
    payloads = {verdict.header.payload_digest: PAYLOAD, b"d" * 32: b"nobody knows of it after a restart"}
    files.write(vote(1), vote(4), blocks=1)
    files.write(verdict, vote(6), payloads=payloads)
    found = files.reopen()
    assert not found.is_new
    assert not found.must_rejoin
    assert found.records == (vote(1), vote(4), verdict, vote(6))
    assert found.payloads == {verdict.header.payload_digest: PAYLOAD}
    assert found.certificate is not None
    assert files.height == 1
    assert files.writer.payload(b"d" * 32).result() is None
    files.writer.close()


@pytest.mark.parametrize("lost", ["ledger", "journal", "both"])
def test_a_validator_that_lost_a_file_rejoins_and_knows_its_votes_by_the_guard(files: Files, lost: str) -> None:
    verdict = certified(files)
    files.write(vote(1), FloorRecord(0, 1, 7), verdict, payloads={verdict.header.payload_digest: PAYLOAD})
    files.write(vote(2))
    files.writer.close()
    for name, path in (("ledger", files.ledger), ("journal", files.journal)):
        if lost in (name, "both"):
            path.unlink()
    found = files.open()
    assert found.must_rejoin
    assert not found.is_new
    assert {vote(1), vote(2)} <= set(found.records)
    assert not any(isinstance(record, CertifiedRecord) for record in found.records), "its parent may not be there"
    assert (FloorRecord(0, 1, 7) in found.records) == (lost == "ledger")
    assert ("there was no journal" in found.message) == (lost != "ledger")
    files.writer.close()


def test_a_ledger_older_than_what_the_key_has_signed_rejoins(files: Files) -> None:
    files.writer.close()
    old = files.ledger.read_bytes()
    files.open()
    files.write(vote(1), blocks=2)
    files.writer.guard.compact()
    files.writer.close()
    files.ledger.write_bytes(old)
    assert files.open().must_rejoin
    files.writer.close()


def test_without_its_guard_a_validator_that_has_run_does_not_start(files: Files) -> None:
    files.writer.close()
    files.guard.unlink()
    with pytest.raises(GuardCorrupt, match="find out"):
        files.open()


def test_a_journal_that_is_left_alone_is_enough_to_rejoin(files: Files) -> None:
    files.write(vote(1))
    files.writer.close()
    files.ledger.unlink()
    files.guard.unlink()
    found = files.open()
    assert found.must_rejoin
    assert found.records == (vote(1),)
    assert [one.view for one in files.writer.guard.votes()] == [1]
    files.writer.close()


def test_a_start_that_was_cut_off_before_there_was_a_ledger_rejoins(files: Files) -> None:
    """The guard comes first: whoever finds it alone cannot know how far the key has come."""
    files.writer.close()
    files.ledger.unlink()
    files.journal.unlink()
    assert files.open().must_rejoin
    files.writer.close()


def test_votes_that_the_guard_lost_with_the_power_come_back_from_the_journal(files: Files) -> None:
    empty = files.guard.read_bytes()
    files.write(vote(1))
    files.write(vote(2))
    files.writer.close()
    files.guard.write_bytes(empty)
    assert not files.open().must_rejoin
    assert {(one.view, one.digest) for one in files.writer.guard.votes()} == {(n, bytes([n]) * 32) for n in (1, 2)}
    files.writer.close()


def test_a_damaged_journal_stops_the_node_and_moved_away_it_rejoins(files: Files) -> None:
    for view in (1, 2, 3):
        files.write(vote(view))
    files.writer.close()
    data = bytearray(files.journal.read_bytes())
    data[len(data) // 2] ^= 1
    files.journal.write_bytes(data)
    with pytest.raises(JournalCorrupt, match="move the file away"):
        files.open()
    files.journal.unlink()
    found = files.open()
    assert found.must_rejoin
    assert found.records == (vote(1), vote(2), vote(3))
    files.writer.close()


def test_a_crash_between_ledger_and_journal_loses_only_what_was_not_released(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(vote(1))

    def full(journal: JournalFile, *what: object) -> None:
        raise StoreFull("no room")

    monkeypatch.setattr(JournalFile, "append", full)
    with pytest.raises(StoreFull):
        files.write(vote(2), vote(9), blocks=1)
    monkeypatch.undo()
    found = files.reopen()
    assert files.height == 1
    assert not found.must_rejoin
    assert found.records == (vote(1), vote(9)), "the guard has the one above the final view"
    files.writer.close()


def test_a_verdict_without_its_payload_is_asked_for_again(files: Files) -> None:
    verdict, refused = certified(files), CertifiedRecord(Chain().make().block.header, ok=False)
    files.write(verdict, refused, vote(1))
    assert files.reopen().records == (refused, vote(1))
    files.writer.close()


def test_a_checkpoint_takes_the_journals_place(files: Files) -> None:
    verdict = certified(files)
    files.write(*(vote(view) for view in range(1, 9)), payloads={verdict.header.payload_digest: PAYLOAD})
    size = files.journal.stat().st_size
    files.writer.write(Batch(checkpoint=(vote(8), verdict))).result()
    assert files.journal.stat().st_size < size
    found = files.reopen()
    assert found.records[:2] == (vote(8), verdict)
    assert set(found.records[2:]) == {vote(view) for view in range(1, 8)}, "the guard has them until they are final"
    assert found.payloads == {verdict.header.payload_digest: PAYLOAD}
    files.writer.close()


def test_a_ledger_restored_from_a_backup_catches_up_with_its_journal(tmp_path: Path) -> None:
    """Even if nobody says so: the journal has every certificate since, and no vote is given twice."""
    ledger, of = tmp_path / "ledger.sqlite", genesis()

    async def grow(height: int) -> int:
        async with running(tmp_path, of=of) as host:
            while host.told.header.height < height:
                await host.new_block.wait()
            return host.told.header.height

    asyncio.run(grow(5))
    backup = tmp_path / "backup.sqlite"
    shutil.copy(ledger, backup)
    before = asyncio.run(grow(8))
    digests = headers_of(ledger)
    shutil.copy(backup, ledger)
    assert len(headers_of(ledger)) < before
    asyncio.run(grow(before + 10))
    assert headers_of(ledger)[: len(digests)] == digests
    assert audit(ledger, MODULES, Ed25519Scheme()).finding is None


def headers_of(ledger: Path) -> list[bytes]:

    with Store.open(ledger) as store:
        return [header.digest for header in store.headers(0, 1000)]
