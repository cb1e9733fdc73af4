"""A validator's journal on disk: what consensus must remember before a message leaves, and payloads not final yet.

It stands on the way of every vote, so it is a file that only grows: an append is one write and one synchronisation.
What an append takes is one frame, which a crash leaves whole or not at all. A last frame that was not written whole
was never released and is dropped; damage anywhere else is JournalCorrupt: the votes in it are lost, and the node must
rejoin (the sign guard beside it has them, and refuses what conflicts with them). Now and then the file is written anew
with what is still needed.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Self

from coordinator.ledger.errors import JournalCorrupt, StoreError, StoreFull
from coordinator.ledger.files import (
    CHECKSUM_SIZE,
    SECTOR_SIZE,
    Closing,
    checksum,
    create_private,
    put_in_place,
    read_all,
    write_all,
    write_beside,
)

_MAGIC = b"gridaccord-journal-1\n"
_HEAD = struct.Struct(">21s32s32sQ")
_FRAME = struct.Struct(">QI")
_ENTRY = struct.Struct(">cI")
_HEAD_SIZE = _HEAD.size + CHECKSUM_SIZE
_FRAME_HEAD_SIZE = _FRAME.size + CHECKSUM_SIZE
_RECORD, _PAYLOAD = b"R", b"P"
_DIGEST_SIZE = 32
_LONG_RECORDS = 4096
_LONG_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """What opening a journal found. `dropped_bytes` at its end had not been written whole."""

    records: tuple[bytes, ...]
    dropped_bytes: int

    @property
    def message(self) -> str:
        """For the log."""
        if not self.dropped_bytes:
            return "the journal is whole"
        return f"{self.dropped_bytes} bytes at the journal's end were torn and are dropped: nothing rests on them"


class JournalFile(Closing):
    """An open journal of one key on one chain. The sign guard beside it keeps other processes away."""

    def __init__(self, path: Path, chain_id: bytes, public_key: bytes) -> None:
        """Open. `found` says what stands in it. Raises JournalCorrupt."""
        self._path = path
        self._owner = chain_id, public_key
        self._payloads: dict[bytes, tuple[int, int]] = {}
        self._records = 0
        self._long_records, self._long_bytes = _LONG_RECORDS, _LONG_BYTES
        self._failed = False
        try:
            self._file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise JournalCorrupt(f"{path}: there is no journal; start with --rejoin") from None
        try:
            self.found = self._load()
        except BaseException:
            os.close(self._file)
            raise

    @classmethod
    def create(cls, path: Path, chain_id: bytes, public_key: bytes) -> Self:
        """A new, empty one. Raises JournalCorrupt where there is a file."""
        try:
            create_private(path, _head(chain_id, public_key, 1))
        except FileExistsError:
            raise JournalCorrupt(f"{path}: there is a journal already; open it") from None
        return cls(path, chain_id, public_key)

    @property
    def is_long(self) -> bool:
        """Whether it is time to write it anew."""
        return self._records > self._long_records or self._size > self._long_bytes

    def append(self, records: Sequence[bytes], payloads: Mapping[bytes, bytes] = MappingProxyType({})) -> None:
        """Keep consensus records, in order, and payloads by digest: all or nothing, durable on return.

        After a failure nobody knows what is on disk: nothing more is taken until it is opened again.
        Raises StoreFull, StoreError.
        """
        if not (records or payloads):
            return
        if self._failed:
            raise StoreError(f"{self._path}: writing failed before; make room and start again")
        frame, places = _frame(self._sequence, records, payloads)
        self._failed = True
        with _translated(self._path):
            write_all(self._file, frame)
            os.fsync(self._file)
        self._failed = False
        self._take(places, len(records), len(frame))

    def payload(self, digest: bytes) -> bytes | None:
        """One that was kept and not dropped."""
        place = self._payloads.get(digest)
        return None if place is None else os.pread(self._file, place[1], place[0])

    def drop(self, digests: Sequence[bytes]) -> None:
        """Payloads that are not needed here any more: they go when the file is written anew."""
        for digest in digests:
            self._payloads.pop(digest, None)

    def retain(self, digests: Collection[bytes]) -> None:
        """Drop all payloads but these."""
        self.drop([digest for digest in self._payloads if digest not in digests])

    def rewrite(self, records: Sequence[bytes]) -> None:
        """Put these records in place of all there are; payloads stay. Atomic. Raises StoreFull, StoreError."""
        payloads = {digest: os.pread(self._file, size, place) for digest, (place, size) in self._payloads.items()}
        frame, places = _frame(self._sequence, records, payloads)
        with _translated(self._path):
            handle = write_beside(self._path, _head(*self._owner, self._sequence) + frame)
            put_in_place(self._path)
        os.close(self._file)
        self._file, self._size, self._records = handle, _HEAD_SIZE, 0
        self._take(places, len(records), len(frame))
        # Twice what is needed now: where that is much, the file is not written anew with every append.
        self._long_records = max(_LONG_RECORDS, 2 * self._records)
        self._long_bytes = max(_LONG_BYTES, 2 * self._size)

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def _take(self, places: Mapping[bytes, tuple[int, int]], records: int, size: int) -> None:
        for digest, (place, length) in places.items():
            self._payloads[digest] = self._size + place, length
        self._records += records
        self._size += size
        self._sequence += 1

    # Opening.

    def _load(self) -> Found:
        data = read_all(self._file)
        head = data[: _HEAD.size]
        if len(data) < _HEAD_SIZE or data[_HEAD.size : _HEAD_SIZE] != checksum(head):
            raise JournalCorrupt(f"{self._path}: the beginning is damaged; {_REMEDY}")
        magic, chain_id, public_key, self._sequence = _HEAD.unpack(head)
        if (magic, chain_id, public_key) != (_MAGIC, *self._owner):
            raise JournalCorrupt(f"{self._path}: the journal is of another chain or key; {_REMEDY}")
        self._size = _HEAD_SIZE
        found: list[bytes] = []
        while self._size < len(data):
            body = _body_at(data, self._size, self._sequence)
            if body is None:
                return Found(tuple(found), self._cut(data))
            records, places = _entries(body)
            found += records
            shifted = {digest: (place + _FRAME_HEAD_SIZE, size) for digest, (place, size) in places.items()}
            self._take(shifted, len(records), _FRAME_HEAD_SIZE + len(body) + CHECKSUM_SIZE)
        os.lseek(self._file, 0, os.SEEK_END)
        return Found(tuple(found), 0)

    def _cut(self, data: bytes) -> int:
        """Drop a torn last frame; how many bytes. Raises JournalCorrupt where it is not torn."""
        if not _is_torn(data, self._size, self._sequence):
            raise JournalCorrupt(f"{self._path}: damaged at byte {self._size} of {len(data)}; {_REMEDY}")
        os.ftruncate(self._file, self._size)
        os.fsync(self._file)
        os.lseek(self._file, 0, os.SEEK_END)
        return len(data) - self._size


_REMEDY = "move the file away and start again: the node rejoins, and the sign guard beside it has its votes"


def _head(chain_id: bytes, public_key: bytes, sequence: int) -> bytes:
    head = _HEAD.pack(_MAGIC, chain_id, public_key, sequence)
    return head + checksum(head)


def _frame(
    sequence: int, records: Sequence[bytes], payloads: Mapping[bytes, bytes]
) -> tuple[bytes, dict[bytes, tuple[int, int]]]:
    """A frame, and where in it each payload stands. Payloads come first: records may rest on them."""
    parts: list[bytes] = []
    places: dict[bytes, tuple[int, int]] = {}
    size = _FRAME_HEAD_SIZE
    for digest, payload in payloads.items():
        parts += (_ENTRY.pack(_PAYLOAD, _DIGEST_SIZE + len(payload)), digest, payload)
        size += _ENTRY.size + _DIGEST_SIZE
        places[digest] = size, len(payload)
        size += len(payload)
    for record in records:
        parts += (_ENTRY.pack(_RECORD, len(record)), record)
    body = b"".join(parts)
    head = _FRAME.pack(sequence, len(body))
    return b"".join((head, checksum(head), body, checksum(head, body))), places


def _frame_length(data: bytes, place: int, sequence: int) -> int | None:
    """Length of the body of the frame that begins here, None where none does."""
    head = data[place : place + _FRAME.size]
    if data[place + _FRAME.size : place + _FRAME_HEAD_SIZE] != checksum(head):
        return None
    number, length = _FRAME.unpack(head)
    return int(length) if number == sequence else None


def _body_at(data: bytes, place: int, sequence: int) -> bytes | None:
    length = _frame_length(data, place, sequence)
    if length is None:
        return None
    start, end = place + _FRAME_HEAD_SIZE, place + _FRAME_HEAD_SIZE + length
    body = data[start:end]
    is_whole = data[end : end + CHECKSUM_SIZE] == checksum(data[place : place + _FRAME.size], body)
    return body if is_whole else None


def _is_torn(data: bytes, place: int, sequence: int) -> bool:
    """Whether what begins here is a last frame that was never written whole.

    Then it is cut short; or some of its sectors never came, and are the zeros of a file made longer.
    """
    length = _frame_length(data, place, sequence)
    if length is None:
        return len(data[place:].rstrip(b"\0")) < _FRAME_HEAD_SIZE
    end = place + _FRAME_HEAD_SIZE + length + CHECKSUM_SIZE
    if end != len(data):
        return end > len(data)
    edges = [place, *range(place - place % SECTOR_SIZE + SECTOR_SIZE, end, SECTOR_SIZE), end]
    pieces = [data[start:stop] for start, stop in pairwise(edges)]
    return not all(map(any, (*pieces, data[end - CHECKSUM_SIZE :])))


def _entries(body: bytes) -> tuple[list[bytes], dict[bytes, tuple[int, int]]]:
    """The records of a body, and where in it each payload stands."""
    records: list[bytes] = []
    places: dict[bytes, tuple[int, int]] = {}
    at = 0
    while at < len(body):
        kind, size = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        if kind == _RECORD:
            records.append(body[at : at + size])
        else:
            places[body[at : at + _DIGEST_SIZE]] = at + _DIGEST_SIZE, size - _DIGEST_SIZE
        at += size
    return records, places


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(f"{path}: the disk or the size limit is used up; nothing was kept, make room") from error
        raise StoreError(f"{path}: {error}") from error
