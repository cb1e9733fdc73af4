"""Whose turn it is to relay: several nodes relay the same things, and normally one of them submits each.

The nodes stand in a ring that begins at another one for each item. The first submits at once, each of the others when
the item is still there after all before it had the time for it. Only the order of time is kept here; it decides
nothing but who is first, and a node that forgets it starts to wait anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from coordinator.settlement.escrow.missing import BOUNDARIES_MAX, Item


class Turns:
    """When one node submits which items, in seconds of a clock that only goes forward."""

    def __init__(self, own: str, patience_s: float) -> None:
        self._own = own
        self._patience_s = patience_s
        self._at_s: dict[Item, float] = {}
        self._round_s = patience_s

    def update(self, items: Iterable[Item], ring: Sequence[str], now_s: float) -> None:
        """These are there now, and these relay; who stands not among them comes last."""
        size = max(1, len(ring))
        place = ring.index(self._own) if self._own in ring else None
        self._round_s = size * self._patience_s
        known = self._at_s
        self._at_s = {}
        for item in items:
            rank = size if place is None else (place - first_of(item, size)) % size
            self._at_s[item] = known.get(item, now_s + rank * self._patience_s)

    def due(self, now_s: float) -> list[Item]:
        """What to submit now, in order."""
        return [item for item, at_s in self._at_s.items() if at_s <= now_s]

    def submitted(self, item: Item, now_s: float) -> None:
        """Come back to it after all others, if it is still there."""
        self.put_off(item, now_s + self._round_s)

    def put_off(self, item: Item, at_s: float) -> None:
        """Come back to it then, if it is still there."""
        if item in self._at_s:
            self._at_s[item] = at_s

    def next_s(self) -> float | None:
        """When the next is due."""
        return min(self._at_s.values(), default=None)


def first_of(item: Item, size: int) -> int:
    """The place in the ring that begins with an item; the same on every node.

    Boundaries count in their order only, so one node begins with all that are missing at once.
    """
    subject = str(item) if item.epoch is None else f"{item.region} {item.to_hub} {item.epoch // BOUNDARIES_MAX}"
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") % size
