"""One interval of all regions: coupled by the consortium's protocol, or each by itself with the ties open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from coordinator.market.clearing import Clearing
from coordinator.market.coupling.alone import clear_alone
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.session import CouplingSession
from coordinator.market.offers import MICRO, MarketRules, StepTable
from coordinator.settlement.interval.region_party import message_interval
from coordinator.settlement.interval.topics import Interval
from topology.regions import RegionCut


class ExchangeKind(StrEnum):
    """How regions trade."""

    COUPLED = "coupled"
    """By the rounds that end at the optimum of the whole."""
    NONE = "none"
    """Not at all: each clears by itself."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """An interval. Clearings are by region; `shed_w` is not served in all of them."""

    clearings: tuple[Clearing, ...]
    objective_micro_per_h: int
    shed_w: int
    rounds: int = 0
    bytes_sent: int = 0
    disclosed_share: float = 0.0


class Exchange(Protocol):
    """Goes from interval to interval."""

    def clear(self, interval: Interval, steps: Sequence[StepTable]) -> Cleared:
        """`steps` has one table a region."""


class Coupled:
    """See ExchangeKind.COUPLED."""

    def __init__(self, cut: RegionCut, rules: MarketRules, seed: int, window_per_mwh: float, round_limit: int) -> None:
        self._session = CouplingSession(cut, rules, seed=seed)
        self._window = PublicationWindow(round(window_per_mwh * MICRO))
        self._round_limit = round_limit

    def clear(self, interval: Interval, steps: Sequence[StepTable]) -> Cleared:
        """Raises RoundLimitError, CertificateError, SolverError."""
        outcome = self._session.couple(
            message_interval(interval), steps, window=self._window, round_limit=self._round_limit
        )
        return Cleared(
            outcome.clearings,
            outcome.agreement.objective_micro_per_h,
            sum(sum(certificate.shed_w.values()) for certificate in outcome.certificates),
            outcome.rounds,
            outcome.traffic.total,
            outcome.disclosed_share,
        )


class Alone:
    """See ExchangeKind.NONE."""

    def __init__(self, cut: RegionCut, rules: MarketRules) -> None:
        self._cut = cut
        self._rules = rules

    def clear(self, interval: Interval, steps: Sequence[StepTable]) -> Cleared:
        """Raises CertificateError, SolverError."""
        pairs = zip(self._cut.regions, steps, strict=True)
        alone = [clear_alone(region, table, self._rules) for region, table in pairs]
        return Cleared(
            tuple(one.clearing for one in alone),
            sum(one.certificate.objective_micro_per_h for one in alone),
            sum(sum(one.certificate.shed_w.values()) for one in alone),
        )
