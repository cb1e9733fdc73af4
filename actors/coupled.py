"""What came out of coupling an interval, in the terms of its case: MW, money per MWh, and the ids of the input.

Money is in units of the asset; LMPs are positive when demand pays. Values only: nothing here computes or prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.cases import MarketInterval


@dataclass(frozen=True, slots=True)
class NamedPower:
    """So many MW of something that has a name."""

    name: str
    mw: float


@dataclass(frozen=True, slots=True)
class BusPrice:
    """The price of a bus per MWh: energy at the reference (first) bus of its component, and congestion from there.

    The model is lossless, so `loss` is zero.
    """

    bus: str
    region: str
    lmp: float
    energy: float
    congestion: float
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class BranchFlow:
    """MW on a branch, positive from its from-bus; a positive shadow price is what one more MW of limit would save.

    `limit_mw` is the limit that binds, else the one in the direction of the flow; None where there is none.
    """

    id: str
    from_bus: str
    to_bus: str
    tie: bool
    flow_mw: float
    limit_mw: float | None
    shadow_price: float

    @property
    def name(self) -> str:
        """The branch as tables show it."""
        return f"{'tie-line' if self.tie else 'branch'} {self.id} ({self.from_bus}-{self.to_bus})"


@dataclass(frozen=True, slots=True)
class LinkFlow:
    """MW on a controllable link, positive from its from-bus."""

    id: str
    from_bus: str
    to_bus: str
    flow_mw: float

    @property
    def name(self) -> str:
        """The link as tables show it."""
        return f"link {self.id} ({self.from_bus}-{self.to_bus})"


@dataclass(frozen=True, slots=True)
class UnitDispatch:
    """What a unit does: `offered_mw` is the most it offered, `curtailed_mw` what it would inject for free and may not.

    That is part of a fixed injection, or what a unit with an `available` series offers at zero or less.
    """

    unit: str
    bus: str
    mw: float
    offered_mw: float
    curtailed_mw: float


@dataclass(frozen=True, slots=True)
class RegionResult:
    """A region in an interval; LMPs over its buses, `bytes_sent` in the rounds, positive net position is export."""

    name: str
    buses: int
    bytes_sent: int
    lmp_min: float
    lmp_mean: float
    lmp_max: float
    supply_mw: float
    demand_mw: float
    net_position_mw: float


@dataclass(frozen=True)
class IntervalResult:
    """One coupled interval. `objective` and `gap` are money per hour, `seconds` the critical path of all parties.

    `congested` has every branch with a shadow price, `ties` every tie-line, `links` the controllable links.
    """

    interval: MarketInterval
    objective: float
    gap: float
    rounds: int
    bytes_by_sender: Mapping[str, int]
    seconds: float
    gate_closure_seconds: float
    disclosed_share: float
    flowgates: int
    regions: tuple[RegionResult, ...]
    prices: tuple[BusPrice, ...]
    congested: tuple[BranchFlow, ...]
    ties: tuple[BranchFlow, ...]
    links: tuple[LinkFlow, ...]
    dispatch: tuple[UnitDispatch, ...]
    shed: tuple[NamedPower, ...]
    curtailed: tuple[NamedPower, ...]
    violations: tuple[NamedPower, ...]

    @property
    def bytes_sent(self) -> int:
        """All bytes of the rounds."""
        return sum(self.bytes_by_sender.values())

    @property
    def gap_relative(self) -> float | None:
        """The certified gap by the objective, None where the objective is zero."""
        return self.gap / abs(self.objective) if self.objective else None

    @property
    def lmp_min(self) -> float:
        """The lowest LMP."""
        return min(price.lmp for price in self.prices)

    @property
    def lmp_max(self) -> float:
        """The highest LMP."""
        return max(price.lmp for price in self.prices)

    @property
    def lmp_mean(self) -> float:
        """The plain mean over buses."""
        return sum(price.lmp for price in self.prices) / len(self.prices)

    @property
    def congested_ties(self) -> tuple[BranchFlow, ...]:
        """Tie-lines with a shadow price."""
        return tuple(branch for branch in self.congested if branch.tie)


@dataclass(frozen=True)
class CentralReference:
    """The same interval solved at once by one party that knows everything."""

    objective: float
    seconds: float
