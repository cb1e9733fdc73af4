"""The books of one chain: money neither appears nor vanishes, nobody is below the credit limit.

`check_books` adds up everything; `check_changes` what a block changed, in time proportional to that. A chain whose
books held at genesis and whose every block passes `check_changes` passes `check_books`. Tests, simulator and audit
call the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.ledger.accounts import ROUNDING_OWNER
from coordinator.ledger.codec import INT64_MAX
from coordinator.ledger.errors import BooksBroken
from coordinator.ledger.records import ACCOUNT, ASSET, ESCROW, Account, Asset, Escrow, account_owner
from coordinator.ledger.state_tree import StateTree

_BOOKED = (ACCOUNT, ASSET, ESCROW)


def check_books(tree: StateTree) -> None:
    """For each asset: accounts + escrows = minted - burned. Raises BooksBroken."""
    sums: dict[str, int] = {}
    for prefix in _BOOKED:
        for key, value in tree.items(prefix):
            _check_entry(key, value)
            _add(sums, key, value, 1)
    _check_sums(sums)


def check_changes(before: StateTree, after: StateTree, touched: Sequence[bytes]) -> None:
    """That the changes of a block keep the books. Raises BooksBroken."""
    sums: dict[str, int] = {}
    for key in dict.fromkeys(touched):
        if not key.startswith(_BOOKED):
            continue
        old, new = before.get(key), after.get(key)
        if old is not None:
            _add(sums, key, old, -1)
        if new is not None:
            _check_entry(key, new)
            _add(sums, key, new, 1)
        if key.startswith(ASSET):
            _check_totals_grow(key, old, new)
    _check_sums(sums)


def _add(sums: dict[str, int], key: bytes, value: bytes, sign: int) -> None:
    """Money on hand counts up, money that was minted down and burned up: the sum of an asset is zero."""
    if key.startswith(ACCOUNT):
        _, asset = account_owner(key)
        amount = Account.decode(value).balance
    elif key.startswith(ESCROW):
        escrow = Escrow.decode(value)
        asset, amount = escrow.asset, escrow.amount
    else:
        record = Asset.decode(value)
        asset, amount = key.removeprefix(ASSET).decode(), record.burned - record.minted
    sums[asset] = sums.get(asset, 0) + sign * amount


def _check_sums(sums: dict[str, int]) -> None:
    for asset, missing in sums.items():
        if missing:
            raise BooksBroken(f"{asset}: accounts and escrows differ from minted - burned by {missing} micro-units")


def _check_entry(key: bytes, value: bytes) -> None:
    if key.startswith(ACCOUNT):
        owner, asset = account_owner(key)
        account = Account.decode(value)
        if account.credit_limit < 0:
            raise BooksBroken(f"{owner} has a credit limit of {account.credit_limit} micro-{asset}")
        if owner != ROUNDING_OWNER and account.balance < -account.credit_limit:
            raise BooksBroken(f"{owner} is at {account.balance} micro-{asset}, its limit is {-account.credit_limit}")
    elif key.startswith(ESCROW) and not 0 < Escrow.decode(value).amount <= INT64_MAX:
        raise BooksBroken(f"escrow {key.removeprefix(ESCROW).hex()} does not hold a positive amount")


def _check_totals_grow(key: bytes, old: bytes | None, new: bytes | None) -> None:
    then = Asset("") if old is None else Asset.decode(old)
    if new is None or Asset.decode(new).minted < then.minted or Asset.decode(new).burned < then.burned:
        raise BooksBroken(f"the totals of {key.removeprefix(ASSET).decode()} went down")
