"""Amounts of an asset as entries of a ledger's state, in micro-units."""

from __future__ import annotations

from coordinator.ledger.codec import Writer
from coordinator.ledger.view import Records

SUM_SIZE = 16


def money_key(kind: bytes, name: bytes, asset: str) -> bytes:
    """Where an amount of an asset stands."""
    return kind + name + b"\0" + asset.encode()


def money(records: Records, key: bytes) -> int:
    """An amount; zero where there is no entry."""
    data = records.get(key)
    return 0 if data is None else int.from_bytes(data, "big", signed=True)


def set_money(records: Records, key: bytes, amount: int) -> None:
    """Write an amount of int64; zero leaves no entry."""
    if amount:
        records.put(key, Writer().int64(amount).encoded)
    else:
        records.delete(key)


def set_sum(records: Records, key: bytes, amount: int) -> None:
    """A sum of many amounts, which int64 need not hold."""
    if amount:
        records.put(key, amount.to_bytes(SUM_SIZE, "big", signed=True))
    else:
        records.delete(key)
