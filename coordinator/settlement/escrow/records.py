"""What the hub and a region keep about one settlement, and what their transitions write."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from coordinator.settlement.escrow.types import (
    Event,
    Kind,
    Leg,
    Opening,
    Outcome,
    Reason,
    Receipt,
    SettlementId,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Vote:
    """A verdict as the hub counted it: `height` is that of the hub block which includes the receipt."""

    verdict: Verdict
    height: int


@dataclass(frozen=True, slots=True)
class HubRecord:
    """A settlement on the hub. `votes` and `applied` stand in the order of the participants.

    `outcome` is None while the settlement is OPEN.
    """

    sid: SettlementId
    opening: Opening
    votes: tuple[Vote | None, ...]
    applied: tuple[bool, ...]
    outcome: Outcome | None = None
    reason: Reason | None = None
    decided_height: int | None = None
    signer: str = ""
    """Who submitted it; empty where the hub opened it itself."""

    @property
    def participants(self) -> tuple[str, ...]:
        """Regions that vote."""
        return self.opening.open.participants

    @property
    def deadline_height(self) -> int:
        """D: the last hub height at which a YES counts."""
        return self.opening.open.deadline_height


class RegionState(Enum):
    """Where a settlement stands in a region."""

    YES = 1
    NO = 2
    COMMITTED = 3
    ABORTED = 4


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """A settlement in a region. Receipts follow from it alone, so they can be emitted again at any time.

    `verdict` was given in `epoch`, the decision applied in `applied_epoch`. `legs` are the region's own while it is
    in YES, none otherwise. `in_doubt_since` is the region height of the YES.
    """

    sid: SettlementId
    open_digest: bytes
    state: RegionState
    verdict: Verdict | None = None
    epoch: int = 0
    applied_epoch: int = 0
    in_doubt_since: int = 0
    kind: Kind = Kind.PAYMENT
    nonce: bytes = b""
    legs: tuple[Leg, ...] = ()


class MovementKind(Enum):
    """How a settlement moves money in a region's books. LOCK and REFUND stay inside, BURN leaves, CREDIT comes in."""

    LOCK = 1
    REFUND = 2
    BURN = 3
    CREDIT = 4


@dataclass(frozen=True, slots=True)
class Movement:
    """A positive amount between the free balance of an account, its escrow under `sid`, and the outside."""

    kind: MovementKind
    sid: SettlementId
    account: bytes
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class RegionTransition:
    """What a region writes; nothing by default. `spent_mandates` are nonces of nettings that were paid."""

    records: tuple[RegionRecord, ...] = ()
    pruned: tuple[SettlementId, ...] = ()
    movements: tuple[Movement, ...] = ()
    watermark: SettlementId | None = None
    spent_mandates: tuple[bytes, ...] = ()
    events: tuple[Receipt, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Reservation:
    """Collateral of a region set aside before a coupling, under the nonce of its netting."""

    nonce: bytes
    region: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A signed change, in micro-units, of one of the hub's accounts or of a region's net position."""

    name: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """What `region` owes because its debit was drawn from collateral; negative is owed to it."""

    region: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class HubTransition:
    """What the hub writes; nothing by default.

    `positions` change net positions, `accounts` the hub's own accounts (collateral, rounding). `released` are nonces
    whose reservations end.
    """

    records: tuple[HubRecord, ...] = ()
    pruned: tuple[SettlementId, ...] = ()
    positions: tuple[Change, ...] = ()
    accounts: tuple[Change, ...] = ()
    reserved: tuple[Reservation, ...] = ()
    released: tuple[bytes, ...] = ()
    claims: tuple[Claim, ...] = ()
    frozen: tuple[str, ...] = ()
    watermark: SettlementId | None = None
    events: tuple[Event, ...] = ()
