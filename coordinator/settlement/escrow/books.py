"""The port through which the protocol reads state. Whoever keeps it (model, simulator, ledger) implements these.

Transitions never write through it: they return a `HubTransition` or `RegionTransition`, which books apply as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from coordinator.ledger.receipt import EVENTS_MAX
from coordinator.settlement.escrow.records import HubRecord, RegionRecord
from coordinator.settlement.escrow.types import SettlementId


@dataclass(frozen=True, slots=True)
class HubParameters:
    """From the hub's genesis. Windows are in hub blocks.

    Payments and nettings have places of their own, and a signer only some of the payments', so that nobody keeps
    another from settling. Places are taken until a settlement is closed, but a netting that is opened again takes
    one whatever the number. Undecided ones never exceed the places, and may all end in one block.
    """

    window_min_blocks: int
    window_max_blocks: int
    netting_window_blocks: int
    payments_max: int = 200
    nettings_max: int = 100
    signer_max: int = 50

    def __post_init__(self) -> None:
        """Ending, opening again and committing at once makes three events, closing one for all."""
        assert 3 * (self.payments_max + self.nettings_max) < EVENTS_MAX, "one block cannot end all that may be open"


def shortest_window_blocks(max_faulty: int, round_trip_blocks: int) -> int:
    """D_min: with this window f censoring leaders in a row cannot keep an honest region's receipt out."""
    return max_faulty + 2 + round_trip_blocks


@dataclass(frozen=True, slots=True)
class RegionEntry:
    """A region in the hub's registry. `epoch` is the latest its light client on the hub has reached.

    `openers` may submit OPENs that debit it: the hub does not know its owners' keys, so they answer for signatures.
    """

    name: str
    chain_id: bytes
    epoch: int
    active: bool = True
    frozen: bool = False
    openers: tuple[str, ...] = ("",)


class HubBooks(Protocol):
    """The hub's state. Amounts are micro-units."""

    @property
    def chain_id(self) -> bytes:
        """The hub's own."""

    @property
    def parameters(self) -> HubParameters:
        """From genesis."""

    @property
    def watermark(self) -> SettlementId | None:
        """All settlements up to and with it are closed."""

    @property
    def last_sid(self) -> SettlementId | None:
        """The latest that was opened."""

    def region(self, name: str) -> RegionEntry | None:
        """A region of the registry."""

    def record(self, sid: SettlementId) -> HubRecord | None:
        """A settlement that is not closed."""

    def unclosed(self) -> tuple[SettlementId, ...]:
        """The settlements that are not closed, ascending."""

    def due(self, height: int) -> Iterable[SettlementId]:
        """Undecided ones, and among them all that the end of this block must decide."""

    def closing(self, height: int) -> Iterable[SettlementId]:
        """Decided ones, and among them all that the end of this block must close."""

    def position(self, region: str, asset: str) -> int:
        """What a region received by committed settlements, net."""

    def limit(self, region: str, asset: str) -> int:
        """How far a region's position may fall below zero: what its collateral is good for."""

    def reserved(self, nonce: bytes, region: str, asset: str) -> int:
        """Collateral of a region set aside for the coupling with this nonce."""

    def coupling_exposure(self, region: str, asset: str) -> int:
        """All collateral of a region that is set aside."""


class RegionBooks(Protocol):
    """A region's state. Amounts are micro-units."""

    @property
    def region(self) -> str:
        """Its name."""

    @property
    def hub_chain_id(self) -> bytes:
        """The one hub whose decisions count here."""

    @property
    def watermark(self) -> SettlementId | None:
        """The hub's, as far as it was proved here."""

    def record(self, sid: SettlementId) -> RegionRecord | None:
        """A settlement this region knows and has not pruned."""

    def sids(self) -> tuple[SettlementId, ...]:
        """All of these, ascending."""

    def accepts(self, account: bytes, asset: str) -> bool:
        """Whether an account of this name can hold this asset here."""

    def free(self, account: bytes, asset: str) -> int:
        """What an account holds outside of escrow."""

    def credit_limit(self, account: bytes, asset: str) -> int:
        """How far that may fall below zero."""

    def pending(self, account: bytes, asset: str) -> int:
        """The sum of what refunds and commits still to come could add to an account."""

    def mandate(self, nonce: bytes, account: bytes, asset: str) -> int | None:
        """The leg that this region itself computed for a netting, if it did and has not paid it yet."""

    def authorises(self, account: bytes, message: bytes, signature: bytes) -> bool:
        """Whether this is the signature of the account's owner over the message."""
