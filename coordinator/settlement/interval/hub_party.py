"""What a hub validator computes in an interval: proposals, and verdicts on what others propose.

A proposal is confirmed when this party has verified it itself: a result by the integer conditions of optimality, a
boundary state by the regions' sums and the public impedance, a decision by equality. Optimal solutions need not be
unique, so a result is never recomputed. For regions that an attempt goes on without, `SilentRegion` stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.consensus.errors import DecodeError
from coordinator.market.coupling.hub import Decision, Hub
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.coupling.silent_region import SilentRegion
from coordinator.market.coupling.wire import ProtocolError
from coordinator.market.fixed_point import divide_half_even
from coordinator.market.offers import MarketRules
from coordinator.settlement.congestion_rent import settle
from coordinator.settlement.interval.decisions import (
    Agreed,
    Blamed,
    HubMessage,
    Opened,
    Said,
    TieSchedule,
    Transfer,
    decode_commitment,
    decode_hub_message,
)
from coordinator.settlement.interval.fallback import stand_in
from coordinator.settlement.interval.hub_state import FOLLOWING
from coordinator.settlement.interval.region_party import UNUSABLE, message_interval
from coordinator.settlement.interval.topics import Interval, Step, Topic
from protos.gridaccord.v1 import coupling_pb2 as pb


@dataclass(frozen=True, slots=True)
class HubKnowledge:
    """What hub validators have beside the chain; all of it is public. `collateral` is set aside for each region;
    `meters_ties` where metered exchange is settled."""

    public: PublicNetwork
    rules: MarketRules
    asset: str
    collateral: int
    meters_ties: bool = False


@dataclass(frozen=True, slots=True)
class GateClosure:
    """Whom an attempt goes on without, and what seeds the price rule: the digest of the block that closed the gate.

    `held` are the INJECT messages at which some of the excluded are held.
    """

    excluded: tuple[int, ...]
    beacon: bytes
    held: Mapping[int, bytes] = field(default_factory=dict)


class HubParty:
    """One validator's computations for the hub."""

    def __init__(self, known: HubKnowledge) -> None:
        self._known = known
        self._public = known.public
        self._hub: Hub | None = None
        self._silent: list[SilentRegion] = []
        self._result = b""
        self._cold = True
        self._heard: list[bytes] = []
        self._stand_in: dict[int, bytes] = {}
        self._blame: Blamed | None = None
        self._awaits: Topic | None = None
        self.fault = ""
        """Why this party proposes and confirms nothing now; empty while it does."""
        self.outcome: PublicOutcome | None = None
        """What the attempt came to; None until a quorum has agreed."""

    def begin(self, topic: Topic, cold: bool, ties_out: tuple[str, ...] = ()) -> None:
        """The commitments of an attempt (`topic`) are due, with these tie-lines out of service; a warm one goes on
        with those of its session."""
        self._heard, self._awaits, self._cold, self._blame, self.fault = [], topic, cold, None, ""
        self.outcome = None
        if cold:
            self._begin_cold(topic, ties_out)
        elif self._hub is None:
            self.sit_out("this node was away when the session began; it takes part again with the next one")

    def _begin_cold(self, topic: Topic, ties_out: tuple[str, ...]) -> None:
        try:
            self._public = self._known.public.without_ties(ties_out)
        except UNUSABLE as error:
            self.sit_out(f"{topic}: {error}")
        else:
            self._hub = Hub(self._public, self._known.rules, self._known.asset)

    def sit_out(self, reason: str) -> None:
        """Until the next session."""
        self._hub, self._awaits, self.fault = None, None, reason

    @property
    def awaits(self) -> Topic | None:
        """The step that comes next here, of the hub or of regions."""
        return self._awaits

    def close_gate(self, topic: Topic, commitments: Mapping[int, bytes], closure: GateClosure) -> None:
        """All that take part have committed."""
        hub = self._hub
        if hub is None or topic != self._awaits:
            return
        if self._cold:
            asset, held = self._known.asset, closure.held
            self._silent = [stand_in(k, self._public, asset, held.get(k)) for k in closure.excluded]
        if not self._is_complete(commitments):
            return
        interval = message_interval(topic.interval)
        committed = {number: decode_commitment(message).message for number, message in commitments.items()}
        parts = _in_order({**committed, **{region.index: region.commit(interval) for region in self._silent}})
        try:
            hub.start(interval, parts, closure.beacon, silent=closure.excluded)
        except ProtocolError as error:
            self._blame = Blamed((error.region,), str(error))
        self._await_submissions(hub, topic, 1)

    def _await_submissions(self, hub: Hub, topic: Topic, number: int) -> None:
        interval = message_interval(topic.interval)
        self._stand_in = {region.index: region.submit(interval, number, hub.gates) for region in self._silent}
        self._awaits = Topic(topic.interval, Step.SUBMIT, topic.attempt, number)

    def hear_regions(self, topic: Topic, messages: Mapping[int, bytes]) -> None:
        """All that take part have spoken in a step of a round."""
        if self._hub is None or topic != self._awaits:
            return
        if not self._is_complete(messages):
            return
        self._heard = _in_order({**messages, **self._stand_in})
        self._awaits = Topic(topic.interval, FOLLOWING[topic.step], topic.attempt, topic.round)

    def _is_complete(self, messages: Mapping[int, bytes]) -> bool:
        """Whether every region's message is at hand; a node that followed the chain too late is out."""
        count = self._known.public.interconnection.region_count
        complete = {*messages, *self._silent_numbers} == set(range(count))
        if not complete:
            self.sit_out("this node began to follow the chain in the middle of the attempt")
        return complete

    @property
    def _silent_numbers(self) -> tuple[int, ...]:
        return tuple(region.index for region in self._silent)

    @property
    def stand_ins(self) -> tuple[SilentRegion, ...]:
        """Of the regions that this session goes on without."""
        return tuple(self._silent)

    @property
    def _at_zero_exchange(self) -> tuple[int, ...]:
        return tuple(region.index for region in self._silent if not region.held_fine.any())

    # Proposals and verdicts.

    def propose(self, topic: Topic) -> bytes | None:
        """This party's own message in a hub step; None while it has not come there."""
        if self._hub is None or topic != self._awaits:
            return None
        if self._blame is not None:
            return self._blame.encode()
        try:
            return self._computed(self._hub.copy(), topic).encode()
        except ProtocolError as error:
            if error.region < 0 or error.region in self._silent_numbers:
                self.fault = f"{topic}: {error}"
                return None
            return Blamed((error.region,), str(error)).encode()
        except UNUSABLE as error:
            self.fault = f"{topic}: {error}"
            return None

    def _computed(self, hub: Hub, topic: Topic) -> HubMessage:
        if topic.step is Step.RESULT:
            return Said(hub.clear(self._heard))
        if topic.step is Step.STATE:
            return Said(hub.boundary_state(self._heard))
        return self._decision(hub, hub.tally(self._heard), topic.interval)

    def _decision(self, hub: Hub, decision: Decision, interval: Interval) -> HubMessage:
        if decision.agreement is None:
            votes = [pb.Vote.FromString(data).intervals[0] for data in self._heard]
            return Opened(tuple(k for k, vote in enumerate(votes) if not vote.accept), decision.opening)
        money = settle(self._public, hub.public_outcome(), interval.duration_s)
        poor = [
            number
            for number, transfer in enumerate(money.transfers)
            if -transfer.total > self._known.collateral and number not in self._at_zero_exchange
        ]
        if poor:
            return Blamed(tuple(poor), f"would owe more than {self._known.collateral}, which is set aside")
        regions = tuple(Transfer(transfer.region, transfer.total) for transfer in money.transfers)
        owners = tuple(Transfer(owner, amount) for owner, amount in sorted(money.link_receipts.items()))
        agreement = decision.agreement
        numbers = (agreement.objective_micro_per_h, agreement.gap_micro_per_h)
        ties = self._tie_schedules(hub.public_outcome()) if self._known.meters_ties else ()
        return Agreed(*numbers, regions, owners, decision.opening, ties)

    def _tie_schedules(self, outcome: PublicOutcome) -> tuple[TieSchedule, ...]:
        """Of every tie-line of genesis, in the order of the interconnection; one that is out carries nothing."""
        whole, ties = self._known.public.interconnection, self._public.interconnection.tie_ids
        flow_w = dict(zip(ties, self._public.tie_flow_w(outcome.boundary_angle).tolist(), strict=True))
        near, far = (outcome.boundary_price[end].tolist() for end in (whole.tie_from, whole.tie_to))
        prices = [divide_half_even(first + second, 2) for first, second in zip(near, far, strict=True)]
        rows = zip(whole.tie_ids, prices, strict=True)
        return tuple(TieSchedule(flow_w.get(tie, 0), price) for tie, price in rows)

    def agrees(self, topic: Topic, proposal: bytes) -> bool:
        """Whether this party can stand behind another's proposal."""
        if self._hub is None or topic != self._awaits:
            return False
        try:
            said = decode_hub_message(proposal)
            if not isinstance(said, Said) or self._blame is not None:
                return proposal == self.propose(topic)
            self._adopt(self._hub.copy(), topic, said)
        except (DecodeError, *UNUSABLE):
            return False
        return True

    def _adopt(self, hub: Hub, topic: Topic, said: Said) -> None:
        if topic.step is Step.RESULT:
            hub.adopt(self._heard, said.message)
        else:
            hub.adopt_state(self._heard, said.message)

    # What a quorum stands behind.

    def hear_hub(self, topic: Topic, said: HubMessage) -> None:
        """A statement of the hub. One that this party cannot follow ends its session."""
        if self._hub is None or topic != self._awaits:
            return
        try:
            self._follow(self._hub, topic, said)
        except UNUSABLE as error:
            self.sit_out(f"{topic}: {error}")

    def _follow(self, hub: Hub, topic: Topic, said: HubMessage) -> None:
        self._awaits = None
        if isinstance(said, Said):
            self._adopt(hub, topic, said)
            if topic.step is Step.RESULT:
                self._result = said.message
                interval = message_interval(topic.interval)
                self._stand_in = {region.index: region.inject(interval) for region in self._silent}
            else:
                self._stand_in = {region.index: region.vote(self._result) for region in self._silent}
            self._awaits = Topic(topic.interval, FOLLOWING[topic.step], topic.attempt, topic.round)
        elif isinstance(said, Opened | Agreed):
            hub.tally(self._heard)
            if isinstance(said, Opened):
                self._await_submissions(hub, topic, topic.round + 1)
            else:
                self.outcome = hub.public_outcome()


def _in_order(messages: Mapping[int, bytes]) -> list[bytes]:
    return [messages[number] for number in sorted(messages)]
