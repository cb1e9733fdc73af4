"""A region's part of an interval: offers, what its validators state for it, its schedule, and bills from meters.

Transactions                                       Events
interval_offers  curves of the signer's resources  interval   a statement: topic and digest
interval_target  whose gate the stepper closes     dispatch   interval, root over instructions, their number
confirm_region   a validator's word                billed     interval, version, sum paid to resources
tie_outage       an owner's word on a breaker

Key                              entry
parameters                       Parameters
resource/<name>                  Resource
gate                             the last interval whose gate is closed
target                           the interval whose gate is to be closed, where there is a stepper
offer/<interval><name>           Curve, until its interval is scheduled
stated/<topic>                   digest, until the next gate
schedule/<interval><name>        Position, until readings of the interval are too late to count
owed/<owner> 0x00 <asset>        what bills could not move: positive is owed to the owner, in 16 bytes
and what `region_ties` and `region_outages` list.

Whether a schedule or a metered energy is right only the region's validators can tell, who have grid, offers and
readings; a quorum of them confirms it. What follows from it is computed here, in integers, for anyone to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from coordinator.ledger import accounts
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import GenesisError, Rejected
from coordinator.ledger.merkle import MerkleTree, leaf_hash
from coordinator.ledger.readings import reading_rules
from coordinator.ledger.records import Asset
from coordinator.ledger.registry import participant_of
from coordinator.ledger.state import Module
from coordinator.ledger.view import Context, Records, View, reading_context
from coordinator.market.offers import MarketRules, Offer, OfferError, check_offer
from coordinator.settlement.escrow.handlers import ESCROW_REGION
from coordinator.settlement.escrow.ledger_books import RegionLedger
from coordinator.settlement.escrow.money import money, money_key, set_sum
from coordinator.settlement.escrow.types import AMOUNT_MAX, NEUTRAL
from coordinator.settlement.interval import confirmations
from coordinator.settlement.interval.confirmations import CONFIRM_REGION, decode_confirmation
from coordinator.settlement.interval.hub import INTERVAL_EVENT
from coordinator.settlement.interval.outages import decode_outage
from coordinator.settlement.interval.region_outages import RegionOutages
from coordinator.settlement.interval.region_records import (
    Parameters,
    Position,
    Resource,
    decode_parameters,
    decode_position,
    decode_resource,
    read_parameters,
    read_resources,
)
from coordinator.settlement.interval.region_ties import RegionTies
from coordinator.settlement.interval.schedules import (
    RESOURCE_MAX_W,
    Curve,
    Metered,
    Scheduled,
    credit,
    decode_metered,
    decode_offers,
    decode_schedule,
    instructions,
    read_curve,
)
from coordinator.settlement.interval.topics import (
    ATTESTED_STEPS,
    INTERVAL_BYTES,
    LATER_STEPS,
    Interval,
    Step,
    Topic,
    agreed_nonce,
    netting_nonce,
    read_interval,
)

NAME = "interval_region"
OFFERS, TARGET, OUTAGE = "interval_offers", "interval_target", "tie_outage"
DISPATCH_EVENT, BILLED_EVENT = "dispatch", "billed"
_PARAMETERS, _RESOURCE, _GATE, _TARGET = b"parameters", b"resource/", b"gate", b"target"
_OFFER, _STATED, _SCHEDULE, _OWED = b"offer/", b"stated/", b"schedule/", b"owed/"


@dataclass(frozen=True, slots=True)
class RegionIntervals:
    """The region's entries about intervals; to read by anyone, to write by the handlers below."""

    context: Context

    @staticmethod
    def of(view: View) -> RegionIntervals:
        """To read a state."""
        return RegionIntervals(reading_context(view))

    @property
    def records(self) -> Records:
        """Its entries."""
        return Records(self.context.view, INTERVAL_REGION.prefix)

    @property
    def escrow(self) -> RegionLedger:
        """The books of the escrow protocol on the same chain."""
        return RegionLedger(replace(self.context, records=Records(self.context.view, ESCROW_REGION.prefix)))

    @property
    def parameters(self) -> Parameters:
        """From genesis."""
        data = self.records.get(_PARAMETERS)
        assert data is not None, "genesis writes the parameters of intervals"
        return decode_parameters(data)

    @property
    def gate(self) -> Interval | None:
        """The last interval whose gate is closed."""
        data = self.records.get(_GATE)
        return None if data is None else read_interval(Reader(data))

    @property
    def target(self) -> Interval | None:
        """The interval whose gate the stepper wants closed."""
        data = self.records.get(_TARGET)
        return None if data is None else read_interval(Reader(data))

    def due(self, time_ms: int) -> Interval | None:
        """The interval whose gate is to be closed by now, at this time of the region's last block."""
        parameters = self.parameters
        if parameters.stepper:
            return self.target
        length = parameters.duration_s
        count = (time_ms // 1000 + parameters.gate_closure_s - parameters.opens_s) // length
        return None if count < 0 else Interval(parameters.opens_s + count * length, length)

    def resource(self, name: str) -> Resource | None:
        """A registered resource."""
        data = self.records.get(_RESOURCE + name.encode())
        return None if data is None else decode_resource(data)

    def resources(self) -> dict[str, Resource]:
        """All, by name in the order of the names' bytes."""
        found = self.records.items(_RESOURCE)
        return {key[len(_RESOURCE) :].decode(): decode_resource(value) for key, value in found}

    def offers(self, interval: Interval) -> dict[str, Curve]:
        """What is offered for an interval, by resource."""
        prefix = _OFFER + interval.encode()
        return {key[len(prefix) :].decode(): read_curve(Reader(value)) for key, value in self.records.items(prefix)}

    def stated(self, topic: Topic) -> bytes | None:
        """The digest of what a quorum stands behind."""
        return self.records.get(_STATED + topic.encode())

    def position(self, interval: Interval, resource: str) -> Position | None:
        """A resource's schedule and bill."""
        data = self.records.get(_SCHEDULE + interval.encode() + resource.encode())
        return None if data is None else decode_position(data)

    def positions(self, interval: Interval) -> dict[str, Position]:
        """Schedules and bills of an interval, by resource."""
        prefix = _SCHEDULE + interval.encode()
        found = self.records.items(prefix)
        return {key[len(prefix) :].decode(): decode_position(value) for key, value in found}

    def scheduled(self) -> list[Interval]:
        """Intervals with schedules, in the order of time. Goes through all of them."""
        keys = (key[len(_SCHEDULE) :][:INTERVAL_BYTES] for key, _ in self.records.items(_SCHEDULE))
        return [read_interval(Reader(key)) for key in dict.fromkeys(keys)]

    def owed(self, owner: str) -> int:
        """What bills could not move: positive is owed to the owner, in micro-units."""
        return money(self.records, money_key(_OWED, owner.encode(), self.parameters.asset))

    def nonce(self, interval: Interval) -> bytes:
        """Of the interval's netting."""
        return netting_nonce(interval, self.parameters.topology, self.parameters.asset)

    @property
    def first_open_s(self) -> int:
        """When the first interval starts whose gate is not closed."""
        gate = self.gate
        return self.parameters.opens_s if gate is None else gate.end_s

    @property
    def outages(self) -> RegionOutages:
        """What was said of breakers at the region's ends of tie-lines."""
        return RegionOutages(self.records)

    @property
    def ties(self) -> RegionTies:
        """Ends of tie-lines."""
        return RegionTies(self.records)

    def accepted(self, topic: Topic) -> int | None:
        """What the region agrees to receive by an ACCEPT or REPAY, until it is paid."""
        return self.escrow.mandate(self.nonce_of(topic), NEUTRAL, self.parameters.asset)

    def nonce_of(self, topic: Topic) -> bytes:
        """Of the netting that the region agrees to by an ACCEPT or REPAY."""
        return agreed_nonce(topic, self.parameters.topology, self.parameters.asset, self.escrow.region)


# Offers.


def _on_offers(context: Context, content: bytes) -> None:
    books, given = RegionIntervals(context), decode_offers(content)
    _check_open(books, given.interval)
    for name, curve in given.curves:
        resource = books.resource(name)
        if resource is None or resource.owner != context.signer:
            raise Rejected("not_owner", f"{context.signer} has no resource {name[:60]!r} here")
        try:
            check_offer(Offer(name, resource.bus, curve.fixed_w, curve.steps), MarketRules())
        except OfferError as error:
            raise Rejected("bad_offer", str(error)) from None
        if max(-curve.lowest_w, curve.highest_w) > RESOURCE_MAX_W:
            raise Rejected("bad_offer", f"offer {name} exceeds {RESOURCE_MAX_W} W; split it over several resources")
        books.records.put(_OFFER + given.interval.encode() + name.encode(), curve.encode())


def _on_target(context: Context, content: bytes) -> None:
    books, reader = RegionIntervals(context), Reader(content)
    interval = read_interval(reader)
    reader.end()
    if not context.signer or context.signer != books.parameters.stepper:
        raise Rejected("not_stepper", f"{context.signer} does not close gates here")
    _check_open(books, interval)
    books.records.put(_TARGET, interval.encode())


def _on_outage(context: Context, content: bytes) -> None:
    """The owner of an end of a tie-line opens or closes its breaker, at the earliest for the next open gate."""
    books, said = RegionIntervals(context), decode_outage(content)
    if books.ties.owners().get(said.tie) != context.signer:
        raise Rejected("not_owner", f"{context.signer} has no end of a tie-line {said.tie[:60]!r} here")
    said = replace(said, from_s=max(said.from_s, books.first_open_s))
    duration_s = books.parameters.duration_s
    _check_open(books, Interval(said.from_s, duration_s))
    topic = said.topic(duration_s, books.outages.add(said))
    context.emit(INTERVAL_EVENT, confirmations.event_payload(topic, confirmations.digest_of(said.encode())))


def _check_open(books: RegionIntervals, interval: Interval) -> None:
    """The horizon goes by the clock where gates do: nothing was closed while the chain stood still."""
    parameters, earliest_s = books.parameters, books.first_open_s
    length = parameters.duration_s
    if interval.duration_s != length or (interval.start_s - parameters.opens_s) % length:
        raise Rejected("no_such_interval", f"intervals here have {length} s, from {parameters.opens_s} s on")
    if interval.start_s < earliest_s:
        raise Rejected("gate_closed", f"the gate of the interval at {interval.start_s} s is closed")
    due = None if parameters.stepper else books.due(books.context.block.time_ms)
    from_s = earliest_s if due is None else max(earliest_s, due.start_s)
    if interval.start_s >= from_s + parameters.horizon * length:
        raise Rejected("too_early", f"this is taken {parameters.horizon} intervals ahead")


# Statements.


def _on_confirm(context: Context, content: bytes) -> None:
    books, given = RegionIntervals(context), decode_confirmation(content)
    topic = given.topic
    _check_expected(books, topic)
    message = confirmations.confirm(context, given)
    if message is None:
        return
    if topic.step is Step.GATE:
        _close_gate(books, topic.interval)
    elif topic.step is Step.SCHEDULE:
        _set_schedule(books, topic.interval, message)
    elif topic.step is Step.METERED:
        _bill(books, topic, decode_metered(message))
    elif topic.step is Step.TIES:
        books.ties.state(topic.interval, message)
    elif topic.step in (Step.ACCEPT, Step.REPAY):
        _accept(books, topic, message)
    books.records.put(_STATED + topic.encode(), given.digest)
    context.emit(INTERVAL_EVENT, confirmations.event_payload(topic, given.digest))


def _check_expected(books: RegionIntervals, topic: Topic) -> None:
    if topic.step is Step.GATE:
        _check_open(books, topic.interval)
        return
    if topic.step is Step.METERED:
        return
    if topic.step in LATER_STEPS:
        _check_later(books, topic)
        return
    if topic.step not in ATTESTED_STEPS or topic.interval != books.gate:
        raise Rejected("unexpected", f"{topic}: not a statement of a region about the interval whose gate is closed")
    if books.stated(topic) is not None:
        raise Rejected("stated", f"{topic}: a quorum stands behind a message already")


def _check_later(books: RegionIntervals, topic: Topic) -> None:
    if books.gate is None or topic.interval > books.gate or topic != Topic(topic.interval, topic.step):
        raise Rejected("unexpected", f"{topic}: not of an interval whose gate is closed")
    known = books.ties.stated(topic.interval) if topic.step is Step.TIES else books.accepted(topic)
    if known is not None:
        raise Rejected("stated", f"{topic}: a quorum stands behind a message already")


def _accept(books: RegionIntervals, topic: Topic, message: bytes) -> None:
    """The region will agree to this leg of the netting, and to no other."""
    reader = Reader(message)
    amount = reader.int64()
    reader.end()
    books.escrow.put_mandate(books.nonce_of(topic), NEUTRAL, books.parameters.asset, amount)


def _close_gate(books: RegionIntervals, interval: Interval) -> None:
    """Offers for it stand; those for earlier ones, never scheduled, and old statements go."""
    for key, _ in tuple(books.records.items(_STATED)):
        books.records.delete(key)
    for key, _ in tuple(books.records.items(_OFFER)):
        if key[len(_OFFER) :][:INTERVAL_BYTES] >= interval.encode():
            break
        books.records.delete(key)
    books.records.put(_GATE, interval.encode())


def _set_schedule(books: RegionIntervals, interval: Interval, message: bytes) -> None:
    schedule, offers = decode_schedule(message), books.offers(interval)
    if [row.resource for row in schedule.rows] != list(offers):
        raise Rejected("other_resources", "a schedule has a row for each resource that offered, and no other")
    for row in schedule.rows:
        curve = offers[row.resource]
        if not curve.lowest_w <= row.power_w <= curve.highest_w:
            raise Rejected("beyond_offer", f"{row.resource}: {row.power_w} W was not offered")
    prefix = interval.encode()
    for row in schedule.rows:
        books.records.put(_SCHEDULE + prefix + row.resource.encode(), Position(row.power_w, row.price).encode())
        books.records.delete(_OFFER + prefix + row.resource.encode())
    if schedule.transfer:
        books.escrow.put_mandate(books.nonce(interval), NEUTRAL, books.parameters.asset, schedule.transfer)
    _dispatch(books, interval, schedule.rows)
    _prune(books, interval)


def _dispatch(books: RegionIntervals, interval: Interval, rows: Sequence[Scheduled]) -> None:
    """What devices act on: an instruction, its way to this root, and the proof that the root is final."""
    leaves = [leaf_hash(leaf) for leaf in instructions(interval, rows)]
    if leaves:
        payload = Writer().raw(interval.encode()).raw(MerkleTree(leaves).root).uint32(len(leaves)).encoded
        books.context.emit(DISPATCH_EVENT, payload)


def _prune(books: RegionIntervals, interval: Interval) -> None:
    late_s = reading_rules(books.context.view).late_limit_s
    for key, _ in tuple(books.records.items(_SCHEDULE)):
        if read_interval(Reader(key[len(_SCHEDULE) :])).end_s + late_s >= interval.start_s:
            break
        books.records.delete(key)
    books.ties.prune(late_s, interval.start_s)


# Bills.


def _bill(books: RegionIntervals, topic: Topic, rows: Sequence[Metered]) -> None:
    """Settle metered energy; a later version pays the difference. Bills have versions, never edits."""
    interval, parameters, paid = topic.interval, books.parameters, 0
    for row in rows:
        before, resource = books.position(interval, row.resource), books.resource(row.resource)
        if before is None or resource is None:
            raise Rejected("not_scheduled", f"{row.resource[:60]!r} has no schedule at {interval.start_s} s")
        if topic.round != before.version + 1:
            raise Rejected("bad_version", f"{row.resource}: version {topic.round} follows {before.version}")
        spread = parameters.imbalance_spread
        amount = credit(before.power_w, before.price, row.energy_wh, interval.duration_s, spread)
        if abs(amount) > AMOUNT_MAX:
            raise Rejected("bad_amount", f"{row.resource}: {row.energy_wh} Wh would be {amount} micro-units")
        after = replace(
            before, version=topic.round, metered_wh=row.energy_wh, substituted=row.substituted, credited=amount
        )
        books.records.put(_SCHEDULE + interval.encode() + row.resource.encode(), after.encode())
        _pay(books, resource.owner, amount - before.credited)
        paid += amount - before.credited
    payload = Writer().raw(interval.encode()).uint32(topic.round).raw(paid.to_bytes(16, "big", signed=True)).encoded
    books.context.emit(BILLED_EVENT, payload)


def _pay(books: RegionIntervals, owner: str, amount: int) -> None:
    """Between the neutrality account and an owner, with what earlier bills could not move; else it stays owed."""
    view, asset, neutral = books.context.view, books.parameters.asset, NEUTRAL.decode()
    due = amount + books.owed(owner)
    payer, payee = (neutral, owner) if due > 0 else (owner, neutral)
    left = 0
    if due:
        try:
            accounts.transfer(view, asset, payer, payee, abs(due))
        except Rejected:
            left = due
    set_sum(books.records, money_key(_OWED, owner.encode(), asset), left)


def _genesis(context: Context, section: Mapping[str, object]) -> None:
    books = RegionIntervals(context)
    parameters = read_parameters(section, NAME)
    if parameters.stepper and participant_of(context.view, parameters.stepper) is None:
        raise GenesisError(f"{NAME}: stepper {parameters.stepper} is no participant; its word would close no gate")
    if context.view.get(Asset.key(parameters.asset)) is None:
        raise GenesisError(f"{NAME}: asset {parameters.asset} is none of this chain's; add it to assets")
    books.records.put(_PARAMETERS, parameters.encode())
    for name, resource in read_resources(section, NAME):
        if books.resource(name) is not None or participant_of(context.view, resource.owner) is None:
            raise GenesisError(f"{NAME}: resource {name} stands there twice, or its owner {resource.owner} is unknown")
        books.records.put(_RESOURCE + name.encode(), resource.encode())
    books.ties.found(section, NAME)
    both = books.ties.owners().keys() & books.resources().keys()
    if both:
        raise GenesisError(f"{NAME}: {min(both)} is a resource and a tie-line; their meters would have the same names")


INTERVAL_REGION = Module(
    name=NAME,
    handlers={OFFERS: _on_offers, TARGET: _on_target, OUTAGE: _on_outage, CONFIRM_REGION: _on_confirm},
    genesis=_genesis,
)
"""A region's part of an interval. Needs the escrow module of a region."""
BILLED_UNDER = tuple(INTERVAL_REGION.prefix + key for key in (_GATE, _SCHEDULE))
"""Entries of the state from which, with devices and readings, it follows which bill is due."""
