"""Files that are whole whenever somebody looks, whatever ends the program meanwhile; and the time that they carry."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in another one's place: durable, and never half of it."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def now_iso() -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
