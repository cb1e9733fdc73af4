"""What is fixed for a chain (epoch length) and what each host chooses for its network (delays). Times are int ns."""

from __future__ import annotations

from dataclasses import dataclass, field

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Config:
    """`delta_ns` is the network delay that timeouts start from; everything else has defaults that follow from it.

    `heartbeat_ns` is how long a leader without transactions waits, `minimum_interval_ns` the least time between two
    blocks (R13). Timeouts grow by `growth` (a ratio) a view without finality, up to `delta_cap_ns` (R11).
    `skip_timeout_ns` and `standstill_ns` of 0 mean the default. Versions are those of the header that this software
    speaks.
    """

    delta_ns: int
    epoch_length: int
    heartbeat_ns: int = 0
    minimum_interval_ns: int = 0
    growth: tuple[int, int] = (6, 5)
    delta_cap_ns: int = 100 * _SECOND_NS
    skip_timeout_ns: int = 0
    standstill_ns: int = 0
    max_clock_drift_ns: int = 10 * _SECOND_NS
    repair_cap_ns: int = 30 * _SECOND_NS
    standstill_certificates: int = 16
    tally_views: int = 32
    certificate_views: int = 256
    lowest_version: int = 1
    highest_version: int = 1
    deltas_ns: tuple[int, ...] = field(init=False, repr=False)
    """The network delay assumed after 0, 1, 2, ... views without finality."""

    def __post_init__(self) -> None:
        numerator, denominator = self.growth
        if self.delta_ns <= 0 or self.epoch_length < 1 or not numerator > denominator > 0:
            raise ValueError("delta_ns and epoch_length must be positive and growth a ratio above 1")
        deltas = [self.delta_ns]
        while deltas[-1] < self.delta_cap_ns:
            deltas.append(min(self.delta_cap_ns, deltas[-1] * numerator // denominator + 1))
        object.__setattr__(self, "deltas_ns", tuple(deltas))
        pause = max(self.heartbeat_ns, self.minimum_interval_ns)
        if not self.skip_timeout_ns:
            object.__setattr__(self, "skip_timeout_ns", 2 * pause + 10 * self.delta_ns)
        if not self.standstill_ns:
            object.__setattr__(self, "standstill_ns", pause + 10 * self.delta_ns)

    @property
    def pause_ns(self) -> int:
        """The longest that a correct leader waits before it builds."""
        return max(self.heartbeat_ns, self.minimum_interval_ns)
