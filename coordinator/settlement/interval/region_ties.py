"""A region's ends of tie-lines: whose meters count there, and what its validators stated of them.

Key                 entry
tie/<name>          the participant whose devices `<name>.injected` and `<name>.withdrawn` meter this region's end
tied/<interval>     the rows of the TIES statement, until readings of the interval are too late to count
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.ledger.codec import Reader
from coordinator.ledger.errors import GenesisError, Rejected
from coordinator.ledger.registry import participant_of
from coordinator.ledger.view import Records
from coordinator.settlement.genesis_section import text_of
from coordinator.settlement.interval.schedules import decode_metered
from coordinator.settlement.interval.topics import Interval, read_interval

_TIE, _TIED = b"tie/", b"tied/"


@dataclass(frozen=True, slots=True)
class RegionTies:
    """Entries among those of the module; to read by anyone, to write by its handlers."""

    records: Records

    def owners(self) -> dict[str, str]:
        """Of the meters at each tie-line, by its name."""
        return {key[len(_TIE) :].decode(): value.decode() for key, value in self.records.items(_TIE)}

    def stated(self, interval: Interval) -> bytes | None:
        """What a quorum of validators stands behind."""
        return self.records.get(_TIED + interval.encode())

    def state(self, interval: Interval, message: bytes) -> None:
        """A quorum stands behind these rows. Raises Rejected where they are not of this region's ends."""
        known = self.owners()
        if any(row.substituted or row.resource not in known for row in decode_metered(message)):
            raise Rejected("malformed", "rows are of tie-lines that end here; silent meters are left out")
        self.records.put(_TIED + interval.encode(), message)

    def prune(self, late_s: int, now_s: int) -> None:
        """Forget intervals that ended so long ago."""
        for key, _ in tuple(self.records.items(_TIED)):
            if read_interval(Reader(key[len(_TIED) :])).end_s + late_s >= now_s:
                break
            self.records.delete(key)

    def found(self, section: Mapping[str, object], module: str) -> None:
        """From genesis: `ties`, a list of name and owner, may be left out. Raises GenesisError."""
        ties = section.get("ties", [])
        if not isinstance(ties, list) or not all(isinstance(tie, dict) for tie in ties):
            raise GenesisError(f"{module}: ties is a list of name and owner")
        for tie in ties:
            name, owner = text_of(tie, "name", module), text_of(tie, "owner", module)
            if self.records.get(_TIE + name.encode()) or participant_of(self.records.view, owner) is None:
                raise GenesisError(f"{module}: tie-line {name} stands there twice, or its owner {owner} is unknown")
            self.records.put(_TIE + name.encode(), owner.encode())
