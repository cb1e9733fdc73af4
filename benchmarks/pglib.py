"""Does central clearing reproduce PGLib-OPF? Objectives against the DC column of its BASELINE.md.

    python -m benchmarks.pglib [--quick] [--cases a,b] [--json FILE | --resume FILE]

Convention `pglib`, B-theta by HiGHS. Quadratic costs become step curves: the secants of N equal segments of a
unit with range r and coefficient c overrate its cost by at most c (r / N)^2 / 4 per hour, so every such unit
gets the N that keeps the sum of these bounds within SEGMENT_ERROR of the objective. The limit is 1e-4: the
published figures have five digits. Without an error exit 0; a case beyond the limit or a failure is exit 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import typer

from benchmarks.cases import (
    CONGESTED,
    Baseline,
    CasesOption,
    Column,
    Criterion,
    JsonOption,
    QuickOption,
    ResumeOption,
    Row,
    RowFile,
    chosen_cases,
    conclude,
    market_case,
    print_table,
    progress,
    read_case,
    values,
)
from coordinator.market.central import CentralSolution, solve_central
from coordinator.market.costs import offer_from_cost
from coordinator.market.linear_program import SolverError
from coordinator.market.offers import MICRO, Offer, OfferError, StepKind, StepTable
from topology.errors import GridError
from topology.grid import Case, CostRow, Resource

LIMIT = 1e-4
SEGMENT_ERROR = 4e-6
_SIMPLEX_BUSES = 1000
_NOISE_MW = 1e-3


@dataclass(frozen=True)
class PglibRow:
    """One case. Money per hour; `segments` the most steps of a quadratic unit, 0 where no unit is quadratic.

    `refused` says why the reader does not accept the file, `skipped` why there is nothing to compare with.
    """

    case: str
    buses: int
    published: str
    quadratic_units: int = 0
    segments: int = 0
    objective_per_h: float | None = None
    difference: float | None = None
    shed_mw: float = 0.0
    curtailed_mw: float = 0.0
    violation_mw: float = 0.0
    seconds: float | None = None
    refused: str | None = None
    skipped: str | None = None
    error: str | None = None


def compare(baseline: Baseline) -> PglibRow:
    """Clear one case and compare; every failure becomes a row that says so."""
    name, published = baseline.name, baseline.dc_per_h
    if published is None:
        return PglibRow(name, baseline.buses, baseline.published, skipped="no DC optimum is published")
    try:
        case = read_case(name)
    except GridError as error:
        return PglibRow(name, baseline.buses, baseline.published, refused=f"{error.where}: {error.problem}")
    try:
        return _cleared(baseline, published, case)
    except (GridError, OfferError, SolverError, ArithmeticError) as error:
        return PglibRow(name, baseline.buses, baseline.published, error=f"{type(error).__name__}: {error}")


def _cleared(baseline: Baseline, published: float, case: Case) -> PglibRow:
    offers, counts = quadratic_offers(case, SEGMENT_ERROR * abs(published))
    problem = market_case(baseline.name, case, offers).problem
    solution = solve_central(problem, "simplex" if baseline.buses < _SIMPLEX_BUSES else "ipm")
    objective = solution.objective_micro_per_h / MICRO
    shed, curtailed = unserved_mw(problem.steps, solution)
    return PglibRow(
        case=baseline.name,
        buses=baseline.buses,
        published=baseline.published,
        quadratic_units=len(counts),
        segments=max(counts, default=0),
        objective_per_h=objective,
        difference=abs(objective - published) / abs(published),
        shed_mw=shed,
        curtailed_mw=curtailed,
        violation_mw=float(solution.violation_w.sum()) / MICRO,
        seconds=solution.seconds,
    )


def quadratic_offers(case: Case, error_per_h: float) -> tuple[list[Offer], list[int]]:
    """Offers whose secants overrate the cost of the case by at most `error_per_h`; the segments of quadratic units."""
    cost_of = {cost.resource: cost for cost in case.costs}
    units = [unit for unit in case.grid.resources if unit.in_service]
    bends = [_bend_per_h(unit, cost_of.get(unit.id)) for unit in units]
    share = error_per_h / max(1, sum(bend > 0 for bend in bends))
    counts = [math.ceil(math.sqrt(bend / share)) if bend > 0 else 1 for bend in bends]
    offers = [
        offer_from_cost(unit, cost_of.get(unit.id), segments=count) for unit, count in zip(units, counts, strict=True)
    ]
    return offers, [count for count, bend in zip(counts, bends, strict=True) if bend > 0]


def _bend_per_h(unit: Resource, cost: CostRow | None) -> float:
    """How far one secant over the whole range overrates a quadratic cost at most: c r^2 / 4."""
    if cost is None or len(cost.polynomial) < 3:
        return 0.0
    return max(0.0, cost.polynomial[2]) * max(0.0, unit.max_mw - unit.min_mw) ** 2 / 4


def unserved_mw(steps: StepTable, solution: CentralSolution) -> tuple[float, float]:
    """Demand shed and fixed injection curtailed in MW."""
    accepted = solution.accepted_w / MICRO
    shed = float(accepted[steps.kind == StepKind.SHED].sum())
    curtailed = float((steps.width_w / MICRO - accepted)[steps.kind == StepKind.CURTAILABLE].sum())
    return tuple(mw if mw > _NOISE_MW else 0.0 for mw in (shed, curtailed))  # type: ignore[return-value]


def table(cases: Iterable[Baseline], log: RowFile) -> list[Row]:
    """Compare the cases that the log lacks; all rows."""
    for baseline in cases:
        if log.has(baseline.name):
            continue
        row = compare(baseline)
        progress(f"{row.case}: {_outcome(row)}")
        log.add(asdict(row))
    return log.rows


def _outcome(row: PglibRow) -> str:
    reason = row.error or row.refused or row.skipped
    return reason or f"{row.objective_per_h:.6g} per h, published {row.published}, difference {row.difference:.1e}"


def verdicts(rows: Sequence[Row]) -> list[Criterion]:
    """What the rows prove."""
    compared = [row for row in rows if row["difference"] is not None]
    worst = max(compared, key=lambda row: next(values([row], "difference")), default=None)
    within = [row for row in compared if next(values([row], "difference")) <= LIMIT]
    congested = sum(str(row["case"]).endswith(CONGESTED) for row in within)
    beyond = [str(row["case"]) for row in rows if row not in within and not row["refused"] and not row["skipped"]]
    aside = [f"{row['case']} ({row['refused'] or row['skipped']})" for row in rows if row["refused"] or row["skipped"]]
    detail = f"{len(within) - congested} base and {congested} api cases within {LIMIT:g}"
    if worst:
        detail += f", worst {worst['case']} {worst['difference']:.1e}"
    if beyond:
        detail += f"; beyond or failed: {', '.join(beyond)}"
    if aside:
        detail += f"; not counted: {', '.join(aside)}"
    return [Criterion("objectives of PGLib's DC column", not beyond and bool(within), detail)]


COLUMNS = (
    Column("case", "case"),
    Column("buses", "buses", ","),
    Column("published", "published"),
    Column("objective per h", "objective_per_h", ".6e"),
    Column("difference", "difference", ".1e"),
    Column("quadratic units", "quadratic_units"),
    Column("most segments", "segments"),
    Column("shed MW", "shed_mw", ".3f"),
    Column("curtailed MW", "curtailed_mw", ".3f"),
    Column("limits missed MW", "violation_mw", ".3f"),
    Column("seconds", "seconds", ".2f"),
    Column("error", "error"),
)


def main(
    quick: QuickOption = False, cases: CasesOption = "", json_file: JsonOption = None, resume: ResumeOption = None
) -> None:
    """Central clearing against the DC column of PGLib's BASELINE.md."""
    started = time.perf_counter()
    rows = table(chosen_cases(cases, quick), RowFile(["case"], json_file, resume))
    print_table("PGLib-OPF, DC column; quadratic costs by step curves, HiGHS", COLUMNS, rows)
    print(f"elapsed {time.perf_counter() - started:.0f} s")
    conclude(verdicts(rows))


if __name__ == "__main__":
    typer.run(main)
