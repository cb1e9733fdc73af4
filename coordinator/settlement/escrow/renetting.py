"""No region can veto everybody's money: netting again without those who said NO or stayed silent.

The legs of the others stay as they are. What an excluded region would have paid is drawn from the collateral that the
hub reserved before the coupling; what it would have received waits there for it. Either is a leg of the hub's own
account for that region, so the sum per asset stays zero to the micro-unit, and either is a claim between the two.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.settlement.escrow.records import Claim
from coordinator.settlement.escrow.types import AMOUNT_MAX, HUB, Leg

_COLLATERAL = b"collateral/"


def collateral_account(region: str) -> bytes:
    """The hub's account that holds the collateral of a region."""
    return _COLLATERAL + region.encode()


def collateral_owner(account: bytes) -> str | None:
    """The region whose collateral a hub account holds; None for the hub's other accounts."""
    return account.removeprefix(_COLLATERAL).decode() if account.startswith(_COLLATERAL) else None


def without(legs: Sequence[Leg], excluded: Sequence[str]) -> tuple[Leg, ...]:
    """The legs once more, those of excluded regions on the hub's collateral account: one leg an account and asset.

    Where a region was to repay what stands on that account, nothing is left of either leg.
    """
    assert HUB not in excluded, "the hub's own legs cannot be excluded"
    sums: dict[tuple[str, bytes, str], int] = {}
    for leg in legs:
        is_out = leg.region in excluded
        place = (HUB, collateral_account(leg.region), leg.asset) if is_out else (leg.region, leg.account, leg.asset)
        sums[place] = sums.get(place, 0) + leg.amount
    for (_, account, _), net in sums.items():
        assert abs(net) <= AMOUNT_MAX, f"the net of {account!r} leaves int64; OPEN should have refused it"
    return tuple(sorted(Leg(*place, net) for place, net in sums.items() if net))


def claims(legs: Sequence[Leg]) -> tuple[Claim, ...]:
    """What the excluded regions owe the hub (positive) or are owed by it, by the legs on their collateral."""
    owners = [(collateral_owner(leg.account), leg) for leg in legs if leg.region == HUB]
    return tuple(Claim(owner, leg.asset, -leg.amount) for owner, leg in owners if owner is not None)
