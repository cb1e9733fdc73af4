"""The usual alternative: consensus ADMM on boundary angles, and how many rounds it needs beside coupling.

    python -m benchmarks.admm [--cases 118_ieee,1354_pegase] [--cap N] [--segments 10] [--json FILE | --resume FILE]

Every region keeps copies of the angles of its own boundary buses and of the buses across its tie-lines, and solves
its own optimal power flow with a quadratic pull towards the agreed angles (by Clarabel); then copies are averaged
and multipliers move (Boyd et al., "Distributed optimization and statistical learning via ADMM", Found. Trends
Mach. Learn. 3(1), 2010, section 7.1). One such exchange is a round. Angles are scaled by the susceptance of the
tie-lines they meet, so that a mismatch is in units of power, and the penalty is either fixed or
balanced by relative residuals (Wohlberg, "ADMM penalty parameter selection by residual balancing", 2017). The best of
several first penalties, each fixed and balanced, counts, which a region could not know beforehand.

Controllable links between regions are not modelled: PGLib's cases have none.
Converged: from this round on for STEADY_ROUNDS, cost within 1e-4 of the optimum and copies within 0.1 MW.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Annotated

import clarabel
import numpy as np
import scipy.sparse as sp
import typer

from benchmarks.cases import (
    Column,
    JsonOption,
    MarketCase,
    ResumeOption,
    Row,
    RowFile,
    chosen_cases,
    load_case,
    print_table,
    progress,
)
from coordinator.market.central import solve_central
from coordinator.market.costs import DEFAULT_SEGMENTS
from coordinator.market.coupling.session import CouplingSession, split_book
from coordinator.market.offers import MICRO, StepTable
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import FloatArray, IntArray
from topology.dc import UNLIMITED_W, W_PER_MW
from topology.regions import Interconnection, RegionCut, RegionGrid, cut_network, regions_automatic

COST_LIMIT = 1e-4
COPY_LIMIT_MW = 0.1
STEADY_ROUNDS = 5
REGIONS = {"118_ieee": 3, "1354_pegase": 8}
CAPS = {"118_ieee": 1500, "1354_pegase": 1500}
FIRST_PENALTIES = (10.0, 30.0, 100.0)
KIND = "admm"

_UNIT_MW = 100.0
"""Power in the quadratic programs; money is per hour in units of as much per MWh."""
_BALANCE_EVERY = 10
_BALANCE_RATIO = 5.0
_BALANCE_FACTOR = 2.0
_FLOAT_BYTES = 8


@dataclass(frozen=True)
class AdmmRun:
    """`rounds` to converge, None when not within `cap`; the relative cost error and copy mismatch at the end."""

    rounds: int | None
    cap: int
    cost_error: float
    mismatch_mw: float
    seconds: float
    first_penalty: float
    balanced: bool
    round_bytes: int


@dataclass(frozen=True)
class AdmmRow:
    """ADMM beside coupling on one cut; `rounds` None: not within `cap`."""

    case: str
    regions: int
    rounds: int | None
    cap: int
    cost_error: float
    mismatch_mw: float
    first_penalty: float
    balanced: bool
    seconds: float
    round_bytes: int
    coupling_rounds: int
    ratio: float
    kind: str = KIND
    error: str | None = None


class _Region:
    """One region's quadratic program. Columns: own angles, accepted steps, angles across the ties.

    `shared` are the boundary positions it holds copies of.
    """

    def __init__(self, cut: RegionCut, region: RegionGrid, steps: StepTable, scale: FloatArray) -> None:
        public, buses, count = cut.interconnection, region.network.bus_count, steps.count
        ties = _RegionTies.of(public, region.index)
        across = len(ties.across)
        matrix, bound = _constraints(public, region, steps, ties)
        cones = [clarabel.ZeroConeT(buses), clarabel.NonnegativeConeT(len(bound) - buses)]
        self.shared: IntArray = np.concatenate(
            [np.arange(public.offsets[region.index], public.offsets[region.index + 1]), ties.across]
        )
        self._columns = np.concatenate([region.boundary, buses + count + np.arange(across)])
        self._scale = scale[self.shared]
        self._size = buses + count + across
        self._cost = np.concatenate([np.zeros(buses), steps.price_micro_per_mwh / MICRO, np.zeros(across)])
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.presolve_enable = False
        self._solver = clarabel.DefaultSolver(self._penalty(1.0), self._cost, matrix, bound, cones, settings)

    def _penalty(self, penalty: float) -> sp.csc_matrix:
        place = (self._columns, self._columns)
        return sp.csc_matrix((penalty * self._scale**2, place), shape=(self._size, self._size))

    def solve(self, target: FloatArray, penalty: float, penalty_changed: bool) -> tuple[FloatArray, float]:
        """Scaled copies and cost per hour at the minimum of cost + penalty / 2 * |copies - target|^2."""
        if penalty_changed:
            self._solver.update(P=self._penalty(penalty))
        linear = self._cost.copy()
        linear[self._columns] -= penalty * self._scale * target
        self._solver.update(q=linear)
        solution = self._solver.solve()
        if str(solution.status) not in ("Solved", "AlmostSolved"):
            raise RuntimeError(f"Clarabel ended a region's problem with status {solution.status}")
        columns = np.array(solution.x)
        return columns[self._columns] * self._scale, float(self._cost @ columns) * _UNIT_MW


@dataclass(frozen=True)
class _RegionTies:
    """Tie-lines of one region: `own` boundary number in the region, `other` number in `across`, limits outwards."""

    tie: IntArray
    own: IntArray
    other: IntArray
    across: IntArray
    sign: IntArray
    low_w: IntArray
    high_w: IntArray

    @staticmethod
    def of(public: Interconnection, region: int) -> _RegionTies:
        owner = public.boundary_region
        starts, ends = owner[public.tie_from] == region, owner[public.tie_to] == region
        tie = np.flatnonzero(starts | ends)
        outwards = starts[tie]
        own = np.where(outwards, public.tie_from[tie], public.tie_to[tie]) - public.offsets[region]
        far = np.where(outwards, public.tie_to[tie], public.tie_from[tie])
        across, other = np.unique(far, return_inverse=True)
        low, high = public.tie_flow_min_w[tie], public.tie_flow_max_w[tie]
        return _RegionTies(
            tie=tie,
            own=own,
            other=other,
            across=across,
            sign=np.where(outwards, 1, -1),
            low_w=np.where(outwards, low, -high),
            high_w=np.where(outwards, high, -low),
        )


def _constraints(
    public: Interconnection, region: RegionGrid, steps: StepTable, ties: _RegionTies
) -> tuple[sp.csc_matrix, FloatArray]:
    """Bus balances, then what flows, tie-lines and steps may not exceed: matrix @ columns = or <= bound."""
    network, count, tie_count = region.network, steps.count, len(ties.tie)
    buses, across = network.bus_count, len(ties.across)
    weight = sp.diags(_units(public.tie_susceptance_w_per_rad[ties.tie]))
    at_own = _selection(region.boundary[ties.own], buses)
    far_ends = _selection(ties.other, across)
    outflow = sp.csr_matrix(sp.hstack([weight @ at_own, sp.csr_matrix((tie_count, count)), -weight @ far_ends]))
    laplacian = network.laplacian / (W_PER_MW * _UNIT_MW)
    inner = sp.hstack([-laplacian, _selection(steps.bus, buses).T, sp.csr_matrix((buses, across))])
    balance = sp.csr_matrix(inner) - at_own.T @ outflow
    flows = sp.diags(_units(network.susceptance_w_per_rad)) @ network.incidence
    flows = sp.hstack([flows, sp.csr_matrix((network.branch_count, count + across))])
    accepted = sp.hstack([sp.csr_matrix((count, buses)), sp.identity(count), sp.csr_matrix((count, across))])
    shift = ties.sign * public.tie_shift_flow_w[ties.tie]
    demand = steps.withdrawal_w - network.shift_injection_w + at_own.T @ shift
    low = np.concatenate([network.flow_min_w - network.shift_flow_w, ties.low_w - shift, np.zeros(count)])
    high = np.concatenate([network.flow_max_w - network.shift_flow_w, ties.high_w - shift, steps.width_w])
    bounded = sp.csr_matrix(sp.vstack([flows, outflow, accepted]))
    capped, floored = high < UNLIMITED_W / 2, low > -UNLIMITED_W / 2
    matrix = sp.vstack([balance, bounded[capped], -bounded[floored]], format="csc")
    return sp.csc_matrix(matrix), _units(np.concatenate([demand, high[capped], -low[floored]]))


def _selection(places: IntArray, size: int) -> sp.csr_matrix:
    """One row a place with a one there; shape (places, size)."""
    return sp.csr_matrix((np.ones(len(places)), (np.arange(len(places)), places)), shape=(len(places), size))


def _units(power_w: FloatArray | IntArray) -> FloatArray:
    return np.asarray(power_w / (W_PER_MW * _UNIT_MW), dtype=np.float64)


def run_admm(
    cut: RegionCut,
    steps: Sequence[StepTable],
    optimum_per_h: float,
    first_penalty: float,
    cap: int,
    *,
    balanced: bool = True,
) -> AdmmRun:
    """ADMM until it converged to `optimum_per_h`, the known cost of the optimum, or `cap` rounds are over."""
    scale = _copy_scale(cut.interconnection)
    regions = [_Region(cut, region, table, scale) for region, table in zip(cut.regions, steps, strict=True)]
    shared = np.concatenate([region.shared for region in regions])
    splits = np.cumsum([len(region.shared) for region in regions])[:-1]
    holders = np.bincount(shared, minlength=len(scale))
    offset = sum(table.offset_micro_per_h for table in steps) / MICRO
    agreed, multiplier, penalty, changed = np.zeros(len(scale)), np.zeros(len(shared)), first_penalty, True
    steady, seconds, error, mismatch = 0, 0.0, np.inf, np.inf
    for number in range(1, cap + 1):
        targets = np.split(agreed[shared] - multiplier, splits)
        solved, slowest = [], 0.0
        for region, target in zip(regions, targets, strict=True):
            started = time.perf_counter()
            solved.append(region.solve(target, penalty, changed))
            slowest = max(slowest, time.perf_counter() - started)
        seconds += slowest
        copies = np.concatenate([copy for copy, _ in solved])
        previous = agreed
        agreed = np.bincount(shared, weights=copies + multiplier, minlength=len(scale)) / holders
        multiplier += copies - agreed[shared]
        error = abs(sum(cost for _, cost in solved) + offset - optimum_per_h) / abs(optimum_per_h)
        mismatch = float(np.abs(copies - agreed[shared]).max()) * _UNIT_MW
        steady = steady + 1 if error <= COST_LIMIT and mismatch <= COPY_LIMIT_MW else 0
        if steady == STEADY_ROUNDS:
            break
        changed = balanced and number % _BALANCE_EVERY == 0 and number < cap / 2
        if changed:
            factor = _balance(copies, agreed[shared], previous[shared], multiplier)
            penalty, multiplier = penalty * factor, multiplier / factor
    rounds = number - STEADY_ROUNDS + 1 if steady == STEADY_ROUNDS else None
    return AdmmRun(
        rounds, cap, float(error), mismatch, seconds, first_penalty, balanced, _FLOAT_BYTES * 2 * len(shared)
    )


def _copy_scale(public: Interconnection) -> FloatArray:
    """Susceptance of the tie-lines at each boundary position, at least one unit of power per radian."""
    strength = np.zeros(len(public.boundary_ids))
    for ends in (public.tie_from, public.tie_to):
        np.add.at(strength, ends, np.abs(_units(public.tie_susceptance_w_per_rad)))
    return np.maximum(1.0, strength)


def _balance(copies: FloatArray, agreed: FloatArray, previous: FloatArray, multiplier: FloatArray) -> float:
    """The factor of the penalty that evens out relative primal and dual residuals."""
    copied, moved = max(_norm(copies), _norm(agreed), 1e-12), max(_norm(multiplier), 1e-12)
    primal, dual = _norm(copies - agreed) / copied, _norm(agreed - previous) / moved
    if primal > _BALANCE_RATIO * dual:
        return _BALANCE_FACTOR
    return 1 / _BALANCE_FACTOR if dual > _BALANCE_RATIO * primal else 1.0


def _norm(values: FloatArray) -> float:
    return float(np.linalg.norm(values))


def failure(name: str, error: Exception) -> Row:
    """A failure, as a row."""
    return {"kind": KIND, "case": name, "regions": REGIONS[name], "error": f"{type(error).__name__}: {error}"}


def compare(market: MarketCase, region_count: int, cap: int) -> AdmmRow:
    """The best of the first penalties, beside the coupling of the same cut from cold."""
    problem = market.problem
    cut = cut_network(problem.network, regions_automatic(problem.network, region_count))
    steps = split_book(cut, market.tabulated.book, problem.rules)
    optimum = solve_central(problem).objective_micro_per_h / MICRO
    runs = []
    for penalty, balanced in product(FIRST_PENALTIES, (True, False)):
        run = run_admm(cut, steps, optimum, penalty, cap, balanced=balanced)
        how = "balanced from" if balanced else "fixed at"
        progress(f"{market.name}: ADMM, penalty {how} {penalty:g}: {run.rounds or f'not within {cap}'}")
        runs.append(run)
    best = min(runs, key=lambda run: (run.rounds or run.cap + 1, run.cost_error))
    outcome = CouplingSession(cut, problem.rules).couple(
        pb.Interval(start_s=0, duration_s=3600, run=pb.MARKET_RUN_DAY_AHEAD), steps
    )
    return AdmmRow(
        case=market.name,
        regions=region_count,
        rounds=best.rounds,
        cap=cap,
        cost_error=best.cost_error,
        mismatch_mw=best.mismatch_mw,
        first_penalty=best.first_penalty,
        balanced=best.balanced,
        seconds=best.seconds,
        round_bytes=best.round_bytes,
        coupling_rounds=outcome.rounds,
        ratio=(best.rounds or cap) / outcome.rounds,
    )


def table(names: Sequence[str], segments: int, log: RowFile, cap: int | None = None) -> list[Row]:
    """Compare those of the names that the baseline is defined for and the log lacks; its rows."""
    for name in (name for name in names if name in REGIONS):
        if not log.has(KIND, name, REGIONS[name]):
            try:
                row = asdict(compare(load_case(name, segments=segments), REGIONS[name], cap or CAPS[name]))
            except Exception as error:
                row = failure(name, error)
            log.add(row)
    return [row for row in log.rows if row["kind"] == KIND]


COLUMNS = (
    Column("case", "case"),
    Column("R", "regions"),
    Column("rounds to 1e-4", "shown"),
    Column("cost error", "cost_error", ".1e"),
    Column("mismatch MW", "mismatch_mw", ".3f"),
    Column("best penalty", "first_penalty", "g"),
    Column("balanced", "balanced"),
    Column("path s", "seconds", ".1f"),
    Column("KB/round", "round_bytes", ".1f", 1e-3),
    Column("coupling rounds", "coupling_rounds"),
    Column("times the rounds", "times"),
    Column("error", "error"),
)


def print_rows(rows: Sequence[Row]) -> None:
    """The table; a run that did not converge says so."""
    if rows:
        print_table("Consensus ADMM on boundary angles, beside coupling", COLUMNS, [_shown(row) for row in rows])


def _shown(row: Row) -> Row:
    if row["error"]:
        return row
    if row["rounds"] is None:
        return {**row, "shown": f"not within {row['cap']}", "times": f"> {row['ratio']:.0f}"}
    return {**row, "shown": str(row["rounds"]), "times": f"{row['ratio']:.0f}"}


def main(
    cases: Annotated[str, typer.Option("--cases", help=f"Of {', '.join(REGIONS)}.")] = ",".join(REGIONS),
    cap: Annotated[int | None, typer.Option("--cap", help="Rounds allowed.")] = None,
    segments: int = DEFAULT_SEGMENTS,
    json_file: JsonOption = None,
    resume: ResumeOption = None,
) -> None:
    """Consensus ADMM on boundary angles, beside coupling."""
    log = RowFile(["kind", "case", "regions"], json_file, resume)
    print_rows(table([baseline.name for baseline in chosen_cases(cases, quick=False)], segments, log, cap))


if __name__ == "__main__":
    typer.run(main)
