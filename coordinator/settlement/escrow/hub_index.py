"""Where the hub's ledger finds the settlements that the end of a block concerns, without reading all.

Key                          entry
due/<height><sid>            undecided: the first height whose end decides it without a transaction
close/<height><sid>          decided: the first height whose end closes it
when/<sid>                   which of these keys stands for it
member/<region> 0x00 <sid>   the participants of unclosed settlements

A frozen participant makes an undecided settlement due at height 0, and does not hold up the closing of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.ledger.codec import Reader
from coordinator.ledger.view import Records
from coordinator.settlement.escrow.encoding import SID_SIZE, encode_sid, read_sid
from coordinator.settlement.escrow.records import HubRecord
from coordinator.settlement.escrow.types import HEIGHT_MAX, Outcome, SettlementId

_DUE, _CLOSE, _WHEN, _MEMBER = b"due/", b"close/", b"when/", b"member/"
_HEIGHT_SIZE = 8


@dataclass(frozen=True, slots=True)
class HubIndex:
    """The index in some records. `grace_blocks` is how long a COMMIT waits for who does not apply it."""

    records: Records
    grace_blocks: int

    def put(self, record: HubRecord, frozen: tuple[str, ...]) -> None:
        """Find a settlement at its place; `frozen` are its participants that are."""
        sid = encode_sid(record.sid)
        self._forget_time(sid)
        key = _key(record, frozen, self.grace_blocks)
        self.records.put(key, b"")
        self.records.put(_WHEN + sid, key)
        for name in record.participants:
            self.records.put(_member(name) + sid, b"")

    def remove(self, record: HubRecord) -> None:
        """Forget a settlement that is closed."""
        sid = encode_sid(record.sid)
        self._forget_time(sid)
        self.records.delete(_WHEN + sid)
        for name in record.participants:
            self.records.delete(_member(name) + sid)

    def due(self, height: int) -> Iterator[SettlementId]:
        """What the end of this block decides."""
        return self._until(_DUE, height)

    def closing(self, height: int) -> Iterator[SettlementId]:
        """What the end of this block closes."""
        return self._until(_CLOSE, height)

    def of(self, region: str) -> tuple[SettlementId, ...]:
        """The unclosed settlements of a region."""
        return tuple(_sid(key) for key, _ in self.records.items(_member(region)))

    def _until(self, prefix: bytes, height: int) -> Iterator[SettlementId]:
        for key, _ in self.records.items(prefix):
            if int.from_bytes(key[len(prefix) : len(prefix) + _HEIGHT_SIZE], "big") > height:
                return
            yield _sid(key)

    def _forget_time(self, sid: bytes) -> None:
        key = self.records.get(_WHEN + sid)
        if key is not None:
            self.records.delete(key)


def _key(record: HubRecord, frozen: tuple[str, ...], grace_blocks: int) -> bytes:
    after = record.deadline_height + 1
    if record.outcome is None:
        prefix, height = _DUE, 0 if frozen else after
    else:
        pairs = zip(record.participants, record.applied, strict=True)
        waits = record.outcome is Outcome.COMMIT and not all(done or name in frozen for name, done in pairs)
        prefix, height = _CLOSE, after + grace_blocks if waits else after
    return prefix + min(height, HEIGHT_MAX).to_bytes(_HEIGHT_SIZE, "big") + encode_sid(record.sid)


def _member(region: str) -> bytes:
    return _MEMBER + region.encode() + b"\0"


def _sid(key: bytes) -> SettlementId:
    return read_sid(Reader(key[-SID_SIZE:]))
