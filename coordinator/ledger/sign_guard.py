"""The last line of defence against equivocation: a small file next to the key that remembers what it signed.

Independent of the journal: even if that is lost, restored from a backup or wrong, no vote leaves that conflicts with
an earlier one. The file begins with chain and key, then has one record of fixed size a vote, each with a checksum.
A vote is written here before it leaves. Durable it is by the journal, which is synchronised on the vote's way; this
file is so with the next final block (`sync`), and a start writes again what it lacks of the journal. So no kill loses
a vote, and a loss of power only together with the journal. Records at the end that were not written whole are
dropped; damage anywhere else, or a missing file, ends in GuardCorrupt: the key must then not vote until its operator
knows the highest view it may have signed (`create` with that floor), or a new key takes its place.

Refused in one view: two digests of one kind, finalize with nullify in either order, and notarize after nullify
(nullify after notarize is legal). Refused for ever: anything at or below the floor.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coordinator.consensus.signing import VoteKind
from coordinator.ledger.errors import GuardCorrupt, SigningRefused
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

_MAGIC = b"gridaccord-guard-1\n"
_HEAD = struct.Struct(">19s32s32sQQ")
_RECORD = struct.Struct(">BQQQ32s")
_HEAD_SIZE = _HEAD.size + CHECKSUM_SIZE
_RECORD_SIZE = _RECORD.size + CHECKSUM_SIZE
_COMPACT_RECORDS = 4096

Round = tuple[int, int]
"""Epoch and view; later rounds are greater."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What a validator signs; a nullify vote has parent view 0 and a zero digest."""

    kind: VoteKind
    epoch: int
    view: int
    parent_view: int
    digest: bytes

    @property
    def round(self) -> Round:
        """Epoch and view."""
        return self.epoch, self.view


class SignGuard(Closing):
    """Remembers the votes of one key on one chain, never two that conflict. One process a file."""

    def __init__(self, path: Path, chain_id: bytes, public_key: bytes) -> None:
        """Open. Raises GuardCorrupt."""
        self._path = path
        self._chain_id = chain_id
        self._public_key = public_key
        self._votes: dict[Round, list[Vote]] = {}
        self._floor: Round = (0, 0)
        self._failed = False
        try:
            self._file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise GuardCorrupt(
                f"{path}: there is no sign guard; find out what the key signed before it votes"
            ) from None
        try:
            self._lock()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    @classmethod
    def create(cls, path: Path, chain_id: bytes, public_key: bytes, floor: Round = (0, 0)) -> Self:
        """A new guard that lets votes pass above the floor only. Raises GuardCorrupt where there is a file."""
        try:
            create_private(path, _head(chain_id, public_key, floor))
        except FileExistsError:
            raise GuardCorrupt(f"{path}: there is a sign guard already; open it") from None
        return cls(path, chain_id, public_key)

    @property
    def floor(self) -> Round:
        """No vote passes at or below it."""
        return self._floor

    def votes(self) -> tuple[Vote, ...]:
        """Every vote above the floor."""
        return tuple(vote for votes in self._votes.values() for vote in votes)

    def remember(self, votes: Sequence[Vote]) -> None:
        """Votes whose signatures are to be released after this. Raises SigningRefused: release none then.

        One that was remembered before may pass again: the bytes are the same.
        """
        new: list[Vote] = []
        for vote in votes:
            known = [*self._votes.get(vote.round, ()), *(other for other in new if other.round == vote.round)]
            _check(vote, known, self._floor)
            if vote not in known:
                new.append(vote)
        if new:
            self._append(b"".join(_record(vote) for vote in new))
        for vote in new:
            self._votes.setdefault(vote.round, []).append(vote)

    def raise_floor(self, epoch: int, view: int) -> None:
        """Rounds up to this one are final: never sign there again. The floor never moves back."""
        floor = (epoch, view)
        if floor <= self._floor:
            return
        self._floor = floor
        self._votes = {place: votes for place, votes in self._votes.items() if place > floor}
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size >= _HEAD_SIZE + _COMPACT_RECORDS * _RECORD_SIZE:
            self.compact()

    def sync(self) -> None:
        """Make what was remembered durable."""
        os.fsync(self._file)

    def compact(self) -> None:
        """Write the file anew with the floor and what lies above it."""
        kept = b"".join(map(_record, self.votes()))
        handle = write_beside(self._path, _head(self._chain_id, self._public_key, self._floor) + kept)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        put_in_place(self._path)
        os.close(self._file)
        self._file = handle

    def close(self) -> None:
        """Let another process open it."""
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        """After a failure nobody knows what is on disk: the guard signs no more until it is opened again."""
        if self._failed:
            raise GuardCorrupt(f"{self._path}: writing failed before; make room and open the guard again")
        self._failed = True
        write_all(self._file, data)
        self._failed = False

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GuardCorrupt(f"{self._path}: another process signs with this key; stop it first") from None

    def _load(self) -> None:
        data = read_all(self._file)
        head = data[: _HEAD.size]
        if len(data) < _HEAD_SIZE or data[_HEAD.size : _HEAD_SIZE] != checksum(head):
            raise GuardCorrupt(f"{self._path}: the beginning is damaged; do not vote with this key")
        magic, chain_id, public_key, epoch, view = _HEAD.unpack(head)
        if (magic, chain_id, public_key) != (_MAGIC, self._chain_id, self._public_key):
            raise GuardCorrupt(f"{self._path}: the guard is of another chain or key")
        self._floor = (epoch, view)
        for place in range(_HEAD_SIZE, len(data), _RECORD_SIZE):
            record = data[place : place + _RECORD_SIZE]
            body = record[: _RECORD.size]
            if len(record) == _RECORD_SIZE and record[_RECORD.size :] == checksum(body) and body[0] in _KINDS:
                self._load_record(body)
            elif any(data[place + _RECORD_SIZE :]) or not _is_torn(record, place):
                raise GuardCorrupt(f"{self._path}: record at byte {place} is damaged; do not vote with this key")
            else:
                os.ftruncate(self._file, place)
                os.fsync(self._file)
                break
        os.lseek(self._file, 0, os.SEEK_END)

    def _load_record(self, body: bytes) -> None:
        kind, epoch, view, parent_view, digest = _RECORD.unpack(body)
        vote = Vote(VoteKind(kind), epoch, view, parent_view, digest)
        if vote.round > self._floor:
            self._votes.setdefault(vote.round, []).append(vote)


_KINDS = tuple(int(kind) for kind in VoteKind)


def _check(vote: Vote, known: Sequence[Vote], floor: Round) -> None:
    where = f"{vote.kind.name.lower()} in epoch {vote.epoch}, view {vote.view}"
    if vote.round <= floor:
        raise SigningRefused(f"{where}: at or below the floor {floor}, where all is final")
    for other in known:
        if other.kind == vote.kind and other != vote:
            raise SigningRefused(f"{where}: another block was signed there; that would be equivocation")
        if {other.kind, vote.kind} == {VoteKind.NULLIFY, VoteKind.FINALIZE}:
            raise SigningRefused(
                f"{where}: a {other.kind.name.lower()} vote was signed there; the two exclude each other"
            )
        if other.kind is VoteKind.NULLIFY and vote.kind is VoteKind.NOTARIZE and vote not in known:
            raise SigningRefused(f"{where}: a nullify vote was signed there; notarize may not follow")


def _is_torn(record: bytes, place: int) -> bool:
    """Whether a record was never written whole: cut short, or its end is the zeros of a file made longer.

    The end is its checksum, or as much of it as stands in another sector of the disk.
    """
    sector = SECTOR_SIZE - place % SECTOR_SIZE
    end = record[max(_RECORD.size, sector) :] or record[_RECORD.size :]
    return len(record) < _RECORD_SIZE or not any(end)


def _head(chain_id: bytes, public_key: bytes, floor: Round) -> bytes:
    head = _HEAD.pack(_MAGIC, chain_id, public_key, *floor)
    return head + checksum(head)


def _record(vote: Vote) -> bytes:
    body = _RECORD.pack(vote.kind, vote.epoch, vote.view, vote.parent_view, vote.digest)
    return body + checksum(body)
