"""Meter readings: signed by their devices in columns, committed on the chain by a root, kept beside it.

A column is what one device says about consecutive intervals: its register at the end of each and its own clock
then, under one signature. A batch is columns of many devices. The chain holds the root over salted leaves, one a
reading, so that a single reading can be shown without its neighbours and none can be guessed from the root.

Readings are never edited: a correction is the same interval with the next version. What is refused, by name: a
signature that is not the device's, a register that runs backwards or is a sentinel, a clock that stands or is off,
an interval that was delivered before (replay), that overlaps another, or that is too late for the window in which
readings are kept. Versions of one interval follow each other without gaps.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Protocol

from coordinator.consensus.errors import DecodeError
from coordinator.consensus.signing import Scheme, Signer
from coordinator.ledger.codec import INT64_MAX, Reader, Writer
from coordinator.ledger.envelope import Envelope, SignedType, checked_envelope, seal
from coordinator.ledger.errors import GenesisError, ReadingsRefused
from coordinator.ledger.merkle import SALT_SIZE, MerkleTree, SaltTree, leaf_hash
from coordinator.ledger.messages import parse, refuse_unknown
from coordinator.ledger.registry import parameter
from coordinator.ledger.view import View
from protos.gridaccord.v1 import ledger_pb2 as pb

BATCH_MAX = 64 * 2**20
COLUMN_READINGS_MAX = 4096
BATCH_READINGS_MAX = 2**20
BATCH_COLUMNS_MAX = 2**16
SENTINELS_WH = (2**31 - 1, 2**32 - 1, 2**63 - 1)
"""What broken meters send for "no value": 4294967.295 kWh and its like."""
_DURATION_MAX_S = 86_400
_LEAF = struct.Struct(">qIIqq")


@dataclass(frozen=True, slots=True)
class Reading:
    """One register reading: at the end of the interval that starts at `start_s`, by the device's own clock."""

    device: str
    start_s: int
    duration_s: int
    version: int
    clock_ms: int
    register_wh: int

    @property
    def end_s(self) -> int:
        """End of the interval."""
        return self.start_s + self.duration_s

    def leaf(self, salt: bytes) -> bytes:
        """The bytes under the root."""
        name = self.device.encode()
        numbers = _LEAF.pack(self.start_s, self.duration_s, self.version, self.clock_ms, self.register_wh)
        return salt + len(name).to_bytes(2, "big") + name + numbers


@dataclass(frozen=True, slots=True)
class Column:
    """Consecutive intervals of one device, all in the same version (0: first delivery)."""

    device: str
    start_s: int
    duration_s: int
    version: int
    clocks_ms: tuple[int, ...]
    registers_wh: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.clocks_ms) == len(self.registers_wh), "a column has as many clocks as registers"

    @property
    def end_s(self) -> int:
        """End of the last interval."""
        return self.start_s + self.duration_s * len(self.clocks_ms)

    def readings(self) -> Iterator[Reading]:
        """One by one."""
        start, step = self.start_s, self.duration_s
        for clock, register in zip(self.clocks_ms, self.registers_wh, strict=True):
            yield Reading(self.device, start, step, self.version, clock, register)
            start += step

    def encode(self) -> bytes:
        """The bytes that the device signs."""
        count = len(self.clocks_ms)
        writer = Writer().text(self.device).int64(self.start_s).uint32(self.duration_s).uint32(self.version)
        values = struct.pack(f">{2 * count}q", *self.clocks_ms, *self.registers_wh)
        return writer.uint32(count).raw(values).encoded


@dataclass(frozen=True, slots=True)
class SignedColumn:
    """A column and its device's signature."""

    column: Column
    signature: bytes

    @property
    def envelope(self) -> Envelope:
        """With the exact bytes that are signed."""
        return Envelope(SignedType.READINGS, self.column.encode(), self.signature)


@dataclass(frozen=True, slots=True)
class MeterBatch:
    """Columns of many devices and the secret their salts come from."""

    salt_seed: bytes
    columns: tuple[SignedColumn, ...]

    @property
    def size(self) -> int:
        """Number of readings."""
        return sum(len(signed.column.clocks_ms) for signed in self.columns)

    def readings(self) -> Iterator[Reading]:
        """In the order of the leaves."""
        for signed in self.columns:
            yield from signed.column.readings()

    @property
    def commitment(self) -> pb.ReadingsCommitment:
        """What goes on the chain."""
        columns = [signed.column for signed in self.columns]
        return pb.ReadingsCommitment(
            root=batch_root(self.salt_seed, self.size, self.readings()),
            size=self.size,
            columns=len(columns),
            start_s=min(column.start_s for column in columns),
            end_s=max(column.end_s for column in columns),
            corrections=sum(len(column.clocks_ms) for column in columns if column.version),
        )

    def encode(self) -> bytes:
        """As protobuf."""
        columns = [signed.envelope.message() for signed in self.columns]
        return pb.MeterBatch(salt_seed=self.salt_seed, columns=columns).SerializeToString()


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """Bounds that genesis may set. `late_limit_s` is also how long readings are kept at least."""

    late_limit_s: int = 45 * 86_400
    early_limit_s: int = 60
    clock_limit_ms: int = 120_000


def reading_rules(view: View) -> ReadingRules:
    """The bounds of this chain: parameters of genesis of the same names, or the defaults."""
    names = [bound.name for bound in fields(ReadingRules)]
    given = {name: parameter(view, name) for name in names}
    try:
        return ReadingRules(**{name: int(text) for name, text in given.items() if text is not None})
    except ValueError:
        raise GenesisError(f"parameters: {', '.join(names)} are whole numbers") from None


class ReadingIndex(Protocol):
    """What is known already: the latest version of each interval of a device."""

    def before(self, device: str, start_s: int) -> Reading | None:
        """The last reading whose interval starts before."""
        ...

    def between(self, device: str, start_s: int, end_s: int) -> Sequence[Reading]:
        """Those whose interval starts in [start, end), in order."""
        ...

    def after(self, device: str, start_s: int) -> Reading | None:
        """The first whose interval starts at this time or later."""
        ...


def batch_root(salt_seed: bytes, size: int, readings: Iterator[Reading]) -> bytes:
    """The root over the salted readings of a batch."""
    salts = SaltTree(salt_seed, size).salts
    return MerkleTree([leaf_hash(reading.leaf(salt)) for reading, salt in zip(readings, salts, strict=True)]).root


def sign_column(signer: Signer, chain_id: bytes, column: Column) -> SignedColumn:
    """Sign as the device."""
    return SignedColumn(column, seal(signer, chain_id, SignedType.READINGS, column.encode()).signature)


def decode_column(data: bytes) -> Column:
    """Raises DecodeError for anything that `Column.encode` does not write."""
    reader = Reader(data)
    device, start_s, duration_s, version = reader.text(), reader.int64(), reader.uint32(), reader.uint32()
    count = reader.uint32()
    if not 1 <= count <= COLUMN_READINGS_MAX:
        raise DecodeError(f"a column of {count} readings; 1 to {COLUMN_READINGS_MAX}")
    values = struct.unpack(f">{2 * count}q", reader.raw(16 * count))
    reader.end()
    if start_s < 0 or duration_s < 1 or start_s + duration_s * count > INT64_MAX:
        raise DecodeError("a column whose times are not after 1970 and within int64")
    return Column(device, start_s, duration_s, version, values[:count], values[count:])


def decode_batch(data: bytes) -> MeterBatch:
    """Raises DecodeError."""
    message = parse(pb.MeterBatch, data, BATCH_MAX)
    if len(message.salt_seed) != SALT_SIZE:
        raise DecodeError(f"a salt seed of {len(message.salt_seed)} bytes; it has {SALT_SIZE}")
    if len(message.columns) > BATCH_COLUMNS_MAX:
        raise DecodeError(f"a batch of {len(message.columns)} columns; at most {BATCH_COLUMNS_MAX}")
    columns = []
    for part in message.columns:
        refuse_unknown(part)
        envelope = checked_envelope(part, SignedType.READINGS)
        columns.append(SignedColumn(decode_column(envelope.payload), envelope.signature))
    batch = MeterBatch(message.salt_seed, tuple(columns))
    if not 1 <= batch.size <= BATCH_READINGS_MAX:
        raise DecodeError(f"a batch of {batch.size} readings; 1 to {BATCH_READINGS_MAX}")
    return batch


def check_signature(signed: SignedColumn, public_key: bytes | None, chain_id: bytes, scheme: Scheme) -> None:
    """Raise ReadingsRefused unless the registered device signed the column."""
    if public_key is None:
        raise ReadingsRefused(f"{signed.column.device[:60]!r}: not a registered device")
    if not signed.envelope.is_signed_by(public_key, chain_id, scheme):
        raise ReadingsRefused(f"{signed.column.device}: the signature is not the device's for this chain")


def check_times(column: Column, rules: ReadingRules, now_s: int) -> None:
    """Raise ReadingsRefused where a column cannot stand in a block of this time, whatever else is known."""
    where = f"{column.device}, interval at {column.start_s} s"
    if not 0 < column.duration_s <= _DURATION_MAX_S or column.start_s % column.duration_s:
        raise ReadingsRefused(f"{where}: intervals of {column.duration_s} s that do not start at a multiple of it")
    if column.start_s < now_s - rules.late_limit_s:
        raise ReadingsRefused(f"{where}: later than the {rules.late_limit_s} s that readings may be late")
    if column.end_s > now_s + rules.early_limit_s:
        raise ReadingsRefused(f"{where}: it has not ended by the block's time")


def check_column(column: Column, index: ReadingIndex, rules: ReadingRules, now_s: int) -> None:
    """Raise ReadingsRefused where a column breaks a rule. `now_s` is the header's time."""
    check_times(column, rules, now_s)
    where = f"{column.device}, interval at {column.start_s} s"
    _check_versions(column, index.between(column.device, column.start_s, column.end_s), where)
    neighbours = (index.before(column.device, column.start_s), index.after(column.device, column.end_s))
    _check_series([reading for reading in (neighbours[0], *column.readings(), neighbours[1]) if reading], rules)


def _check_versions(column: Column, known: Sequence[Reading], where: str) -> None:
    if column.version == 0:
        if known:
            raise ReadingsRefused(f"{where}: delivered before; a correction carries the next version")
        return
    starts = [reading.start_s for reading in known]
    same = starts == [reading.start_s for reading in column.readings()]
    if not same or any(reading.duration_s != column.duration_s for reading in known):
        raise ReadingsRefused(f"{where}: a correction of intervals that were not delivered as such")
    for reading in known:
        if reading.version != column.version - 1:
            raise ReadingsRefused(f"{where}: version {column.version} where {reading.version + 1} is next")


def _check_series(readings: Sequence[Reading], rules: ReadingRules) -> None:
    """Consecutive latest readings of one device: registers and clocks run forwards, intervals do not overlap."""
    for reading in readings:
        check_reading(reading, rules)
    for earlier, later in pairwise(readings):
        check_order(earlier, later)


def check_reading(reading: Reading, rules: ReadingRules) -> None:
    """Raise ReadingsRefused for a value that cannot be."""
    where = f"{reading.device}, interval at {reading.start_s} s"
    if reading.register_wh < 0 or reading.register_wh in SENTINELS_WH:
        raise ReadingsRefused(f"{where}: register {reading.register_wh} Wh is a sentinel or negative")
    if abs(reading.clock_ms - reading.end_s * 1000) > rules.clock_limit_ms:
        raise ReadingsRefused(f"{where}: the clock is off by more than {rules.clock_limit_ms} ms")


def check_order(earlier: Reading, later: Reading) -> None:
    """Raise ReadingsRefused where two consecutive readings of a device contradict each other."""
    where = f"{later.device}, interval at {later.start_s} s"
    if later.start_s < earlier.end_s:
        raise ReadingsRefused(f"{where}: overlaps the interval at {earlier.start_s} s")
    if later.register_wh < earlier.register_wh:
        raise ReadingsRefused(f"{where}: the register runs backwards, {earlier.register_wh} to {later.register_wh} Wh")
    if later.clock_ms <= earlier.clock_ms:
        raise ReadingsRefused(f"{where}: the clock stands, {earlier.clock_ms} to {later.clock_ms} ms")


class PendingReadings:
    """What is stored and, over it, columns of blocks that are not committed yet. An index like the stored one."""

    def __init__(self, stored: ReadingIndex) -> None:
        self._stored = stored
        self._added: dict[str, dict[int, Reading]] = {}
        self._starts: dict[str, list[int]] = {}
        """Of each device what `_added` has, sorted: a search is logarithmic, an added column one insertion."""

    def add(self, column: Column) -> None:
        """Put a checked column over what is known."""
        added = {reading.start_s: reading for reading in column.readings()}
        self._added.setdefault(column.device, {}).update(added)
        starts = self._starts.setdefault(column.device, [])
        within = slice(bisect_left(starts, column.start_s), bisect_left(starts, column.end_s))
        starts[within] = sorted(added | dict.fromkeys(starts[within]))

    def before(self, device: str, start_s: int) -> Reading | None:
        """The last reading whose interval starts before."""
        starts = self._starts.get(device, [])
        place = bisect_left(starts, start_s)
        stored = self._stored.before(device, start_s)
        if place == 0 or (stored is not None and stored.start_s > starts[place - 1]):
            return stored
        return self._added[device][starts[place - 1]]

    def between(self, device: str, start_s: int, end_s: int) -> Sequence[Reading]:
        """Those whose interval starts in [start, end), in order."""
        merged = {reading.start_s: reading for reading in self._stored.between(device, start_s, end_s)}
        starts = self._starts.get(device, [])
        for start in starts[bisect_left(starts, start_s) : bisect_left(starts, end_s)]:
            merged[start] = self._added[device][start]
        return [merged[start] for start in sorted(merged)]

    def after(self, device: str, start_s: int) -> Reading | None:
        """The first whose interval starts at this time or later."""
        starts = self._starts.get(device, [])
        place = bisect_left(starts, start_s)
        stored = self._stored.after(device, start_s)
        if place == len(starts) or (stored is not None and stored.start_s < starts[place]):
            return stored
        return self._added[device][starts[place]]


def check_batch(
    batch: MeterBatch,
    commitment: pb.ReadingsCommitment,
    pending: PendingReadings,
    device_key: Callable[[str], bytes | None],
    *,
    rules: ReadingRules,
    now_s: int,
    chain_id: bytes,
    scheme: Scheme,
) -> None:
    """Raise ReadingsRefused unless a batch is what the chain commits to and all its columns hold.

    Its columns are then in `pending`; after a refusal some may be, and `pending` is to be thrown away.

    `device_key` answers from the state before the block.
    """
    if batch.commitment != commitment:
        raise ReadingsRefused("the batch is not the one that the transaction commits to")
    check_columns(batch, pending, device_key, rules=rules, now_s=now_s, chain_id=chain_id, scheme=scheme)


def check_columns(
    batch: MeterBatch,
    pending: PendingReadings,
    device_key: Callable[[str], bytes | None],
    *,
    rules: ReadingRules,
    now_s: int,
    chain_id: bytes,
    scheme: Scheme,
) -> None:
    """`check_batch` for a batch whose commitment is known to be the right one: its root takes long."""
    for signed in batch.columns:
        check_signature(signed, device_key(signed.column.device), chain_id, scheme)
    check_places(batch, pending, rules, now_s)


def check_places(batch: MeterBatch, pending: PendingReadings, rules: ReadingRules, now_s: int) -> None:
    """`check_columns` for a batch whose signatures are known to be valid."""
    for signed in batch.columns:
        check_column(signed.column, pending, rules, now_s)
        pending.add(signed.column)
