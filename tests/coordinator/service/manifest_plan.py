"""What happens to a consortium in one end-to-end test, all of it drawn from a seed and known before it begins.

A manifest is a sequence of phases. In each, organizations move money and deliver readings while one process is faulty;
or several are killed at once; and if the manifest has intervals, one is offered for and coupled meanwhile. After it all
of them finalize again, and the next phase begins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from tests.coordinator.service.consortium_harness import LIMIT, ORGANIZATIONS, OWNED, REGIONS

PHASES = 6
"""Of a manifest of the nightly command."""
_ISSUER = "alpha"
_LEFT_TO_THE_POOR = 5
_AMOUNT_MAX = 1_000_000
_BEYOND = LIMIT + len(ORGANIZATIONS) * OWNED
"""No region can owe so much, whatever it has received."""
_PHASE_MS = 6_000
_OPERATIONS_A_PHASE = 10
_COUPLING_MS, _LOAD_MAX_WH = 2_500, 1_000_000
_BYZANTINE_MODES = ("equivocate", "replay", "garbage", "flood")


class Expected(Enum):
    """What must become of an operation, whatever else happens."""

    CARRIED_OUT = "carried out"
    REFUSED = "refused by its chain"
    COMMITTED = "committed in both regions"
    ABORTED = "aborted in both regions"


class Money(Enum):
    """Transactions that move money within a region."""

    TRANSFER = "transfer"
    MINT = "mint"
    BURN = "burn"


@dataclass(frozen=True, slots=True)
class Local:
    """Money of a signer within a region, in micro-units."""

    at_ms: int
    via: str
    kind: Money
    region: str
    signer: str
    payee: str
    amount: int
    expected: Expected


@dataclass(frozen=True, slots=True)
class Payment:
    """From an owner's account in one region to an account in another."""

    at_ms: int
    via: str
    signer: str
    source: str
    target: str
    account: str
    amount: int
    expected: Expected


@dataclass(frozen=True, slots=True)
class Readings:
    """The next registers of every meter of a region, by how much each has grown, in Wh."""

    at_ms: int
    via: str
    region: str
    growth_wh: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Coupling:
    """The next interval: offers of all regions, drawn from `seed`, and the word that closes their gates.

    `loads_wh` is what the meters of the regions' loads show of it.
    """

    at_ms: int
    via: str
    seed: int
    loads_wh: tuple[int, ...]


Operation = Local | Payment | Readings | Coupling
"""`at_ms` counts from the phase's begin, `via` is the node that is asked first."""


class FaultKind(Enum):
    """What happens to a process. Only KILL can happen to several at once."""

    KILL = "kill -9"
    PAUSE = "SIGSTOP"
    CUT = "its connections to all others are closed, and new ones too"
    SILENCE = "nothing passes between it and the others, and nobody is told"
    RESTART = "SIGTERM"
    LOSE_LEDGER = "kill -9; the ledgers are lost, the sign guards are not"
    LOSE_DISK = "kill -9; everything but keys and genesis files is lost"
    OTHER_VERSION = "software that speaks the next protocol version too"
    BYZANTINE = "it breaks the protocol on all of its chains"


@dataclass(frozen=True, slots=True)
class Fault:
    """`mode` says in which way a process is Byzantine. It lasts at least `hold_ms`."""

    at_ms: int
    kind: FaultKind
    nodes: tuple[str, ...]
    hold_ms: int
    mode: str = ""

    @property
    def stops_finality(self) -> bool:
        """Whether fewer than a quorum are left."""
        return len(self.nodes) > 1

    @property
    def loses_records(self) -> bool:
        """Whether a process forgets what it has signed, so that it counts as faulty until the next epoch has begun."""
        return self.kind in (FaultKind.LOSE_LEDGER, FaultKind.LOSE_DISK)


@dataclass(frozen=True, slots=True)
class Phase:
    """A fault, and what organizations do meanwhile, in the order of time."""

    fault: Fault
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """`poor` has almost nothing in `poor_region` from the first phase on, and nobody pays it there."""

    seed: int
    epoch_length: int
    heartbeat_ms: int
    hub_heartbeat_ms: int
    poor: str
    poor_region: str
    phases: tuple[Phase, ...]

    def __str__(self) -> str:
        """In full, a line an operation."""
        lines = [
            f"seed {self.seed}: epochs of {self.epoch_length} blocks, heartbeats {self.heartbeat_ms} ms in regions"
        ]
        lines[0] += f" and {self.hub_heartbeat_ms} ms on the hub, {self.poor} is poor in {self.poor_region}"
        for number, phase in enumerate(self.phases):
            lines += [f"phase {number}: {phase.fault}", *(f"  {operation}" for operation in phase.operations)]
        return "\n".join(lines)

    @property
    def operations(self) -> Iterator[Operation]:
        """All of them."""
        for phase in self.phases:
            yield from phase.operations

    @property
    def issued(self) -> int:
        """Micro-units that are minted less those that are burned."""
        signs = {Money.MINT: 1, Money.BURN: -1, Money.TRANSFER: 0}
        return sum(signs[one.kind] * one.amount for one in self.operations if isinstance(one, Local))

    @property
    def has_intervals(self) -> bool:
        """Whether regions are coupled."""
        return any(isinstance(one, Coupling) for one in self.operations)

    @property
    def byzantine(self) -> frozenset[str]:
        """Nodes that sign what convicts them."""
        faults = [phase.fault for phase in self.phases]
        return frozenset(fault.nodes[0] for fault in faults if fault.mode == "equivocate")


def generate(seed: int, phases: int = PHASES, *, intervals: bool = False) -> Manifest:
    """The manifest of a seed; with intervals it is the same, and one more operation a phase."""
    manifest = _Draw(seed).manifest(phases)
    return _with_intervals(manifest) if intervals else manifest


def _with_intervals(manifest: Manifest) -> Manifest:
    """Drawn apart, so that everything else stays as it is. Most begin before the fault, so that it meets a coupling."""
    rng, phases = random.Random(f"intervals of {manifest.seed}"), []
    for phase in manifest.phases:
        loads_wh = tuple(rng.randint(0, _LOAD_MAX_WH) for _ in REGIONS)
        coupling = Coupling(rng.randint(1, _COUPLING_MS), rng.choice(ORGANIZATIONS), rng.getrandbits(32), loads_wh)
        operations = sorted((*phase.operations, coupling), key=lambda one: one.at_ms)
        phases.append(replace(phase, operations=tuple(operations)))
    return replace(manifest, phases=tuple(phases))


class _Draw:
    """Draws a manifest; amounts are such that who is not poor can always pay."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._poor = self._rng.choice([name for name in ORGANIZATIONS if name != _ISSUER])
        self._poor_region = self._rng.choice(REGIONS)

    def manifest(self, phases: int) -> Manifest:
        kinds = list(FaultKind)
        self._rng.shuffle(kinds)
        deck = [kinds[number % len(kinds)] for number in range(phases)]
        return Manifest(
            self._seed,
            epoch_length=self._rng.randint(10, 30),
            heartbeat_ms=self._rng.randint(300, 500),
            hub_heartbeat_ms=self._rng.randint(200, 400),
            poor=self._poor,
            poor_region=self._poor_region,
            phases=tuple(self._phase(number, kind) for number, kind in enumerate(deck)),
        )

    def _phase(self, number: int, kind: FaultKind) -> Phase:
        operations = [self._operation() for _ in range(_OPERATIONS_A_PHASE)]
        if number == 0:
            operations.append(self._impoverishing())
        return Phase(self._fault(kind), tuple(sorted(operations, key=lambda one: one.at_ms)))

    def _fault(self, kind: FaultKind) -> Fault:
        rng = self._rng
        number = rng.choice((1, 1, 2, 3, 4)) if kind is FaultKind.KILL else 1
        nodes = tuple(sorted(rng.sample(ORGANIZATIONS, number)))
        holds = {FaultKind.PAUSE: 10_000, FaultKind.RESTART: 0, FaultKind.OTHER_VERSION: 5_000}
        hold_ms = holds.get(kind, rng.randint(1_000, 12_000 if kind is FaultKind.SILENCE else 6_000))
        mode = rng.choice(_BYZANTINE_MODES) if kind is FaultKind.BYZANTINE else ""
        return Fault(rng.randint(0, 2_000), kind, nodes, hold_ms, mode)

    def _operation(self) -> Operation:
        rng = self._rng
        at_ms, via = rng.randint(1, _PHASE_MS), rng.choice(ORGANIZATIONS)
        draw = rng.random()
        if draw < 0.3:
            return self._local(at_ms, via)
        if draw < 0.8:
            return self._payment(at_ms, via)
        growth_wh = tuple(rng.randint(0, 500) for _ in range(rng.randint(1, 8)))
        return Readings(at_ms, via, rng.choice(REGIONS), growth_wh)

    def _impoverishing(self) -> Local:
        heir, amount = self._someone_else(self._poor), OWNED - _LEFT_TO_THE_POOR
        return Local(0, heir, Money.TRANSFER, self._poor_region, self._poor, heir, amount, Expected.CARRIED_OUT)

    def _local(self, at_ms: int, via: str) -> Local:
        rng = self._rng
        kind, region = rng.choice((Money.TRANSFER, Money.TRANSFER, *Money)), rng.choice(REGIONS)
        amount = rng.randint(_LEFT_TO_THE_POOR + 1, _AMOUNT_MAX)
        if kind is Money.BURN:
            return Local(at_ms, via, kind, region, _ISSUER, _ISSUER, amount, Expected.CARRIED_OUT)
        if kind is Money.MINT:
            return Local(at_ms, via, kind, region, _ISSUER, self._payee(region), amount, Expected.CARRIED_OUT)
        signer = rng.choice(ORGANIZATIONS)
        payee = self._payee(region, signer)
        can_pay = (signer, region) != (self._poor, self._poor_region)
        expected = Expected.CARRIED_OUT if can_pay else Expected.REFUSED
        return Local(at_ms, via, kind, region, signer, payee, amount, expected)

    def _payment(self, at_ms: int, via: str) -> Payment:
        rng = self._rng
        amount = rng.randint(_LEFT_TO_THE_POOR + 1, _AMOUNT_MAX)
        what = rng.choices(("funded", "unfunded", "beyond", "stranger", "impossible"), (60, 15, 5, 10, 10))[0]
        if what == "unfunded":
            source, signer = self._poor_region, self._poor
        else:
            source, signer = self._rich()
        target = rng.choice([region for region in REGIONS if region != source])
        account, expected = self._payee(target), Expected.COMMITTED
        if what == "unfunded":
            expected = Expected.ABORTED
        elif what == "beyond":
            amount, expected = _BEYOND + amount, Expected.REFUSED
        elif what == "stranger":
            account = f"stranger-{rng.randint(1, 3)}"
        elif what == "impossible":
            account, expected = "w\u00e4hrung", Expected.ABORTED
        return Payment(at_ms, via, signer, source, target, account, amount, expected)

    def _rich(self) -> tuple[str, str]:
        poor = (self._poor_region, self._poor)
        return self._rng.choice([(where, who) for where in REGIONS for who in ORGANIZATIONS if (where, who) != poor])

    def _payee(self, region: str, payer: str = "") -> str:
        without = {payer, self._poor if region == self._poor_region else ""}
        return self._rng.choice([name for name in ORGANIZATIONS if name not in without])

    def _someone_else(self, name: str) -> str:
        return self._rng.choice([other for other in ORGANIZATIONS if other != name])
