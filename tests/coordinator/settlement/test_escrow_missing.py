"""What a relay finds in the finalized states of two ledgers, at each step of a settlement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.ledger.accounts import available
from coordinator.settlement.escrow.books import RegionEntry
from coordinator.settlement.escrow.encoding import seal
from coordinator.settlement.escrow.errors import RegionHalted
from coordinator.settlement.escrow.finalized import hub_books, region_books
from coordinator.settlement.escrow.handlers import ESCROW_HUB
from coordinator.settlement.escrow.hub_record import freeze
from coordinator.settlement.escrow.ledger_books import HubLedger
from coordinator.settlement.escrow.missing import BOUNDARIES_MAX, Item, Kind, check_agreement, missing
from coordinator.settlement.escrow.proofs import ProvenFork
from coordinator.settlement.escrow.types import Closed, Decided, Opened, Receipt, SettlementId
from protos.gridaccord.v1 import ledger_pb2
from tests.coordinator.settlement.test_escrow_ledger import Ledgers


def found(ledgers: Ledgers, region: str) -> list[tuple[bool, Kind]]:
    scheme = ledgers.hub.scheme
    hub, here = hub_books(ledgers.hub.state, scheme), region_books(ledgers.regions[region].state, scheme)
    check_agreement(hub, here)
    return [(item.to_hub, item.kind) for item in missing(hub, here)]


def to_region(ledgers: Ledgers, region: str, *kinds: type) -> None:
    proofs = ledgers.hub.proofs(*kinds)
    ledgers.regions[region].block(*(("escrow_event", proof) for proof in proofs))


def to_hub(ledgers: Ledgers, region: str) -> None:
    ledgers.hub.block(*(("escrow_receipt", proof) for proof in ledgers.regions[region].proofs(Receipt)))


def test_each_step_of_a_commit_leaves_the_next_one_to_relay() -> None:
    ledgers = Ledgers()
    assert found(ledgers, "A") == found(ledgers, "B") == []
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    assert found(ledgers, "A") == found(ledgers, "B") == [(False, Kind.OPENED)]
    for region in "AB":
        to_region(ledgers, region, Opened)
        assert found(ledgers, region) == [(True, Kind.VERDICT)]
        to_hub(ledgers, region)
        assert found(ledgers, region) == ([] if region == "A" else [(False, Kind.DECIDED)])
    assert found(ledgers, "A") == [(False, Kind.DECIDED)]
    for region in "AB":
        to_region(ledgers, region, Decided)
        assert found(ledgers, region) == [(True, Kind.APPLIED)]
        to_hub(ledgers, region)
        assert found(ledgers, region) == []
    while not ledgers.hub.proofs(Closed):
        ledgers.hub.block()
    for region in "AB":
        assert found(ledgers, region) == [(False, Kind.CLOSED)]
        to_region(ledgers, region, Closed)
        assert found(ledgers, region) == []


def test_an_abort_is_relayed_to_who_never_saw_the_opening_and_no_verdict_after_it() -> None:
    ledgers = Ledgers()
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    to_region(ledgers, "A", Opened)
    while not ledgers.hub.proofs(Decided):
        ledgers.hub.block()
    # The record is closed with the block that aborts it, so only money in doubt and the watermark are left.
    assert found(ledgers, "A") == [(False, Kind.DECIDED), (False, Kind.CLOSED)]
    assert found(ledgers, "B") == [(False, Kind.CLOSED)]
    to_region(ledgers, "A", Closed)
    assert found(ledgers, "A") == [(False, Kind.DECIDED)]


def test_after_a_no_of_one_region_the_yes_of_another_has_nothing_to_say() -> None:
    ledgers = Ledgers()
    opening = ledgers.opening()
    forged = replace(opening.open.authorisations[0], signature=bytes(64))
    ledgers.hub.block(("escrow_open", seal(replace(opening.open, authorisations=(forged,))).encoded))
    to_region(ledgers, "A", Opened)
    to_region(ledgers, "B", Opened)
    assert found(ledgers, "A") == found(ledgers, "B") == [(True, Kind.VERDICT)]
    to_hub(ledgers, "A")
    assert len(ledgers.hub_books().unclosed()) == 1
    assert found(ledgers, "A") == found(ledgers, "B") == [(False, Kind.DECIDED)]


def test_a_yes_whose_settlement_the_hub_has_forgotten_is_still_in_doubt() -> None:
    ledgers = Ledgers()
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    for region in "AB":
        to_region(ledgers, region, Opened)
        to_hub(ledgers, region)
    (sid,) = ledgers.hub_books().unclosed()
    while ledgers.hub_books().unclosed():
        ledgers.hub.block()
    assert (False, Kind.DECIDED) in found(ledgers, "A")
    to_region(ledgers, "A", Decided, Closed)
    assert found(ledgers, "A") == []
    assert ledgers.region_books("A").watermark == sid


def test_a_commit_against_a_final_no_is_a_contradiction_that_stops_the_region() -> None:
    ledgers, other = Ledgers(), Ledgers()
    for world in (ledgers, other):
        world.hub.block(("escrow_open", world.opening().encoded))
    all_of_it = available(ledgers.regions["A"].state.view, "alice", "EUR")
    spent = ledger_pb2.Transfer(to="bob", asset="EUR", amount=all_of_it).SerializeToString()
    assert ledgers.regions["A"].block(("transfer", spent), signer="alice") == [""]
    to_region(ledgers, "A", Opened)
    other.relay()
    here = region_books(ledgers.regions["A"].state, ledgers.hub.scheme)
    check_agreement(hub_books(ledgers.hub.state, ledgers.hub.scheme), here)
    with pytest.raises(RegionHalted, match="7/0 is NO in A and COMMIT on the hub"):
        check_agreement(hub_books(other.hub.state, other.hub.scheme), here)


def test_boundaries_that_are_over_come_in_order_and_bounded() -> None:
    ledgers = Ledgers(epoch_length=5)
    for _ in range(5 * BOUNDARIES_MAX + 20):
        ledgers.regions["A"].block()
    scheme = ledgers.hub.scheme
    items = missing(hub_books(ledgers.hub.state, scheme), region_books(ledgers.regions["A"].state, scheme))
    assert [item for item in items if item.to_hub] == [
        Item("A", True, Kind.BOUNDARY, epoch=epoch) for epoch in range(BOUNDARIES_MAX)
    ]
    over = ledgers.hub.state.header.height // 5
    assert [item.epoch for item in items if not item.to_hub] == list(range(over))


def test_nothing_goes_to_the_hub_from_a_frozen_or_unknown_region() -> None:
    ledgers = Ledgers()
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    to_region(ledgers, "A", Opened)
    books = HubLedger(ledgers.hub.books(ESCROW_HUB))
    books.apply(freeze(books, ProvenFork(ledgers.regions["A"].chain_id, 1), "A"))
    scheme = ledgers.hub.scheme
    assert missing(books, region_books(ledgers.regions["A"].state, scheme)) == ()
    unknown = Ledgers()
    here = region_books(ledgers.regions["B"].state, scheme)
    strange = hub_books(unknown.hub.state, scheme)
    strange.records.delete(b"region/B")
    assert missing(strange, here) == ()


def test_nothing_is_relayed_for_a_chain_that_the_hub_knows_not_under_this_name() -> None:
    ledgers = Ledgers()
    ledgers.hub.block(("escrow_open", ledgers.opening().encoded))
    assert found(ledgers, "B") == [(False, Kind.OPENED)]
    scheme = ledgers.hub.scheme
    books = hub_books(ledgers.hub.state, scheme)
    books.put_region(RegionEntry("B", ledgers.regions["A"].chain_id, 0))
    assert missing(books, region_books(ledgers.regions["B"].state, scheme)) == ()


def test_an_item_says_what_it_is() -> None:
    assert str(Item("A", True, Kind.VERDICT, SettlementId(7, 1))) == "A to hub: verdict 7/1"
    assert str(Item("A", False, Kind.BOUNDARY, epoch=3)) == "hub to A: boundary 3"
