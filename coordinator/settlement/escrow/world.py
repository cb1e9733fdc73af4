"""A hub and its regions as values: blocks, what finalized blocks published, and proofs of it as a verifier gives them.

The smallest host of the protocol. The model and tests run it; consensus, networks and light clients are not in it,
only what they guarantee: an event can be proved once its block is final, for ever, and nothing else can be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

from coordinator.settlement.escrow.encoding import encode_event
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.hub_record import accept_receipt, end_of_block
from coordinator.settlement.escrow.invariants import HubObserved, Observation, RegionObserved
from coordinator.settlement.escrow.memory import HubMemory, RegionMemory
from coordinator.settlement.escrow.proofs import ProvenEvent
from coordinator.settlement.escrow.records import HubTransition, RegionTransition
from coordinator.settlement.escrow.region_record import Moment, on_hub_event


def chain_id(name: str) -> bytes:
    """The id of a chain in a world."""
    return hashlib.sha256(b"genesis of " + name.encode()).digest()


@dataclass(frozen=True, slots=True)
class Published:
    """An event of a final block."""

    height: int
    event: bytes


@dataclass(frozen=True, slots=True)
class HubChain:
    """The hub. `pending` are events of the block under construction, which nobody can prove yet."""

    observed: HubObserved
    pending: tuple[bytes, ...] = ()
    published: tuple[Published, ...] = ()

    @property
    def books(self) -> HubMemory:
        """Its state."""
        return self.observed.books

    @property
    def height(self) -> int:
        """Of the block under construction."""
        return self.observed.height + 1

    def after(self, transition: HubTransition) -> HubChain:
        """With a transition in the block under construction; unchanged if there is nothing to write."""
        if transition == HubTransition():
            return self
        events = tuple(encode_event(event) for event in transition.events)
        return replace(self, observed=self.observed.after(transition), pending=(*self.pending, *events))

    def finished(self) -> HubChain:
        """With this block final and the next begun."""
        chain = self
        while (step := end_of_block(chain.books, chain.height)) is not None:
            chain = chain.after(step)
        published = tuple(Published(chain.height, event) for event in chain.pending)
        observed = replace(chain.observed, height=chain.height)
        return HubChain(observed, (), (*chain.published, *published))

    def took(self, proven: ProvenEvent) -> HubChain:
        """With a receipt included; unchanged if it is refused."""
        try:
            return self.after(accept_receipt(self.books, proven, self.height))
        except EscrowRefused:
            return self

    def proofs(self) -> Iterator[ProvenEvent]:
        """Everything that can be proved of it."""
        for item in self.published:
            yield ProvenEvent(self.books.chain_id, 0, item.height, item.event)

    def snapshot(self) -> Hashable:
        """A value to compare and hash."""
        seen = self.observed
        return self.books.snapshot(), seen.height, seen.opened, seen.decided, seen.counted, self.pending, self.published


@dataclass(frozen=True, slots=True)
class RegionChain:
    """A region. Every change is a block of its own, final at once. `strays` are events of a fork of its chain."""

    observed: RegionObserved
    height: int = 0
    epoch: int = 0
    published: tuple[Published, ...] = ()
    strays: tuple[Published, ...] = ()

    @property
    def books(self) -> RegionMemory:
        """Its state."""
        return self.observed.books

    @property
    def moment(self) -> Moment:
        """The block under construction."""
        return Moment(self.height + 1, self.epoch)

    def after(self, transition: RegionTransition) -> RegionChain:
        """With one more block; unchanged if there is nothing to write."""
        if transition == RegionTransition():
            return self
        published = tuple(Published(self.height + 1, encode_event(event)) for event in transition.events)
        observed = self.observed.after(transition)
        return replace(self, observed=observed, height=self.height + 1, published=(*self.published, *published))

    def took(self, proven: ProvenEvent) -> RegionChain:
        """With a hub event applied; unchanged if it is refused."""
        try:
            return self.after(on_hub_event(self.books, proven, self.moment))
        except EscrowRefused:
            return self

    def wrote(self, change: Callable[[RegionMemory], RegionMemory]) -> RegionChain:
        """With a block of the region's own business."""
        observed = replace(self.observed, books=change(self.books))
        return replace(self, observed=observed, height=self.height + 1)

    def proofs(self) -> Iterator[ProvenEvent]:
        """Everything that can be proved of it, under a certificate of its present epoch."""
        for item in (*self.published, *self.strays):
            yield ProvenEvent(chain_id(self.books.region), self.epoch, item.height, item.event)

    def snapshot(self) -> Hashable:
        """A value to compare and hash, without region heights and the order among settlements: no rule reads either."""
        records = {sid: replace(record, in_doubt_since=0) for sid, record in self.books.records.items()}
        entered = tuple(sorted(self.observed.entered, key=lambda entry: entry.sid))
        published = tuple(sorted(item.event for item in self.published))
        return replace(self.books, records=records).snapshot(), entered, self.epoch, published, self.strays


@dataclass(frozen=True, slots=True)
class World:
    """All chains."""

    hub: HubChain
    regions: tuple[RegionChain, ...]

    def observation(self, supply: dict[str, int]) -> Observation:
        """What the invariants look at."""
        return Observation((self.hub.observed,), tuple(region.observed for region in self.regions), supply)

    def with_region(self, place: int, region: RegionChain) -> World:
        """With one region replaced."""
        return World(self.hub, (*self.regions[:place], region, *self.regions[place + 1 :]))

    def with_hub(self, hub: HubChain) -> World:
        """With the hub replaced."""
        return World(hub, self.regions)

    def to_hub(self, proven: ProvenEvent) -> World:
        """With a proof delivered to the hub."""
        return self.with_hub(self.hub.took(proven))

    def to_region(self, place: int, proven: ProvenEvent) -> World:
        """With a proof delivered to a region."""
        return self.with_region(place, self.regions[place].took(proven))

    def finished(self) -> World:
        """With the hub's block final."""
        return World(self.hub.finished(), self.regions)

    def supply(self) -> dict[str, int]:
        """What exists of each asset, before anything is under way."""
        total: dict[str, int] = {}
        for region in self.regions:
            for (_, asset), amount in region.books.balances.items():
                total[asset] = total.get(asset, 0) + amount
        for (_, asset), amount in self.hub.books.accounts.items():
            total[asset] = total.get(asset, 0) + amount
        return total
