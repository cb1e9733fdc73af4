"""The SQLite file of a ledger: schema, settings that are checked rather than hoped for, errors with a name.

WAL with synchronous=FULL: a commit that returned survives the loss of power; a commit that did not return leaves
nothing. One file a node, readable with any SQL tool.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.ledger.errors import StoreCorrupt, StoreError, StoreFull

FORMAT = b"gridaccord-ledger-2"
TABLES = {
    "meta": "name TEXT PRIMARY KEY, value BLOB NOT NULL",
    "blocks": "height INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, payload_digest BLOB NOT NULL,"
    " header BLOB NOT NULL, payload BLOB NOT NULL",
    "certificates": "height INTEGER PRIMARY KEY, certificate BLOB NOT NULL",
    "boundaries": "epoch INTEGER PRIMARY KEY, boundary BLOB NOT NULL",
    "receipts": "height INTEGER, place INTEGER, receipt BLOB NOT NULL, PRIMARY KEY (height, place)",
    "history_nodes": "level INTEGER, place INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, place)",
    "state": "key BLOB PRIMARY KEY, value BLOB NOT NULL",
    "base_state": "key BLOB PRIMARY KEY, value BLOB NOT NULL",
    "reading_batches": "height INTEGER, place INTEGER, salt_seed BLOB NOT NULL, PRIMARY KEY (height, place)",
    "reading_columns": "height INTEGER, place INTEGER, number INTEGER, size INTEGER NOT NULL,"
    " signature BLOB NOT NULL, PRIMARY KEY (height, place, number)",
    "readings": "device TEXT, start_s INTEGER, version INTEGER, duration_s INTEGER NOT NULL,"
    " clock_ms INTEGER NOT NULL, register_wh INTEGER NOT NULL, height INTEGER NOT NULL, place INTEGER NOT NULL,"
    " leaf INTEGER NOT NULL, PRIMARY KEY (device, start_s, version)",
}
"""Columns by table; all are STRICT, so that a value of another type is corruption and not a surprise."""

_WITH_ROWID = ("blocks", "certificates", "boundaries", "receipts")
_INDICES = {
    "blocks_by_payload": "CREATE INDEX blocks_by_payload ON blocks (payload_digest)",
    "readings_by_batch": "CREATE INDEX readings_by_batch ON readings (height, place, leaf)",
}
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CACHE_KIB = 16_384


def create_database(path: Path) -> sqlite3.Connection:
    """Make a new file with empty tables, readable by its owner only. Raises StoreError where there is a file."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        raise StoreError(f"{path}: there is a file already; open it, or choose another place") from None
    connection = _connect(path, "rwc")
    with translated(path), transaction(connection):
        for statement in _schema().values():
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('format', ?)", (FORMAT,))
    return connection


def _schema() -> dict[str, str]:
    """The statement that makes each table and index."""
    kinds = {name: "STRICT" if name in _WITH_ROWID else "STRICT, WITHOUT ROWID" for name in TABLES}
    tables = {name: f"CREATE TABLE {name} ({columns}) {kinds[name]}" for name, columns in TABLES.items()}
    return {**tables, **_INDICES}


def open_database(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a ledger file. Raises StoreError, StoreCorrupt."""
    if not path.is_file():
        raise StoreError(f"{path}: there is no ledger file; check the path")
    connection = _connect(path, "ro" if read_only else "rw")
    try:
        with translated(path):
            _check_tables(connection, path)
    except StoreError:
        connection.close()
        raise
    return connection


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    found = dict(connection.execute("SELECT name, type FROM sqlite_schema"))
    for kind, names in (("table", TABLES), ("index", _INDICES)):
        missing = [name for name in names if found.get(name) != kind]
        if missing:
            raise StoreCorrupt(f"{path}: {kind} {missing[0]} is missing; this is no ledger, or a damaged one")
    row = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if row is None or row[0] != FORMAT:
        stored = "none" if row is None else ascii(row[0]).strip("b'")
        raise StoreCorrupt(
            f"{path}: table meta, format: {stored}, this software reads {FORMAT.decode()}; use the version that wrote"
            " it, or move it away, and a validator fetches the ledger from the others"
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with translated(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
    try:
        with translated(path):
            connection.text_factory = bytes.decode
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if mode != "ro":
                _demand(connection, path, "journal_mode", "WAL", "wal")
                _demand(connection, path, "synchronous", "FULL", 2)
    except StoreError:
        connection.close()
        raise
    return connection


def _demand(connection: sqlite3.Connection, path: Path, setting: str, value: str, answer: str | int) -> None:
    connection.execute(f"PRAGMA {setting} = {value}")
    (got,) = connection.execute(f"PRAGMA {setting}").fetchone()
    if got != answer:
        raise StoreError(f"{path}: SQLite keeps {setting} at {got}, not {value}; use a local file system")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; durable when it returns."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back already where the disk was full.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several reads of one state of the file, whatever another connection commits meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StoreFull(f"{path}: the disk or the size limit is used up; nothing was kept, make room") from error
        if code in _CORRUPT:
            raise StoreCorrupt(f"{path}: SQLite finds the file damaged ({error}); restore a snapshot") from error
        raise StoreError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise StoreCorrupt(f"{path}: a text is not UTF-8; restore a snapshot") from error


def integrity_problems(connection: sqlite3.Connection) -> list[str]:
    """What SQLite's own check of pages, indices and constraints finds, or tables that are not defined as ours are."""
    try:
        found = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
        if found != _schema():
            return ["a table or an index is defined in another way than this software does"]
        rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return [str(error)]
    return [] if rows == ["ok"] else rows
