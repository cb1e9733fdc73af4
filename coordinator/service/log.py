"""Structured logs: one JSON object a line on standard error."""

from __future__ import annotations

import json
import sys
import time
from typing import TextIO

Value = str | int | float | bool | None


class Log:
    """Writes events with fields; `bind` adds fields to all of them."""

    def __init__(self, stream: TextIO | None = None, **fields: Value) -> None:
        self._stream = stream or sys.stderr
        self._fields = fields

    def bind(self, **fields: Value) -> Log:
        """A log whose events carry these fields too."""
        return Log(self._stream, **{**self._fields, **fields})

    def info(self, event: str, **fields: Value) -> None:
        """Something that happened as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Value) -> None:
        """Something that an operator may want to look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Value) -> None:
        """Something that stopped."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Value]) -> None:
        record = {"time": round(time.time(), 6), "level": level, "event": event, **self._fields, **fields}
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()
