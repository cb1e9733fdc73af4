"""Mutants of the escrow protocol, each without one guard, under many chains at once.

    python -m tests.coordinator.simulation.escrow_mutants

Two guards are not here, for no run within the assumptions can miss them: `may_commit` and `same_opening` answer a hub
that contradicts itself. The exhaustive model of the protocol has them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from unittest.mock import patch

from coordinator.settlement.escrow import guards
from coordinator.simulation.interchain import run_interchain_seed
from coordinator.simulation.options import ALL_FAULTS

REGIONS, VALIDATORS, BUDGET = 3, 4, 12
ESCROW_MUTANTS: dict[str, tuple[str, Callable[..., bool]]] = {
    "prepared twice": ("is_known", lambda _: False),
    "applied twice": ("is_applied", lambda _: False),
    "debits not covered": ("affordable", lambda *_: True),
    "collateral not checked": ("covered", lambda *_: True),
    "late YES counts": ("in_time", lambda *_: True),
    "one YES is enough": ("unanimous", lambda record: any(vote is not None for vote in record.votes)),
    "deadline too early": ("expired", lambda height, deadline: height >= deadline),
    "no deadline": ("expired", lambda *_: False),
    "watermark ignored": ("below", lambda *_: False),
}


def judge(name: str) -> str | None:
    """What notices the mutant, and with which words; None if nothing does."""
    guard, replacement = ESCROW_MUTANTS[name]
    with patch.object(guards, guard, replacement):
        for seed in range(BUDGET):
            outcome = run_interchain_seed(seed, REGIONS, VALIDATORS, ALL_FAULTS)
            if outcome.failure is not None:
                return f"seed {seed} | {outcome.failure_kind}: {outcome.failure.split(': ', 1)[1]}"
    return None


def main() -> int:
    """Print the table; 1 if a mutant survives."""
    print("| mutant | noticed by | words |\n|---|---|---|")
    survivors = 0
    for name in ESCROW_MUTANTS:
        noticed = judge(name)
        survivors += noticed is None
        print(f"| {name} | {noticed or 'survives |'} |", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
