"""The exhaustive search finds nothing in the protocol, and something in every protocol that lacks a guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from coordinator.settlement.escrow import guards, hub_record, model
from coordinator.settlement.escrow.errors import EscrowRefused, InvariantViolated, RegionHalted
from coordinator.settlement.escrow.records import RegionState
from coordinator.settlement.escrow.region_record import apply_decision
from coordinator.settlement.escrow.scenarios import SCENARIOS, Scenario
from coordinator.settlement.escrow.types import Decided, Outcome, Verdict
from coordinator.settlement.escrow.world import World
from tests.coordinator.settlement import test_escrow_hub as hub_rules
from tests.coordinator.settlement import test_escrow_pitfalls as pitfalls

SCENARIO = {scenario.name: scenario for scenario in SCENARIOS}
FOUND = (AssertionError, RegionHalted, EscrowRefused, pytest.fail.Exception)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_order_loss_duplicate_or_crash_breaks_the_protocol(scenario: Scenario) -> None:
    graph = model.explore(scenario, in_flight=1)
    assert graph.states > 100_000
    assert graph.settled > 100
    outcomes = {item.outcome for world in graph.worlds for item in world.hub.observed.decided}
    assert outcomes == {Outcome.COMMIT, Outcome.ABORT}


def test_more_messages_in_flight_reach_the_same_worlds() -> None:
    small = replace(SCENARIO["payment"], amounts=(-10, 10), window_blocks=1)
    one, three = model.explore(small, 1), model.explore(small, 3)
    assert len(one.worlds) == len(three.worlds)
    assert one.states < three.states


def _gives(answer: bool) -> Callable[..., bool]:
    return lambda *_: answer


MODEL_MUTANTS: dict[str, tuple[str, str, Callable[..., bool]]] = {
    "no tombstone, no memory of a vote": ("two payers", "is_known", _gives(False)),
    "a YES counts at D + 1": ("two payers", "in_time", lambda height, deadline: height <= deadline + 1),
    "timeout at D": ("two payers", "expired", lambda height, deadline: height >= deadline),
    "no timeout": ("two payers", "expired", _gives(False)),
    "applied again": ("two payers", "is_applied", _gives(False)),
    "the watermark is not looked at": ("two payers", "below", _gives(False)),
    "funds are not looked at": ("payment", "affordable", _gives(True)),
    "a COMMIT without everybody": (
        "two payers",
        "unanimous",
        lambda record: any(vote is not None and vote.verdict is Verdict.YES for vote in record.votes),
    ),
    "credits need no vote": (
        "payment",
        "unanimous",
        lambda record: record.votes[0] is not None and record.votes[0].verdict is Verdict.YES,
    ),
    "a decision of others is taken in": ("netting", "takes_part", _gives(True)),
    "a known epoch is not asked for": ("epoch", "epoch_provable", lambda proved, known: proved == known == 0),
}


@pytest.mark.parametrize("name", MODEL_MUTANTS)
def test_the_search_kills_the_mutant(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, guard, mutant = MODEL_MUTANTS[name]
    monkeypatch.setattr(guards, guard, mutant)
    with pytest.raises((AssertionError, RegionHalted)):
        model.explore(SCENARIO[scenario], in_flight=1)


def _local_timeout(world: World) -> Iterator[World]:
    """A region that gives its money back by itself."""
    region = world.regions[0]
    for record in region.books.records.values():
        if record.state is RegionState.YES:
            decided = Decided(record.sid, record.open_digest, Outcome.ABORT, ("A", "B", "C"))
            yield world.with_region(0, region.after(apply_decision(region.books, decided, region.moment)))


def test_the_search_kills_a_local_timeout() -> None:
    with pytest.raises((InvariantViolated, RegionHalted)):
        model.explore(SCENARIO["two payers"], in_flight=1, extra=_local_timeout)


NAMED_MUTANTS: dict[str, tuple[Any, str, Callable[..., bool], Callable[..., None], tuple[Any, ...]]] = {
    "no open_digest check": (
        guards,
        "same_opening",
        _gives(True),
        pitfalls.test_pitfall_2_a_receipt_of_something_else_is_refused,
        ({"open_digest": bytes(32)}, "another OPEN"),
    ),
    "any chain may speak": (
        guards,
        "comes_from",
        _gives(True),
        pitfalls.test_pitfall_2_a_receipt_finalized_by_a_fork_with_another_genesis_is_refused,
        (),
    ),
    "an OPEN counts twice": (
        guards,
        "is_new",
        _gives(True),
        pitfalls.test_pitfall_2_the_same_open_is_not_opened_twice_even_when_closed_early,
        (),
    ),
    "closed before D": (
        guards,
        "closable",
        lambda record, *_: record.outcome is not None and all(record.applied),
        pitfalls.test_pitfall_2_the_same_open_is_not_opened_twice_even_when_closed_early,
        (),
    ),
    "a conflict does not freeze": (
        guards,
        "contradicts",
        _gives(False),
        pitfalls.test_pitfall_3_a_second_different_verdict_freezes_the_region,
        (),
    ),
    "any epoch proves": (
        guards,
        "epoch_provable",
        _gives(True),
        pitfalls.test_pitfall_5_a_yes_survives_the_regions_epoch_change,
        (),
    ),
    "a frozen region completes a commit": (
        hub_record,
        "_has_frozen",
        _gives(False),
        pitfalls.test_pitfall_8_a_region_that_froze_in_the_same_block_does_not_complete_a_commit,
        (),
    ),
    "a COMMIT without a YES": (
        guards,
        "may_commit",
        _gives(True),
        pitfalls.test_pitfall_10_a_commit_that_the_region_never_agreed_to_halts_it,
        (),
    ),
    "the watermark prunes what is in doubt": (
        guards,
        "prunable",
        lambda record, watermark: record.sid <= watermark,
        pitfalls.test_pitfall_15_the_watermark_never_takes_what_is_in_doubt,
        (),
    ),
    "closed before all have applied": (
        guards,
        "closable",
        lambda record, height, *_: record.outcome is not None and height > record.deadline_height,
        pitfalls.test_pitfall_15_the_watermark_waits_for_the_oldest_and_never_falls,
        (),
    ),
    "legs need not balance": (
        guards,
        "balanced",
        _gives(True),
        pitfalls.test_pitfall_14_zero_and_unbalanced_and_lonely_settlements_are_refused,
        (),
    ),
    "collateral is not looked at": (
        guards,
        "covered",
        _gives(True),
        hub_rules.test_h1_open_debits_and_couplings_use_the_same_collateral,
        (),
    ),
    "any deadline": (
        guards,
        "deadline_in_bounds",
        _gives(True),
        hub_rules.test_h1_the_deadline_lies_in_its_bounds,
        (8, False),
    ),
}


@pytest.mark.parametrize("name", NAMED_MUTANTS)
def test_a_named_test_kills_the_mutant(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, guard, mutant, killer, arguments = NAMED_MUTANTS[name]
    killer(*arguments)
    monkeypatch.setattr(place, guard, mutant)
    with pytest.raises(FOUND):
        killer(*arguments)


def test_the_command_prints_states_and_transitions(capsys: pytest.CaptureFixture[str]) -> None:
    assert model.main(["--scenario", "two payers"]) == 0
    printed = capsys.readouterr().out
    assert "transitions" in printed
    assert "no violation" in printed


def test_the_command_says_what_is_violated(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "expired", _gives(False))
    assert model.main(["--scenario", "two payers"]) == 1
    assert "violated: I10" in capsys.readouterr().out
