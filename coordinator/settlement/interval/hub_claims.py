"""What stands between a region and the hub after nettings that went on without it, and how it is paid.

Such a netting draws what the region would have paid from its collateral account at the hub, and keeps there what it
would have received. The region states (REPAY) that it pays or takes exactly that; by the proof the hub opens a netting
of two legs, between the region's neutral account and its collateral account. Once in an interval, one at a time.

Key                entry
repaid/<number>    the interval in which a region last stated it
"""

from __future__ import annotations

from coordinator.ledger.errors import Rejected
from coordinator.settlement.escrow.admission import reserve
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.hub_record import open_netting
from coordinator.settlement.escrow.renetting import collateral_account
from coordinator.settlement.escrow.types import HUB, NEUTRAL, Leg
from coordinator.settlement.interval.hub_books import HubIntervals
from coordinator.settlement.interval.topics import Interval, Step, Topic, claim_nonce, encode_amount

_REPAID = b"repaid/"


def repayment(books: HubIntervals, number: int) -> Topic | None:
    """What a region may state now about what stands between it and the hub; None where nothing is to be said."""
    parameters, last, repaid = books.parameters, books.last, books.records.get(_key(number))
    name = parameters.regions[number]
    if last is None or repaid == last.encode() or not books.escrow.claim(name, parameters.asset):
        return None
    return None if _is_under_way(books, name) else Topic(last, Step.REPAY)


def amount_to_repay(books: HubIntervals, number: int) -> int:
    """What the region receives by it, in micro-units; negative is paid."""
    parameters = books.parameters
    return -books.escrow.claim(parameters.regions[number], parameters.asset)


def hear(books: HubIntervals, topic: Topic, number: int, message: bytes, height: int) -> None:
    """A region's statement. Raises Rejected."""
    name, asset, amount = books.parameters.regions[number], books.parameters.asset, amount_to_repay(books, number)
    if topic != repayment(books, number):
        raise Rejected("unexpected", f"{topic}: {name} has nothing to repay now; once an interval, one at a time")
    if message != encode_amount(amount):
        raise Rejected("other_message", f"{name} is to receive {amount} micro-units, no other amount")
    nonce = nonce_of(books, topic.interval, name)
    legs = (Leg(HUB, collateral_account(name), asset, -amount), Leg(name, NEUTRAL, asset, amount))
    try:
        if amount < 0:
            books.escrow.apply(reserve(books.escrow, nonce, name, asset, -amount))
        books.escrow.apply(open_netting(books.escrow, nonce, tuple(sorted(legs)), height))
    except EscrowRefused as error:
        raise Rejected("no_collateral", str(error)) from None
    books.records.put(_key(number), topic.interval.encode())


def nonce_of(books: HubIntervals, interval: Interval, name: str) -> bytes:
    """Of the netting."""
    return claim_nonce(interval, books.parameters.topology, books.parameters.asset, name)


def _is_under_way(books: HubIntervals, name: str) -> bool:
    """Whether a netting that changes what is to be repaid is not decided."""
    account = collateral_account(name)
    records = (books.escrow.record(sid) for sid in books.escrow.unclosed())
    undecided = (record for record in records if record is not None and record.outcome is None)
    return any(leg.account == account for record in undecided for leg in record.opening.open.legs if leg.region == HUB)


def _key(number: int) -> bytes:
    return _REPAID + number.to_bytes(4, "big")
