"""Whose turn it is to relay: several nodes relay the same things, and normally one of them submits each.

The nodes stand in a ring that begins at another one for each item. The first submits at once, each of the others when
the item is still there after all before it had some time and some blocks of the target for it: a slow chain is no
reason to send it more. Only the order is kept here, in memory: a node that forgets it starts to wait anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.settlement.escrow.missing import BOUNDARIES_MAX, Item

PATIENCE_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: seconds of a clock that only goes forward, and the last final heights of both chains."""

    at_s: float
    hub_height: int
    region_height: int

    def height(self, item: Item) -> int:
        """Of the chain that an item goes to."""
        return self.hub_height if item.to_hub else self.region_height


@dataclass(frozen=True, slots=True)
class _Turn:
    at_s: float
    height: int


class Turns:
    """When one node submits which items."""

    def __init__(self, own: str, patience_s: float) -> None:
        self._own = own
        self._patience_s = patience_s
        self._turns: dict[Item, _Turn] = {}
        self._size = 1

    def update(self, items: Iterable[Item], ring: Sequence[str], now: Moment, others: Sequence[str] = ()) -> None:
        """These are there now, and these relay, with seats on both chains and with one of the region alone.

        Both take the same turns in bringing something to the region; to the hub, those without a seat there come
        after those with one. Who is not named at all comes last.
        """
        self._size = max(1, len(ring) + len(others))
        known = self._turns
        self._turns = {}
        for item in items:
            rings = (ring, others) if item.to_hub else (sorted((*ring, *others)),)
            self._turns[item] = known.get(item) or self._after(item, self._rank(item, rings), now)

    def _rank(self, item: Item, rings: Iterable[Sequence[str]]) -> int:
        before = 0
        for ring in rings:
            if self._own in ring:
                return before + (ring.index(self._own) - first_of(item, len(ring))) % len(ring)
            before += len(ring)
        return max(1, before)

    def due(self, now: Moment) -> list[Item]:
        """What to submit now, in order."""
        found = self._turns.items()
        return [item for item, turn in found if turn.at_s <= now.at_s and turn.height <= now.height(item)]

    def __contains__(self, item: Item) -> bool:
        return item in self._turns

    def submitted(self, item: Item, now: Moment) -> None:
        """Come back to it after all others, if it is still there."""
        if item in self._turns:
            self._turns[item] = self._after(item, self._size, now)

    def put_off(self, item: Item, at_s: float) -> None:
        """Come back to it then, if it is still there."""
        if item in self._turns:
            self._turns[item] = _Turn(at_s, 0)

    def next_s(self, now: Moment) -> float | None:
        """When the next is due if no block comes before; None if all wait for blocks."""
        return min((turn.at_s for item, turn in self._turns.items() if turn.height <= now.height(item)), default=None)

    def _after(self, item: Item, turns: int, now: Moment) -> _Turn:
        return _Turn(now.at_s + turns * self._patience_s, now.height(item) + turns * PATIENCE_BLOCKS)


def first_of(item: Item, size: int) -> int:
    """The place in the ring that begins with an item; the same on every node.

    Boundaries count in their order only, so one node begins with all that are missing at once.
    """
    subject = str(item) if item.epoch is None else f"{item.region} {item.to_hub} {item.epoch // BOUNDARIES_MAX}"
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") % size
