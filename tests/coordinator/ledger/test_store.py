"""The store: what was accepted survives a kill, a full disk keeps nothing by halves, damage has a name."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.header import payload_digest
from coordinator.consensus.signing import Ed25519Scheme
from coordinator.ledger.audit import audit
from coordinator.ledger.boundary import Boundary
from coordinator.ledger.errors import ProofRefused, StoreCorrupt, StoreError, StoreFull
from coordinator.ledger.genesis import start
from coordinator.ledger.history import verify_inclusion
from coordinator.ledger.readings import MeterBatch
from coordinator.ledger.snapshot import read_snapshot, restore, write_snapshot
from coordinator.ledger.store import Store
from tests.coordinator.ledger import crash_child
from tests.coordinator.ledger.support import QUARTER_S, TIME_MS, Chain

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(path=tmp_path / "ledger.sqlite", epoch_length=4)


def stored(chain: Chain) -> Store:
    assert chain.store is not None
    return chain.store


def grow(chain: Chain, blocks: int) -> None:
    for number in range(blocks):
        first = chain.make(chain.pay("alice", "bob", 10 + number), certified=False)
        stored(chain).commit([first, chain.make()])


def reopened(chain: Chain) -> Store:
    stored(chain).close()
    chain.store = Store.open(stored(chain).path)
    return chain.store


def sql(path: Path, statement: str, *arguments: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, arguments)
    connection.close()


def test_everything_is_found_again(chain: Chain) -> None:
    grow(chain, 5)
    block, receipts = stored(chain).block(3), stored(chain).receipts(3)
    store = reopened(chain)
    assert store.state.header == chain.state.header
    assert store.state.history == chain.state.history
    assert store.state.tree.root == chain.state.tree.root
    assert (store.block(3), store.receipts(3)) == (block, receipts)
    assert block is not None
    assert store.header_of(block.header.digest) == block.header
    assert store.payload(block.header.payload_digest) == block.payload
    assert (store.certificate(3), store.certified_from(3)) == (None, 4)
    assert [boundary.header.height for boundary in store.boundaries()] == [4, 8]
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_settings_are_checked_and_files_not_overwritten(chain: Chain, tmp_path: Path) -> None:
    connection = stored(chain)._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(StoreError, match="already"):
        Store.create(stored(chain).path, chain.genesis, chain.machine)
    with pytest.raises(StoreError, match="no ledger file"):
        Store.open(tmp_path / "missing")
    (tmp_path / "text").write_text("not a database, " * 100)
    with pytest.raises(StoreCorrupt):
        Store.open(tmp_path / "text")


def test_replay_from_genesis_gives_the_same_root(chain: Chain) -> None:
    grow(chain, 6)
    state = start(chain.genesis, chain.machine)
    for height in range(1, 13):
        block = stored(chain).block(height)
        assert block is not None
        state = chain.machine.apply(state, block).state
    assert (state.tree.root, state.history) == (chain.state.tree.root, chain.state.history)


def test_history_proofs_come_from_stored_nodes(chain: Chain) -> None:
    grow(chain, 5)
    store = reopened(chain)
    for height in range(11):
        block = store.block(height)
        assert block is not None
        proof = store.history.prove_inclusion(height, 11)
        verify_inclusion(store.state.history.root, 11, height, block.header.digest, proof)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE state SET value = zeroblob(16) WHERE key = (SELECT min(key) FROM state)",
        "DELETE FROM state WHERE key = (SELECT max(key) FROM state)",
        "DELETE FROM history_nodes WHERE place = 0",
        "DELETE FROM blocks",
        "UPDATE blocks SET header = zeroblob(3)",
        "DELETE FROM meta WHERE name = 'genesis'",
        "UPDATE meta SET value = 'x' WHERE name = 'format'",
        "DROP TABLE receipts",
        "DROP INDEX blocks_by_payload",
    ],
)
def test_damage_elsewhere_is_refused_with_a_name(chain: Chain, damage: str) -> None:
    grow(chain, 3)
    path = stored(chain).path
    stored(chain).close()
    sql(path, damage.replace("'x'", "x'00'"))
    with pytest.raises(StoreCorrupt, match=r"table |index "):
        Store.open(path)


def test_an_empty_payload_is_there_though_it_is_empty(chain: Chain) -> None:
    assert stored(chain).payload(payload_digest(b"")) == b"", "that of genesis"


def test_what_peers_ask_for_is_found_without_a_scan_and_headers_without_payloads(chain: Chain) -> None:
    """Anyone may ask for a payload or a range; the answer is made where blocks are committed."""
    grow(chain, 3)
    store = stored(chain)
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    assert store.payload(bytes(32)) is None
    assert [header.height for header in store.headers(2, 3)] == [2, 3, 4]
    assert [header.height for header in store.headers(5, 2**62)] == [5, 6]
    assert (store.headers(7, 5), store.headers(1, 0), store.headers(1, -1)) == ((), (), ())
    store._connection.set_trace_callback(None)
    assert len(statements) == 6
    for statement in statements:
        plan = store._connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        assert all(row[-1].startswith("SEARCH") for row in plan), (statement, plan)
    assert all("payload" not in statement for statement in statements[1:])


def test_hosts_that_break_their_side_are_stopped(chain: Chain) -> None:
    first, second = chain.make(certified=False), chain.make()
    for wrong in ([first], [second], [second, replace(first, certificate=second.certificate)]):
        with pytest.raises(AssertionError):
            stored(chain).commit(wrong)
    stored(chain).commit([first, second])
    assert stored(chain).state.header.height == 2


def test_a_full_disk_keeps_nothing_by_halves_and_the_store_goes_on_when_there_is_room(chain: Chain) -> None:
    grow(chain, 2)
    store = stored(chain)
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    accepted, chain_before = store.state.header.height, chain.state
    with pytest.raises(StoreFull, match="make room"):
        for _ in range(100):
            chain_before = chain.state
            store.commit([chain.make(chain.pay("alice", "bob", 1))])
            accepted = store.state.header.height
    chain.state = chain_before
    assert store.state.header.height == accepted
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.commit([chain.make(chain.pay("alice", "bob", 1))])
    assert reopened(chain).state.header.height == accepted + 1
    assert audit(store.path, chain.modules, chain.scheme).finding is None


def test_nothing_accepted_is_lost_when_the_process_is_killed_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.coordinator.ledger.crash_child", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) == len(crash_child.STEPS) + len(crash_child.SPINS)
    chain = Chain(real=False, epoch_length=5)
    assert any(0 < run["height"] < 2 * crash_child.BLOCKS for run in runs), "kills hit the middle"
    for run in runs:
        with Store.open(Path(run["path"])) as store:
            height = store.state.header.height
        # One commit may have become durable just before its acceptance could be told.
        assert height in (run["height"], run["height"] + 2), run
        assert audit(Path(run["path"]), chain.modules, chain.scheme).finding is None


def test_a_torn_write_ahead_log_loses_only_commits_at_its_end(chain: Chain, tmp_path: Path) -> None:
    store = stored(chain)
    heights = {}
    wal = store.path.with_name(store.path.name + "-wal")
    store._connection.execute("PRAGMA wal_autocheckpoint = 0")
    for _ in range(6):
        grow(chain, 1)
        heights[wal.stat().st_size] = store.state.header.height
    data, log = store.path.read_bytes(), wal.read_bytes()
    for cut in range(0, len(log), max(1, len(log) // 60)):
        for torn in (log[:cut], log[:cut] + bytes(len(log) - cut)):
            copy = tmp_path / "torn.sqlite"
            copy.write_bytes(data)
            copy.with_name("torn.sqlite-wal").write_bytes(torn)
            whole = max((height for size, height in heights.items() if size <= cut), default=0)
            with _opened_or_empty(copy) as again:
                if again is not None:
                    assert again.state.header.height >= whole
                    assert audit(copy, chain.modules, chain.scheme).finding is None
                else:
                    assert whole == 0, "only the creation itself may be missing"


@contextmanager
def _opened_or_empty(path: Path) -> Iterator[Store | None]:
    """The store, or None where not even its tables had been written."""
    try:
        store = Store.open(path)
    except StoreCorrupt as error:
        assert "table meta is missing" in str(error) or "genesis: missing" in str(error)
        yield None
        return
    with store:
        yield store


def test_a_snapshot_restores_the_state_and_goes_on(chain: Chain, tmp_path: Path) -> None:
    grow(chain, 5)
    snapshot_file = tmp_path / "snapshot"
    write_snapshot(stored(chain), snapshot_file)
    assert snapshot_file.stat().st_mode & 0o777 == 0o600
    snapshot = read_snapshot(snapshot_file, chain.chain_id, Ed25519Scheme())
    chain.store = restore(snapshot, tmp_path / "restored.sqlite")
    grow(chain, 4)
    store = reopened(chain)
    assert store.state.header == chain.state.header
    report = audit(store.path, chain.modules, chain.scheme, chain_id=chain.chain_id)
    assert (report.finding, report.base_height, report.blocks) == (None, 10, 8)
    proof = store.history.prove_inclusion(13, 18)
    block = store.block(13)
    assert block is not None
    head = store.block(18)
    assert head is not None
    verify_inclusion(head.header.history_root, 18, 13, block.header.digest, proof)


def test_a_snapshot_at_a_boundary_and_a_snapshot_of_a_restored_ledger(chain: Chain, tmp_path: Path) -> None:
    for number in range(2):
        grow(chain, 2)
        assert chain.state.header.height % 4 == 0
        write_snapshot(stored(chain), tmp_path / f"snapshot{number}")
        snapshot = read_snapshot(tmp_path / f"snapshot{number}", chain.chain_id, Ed25519Scheme())
        chain.store = restore(snapshot, tmp_path / f"restored{number}.sqlite")
        assert audit(stored(chain).path, chain.modules, chain.scheme).finding is None


def test_every_byte_of_a_snapshot_counts(chain: Chain, tmp_path: Path) -> None:
    grow(chain, 3)
    path = tmp_path / "snapshot"
    write_snapshot(stored(chain), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises((DecodeError, ProofRefused)):
            read_snapshot(path, chain.chain_id, Ed25519Scheme())
    for cut in (whole[:-1], whole + b"\0", whole[:20], b""):
        path.write_bytes(cut)
        with pytest.raises((DecodeError, ProofRefused)):
            read_snapshot(path, chain.chain_id, Ed25519Scheme())
    path.write_bytes(whole)
    with pytest.raises(ProofRefused, match="chain"):
        read_snapshot(path, bytes(32), Ed25519Scheme())


@pytest.mark.parametrize("height", [4, 6])
def test_a_snapshot_has_the_boundaries_of_the_epochs_that_ended_and_no_other(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    """One of a later epoch, which nobody signed, would be handed to light clients and stop the node at its height."""
    grow(chain, height // 2)
    honest = stored(chain).boundaries()
    header = replace(honest[0].header, epoch=1, height=8)
    invented = Boundary(header, replace(honest[0].certificate, epoch=1, digest=header.digest), (bytes(32),))
    path = tmp_path / "snapshot"
    for wrong in ((*honest, invented), (*honest, honest[0]), (), (invented,)):
        monkeypatch.setattr(Store, "boundaries", lambda store, wrong=wrong: wrong)
        write_snapshot(stored(chain), path)
        with pytest.raises(ProofRefused, match="boundar"):
            read_snapshot(path, chain.chain_id, Ed25519Scheme())


def test_a_reading_is_never_stored_twice(chain: Chain) -> None:
    start_s = TIME_MS // 1000 // QUARTER_S * QUARTER_S - 4 * QUARTER_S
    batch = MeterBatch(bytes(16), (chain.column("meter-a", start_s, [1, 2]),))
    chain.add(chain.readings("alice", batch), batches={0: batch})
    before = chain.state
    with pytest.raises(ValueError, match="stored already"):
        chain.add(chain.readings("alice", batch), batches={0: batch})
    assert stored(chain).state.header == before.header
