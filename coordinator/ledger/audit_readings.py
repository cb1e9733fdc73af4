"""The audit of what is kept beside the chain: batches against their roots, devices against their own past."""

from __future__ import annotations

import sqlite3

from coordinator.consensus.signing import Scheme
from coordinator.ledger.block import Block
from coordinator.ledger.block_readings import committed_batches, device_keys
from coordinator.ledger.errors import ReadingsRefused
from coordinator.ledger.reading_store import StoredReadings
from coordinator.ledger.readings import (
    MeterBatch,
    Reading,
    check_order,
    check_reading,
    check_signature,
    check_times,
    reading_rules,
)
from coordinator.ledger.state import Applied, LedgerState


class BatchAuditor:
    """Checks the batches of one block after another; remembers numbers only."""

    def __init__(self, connection: sqlite3.Connection, scheme: Scheme) -> None:
        self._connection = connection
        self._stored = StoredReadings(connection)
        self._scheme = scheme
        self._batches = self._columns = self._readings = 0
        self._last_pruned: tuple[int, int] | None = None

    def check(self, before: LedgerState, block: Block, applied: Applied) -> tuple[int, int]:
        """How many readings of a block are verified, and how many were pruned. Raises ReadingsRefused, StoreCorrupt."""
        verified = pruned = 0
        height = block.header.height
        for place, commitment in committed_batches(block, applied):
            batch = self._stored.batch(height, place)
            if batch is None:
                self._last_pruned = (height, block.header.time_ms)
                pruned += commitment.size
                continue
            if batch.commitment != commitment:
                raise ReadingsRefused(f"the batch of transaction {place} does not lead to the root on the chain")
            self._check_columns(batch, before, block.header.time_ms // 1000)
            verified += batch.size
            self._batches += 1
            self._columns += len(batch.columns)
        self._readings += verified
        return verified, pruned

    def _check_columns(self, batch: MeterBatch, before: LedgerState, now_s: int) -> None:
        key_of, rules = device_keys(before), reading_rules(before.view)
        for signed in batch.columns:
            check_times(signed.column, rules, now_s)
            check_signature(signed, key_of(signed.column.device), before.header.chain_id, self._scheme)

    def finish(self, state: LedgerState) -> None:
        """Nothing is kept that no block commits to; nothing is missing that had to be kept."""
        for table, expected in (
            ("reading_batches", self._batches),
            ("reading_columns", self._columns),
            ("readings", self._readings),
        ):
            (found,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            if found != expected:
                raise ReadingsRefused(f"table {table} has {found} rows, the blocks commit to {expected}")
        limit_ms = reading_rules(state.view).late_limit_s * 1000
        if self._last_pruned is not None and self._last_pruned[1] >= state.header.time_ms - limit_ms:
            raise ReadingsRefused(f"a batch of height {self._last_pruned[0]} is missing, too young to have been pruned")


def check_devices(connection: sqlite3.Connection, state: LedgerState, pruned: bool) -> None:
    """Raise ReadingsRefused where the latest readings of a device contradict each other, or versions have gaps.

    Where batches were pruned, the first version of an interval may have gone with them.
    """
    rules = reading_rules(state.view)
    before: Reading | None = None
    current: Reading | None = None
    for height, reading in StoredReadings(connection).by_device():
        check_reading(reading, rules)
        if current is not None and (current.device, current.start_s) == (reading.device, reading.start_s):
            expected = current.version + 1
        else:
            _check_pair(before, current)
            before, expected = current, reading.version if pruned else 0
        if reading.version != expected:
            place = f"{reading.device} at {reading.start_s}"
            raise ReadingsRefused(f"height {height}: {place} has version {reading.version}, {expected} is next")
        current = reading
    _check_pair(before, current)


def _check_pair(earlier: Reading | None, later: Reading | None) -> None:
    if earlier is not None and later is not None and earlier.device == later.device:
        check_order(earlier, later)
