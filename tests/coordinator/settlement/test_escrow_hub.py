"""Rules of the hub one by one: admission, collateral, decisions, nettings and re-nettings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.settlement.escrow.admission import exposure, reserve
from coordinator.settlement.escrow.books import HubParameters, RegionEntry, shortest_window_blocks
from coordinator.settlement.escrow.encoding import seal
from coordinator.settlement.escrow.errors import EscrowRefused
from coordinator.settlement.escrow.hub_record import end_of_block, freeze, open_netting, open_payment
from coordinator.settlement.escrow.memory import HubMemory
from coordinator.settlement.escrow.proofs import ProvenFork
from coordinator.settlement.escrow.records import HubTransition
from coordinator.settlement.escrow.region_record import Moment, on_hub_event
from coordinator.settlement.escrow.renetting import claims, collateral_account, without
from coordinator.settlement.escrow.scenarios import NONCE, Scenario, build
from coordinator.settlement.escrow.types import (
    HUB,
    NEUTRAL,
    Authorisation,
    Kind,
    Leg,
    Opened,
    Outcome,
    Reason,
    SettlementId,
    Verdict,
)
from coordinator.settlement.escrow.world import chain_id
from tests.coordinator.settlement.escrow_support import (
    EUR,
    FIRST,
    LEGS,
    Chains,
    hub_books,
    leg,
    payment,
    proven_hub,
)

NETTING = Scenario("netting", (-10, 4, 6), kind=Kind.NETTING, window_blocks=2)


def netting() -> Chains:
    """Three regions with a netting open: A pays 10, B receives 4, C receives 6."""
    chains = Chains()
    world = build(NETTING)
    chains.supply = build(replace(NETTING)).supply()
    chains.put(world)
    return chains


def neutral(name: str, amount: int) -> Leg:
    return Leg(name, NEUTRAL, EUR, amount)


@pytest.mark.parametrize(("deadline", "taken"), [(2, False), (3, True), (7, True), (8, False)])
def test_h1_the_deadline_lies_in_its_bounds(deadline: int, taken: bool) -> None:
    books = hub_books(window=(2, 6))
    if taken:
        assert open_payment(books, payment(deadline=deadline).encoded, 1).records
        return
    with pytest.raises(EscrowRefused, match="choose 3 to 7"):
        open_payment(books, payment(deadline=deadline).encoded, 1)


def test_h1_the_shortest_window_outlasts_faulty_leaders() -> None:
    assert shortest_window_blocks(max_faulty=1, round_trip_blocks=2) == 5


def test_h1_ids_ascend_within_a_block_and_over_blocks() -> None:
    books = hub_books()
    sids = []
    for nonce, height in enumerate((1, 1, 4, 4)):
        transition = open_payment(books, payment(nonce=nonce, deadline=9).encoded, height)
        books = books.apply(transition)
        sids.append(transition.records[0].sid)
    assert sids == [SettlementId(1, 0), SettlementId(1, 1), SettlementId(4, 0), SettlementId(4, 1)]


@pytest.mark.parametrize(("change", "word"), [({"active": False}, "not an active"), ({"frozen": True}, "frozen")])
def test_h1_inactive_and_frozen_regions_cannot_take_part(change: dict[str, bool], word: str) -> None:
    books = hub_books()
    entry = replace(books.regions["B"], **change)
    with pytest.raises(EscrowRefused, match=word):
        open_payment(replace(books, regions={**books.regions, "B": entry}), payment().encoded, 1)


def test_h1_every_debit_has_one_authorisation_and_nothing_else_has() -> None:
    bare = seal(replace(payment().open, authorisations=()))
    extra = seal(
        replace(
            payment().open, authorisations=(*payment().open.authorisations, Authorisation("B", b"owner", b"s" * 64))
        )
    )
    for opening in (bare, extra):
        with pytest.raises(EscrowRefused, match="needs one authorisation"):
            open_payment(hub_books(), opening.encoded, 1)


def test_h1_a_netting_cannot_be_submitted() -> None:
    opening = seal(replace(payment().open, kind=Kind.NETTING))
    with pytest.raises(EscrowRefused, match="only the hub opens nettings"):
        open_payment(hub_books(), opening.encoded, 1)


def test_h1_no_more_than_so_many_payments_are_unclosed_and_nettings_have_places_of_their_own() -> None:
    books = replace(hub_books(), parameters=HubParameters(1, 10, 2, payments_max=1))
    transition = open_payment(books, payment().encoded, 1)
    books = books.apply(transition)
    decided = replace(transition.records[0], outcome=Outcome.ABORT, reason=Reason.SAID_NO, decided_height=2)
    for case in (books, books.apply(HubTransition(records=(decided,)))):
        with pytest.raises(EscrowRefused, match="1 payments are not closed"):
            open_payment(case, payment(nonce=2).encoded, 1)
    books = books.apply(reserve(books, NONCE, "A", EUR, 10))
    assert open_netting(books, NONCE, (neutral("A", -10), neutral("B", 10)), 2).records


def test_h1_a_signer_has_only_some_of_the_places() -> None:
    regions = {name: replace(entry, openers=("eve", "ann")) for name, entry in hub_books().regions.items()}
    books = replace(hub_books(), parameters=HubParameters(1, 10, 2, signer_max=1), regions=regions)
    books = books.apply(open_payment(books, payment().encoded, 1, "eve"))
    with pytest.raises(EscrowRefused, match="1 payments of 'eve'"):
        open_payment(books, payment(nonce=2).encoded, 1, "eve")
    assert open_payment(books, payment(nonce=2).encoded, 1, "ann").records


def test_h1_every_debited_region_has_registered_who_opens() -> None:
    books = hub_books()
    books = replace(books, regions={**books.regions, "A": replace(books.regions["A"], openers=("ann",))})
    with pytest.raises(EscrowRefused, match="'' may not open what debits A"):
        open_payment(books, payment().encoded, 1)
    assert open_payment(books, payment().encoded, 1, "ann").records
    with pytest.raises(EscrowRefused, match="'ann' may not open what debits B"):
        open_payment(books, payment((leg("A", -4), leg("B", -4), leg("C", 8))).encoded, 1, "ann")


def test_h1_assets_are_few_and_backed_by_somebody() -> None:
    pair = (leg("A", -1, asset="XYZ"), leg("A", 1, b"other", asset="XYZ"))
    with pytest.raises(EscrowRefused, match="nobody here has collateral in XYZ"):
        open_payment(hub_books(), payment((*LEGS, *pair)).encoded, 1)
    many = tuple(leg(name, amount, asset=f"X{n}") for n in range(9) for name, amount in (("A", -1), ("B", 1)))
    with pytest.raises(EscrowRefused, match="9 assets"):
        open_payment(hub_books(), payment(many).encoded, 1)


def test_h2_all_that_may_be_open_can_end_in_one_block() -> None:
    with pytest.raises(AssertionError, match="one block cannot end"):
        HubParameters(1, 10, 2, payments_max=242)


def test_h5_a_silent_region_does_not_stop_the_pruning_of_others() -> None:
    """Neither what it never answered nor what it agreed to and never applied."""
    chains = Chains(hub=hub_books(window=(1, 4)))
    chains.open(payment((leg("A", -1), leg("C", 1)), deadline=3, nonce=98))
    chains.tick_to(5)
    assert (chains.outcome(), chains.hub.books.unclosed()) == ("ABORT", ())
    committed = chains.open(payment((leg("A", -1), leg("C", 1)), deadline=7, nonce=99))
    for name in "AC":
        chains.relay_to(name, Opened)
        chains.relay_from(name)
    later = chains.open(payment((leg("A", -1), leg("B", 1)), deadline=8, nonce=1))
    for _ in range(3):
        for name in "AB":
            chains.relay_to(name)
            chains.relay_from(name)
        chains.tick()
    assert (chains.outcome(committed), chains.outcome(later)) == ("COMMIT", "COMMIT")
    assert chains.hub.books.unclosed() == (committed,)
    chains.tick_to(13)
    assert chains.hub.books.watermark == later
    for name in "ABC":
        chains.relay_to(name)
    assert [chains.region(name).books.sids() for name in "ABC"] == [(), (), ()]
    assert chains.free("C") == 21


def test_h5_a_frozen_region_counts_as_applied() -> None:
    chains = Chains("AC")
    sid = chains.open(payment((leg("A", -1), leg("C", 1)), deadline=3))
    for name in "AC":
        chains.relay_to(name, Opened)
        chains.relay_from(name)
    chains.relay_to("A")
    chains.tick()
    chains.relay_to("A")
    chains.relay_from("A")
    chains.set_hub_books(chains.hub.books.apply(freeze(chains.hub.books, ProvenFork(chain_id("C"), 1), "C")))
    chains.tick_to(5)
    assert (chains.outcome(sid), chains.hub.books.watermark) == ("COMMIT", sid)


def test_h1_open_debits_and_couplings_use_the_same_collateral() -> None:
    books = hub_books(limit=25)
    books = books.apply(open_payment(books, payment().encoded, 1))
    assert exposure(books, "A", EUR) == 10
    books = books.apply(reserve(books, NONCE, "A", EUR, 8))
    assert exposure(books, "A", EUR) == 18
    with pytest.raises(EscrowRefused, match="would owe 28 EUR of at most 25"):
        open_payment(books, payment(nonce=2).encoded, 1)
    with pytest.raises(EscrowRefused, match="not coupled"):
        reserve(books, bytes([9] * 32), "A", EUR, 8)
    assert open_payment(books, payment((leg("A", -7), leg("B", 7)), nonce=3).encoded, 1).records
    assert reserve(books, bytes([9] * 32), "A", EUR, 7).reserved


def test_h1_an_incoming_settlement_that_is_still_open_gives_no_collateral() -> None:
    books = hub_books(limit=10)
    books = books.apply(open_payment(books, payment((leg("A", 10), leg("B", -10))).encoded, 1))
    books = books.apply(open_payment(books, payment((leg("A", -10), leg("C", 10)), nonce=2).encoded, 1))
    with pytest.raises(EscrowRefused, match="would owe 20"):
        open_payment(books, payment((leg("A", -10), leg("C", 10)), nonce=3).encoded, 1)


def test_h3_positions_move_with_the_commit_and_i9_holds() -> None:
    chains = Chains()
    chains.open()
    chains.everybody()
    assert chains.outcome() == "COMMIT"
    assert {name: chains.hub.books.position(name, EUR) for name in "ABC"} == {"A": -10, "B": 4, "C": 6}
    assert exposure(chains.hub.books, "A", EUR) == 10
    assert exposure(chains.hub.books, "B", EUR) == -4


def test_h4_a_no_aborts_at_once_and_everybody_is_refunded() -> None:
    chains = Chains(funds=9)
    chains.open()
    chains.relay_to("B")
    chains.relay_to("A")
    chains.relay_from("A")
    assert chains.outcome() == "ABORT"
    assert chains.hub.observed.decided[0].reason is Reason.SAID_NO
    chains.everybody()
    chains.everybody()
    assert [chains.state(name) for name in "ABC"] == ["ABORTED"] * 3
    assert [chains.free(name) for name in "ABC"] == [9, 9, 9]


def test_h4_end_of_block_is_finite_and_does_nothing_on_an_empty_hub() -> None:
    assert end_of_block(hub_books(), 1) is None


def test_a_netting_commits_against_its_reservation() -> None:
    chains = netting()
    assert exposure(chains.hub.books, "A", EUR) == 10
    chains.everybody()
    assert chains.outcome() == "COMMIT"
    assert exposure(chains.hub.books, "A", EUR) == 10
    assert not chains.hub.books.reservations
    with pytest.raises(EscrowRefused, match="this netting is open"):
        open_netting(
            chains.hub.books, NONCE, tuple(neutral(n, a) for n, a in (("A", -10), ("B", 10))), chains.hub.height
        )


def test_a_netting_without_reservation_is_refused() -> None:
    with pytest.raises(EscrowRefused, match="reserve before coupling"):
        open_netting(hub_books(), NONCE, (neutral("A", -10), neutral("B", 10)), 1)


def test_a_netting_leaves_out_frozen_regions_at_once() -> None:
    books = hub_books()
    books = books.apply(reserve(books, NONCE, "A", EUR, 10))
    books = books.apply(freeze(books, ProvenFork(chain_id("A"), 1), "A"))
    legs = tuple(neutral(name, amount) for name, amount in (("A", -10), ("B", 4), ("C", 6)))
    record = open_netting(books, NONCE, legs, 1).records[0]
    assert record.participants == ("B", "C")
    assert record.opening.open.legs_of(HUB) == (Leg(HUB, collateral_account("A"), EUR, -10),)


def test_renetting_pays_the_others_from_the_collateral_of_the_silent() -> None:
    chains = netting()
    for name in "BC":
        chains.relay_to(name)
        chains.relay_from(name)
    chains.tick_to(5)
    assert chains.outcome() == "ABORT"
    again = chains.hub.books.last_sid
    assert again is not None
    assert again == SettlementId(4, 0)
    assert chains.hub.books.records[again].participants == ("B", "C")
    for name in "BC":
        chains.relay_to(name, Opened)
        assert (chains.state(name), chains.state(name, again)) == ("ABORTED", "YES")
        chains.relay_from(name)
    chains.tick()
    assert chains.outcome(again) == "COMMIT"
    assert chains.hub.books.claims == {("A", EUR): 10}
    assert chains.hub.books.accounts[collateral_account("A").decode(), EUR] == 90
    assert chains.hub.books.position("A", EUR) == -10
    for name in "ABC":
        chains.relay_to(name)
    assert [chains.free(name, NEUTRAL) for name in "ABC"] == [12, 16, 18]


def test_renetting_after_an_early_no_keeps_those_who_have_not_answered_yet() -> None:
    chains = netting()
    chains.set_region("C", chains.region("C").wrote(lambda books: replace(books, mandates={})))
    chains.relay_to("C")
    chains.relay_from("C")
    again = chains.hub.books.last_sid
    assert again == SettlementId(2, 0)
    assert chains.hub.books.records[again].participants == ("A", "B")


def test_renetting_keeps_for_the_silent_what_they_would_have_received() -> None:
    chains = netting()
    for name in "AB":
        chains.relay_to(name)
        chains.relay_from(name)
    chains.tick_to(5)
    for name in "AB":
        chains.relay_to(name)
        chains.relay_from(name)
    chains.tick()
    assert chains.hub.books.claims == {("C", EUR): -6}
    assert chains.hub.books.accounts[collateral_account("C").decode(), EUR] == 106


def test_renetting_without_anybody_settles_on_the_hub_alone() -> None:
    chains = netting()
    chains.tick_to(5)
    outcomes = [(item.sid, item.outcome) for item in chains.hub.observed.decided]
    assert outcomes == [(FIRST, Outcome.ABORT), (SettlementId(4, 0), Outcome.COMMIT)]
    assert chains.hub.books.claims == {("A", EUR): 10, ("B", EUR): -4, ("C", EUR): -6}


def test_renetting_uses_funds_that_the_aborted_one_held() -> None:
    chains = netting()
    chains.relay_to("A")
    assert chains.free("A", NEUTRAL) == 2
    chains.relay_from("A")
    chains.tick_to(5)
    chains.relay_to("A", Opened)
    assert chains.state("A", SettlementId(4, 0)) == "YES"
    assert chains.free("A", NEUTRAL) == 2


def test_renetting_keeps_the_sum_of_each_asset_and_is_its_own_repeat() -> None:
    legs = (
        neutral("A", -7),
        neutral("B", 3),
        neutral("C", 4),
        Leg("A", NEUTRAL, "USD", 5),
        Leg("B", NEUTRAL, "USD", -5),
    )
    once = without(legs, ("A",))
    assert without(once, ("A",)) == once
    assert without(without(legs, ("A",)), ("B",)) == without(legs, ("A", "B"))
    for asset in (EUR, "USD"):
        assert sum(item.amount for item in once if item.asset == asset) == 0
    assert [(claim.region, claim.asset, claim.amount) for claim in claims(once)] == [("A", EUR, 7), ("A", "USD", -5)]


def test_a_region_refuses_a_netting_it_did_not_compute() -> None:
    world = build(NETTING)
    books = world.regions[1].books
    opened = world.hub.observed.opened[0]
    assert on_hub_event(books, proven_hub(Opened(*opened)), Moment(1, 0)).events[0].verdict is Verdict.YES
    for mandates in ({}, {(NONCE, NEUTRAL, EUR): 5}):
        other = replace(books, mandates=mandates)
        transition = on_hub_event(other, proven_hub(Opened(*opened)), Moment(1, 0))
        assert transition.events[0].verdict is Verdict.NO


def test_a_mandate_is_spent_by_the_commit() -> None:
    chains = netting()
    chains.everybody()
    chains.relay_to("A")
    assert not chains.region("A").books.mandates


def test_the_registry_knows_epochs_only_as_told() -> None:
    books: HubMemory = hub_books()
    assert books.reached("A", 3).regions["A"] == RegionEntry("A", chain_id("A"), 3)
    assert sum(item.amount for item in LEGS) == 0
