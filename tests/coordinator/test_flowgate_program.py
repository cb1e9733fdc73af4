"""The flowgate program does not take the solver's word: an optimum that misses its rows is solved again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.market.component_balance import ComponentBalance
from coordinator.market.flowgate_program import MISS_W, FlowgateProgram, solve_flowgates
from coordinator.market.linear_program import LinearProgram, Solution
from coordinator.market.offers import MICRO

MW = 1e6
DRIFT = 1e-6
"""Of 1e8 W: 100 W, as seen on 8387_pegase."""


def congested_program() -> FlowgateProgram:
    """Cheap supply behind a gate of 60 MW, dear supply beside a demand of 100 MW."""
    nothing = np.zeros(1, dtype=np.int64)
    return FlowgateProgram(
        price_micro_per_mwh=np.array([20.0, 50.0]) * MICRO,
        lower_w=np.zeros(2),
        upper_w=np.full(2, 200 * MW),
        balance=ComponentBalance.of(1, np.zeros(2, dtype=np.int64), nothing[:0], nothing[:0]),
        factors=np.array([[1.0, 0.0]]),
        base_w=np.array([-100 * MW]),
        gate_base_w=np.zeros(1),
        gate_min_w=np.array([-60 * MW]),
        gate_max_w=np.array([60 * MW]),
        row_names=["balance/0", "0/a"],
        line_violation_micro_per_mwh=100_000 * MICRO,
        unpublished_more_w=nothing,
        unpublished_less_w=nothing,
    )


@pytest.mark.parametrize("wrong_answers", [1, 2])
def test_an_optimum_that_misses_its_rows_is_solved_again(
    wrong_answers: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first answers have columns that miss their rows, while the activities they report look right."""
    honest = LinearProgram.solve
    answers = []

    def drifting(self: LinearProgram) -> Solution:
        solution = honest(self)
        answers.append(solution)
        drift = np.zeros_like(solution.columns)
        drift[0] = DRIFT if len(answers) <= wrong_answers else 0.0
        return replace(solution, columns=solution.columns + drift)

    monkeypatch.setattr(LinearProgram, "solve", drifting)
    optimum = solve_flowgates(congested_program(), b"seed")
    assert optimum.quantity_w == pytest.approx([60 * MW, 40 * MW], abs=MISS_W)
    assert caplog.text.count("missed a row by 100 W") == wrong_answers
