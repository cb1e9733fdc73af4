"""Money: accounts, escrows, minting and burning. Amounts are int64 micro-units of an asset, and so are balances, which
never overflow silently. The totals of an asset are 128 bits wide: 2^64 amounts cannot fill them.

Every function either does all of what it says or raises Rejected before it writes. On one chain and for each
asset, accounts + escrows = minted - burned holds after each of them; the rounding account is an account like
any other, except that residues may take it below zero.
"""

from __future__ import annotations

from coordinator.ledger.codec import INT64_MAX, INT64_MIN
from coordinator.ledger.errors import Rejected
from coordinator.ledger.records import Account, Asset, Escrow, checked_asset
from coordinator.ledger.view import View

ROUNDING_OWNER = "rounding"
"""Owner of the residues of rounding. Nobody may register under this name."""


def account(view: View, owner: str, asset: str) -> Account:
    """An account; one that was never used is empty."""
    data = view.get(Account.key(owner, asset))
    return Account() if data is None else Account.decode(data)


def balance(view: View, owner: str, asset: str) -> int:
    """The balance in micro-units."""
    return account(view, owner, asset).balance


def available(view: View, owner: str, asset: str) -> int:
    """What an owner can spend: balance and credit."""
    found = account(view, owner, asset)
    return found.balance + found.credit_limit


def asset_of(view: View, name: str) -> Asset:
    """An asset of this chain. Raises Rejected."""
    data = view.get(Asset.key(checked_asset(name)))
    if data is None:
        raise Rejected("unknown_asset", f"asset {name} is not in genesis")
    return Asset.decode(data)


def escrow_of(view: View, escrow_id: bytes) -> Escrow | None:
    """An escrow, None where there is none."""
    data = view.get(Escrow.key(escrow_id))
    return None if data is None else Escrow.decode(data)


def transfer(view: View, asset: str, payer: str, payee: str, amount: int) -> None:
    """Move money between two owners."""
    _positive(amount)
    asset_of(view, asset)
    if payer == payee:
        raise Rejected("same_account", f"{payer} would pay itself")
    paid = _debited(view, payer, asset, amount)
    received = _credited(view, payee, asset, amount)
    _store(view, payer, asset, paid)
    _store(view, payee, asset, received)


def mint(view: View, asset: str, owner: str, amount: int) -> None:
    """Make money: issued, or credited here because it was burned on another chain."""
    _positive(amount)
    record = asset_of(view, asset)
    received = _credited(view, owner, asset, amount)
    view.put(Asset.key(asset), Asset(record.issuer, record.minted + amount, record.burned).encode())
    _store(view, owner, asset, received)


def burn(view: View, asset: str, owner: str, amount: int) -> None:
    """Destroy money of an owner."""
    _positive(amount)
    record = asset_of(view, asset)
    paid = _debited(view, owner, asset, amount)
    _count_burned(view, asset, record, amount)
    _store(view, owner, asset, paid)


def lock(view: View, escrow_id: bytes, asset: str, owner: str, amount: int) -> None:
    """Set money aside under an id that is not in use."""
    _positive(amount)
    asset_of(view, asset)
    if escrow_of(view, escrow_id) is not None:
        raise Rejected("escrow_exists", f"escrow {escrow_id.hex()} is in use")
    paid = _debited(view, owner, asset, amount)
    _store(view, owner, asset, paid)
    view.put(Escrow.key(escrow_id), Escrow(owner, asset, amount).encode())


def refund(view: View, escrow_id: bytes) -> Escrow:
    """Give an escrow back to its owner."""
    escrow = _existing(view, escrow_id)
    return release(view, escrow_id, escrow.owner)


def release(view: View, escrow_id: bytes, payee: str) -> Escrow:
    """Pay an escrow out."""
    escrow = _existing(view, escrow_id)
    received = _credited(view, payee, escrow.asset, escrow.amount)
    view.delete(Escrow.key(escrow_id))
    _store(view, payee, escrow.asset, received)
    return escrow


def burn_escrow(view: View, escrow_id: bytes) -> Escrow:
    """Destroy an escrow, because its money appears on another chain."""
    escrow = _existing(view, escrow_id)
    _count_burned(view, escrow.asset, asset_of(view, escrow.asset), escrow.amount)
    view.delete(Escrow.key(escrow_id))
    return escrow


def book_residue(view: View, asset: str, owner: str, amount: int) -> None:
    """Move a residue of rounding, of either sign, from the rounding account to an owner's; neither needs cover."""
    asset_of(view, asset)
    if amount == 0 or owner == ROUNDING_OWNER:
        return
    given = _changed(view, owner, asset, amount)
    rounding = _changed(view, ROUNDING_OWNER, asset, -amount)
    _check_limit(given, owner)
    _store(view, owner, asset, given)
    _store(view, ROUNDING_OWNER, asset, rounding)


def set_credit_limit(view: View, asset: str, owner: str, limit: int) -> None:
    """How far an account may go below zero. It cannot be set above what the account owes already."""
    asset_of(view, asset)
    if not 0 <= limit <= INT64_MAX:
        raise Rejected("bad_amount", f"a credit limit of {limit}; it is not negative")
    changed = Account(balance(view, owner, asset), limit)
    _check_limit(changed, owner)
    _store(view, owner, asset, changed)


def _existing(view: View, escrow_id: bytes) -> Escrow:
    escrow = escrow_of(view, escrow_id)
    if escrow is None:
        raise Rejected("no_escrow", f"there is no escrow {escrow_id.hex()}")
    return escrow


def _positive(amount: int) -> None:
    if not 0 < amount <= INT64_MAX:
        raise Rejected("bad_amount", f"an amount of {amount}; it is positive and fits int64")


def _sum(left: int, right: int, what: str) -> int:
    total = left + right
    if not INT64_MIN <= total <= INT64_MAX:
        raise Rejected("overflow", f"{what} would be {total}, outside int64")
    return total


def _changed(view: View, owner: str, asset: str, amount: int) -> Account:
    before = account(view, owner, asset)
    return Account(_sum(before.balance, amount, f"the balance of {owner}"), before.credit_limit)


def _debited(view: View, owner: str, asset: str, amount: int) -> Account:
    after = _changed(view, owner, asset, -amount)
    _check_limit(after, owner)
    return after


def _credited(view: View, owner: str, asset: str, amount: int) -> Account:
    return _changed(view, owner, asset, amount)


def _check_limit(after: Account, owner: str) -> None:
    if owner != ROUNDING_OWNER and after.balance < -after.credit_limit:
        missing = -after.credit_limit - after.balance
        raise Rejected("insufficient_balance", f"{owner} lacks {missing} micro-units")


def _count_burned(view: View, asset: str, record: Asset, amount: int) -> None:
    view.put(Asset.key(asset), Asset(record.issuer, record.minted, record.burned + amount).encode())


def _store(view: View, owner: str, asset: str, changed: Account) -> None:
    key = Account.key(owner, asset)
    if changed == Account():
        view.delete(key)
    else:
        view.put(key, changed.encode())
