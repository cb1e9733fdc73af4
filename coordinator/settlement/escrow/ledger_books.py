"""The books of the escrow protocol as entries of a ledger's state.

Hub                                       entry
parameters                                HubParameters
region/<name>                             chain id, active, frozen, openers (its epoch is that of its light client)
record/<sid>                              HubRecord, ids in order of height
position, limit, account, claim /<name> 0x00 <asset>    int64 micro-units
reserved/<nonce><region> 0x00 <asset>     int64 micro-units
last, watermark                           ids
due, close, when, member                  see `hub_index`

Region                                    entry
name                                      its own, and the hub's chain id
record/<sid>                              RegionRecord
mandate/<nonce><account> 0x00 <asset>     int64 micro-units
pending/<account> 0x00 <asset>            what settlements in YES could still add, in 16 bytes
suspense/<account> 0x00 <asset>           what is owed because the account could not hold it, in 16 bytes
watermark                                 id

Balances and escrows of a region are the ledger's own (`coordinator.ledger.accounts`): a BURN leaves the chain as
burned, a CREDIT comes as minted. Account names are owners' names in ASCII.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from coordinator.ledger import accounts
from coordinator.ledger.codec import Reader, Writer
from coordinator.ledger.errors import Rejected
from coordinator.ledger.records import Asset
from coordinator.ledger.registry import participant_of
from coordinator.ledger.view import Context, Records
from coordinator.settlement.escrow.books import HubParameters, RegionEntry
from coordinator.settlement.escrow.chains import ESCROW_EVENT, Chains
from coordinator.settlement.escrow.encoding import SID_SIZE, encode_event, encode_sid, read_sid
from coordinator.settlement.escrow.hub_index import HubIndex
from coordinator.settlement.escrow.money import money, money_key, set_money, set_sum
from coordinator.settlement.escrow.records import (
    HubRecord,
    HubTransition,
    Movement,
    MovementKind,
    RegionRecord,
    RegionState,
    RegionTransition,
)
from coordinator.settlement.escrow.stored import (
    decode_hub_record,
    decode_region_record,
    encode_hub_record,
    encode_region_record,
)
from coordinator.settlement.escrow.types import AMOUNT_MAX, HASH_SIZE, SettlementId

_RECORD, _LAST, _WATERMARK, _PARAMETERS, _NAME = b"record/", b"last", b"watermark", b"parameters", b"name"
_PENDING, _SUSPENSE, REGION = b"pending/", b"suspense/", b"region/"


def _sid(records: Records, key: bytes) -> SettlementId | None:
    data = records.get(key)
    return None if data is None else read_sid(Reader(data))


def _sids(records: Records) -> tuple[SettlementId, ...]:
    return tuple(read_sid(Reader(key[-SID_SIZE:])) for key, _ in records.items(_RECORD))


def _emit(context: Context, payload: bytes) -> None:
    context.emit(ESCROW_EVENT, payload)


@dataclass(frozen=True, slots=True)
class HubLedger:
    """The hub's books in its ledger. Implements `HubBooks`."""

    context: Context

    @property
    def records(self) -> Records:
        """Its entries."""
        return self.context.records

    @property
    def chains(self) -> Chains:
        """The light clients of the regions."""
        return Chains(self.records, self.context.block.scheme)

    @property
    def chain_id(self) -> bytes:
        """The hub's own."""
        return self.context.block.chain_id

    @property
    def parameters(self) -> HubParameters:
        """From genesis."""
        data = self.records.get(_PARAMETERS)
        assert data is not None, "genesis writes the escrow parameters"
        reader = Reader(data)
        windows = (reader.uint64(), reader.uint64(), reader.uint64())
        return HubParameters(*windows, reader.uint32(), reader.uint32(), reader.uint32())

    def put_parameters(self, parameters: HubParameters) -> None:
        """At genesis."""
        writer = Writer().uint64(parameters.window_min_blocks).uint64(parameters.window_max_blocks)
        writer.uint64(parameters.netting_window_blocks).uint32(parameters.payments_max)
        self.records.put(_PARAMETERS, writer.uint32(parameters.nettings_max).uint32(parameters.signer_max).encoded)

    @property
    def watermark(self) -> SettlementId | None:
        """All settlements up to and with it are closed."""
        return _sid(self.records, _WATERMARK)

    @property
    def last_sid(self) -> SettlementId | None:
        """The latest that was opened."""
        return _sid(self.records, _LAST)

    def region(self, name: str) -> RegionEntry | None:
        """A region of the registry."""
        data = self.records.get(REGION + name.encode())
        if data is None:
            return None
        reader = Reader(data)
        chain_id, active, frozen = reader.raw(HASH_SIZE), reader.flag(), reader.flag()
        openers = tuple(reader.text() for _ in range(reader.uint32()))
        return RegionEntry(name, chain_id, self.chains.epoch(chain_id), active, frozen, openers)

    def put_region(self, entry: RegionEntry) -> None:
        """Its epoch is not written: the light client has it."""
        writer = Writer().raw(entry.chain_id).flag(entry.active).flag(entry.frozen).uint32(len(entry.openers))
        for name in entry.openers:
            writer.text(name)
        self.records.put(REGION + entry.name.encode(), writer.encoded)

    def record(self, sid: SettlementId) -> HubRecord | None:
        """A settlement that is not closed."""
        data = self.records.get(_RECORD + encode_sid(sid))
        return None if data is None else decode_hub_record(sid, data)

    def unclosed(self) -> tuple[SettlementId, ...]:
        """Their ids, ascending."""
        return _sids(self.records)

    @property
    def index(self) -> HubIndex:
        """Of settlements by what the end of a block does to them."""
        return HubIndex(self.records, self.parameters.window_max_blocks)

    def due(self, height: int) -> Iterator[SettlementId]:
        """What the end of this block must decide."""
        return self.index.due(height)

    def closing(self, height: int) -> Iterator[SettlementId]:
        """What the end of this block must close."""
        return self.index.closing(height)

    def position(self, region: str, asset: str) -> int:
        """Net receipts by committed settlements."""
        return money(self.records, money_key(b"position/", region.encode(), asset))

    def limit(self, region: str, asset: str) -> int:
        """How far the position may fall below zero."""
        return money(self.records, money_key(b"limit/", region.encode(), asset))

    def claim(self, region: str, asset: str) -> int:
        """What a region owes because nettings drew on its collateral; negative is owed to it."""
        return money(self.records, money_key(b"claim/", region.encode(), asset))

    def put_limit(self, region: str, asset: str, amount: int) -> None:
        """What a region's collateral is good for."""
        set_money(self.records, money_key(b"limit/", region.encode(), asset), amount)

    def held(self, asset: str) -> int:
        """What the hub's own accounts hold together: collateral drawn and kept, rounding, link owners."""
        entries = self.records.items(b"account/")
        suffix = b"\0" + asset.encode()
        return sum(int.from_bytes(value, "big", signed=True) for key, value in entries if key.endswith(suffix))

    def reserved(self, nonce: bytes, region: str, asset: str) -> int:
        """Set aside for one coupling."""
        return money(self.records, money_key(b"reserved/" + nonce, region.encode(), asset))

    def coupling_exposure(self, region: str, asset: str) -> int:
        """Set aside for all couplings."""
        wanted = money_key(b"", region.encode(), asset)
        skip = len(b"reserved/") + HASH_SIZE
        entries = self.records.items(b"reserved/")
        return sum(int.from_bytes(value, "big", signed=True) for key, value in entries if key[skip:] == wanted)

    def apply(self, transition: HubTransition) -> None:
        """Write a transition and emit its events."""
        for sid in transition.pruned:
            self._forget(sid)
        for record in transition.records:
            self.records.put(_RECORD + encode_sid(record.sid), encode_hub_record(record))
            self._find(record)
            self.records.put(_LAST, encode_sid(max(record.sid, self.last_sid or record.sid)))
        for key, amount in _hub_changes(transition).items():
            set_money(self.records, key, money(self.records, key) + amount)
        for nonce in transition.released:
            for key, _ in tuple(self.records.items(b"reserved/" + nonce)):
                self.records.delete(key)
        for item in transition.reserved:
            key = money_key(b"reserved/" + item.nonce, item.region.encode(), item.asset)
            set_money(self.records, key, item.amount)
        for name in transition.frozen:
            entry = self.region(name)
            assert entry is not None, "only registered regions are frozen"
            self.put_region(replace(entry, frozen=True))
            for sid in self.index.of(name):
                self._find(self._known(sid))
        if transition.watermark is not None:
            self.records.put(_WATERMARK, encode_sid(transition.watermark))
        for event in transition.events:
            _emit(self.context, encode_event(event))

    def _known(self, sid: SettlementId) -> HubRecord:
        record = self.record(sid)
        assert record is not None, f"{sid} is listed and has no record"
        return record

    def _find(self, record: HubRecord) -> None:
        entries = [self.region(name) for name in record.participants]
        self.index.put(record, tuple(entry.name for entry in entries if entry is not None and entry.frozen))

    def _forget(self, sid: SettlementId) -> None:
        self.index.remove(self._known(sid))
        self.records.delete(_RECORD + encode_sid(sid))


def _hub_changes(transition: HubTransition) -> dict[bytes, int]:
    """One change an entry: a single leg of several may leave int64 where their sum does not."""
    changes: dict[bytes, int] = {}

    def add(kind: bytes, name: str, asset: str, amount: int) -> None:
        key = money_key(kind, name.encode(), asset)
        changes[key] = changes.get(key, 0) + amount

    for change in transition.positions:
        add(b"position/", change.name, change.asset, change.amount)
    for change in transition.accounts:
        add(b"account/", change.name, change.asset, change.amount)
    for claim in transition.claims:
        add(b"claim/", claim.region, claim.asset, claim.amount)
    return changes


@dataclass(frozen=True, slots=True)
class RegionLedger:
    """A region's books in its ledger. Implements `RegionBooks`."""

    context: Context

    @property
    def records(self) -> Records:
        """Its entries."""
        return self.context.records

    @property
    def chains(self) -> Chains:
        """The light client of the hub."""
        return Chains(self.records, self.context.block.scheme)

    def put_name(self, region: str, hub_chain_id: bytes) -> None:
        """At genesis."""
        self.records.put(_NAME, Writer().raw(hub_chain_id).text(region).encoded)

    @property
    def region(self) -> str:
        """Its name."""
        return self._reader(HASH_SIZE).text()

    @property
    def hub_chain_id(self) -> bytes:
        """The one hub whose decisions count here."""
        return self._reader(0).raw(HASH_SIZE)

    def _reader(self, skip: int) -> Reader:
        data = self.records.get(_NAME)
        assert data is not None, "genesis names the region and its hub"
        return Reader(data[skip:])

    @property
    def watermark(self) -> SettlementId | None:
        """The hub's, as far as it was proved here."""
        return _sid(self.records, _WATERMARK)

    def record(self, sid: SettlementId) -> RegionRecord | None:
        """A settlement that is known and not pruned."""
        data = self.records.get(_RECORD + encode_sid(sid))
        return None if data is None else decode_region_record(sid, data)

    def sids(self) -> tuple[SettlementId, ...]:
        """Their ids, ascending."""
        return _sids(self.records)

    def accepts(self, account: bytes, asset: str) -> bool:
        """Whether the asset is known here and the account is the name of an owner."""
        return account.isascii() and b"\0" not in account and self.context.view.get(Asset.key(asset)) is not None

    def free(self, account: bytes, asset: str) -> int:
        """Outside of escrow."""
        return accounts.balance(self.context.view, account.decode(), asset)

    def credit_limit(self, account: bytes, asset: str) -> int:
        """How far the free balance may fall below zero."""
        return accounts.account(self.context.view, account.decode(), asset).credit_limit

    def pending(self, account: bytes, asset: str) -> int:
        """What refunds and commits could still add."""
        return money(self.records, money_key(_PENDING, account, asset))

    def suspense(self, account: bytes, asset: str) -> int:
        """What an account is owed by settlements and could not hold when they were applied."""
        return money(self.records, money_key(_SUSPENSE, account, asset))

    def pay_suspense(self, account: bytes, asset: str) -> None:
        """Credit of it what the account has room for. Raises Rejected where that is nothing."""
        held = self.suspense(account, asset)
        amount = min(held, AMOUNT_MAX - max(0, self.free(account, asset))) if held else 0
        if amount <= 0:
            raise Rejected("no_suspense", f"nothing is owed in {asset} that the account could hold")
        accounts.mint(self.context.view, asset, account.decode(), amount)
        self._add(_SUSPENSE, account, asset, -amount)

    def _add(self, kind: bytes, account: bytes, asset: str, amount: int) -> None:
        key = money_key(kind, account, asset)
        set_sum(self.records, key, money(self.records, key) + amount)

    def _count_pending(self, record: RegionRecord, sign: int) -> None:
        for leg in record.legs if record.state is RegionState.YES else ():
            self._add(_PENDING, leg.account, leg.asset, sign * abs(leg.amount))

    def mandate(self, nonce: bytes, account: bytes, asset: str) -> int | None:
        """The leg this region computed itself."""
        return money(self.records, money_key(b"mandate/" + nonce, account, asset)) or None

    def put_mandate(self, nonce: bytes, account: bytes, asset: str, amount: int) -> None:
        """The region computed a netting, and will agree to exactly this leg."""
        set_money(self.records, money_key(b"mandate/" + nonce, account, asset), amount)

    def authorises(self, account: bytes, message: bytes, signature: bytes) -> bool:
        """Whether this is the signature of the account's owner, a participant that is not frozen."""
        owner = participant_of(self.context.view, account.decode())
        if owner is None or owner.frozen:
            return False
        return self.context.block.scheme.verify(owner.public_key, message, signature)

    def apply(self, transition: RegionTransition) -> None:
        """Write a transition and emit its events."""
        for item in transition.movements:
            self._move(item)
        for sid in transition.pruned:
            self.records.delete(_RECORD + encode_sid(sid))
        for record in transition.records:
            earlier = self.record(record.sid)
            if earlier is not None:
                self._count_pending(earlier, -1)
            self._count_pending(record, 1)
            self.records.put(_RECORD + encode_sid(record.sid), encode_region_record(record))
        for nonce in transition.spent_mandates:
            for key, _ in tuple(self.records.items(b"mandate/" + nonce)):
                self.records.delete(key)
        if transition.watermark is not None:
            self.records.put(_WATERMARK, encode_sid(transition.watermark))
        for event in transition.events:
            _emit(self.context, encode_event(event))

    def _move(self, item: Movement) -> None:
        view, owner, escrow_id = self.context.view, item.account.decode(), escrow_key(item)
        match item.kind:
            case MovementKind.LOCK:
                accounts.lock(view, escrow_id, item.asset, owner, item.amount)
            case MovementKind.REFUND:
                self._refund(item)
            case MovementKind.BURN:
                _check_amount(accounts.burn_escrow(view, escrow_id).amount, item)
            case MovementKind.CREDIT:
                self._credit(item)

    def _credit(self, item: Movement) -> None:
        """A proven COMMIT is never refused: others have paid already. What the account cannot hold is owed to it."""
        try:
            accounts.mint(self.context.view, item.asset, item.account.decode(), item.amount)
        except Rejected:
            self._add(_SUSPENSE, item.account, item.asset, item.amount)

    def _refund(self, item: Movement) -> None:
        """Nor is a proven ABORT."""
        view, escrow_id = self.context.view, escrow_key(item)
        try:
            held = accounts.refund(view, escrow_id)
        except Rejected:
            held = accounts.burn_escrow(view, escrow_id)
            self._add(_SUSPENSE, item.account, item.asset, item.amount)
        _check_amount(held.amount, item)


def escrow_key(item: Movement) -> bytes:
    """The id of the ledger's escrow that holds a debit."""
    return encode_sid(item.sid) + hashlib.sha256(money_key(b"", item.account, item.asset)).digest()


def _check_amount(held: int, item: Movement) -> None:
    if held != item.amount:
        raise Rejected("escrow_differs", f"{item.sid} holds {held} of {item.amount} {item.asset}")
