"""What bills move in a region, from what its validators stated: schedules with prices, and metered energy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from coordinator.ledger.receipt import Receipt
from coordinator.ledger.transaction import Transaction
from coordinator.settlement.interval.schedules import decode_metered, decode_schedule
from coordinator.settlement.interval.topics import Interval, Step, Topic
from tests.coordinator.service.statements import Statements

Balances = Counter[tuple[str, str]]
"""By owner and asset, in micro-units."""
_NEUTRAL = "neutral"
_WH_PER_MWH, _PRICE_SCALE = 10**6, 2**20


class Bills:
    """Of one region, applied to balances as its chain's transactions come."""

    def __init__(self, genesis: Mapping[str, Any], balances: Balances) -> None:
        modules = genesis.get("modules", {})
        section = modules.get("interval_region", {})
        assert not section.get("imbalance_spread"), "deviations are paid at the price of the schedule here"
        self._owner = {one["name"]: one["owner"] for one in section.get("resources", ())}
        self._asset = section.get("asset", "")
        self._balances = balances
        self._credit = {one["owner"]: one.get("credit_limit", 0) for one in genesis["accounts"]}
        self._credit[_NEUTRAL] = modules.get("escrow_region", {}).get("limits", {}).get(self._asset, 0)
        self._statements = Statements()
        self._prices: dict[tuple[Interval, str], int] = {}
        self._credited: Counter[tuple[Interval, str]] = Counter()
        self._owed: Counter[str] = Counter()

    def take(self, transaction: Transaction, receipt: Receipt) -> None:
        """The next transaction that was carried out."""
        for topic, message in self._statements.of(transaction, receipt):
            if topic.step is Step.SCHEDULE:
                rows = decode_schedule(message).rows
                self._prices |= {(topic.interval, row.resource): row.price for row in rows}
            elif topic.step is Step.METERED:
                self._bill(topic, message)

    def _bill(self, topic: Topic, message: bytes) -> None:
        """Energy times price, rounded once, half to even; a later version pays the difference."""
        for row in decode_metered(message):
            place = topic.interval, row.resource
            due = round(Fraction(row.energy_wh * self._prices[place], _WH_PER_MWH * _PRICE_SCALE))
            self._pay(self._owner[row.resource], due - self._credited[place])
            self._credited[place] = due

    def _pay(self, owner: str, amount: int) -> None:
        """Between the neutral account and an owner; all of it or, where the payer has too little, nothing now."""
        due = amount + self._owed[owner]
        payer, payee = (_NEUTRAL, owner) if due > 0 else (owner, _NEUTRAL)
        available = self._balances[payer, self._asset] + self._credit[payer]
        self._owed[owner] = due if abs(due) > available else 0
        if abs(due) <= available:
            self._balances[payer, self._asset] -= abs(due)
            self._balances[payee, self._asset] += abs(due)
