"""What a region's validator computes for its region in an interval: messages, and the schedule that follows.

Every validator of a region computes the same from the region's grid, its secret, the offers on its chain and what the
hub stated; it confirms only what equals its own. What is remembered from interval to interval lives as long as a
session (`hub_state.Session`); a party that missed something has no message until the next cold start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.market.certificate import CertificateError
from coordinator.market.coupling.alone import clear_alone
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.region import RegionAgent
from coordinator.market.coupling.wire import ProtocolError
from coordinator.market.linear_program import SolverError
from coordinator.market.offers import MarketRules, OfferError
from coordinator.settlement.interval.decisions import Agreed, Blamed, Committed, HubMessage, Opened, Said
from coordinator.settlement.interval.dispatch import offered, scheduled
from coordinator.settlement.interval.fallback import held_injection_w
from coordinator.settlement.interval.region_records import Resource
from coordinator.settlement.interval.schedules import Curve, Schedule
from coordinator.settlement.interval.topics import Interval, Step, Topic
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import IntArray
from topology.errors import GridError
from topology.regions import RegionGrid

UNUSABLE = (ProtocolError, CertificateError, OfferError, SolverError, ArithmeticError, GridError)
"""What computing with the numbers of others may end with; a validator then has nothing to say, and goes on."""


@dataclass(frozen=True, slots=True)
class RegionKnowledge:
    """What validators of a region have beside its chain: its own grid, what is public, and the region's secret."""

    grid: RegionGrid
    public: PublicNetwork
    rules: MarketRules
    secret: bytes
    asset: str
    window: PublicationWindow


class RegionParty:
    """One validator's computations for its region."""

    def __init__(self, knowledge: RegionKnowledge) -> None:
        self._known = knowledge
        self._public = knowledge.public
        self._agent: RegionAgent | None = None
        self._messages: dict[Topic, bytes] = {}
        self._awaits: Topic | None = None
        self.fault = ""
        """Why this party has no message now; empty while it has."""

    def message(self, topic: Topic) -> bytes | None:
        """What this region says on a topic, as far as this party has followed."""
        return self._messages.get(topic)

    @property
    def awaits(self) -> Topic | None:
        """The hub's statement that comes next here."""
        return self._awaits

    def begin(
        self,
        topic: Topic,
        cold: bool,
        offers: Mapping[str, Curve],
        resources: Mapping[str, Resource],
        ties_out: tuple[str, ...] = (),
    ) -> None:
        """The commitments of an attempt (`topic`) are due: take the offers of the interval, whose gate is closed.

        `ties_out` are the tie-lines that are out of service in it; a warm attempt goes on with those of its session.
        """
        assert topic.step is Step.COMMIT, "an attempt begins with commitments"
        self._messages, self._awaits, self.fault = {}, None, ""
        try:
            if cold or self._agent is None:
                self._public = self._known.public.without_ties(ties_out)
            self._commit(topic, cold, offers, resources)
        except UNUSABLE as error:
            self._sit_out(topic, error)

    def _commit(self, topic: Topic, cold: bool, offers: Mapping[str, Curve], resources: Mapping[str, Resource]) -> None:
        forgot = self._agent is None
        if cold or self._agent is None:
            self._agent = self._fresh()
        self._offered = offered(offers, resources, self._known.grid.network.bus_ids, self._known.rules)
        interval = message_interval(topic.interval)
        commitment = self._agent.commit(interval, self._offered.table.steps, self._known.window)
        committed = Committed(not (cold or forgot), self._public.topology_id, commitment)
        self._messages[topic] = committed.encode()
        self._messages[_at(topic, Step.SUBMIT, 1)] = self._agent.submit()
        self._awaits = _at(topic, Step.RESULT, 1)

    def _fresh(self) -> RegionAgent:
        known = self._known
        agent = RegionAgent(known.grid, known.rules, known.secret, known.asset)
        agent.join(self._public)
        return agent

    def alone(
        self,
        offers: Mapping[str, Curve],
        resources: Mapping[str, Resource],
        held: bytes | None = None,
        ties_out: tuple[str, ...] = (),
    ) -> bytes | None:
        """The schedule with the exchange that the others hold the region at, none without.

        Where nothing delivers it the schedule is that at zero exchange; None, with a fault, where these offers do not
        clear at all.
        """
        for message in dict.fromkeys((held, None)):
            try:
                injection_w = None if message is None else self._held_w(message, ties_out)
                return self._cleared_alone(offers, resources, injection_w)
            except UNUSABLE as error:
                self.fault = f"clearing alone: {error}"
        return None

    def _held_w(self, message: bytes, ties_out: tuple[str, ...]) -> IntArray:
        known = self._known
        return held_injection_w(known.grid.index, known.public.without_ties(ties_out), known.asset, message)

    def _cleared_alone(
        self, offers: Mapping[str, Curve], resources: Mapping[str, Resource], injection_w: IntArray | None
    ) -> bytes:
        known = self._known
        own = offered(offers, resources, known.grid.network.bus_ids, known.rules)
        cleared = clear_alone(known.grid, own.table.steps, known.rules, injection_w)
        return Schedule(0, scheduled(own, cleared.clearing)).encode()

    def hear(self, topic: Topic, said: HubMessage) -> None:
        """The hub's next statement. One that cannot be followed ends this party's session."""
        if topic != self._awaits or self._agent is None:
            return
        try:
            self._follow(self._agent, topic, said)
        except UNUSABLE as error:
            self._sit_out(topic, error)

    def _sit_out(self, topic: Topic, error: Exception) -> None:
        self._agent, self._messages, self._awaits = None, {}, None
        self.fault = f"{topic}: {error}"

    def _follow(self, agent: RegionAgent, topic: Topic, said: HubMessage) -> None:
        self._awaits = None
        if isinstance(said, Said) and topic.step is Step.RESULT:
            self._messages[_at(topic, Step.INJECT)] = agent.inject(said.message)
            self._awaits = _at(topic, Step.STATE)
        elif isinstance(said, Said):
            self._messages[_at(topic, Step.VOTE)] = agent.vote(said.message)
            self._awaits = _at(topic, Step.DECISION)
        elif isinstance(said, Opened):
            agent.open_round(said.opening)
            self._messages[_at(topic, Step.SUBMIT, topic.round + 1)] = agent.submit()
            self._awaits = _at(topic, Step.RESULT, topic.round + 1)
        elif isinstance(said, Agreed):
            agent.open_round(said.opening)
            agent.close()
            transfer = said.regions[self._known.grid.index].amount
            schedule = Schedule(transfer, scheduled(self._offered, agent.clearing))
            self._messages[_at(topic, Step.SCHEDULE)] = schedule.encode()
        else:
            assert isinstance(said, Blamed), "there are no other hub messages"


def _at(topic: Topic, step: Step, number: int | None = None) -> Topic:
    return Topic(topic.interval, step, topic.attempt, topic.round if number is None else number)


def message_interval(interval: Interval) -> pb.Interval:
    """As the coupling's messages name it."""
    run = pb.MarketRun.Name(pb.MarketRun.ValueType(interval.run))
    return pb.Interval(start_s=interval.start_s, duration_s=interval.duration_s, run=run)
