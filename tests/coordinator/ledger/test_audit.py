"""The audit: a change of any stored value is found and named; a flipped byte of the file is found or does nothing."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.consensus.signing import VoteKind
from coordinator.ledger.audit import AuditReport, audit
from coordinator.ledger.database import TABLES
from coordinator.ledger.errors import StoreError
from coordinator.ledger.readings import Column, MeterBatch, sign_column
from coordinator.ledger.records import Account
from coordinator.ledger.snapshot import read_snapshot, restore, write_snapshot
from tests.coordinator.ledger.support import QUARTER_S, TIME_MS, Chain

START_S = TIME_MS // 1000 // QUARTER_S * QUARTER_S - 40 * QUARTER_S
SEED = 20_261_122


def build(folder: Path) -> Chain:
    """A ledger with something in every table but base_state."""
    chain = Chain(path=folder / "ledger.sqlite", epoch_length=4)
    assert chain.store is not None
    for number in range(6):
        start_s = START_S + 4 * number * QUARTER_S
        first = chain.column("meter-a", start_s, [100 * number + n for n in range(4)])
        columns = [first, chain.column("meter-b", start_s, [number])]
        if number == 4:
            columns.append(chain.column("meter-a", START_S, [0, 1], version=1))
        batch = MeterBatch(bytes([number]) * 16, tuple(columns))
        chain.store.commit(
            [
                chain.make(chain.pay("alice", "bob", 10 + number), certified=False),
                chain.make(chain.readings("alice", batch), batches={0: batch}),
            ],
        )
    return chain


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    chain = build(tmp_path_factory.mktemp("audit"))
    assert chain.store is not None
    chain.store.close()
    return chain


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A ledger that begins at a snapshot."""
    folder = tmp_path_factory.mktemp("restored")
    chain = build(folder)
    assert chain.store is not None
    write_snapshot(chain.store, folder / "snapshot")
    chain.store = restore(read_snapshot(folder / "snapshot", chain.chain_id, chain.scheme), folder / "restored.sqlite")
    for _ in range(5):
        chain.add(chain.pay("alice", "bob", 1))
    chain.store.close()
    return chain


def copied(chain: Chain, folder: Path) -> Path:
    assert chain.store is not None
    return Path(shutil.copy(chain.store.path, folder / "copy.sqlite"))


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def check(path: Path, chain: Chain) -> AuditReport:
    return audit(path, chain.modules, chain.scheme, chain_id=chain.chain_id)


def test_a_boundary_of_an_epoch_that_has_not_ended_is_found(tmp_path: Path) -> None:
    chain = Chain(path=tmp_path / "ledger.sqlite", epoch_length=4, real=False)
    assert chain.store is not None
    for _ in range(6):
        chain.add()
    (honest,) = chain.store.boundaries()
    invented = replace(honest, header=replace(honest.header, epoch=1, height=5))
    chain.store.close()
    change(chain.store.path, f"INSERT INTO boundaries VALUES (1, x'{invented.encode().hex()}')")
    finding = check(chain.store.path, chain).finding
    assert finding is not None
    assert finding.table == "boundaries"


def test_a_good_ledger_is_valid_and_counted(good: Chain, restored: Chain) -> None:
    assert good.store is not None
    report = check(good.store.path, good)
    assert report.valid
    assert (report.height, report.blocks, report.transactions, report.readings) == (12, 12, 12, 32)
    assert report.certificates == 6
    assert restored.store is not None
    assert check(restored.store.path, restored).valid


CELLS = [(table, column.split()[0]) for table, text in TABLES.items() for column in text.split(", ") if " " in column]
COLUMNS = [(t, c) for t, c in CELLS if c not in ("PRIMARY", "place)", "leaf)") and not c.endswith(")")]


def mutations(value: object, chosen: random.Random) -> list[object]:
    """Values one change away."""
    if isinstance(value, bytes):
        flipped = bytearray(value)
        if flipped:
            flipped[chosen.randrange(len(flipped))] ^= 1 << chosen.randrange(8)
        return [bytes(flipped) if flipped else b"\0", value + b"\0", value[:-1] or b"\1\2"]
    if isinstance(value, int):
        return [value + 1, value ^ 1 << 20, -value - 1]
    return [f"{value}x"]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda part: part)
def test_every_column_of_every_table_is_covered(
    good: Chain, restored: Chain, tmp_path: Path, table: str, column: str
) -> None:
    chosen = random.Random(f"{SEED} {table} {column}")
    chain = restored if table == "base_state" else good
    path = copied(chain, tmp_path)
    connection = sqlite3.connect(path, isolation_level=None)
    keys = [c for t, c in COLUMNS if t == table]
    rows = connection.execute(f"SELECT {', '.join(keys)} FROM {table}").fetchall()
    assert rows, "the ledger of this test has rows in every table"
    for row in chosen.sample(rows, min(3, len(rows))):
        where = " AND ".join(f"{key} IS ?" for key in keys)
        value = row[keys.index(column)]
        for other in mutations(value, chosen):
            connection.execute("SAVEPOINT here")
            try:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (other, *row))
                connection.execute("RELEASE here")
            except sqlite3.IntegrityError:
                connection.execute("ROLLBACK TO here")
                connection.execute("RELEASE here")
                continue
            report = check(path, chain)
            assert report.finding is not None, f"seed {SEED}: {table}.{column} {value!r} -> {other!r} is not found"
            changed = dict(zip(keys, row, strict=True)) | {column: other}
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *changed.values()))
    connection.close()
    assert check(path, chain).valid


# A certificate within an epoch is as good as a later one.
@pytest.mark.parametrize("table", TABLES)
def test_a_missing_row_is_found(good: Chain, restored: Chain, tmp_path: Path, table: str) -> None:
    chain = restored if table == "base_state" else good
    for part in range(3):
        path = copied(chain, tmp_path)
        connection = sqlite3.connect(path)
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        offset = 1 if table == "certificates" else min(part * count // 2, count - 1)
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2 LIMIT 1 OFFSET {offset}")
        names, row = [entry[0] for entry in cursor.description], cursor.fetchone()
        with connection:
            connection.execute(f"DELETE FROM {table} WHERE " + " AND ".join(f"{name} IS ?" for name in names), row)
        connection.close()
        report = check(path, chain)
        assert report.finding is not None, f"{table}: row {offset} is missing and nobody sees it"


def test_a_ledger_that_grows_meanwhile_is_audited_as_it_was(tmp_path: Path) -> None:
    """Found by auditing a node that ran: its next certificate stood above the last block that the audit had seen."""
    chain = build(tmp_path)
    assert chain.store is not None
    height = chain.state.header.height

    def grow(report: AuditReport) -> None:
        if chain.state.header.height < height + 3:
            chain.add()

    report = audit(chain.store.path, chain.modules, chain.scheme, chain_id=chain.chain_id, progress=grow)
    assert report.finding is None
    assert report.height == height < chain.state.header.height


def test_a_certificate_that_a_later_one_replaces_is_not_missed(good: Chain, tmp_path: Path) -> None:
    path = copied(good, tmp_path)
    change(path, "DELETE FROM certificates WHERE height = 2")
    report = check(path, good)
    assert (report.valid, report.certificates) == (True, 5)


NAMED: dict[str, tuple[str, int | None, str, Callable[[str], str]]] = {
    "state entry": ("state", 12, "value", lambda t: "UPDATE state SET value = zeroblob(16) WHERE key LIKE 'account%'"),
    "payload": ("blocks", 5, "payload", lambda t: "UPDATE blocks SET payload = x'00' WHERE height = 5"),
    "header": ("blocks", 7, "header", lambda t: "UPDATE blocks SET header = x'00' WHERE height = 7"),
    "digest": ("blocks", 2, "digest", lambda t: "UPDATE blocks SET digest = zeroblob(32) WHERE height = 2"),
    "receipt": ("receipts", 3, "receipt", lambda t: "UPDATE receipts SET receipt = x'00' WHERE height = 3"),
    "certificate": (
        "certificates",
        4,
        "certificate",
        lambda t: "UPDATE certificates SET certificate = x'00' WHERE height = 4",
    ),
    "reading": ("readings", 2, "root", lambda t: "UPDATE readings SET register_wh = 4 WHERE height = 2 AND leaf = 3"),
    "node": ("history_nodes", 3, "hash", lambda t: "UPDATE history_nodes SET hash = zeroblob(32) WHERE level = 2"),
    "gap": ("blocks", 6, "height", lambda t: "DELETE FROM blocks WHERE height = 6"),
    "boundary": ("boundaries", 8, "boundary", lambda t: "UPDATE boundaries SET boundary = x'00' WHERE epoch = 1"),
}


@pytest.mark.parametrize("name", NAMED)
def test_the_first_bad_table_height_and_field_are_named(good: Chain, tmp_path: Path, name: str) -> None:
    table, height, field, statement = NAMED[name]
    path = copied(good, tmp_path)
    change(path, statement(table).replace("LIKE 'account%'", "= (SELECT min(key) FROM state)"))
    finding = check(path, good).finding
    assert finding is not None
    assert (finding.table, finding.height, finding.field) == (table, height, field), str(finding)


def test_the_first_of_several_faults_is_named(good: Chain, tmp_path: Path) -> None:
    path = copied(good, tmp_path)
    change(path, "UPDATE blocks SET payload = x'00' WHERE height IN (5, 9)", "DELETE FROM receipts WHERE height = 7")
    report = check(path, good)
    assert report.finding is not None
    assert (report.finding.height, report.height) == (5, 4)


def test_a_truncated_ledger_is_named(good: Chain, tmp_path: Path) -> None:
    path = copied(good, tmp_path)
    change(path, "DELETE FROM blocks WHERE height = 12")
    finding = check(path, good).finding
    assert finding is not None
    assert (finding.table, finding.height) == ("certificates", 11)
    assert "cut short" in finding.reason
    path = copied(good, tmp_path)
    whole = path.read_bytes()
    for size in (len(whole) - 4096, len(whole) // 2, 5000, 100, 0):
        path.write_bytes(whole[:size])
        assert check(path, good).finding is not None, size


def test_money_made_by_a_corrupt_state_machine_is_found(good: Chain, tmp_path: Path) -> None:
    """Validators that all agree on a wrong state: certificates are fine, execution is not."""
    chain = Chain(path=tmp_path / "forged.sqlite")
    made = chain.make(chain.pay("alice", "bob", 5))
    key = Account.key("bob", "EUR")
    forged = replace(chain.state, tree=chain.state.tree.set(key, Account(10**15, 0).encode()))
    header = replace(made.block.header, state_root=forged.tree.root)
    validators = forged.epoch_configs()[0].validators
    state = replace(forged, header=header, history=made.applied.state.history)
    finalized = replace(
        made,
        block=replace(made.block, header=header),
        applied=replace(made.applied, state=state),
        certificate=chain.certificate(header, validators),
    )
    assert chain.store is not None
    chain.store.commit([finalized])
    chain.store.close()
    finding = check(tmp_path / "forged.sqlite", chain).finding
    assert finding is not None
    assert (finding.table, finding.height, finding.field) == ("blocks", 1, "state_root")


def test_only_finalizations_by_the_epoch_s_quorum_count(tmp_path: Path) -> None:
    chain = Chain(path=tmp_path / "ledger.sqlite")
    made = chain.make()
    validators = chain.state.epoch_configs()[0].validators
    assert chain.store is not None
    chain.store.commit([made])
    chain.store.close()
    notarized = chain.certificate(made.block.header, validators, VoteKind.NOTARIZE).encode()
    change(tmp_path / "ledger.sqlite", f"UPDATE certificates SET certificate = x'{notarized.hex()}'")
    finding = check(tmp_path / "ledger.sqlite", chain).finding
    assert finding is not None
    assert (finding.table, finding.height) == ("certificates", 1)


def test_readings_may_be_pruned_when_they_are_old_and_not_before(tmp_path: Path) -> None:
    chain = Chain(path=tmp_path / "ledger.sqlite", parameters={"late_limit_s": "86400"})
    store = chain.store
    assert store is not None
    for number in range(2):
        start_s = START_S + number * 200_000 // QUARTER_S * QUARTER_S
        batch = MeterBatch(bytes(16), (chain.column("meter-a", start_s, [number]),))
        later = TIME_MS + 1000 + number * 200_000_000
        store.commit([chain.make(chain.readings("alice", batch), batches={0: batch}, time_ms=later)])
    assert store.prune_readings(86400) == 1
    report = check(store.path, chain)
    assert report.valid
    assert (report.readings, report.readings_pruned) == (1, 1)
    store._connection.execute("DELETE FROM readings")
    store._connection.execute("DELETE FROM reading_columns")
    store._connection.execute("DELETE FROM reading_batches")
    finding = check(store.path, chain).finding
    assert finding is not None
    assert "too young" in finding.reason


@pytest.mark.parametrize("text", ['"\\ud800"', f'"{"x" * (2 << 20)}"'], ids=["half a character", "2 MiB"])
def test_a_hostile_genesis_is_a_finding(tmp_path: Path, text: str) -> None:
    chain = Chain(path=tmp_path / "ledger.sqlite", real=False)
    assert chain.store is not None
    chain.store.close()
    hostile = chain.genesis.encoded.replace(b'"parameters": {}', b'"parameters": {"note": %s}' % text.encode())
    change(chain.store.path, f"UPDATE meta SET value = x'{hostile.hex()}' WHERE name = 'genesis'")
    finding = audit(chain.store.path, chain.modules, chain.scheme).finding
    assert finding is not None
    assert (finding.table, finding.field) == ("meta", "genesis")


@pytest.mark.parametrize("entry", ["zeroblob(129), x'00'", "x'00', zeroblob(1048577)"])
def test_an_entry_of_a_snapshot_that_is_too_large_is_a_finding(restored: Chain, tmp_path: Path, entry: str) -> None:
    path = copied(restored, tmp_path)
    change(path, f"INSERT INTO base_state VALUES ({entry})")
    finding = check(path, restored).finding
    assert finding is not None
    assert finding.table == "base_state"


@pytest.mark.parametrize(
    ("ago_s", "duration_s", "reason"),
    [
        (46 * 86_400, QUARTER_S, "may be late"),
        (-10 * QUARTER_S, QUARTER_S, "has not ended"),
        (40 * QUARTER_S, 999, "do not start at a multiple"),
        (40 * 86_400, 3 * 86_400, "do not start at a multiple"),
    ],
)
def test_readings_that_no_validator_should_have_voted_for_are_found(
    tmp_path: Path, ago_s: int, duration_s: int, reason: str
) -> None:
    """Certified all the same: a quorum that does not check when readings were delivered."""
    chain = Chain(path=tmp_path / "ledger.sqlite")
    start_s = TIME_MS // 1000 - ago_s
    column = Column("meter-a", start_s, duration_s, 0, ((start_s + duration_s) * 1000,), (5,))
    batch = MeterBatch(bytes(16), (sign_column(chain.signer("meter-a"), chain.chain_id, column),))
    chain.add(chain.readings("alice", batch), batches={0: batch})
    assert chain.store is not None
    finding = check(chain.store.path, chain).finding
    assert finding is not None
    assert (finding.table, finding.height) == ("readings", 1)
    assert reason in finding.reason


def dump(path: Path) -> dict[str, list[object]]:
    connection = sqlite3.connect(path)
    rows = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}
    connection.close()
    return rows


def test_a_flipped_byte_of_the_file_is_found_or_does_nothing(good: Chain, tmp_path: Path) -> None:
    chosen = random.Random(SEED)
    path = copied(good, tmp_path)
    whole, content = path.read_bytes(), dump(path)
    harmless = 0
    for _ in range(160):
        place, bit = chosen.randrange(len(whole)), 1 << chosen.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= bit
        path.write_bytes(damaged)
        if check(path, good).finding is None:
            harmless += 1
            assert dump(path) == content, f"seed {SEED}: byte {place} ^ {bit} changes what is stored, unseen"
    assert harmless < 160


def test_another_chain_or_no_file_is_refused(good: Chain, tmp_path: Path) -> None:
    assert good.store is not None
    finding = audit(good.store.path, good.modules, good.scheme, chain_id=bytes(32)).finding
    assert finding is not None
    assert (finding.table, finding.field) == ("meta", "genesis")
    with pytest.raises(StoreError, match="no ledger file"):
        audit(tmp_path / "missing", good.modules, good.scheme)
