"""What the hub and a region have finalized and the other has not taken in yet: all that there is to relay.

It follows from the finalized states of both, so a relay remembers nothing: after a restart or a week it finds the same
items as one that was there all the time. An item is gone once its target has finalized what it brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from coordinator.settlement.escrow import guards
from coordinator.settlement.escrow.errors import RegionHalted
from coordinator.settlement.escrow.ledger_books import HubLedger, RegionLedger
from coordinator.settlement.escrow.records import HubRecord, RegionRecord, RegionState
from coordinator.settlement.escrow.types import Outcome, SettlementId

BOUNDARIES_MAX = 16
"""Of one chain at once."""


class Kind(Enum):
    """What an item brings, and by which event of its chain."""

    BOUNDARY = 0
    OPENED = 1
    DECIDED = 2
    CLOSED = 3
    VERDICT = 4
    APPLIED = 5


_UNLIKE = {
    Outcome.COMMIT: (RegionState.NO, RegionState.ABORTED),
    Outcome.ABORT: (RegionState.COMMITTED,),
}
"""States of a region that no decision of this kind can follow, or have preceded."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that one of the two chains is to be shown. `epoch` is that which a boundary ends, `sid` the settlement
    or, of CLOSED, the watermark."""

    region: str
    to_hub: bool
    kind: Kind
    sid: SettlementId | None = None
    epoch: int | None = None

    def __str__(self) -> str:
        way = f"{self.region} to hub" if self.to_hub else f"hub to {self.region}"
        return f"{way}: {self.kind.name.lower()} {self.epoch if self.sid is None else self.sid}"


def missing(hub: HubLedger, region: RegionLedger) -> tuple[Item, ...]:
    """Everything, boundaries first: proofs of later events need them."""
    name = region.region
    to_region = _boundaries(region, hub, to_hub=False, name=name)
    entry = hub.region(name)
    if entry is None or entry.chain_id != region.context.block.chain_id:
        return tuple(to_region)
    to_hub = () if entry.frozen else (*_boundaries(hub, region, to_hub=True, name=name), *_receipts(hub, region, name))
    return (*to_region, *_decisions(hub, region, name), *to_hub)


def check_agreement(hub: HubLedger, region: RegionLedger) -> None:
    """Raise RegionHalted where what is final on the two chains cannot be reconciled, however far each has come."""
    for sid in hub.index.of(region.region):
        settled, here = hub.record(sid), region.record(sid)
        if settled is None or here is None or settled.outcome is None:
            continue
        wrong = _UNLIKE[settled.outcome]
        if here.state in wrong and guards.same_opening(here.open_digest, settled.opening.digest):
            outcome, name = settled.outcome.name, region.region
            raise RegionHalted(f"{sid} is {here.state.name} in {name} and {outcome} on the hub: compare their proofs")


def _boundaries(
    target: HubLedger | RegionLedger, source: HubLedger | RegionLedger, to_hub: bool, name: str
) -> Iterator[Item]:
    """Epochs of the source that are over, from the one on that the target's light client has reached."""
    chain_id = source.context.block.chain_id
    known, length = target.chains.epoch(chain_id), target.chains.epoch_length(chain_id)
    over = source.context.block.height // length
    for epoch in range(known, min(over, known + BOUNDARIES_MAX)):
        yield Item(name, to_hub, Kind.BOUNDARY, epoch=epoch)


def _decisions(hub: HubLedger, region: RegionLedger, name: str) -> Iterator[Item]:
    """OPENs, decisions and the watermark. A YES whose record the hub has closed is in doubt as any other."""
    unclosed = hub.index.of(name)
    for sid in unclosed:
        settled, here = hub.record(sid), region.record(sid)
        assert settled is not None, f"{sid} is listed as unclosed and has no record"
        if settled.outcome is not None and not guards.is_applied(here):
            yield Item(name, False, Kind.DECIDED, sid)
        elif settled.outcome is None and not guards.is_known(here) and not guards.below(sid, region.watermark):
            yield Item(name, False, Kind.OPENED, sid)
    for sid in region.sids():
        here = region.record(sid)
        if sid not in unclosed and here is not None and here.state is RegionState.YES:
            yield Item(name, False, Kind.DECIDED, sid)
    watermark = hub.watermark
    if watermark is not None and not guards.below(watermark, region.watermark):
        yield Item(name, False, Kind.CLOSED, watermark)


def _receipts(hub: HubLedger, region: RegionLedger, name: str) -> Iterator[Item]:
    """Verdicts that can still decide something, and that decisions were applied."""
    for sid in hub.index.of(name):
        settled, here = hub.record(sid), region.record(sid)
        assert settled is not None, f"{sid} is listed as unclosed and has no record"
        if here is not None and guards.same_opening(here.open_digest, settled.opening.digest):
            yield from _receipts_of(settled, here, name)


def _receipts_of(settled: HubRecord, here: RegionRecord, name: str) -> Iterator[Item]:
    place = settled.participants.index(name)
    if settled.outcome is None and here.verdict is not None and settled.votes[place] is None:
        yield Item(name, True, Kind.VERDICT, settled.sid)
    if settled.outcome is not None and guards.is_applied(here) and not settled.applied[place]:
        yield Item(name, True, Kind.APPLIED, settled.sid)
