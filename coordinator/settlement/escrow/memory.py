"""Books in memory, for the model, the simulator and tests. `apply` returns new books; the old stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from coordinator.ledger.codec import INT64_MAX
from coordinator.settlement.escrow.books import HubParameters, RegionEntry
from coordinator.settlement.escrow.records import (
    HubRecord,
    HubTransition,
    MovementKind,
    RegionRecord,
    RegionState,
    RegionTransition,
)
from coordinator.settlement.escrow.types import SettlementId

_K = TypeVar("_K")
_Money = Mapping[tuple[str, str], int]
_SIGNS = {
    MovementKind.LOCK: (-1, 1),
    MovementKind.REFUND: (1, -1),
    MovementKind.BURN: (0, -1),
    MovementKind.CREDIT: (1, 0),
}


@dataclass(frozen=True)
class HubMemory:
    """The hub's state. Positions, limits and accounts are keyed (name, asset), reservations (nonce, region, asset)."""

    chain_id: bytes
    parameters: HubParameters
    regions: Mapping[str, RegionEntry]
    limits: _Money
    accounts: _Money = field(default_factory=dict)
    positions: _Money = field(default_factory=dict)
    claims: _Money = field(default_factory=dict)
    reservations: Mapping[tuple[bytes, str, str], int] = field(default_factory=dict)
    records: Mapping[SettlementId, HubRecord] = field(default_factory=dict)
    last_sid: SettlementId | None = None
    watermark: SettlementId | None = None

    def region(self, name: str) -> RegionEntry | None:
        """A region of the registry."""
        return self.regions.get(name)

    def record(self, sid: SettlementId) -> HubRecord | None:
        """A settlement that is not closed."""
        return self.records.get(sid)

    def unclosed(self) -> tuple[SettlementId, ...]:
        """Their ids, ascending."""
        return tuple(sorted(self.records))

    def due(self, _height: int) -> tuple[SettlementId, ...]:
        """All that are undecided: these books are small."""
        return tuple(sid for sid in self.unclosed() if self.records[sid].outcome is None)

    def closing(self, _height: int) -> tuple[SettlementId, ...]:
        """All that are decided."""
        return tuple(sid for sid in self.unclosed() if self.records[sid].outcome is not None)

    def position(self, region: str, asset: str) -> int:
        """Net receipts by committed settlements."""
        return self.positions.get((region, asset), 0)

    def limit(self, region: str, asset: str) -> int:
        """How far the position may fall below zero."""
        return self.limits.get((region, asset), 0)

    def reserved(self, nonce: bytes, region: str, asset: str) -> int:
        """Set aside for one coupling."""
        return self.reservations.get((nonce, region, asset), 0)

    def coupling_exposure(self, region: str, asset: str) -> int:
        """Set aside for all couplings."""
        return sum(amount for key, amount in self.reservations.items() if key[1:] == (region, asset))

    def apply(self, transition: HubTransition) -> HubMemory:
        """The books after a transition."""
        records = {sid: record for sid, record in self.records.items() if sid not in transition.pruned}
        records.update((record.sid, record) for record in transition.records)
        reservations = {key: amount for key, amount in self.reservations.items() if key[0] not in transition.released}
        reservations.update(((item.nonce, item.region, item.asset), item.amount) for item in transition.reserved)
        sids = [record.sid for record in transition.records]
        frozen = {name: replace(self.regions[name], frozen=True) for name in transition.frozen}
        return replace(
            self,
            regions={**self.regions, **frozen},
            records=records,
            positions=_moved(self.positions, [((i.name, i.asset), i.amount) for i in transition.positions]),
            accounts=_moved(self.accounts, [((i.name, i.asset), i.amount) for i in transition.accounts]),
            claims=_moved(self.claims, [((i.region, i.asset), i.amount) for i in transition.claims]),
            reservations=reservations,
            last_sid=max([*sids, self.last_sid] if self.last_sid is not None else sids, default=None),
            watermark=transition.watermark or self.watermark,
        )

    def reached(self, region: str, epoch: int) -> HubMemory:
        """The books after the light client of a region has reached an epoch."""
        return replace(self, regions={**self.regions, region: replace(self.regions[region], epoch=epoch)})

    def snapshot(self) -> Hashable:
        """Everything that changes, as a value to compare and hash."""
        return (
            _items(self.regions),
            _items(self.accounts),
            _items(self.positions),
            _items(self.claims),
            _items(self.reservations),
            _items(self.records),
            self.last_sid,
            self.watermark,
        )


def nobody_signed(_account: bytes, _message: bytes, _signature: bytes) -> bool:
    """The default check of owners' signatures: none is valid."""
    return False


@dataclass(frozen=True)
class RegionMemory:
    """A region's state. Balances and credit limits are keyed (account, asset), escrow (sid, account, asset)."""

    region: str
    hub_chain_id: bytes
    balances: Mapping[tuple[bytes, str], int]
    credit_limits: Mapping[tuple[bytes, str], int] = field(default_factory=dict)
    escrow: Mapping[tuple[SettlementId, bytes, str], int] = field(default_factory=dict)
    mandates: Mapping[tuple[bytes, bytes, str], int] = field(default_factory=dict)
    records: Mapping[SettlementId, RegionRecord] = field(default_factory=dict)
    watermark: SettlementId | None = None
    signed: Callable[[bytes, bytes, bytes], bool] = nobody_signed

    def record(self, sid: SettlementId) -> RegionRecord | None:
        """A settlement that is known and not pruned."""
        return self.records.get(sid)

    def sids(self) -> tuple[SettlementId, ...]:
        """Their ids, ascending."""
        return tuple(sorted(self.records))

    def accepts(self, _account: bytes, _asset: str) -> bool:
        """Any account may hold any asset."""
        return True

    def free(self, account: bytes, asset: str) -> int:
        """Outside of escrow."""
        return self.balances.get((account, asset), 0)

    def credit_limit(self, account: bytes, asset: str) -> int:
        """How far the free balance may fall below zero."""
        return self.credit_limits.get((account, asset), 0)

    def pending(self, account: bytes, asset: str) -> int:
        """What refunds and commits could still add."""
        waiting = [record for record in self.records.values() if record.state is RegionState.YES]
        legs = [leg for record in waiting for leg in record.legs if (leg.account, leg.asset) == (account, asset)]
        return sum(abs(leg.amount) for leg in legs)

    def mandate(self, nonce: bytes, account: bytes, asset: str) -> int | None:
        """The leg this region computed itself."""
        return self.mandates.get((nonce, account, asset))

    def authorises(self, account: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the owner signed."""
        return self.signed(account, message, signature)

    def apply(self, transition: RegionTransition) -> RegionMemory:
        """The books after a transition. Money that is not there cannot move."""
        balances, escrow = dict(self.balances), dict(self.escrow)
        for item in transition.movements:
            assert item.amount > 0, f"a movement of {item.amount} in {self.region}"
            to_free, to_escrow = (sign * item.amount for sign in _SIGNS[item.kind])
            account, held = (item.account, item.asset), (item.sid, item.account, item.asset)
            balances[account] = balances.get(account, 0) + to_free
            escrow[held] = escrow.get(held, 0) + to_escrow
            assert escrow[held] >= 0, f"escrow of {item.sid} in {self.region} pays more than it holds"
            assert -self.credit_limit(*account) <= balances[account] <= INT64_MAX, (
                f"{account} of {self.region} overdrawn"
            )
        records = {sid: record for sid, record in self.records.items() if sid not in transition.pruned}
        records.update((record.sid, record) for record in transition.records)
        mandates = {key: net for key, net in self.mandates.items() if key[0] not in transition.spent_mandates}
        return replace(
            self,
            balances=balances,
            escrow={key: amount for key, amount in escrow.items() if amount},
            mandates=mandates,
            records=records,
            watermark=transition.watermark or self.watermark,
        )

    def transferred(self, source: bytes, target: bytes, asset: str, amount: int) -> RegionMemory:
        """The books after an ordinary transfer within the region."""
        available = self.free(source, asset) + self.credit_limit(source, asset)
        room = INT64_MAX - self.free(target, asset) - self.pending(target, asset)
        assert 0 < amount <= min(available, room), f"{amount} {asset} cannot move within {self.region}"
        balances = _moved(self.balances, [((source, asset), -amount), ((target, asset), amount)])
        return replace(self, balances=balances)

    def snapshot(self) -> Hashable:
        """Everything that changes, as a value to compare and hash."""
        return (
            self.region,
            _items(self.balances),
            _items(self.escrow),
            _items(self.mandates),
            _items(self.records),
            self.watermark,
        )


def _moved(amounts: Mapping[_K, int], changes: list[tuple[_K, int]]) -> dict[_K, int]:
    moved = dict(amounts)
    for key, change in changes:
        moved[key] = moved.get(key, 0) + change
    return moved


def _items(mapping: Mapping[_K, object]) -> tuple[tuple[_K, object], ...]:
    return tuple(sorted(mapping.items(), key=lambda item: repr(item[0])))
