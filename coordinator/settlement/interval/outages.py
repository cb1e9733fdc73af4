"""Tie-lines that go out of service and come back: what a region says of its end, and what follows for an interval.

Each end of a tie-line has a breaker, and each of the two regions speaks of its own alone. The line is in service in an
interval where neither breaker is open: so one region opens it alone, both are needed to close it again, and nobody
else has a say. What a region says holds from an interval on until it says something else of an interval that is not
earlier; what it had said of later ones is then void.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.ledger.codec import Reader, Writer
from coordinator.settlement.interval.topics import Interval, Step, Topic


@dataclass(frozen=True, slots=True)
class Outage:
    """The breaker at one's end of a tie-line is open (`out`), or closed, from the interval that starts at `from_s`."""

    tie: str
    from_s: int
    out: bool

    def encode(self) -> bytes:
        """The content of a `tie_outage` transaction, and the message of the statement that follows from it."""
        return Writer().text(self.tie).uint64(self.from_s).flag(self.out).encoded

    def topic(self, duration_s: int, number: int) -> Topic:
        """Of the statement; `number` counts a region's statements about its breakers from 1."""
        return Topic(Interval(self.from_s, duration_s), Step.OUTAGE, 0, number)


def decode_outage(data: bytes) -> Outage:
    """Raises DecodeError."""
    reader = Reader(data)
    outage = Outage(reader.text(), reader.uint64(), reader.flag())
    reader.end()
    return outage


@dataclass(frozen=True, slots=True)
class Breaker:
    """One end of a tie-line. `changes` are (from_s, open) in the order of time, each unlike the one before; at first
    it is closed."""

    changes: tuple[tuple[int, bool], ...] = ()

    def is_open(self, start_s: int) -> bool:
        """In the interval that starts then."""
        return next((is_open for from_s, is_open in reversed(self.changes) if from_s <= start_s), False)

    def changed(self, from_s: int, is_open: bool, known_from_s: int) -> Breaker:
        """With what is said now. What held before `known_from_s` is forgotten."""
        earlier = [change for change in self.changes if change[0] < from_s]
        past = [change for change in earlier if change[0] <= known_from_s][-1:]
        kept = [change for change in past if change[1]]
        for change in (*(change for change in earlier if change[0] > known_from_s), (from_s, is_open)):
            if change[1] != (bool(kept) and kept[-1][1]):
                kept.append(change)
        return Breaker(tuple(kept))

    def encode(self) -> bytes:
        """One byte form."""
        writer = Writer()
        for from_s, is_open in self.changes:
            writer.uint64(from_s).flag(is_open)
        return writer.encoded


_CHANGE_BYTES = len(Breaker(((0, True),)).encode())


def decode_breaker(data: bytes) -> Breaker:
    """The inverse of `Breaker.encode`."""
    reader = Reader(data)
    changes = tuple((reader.uint64(), reader.flag()) for _ in range(len(data) // _CHANGE_BYTES))
    reader.end()
    return Breaker(changes)
