"""What the chains tell each other about a settlement. Amounts are micro-units of an asset, in int64.

A leg credits (positive) or debits (negative) one account. Regions are named as in the interconnection; `HUB` names
the hub's own books, on which collateral and rounding are kept, and which take part without a vote.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

from coordinator.ledger.codec import INT64_MAX

AMOUNT_MAX = INT64_MAX
HEIGHT_MAX = 2**63 - 1
INDEX_MAX = 2**32 - 1
HASH_SIZE = 32
SIGNATURE_SIZE = 64
HUB = "hub"
ROUNDING = b"rounding"
NEUTRAL = b"neutral"


class Kind(Enum):
    """Whose will a settlement is: of the owners who signed it, or of the coupling all regions computed."""

    PAYMENT = 1
    NETTING = 2


class Verdict(Enum):
    """What a receipt of a region says."""

    YES = 1
    NO = 2
    APPLIED = 3


class Outcome(Enum):
    """What the hub decided."""

    COMMIT = 1
    ABORT = 2


class Reason(Enum):
    """Why the hub decided."""

    ALL_YES = 1
    SAID_NO = 2
    DEADLINE = 3
    FROZEN = 4


@dataclass(frozen=True, slots=True, order=True)
class SettlementId:
    """Where the hub opened a settlement: block height and index in the block."""

    height: int
    index: int

    @property
    def predecessor(self) -> SettlementId:
        """The largest id below this one."""
        return SettlementId(self.height, self.index - 1) if self.index else SettlementId(self.height - 1, INDEX_MAX)

    def __str__(self) -> str:
        return f"{self.height}/{self.index}"


@dataclass(frozen=True, slots=True, order=True)
class Leg:
    """A change of one account by `amount`; positive is received."""

    region: str
    account: bytes
    asset: str
    amount: int


@dataclass(frozen=True, slots=True, order=True)
class Authorisation:
    """The signature of an account's owner over `Open.body_digest`."""

    region: str
    account: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Replaced:
    """The aborted settlement that a re-netting stands in for."""

    sid: SettlementId
    open_digest: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """What is to be settled. Legs and authorisations ascend strictly, so that one OPEN has one encoding."""

    hub_chain_id: bytes
    nonce: bytes
    kind: Kind
    deadline_height: int
    legs: tuple[Leg, ...]
    replaces: Replaced | None = None
    authorisations: tuple[Authorisation, ...] = ()

    @property
    def participants(self) -> tuple[str, ...]:
        """The regions that must vote, those with credits only among them, ascending."""
        return tuple(sorted({leg.region for leg in self.legs if leg.region != HUB}))

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets of the legs, ascending."""
        return tuple(sorted({leg.asset for leg in self.legs}))

    def legs_of(self, region: str) -> tuple[Leg, ...]:
        """The legs in one region."""
        return tuple(leg for leg in self.legs if leg.region == region)

    def net(self, region: str, asset: str) -> int:
        """What a region receives in all, in micro-units; negative is paid."""
        return sum(leg.amount for leg in self.legs if leg.region == region and leg.asset == asset)


@dataclass(frozen=True, slots=True)
class Opening:
    """An OPEN with its exact bytes; equal digests mean equal bytes."""

    open: Open
    encoded: bytes
    body_digest: bytes

    @property
    def digest(self) -> bytes:
        """`open_digest`."""
        return hashlib.sha256(self.encoded).digest()


@dataclass(frozen=True, slots=True)
class Opened:
    """Hub event: a settlement was opened."""

    sid: SettlementId
    opening: Opening


@dataclass(frozen=True, slots=True)
class Decided:
    """Hub event: a settlement was decided. Only `participants` may take it in: to others it is no business."""

    sid: SettlementId
    open_digest: bytes
    outcome: Outcome
    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """Hub event: every settlement up to and with `watermark` is closed."""

    watermark: SettlementId


@dataclass(frozen=True, slots=True)
class Receipt:
    """Region event: a verdict, given in the region's `epoch`."""

    hub_chain_id: bytes
    region: str
    verdict: Verdict
    sid: SettlementId
    open_digest: bytes
    epoch: int


Event = Opened | Decided | Closed | Receipt
