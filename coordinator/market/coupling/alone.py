"""A region that is cut off clears by itself: its own grid as islands, its exchange with the others held."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from coordinator.market.central import CentralSolution, rounded_clearing, solve_central
from coordinator.market.certificate import Certificate, verify
from coordinator.market.clearing import Clearing, Problem
from coordinator.market.linear_program import InfeasibleError
from coordinator.market.offers import MarketRules, StepTable
from topology.arrays import IntArray
from topology.regions import RegionGrid


@dataclass(frozen=True, slots=True)
class ClearedAlone:
    """The problem a cut-off region solved, its outcome, and the certificate of it. Anyone who may see the problem can
    check the outcome again with `certificate.verify`."""

    problem: Problem
    clearing: Clearing
    certificate: Certificate


def clear_alone(
    region: RegionGrid, steps: StepTable, rules: MarketRules, held_injection_w: IntArray | None = None
) -> ClearedAlone:
    """Clear a region without the others, to a certified optimum.

    `held_injection_w` is what it delivers to the others at each of its boundary buses whatever it costs, none by
    default. Controllable links that end in the region carry nothing. Raises CertificateError, and InfeasibleError
    where nothing keeps the balance with the held exchange.
    """
    problem = Problem(region.network, _with_exchange(region, steps, held_injection_w), rules)
    clearing = rounded_clearing(problem, _solved(region, problem))
    return ClearedAlone(problem, clearing, verify(problem, clearing))


def _solved(region: RegionGrid, problem: Problem) -> CentralSolution:
    try:
        return solve_central(problem)
    except InfeasibleError as error:
        raise InfeasibleError(
            f"region {region.name} cannot clear alone ({error}): an island in it cannot deliver or take what is held "
            "at its boundary; fall back to zero exchange"
        ) from error


def _with_exchange(region: RegionGrid, steps: StepTable, held_injection_w: IntArray | None) -> StepTable:
    if held_injection_w is None:
        return steps
    if len(held_injection_w) != len(region.boundary):
        raise ValueError(
            f"{len(held_injection_w)} held injections for the {len(region.boundary)} boundary buses of region "
            f"{region.name}; give one a bus"
        )
    withdrawal_w = steps.withdrawal_w.copy()
    np.add.at(withdrawal_w, region.boundary, held_injection_w)
    return replace(steps, withdrawal_w=withdrawal_w)
