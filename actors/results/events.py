"""The run's own words about itself: events.jsonl, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from actors.results.run_folder import RunError
from actors.results.tables import Row

EVENTS = "events.jsonl"
PHASES = ("offers", "coupling", "dispatch", "readings")
_OF_FAULTS = ("fault", "recovered", "refused_readings", "refused_dispatch", "bills_open", "validators_absent")
_TARGETS = ("target", "device", "resource", "region", "organization")
"""What an event is about: the first of these that it has."""
_COMMON = ("at", "elapsed_s", "kind", "fault", "number", "interval")

Event = dict[str, object]


def read_events(run: Path) -> list[Event]:
    """All events in order, none where there is no such file. What an interruption cut off at the end is left out.

    Raises RunError naming a line that is no event.
    """
    path = run / EVENTS
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [_event(path, number, line) for number, line in enumerate(whole.splitlines(), 1) if line.strip()]


def _event(path: Path, number: int, line: str) -> Event:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str) or "at" not in found:
        raise RunError(f"{path}, line {number}: not an event with at and kind; restore the line or remove it")
    return found


def milliseconds(text: object) -> int:
    """An ISO 8601 time as milliseconds since 1970. Raises ValueError for anything else."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no time")
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def fault_rows(events: list[Event]) -> Iterator[Row]:
    """Rows of the table `faults`."""
    opened = {event.get("number"): event.get("interval") for event in events if event["kind"] == "interval_opened"}
    for event in events:
        if event["kind"] in _OF_FAULTS:
            target = next((name for name in _TARGETS if event.get(name) is not None), "")
            rest = {key: value for key, value in event.items() if key not in (*_COMMON, target)}
            interval = event.get("interval") or opened.get(event.get("number"))
            detail = json.dumps(rest, ensure_ascii=False, sort_keys=True) if rest else None
            yield (
                milliseconds(event["at"]),
                _number(event.get("elapsed_s")),
                str(event["kind"]),
                _text(event.get("fault")),
                None if interval is None else milliseconds(interval),
                _text(event.get(target)),
                detail,
            )


def phase_seconds(events: list[Event]) -> dict[int, tuple[float | None, ...]]:
    """By the interval's start in ms: how long each of PHASES took."""
    found = {}
    for event in events:
        phases = event.get("phases")
        if event["kind"] == "interval_ended" and isinstance(phases, dict):
            seconds = tuple(_number(phases.get(name)) for name in PHASES)
            found[milliseconds(event.get("interval"))] = seconds
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
