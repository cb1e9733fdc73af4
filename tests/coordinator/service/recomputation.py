"""Balances recomputed from ledger files: genesis accounts, transactions and receipts, without the state machine.

A region says in events that it agreed to a settlement and that it applied the decision; how much that moves stands in
the OPEN on the hub, and which way in the hub's decision. What bills move follows from the statements of its validators:
schedules with prices, and metered energy (`bills`).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator.ledger.block import decode_payload
from coordinator.ledger.receipt import Receipt, decode_receipt
from coordinator.ledger.records import ACCOUNT, ESCROW, Account, Escrow, account_owner
from coordinator.ledger.transaction import Transaction
from coordinator.settlement.escrow.chains import ESCROW_EVENT
from coordinator.settlement.escrow.encoding import decode_event
from coordinator.settlement.escrow.types import (
    Decided,
    Event,
    Kind,
    Leg,
    Opened,
    Outcome,
    SettlementId,
    Verdict,
)
from coordinator.settlement.escrow.types import Receipt as Said
from protos.gridaccord.v1 import ledger_pb2 as pb
from tests.coordinator.service.bills import Balances, Bills


@dataclass(slots=True)
class Settlement:
    """As the hub's ledger has it: more than one outcome is a contradiction."""

    legs: tuple[Leg, ...]
    participants: tuple[str, ...]
    nonce: bytes = b""
    is_netting: bool = False
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def committed(self) -> bool:
        """Whether money moves."""
        return self.outcomes == [Outcome.COMMIT]


Settlements = dict[SettlementId, Settlement]


@dataclass(frozen=True, slots=True)
class RegionBooks:
    """What follows from a region's blocks. `said` are its receipts of each settlement, in order."""

    balances: Balances = field(default_factory=Counter)
    escrowed: Counter[SettlementId] = field(default_factory=Counter)
    said: dict[SettlementId, list[Verdict]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredBooks:
    """What a node holds to be the state: balances that are not zero, and everything that is in escrow."""

    balances: Balances
    escrowed: int


def settlements_of(hub: Path) -> Settlements:
    """Everything that a hub's ledger has opened."""
    found: Settlements = {}
    for _, receipt in _carried_out(hub):
        for event in _events(receipt):
            match event:
                case Opened(sid, opening):
                    assert sid not in found, f"{hub}: {sid} was opened twice"
                    opened = opening.open
                    is_netting = opened.kind is Kind.NETTING
                    found[sid] = Settlement(opened.legs, opened.participants, opened.nonce, is_netting)
                case Decided(sid, _, outcome):
                    found[sid].outcomes.append(outcome)
    return found


def recompute(ledger: Path, region: str, settlements: Mapping[SettlementId, Settlement]) -> RegionBooks:
    """A region's books after the last block of a ledger."""
    books, genesis = RegionBooks(), _genesis(ledger)
    bills = Bills(genesis, books.balances)
    for account in genesis["accounts"]:
        books.balances[account["owner"], account["asset"]] += account["balance"]
    for transaction, receipt in _carried_out(ledger):
        if transaction is not None:
            _move(books.balances, transaction)
            bills.take(transaction, receipt)
        for event in _events(receipt):
            if isinstance(event, Said):
                _settle(books, region, event, settlements[event.sid])
    return RegionBooks(_not_zero(books.balances), +books.escrowed, books.said)


def _move(balances: Balances, transaction: Transaction) -> None:
    match transaction.kind:
        case "transfer":
            moved = pb.Transfer.FromString(transaction.content)
            balances[transaction.signer, moved.asset] -= moved.amount
            balances[moved.to, moved.asset] += moved.amount
        case "mint":
            issued = pb.Issue.FromString(transaction.content)
            balances[issued.owner, issued.asset] += issued.amount
        case "burn":
            issued = pb.Issue.FromString(transaction.content)
            balances[issued.owner, issued.asset] -= issued.amount


def _settle(books: RegionBooks, region: str, said: Said, settlement: Settlement) -> None:
    """YES takes the debits out of the accounts; APPLIED pays the credits, or gives the debits back."""
    earlier = books.said.setdefault(said.sid, [])
    earlier.append(said.verdict)
    legs = [leg for leg in settlement.legs if leg.region == region]
    if said.verdict is Verdict.YES:
        for leg in legs:
            _change(books, said.sid, leg, min(leg.amount, 0))
    elif said.verdict is Verdict.APPLIED and Verdict.YES in earlier:
        for leg in legs:
            books.escrowed[said.sid] += min(leg.amount, 0)
            gained = max(leg.amount, 0) if settlement.committed else -min(leg.amount, 0)
            books.balances[leg.account.decode(), leg.asset] += gained


def _change(books: RegionBooks, sid: SettlementId, leg: Leg, amount: int) -> None:
    books.balances[leg.account.decode(), leg.asset] += amount
    books.escrowed[sid] -= amount


def stored(ledger: Path) -> StoredBooks:
    """The accounts and escrows of a ledger's state."""
    with closing(_open(ledger)) as connection:
        entries = connection.execute("SELECT key, value FROM state").fetchall()
    balances: Balances = Counter()
    for key, value in entries:
        if key.startswith(ACCOUNT):
            balances[account_owner(key)] = Account.decode(value).balance
    escrowed = sum(Escrow.decode(value).amount for key, value in entries if key.startswith(ESCROW))
    return StoredBooks(_not_zero(balances), escrowed)


def height_of(ledger: Path) -> int:
    """Of the last block; 0 where there is no ledger, or one that has just been begun."""
    try:
        with closing(_open(ledger)) as connection:
            (height,) = connection.execute("SELECT max(height) FROM blocks").fetchone()
    except sqlite3.OperationalError:
        return 0
    return height or 0


def digests(ledger: Path) -> list[bytes]:
    """Of all blocks, genesis first."""
    with closing(_open(ledger)) as connection:
        return [digest for (digest,) in connection.execute("SELECT digest FROM blocks ORDER BY height")]


def registers(ledger: Path) -> dict[tuple[str, int], int]:
    """Readings, in Wh, by device and the interval's begin."""
    with closing(_open(ledger)) as connection:
        rows = connection.execute("SELECT device, start_s, register_wh FROM readings").fetchall()
    found = {(device, start_s): register_wh for device, start_s, register_wh in rows}
    assert len(found) == len(rows), f"{ledger}: an interval was read twice"
    return found


def _carried_out(ledger: Path) -> Iterator[tuple[Transaction | None, Receipt]]:
    """In order: transactions that were carried out with their receipts, and what the ends of blocks did."""
    with closing(_open(ledger)) as connection:
        payloads = connection.execute("SELECT height, payload FROM blocks WHERE height > 0 ORDER BY height").fetchall()
        rows = connection.execute("SELECT height, receipt FROM receipts ORDER BY height, place").fetchall()
    receipts: dict[int, list[Receipt]] = {}
    for height, encoded in rows:
        receipts.setdefault(height, []).append(decode_receipt(encoded))
    for height, payload in payloads:
        transactions = [signed.transaction for signed in decode_payload(payload)]
        for transaction, receipt in zip([*transactions, None], receipts[height], strict=True):
            if not receipt.code:
                yield transaction, receipt


def _events(receipt: Receipt) -> list[Event]:
    return [decode_event(event.payload) for event in receipt.events if event.kind == ESCROW_EVENT]


def _genesis(ledger: Path) -> dict[str, Any]:
    with closing(_open(ledger)) as connection:
        (encoded,) = connection.execute("SELECT value FROM meta WHERE name = 'genesis'").fetchone()
    document: dict[str, Any] = json.loads(encoded)
    return document


def _open(ledger: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)


def _not_zero(balances: Balances) -> Balances:
    return Counter({account: balance for account, balance in balances.items() if balance})
