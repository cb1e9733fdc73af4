"""What a verification found: by check how many things were looked at, the worst deviation, and what does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from coordinator.settlement.interval.topics import Interval


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that does not hold. `interval` is None, and texts are empty, where it is about none."""

    check: str
    interval: Interval | None
    region: str
    element: str
    problem: str

    def __str__(self) -> str:
        start = "" if self.interval is None else datetime.fromtimestamp(self.interval.start_s, UTC).isoformat()
        place = [start, f"region {self.region}" if self.region else "", self.element]
        return f"{self.check}: {', '.join(part for part in place if part)}: {self.problem}"


@dataclass(slots=True)
class Check:
    """One condition, over everything it is about. Deviations are never negative, in `unit`."""

    name: str
    tolerance: float
    unit: str
    checked: int = 0
    worst: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    def deviation(
        self, deviation: float, interval: Interval | None, region: str, element: str, tolerance: float | None = None
    ) -> None:
        """Something was measured; `tolerance` is its own where it is not the check's."""
        self.checked += 1
        self.worst = max(self.worst, deviation)
        accepted = self.tolerance if tolerance is None else tolerance
        # Written so that what is not a number fails.
        if not deviation <= accepted:
            problem = f"off by {deviation:.9g} {self.unit}, {accepted:.9g} is accepted"
            self.failures.append(Failure(self.name, interval, region, element, problem))

    def holds(self, condition: bool, interval: Interval | None, region: str, element: str, problem: str) -> None:
        """Something was looked at that holds or does not."""
        self.checked += 1
        if not condition:
            self.failures.append(Failure(self.name, interval, region, element, problem))


@dataclass(frozen=True, slots=True)
class ChainProof:
    """The audit of a chain, and whose ledgers agree with it at the height that all organizations have."""

    chain: str
    role: str
    chain_id: str
    organization: str
    height: int
    tip: str
    finding: str
    blocks: int
    transactions: int
    certificates: int
    readings: int
    agreeing: tuple[str, ...]
    common_height: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The whole of it."""

    checks: tuple[Check, ...]
    chains: tuple[ChainProof, ...]

    @property
    def failures(self) -> Iterator[Failure]:
        """Everything that does not hold, check by check."""
        return (failure for check in self.checks for failure in check.failures)

    @property
    def passed(self) -> bool:
        """Whether everything holds, and there was something to look at in the audits at least."""
        return bool(self.chains) and not any(check.failures for check in self.checks)

    def check(self, name: str) -> Check:
        """By its name."""
        return next(check for check in self.checks if check.name == name)
