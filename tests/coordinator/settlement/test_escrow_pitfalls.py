"""The sixteen pitfalls of the cross-chain protocol, each by its number in the design."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import coordinator.settlement.escrow as package
from coordinator.consensus.errors import DecodeError
from coordinator.settlement.escrow.encoding import encode_event, seal
from coordinator.settlement.escrow.errors import EscrowRefused, RegionHalted
from coordinator.settlement.escrow.hub_record import accept_receipt, freeze, open_payment
from coordinator.settlement.escrow.invariants import check_settled
from coordinator.settlement.escrow.proofs import ProvenFork
from coordinator.settlement.escrow.records import HubTransition, RegionTransition
from coordinator.settlement.escrow.region_record import Moment, advance_watermark, in_doubt, on_hub_event, receipts
from coordinator.settlement.escrow.types import (
    AMOUNT_MAX,
    Closed,
    Decided,
    Opened,
    Outcome,
    SettlementId,
    Verdict,
)
from coordinator.settlement.escrow.world import chain_id
from tests.coordinator.settlement.escrow_support import (
    EUR,
    FIRST,
    HUB_CHAIN,
    LEGS,
    Chains,
    hub_books,
    leg,
    payment,
    proven_hub,
    proven_receipt,
    receipt_in,
    region_books,
)

NOW = Moment(1, 0)


def all_yes() -> Chains:
    """The usual payment: everybody said YES, nothing has been relayed back."""
    chains = Chains()
    chains.open()
    for name in "ABC":
        chains.relay_to(name)
    assert [chains.state(name) for name in "ABC"] == ["YES"] * 3
    return chains


def committed() -> Chains:
    """The usual payment, decided."""
    chains = all_yes()
    for name in "ABC":
        chains.relay_from(name)
    chains.tick()
    assert chains.outcome() == "COMMIT"
    return chains


def test_the_usual_payment_moves_the_money_and_leaves_nothing_behind() -> None:
    chains = committed()
    chains.everybody()
    assert [chains.free(name) for name in "ABC"] == [10, 24, 26]
    chains.tick_to(6)
    for name in "ABC":
        chains.relay_to(name)
        assert not chains.region(name).books.records
    assert not chains.hub.books.records
    assert chains.hub.books.watermark == FIRST
    check_settled(chains.world.observation(chains.supply))


def test_pitfall_1_a_prepare_after_the_abort_locks_nothing() -> None:
    chains = Chains()
    chains.open()
    chains.tick_to(6)
    assert chains.outcome() == "ABORT"
    chains.relay_to("A", Decided)
    assert chains.state("A") == "ABORTED"
    chains.relay_to("A", Opened)
    assert (chains.state("A"), chains.free("A")) == ("ABORTED", 20)


def test_pitfall_1_a_prepare_below_the_watermark_locks_nothing() -> None:
    books = region_books("A").apply(advance_watermark(region_books("A"), FIRST))
    late = on_hub_event(books, proven_hub(Opened(FIRST, payment())), NOW)
    assert late == RegionTransition()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"open_digest": bytes(32)}, "another OPEN"),
        ({"hub_chain_id": chain_id("other hub")}, "another hub"),
        ({"sid": SettlementId(1, 1)}, "is not open here"),
        ({"region": "B"}, "not finalized by the chain of B"),
        ({"region": "Z"}, "not registered"),
        ({"epoch": 1}, "epoch 1 under"),
    ],
)
def test_pitfall_2_a_receipt_of_something_else_is_refused(change: dict[str, object], word: str) -> None:
    chains = all_yes()
    genuine = receipt_in(chains.receipts("A")[0])
    forged = proven_receipt(replace(genuine, **change), chain=chain_id("A"))  # type: ignore[arg-type]
    with pytest.raises(EscrowRefused, match=word):
        accept_receipt(chains.hub.books, forged, 3)


def test_pitfall_2_a_receipt_finalized_by_a_fork_with_another_genesis_is_refused() -> None:
    chains = all_yes()
    genuine = receipt_in(chains.receipts("A")[0])
    with pytest.raises(EscrowRefused, match="not finalized by the chain of A"):
        accept_receipt(chains.hub.books, proven_receipt(genuine, chain=chain_id("A'")), 3)


@pytest.mark.parametrize("event", [Opened(FIRST, payment()), Decided(FIRST, bytes(32), Outcome.ABORT, ("A",))])
def test_pitfall_2_events_of_another_hub_are_refused_by_regions(event: Opened | Decided) -> None:
    with pytest.raises(EscrowRefused, match="not finalized by the hub"):
        on_hub_event(region_books("A"), proven_hub(event, chain=chain_id("other hub")), NOW)


def test_pitfall_2_an_open_for_another_hub_is_refused_by_hub_and_region() -> None:
    other = payment(hub=chain_id("other hub"))
    with pytest.raises(EscrowRefused, match="another hub"):
        open_payment(hub_books(), other.encoded, 1)
    with pytest.raises(EscrowRefused, match="another hub"):
        on_hub_event(region_books("A"), proven_hub(Opened(FIRST, other)), NOW)


def test_pitfall_2_a_decision_about_other_bytes_is_refused() -> None:
    chains = all_yes()
    other = Decided(FIRST, bytes(32), Outcome.COMMIT, ("A", "B", "C"))
    with pytest.raises(EscrowRefused, match="another OPEN"):
        on_hub_event(chains.region("A").books, proven_hub(other, height=3), NOW)


def test_pitfall_2_the_same_open_is_not_opened_twice_even_when_closed_early() -> None:
    chains = Chains()
    opening = payment(deadline=8)
    chains.open(opening)
    chains.everybody()
    chains.everybody()
    chains.everybody()
    assert chains.outcome() == "COMMIT"
    assert [chains.state(name) for name in "ABC"] == ["COMMITTED"] * 3
    with pytest.raises(EscrowRefused, match="opened before"):
        open_payment(chains.hub.books, opening.encoded, chains.hub.height)
    resigned = seal(
        replace(opening.open, authorisations=(replace(opening.open.authorisations[0], signature=b"x" * 64),))
    )
    with pytest.raises(EscrowRefused, match="opened before"):
        open_payment(chains.hub.books, resigned.encoded, chains.hub.height)
    chains.tick_to(10)
    assert not chains.hub.books.records
    with pytest.raises(EscrowRefused, match="deadline"):
        open_payment(chains.hub.books, opening.encoded, chains.hub.height)


def test_pitfall_3_the_same_receipt_twice_changes_nothing() -> None:
    chains = all_yes()
    yes = chains.receipts("A")[0]
    chains.put(chains.world.to_hub(yes))
    assert accept_receipt(chains.hub.books, yes, chains.hub.height) == HubTransition()


def test_pitfall_3_applied_twice_changes_nothing_and_before_the_decision_is_refused() -> None:
    chains = all_yes()
    early = proven_receipt(replace(receipt_in(chains.receipts("A")[0]), verdict=Verdict.APPLIED))
    with pytest.raises(EscrowRefused, match="not decided"):
        accept_receipt(chains.hub.books, early, 3)
    chains = committed()
    chains.relay_to("A")
    applied = chains.receipts("A", Verdict.APPLIED)[0]
    chains.put(chains.world.to_hub(applied))
    assert accept_receipt(chains.hub.books, applied, chains.hub.height) == HubTransition()


def test_pitfall_3_a_second_different_verdict_freezes_the_region() -> None:
    chains = all_yes()
    yes = chains.receipts("A")[0]
    chains.put(chains.world.to_hub(yes))
    no = proven_receipt(replace(receipt_in(yes), verdict=Verdict.NO))
    chains.put(chains.world.to_hub(no))
    assert chains.hub.books.regions["A"].frozen
    chains.tick()
    assert chains.outcome() == "ABORT"
    with pytest.raises(EscrowRefused, match="frozen"):
        accept_receipt(chains.hub.books, yes, chains.hub.height)
    with pytest.raises(EscrowRefused, match="frozen"):
        open_payment(chains.hub.books, payment(nonce=2, deadline=9).encoded, chains.hub.height)


@pytest.mark.parametrize(("height", "outcome"), [(4, "COMMIT"), (5, "ABORT")])
def test_pitfall_4_the_last_yes_counts_at_the_deadline_and_not_one_block_later(height: int, outcome: str) -> None:
    chains = all_yes()
    assert chains.hub.books.records[FIRST].deadline_height == 4
    chains.relay_from("A")
    chains.relay_from("B")
    chains.tick_to(height)
    assert chains.outcome() == "OPEN"
    chains.relay_from("C")
    chains.tick()
    assert chains.outcome() == outcome


def test_pitfall_4_without_receipts_the_abort_comes_with_the_first_block_above_the_deadline() -> None:
    chains = Chains()
    chains.open()
    chains.tick_to(5)
    assert chains.outcome() == "OPEN"
    chains.tick()
    assert chains.outcome() == "ABORT"
    assert chains.hub.observed.decided[0].height == 5


def test_pitfall_5_a_yes_survives_the_regions_epoch_change() -> None:
    chains = all_yes()
    region = replace(chains.region("A"), epoch=1)
    old = chains.receipts("A")[0]
    chains.set_region("A", region)
    new = chains.receipts("A")[0]
    with pytest.raises(EscrowRefused, match="relay boundary certificates"):
        accept_receipt(chains.hub.books, new, 3)
    chains.set_hub_books(chains.hub.books.reached("A", 1))
    assert accept_receipt(chains.hub.books, old, 3).records == accept_receipt(chains.hub.books, new, 3).records
    chains.set_hub_books(chains.hub.books.reached("A", 2))
    with pytest.raises(EscrowRefused, match="history_root"):
        accept_receipt(chains.hub.books, old, 3)
    chains.set_region("A", replace(region, epoch=2))
    assert accept_receipt(chains.hub.books, chains.receipts("A")[0], 3).records


def test_pitfall_6_the_hubs_epoch_is_no_part_of_a_decision() -> None:
    chains = committed()
    decision = next(proof for proof in chains.hub.proofs() if proof.event == chains.hub.published[-1].event)
    later = replace(decision, epoch=7)
    books = chains.region("A").books
    assert on_hub_event(books, later, NOW) == on_hub_event(books, decision, NOW)


def test_pitfall_7_an_event_proved_by_a_descendants_certificate_is_the_same_event() -> None:
    chains = all_yes()
    chains.set_hub_books(chains.hub.books.reached("A", 1))
    yes = chains.receipts("A")[0]
    by_descendant = replace(yes, epoch=1)
    assert accept_receipt(chains.hub.books, by_descendant, 3) == accept_receipt(chains.hub.books, yes, 3)


def test_pitfall_8_a_forked_region_is_frozen_its_escrow_stays_and_the_hub_aborts() -> None:
    chains = all_yes()
    fork = ProvenFork(chain_id("A"), 5)
    with pytest.raises(EscrowRefused, match="not of the chain of B"):
        freeze(chains.hub.books, fork, "B")
    chains.put(chains.world.with_hub(chains.hub.after(freeze(chains.hub.books, fork, "A"))))
    assert freeze(chains.hub.books, fork, "A") == HubTransition()
    chains.relay_from("B")
    chains.relay_from("C")
    chains.tick()
    assert chains.outcome() == "ABORT"
    assert (chains.state("A"), chains.free("A")) == ("YES", 10)
    chains.relay_to("A")
    assert (chains.state("A"), chains.free("A")) == ("ABORTED", 20)


def test_pitfall_8_a_region_that_froze_in_the_same_block_does_not_complete_a_commit() -> None:
    chains = all_yes()
    chains.relay_from("A")
    chains.relay_from("B")
    chains.put(chains.world.with_hub(chains.hub.after(freeze(chains.hub.books, ProvenFork(chain_id("A"), 5), "A"))))
    chains.relay_from("C")
    assert chains.outcome() == "OPEN"
    chains.tick()
    assert chains.outcome() == "ABORT"


def test_pitfall_9_a_region_with_credits_only_votes() -> None:
    chains = all_yes()
    assert chains.hub.books.records[FIRST].participants == ("A", "B", "C")
    chains.relay_from("A")
    chains.tick()
    assert chains.outcome() == "OPEN"
    chains.tick_to(6)
    assert chains.outcome() == "ABORT"


def test_pitfall_10_an_abort_relayed_before_the_open_leaves_a_tombstone() -> None:
    aborted = Decided(FIRST, payment().digest, Outcome.ABORT, ("A", "B", "C"))
    transition = on_hub_event(region_books("A"), proven_hub(aborted, height=5), NOW)
    books = region_books("A").apply(transition)
    assert [item.verdict for item in transition.events] == [Verdict.APPLIED]
    assert on_hub_event(books, proven_hub(Opened(FIRST, payment())), NOW) == RegionTransition()


def test_pitfall_10_a_commit_that_the_region_never_agreed_to_halts_it() -> None:
    decided = Decided(FIRST, payment().digest, Outcome.COMMIT, ("A", "B", "C"))
    with pytest.raises(RegionHalted, match="unknown here"):
        on_hub_event(region_books("A"), proven_hub(decided, height=3), NOW)
    poor = region_books("A", 9)
    said_no = poor.apply(on_hub_event(poor, proven_hub(Opened(FIRST, payment())), NOW))
    with pytest.raises(RegionHalted, match="NO here"):
        on_hub_event(said_no, proven_hub(decided, height=3), NOW)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_decision_of_others_neither_halts_a_region_nor_leaves_a_tombstone(outcome: Outcome) -> None:
    decided = Decided(FIRST, payment().digest, outcome, ("B", "C"))
    with pytest.raises(EscrowRefused, match="no leg"):
        on_hub_event(region_books("A"), proven_hub(decided, height=3), NOW)


def test_pitfall_11_receipts_follow_from_state_in_the_same_bytes() -> None:
    chains = all_yes()
    books = chains.region("A").books
    again = receipts(books, books.records[FIRST])
    assert [encode_event(item) for item in again] == [item.event for item in chains.region("A").published]
    chains = committed()
    chains.relay_to("A")
    chains.set_region("A", replace(chains.region("A"), epoch=3))
    books = chains.region("A").books
    again = receipts(books, books.records[FIRST])
    assert [encode_event(item) for item in again] == [item.event for item in chains.region("A").published]


def test_pitfall_12_an_hour_without_the_hub_loses_nothing_and_is_listed() -> None:
    chains = all_yes()
    region = chains.region("A")
    for _ in range(3600):
        region = region.wrote(lambda books: books)
    chains.set_region("A", region)
    waiting = in_doubt(chains.region("A").books)
    assert [(item.sid, item.since_height, item.legs) for item in waiting] == [(FIRST, 1, (LEGS[0],))]
    assert chains.region("A").height == 3601
    for name in "ABC":
        chains.relay_from(name)
    chains.tick()
    chains.everybody()
    assert [chains.state(name) for name in "ABC"] == ["COMMITTED"] * 3
    assert in_doubt(chains.region("A").books) == ()


def test_pitfall_13_a_censored_receipt_is_taken_by_the_next_leader_in_time() -> None:
    chains = all_yes()
    chains.relay_from("B")
    chains.relay_from("C")
    chains.tick(2)
    assert chains.outcome() == "OPEN"
    chains.relay_from("A")
    chains.tick()
    assert chains.outcome() == "COMMIT"


def test_pitfall_14_one_account_has_one_leg() -> None:
    twice = (leg("A", -5), leg("A", -6), leg("B", 11))
    with pytest.raises(DecodeError, match="ascend strictly"):
        payment(twice)


def test_pitfall_14_zero_and_unbalanced_and_lonely_settlements_are_refused() -> None:
    cases = {
        "moves nothing": (leg("A", -5), leg("B", 5), leg("C", 0)),
        "do not sum to zero": (leg("A", -5), leg("B", 4)),
        "needs no hub": (leg("A", -5), leg("A", 5, b"other")),
        "not an active region": (leg("A", -5), leg("Z", 5)),
        "moves its own accounts": (leg("A", -5), leg("hub", 5)),
    }
    for word, legs in cases.items():
        with pytest.raises(EscrowRefused, match=word):
            open_payment(hub_books(), payment(legs).encoded, 1)


def test_pitfall_14_amounts_beyond_int64_are_refused() -> None:
    for amount in (-AMOUNT_MAX - 1, AMOUNT_MAX + 1, 2**70):
        with pytest.raises(DecodeError, match="amounts are at most"):
            payment((leg("A", amount), leg("B", -amount)))
    rich = hub_books("AB", limit=AMOUNT_MAX)
    legs = (leg("A", -AMOUNT_MAX), leg("A", -1, b"other"), leg("B", AMOUNT_MAX), leg("B", 1, b"other"))
    with pytest.raises(EscrowRefused, match="leave int64"):
        open_payment(rich, payment(legs).encoded, 1)


def test_pitfall_14_a_credit_that_would_overflow_an_account_is_answered_no() -> None:
    almost = region_books("B", AMOUNT_MAX - 3)
    transition = on_hub_event(almost, proven_hub(Opened(FIRST, payment())), NOW)
    assert [item.verdict for item in transition.events] == [Verdict.NO]
    enough = region_books("B", AMOUNT_MAX - 7)
    first = on_hub_event(enough, proven_hub(Opened(FIRST, payment())), NOW)
    second = Opened(SettlementId(1, 1), payment(nonce=2))
    assert [item.verdict for item in first.events] == [Verdict.YES]
    assert on_hub_event(enough.apply(first), proven_hub(second), NOW).events[0].verdict is Verdict.NO


def test_pitfall_15_the_watermark_never_takes_what_is_in_doubt() -> None:
    chains = all_yes()
    far = on_hub_event(chains.region("A").books, proven_hub(Closed(SettlementId(9, 0)), height=9), NOW)
    books = chains.region("A").books.apply(far)
    assert far.pruned == ()
    assert [item.sid for item in in_doubt(books)] == [FIRST]
    decided = Decided(FIRST, books.records[FIRST].open_digest, Outcome.ABORT, ("A", "B", "C"))
    assert books.apply(on_hub_event(books, proven_hub(decided, height=5), NOW)).free(b"owner", EUR) == 20


def test_pitfall_15_after_pruning_old_proofs_change_nothing() -> None:
    chains = committed()
    chains.everybody()
    old = tuple(chains.hub.proofs())
    chains.tick_to(6)
    chains.relay_to("A", Closed)
    books = chains.region("A").books
    assert not books.records
    for proven in old:
        assert on_hub_event(books, proven, NOW) == RegionTransition()
    for proven in chains.receipts("A"):
        assert accept_receipt(chains.hub.books, proven, chains.hub.height) == HubTransition()


def test_pitfall_15_the_watermark_waits_for_the_oldest_and_never_falls() -> None:
    chains = Chains()
    chains.open(payment(deadline=4))
    second = chains.open(payment(nonce=2, deadline=5))
    assert second == SettlementId(2, 0)
    for name in "ABC":
        chains.relay_to(name, Opened)
    for name in "ABC":
        chains.relay_from(name)
    chains.tick()
    for name in "BC":
        chains.relay_to(name)
        chains.relay_from(name)
    decided_second = [proof for proof in chains.hub.proofs() if proof.height == 3][1]
    chains.put(chains.world.to_region(0, decided_second))
    chains.relay_from("A")
    chains.tick_to(8)
    assert tuple(chains.hub.books.records) == (FIRST,)
    assert chains.hub.books.watermark is None
    chains.everybody()
    chains.everybody()
    assert chains.hub.books.watermark == second
    books = region_books("A").apply(RegionTransition(watermark=second))
    assert advance_watermark(books, FIRST) == RegionTransition()


def test_pitfall_16_no_rule_reads_a_clock_or_chance() -> None:
    pure = (
        "admission",
        "hub_record",
        "region_record",
        "renetting",
        "guards",
        "records",
        "types",
        "encoding",
        "netting",
    )
    forbidden = {"time", "datetime", "random", "secrets", "os", "threading", "asyncio", "uuid"}
    folder = Path(package.__file__).parent
    for name in pure:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        imported = {
            alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not imported & forbidden, f"{name} imports {imported & forbidden}"
        assert "time_ms" not in (folder / f"{name}.py").read_text(encoding="utf-8")


def test_an_event_of_the_wrong_side_is_refused() -> None:
    chains = all_yes()
    yes = chains.receipts("A")[0]
    with pytest.raises(EscrowRefused, match="is a receipt"):
        on_hub_event(chains.region("A").books, replace(yes, chain_id=HUB_CHAIN), NOW)
    opened = replace(next(chains.hub.proofs()), chain_id=chain_id("A"))
    with pytest.raises(EscrowRefused, match="no receipt"):
        accept_receipt(chains.hub.books, opened, 3)


def test_an_id_must_stand_in_the_block_of_its_height() -> None:
    with pytest.raises(EscrowRefused, match="ids begin with the height"):
        on_hub_event(region_books("A"), proven_hub(Opened(FIRST, payment()), height=2), NOW)


def test_a_region_without_money_or_signature_says_no_and_locks_nothing() -> None:
    poor = region_books("A", 9)
    unsigned = replace(region_books("A"), signed=lambda account, message, signature: False)
    for books in (poor, unsigned):
        transition = on_hub_event(books, proven_hub(Opened(FIRST, payment())), NOW)
        assert transition.events[0].verdict is Verdict.NO
        assert transition.movements == ()
