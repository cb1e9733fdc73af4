"""Kron reduction: a region's network as its neighbours feel it, and back.

With boundary buses B and interior buses I, and L the region's Laplacian (W/rad), X = L_II^-1 L_IB:

    reduced Laplacian      L_BB - L_BI X                 (boundary x boundary, published)
    boundary injection     u = q_B - X^T q_I             (what injections q are worth at the boundary, published)
    interior angles        theta_I = L_II^-1 q_I - X theta_B
    flow of an inner line  = row . theta_B + own . q      (row is published when the line becomes a flowgate)

Source: Doerfler, Bullo, "Kron reduction of graphs with applications to electrical networks", IEEE TCAS-I 60(1), 2013.
The only dense matrix is X, interior x boundary.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from topology.arrays import FloatArray, IntArray
from topology.dc import component_labels, factorized
from topology.errors import GridError
from topology.regions import Interconnection, RegionGrid


class KronReduction:
    """The reduction of one region to its boundary. Injections are in W, angles in rad, rows in W/rad."""

    def __init__(self, region: RegionGrid) -> None:
        network = region.network
        self._network = network
        self.boundary = region.boundary
        interior = np.ones(network.bus_count, dtype=np.bool_)
        interior[self.boundary] = False
        self._interior = np.flatnonzero(interior)
        laplacian = sp.csr_matrix(network.laplacian)
        inner_rows = laplacian[self._interior]
        self._solve = factorized(sp.csc_matrix(inner_rows[:, self._interior]), network.name)
        to_boundary = inner_rows[:, self.boundary].toarray()
        self._transfer = self._solve(to_boundary)
        outer = laplacian[self.boundary][:, self.boundary].toarray()
        self.laplacian: FloatArray = outer - to_boundary.T @ self._transfer

    def boundary_injection(self, injection: FloatArray) -> FloatArray:
        """What bus injections are worth at the boundary."""
        return np.asarray(injection[self.boundary] - self._transfer.T @ injection[self._interior])

    def bus_factors(self, boundary_rows: FloatArray) -> FloatArray:
        """Factors of injections at every own bus from those at the boundary: (gates, boundary) to (gates, buses)."""
        factors = np.empty((len(boundary_rows), self._network.bus_count))
        factors[:, self.boundary] = boundary_rows
        factors[:, self._interior] = -(boundary_rows @ self._transfer.T)
        return factors

    def angles(self, injection: FloatArray, boundary_angles: FloatArray) -> FloatArray:
        """Angles of all own buses, given the boundary's."""
        angles = np.empty(self._network.bus_count)
        angles[self.boundary] = boundary_angles
        angles[self._interior] = self._solve(injection[self._interior]) - self._transfer @ boundary_angles
        return angles

    def boundary_rows(self, branches: IntArray) -> FloatArray:
        """Flow on own lines per boundary angle, W/rad; shape (branches, boundary)."""
        ends = self._weighted_ends(branches)
        return np.asarray(ends[:, self.boundary].toarray() - ends[:, self._interior] @ self._transfer)

    def private_rows(self, branches: IntArray) -> FloatArray:
        """Flow on own lines per own injection at fixed boundary angles; shape (branches, buses)."""
        ends = self._weighted_ends(branches)
        rows = np.zeros(ends.shape)
        rows[:, self._interior] = self._solve(ends[:, self._interior].T.toarray()).T
        return rows

    def _weighted_ends(self, branches: IntArray) -> sp.csc_matrix:
        network = self._network
        weights = sp.diags(network.susceptance_w_per_rad[branches].astype(np.float64))
        return sp.csc_matrix(weights @ network.incidence[branches])


class BoundaryImpedance:
    """Z = (L_ties + blockdiag(L_k))^-1, grounded at one public reference a component; rad/W.

    Formed by everybody from the published boundary Laplacians, once a topology.
    """

    def __init__(self, public: Interconnection, laplacians: list[FloatArray], internal: list[IntArray]) -> None:
        """`internal[k]` labels the internal components of region k at its boundary buses."""
        size = len(public.boundary_ids)
        susceptance = public.tie_susceptance_w_per_rad.astype(np.float64)
        total = np.zeros((size, size))
        np.add.at(total, (public.tie_from, public.tie_from), susceptance)
        np.add.at(total, (public.tie_to, public.tie_to), susceptance)
        np.add.at(total, (public.tie_from, public.tie_to), -susceptance)
        np.add.at(total, (public.tie_to, public.tie_from), -susceptance)
        for region, laplacian in enumerate(laplacians):
            block = public.boundary_of(region)
            total[block, block] += laplacian
        self.component = _boundary_components(public, internal)
        self.matrix: FloatArray = np.zeros((size, size))
        for component in range(self.component_count):
            members = np.flatnonzero(self.component == component)[1:]
            block_index = np.ix_(members, members)
            try:
                self.matrix[block_index] = np.linalg.inv(total[block_index])
            except np.linalg.LinAlgError as error:
                raise GridError(
                    "interconnection",
                    f"component of boundary bus {public.boundary_ids[np.flatnonzero(self.component == component)[0]]}",
                    "the boundary susceptance matrix is singular (negative reactances cancel positive ones)",
                    "correct the reactances of the tie-lines or of the regions between them",
                ) from error

    @property
    def component_count(self) -> int:
        """Number of AC-connected components of the whole interconnection."""
        return int(self.component.max()) + 1


def _boundary_components(public: Interconnection, internal: list[IntArray]) -> IntArray:
    """Join boundary buses by tie-lines and through the inside of their regions."""
    heads = [public.tie_from]
    tails = [public.tie_to]
    for region, labels in enumerate(internal):
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        heads.append(public.offsets[region] + np.arange(len(labels)))
        tails.append(public.offsets[region] + first[inverse])
    return component_labels(np.concatenate(heads), np.concatenate(tails), len(public.boundary_ids))
