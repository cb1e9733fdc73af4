"""Which quantity injects into which component of the network: a step into its own, a link out of one into another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from topology.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class ComponentBalance:
    """The coefficients of the balance rows by entry: column `column[i]` injects `sign[i]` times itself into `row[i]`.

    Columns are steps, then links; a link that stays within one component has no entry. Few rows and many short
    calls make plain arrays much faster here than a sparse matrix.
    """

    components: int
    columns: int
    row: IntArray
    column: IntArray
    sign: IntArray

    @staticmethod
    def of(components: int, step: IntArray, link_from: IntArray, link_to: IntArray) -> ComponentBalance:
        """From the component of every step, and those that every link leaves and enters."""
        steps, joining = len(step), np.flatnonzero(link_from != link_to)
        ones = np.ones_like(joining)
        return ComponentBalance(
            components=components,
            columns=steps + len(link_from),
            row=np.concatenate([step, link_from[joining], link_to[joining]]),
            column=np.concatenate([np.arange(steps), steps + joining, steps + joining]),
            sign=np.concatenate([np.ones_like(step), -ones, ones]),
        )

    def sums(self, quantity: FloatArray) -> FloatArray:
        """What each component receives."""
        return self._per_component(self.sign * quantity[self.column])

    def exact_sums(self, quantity: IntArray) -> IntArray:
        """As `sums`, in integers."""
        total = np.zeros(self.components, dtype=np.int64)
        np.add.at(total, self.row, self.sign * quantity[self.column])
        return total

    def worth(self, price: IntArray) -> IntArray:
        """What one unit of each column is worth at these prices of the components."""
        value = np.zeros(self.columns, dtype=np.int64)
        np.add.at(value, self.column, self.sign * price[self.row])
        return value

    def room(self, quantity: FloatArray, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """How much more and how much less each component could receive, were there no flowgates."""
        more, less = (upper - quantity)[self.column], (quantity - lower)[self.column]
        gives = self.sign > 0
        return self._per_component(np.where(gives, more, less)), self._per_component(np.where(gives, less, more))

    @property
    def linked(self) -> BoolArray:
        """Components that a link joins to another: one may pass what it lacks on to the next."""
        joins = np.zeros(self.columns, dtype=np.bool_)
        joins[self.column[self.sign < 0]] = True
        linked = np.zeros(self.components, dtype=np.bool_)
        linked[self.row[joins[self.column]]] = True
        return linked

    @property
    def empty(self) -> BoolArray:
        """Components into which nothing injects."""
        return np.asarray(np.bincount(self.row, minlength=self.components) == 0)

    def _per_component(self, entry: FloatArray) -> FloatArray:
        return np.bincount(self.row, weights=entry, minlength=self.components).astype(np.float64)

    def matrix_with_slacks(self) -> sp.csc_matrix:
        """Balance rows over all columns, then over slacks that add to each row, then over slacks that take away."""
        own = np.arange(self.components)
        values = np.concatenate([self.sign, np.ones_like(own), -np.ones_like(own)]).astype(np.float64)
        rows = np.concatenate([self.row, own, own])
        columns = np.concatenate([self.column, self.columns + own, self.columns + self.components + own])
        return sp.csc_matrix((values, (rows, columns)), shape=(self.components, self.columns + 2 * self.components))
