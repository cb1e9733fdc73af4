"""What the owners of a region's ends of tie-lines said of their breakers: to be proved on the hub, in this order.

Key              entry
breaker/<n>      the n-th statement; of the last `KEPT`
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.ledger.view import Records
from coordinator.settlement.interval.outages import Outage, decode_outage

KEPT = 256
_BREAKER = b"breaker/"


@dataclass(frozen=True, slots=True)
class RegionOutages:
    """Entries among those of the module; to read by anyone, to write by its handlers."""

    records: Records

    def after(self, number: int) -> tuple[int, Outage] | None:
        """The first statement that is kept after this one, and its number."""
        for key, value in self.records.items(_BREAKER):
            found = int.from_bytes(key[len(_BREAKER) :], "big")
            if found > number:
                return found, decode_outage(value)
        return None

    def add(self, outage: Outage) -> int:
        """The next statement; its number."""
        keys = [key for key, _ in self.records.items(_BREAKER)]
        number = int.from_bytes(keys[-1][len(_BREAKER) :], "big") + 1 if keys else 1
        self.records.put(_BREAKER + number.to_bytes(4, "big"), outage.encode())
        if len(keys) >= KEPT:
            self.records.delete(keys[0])
        return number
