"""Couples the intervals of a case one after another: from a case and settings to results; prints and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.cases import MarketInterval, interval_demand_w, interval_offers
from actors.coupled import CentralReference, IntervalResult
from actors.reading import CoupledInterval, read_outcome
from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.costs import DEFAULT_SEGMENTS
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.session import DEFAULT_ROUND_LIMIT, CouplingSession, regional_book
from coordinator.market.offers import MICRO, MarketRules, Offer, OfferBook, build_book, tabulate
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.case_files import BY_AREA, choose_regions
from topology.dc import Convention, build_dc_network
from topology.grid import Case
from topology.regions import cut_network

DEFAULT_WINDOW_PER_MWH = 3.0


@dataclass(frozen=True)
class Settings:
    """How to couple a case. `window_per_mwh` is how far around the last prices offers are published.

    `relax_minimum` None means relaxed for a case with series, as it is run, and kept for another.
    """

    regions: str = BY_AREA
    convention: Convention = "pglib"
    segments: int = DEFAULT_SEGMENTS
    relax_minimum: bool | None = None
    window_per_mwh: float = DEFAULT_WINDOW_PER_MWH
    round_limit: int = DEFAULT_ROUND_LIMIT
    seed: int = 0
    asset: str = "EUR"


def check_case(case: Case, intervals: Sequence[MarketInterval]) -> None:
    """Raise GridError or OfferError for what clearing would refuse, without clearing.

    What a series says is checked at every interval.
    """
    build_dc_network(case.grid)
    rules = MarketRules()
    for interval in intervals:
        _book(case, interval, _offers(case, interval, Settings()), rules)


class Study:
    """A case cut into regions, and the session that couples its intervals; state is kept between them."""

    def __init__(self, case: Case, settings: Settings) -> None:
        self.case = case
        self.settings = settings
        self._rules = MarketRules()
        network = build_dc_network(case.grid, settings.convention)
        self._cut = cut_network(network, choose_regions(case.grid, network, settings.regions))
        self._session = CouplingSession(self._cut, self._rules, asset=settings.asset, seed=settings.seed)

    @property
    def region_names(self) -> tuple[str, ...]:
        """The regions in their order."""
        return self._cut.interconnection.region_names

    @property
    def setup_bytes(self) -> int:
        """Bytes of the boundary equivalents, which are sent once a topology."""
        return self._session.setup_traffic.total

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader said, and where the cut is not what was asked for."""
        choice, count = self.settings.regions, len(self.region_names)
        if choice.isdecimal() and int(choice) != count:
            return (*self.case.warnings, f"automatic regions: asked for {choice}, the partition has {count}")
        return self.case.warnings

    def couple(self, interval: MarketInterval) -> IntervalResult:
        """Couple one interval; raises OfferError and what `CouplingSession.couple` raises."""
        offers = _offers(self.case, interval, self.settings)
        book = _book(self.case, interval, offers, self._rules)
        regions = range(len(self._cut.regions))
        tables = [tabulate(regional_book(self._cut, book, region), self._rules) for region in regions]
        outcome = self._session.couple(
            pb.Interval(start_s=interval.start_s, duration_s=interval.duration_s, run=pb.MARKET_RUN_DAY_AHEAD),
            [table.steps for table in tables],
            window=PublicationWindow(round(self.settings.window_per_mwh * MICRO)),
            round_limit=self.settings.round_limit,
        )
        return read_outcome(CoupledInterval(self._cut, self._rules, interval, offers, book, tables, outcome))

    def central(self, interval: MarketInterval) -> CentralReference:
        """Solve one interval by one program that knows everything; raises OfferError and SolverError."""
        offers = _offers(self.case, interval, self.settings)
        steps = tabulate(_book(self.case, interval, offers, self._rules), self._rules).steps
        solution = solve_central(Problem(self._cut.network, steps, self._rules))
        return CentralReference(solution.objective_micro_per_h / MICRO, solution.seconds)


def relaxes_minimum(case: Case, settings: Settings) -> bool:
    """Whether units may run below their published minimum."""
    return bool(case.series) if settings.relax_minimum is None else settings.relax_minimum


def _offers(case: Case, interval: MarketInterval, settings: Settings) -> list[Offer]:
    relax_minimum = relaxes_minimum(case, settings)
    return interval_offers(
        case, interval, segments=settings.segments, relax_minimum=relax_minimum, asset=settings.asset
    )


def _book(case: Case, interval: MarketInterval, offers: Sequence[Offer], rules: MarketRules) -> OfferBook:
    return build_book(offers, interval_demand_w(case.grid, interval), case.grid.bus_position, rules)
