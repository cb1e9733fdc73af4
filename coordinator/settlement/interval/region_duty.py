"""What one validator of a region does for its intervals: follows both chains and owes transactions. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.ledger.block import Block
from coordinator.ledger.receipt import Receipt
from coordinator.ledger.registry import CURRENT, committee
from coordinator.ledger.view import View
from coordinator.settlement.escrow.types import NEUTRAL
from coordinator.settlement.interval.confirmations import (
    CONFIRM_REGION,
    Confirmation,
    confirmed_by,
    digest_of,
    proposal,
    proposals,
)
from coordinator.settlement.interval.decisions import decode_commitment
from coordinator.settlement.interval.following import follow_attempt
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.hub_claims import amount_to_repay, repayment
from coordinator.settlement.interval.hub_duty import Request
from coordinator.settlement.interval.hub_exchange import Exchanges
from coordinator.settlement.interval.hub_state import Running
from coordinator.settlement.interval.region import RegionIntervals
from coordinator.settlement.interval.region_party import RegionKnowledge, RegionParty
from coordinator.settlement.interval.schedules import Metered, encode_metered
from coordinator.settlement.interval.topics import ALONE, ATTESTED_STEPS, Interval, Step, Topic, encode_amount
from coordinator.settlement.interval.transcript import Transcript
from coordinator.settlement.interval.turns import TURN_BLOCKS, is_turn

_TOPICS_KEPT = 256
_AloneKey = tuple[Interval, bytes | None, tuple[str, ...]]
"""An interval, what the region is held at in it, and which tie-lines are out."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A statement of the region that the hub waits for: to be proved there, with the message beside it."""

    topic: Topic
    message: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Awaited:
    """An interval whose metered exchange the hub waits for; `is_urgent` when it will soon do without."""

    interval: Interval
    is_urgent: bool


class RegionDuty:
    """One validator's part in its region's statements."""

    def __init__(self, me: str, known: RegionKnowledge) -> None:
        self._me = me
        self._number = known.grid.index
        self._transcript = Transcript()
        self._party = RegionParty(known)
        self._attempt: Topic | None = None
        self._ties_out: tuple[str, ...] = ()
        self._wanted_since: dict[Topic, int] = {}
        self._height = 0
        self._cleared_alone: tuple[_AloneKey, bytes | None] | None = None

    @property
    def fault(self) -> str:
        """Why this validator sits out; empty while it does not."""
        return self._party.fault

    # Following.

    def on_hub_block(self, block: Block, receipts: Sequence[Receipt]) -> None:
        """The next final block of the hub."""
        self._transcript.add(block, receipts)

    def on_region_block(self, height: int) -> None:
        """The region's chain has grown."""
        self._height = height

    def advance(self, hub: View, region: View) -> None:
        """Take in what was said, with the latest final states of both chains at hand."""
        on_hub, here = HubIntervals.of(hub), RegionIntervals.of(region)
        attempt = self._attempt_of(on_hub, here)
        if attempt is not None and here.gate == attempt.interval and self._is_new(attempt, on_hub, here):
            self._attempt, self._ties_out = attempt, on_hub.ties_out(attempt.interval)
            offers, resources = here.offers(attempt.interval), here.resources()
            self._party.begin(attempt, self._is_cold(on_hub, attempt.interval), offers, resources, self._ties_out)
        while (topic := self._party.awaits) is not None and topic in self._transcript.of_hub:
            self._party.hear(topic, self._transcript.of_hub[topic])

    def _is_new(self, attempt: Topic, on_hub: HubIntervals, here: RegionIntervals) -> bool:
        """Or, while the region has not committed, with other tie-lines out of service than were known of."""
        if attempt != self._attempt:
            return True
        return on_hub.ties_out(attempt.interval) != self._ties_out and here.stated(attempt) is None

    def _is_cold(self, on_hub: HubIntervals, interval: Interval) -> bool:
        """Also for a region outside of the session: that it commits makes the hub begin anew, with all cold."""
        running, session = on_hub.running, on_hub.session
        if session is None or self._number in session.excluded or on_hub.is_out_of_session(interval):
            return True
        return running is not None and on_hub.is_cold(running)

    def _attempt_of(self, on_hub: HubIntervals, here: RegionIntervals) -> Topic | None:
        """That of the hub, or the first one of the interval that this region is ready for."""
        running, gate, last = on_hub.running, here.gate, on_hub.last
        if running is not None:
            return follow_attempt(None, running)
        if gate is None or (last is not None and gate <= last):
            return None
        return Topic(gate, Step.COMMIT)

    # What is owed.

    def owed(self, hub: View, region: View, target: Interval | None) -> list[Request]:
        """Statements to confirm. `target` is the interval whose gate is to be closed by now, as the clock says."""
        here, topic = RegionIntervals.of(region), self._topic(hub, region)
        late = target is not None and (here.gate is None or here.gate < target)
        if here.gate is not None and (late or self._is_over(hub, here.gate)) and here.offers(here.gate):
            alone = self._alone(here, here.gate, HubIntervals.of(hub))
            if alone is not None:
                return self._word(here, region, Topic(here.gate, Step.SCHEDULE, ALONE), alone)
        if target is not None and late:
            return self._word(here, region, Topic(target, Step.GATE), b"")
        if topic is None or here.stated(topic) is not None:
            return []
        if self._is_split(here, region, topic):
            self._party.begin(topic, True, here.offers(topic.interval), here.resources(), self._ties_out)
        message = self._party.message(topic)
        return [] if message is None else self._word(here, region, topic, message)

    def _is_split(self, here: RegionIntervals, region: View, topic: Topic) -> bool:
        """Whether validators who remember the session and others who do not keep each other from a commitment.

        A quorum has spoken and long since stands behind nothing. Those who remember give in: all begin anew.
        """
        message, current = self._party.message(topic), committee(region, CURRENT)
        if topic.step is not Step.COMMIT or message is None or not decode_commitment(message).remembers:
            return False
        waited = self._height - self._wanted_since.get(topic, self._height)
        return waited >= len(current.names) * TURN_BLOCKS and len(confirmed_by(here.records, topic)) >= current.quorum

    def _is_over(self, hub: View, interval: Interval) -> bool:
        """Whether the hub has ended an interval, without this region if it has no schedule."""
        last = HubIntervals.of(hub).last
        return last is not None and last >= interval

    def _alone(self, here: RegionIntervals, interval: Interval, on_hub: HubIntervals) -> bytes | None:
        held, ties_out = on_hub.held().get(self._number), on_hub.ties_out(interval)
        key = interval, held, ties_out
        if self._cleared_alone is None or self._cleared_alone[0] != key:
            message = self._party.alone(here.offers(interval), here.resources(), held, ties_out)
            self._cleared_alone = key, message
        return self._cleared_alone[1]

    def _topic(self, hub: View, region: View) -> Topic | None:
        """What the hub waits for from this region."""
        on_hub, here = HubIntervals.of(hub), RegionIntervals.of(region)
        running: Running | None = on_hub.running
        if running is None:
            return self._attempt if self._attempt == self._attempt_of(on_hub, here) else None
        waits = running.topic.step in ATTESTED_STEPS and running.interval == here.gate
        return running.topic if waits and self._number not in running.excluded else None

    def _word(self, here: RegionIntervals, region: View, topic: Topic, message: bytes) -> list[Request]:
        """Confirm a message, with its text where nobody has given it and it is this validator's turn."""
        since = self._wanted_since.setdefault(topic, self._height)
        if len(self._wanted_since) > _TOPICS_KEPT:
            del self._wanted_since[next(iter(self._wanted_since))]
        names, digest = committee(region, CURRENT).names, digest_of(message)
        if self._me not in names:
            return []
        said = confirmed_by(here.records, topic).get(self._me) == digest
        given = digest in map(digest_of, proposals(here.records, topic).values())
        if not given and is_turn(topic.encode(), names, self._me, self._height - since):
            return [(CONFIRM_REGION, proposal(topic, message).encode())]
        return [] if said else [(CONFIRM_REGION, Confirmation(topic, digest).encode())]

    def bill(self, region: View, interval: Interval, version: int, rows: Sequence[Metered]) -> list[Request]:
        """Confirm metered energy of an interval, as the readings at hand say."""
        topic = Topic(interval, Step.METERED, 0, version)
        return self._word(RegionIntervals.of(region), region, topic, encode_metered(rows))

    def _is_known(self, on_hub: HubIntervals, topic: Topic, stated: bytes) -> bool:
        """Whether the hub has this statement; what the region would have begun with before is another one."""
        if on_hub.running is not None:
            return self._number in on_hub.slots()
        ready = on_hub.ready().get(self._number)
        return ready is not None and (ready.interval, ready.digest) == (topic.interval, stated)

    def to_relay(self, hub: View, region: View) -> Relayed | None:
        """What the region has stated and the hub lacks."""
        topic = self._topic(hub, region)
        stated = None if topic is None else RegionIntervals.of(region).stated(topic)
        if topic is None or stated is None or self._is_known(HubIntervals.of(hub), topic, stated):
            return None
        if topic.step is Step.SCHEDULE:
            return Relayed(topic, b"", stated)
        message = self._party.message(topic)
        if message is None or digest_of(message) != stated:
            return None  # Others have what was stated; the hub would refuse what this validator remembers of it.
        return Relayed(topic, message, stated)

    # Intervals that are over.

    def awaited(self, hub: View, recent: Iterable[Interval]) -> list[Awaited]:
        """Of some intervals those of which the hub lacks what this region's meters show at its ends of tie-lines."""
        exchanges = Exchanges.of(hub)
        rules, regions = exchanges.rules, exchanges.books.parameters.regions
        if rules is None or not rules.of(regions[self._number]):
            return []
        height = self._transcript.height
        known = [one for one in map(exchanges.find, recent) if one is not None and not one.amounts]
        return [
            Awaited(one.interval, bool(one.since_height) and 2 * (height - one.since_height) >= rules.blocks)
            for one in known
            if self._number not in exchanges.stated(one.interval)
        ]

    def state_ties(self, region: View, interval: Interval, rows: Sequence[Metered]) -> list[Request]:
        """Confirm what the meters at tie-lines show of an interval, as the readings at hand say."""
        here = RegionIntervals.of(region)
        if here.ties.stated(interval) is not None:
            return []
        return self._word(here, region, Topic(interval, Step.TIES), encode_metered(rows))

    def accept(self, hub: View, region: View) -> list[Request]:
        """Confirm amounts between regions: the hub's rules, which this node has carried out, gave them."""
        here, requests = RegionIntervals.of(region), []
        for topic, amount in self._payable(hub).items():
            if here.accepted(topic) is None and _can_pay(here, amount):
                requests += self._word(here, region, topic, encode_amount(amount))
        return requests

    def _payable(self, hub: View) -> dict[Topic, int]:
        """What the hub waits for this region to accept: what it receives, in micro-units."""
        books = HubIntervals.of(hub)
        begun = [one for one in Exchanges(books).begun() if self._number in one.owing]
        found = {Topic(one.interval, Step.ACCEPT): one.amounts[self._number] for one in begun}
        topic = repayment(books, self._number)
        return found if topic is None else found | {topic: amount_to_repay(books, self._number)}

    def later_to_relay(self, hub: View, region: View, recent: Iterable[Interval]) -> list[Relayed]:
        """What the region has stated beside the interval under way and the hub waits for: about intervals that are
        over, and of its ends of tie-lines."""
        here = RegionIntervals.of(region)
        found = {Topic(one.interval, Step.TIES): here.ties.stated(one.interval) for one in self.awaited(hub, recent)}
        for topic, amount in self._payable(hub).items():
            if here.accepted(topic) == amount:
                found[topic] = encode_amount(amount)
        on_hub = HubIntervals.of(hub)
        said = here.outages.after(on_hub.outages.heard(self._number))
        if said is not None:
            found[said[1].topic(on_hub.parameters.duration_s, said[0])] = said[1].encode()
        return [Relayed(topic, text, digest_of(text)) for topic, text in found.items() if text is not None]


def _can_pay(here: RegionIntervals, amount: int) -> bool:
    """Whether the neutral account can: what it cannot pay it would say NO to."""
    escrow, asset = here.escrow, here.parameters.asset
    return escrow.free(NEUTRAL, asset) + escrow.credit_limit(NEUTRAL, asset) + amount >= 0
