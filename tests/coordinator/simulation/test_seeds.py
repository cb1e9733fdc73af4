"""Seeds under all faults: no oracle is violated, and what heals makes progress."""

from __future__ import annotations

import pytest

from coordinator.simulation.interchain import run_interchain_seed
from coordinator.simulation.options import ALL_FAULTS, Fault, parse_faults
from coordinator.simulation.simulation import RUN_DELTAS, RUN_EVENTS, run_seed

SINGLE, CHUNK = 300, 10
MANY, MANY_CHUNK = 20, 2


@pytest.mark.parametrize("first", range(0, SINGLE, CHUNK))
def test_one_chain(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run_seed(seed, ALL_FAULTS)
        assert outcome.failure is None, f"{outcome.line()}\n{outcome.options}"
        assert outcome.finalized > 0


@pytest.mark.parametrize("first", range(0, MANY, MANY_CHUNK))
def test_a_hub_and_its_regions(first: int) -> None:
    settlements = 0
    for seed in range(first, first + MANY_CHUNK):
        outcome = run_interchain_seed(seed, 2 + seed % 3, 4, ALL_FAULTS)
        assert outcome.failure is None, f"{outcome.line()}\n{outcome.options}"
        settlements += outcome.settlements
    assert settlements > 0, f"seeds {first} to {first + MANY_CHUNK - 1} settled nothing"


def test_a_seed_is_long_enough() -> None:
    lines: list[str] = []
    outcome = run_seed(5, ALL_FAULTS, sink=lines.append)
    last_deltas = int(lines[-1].split()[0]) / 1e8
    assert outcome.events >= RUN_EVENTS or last_deltas >= RUN_DELTAS - 40


@pytest.mark.parametrize("faults", ["none", *(fault.value for fault in Fault)])
def test_each_family_of_faults_alone(faults: str) -> None:
    outcome = run_seed(7, parse_faults(faults))
    assert outcome.failure is None, outcome.line()
    assert (outcome.crashes > 0) <= (faults in ("crash", "disk"))


def test_real_signatures_are_used_on_a_sample() -> None:
    outcome = run_seed(49, ALL_FAULTS)
    assert "real_signatures=True" in outcome.options
    assert outcome.failure is None, outcome.line()


def test_unknown_faults_are_named() -> None:
    with pytest.raises(ValueError, match="there is no fault 'fire'; name some of network"):
        parse_faults("crash,fire")
