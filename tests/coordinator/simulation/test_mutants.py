"""The simulator notices what a guard is for: mutants that drop one, and oracles that see what they are to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.coordinator.simulation import escrow_mutants
from tests.coordinator.simulation.directed import DIRECTED
from tests.coordinator.simulation.mutants import MUTANTS, judge

IN_CI = {
    "quorum": 0,
    "finalize-after-nullify": 0,
    "no-journal": 1,
    "ancestry-gap": None,
    "own-votes-not-counted": None,
    "next-epoch-forgotten": None,
}
"""Six mutants, with the seed to begin at where one is known."""


@pytest.mark.parametrize("name", sorted(IN_CI))
def test_a_mutant_is_noticed(name: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    verdict = judge(replace(mutant, first_seed=IN_CI[name] or mutant.first_seed))
    assert verdict.killer is not None, verdict.words


def test_there_are_mutants_enough_and_each_has_its_name() -> None:
    assert len(MUTANTS) >= 20
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("run", DIRECTED, ids=[run.__name__ for run in DIRECTED])
def test_the_directed_runs_pass_with_all_guards(run: Callable[[], None]) -> None:
    run()


@pytest.mark.parametrize("name", ["applied twice", "collateral not checked"])
def test_an_escrow_mutant_is_noticed(name: str) -> None:
    assert escrow_mutants.judge(name) is not None
