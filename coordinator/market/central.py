"""Central clearing, the reference that coupling is compared with: everything known to one solver.

`solve_central` is the textbook DC optimal power flow in angles (B-theta); `solve_central_flowgates` is the
lazy flowgate formulation that coupling uses, without regions or messages, so that comparisons are honest.
Both return floats; `rounded_clearing` makes the integers that a certificate is about.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from coordinator.market.clearing import Clearing, Problem, rounded_balanced
from coordinator.market.component_balance import ComponentBalance
from coordinator.market.fixed_point import ANGLE_BITS, PRICE_BITS, to_fixed
from coordinator.market.flowgate_program import POWER_UNIT_W, FlowgateProgram, Optimum, solve_flowgates
from coordinator.market.linear_program import Algorithm, InfeasibleError, LinearProgram, Solution, SolverError
from coordinator.market.offers import MICRO
from topology.arrays import BoolArray, FloatArray, IntArray
from topology.dc import UNLIMITED_W, PowerTransferFactors

MAXIMUM_ROUNDS = 60


@dataclass(frozen=True)
class CentralSolution:
    """Float outcome of a central solve: W, rad, micro-units per MWh; `seconds` is the solver's wall time.

    `energy_price` is the price at the reference bus (the first) of each component.
    """

    accepted_w: FloatArray
    link_w: FloatArray
    energy_price: FloatArray
    shadow_price: FloatArray
    violation_w: FloatArray
    objective_micro_per_h: float
    seconds: float
    rounds: int = 1


def solve_central(problem: Problem, algorithm: Algorithm = "simplex") -> CentralSolution:
    """The B-theta linear program. Limits are hard; only if nothing can keep them they become elastic.

    Raises SolverError when no optimum is proven.
    """
    started = time.perf_counter()
    hard = _AngleProgram(problem, elastic=False, algorithm=algorithm)
    try:
        solution = hard.program.solve()
        if hard.largest_shadow_price(solution) <= problem.rules.line_violation_micro_per_mwh:
            return hard.result(solution, time.perf_counter() - started)
    except InfeasibleError:
        pass
    elastic = _AngleProgram(problem, elastic=True, algorithm=algorithm)
    return elastic.result(elastic.program.solve(), time.perf_counter() - started)


class _AngleProgram:
    """Columns: bus angles, steps, links, and with `elastic` two violations per limited branch."""

    def __init__(self, problem: Problem, *, elastic: bool, algorithm: Algorithm) -> None:
        network, steps = problem.network, problem.steps
        self._problem = problem
        self._limited: BoolArray = (network.flow_min_w > -UNLIMITED_W) | (network.flow_max_w < UNLIMITED_W)
        limited = np.flatnonzero(self._limited)
        self._elastic = len(limited) if elastic else 0
        buses, links = network.bus_count, len(network.link_ids)
        injection = sp.csr_matrix((np.ones(steps.count), (steps.bus, np.arange(steps.count))), (buses, steps.count))
        ends = sp.csr_matrix(
            (
                np.repeat([-1.0, 1.0], links),
                (np.concatenate([network.link_from, network.link_to]), np.tile(np.arange(links), 2)),
            ),
            (buses, links),
        )
        flows = sp.diags(network.susceptance_w_per_rad[limited] / POWER_UNIT_W) @ network.incidence[limited]
        stretch = sp.identity(self._elastic, format="csr")
        balance = [-network.laplacian / POWER_UNIT_W, injection, ends, sp.csr_matrix((buses, 2 * self._elastic))]
        bounds = [flows, sp.csr_matrix((len(limited), steps.count + links))]
        bounds.append(sp.hstack([stretch, -stretch]) if elastic else sp.csr_matrix((len(limited), 0)))
        matrix = sp.vstack([sp.hstack(balance), sp.hstack(bounds)], format="csc")
        demand = (steps.withdrawal_w - network.shift_injection_w) / POWER_UNIT_W
        shift = network.shift_flow_w[limited]
        low = _unbounded((network.flow_min_w[limited] - shift) / POWER_UNIT_W)
        high = _unbounded((network.flow_max_w[limited] - shift) / POWER_UNIT_W)
        angle_bound = np.full(buses, np.inf)
        _, references = np.unique(network.components, return_index=True)
        angle_bound[references] = 0.0
        penalty = np.full(2 * self._elastic, problem.rules.line_violation_micro_per_mwh / MICRO)
        free = np.full(2 * self._elastic, np.inf)
        width, slack = steps.width_w / POWER_UNIT_W, np.zeros(2 * self._elastic)
        self.program = LinearProgram(
            cost=np.concatenate([np.zeros(buses), steps.price_micro_per_mwh / MICRO, np.zeros(links), penalty]),
            matrix=matrix,
            row_lower=np.concatenate([demand, low]),
            row_upper=np.concatenate([demand, high]),
            column_lower=np.concatenate(
                [-angle_bound, np.zeros(steps.count), network.link_min_w / POWER_UNIT_W, slack]
            ),
            column_upper=np.concatenate([angle_bound, width, network.link_max_w / POWER_UNIT_W, free]),
            algorithm=algorithm,
        )

    def largest_shadow_price(self, solution: Solution) -> float:
        """In micro-units per MWh."""
        return float(np.abs(solution.duals[self._problem.network.bus_count :]).max(initial=0.0)) * MICRO

    def result(self, solution: Solution, seconds: float) -> CentralSolution:
        network, steps = self._problem.network, self._problem.steps
        buses, links = network.bus_count, len(network.link_ids)
        limited = np.flatnonzero(self._limited)
        shadow, violation = np.zeros(network.branch_count), np.zeros(network.branch_count)
        ceiling = self._problem.rules.line_violation_micro_per_mwh
        shadow[limited] = np.clip(solution.duals[buses:] * MICRO, -ceiling, ceiling)
        if self._elastic:
            stretch = solution.columns[buses + steps.count + links :].reshape(2, -1) * POWER_UNIT_W
            violation[limited] = stretch[0] + stretch[1]
        _, references = np.unique(network.components, return_index=True)
        return CentralSolution(
            accepted_w=solution.columns[buses : buses + steps.count] * POWER_UNIT_W,
            link_w=solution.columns[buses + steps.count : buses + steps.count + links] * POWER_UNIT_W,
            energy_price=solution.duals[references] * MICRO,
            shadow_price=shadow,
            violation_w=violation,
            objective_micro_per_h=solution.objective * POWER_UNIT_W + steps.offset_micro_per_h,
            seconds=seconds,
        )


def _unbounded(limits: FloatArray) -> FloatArray:
    """Limits at the sentinel become infinite for the solver."""
    return np.where(np.abs(limits) * POWER_UNIT_W >= 0.5 * UNLIMITED_W, np.copysign(np.inf, limits), limits)


def solve_central_flowgates(problem: Problem, seed: bytes = b"") -> CentralSolution:
    """The lazy flowgate program over everything: add violated lines, solve again, until none is violated.

    It ends: every round adds at least one line, and lines are finite. Raises SolverError at 60 rounds.
    """
    started = time.perf_counter()
    network, steps = problem.network, problem.steps
    transfer = PowerTransferFactors(network)
    step_count, link_count = steps.count, len(network.link_ids)
    balance = _component_balance(problem)
    nothing = np.zeros(balance.components, dtype=np.int64)
    gates = np.zeros(0, dtype=np.int64)
    rows = np.zeros((0, network.bus_count))
    likely = np.zeros(0, dtype=np.bool_)
    withdrawal = -steps.withdrawal_w.astype(np.float64)
    for number in range(1, MAXIMUM_ROUNDS + 1):
        shift_w = network.shift_flow_w[gates] + rows @ network.shift_injection_w
        program = FlowgateProgram(
            price_micro_per_mwh=np.concatenate([steps.price_micro_per_mwh.astype(np.float64), np.zeros(link_count)]),
            lower_w=np.concatenate([np.zeros(step_count), network.link_min_w]),
            upper_w=np.concatenate([steps.width_w, network.link_max_w]).astype(np.float64),
            balance=balance,
            factors=np.hstack([rows[:, steps.bus], rows[:, network.link_to] - rows[:, network.link_from]]),
            base_w=np.asarray(np.bincount(network.components, weights=withdrawal), dtype=np.float64),
            gate_base_w=rows @ withdrawal + shift_w,
            gate_min_w=network.flow_min_w[gates].astype(np.float64),
            gate_max_w=network.flow_max_w[gates].astype(np.float64),
            row_names=[str(c) for c in range(balance.components)] + [network.branch_ids[g] for g in gates],
            line_violation_micro_per_mwh=problem.rules.line_violation_micro_per_mwh,
            unpublished_more_w=nothing,
            unpublished_less_w=nothing,
        )
        optimum = solve_flowgates(program, seed, likely)
        accepted, link = optimum.quantity_w[:step_count], optimum.quantity_w[step_count:]
        flows = _flows(problem, transfer, accepted, link)
        excess = np.maximum(flows - network.flow_max_w, network.flow_min_w - flows)
        excess[gates] = 0.0
        violated = np.flatnonzero(excess > problem.rules.tolerance_w)
        if not violated.size:
            _check_balanced(problem, optimum)
            shadow, violation = np.zeros(network.branch_count), np.zeros(network.branch_count)
            shadow[gates], violation[gates] = optimum.shadow_price, np.abs(optimum.violation_w)
            cost = float(accepted @ steps.price_micro_per_mwh.astype(np.float64))
            cost += problem.rules.line_violation_micro_per_mwh * float(violation.sum())
            return CentralSolution(
                accepted_w=accepted,
                link_w=link,
                energy_price=optimum.energy_price,
                shadow_price=shadow,
                violation_w=violation,
                objective_micro_per_h=cost / MICRO + steps.offset_micro_per_h,
                seconds=time.perf_counter() - started,
                rounds=number,
            )
        gates = np.concatenate([gates, violated])
        likely = np.concatenate([optimum.shadow_price != 0, np.zeros(len(violated), dtype=np.bool_)])
        rows = np.vstack([rows, transfer.rows(violated)])
    raise SolverError(f"{MAXIMUM_ROUNDS} rounds of adding violated lines did not end; use solve_central")


def _check_balanced(problem: Problem, optimum: Optimum) -> None:
    for component in np.flatnonzero(np.abs(optimum.imbalance_w) > problem.rules.tolerance_w):
        network = problem.network
        first = network.bus_ids[int(np.flatnonzero(network.components == component)[0])]
        raise InfeasibleError(f"the component of bus {first} cannot balance; check the minimum flows of its links")


def _component_balance(problem: Problem) -> ComponentBalance:
    network = problem.network
    component = network.components
    return ComponentBalance.of(
        int(component.max()) + 1,
        component[problem.steps.bus],
        component[network.link_from],
        component[network.link_to],
    )


def _flows(problem: Problem, transfer: PowerTransferFactors, accepted: FloatArray, link: FloatArray) -> FloatArray:
    network, steps = problem.network, problem.steps
    injection = -steps.withdrawal_w.astype(np.float64)
    np.add.at(injection, steps.bus, accepted)
    np.add.at(injection, network.link_to, link)
    np.subtract.at(injection, network.link_from, link)
    angles = transfer.angles_rad(injection)
    drop = angles[network.from_bus] - angles[network.to_bus]
    return np.asarray(network.susceptance_w_per_rad * drop + network.shift_flow_w)


def rounded_clearing(problem: Problem, solution: CentralSolution) -> Clearing:
    """The integers of a central solution: a dispatch that balances to the watt, its angles, and consistent prices."""
    network, steps = problem.network, problem.steps
    component = network.components
    link_w = np.clip(np.rint(solution.link_w).astype(np.int64), network.link_min_w, network.link_max_w)
    target = np.zeros(int(component.max()) + 1, dtype=np.int64)
    np.add.at(target, component, steps.withdrawal_w)
    np.add.at(target, component[network.link_from], link_w)
    np.subtract.at(target, component[network.link_to], link_w)
    accepted = rounded_balanced(
        solution.accepted_w, np.zeros_like(steps.width_w), steps.width_w, component[steps.bus], target
    )
    transfer = PowerTransferFactors(network)
    partial = Clearing(accepted, target, target, target, link_w, _whole(solution.violation_w))
    angles = transfer.angles_rad(partial.injection_w(problem).astype(np.float64))
    return Clearing(
        accepted_w=accepted,
        angle=to_fixed(angles, ANGLE_BITS),
        price=to_fixed(_consistent_prices(problem, transfer, solution), PRICE_BITS),
        shadow_price=to_fixed(solution.shadow_price, PRICE_BITS),
        link_w=link_w,
        violation_w=partial.violation_w,
    )


def _whole(violation_w: FloatArray) -> IntArray:
    return np.rint(violation_w).astype(np.int64)


def _consistent_prices(problem: Problem, transfer: PowerTransferFactors, solution: CentralSolution) -> FloatArray:
    """LMPs from energy and shadow prices: L @ price = incidence^T (susceptance * shadow price), by component."""
    network = problem.network
    pull = np.asarray(network.incidence.T @ (network.susceptance_w_per_rad * solution.shadow_price))
    return transfer.solve(pull) + solution.energy_price[network.components]
