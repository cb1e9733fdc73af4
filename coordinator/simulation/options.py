"""What a seed turns on: every option of a simulated chain is drawn from the seed, and logged with it (swarm testing).

A run in which everything fails a little hides what a run with few, strong faults shows. So most options are off in
most seeds, and the adversaries' styles are mixed: a helpful adversary hides liveness bugs, a silent one safety bugs.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

DELTA_NS = 100_000_000
"""The network delay that timeouts start from and that holds once the network is healed."""


class Fault(StrEnum):
    """A family of faults."""

    NETWORK = "network"
    CRASH = "crash"
    DISK = "disk"
    BYZANTINE = "byzantine"


ALL_FAULTS = tuple(Fault)


class Style(StrEnum):
    """What a Byzantine validator does. It runs the honest core as well, and twists what that sends."""

    SILENT = "silent"
    EQUIVOCATE = "equivocate"
    AMPLIFY = "amplify"
    STALE = "stale-parent"
    LATE = "late"
    MINORITY = "to-a-minority"
    GARBAGE = "garbage"
    REPLAY = "replay"
    INVALID = "invalid-block"
    WITHHOLD = "withhold"
    USURP = "usurp"
    FLOOD = "flood"


def parse_faults(text: str) -> tuple[Fault, ...]:
    """`all`, `none`, or names divided by commas; ValueError for anything else."""
    if text == "all":
        return ALL_FAULTS
    if text == "none":
        return ()
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in [fault.value for fault in Fault]]
    if unknown:
        known = ", ".join(fault.value for fault in Fault)
        raise ValueError(f"there is no fault {unknown[0]!r}; name some of {known}, or all, or none")
    return tuple(fault for fault in Fault if fault.value in names)


@dataclass(frozen=True, slots=True)
class Options:
    """One chain's options. Rates are probabilities, `slow_ns` the scale of delays before the network heals."""

    validators: int
    spares: int = 0
    byzantine: tuple[tuple[Style, ...], ...] = ()
    """One entry a Byzantine node: its styles."""
    epoch_length: int = 1_000_000
    heartbeat_ns: int = 0
    minimum_interval_ns: int = 0
    delta_cap_ns: int = 8 * DELTA_NS
    slow_ns: int = DELTA_NS // 10
    loss: float = 0.0
    duplication: float = 0.0
    partition: float = 0.0
    asymmetric: bool = False
    clog: float = 0.0
    crash: float = 0.0
    """A node crashes within the effects of a step."""
    crash_all: float = 0.0
    """All honest nodes crash, each delta."""
    torn: float = 0.0
    ledger_ahead: float = 0.0
    """Shares of crashes: a journal's last frame is torn; of what was not synchronised only final blocks are left."""
    lost_sync: float = 0.0
    bit_flip: float = 0.0
    lost_disk: float = 0.0
    full_disk: float = 0.0
    compact: int = 64
    """Journal records after which the host writes a checkpoint."""
    membership: float = 0.0
    """A block rotates a validator's key, or gives its seat to a spare node."""
    slow_application: bool = False
    build_fails: float = 0.0
    skew_ns: int = 0
    core_only: bool = True
    """In the liveness phase f nodes, the Byzantine ones first, are frozen; else they go on attacking."""
    real_signatures: bool = False

    @property
    def max_faulty(self) -> int:
        """The most nodes that may be Byzantine or damaged at once: the largest below a third."""
        return -(-self.validators // 3) - 1

    def line(self) -> str:
        """One line: what differs from a chain without faults."""
        plain = asdict(Options(self.validators))
        parts = [f"validators={self.validators}"]
        for name, value in asdict(self).items():
            if value == plain[name] or name == "validators":
                continue
            if name == "byzantine":
                value = "/".join("+".join(styles) for styles in self.byzantine)
            parts.append(f"{name}={value}")
        return " ".join(parts)


def draw(rng: random.Random, faults: tuple[Fault, ...], validators: int | None = None) -> Options:
    """A seed's options for one chain."""
    drawn = _draw(rng, faults, validators)
    # Not drawn: one draw more would make another run of every seed.
    return replace(drawn, ledger_ahead=drawn.torn / 2)


def _draw(rng: random.Random, faults: tuple[Fault, ...], validators: int | None) -> Options:
    size = validators if validators is not None else rng.choice((4, 4, 4, 5, 7))
    spares = rng.choice((0, 0, 1, 2))
    most = -(-size // 3) - 1
    network, crash, disk, byzantine = (fault in faults for fault in Fault)
    liars = rng.choice((0, most, rng.randint(0, most))) if byzantine else 0
    return Options(
        validators=size,
        spares=spares,
        byzantine=tuple(_styles(rng) for _ in range(liars)),
        epoch_length=rng.choice((3, 5, 10, 30, 1000)),
        heartbeat_ns=rng.choice((0, 0, 2)) * DELTA_NS,
        minimum_interval_ns=rng.choice((0, 0, 0, 1)) * DELTA_NS,
        delta_cap_ns=rng.choice((4, 8, 16)) * DELTA_NS,
        slow_ns=int((rng.choice((0.1, 0.3, 1.0, 3.0)) if network else 0.1) * DELTA_NS),
        loss=rng.choice((0.0, 0.02, 0.1, 0.3)) if network else 0.0,
        duplication=rng.choice((0.0, 0.1, 0.3)) if network else 0.0,
        partition=rng.choice((0.0, 0.05, 0.2)) if network else 0.0,
        asymmetric=rng.random() < 0.5 if network else False,
        clog=rng.choice((0.0, 0.0, 0.05)) if network else 0.0,
        crash=rng.choice((0.0, 0.001, 0.005)) if crash else 0.0,
        crash_all=rng.choice((0.0, 0.0, 0.02)) if crash else 0.0,
        torn=rng.choice((0.0, 0.5)) if disk else 0.0,
        lost_sync=rng.choice((0.0, 0.0, 0.3)) if disk else 0.0,
        bit_flip=rng.choice((0.0, 0.0, 0.3)) if disk else 0.0,
        lost_disk=rng.choice((0.0, 0.0, 0.2)) if disk else 0.0,
        full_disk=rng.choice((0.0, 0.0, 0.0005)) if disk else 0.0,
        compact=rng.choice((16, 64, 100_000)),
        membership=rng.choice((0.0, 0.05, 0.3)),
        slow_application=rng.random() < 0.3,
        build_fails=rng.choice((0.0, 0.0, 0.05)),
        skew_ns=rng.choice((0, 0, 1)) * DELTA_NS,
        core_only=rng.random() < 0.5,
    )


def _styles(rng: random.Random) -> tuple[Style, ...]:
    if rng.random() < 0.2:
        return (Style.SILENT,)
    others = [style for style in Style if style is not Style.SILENT]
    return tuple(sorted(rng.sample(others, rng.randint(1, 4))))
