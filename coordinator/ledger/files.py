"""Small files that must not be lost: made for their owner only, written whole, put in another's place at once."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

CHECKSUM_SIZE = 16
SECTOR_SIZE = 512
"""What a disk writes whole or not at all, at least."""


class Closing(ABC):
    """What holds a file until it is closed, as a context manager."""

    @abstractmethod
    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create_private(path: Path, data: bytes) -> None:
    """A new file, mode 0600, on disk with its name when this returns. Raises FileExistsError."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.fchmod(handle, 0o600)
        write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path)


def write_beside(path: Path, data: bytes) -> int:
    """An open file that `put_in_place` puts in the place of the one of this name, on disk when this returns."""
    handle = os.open(_beside(path), os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
    try:
        write_all(handle, data)
        os.fsync(handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def put_in_place(path: Path) -> None:
    """What was written beside this file takes its place, for good when this returns."""
    _beside(path).replace(path)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make the entry of a file in its folder durable."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes) -> None:
    """At the file's place, however many calls that takes."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def read_all(handle: int) -> bytes:
    """The whole file."""
    return os.pread(handle, os.fstat(handle).st_size, 0)


def checksum(*parts: bytes) -> bytes:
    """Of parts that follow each other: finds damage, not forgery."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()[:CHECKSUM_SIZE]


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".new")
