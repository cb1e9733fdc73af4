"""A thin, strict door to HiGHS: arrays in, a checked optimum out, or a named error.

HiGHS can return garbage under a status other than optimal (seen on 9241-bus cases), so the status is checked
at every solve. A second algorithm is tried only with a logged warning, never in silence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import highspy
import numpy as np
import scipy.sparse as sp

from topology.arrays import FloatArray

Algorithm = Literal["simplex", "ipm"]

_LOG = logging.getLogger(__name__)
_FEASIBILITY = 1e-9
_SMALLEST_ENTRY = 1e-12
_INFEASIBLE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)


class SolverError(RuntimeError):
    """No algorithm reached a proven optimum; the message says what was tried and which status came back."""


class InfeasibleError(SolverError):
    """The solver proved that nothing satisfies all rows and bounds."""


@dataclass(frozen=True)
class Solution:
    """An optimum: columns, row activities, row duals (d objective / d right-hand side), and the objective."""

    columns: FloatArray
    rows: FloatArray
    duals: FloatArray
    objective: float


class LinearProgram:
    """min cost @ x subject to row and column bounds; keeps its basis, so solving after a change is warm.

    Presolving costs more than it saves on few dense rows.
    """

    def __init__(
        self,
        cost: FloatArray,
        matrix: sp.csc_matrix,
        row_lower: FloatArray,
        row_upper: FloatArray,
        column_lower: FloatArray,
        column_upper: FloatArray,
        algorithm: Algorithm = "simplex",
        presolve: bool = True,
    ) -> None:
        self._algorithm = algorithm
        self._highs = highspy.Highs()
        for option, value in (
            ("output_flag", False),
            ("threads", 1),
            ("presolve", "on" if presolve else "off"),
            ("primal_feasibility_tolerance", _FEASIBILITY),
            ("dual_feasibility_tolerance", _FEASIBILITY),
            ("small_matrix_value", _SMALLEST_ENTRY),
        ):
            self._set(option, value)
        model = highspy.HighsLp()
        model.num_row_, model.num_col_ = matrix.shape
        model.col_cost_ = cost
        model.col_lower_, model.col_upper_ = column_lower, column_upper
        model.row_lower_, model.row_upper_ = row_lower, row_upper
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = matrix.indptr.astype(np.int32)
        model.a_matrix_.index_ = matrix.indices.astype(np.int32)
        model.a_matrix_.value_ = matrix.data
        if self._highs.passModel(model) == highspy.HighsStatus.kError:
            raise SolverError("the linear program was refused by HiGHS; a bound or a coefficient is not a number")

    def set_row_bounds(self, row_lower: FloatArray, row_upper: FloatArray) -> None:
        """Replace all row bounds."""
        count = len(row_lower)
        self._highs.changeRowsBounds(count, np.arange(count, dtype=np.int32), row_lower, row_upper)

    def set_column_upper(self, first: int, upper: FloatArray) -> None:
        """Replace the upper bounds of neighbouring columns that start at zero."""
        columns = np.arange(first, first + len(upper), dtype=np.int32)
        self._highs.changeColsBounds(len(upper), columns, np.zeros_like(upper), upper)

    def add_elastic_rows(
        self, matrix: FloatArray, row_lower: FloatArray, row_upper: FloatArray, penalty: FloatArray
    ) -> None:
        """Append dense rows over the first columns, each with a pair of penalized slack columns."""
        rows, columns = matrix.shape
        first = self._highs.getNumCol()
        slack = np.concatenate([penalty, penalty])
        none = np.zeros(0, dtype=np.int32)
        count = 2 * rows
        self._highs.addCols(
            count, slack, np.zeros(count), np.full(count, np.inf), 0, none, none, np.zeros(0, dtype=np.float64)
        )
        own = np.arange(rows)
        indices = np.hstack(
            [np.tile(np.arange(columns), (rows, 1)), (first + own)[:, None], (first + rows + own)[:, None]]
        )
        values = np.hstack([matrix, np.ones((rows, 1)), -np.ones((rows, 1))])
        starts = (np.arange(rows) * (columns + 2)).astype(np.int32)
        self._highs.addRows(
            rows, row_lower, row_upper, values.size, starts, indices.ravel().astype(np.int32), values.ravel()
        )

    def solve_unscaled(self) -> Solution:
        """The optimum again, from the basis at hand, without scaling: scaled ones may miss rows by more than asked."""
        self._set("simplex_scale_strategy", 0)
        return self.solve()

    def solve_afresh(self) -> Solution:
        """The optimum from scratch: without scaling, and without a basis or factorization that has aged."""
        self._highs.clearSolver()
        return self.solve_unscaled()

    def solve(self) -> Solution:
        """The optimum. Raises SolverError when neither the chosen nor the other algorithm proves one."""
        other: Algorithm = "ipm" if self._algorithm == "simplex" else "simplex"
        tried: list[str] = []
        for algorithm in (self._algorithm, other):
            self._set("solver", algorithm)
            self._highs.run()
            status = self._highs.getModelStatus()
            if status == highspy.HighsModelStatus.kOptimal:
                return self._solution()
            if status in _INFEASIBLE:
                raise InfeasibleError("nothing satisfies all limits; check minimum flows, phase shifts and ratings")
            tried.append(f"{algorithm}: {self._highs.modelStatusToString(status)}")
            _LOG.warning("HiGHS did not prove an optimum (%s)", tried[-1])
            self._highs.clearSolver()
        raise SolverError(f"no optimum was proven ({'; '.join(tried)}); check the data for limits that contradict")

    def _solution(self) -> Solution:
        solution = self._highs.getSolution()
        return Solution(
            columns=np.array(solution.col_value),
            rows=np.array(solution.row_value),
            duals=np.array(solution.row_dual),
            objective=self._highs.getInfo().objective_function_value,
        )

    def _set(self, option: str, value: bool | int | float | str) -> None:
        if self._highs.setOptionValue(option, value) != highspy.HighsStatus.kOk:
            raise SolverError(f"HiGHS refused the option {option}={value}; install the locked version of highspy")
