"""The coupling of one interval, round by round, with every message as bytes and every byte counted.

It ends. Within an interval published steps and active flowgates only grow. A round ends in agreement, or
somebody objects: with a limited line that is not in force yet, or with a step that is unpublished and on the
wrong side of its price; the next round contains it. Lines and steps are finite, so there are at most
(limited lines + steps + 1) rounds. There is no step size and nothing to converge. Every round is feasible,
since demand can be shed and fixed injections curtailed at every bus, and gate rows are elastic.

When nobody objects the outcome is optimal for the whole: all lines hold, every unpublished step is on the
right side of its price, and the published ones were cleared to optimality; the summed certificates prove it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from coordinator.market.certificate import Certificate
from coordinator.market.clearing import Clearing
from coordinator.market.coupling.agreement import Agreement
from coordinator.market.coupling.hub import Hub
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.public_outcome import PublicOutcome
from coordinator.market.coupling.region import RegionAgent
from coordinator.market.offers import MarketRules, OfferBook, StepTable, tabulate
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.regions import RegionCut

DEFAULT_ROUND_LIMIT = 50
DEFAULT_WINDOW = PublicationWindow()

_T = TypeVar("_T")


class RoundLimitError(RuntimeError):
    """The rounds that were allowed are used up; the consortium's fallback rule applies. Names what still objects."""


@dataclass
class Traffic:
    """Bytes sent, by message type and by sender (a region's name, or 'hub')."""

    by_message: dict[str, int] = field(default_factory=dict)
    by_sender: dict[str, int] = field(default_factory=dict)

    def count(self, message: str, sender: str, data: bytes) -> None:
        """Add one message."""
        self.by_message[message] = self.by_message.get(message, 0) + len(data)
        self.by_sender[sender] = self.by_sender.get(sender, 0) + len(data)

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.by_sender.values())


@dataclass(frozen=True)
class Outcome:
    """One coupled interval. Money in micro-units per hour; `seconds` is the critical path, where regions work
    side by side and the hub after them; `gate_closure_seconds` the commitments before the first round.

    `disclosed_share` relates published steps to all steps that offers made (equal offers are one).
    `congested` names branches and tie-lines with a shadow price, in 2**-20 micro-units per MWh.
    """

    agreement: Agreement
    rounds: int
    seconds: float
    gate_closure_seconds: float
    traffic: Traffic
    disclosed_share: float
    active_flowgates: int
    new_flowgates: int
    clearings: tuple[Clearing, ...]
    certificates: tuple[Certificate, ...]
    congested: dict[str, int]
    public: PublicOutcome


class _Stopwatch:
    """Adds the slowest of parallel steps, and every serial one."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def parallel(self, calls: Sequence[Callable[[], _T]]) -> list[_T]:
        results, slowest = [], 0.0
        for call in calls:
            started = time.perf_counter()
            results.append(call())
            slowest = max(slowest, time.perf_counter() - started)
        self.seconds += slowest
        return results

    def serial(self, call: Callable[[], _T]) -> _T:
        return self.parallel([call])[0]


class CouplingSession:
    """Regions and hub of one cut in one process, exchanging messages; state is kept between intervals.

    `seed` stands for the regions' secrets, which hosts keep apart; pseudonyms and salts depend on it, results
    do not.
    """

    def __init__(self, cut: RegionCut, rules: MarketRules, *, asset: str = "EUR", seed: int = 0) -> None:
        self.cut = cut
        self.rules = rules
        secret = hashlib.sha256(f"gridaccord session {seed}".encode()).digest()
        self.regions = [RegionAgent(region, rules, secret, asset) for region in cut.regions]
        self.setup_traffic = Traffic()
        equivalents = [region.boundary_equivalent() for region in self.regions]
        for region, data in zip(self.regions, equivalents, strict=True):
            self.setup_traffic.count("BoundaryEquivalent", region.name, data)
        self.public = PublicNetwork(cut.interconnection, equivalents)
        for region in self.regions:
            region.join(self.public)
        self.hub = Hub(self.public, rules, asset)

    def forget_prices(self) -> None:
        """The next interval publishes every offer, as in a cold start; flowgates in force stay."""
        for region in self.regions:
            region.forget_prices()

    def couple(
        self,
        interval: pb.Interval,
        steps: Sequence[StepTable],
        *,
        window: PublicationWindow = DEFAULT_WINDOW,
        round_limit: int = DEFAULT_ROUND_LIMIT,
        beacon: bytes = b"",
    ) -> Outcome:
        """Couple one interval; `steps` has one table a region, `beacon` seeds the price rule (see `Hub.start`).

        Raises RoundLimitError, CertificateError.
        """
        traffic, closure, watch = Traffic(), _Stopwatch(), _Stopwatch()
        regions, hub = self.regions, self.hub
        before = len(hub.gates)
        commitments = closure.parallel(
            [_bound(r.commit, interval, s, window) for r, s in zip(regions, steps, strict=True)]
        )
        self._count(traffic, "OfferCommitment", commitments)
        hub.start(interval, commitments, beacon)
        for number in range(1, round_limit + 1):
            submissions = watch.parallel([r.submit for r in regions])
            result = watch.serial(_bound(hub.clear, submissions))
            injections = watch.parallel([_bound(r.inject, result) for r in regions])
            state = watch.serial(_bound(hub.boundary_state, injections))
            votes = watch.parallel([_bound(r.vote, state) for r in regions])
            decision = watch.serial(_bound(hub.tally, votes))
            self._count(traffic, "Submission", submissions)
            self._count(traffic, "BoundaryInjection", injections)
            self._count(traffic, "Vote", votes)
            traffic.count("CouplingResult", "hub", result)
            traffic.count("BoundaryState", "hub", state)
            traffic.count("RoundOpening", "hub", decision.opening)
            watch.parallel([_bound(r.open_round, decision.opening) for r in regions])
            if decision.agreement:
                for region in regions:
                    region.close()
                return self._outcome(decision.agreement, number, watch, closure, traffic, steps, before)
        objecting = [r.name for r, data in zip(regions, votes, strict=True) if not _accepts(data)]
        raise RoundLimitError(
            f"no agreement within {round_limit} rounds; still objecting: {', '.join(objecting) or 'a tie-line'}; "
            "apply the agreed fallback, or allow more rounds"
        )

    def _outcome(
        self,
        agreement: Agreement,
        rounds: int,
        watch: _Stopwatch,
        closure: _Stopwatch,
        traffic: Traffic,
        steps: Sequence[StepTable],
        flowgates_before: int,
    ) -> Outcome:
        public = self.hub.public_outcome()
        offers = sum(table.offer_count for table in steps)
        return Outcome(
            agreement=agreement,
            rounds=rounds,
            seconds=watch.seconds,
            gate_closure_seconds=closure.seconds,
            traffic=traffic,
            disclosed_share=agreement.published_steps / max(1, offers),
            active_flowgates=len(public.flowgates),
            new_flowgates=len(public.flowgates) - flowgates_before,
            clearings=tuple(region.clearing for region in self.regions),
            certificates=tuple(region.certificate for region in self.regions),
            congested=self._congested(),
            public=public,
        )

    def _count(self, traffic: Traffic, message: str, messages: Sequence[bytes]) -> None:
        for region, data in zip(self.regions, messages, strict=True):
            traffic.count(message, region.name, data)

    def _congested(self) -> dict[str, int]:
        public = self.cut.interconnection
        congested: dict[str, int] = {}
        for region, agent in zip(self.cut.regions, self.regions, strict=True):
            shadow = agent.clearing.shadow_price
            congested.update((region.network.branch_labels[i], int(shadow[i])) for i in np.flatnonzero(shadow))
        tie = self.hub.public_outcome().tie_shadow_price
        congested.update((public.tie_labels[i], int(tie[i])) for i in np.flatnonzero(tie))
        return congested


def _accepts(vote: bytes) -> bool:
    return bool(pb.Vote.FromString(vote).intervals[0].accept)


def _bound(function: Callable[..., _T], *arguments: object) -> Callable[[], _T]:
    return lambda: function(*arguments)


def split_book(cut: RegionCut, book: OfferBook, rules: MarketRules) -> list[StepTable]:
    """Each region's own part of a book over the uncut network, tabulated."""
    return [tabulate(regional_book(cut, book, index), rules).steps for index in range(len(cut.regions))]


def regional_book(cut: RegionCut, book: OfferBook, index: int) -> OfferBook:
    """The offers and fixed quantities at the buses of one region; fixed costs stay with the first region."""
    region = cut.regions[index]
    position = np.full(cut.network.bus_count, -1, dtype=np.int64)
    position[region.buses] = np.arange(len(region.buses))
    rows = np.flatnonzero(position[book.bus] >= 0)
    return OfferBook(
        offer_ids=book.offer_ids,
        offer=book.offer[rows],
        bus=position[book.bus[rows]],
        width_w=book.width_w[rows],
        price_micro_per_mwh=book.price_micro_per_mwh[rows],
        injection_w=book.injection_w[region.buses],
        withdrawal_w=book.withdrawal_w[region.buses],
        sheddable_w=book.sheddable_w[region.buses],
        fixed_cost_micro_per_h=book.fixed_cost_micro_per_h if index == 0 else 0,
    )


def whole_table(cut: RegionCut, steps: Sequence[StepTable]) -> StepTable:
    """The regions' tables put together over the uncut network."""
    withdrawal = np.zeros(cut.network.bus_count, dtype=np.int64)
    for region, table in zip(cut.regions, steps, strict=True):
        withdrawal[region.buses] = table.withdrawal_w
    return StepTable(
        bus=np.concatenate([r.buses[t.bus] for r, t in zip(cut.regions, steps, strict=True)]),
        width_w=np.concatenate([table.width_w for table in steps]),
        price_micro_per_mwh=np.concatenate([table.price_micro_per_mwh for table in steps]),
        kind=np.concatenate([table.kind for table in steps]),
        withdrawal_w=withdrawal,
        offset_micro_per_h=sum(table.offset_micro_per_h for table in steps),
    )


def assembled(cut: RegionCut, outcome: Outcome, steps: Sequence[StepTable]) -> tuple[StepTable, Clearing]:
    """The regions' clearings put together over the uncut network: for reports and for checking the whole at once."""
    network = cut.network
    angle, price = np.zeros((2, network.bus_count), dtype=np.int64)
    shadow, violation = np.zeros((2, network.branch_count), dtype=np.int64)
    for region, clearing in zip(cut.regions, outcome.clearings, strict=True):
        angle[region.buses], price[region.buses] = clearing.angle, clearing.price
        shadow[region.branches], violation[region.branches] = clearing.shadow_price, clearing.violation_w
    public = outcome.public
    shadow[cut.tie_branches], violation[cut.tie_branches] = public.tie_shadow_price, public.tie_violation_w
    accepted = np.concatenate([clearing.accepted_w for clearing in outcome.clearings])
    return whole_table(cut, steps), Clearing(accepted, angle, price, shadow, public.link_w, violation)
