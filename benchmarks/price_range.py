"""How much money could the choice among optimal prices move?

With step curves the optimal duals of a clearing are a polyhedron. A dual solution is optimal if and only if it is
complementary to any one optimal dispatch, so the least and the greatest payment of consumers over all optimal
prices are two small linear programs in (energy price per component, shadow price per binding limit):

    price of a bus >= every step that is accepted there, <= every step that is not fully accepted
    shadow price   >= 0 at a lower limit, <= 0 at an upper one

The market's price rule takes one point of that range, by public hash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from coordinator.market.central import CentralSolution, rounded_clearing, solve_central_flowgates
from coordinator.market.clearing import Clearing, Problem
from coordinator.market.fixed_point import ANGLE_BITS, PRICE_BITS, from_fixed
from coordinator.market.linear_program import LinearProgram
from coordinator.market.offers import MICRO, StepKind
from topology.arrays import FloatArray, IntArray
from topology.dc import W_PER_MW, PowerTransferFactors

AT_BOUND_W = 100
"""A quantity or a flow this close to its bound counts as at it: the range is never too small."""
_PRICE_SLACK_PER_MWH = 1e-6


@dataclass(frozen=True)
class PaymentRange:
    """What consumers pay per hour: at the rule's prices, least and most over all optimal prices."""

    chosen_per_h: float
    least_per_h: float
    most_per_h: float


def payment_range(problem: Problem, solution: CentralSolution) -> PaymentRange:
    """The range for one optimal dispatch. Raises SolverError where it has no end."""
    clearing = rounded_clearing(problem, solution)
    served_mw = _served_mw(problem, clearing)
    binding, shadow_low, shadow_high = _binding(problem, clearing)
    components = problem.network.components
    count = int(components.max()) + 1
    member = sp.csr_matrix(
        (np.ones(len(components)), (np.arange(len(components)), components)), (len(components), count)
    )
    price_of = sp.hstack([member, sp.csr_matrix(PowerTransferFactors(problem.network).rows(binding).T)], format="csc")
    low, high = _price_bounds(problem, clearing)
    endless = np.full(count, np.inf)
    payment = np.asarray(price_of.T @ served_mw)
    ends = []
    for sign in (1.0, -1.0):
        program = LinearProgram(
            cost=sign * payment,
            matrix=sp.csc_matrix(price_of),
            row_lower=low - _PRICE_SLACK_PER_MWH,
            row_upper=high + _PRICE_SLACK_PER_MWH,
            column_lower=np.concatenate([-endless, shadow_low]),
            column_upper=np.concatenate([endless, shadow_high]),
        )
        ends.append(sign * program.solve().objective)
    return PaymentRange(payment_per_h(problem, clearing), *ends)


def payments_by_seed(problem: Problem, seeds: int) -> list[float]:
    """What consumers pay per hour at the prices that several displacements pick."""
    solutions = (solve_central_flowgates(problem, seed=f"seed {number}".encode()) for number in range(seeds))
    return [payment_per_h(problem, rounded_clearing(problem, solution)) for solution in solutions]


def payment_per_h(problem: Problem, clearing: Clearing) -> float:
    """Sum of LMP times demand served."""
    return float(from_fixed(clearing.price, PRICE_BITS) / MICRO @ _served_mw(problem, clearing))


def _served_mw(problem: Problem, clearing: Clearing) -> FloatArray:
    steps = problem.steps
    served = steps.withdrawal_w.copy()
    shed = steps.kind == StepKind.SHED
    np.subtract.at(served, steps.bus[shed], clearing.accepted_w[shed])
    return np.asarray(served / W_PER_MW)


def _binding(problem: Problem, clearing: Clearing) -> tuple[IntArray, FloatArray, FloatArray]:
    """Branches at a limit, with the bounds of their shadow prices per MWh."""
    network = problem.network
    angle = from_fixed(clearing.angle, ANGLE_BITS)
    flow = network.susceptance_w_per_rad * (angle[network.from_bus] - angle[network.to_bus]) + network.shift_flow_w
    at_low, at_high = flow <= network.flow_min_w + AT_BOUND_W, flow >= network.flow_max_w - AT_BOUND_W
    binding = np.flatnonzero(at_low | at_high)
    dearest = problem.rules.line_violation_micro_per_mwh / MICRO
    violated = clearing.violation_w[binding] > 0
    low = np.where(at_high[binding], -dearest, np.where(violated, dearest, 0.0))
    high = np.where(at_low[binding], dearest, np.where(violated, -dearest, 0.0))
    return binding, low, high


def _price_bounds(problem: Problem, clearing: Clearing) -> tuple[FloatArray, FloatArray]:
    """Per bus: the dearest step accepted there, and the cheapest that is not fully accepted."""
    steps, buses = problem.steps, problem.network.bus_count
    price = steps.price_micro_per_mwh / MICRO
    low, high = np.full(buses, -np.inf), np.full(buses, np.inf)
    taken = clearing.accepted_w > AT_BOUND_W
    left = clearing.accepted_w < steps.width_w - AT_BOUND_W
    np.maximum.at(low, steps.bus[taken], price[taken])
    np.minimum.at(high, steps.bus[left], price[left])
    return low, high
