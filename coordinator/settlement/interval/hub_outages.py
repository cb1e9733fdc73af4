"""Which tie-lines are out of service in an interval, as regions have said on the hub: its topology follows from that.

Regions state it (OUTAGE) of their own ends, by proof, in the order of their statements. It counts from the interval
that they name, at the earliest from the first one that is not under way here: an interval keeps its topology.

Key                     entry
tie_line/<name>         numbers of the regions at its ends, from genesis
breaker/<number><name>  Breaker of a region's end, once the region has spoken of it
outages/<number>        how far a region's statements have come
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.ledger.codec import Writer
from coordinator.ledger.errors import GenesisError, Rejected
from coordinator.ledger.view import Records
from coordinator.settlement.genesis_section import text_of
from coordinator.settlement.interval.outages import Breaker, Outage, decode_breaker

CHANGES_MAX = 64
"""Of a breaker, that are yet to come: more are refused."""
_LINE, _BREAKER, _HEARD = b"tie_line/", b"breaker/", b"outages/"
_NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True)
class HubOutages:
    """Entries among those of the module; to read by anyone, to write by its handlers."""

    records: Records

    def ends(self, tie: str) -> tuple[int, ...]:
        """Numbers of the regions that a tie-line joins; none where there is no such tie-line."""
        data = self.records.get(_LINE + tie.encode()) or b""
        places = range(0, len(data), _NUMBER_BYTES)
        return tuple(int.from_bytes(data[place : place + _NUMBER_BYTES], "big") for place in places)

    def ties(self) -> tuple[str, ...]:
        """All tie-lines, in the order of their names' bytes."""
        return tuple(key[len(_LINE) :].decode() for key, _ in self.records.items(_LINE))

    def out(self, start_s: int) -> tuple[str, ...]:
        """Tie-lines that are out of service in the interval that starts then, in the order of their names' bytes."""
        open_ends = {
            key[len(_BREAKER) + _NUMBER_BYTES :]
            for key, value in self.records.items(_BREAKER)
            if decode_breaker(value).is_open(start_s)
        }
        return tuple(name.decode() for name in sorted(open_ends))

    def heard(self, number: int) -> int:
        """The number of the last statement of a region that counts."""
        return int.from_bytes(self.records.get(_HEARD + number.to_bytes(_NUMBER_BYTES, "big")) or b"", "big")

    # Writing.

    def hear(self, number: int, place: int, outage: Outage, known_from_s: int) -> None:
        """A region's statement, its `place`-th, of a breaker of its own. Raises Rejected."""
        if number not in self.ends(outage.tie):
            raise Rejected("not_its_tie", f"{outage.tie[:60]!r} does not end in this region; it speaks of its own ends")
        if place <= self.heard(number):
            raise Rejected("again", f"statement {place} on breakers has been heard, or a later one")
        region = number.to_bytes(_NUMBER_BYTES, "big")
        key = _BREAKER + region + outage.tie.encode()
        breaker = decode_breaker(self.records.get(key) or b"").changed(outage.from_s, outage.out, known_from_s)
        if len(breaker.changes) > CHANGES_MAX:
            raise Rejected("too_many", f"{outage.tie}: {CHANGES_MAX} changes ahead; say more when some are over")
        self._put(key, breaker)
        self.records.put(_HEARD + region, Writer().uint32(place).encoded)

    def _put(self, key: bytes, breaker: Breaker) -> None:
        if breaker.changes:
            self.records.put(key, breaker.encode())
        else:
            self.records.delete(key)

    def found(self, section: Mapping[str, object], regions: Sequence[str], module: str) -> None:
        """From genesis: `ties`, a list of name, from and to; without it no tie-line can be taken out of service.

        Raises GenesisError.
        """
        ties = section.get("ties", [])
        if not isinstance(ties, list) or not all(isinstance(tie, dict) for tie in ties):
            raise GenesisError(f"{module}: ties is a list of name, from, to and limit_w")
        for tie in ties:
            name, *ends = (text_of(tie, key, module) for key in ("name", "from", "to"))
            if len(set(ends)) != len(ends) or not set(ends) <= set(regions):
                raise GenesisError(f"{module}: tie-line {name} is to join two of the regions")
            key = _LINE + name.encode()
            if self.records.get(key) is not None:
                raise GenesisError(f"{module}: a tie-line stands there twice")
            numbers = (regions.index(end) for end in ends)
            self.records.put(key, b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in numbers))
