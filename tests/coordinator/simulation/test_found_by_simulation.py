"""What the simulator and its adversaries found in the core, as the smallest runs that show it."""

from __future__ import annotations

import pytest

from coordinator.simulation.options import ALL_FAULTS
from coordinator.simulation.simulation import run_seed
from tests.coordinator.simulation import directed


def test_votes_of_the_next_epoch_survive_a_lost_disk() -> None:
    """The others are still in the epoch that the victim had left: their views say nothing about its votes there."""
    directed.lost_disk_at_the_end_of_an_epoch()


@pytest.mark.parametrize("seed", [122, 555, 675])
def test_a_rejoin_goes_on_after_a_crash_and_into_the_next_epoch(seed: int) -> None:
    """A node that knew its floor, and crashed before it was above it, met the end of the epoch without a nonce."""
    outcome = run_seed(seed, ALL_FAULTS)
    assert outcome.failure is None, outcome.line()


def test_a_view_is_given_up_by_a_node_that_became_sure_in_it() -> None:
    """Its timeouts came while it was below its floor; then it led the view, and nothing made it give the view up."""
    outcome = run_seed(9180, ALL_FAULTS)
    assert outcome.failure is None, outcome.line()
