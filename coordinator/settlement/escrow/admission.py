"""H1: which OPENs the hub takes, and how much of a region's collateral they use.

    net debit so far + debits of OPEN settlements + collateral set aside for couplings  <=  limit

The debit of a netting counts against what was set aside for it and only beyond that against the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coordinator.settlement.escrow import guards
from coordinator.settlement.escrow.books import HubBooks
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.records import HubRecord, HubTransition, Reservation
from coordinator.settlement.escrow.types import AMOUNT_MAX, HUB, INDEX_MAX, Kind, Open, Opening, SettlementId

ASSETS_MAX = 8
"""Of one OPEN."""


def next_sid(books: HubBooks, height: int) -> SettlementId:
    """The id of the next settlement opened in this block."""
    last = books.last_sid
    if last is None or last.height < height:
        return SettlementId(height, 0)
    assert last.height == height, f"settlement {last} was opened above height {height}"
    if last.index == INDEX_MAX:
        raise EscrowRefused("H1", "the block is full; open in the next one")
    return SettlementId(height, last.index + 1)


def check_payment(books: HubBooks, opening: Opening, height: int, signer: str = "") -> None:
    """H1 for what an owner submits."""
    content = opening.open
    if content.kind is not Kind.PAYMENT or content.replaces is not None or content.legs_of(HUB):
        raise EscrowRefused("H1", "only the hub opens nettings and moves its own accounts; submit a payment")
    if len(content.participants) < 2:
        raise EscrowRefused("H1", "a payment within one region needs no hub; transfer on the region's chain")
    debited = tuple(sorted({(leg.region, leg.account) for leg in content.legs if leg.amount < 0}))
    if debited != tuple((item.region, item.account) for item in content.authorisations):
        raise EscrowRefused("H1", "every debited account, and no other, needs one authorisation of its owner")
    for name in content.participants:
        entry = books.region(name)
        if entry is None or not entry.active or entry.frozen:
            raise EscrowRefused("H1", f"{name} is not an active region, or is frozen; settle with others")
        if any(region == name for region, _ in debited) and not guards.may_open(signer, entry.openers):
            raise EscrowRefused("H1", f"{signer!r} may not open what debits {name}; submit by a name it registered")
    parameters = books.parameters
    shortest, longest = parameters.window_min_blocks, parameters.window_max_blocks
    if not guards.deadline_in_bounds(height, content.deadline_height, shortest, longest):
        raise EscrowRefused(
            "H1",
            f"deadline {content.deadline_height} at height {height}; choose {height + shortest} to {height + longest}",
        )
    _check_legs(books, content)
    for asset in content.assets:
        if not any(books.limit(region, asset) for region in content.participants):
            raise EscrowRefused("H1", f"nobody here has collateral in {asset}; it is not settled between them")
    _check_unclosed(books, opening, signer)


def _check_unclosed(books: HubBooks, opening: Opening, signer: str) -> None:
    parameters, unclosed = books.parameters, tuple(_records(books))
    if not guards.is_new([record.opening.body_digest for record in unclosed], opening.body_digest):
        raise EscrowRefused("H1", "this was opened before; sign anew, with another nonce")
    payments = [record for record in unclosed if record.opening.open.kind is Kind.PAYMENT]
    if len(payments) >= parameters.payments_max:
        raise EscrowRefused("H1", f"{parameters.payments_max} payments are not closed; wait until some are")
    if sum(record.signer == signer for record in payments) >= parameters.signer_max:
        raise EscrowRefused("H1", f"{parameters.signer_max} payments of {signer!r} are not closed; wait for some")
    _check_amounts(books, opening.open, unclosed)


def check_netting(books: HubBooks, opening: Opening, height: int) -> None:
    """H1 for the netted legs of an interval."""
    content = opening.open
    _check_legs(books, content)
    unclosed = tuple(_records(books))
    nettings = [record for record in unclosed if record.opening.open.kind is Kind.NETTING]
    for record in nettings:
        if record.opening.open.nonce == content.nonce:
            raise EscrowRefused("H1", f"this netting is open as {record.sid}")
    if len(nettings) >= books.parameters.nettings_max:
        raise EscrowRefused("H1", f"{books.parameters.nettings_max} nettings are not closed; wait until some are")
    for region in content.participants:
        for asset in content.assets:
            if content.net(region, asset) < 0 and not books.reserved(content.nonce, region, asset):
                raise EscrowRefused("H1", f"{region} was coupled without collateral set aside; reserve before coupling")
    _check_amounts(books, content, unclosed)


def _check_legs(books: HubBooks, content: Open) -> None:
    """What can be refused without a look at other settlements."""
    if content.hub_chain_id != books.chain_id:
        raise EscrowRefused("H1", "the OPEN is for another hub; sign for this one")
    if any(leg.amount == 0 for leg in content.legs):
        raise EscrowRefused("H1", "a leg moves nothing; leave it out")
    if len(content.assets) > ASSETS_MAX:
        raise EscrowRefused("H1", f"legs in {len(content.assets)} assets; settle at most {ASSETS_MAX} at once")
    for asset in content.assets:
        if not guards.balanced([leg.amount for leg in content.legs if leg.asset == asset]):
            raise EscrowRefused("H1", f"the legs in {asset} do not sum to zero")


def _check_amounts(books: HubBooks, content: Open, unclosed: Sequence[HubRecord]) -> None:
    undecided = [record for record in unclosed if record.outcome is None]
    for region in content.participants:
        for asset in content.assets:
            _check_collateral(books, content, region, asset, undecided)


def _check_collateral(books: HubBooks, content: Open, region: str, asset: str, undecided: Sequence[HubRecord]) -> None:
    net = content.net(region, asset)
    credits = sum(max(0, record.opening.open.net(region, asset)) for record in undecided)
    gross = sum(abs(leg.amount) for leg in content.legs_of(region) if leg.asset == asset)
    if gross > AMOUNT_MAX or books.position(region, asset) + credits + max(0, net) > AMOUNT_MAX:
        raise EscrowRefused("H1", f"amounts of {region} in {asset} leave int64; settle less at once")
    needed = _exposure(books, region, asset, undecided) + _uncovered(books, content, region, asset)
    if net < 0 and not guards.covered(needed, books.limit(region, asset)):
        raise EscrowRefused(
            "H1", f"{region} would owe {needed} {asset} of at most {books.limit(region, asset)}; add collateral"
        )


def exposure(books: HubBooks, region: str, asset: str) -> int:
    """What a region could come to owe by everything that is under way, in micro-units."""
    return _exposure(books, region, asset, [record for record in _records(books) if record.outcome is None])


def _exposure(books: HubBooks, region: str, asset: str, undecided: Sequence[HubRecord]) -> int:
    opened = sum(_uncovered(books, record.opening.open, region, asset) for record in undecided)
    return opened + books.coupling_exposure(region, asset) - books.position(region, asset)


def reserve(books: HubBooks, nonce: bytes, region: str, asset: str, amount: int) -> HubTransition:
    """Set collateral aside before a coupling. A region for which this is refused is not coupled."""
    if amount <= 0 or books.reserved(nonce, region, asset):
        raise EscrowRefused("H1", "reserve a positive amount, once for each coupling, region and asset")
    if not guards.covered(exposure(books, region, asset) + amount, books.limit(region, asset)):
        raise EscrowRefused("H1", f"{region} has no free collateral of {amount} {asset}; it is not coupled")
    return HubTransition(reserved=(Reservation(nonce, region, asset, amount),))


def _uncovered(books: HubBooks, content: Open, region: str, asset: str) -> int:
    """The debit of a settlement beyond what was set aside for it."""
    reserved = books.reserved(content.nonce, region, asset) if content.kind is Kind.NETTING else 0
    return max(0, -content.net(region, asset) - reserved)


def _records(books: HubBooks) -> Iterator[HubRecord]:
    """Each is decoded, so callers go through this once."""
    for sid in books.unclosed():
        record = books.record(sid)
        assert record is not None, f"{sid} is listed as unclosed and has no record"
        yield record
