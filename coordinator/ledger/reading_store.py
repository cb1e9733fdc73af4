"""Meter readings in the ledger's file: beside the chain, by batch and by device, prunable."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from coordinator.ledger.errors import ReadingsRefused, StoreCorrupt
from coordinator.ledger.merkle import SALT_SIZE
from coordinator.ledger.readings import COLUMN_READINGS_MAX, Column, MeterBatch, Reading, SignedColumn
from coordinator.ledger.transaction import NAME_MAX

_READING = "device, start_s, duration_s, version, clock_ms, register_wh"
_BEFORE = (
    f"SELECT {_READING} FROM readings WHERE device = ? AND start_s < ? ORDER BY start_s DESC, version DESC LIMIT 1"
)
_BETWEEN = (
    f"SELECT {_READING} FROM readings WHERE device = ? AND start_s >= ? AND start_s < ? ORDER BY start_s, version"
)
_FIRST_AFTER = "SELECT start_s FROM readings WHERE device = ? AND start_s >= ? ORDER BY start_s LIMIT 1"
_ENDING = (
    "SELECT r.device, r.register_wh FROM json_each(?1) AS asked JOIN readings AS r ON r.device = asked.value"
    " AND r.start_s = (SELECT max(start_s) FROM readings WHERE device = asked.value AND start_s < ?2)"
    " WHERE r.start_s + r.duration_s = ?2 ORDER BY r.version"
)
_LATEST = f"SELECT {_READING} FROM readings WHERE device = ? AND start_s = ? ORDER BY version DESC LIMIT 1"


class StoredReadings:
    """Readings of a ledger's file; a `readings.ReadingIndex`. The caller has a transaction open where it writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def before(self, device: str, start_s: int) -> Reading | None:
        """The last reading whose interval starts before."""
        row = self._connection.execute(_BEFORE, (device, start_s)).fetchone()
        return None if row is None else Reading(*row)

    def between(self, device: str, start_s: int, end_s: int) -> Sequence[Reading]:
        """Latest versions of those whose interval starts in [start, end), in order."""
        rows = self._connection.execute(_BETWEEN, (device, start_s, end_s))
        return list({row[1]: Reading(*row) for row in rows}.values())

    def after(self, device: str, start_s: int) -> Reading | None:
        """The first whose interval starts at this time or later."""
        found = self._connection.execute(_FIRST_AFTER, (device, start_s)).fetchone()
        if found is None:
            return None
        return Reading(*self._connection.execute(_LATEST, (device, found[0])).fetchone())

    def registers_wh(self, devices: Iterable[str], at_s: int) -> dict[str, int]:
        """What the registers of many devices show at a time, of those that have a reading which ends then."""
        return dict(self._connection.execute(_ENDING, (json.dumps(list(devices)), at_s)))

    def add(self, height: int, place: int, batch: MeterBatch) -> None:
        """Keep the batch of the transaction at this place. Raises ReadingsRefused where a reading is there already."""
        execute, many = self._connection.execute, self._connection.executemany
        execute("INSERT INTO reading_batches VALUES (?, ?, ?)", (height, place, batch.salt_seed))
        columns = (
            (height, place, number, len(signed.column.clocks_ms), signed.signature)
            for number, signed in enumerate(batch.columns)
        )
        many("INSERT INTO reading_columns VALUES (?, ?, ?, ?, ?)", columns)
        rows = (
            (r.device, r.start_s, r.version, r.duration_s, r.clock_ms, r.register_wh, height, place, leaf)
            for leaf, r in enumerate(batch.readings())
        )
        try:
            many("INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.IntegrityError:
            raise ReadingsRefused(f"height {height}: a reading of the batch at {place} is stored already") from None

    def batch(self, height: int, place: int) -> MeterBatch | None:
        """A batch as it was committed, None where it was pruned. Raises StoreCorrupt where parts are missing."""
        where = (height, place)
        seed = self._connection.execute(
            "SELECT salt_seed FROM reading_batches WHERE height = ? AND place = ?", where
        ).fetchone()
        if seed is None:
            return None
        if len(seed[0]) != SALT_SIZE:
            raise StoreCorrupt(f"table reading_batches, height {height}: a salt seed of {len(seed[0])} bytes")
        columns = self._connection.execute(
            "SELECT number, size, signature FROM reading_columns WHERE height = ? AND place = ? ORDER BY number", where
        )
        rows = self._connection.execute(
            f"SELECT leaf, {_READING} FROM readings WHERE height = ? AND place = ? ORDER BY leaf", where
        )
        batch = MeterBatch(seed[0], tuple(_columns(columns, rows, height)))
        if next(rows, None) is not None:
            raise StoreCorrupt(f"table readings, height {height}: more readings than the columns of their batch")
        return batch

    def prune(self, end_height: int) -> int:
        """Drop the batches of blocks below this height; how many readings."""
        dropped = self._connection.execute("DELETE FROM readings WHERE height < ?", (end_height,)).rowcount
        self._connection.execute("DELETE FROM reading_columns WHERE height < ?", (end_height,))
        self._connection.execute("DELETE FROM reading_batches WHERE height < ?", (end_height,))
        return dropped

    def by_device(self) -> Iterator[tuple[int, Reading]]:
        """Every reading and the height of its block: by device, interval, version."""
        query = f"SELECT height, {_READING} FROM readings ORDER BY device, start_s, version"
        for row in self._connection.execute(query):
            yield row[0], _reading(row[1:], row[0])


def _columns(
    columns: Iterator[tuple[int, int, bytes]],
    rows: Iterator[tuple[int, str, int, int, int, int, int]],
    height: int,
) -> Iterator[SignedColumn]:
    leaf = 0
    for number, (stored, size, signature) in enumerate(columns):
        if not 1 <= size <= COLUMN_READINGS_MAX:
            raise StoreCorrupt(f"table reading_columns, height {height}: column {number} of {size} readings")
        readings = [(row[0], _reading(row[1:], height)) for row in islice(rows, size)]
        if stored != number or not readings or len(readings) != size:
            raise StoreCorrupt(f"table reading_columns, height {height}: column {number} or its readings are missing")
        if [place for place, _ in readings] != list(range(leaf, leaf + size)):
            raise StoreCorrupt(f"table readings, height {height}: leaf {leaf} or one after it is missing")
        leaf += size
        yield SignedColumn(_column([reading for _, reading in readings], height), signature)


def _reading(row: tuple[str, int, int, int, int, int], height: int) -> Reading:
    """A stored reading, of which some bytes may have changed since."""
    reading = Reading(*row)
    numbers = (reading.duration_s, reading.version)
    if len(reading.device) > NAME_MAX or not all(0 <= number < 1 << 32 for number in numbers):
        raise StoreCorrupt(f"table readings, height {height}: {reading.device[:60]!r} has numbers out of range")
    return reading


def _column(readings: Sequence[Reading], height: int) -> Column:
    """The column that these readings were; they differ only in time, clock and register."""
    first = readings[0]
    column = Column(
        first.device,
        first.start_s,
        first.duration_s,
        first.version,
        tuple(reading.clock_ms for reading in readings),
        tuple(reading.register_wh for reading in readings),
    )
    for expected, reading in zip(column.readings(), readings, strict=True):
        if expected != reading:
            raise StoreCorrupt(
                f"table readings, height {height}: {reading.device} at {reading.start_s} is out of place"
            )
    return column
