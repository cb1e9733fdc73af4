"""What happens in a run, as it happens: one JSON object a line, and whoever listens is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

Value = str | int | float | bool | None | Mapping[str, object] | list[object]


class Events:
    """Appends to a file, each line at once. `listener` is told the kind and the fields."""

    def __init__(self, path: Path, listener: Callable[[str, Mapping[str, Value]], None]) -> None:
        self._path = path
        self._listener = listener
        self._file: TextIO
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def elapsed_s(self) -> float:
        """Since this part of the run began."""
        return time.monotonic() - self._started

    def add(self, kind: str, **fields: Value) -> None:
        """Something that happened now."""
        record = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "elapsed_s": round(self.elapsed_s, 3)}
        self._file.write(json.dumps({**record, "kind": kind, **fields}, ensure_ascii=False) + "\n")
        self._file.flush()
        self._listener(kind, fields)
