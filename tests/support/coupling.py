"""Small markets by hand, and a coupling played message by message so that a test can tamper with any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.market.clearing import Clearing, Problem
from coordinator.market.coupling.agreement import Agreement
from coordinator.market.coupling.hub import Hub
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.price_rule import DisplacedProblem
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.region import RegionAgent
from coordinator.market.coupling.session import CouplingSession, Outcome, assembled, split_book
from coordinator.market.coupling.wire import HUB
from coordinator.market.offers import MICRO, MarketRules, Offer, Step
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.support.random_grids import Market
from topology.dc import build_dc_network
from topology.grid import Branch, Bus, ControllableLink, Grid, Ratings

MW = 1_000_000
STANDARD_WINDOW = PublicationWindow(half_width_micro_per_mwh=3 * MICRO, largest_share=1.0)


def interval(number: int = 0) -> pb.Interval:
    """The number-th hour."""
    return pb.Interval(start_s=3600 * number, duration_s=3600, run=pb.MARKET_RUN_DAY_AHEAD)


def generator(name: str, bus: int, *steps: tuple[int, int], fixed_w: int = 0) -> Offer:
    """Steps of (W, whole price per MWh)."""
    return Offer(name, str(bus), fixed_w, tuple(Step(width, price * MICRO) for width, price in steps))


def demand_bid(name: str, bus: int, width_w: int, price: int) -> Offer:
    """A load that buys up to this price per MWh."""
    return Offer(name, str(bus), -width_w, (Step(width_w, price * MICRO),))


def small_market(
    lines: Sequence[tuple[int, int, float]],
    regions: str,
    offers: Sequence[Offer],
    demand_w: Mapping[int, int],
    *,
    limits_mw: Mapping[int, float] | None = None,
    shifts_deg: Mapping[int, float] | None = None,
    links: Sequence[tuple[int, int, float, float]] = (),
    rules: MarketRules | None = None,
) -> Market:
    """A market by hand: lines are (from, to, reactance), links (from, to, min, max); letters name regions."""
    limits, shifts = limits_mw or {}, shifts_deg or {}
    branches = tuple(
        Branch(f"L{i}", str(a), str(b), 0.0, x, shift_deg=shifts.get(i, 0.0), ratings=Ratings(limits.get(i)))
        for i, (a, b, x) in enumerate(lines)
    )
    controllable = tuple(
        ControllableLink(f"H{i}", str(a), str(b), low, high) for i, (a, b, low, high) in enumerate(links)
    )
    grid = Grid("by hand", 100.0, tuple(Bus(str(i)) for i in range(len(regions))), branches, (), controllable)
    demand = {str(bus): power for bus, power in demand_w.items()}
    network = build_dc_network(grid, "matpower")
    return Market(None, grid, network, tuple(regions), tuple(offers), demand, rules or MarketRules())


@dataclass(frozen=True)
class Coupled:
    """A coupled interval: what the session said, and the clearing of the whole put together."""

    outcome: Outcome
    problem: Problem
    clearing: Clearing

    @property
    def objective(self) -> int:
        """In micro-units per hour."""
        return self.outcome.agreement.objective_micro_per_h


def open_session(market: Market, seed: int = 0) -> CouplingSession:
    """A session over the market's own regions."""
    return CouplingSession(market.cut(), market.rules, seed=seed)


def couple(
    session: CouplingSession, market: Market, number: int = 0, window: PublicationWindow = STANDARD_WINDOW
) -> Coupled:
    """Couple one interval of the market and put the regions' clearings together."""
    tables = split_book(session.cut, market.tabulated().book, market.rules)
    outcome = session.couple(interval(number), tables, window=window)
    whole, clearing = assembled(session.cut, outcome, tables)
    return Coupled(outcome, Problem(market.network, whole, market.rules), clearing)


@dataclass(frozen=True)
class Tamper:
    """Replace the message of this kind that `sender` (HUB or a region) sends in this round."""

    kind: str
    sender: int
    change: Callable[[bytes], bytes]
    round: int = 1


class Theatre:
    """One interval of a market, played by hand: every message passes through `send`, which may tamper with it."""

    def __init__(self, market: Market, tamper: Tamper | None = None) -> None:
        self._tamper = tamper
        self._round = 1
        self.sent: dict[tuple[str, int, int], bytes] = {}
        cut = market.cut()
        self.tables = split_book(cut, market.tabulated().book, market.rules)
        secret = hashlib.sha256(b"theatre").digest()
        self.regions = [RegionAgent(region, market.rules, secret) for region in cut.regions]
        equivalents = self._from_all("BoundaryEquivalent", lambda region: region.boundary_equivalent())
        self.public = PublicNetwork(cut.interconnection, equivalents)
        for region in self.regions:
            region.join(self.public)
        self.hub = Hub(self.public, market.rules)
        self.displaced: DisplacedProblem | None = None

    def play(self, number: int = 0, rounds: int = 12) -> Agreement | None:
        """All rounds of one interval; None when they do not suffice."""
        hour = interval(number)
        tables = dict(zip((region.index for region in self.regions), self.tables, strict=True))
        self._round = 1
        commitments = self._from_all("OfferCommitment", lambda r: r.commit(hour, tables[r.index], STANDARD_WINDOW))
        self.hub.start(hour, commitments)
        for self._round in range(1, rounds + 1):
            result = self.send("CouplingResult", HUB, self.hub.clear(self._from_all("Submission", RegionAgent.submit)))
            self.displaced = self.hub.displaced_problem()
            injections = self._from_all("BoundaryInjection", lambda region, data=result: region.inject(data))
            state = self.send("BoundaryState", HUB, self.hub.boundary_state(injections))
            decision = self.hub.tally(self._from_all("Vote", lambda region, data=state: region.vote(data)))
            opening = self.send("RoundOpening", HUB, decision.opening)
            for region in self.regions:
                region.open_round(opening)
            if decision.agreement:
                for region in self.regions:
                    region.close()
                return decision.agreement
        return None

    def _from_all(self, kind: str, call: Callable[[RegionAgent], bytes]) -> list[bytes]:
        return [self.send(kind, region.index, call(region)) for region in self.regions]

    def send(self, kind: str, sender: int, data: bytes) -> bytes:
        """What arrives of a message."""
        tamper = self._tamper
        if tamper and (tamper.kind, tamper.sender, tamper.round) == (kind, sender, self._round):
            data = tamper.change(data)
        self.sent[kind, sender, self._round] = data
        return data
