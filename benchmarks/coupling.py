"""Does coupling find the central optimum, in how many rounds, in how many bytes, and how fast?

    python -m benchmarks.coupling [--quick] [--cases a,b] [--regions 2,4,8,16] [--segments 10] [--json|--resume FILE]

Every case is cleared centrally once: B-theta by simplex and by interior point (the faster counts), and by lazy
flowgates; then coupled across R regions of METIS, R <= buses / 10. Cold is a fresh session: no flowgate and no
price from before. Warm is the next interval of the same session with the same book. All in one process: `seconds`
of a coupling is its critical path, regions side by side and the hub after them, without network.

Small cases are timed three times, the median counts. Exit code 1 when a criterion fails or a case does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from benchmarks import admm
from benchmarks.cases import (
    Baseline,
    CasesOption,
    Column,
    Criterion,
    JsonOption,
    MarketCase,
    QuickOption,
    ResumeOption,
    Row,
    RowFile,
    chosen_cases,
    conclude,
    load_case,
    print_table,
    progress,
    timed,
    values,
)
from benchmarks.price_range import payment_range, payments_by_seed
from coordinator.market.central import solve_central, solve_central_flowgates
from coordinator.market.certificate import verify
from coordinator.market.clearing import Problem
from coordinator.market.costs import DEFAULT_SEGMENTS
from coordinator.market.coupling.session import CouplingSession, Outcome, assembled, split_book
from coordinator.market.offers import MICRO
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.dc import W_PER_MW
from topology.errors import GridError
from topology.regions import cut_network, regions_automatic

OBJECTIVE_LIMIT = 1e-8
GAP_LIMIT = 1e-6
ROUND_LIMIT, USUAL_ROUNDS, USUAL_SHARE = 6, 4, 0.9
VERIFY_SHARE, VERIFY_BUSES, VERIFY_SECONDS_9241 = 0.1, 1_000, 0.05
FLOWGATE_RATIO_AIM = 1.3
WARM_CASE, WARM_REGIONS, WARM_RATIO = "6468_rte", 8, 40.0
APART = "8387_pegase"
"""Unphysical limits, hundreds of them binding: it must end, but its rounds are shown apart."""

CENTRAL, COUPLED = "central", "coupled"
QUICK_ADMM_CASES = ("118_ieee",)
_SMALL_BUSES = 1_000
_SEEDS = 4
_SEED_SECONDS = 10.0
"""A central flowgate solve that takes longer is not repeated for other seeds."""
_HOUR_S = 3600

RegionsOption = Annotated[str, typer.Option("--regions", help="Numbers of regions, as 2,4,8,16.")]
SegmentsOption = Annotated[int, typer.Option("--segments", help="Steps of a quadratic cost.")]


@dataclass(frozen=True)
class CentralRow:
    """One case cleared centrally. Money per hour; `spread` is how far simplex and interior point differ, relative.

    Payments are of consumers: at the rule's prices, the range over all optimal prices, and what a few
    displacement seeds made of it.
    """

    case: str
    buses: int
    steps: int
    objective_micro_per_h: float
    spread: float
    simplex_seconds: float
    ipm_seconds: float
    flowgate_seconds: float
    flowgate_rounds: int
    payment_per_h: float
    least_payment_per_h: float
    most_payment_per_h: float
    seeds_moved_per_h: float | None
    kind: str = CENTRAL
    regions: int = 0
    error: str | None = None


@dataclass(frozen=True)
class CoupledRow:
    """One case coupled across `regions`. Differences and gaps are relative, times in seconds, `bytes` of a cold run.

    `region_bytes` are sent by a region in a round, on average and by the busiest one.
    """

    case: str
    regions: int
    buses: int
    boundary_buses: int
    rounds: int
    difference: float
    gap: float
    bytes: int
    region_bytes: float
    busiest_region_bytes: float
    seconds: float
    closure_seconds: float
    btheta_seconds: float
    flowgate_seconds: float
    verify_seconds: float
    setup_seconds: float
    flowgates: int
    binding: int
    shed_mw: float
    warm_rounds: int
    warm_seconds: float
    warm_closure_seconds: float
    warm_bytes: int
    kind: str = COUPLED
    error: str | None = None


def failed_row(kind: str, case: str, regions: int, buses: int, error: Exception) -> Row:
    """A failure, as a row."""
    return {"kind": kind, "case": case, "regions": regions, "buses": buses, "error": f"{type(error).__name__}: {error}"}


def clear_centrally(market: MarketCase) -> CentralRow:
    """Time the three central solves and measure what the choice among optimal prices could move."""
    problem = market.problem
    repeats = _repeats(market)
    simplex, simplex_seconds = timed(lambda: solve_central(problem, "simplex"), repeats)
    interior, ipm_seconds = timed(lambda: solve_central(problem, "ipm"), repeats)
    flowgates, flowgate_seconds = timed(lambda: solve_central_flowgates(problem), repeats)
    payments = payment_range(problem, flowgates)
    quick = flowgate_seconds < _SEED_SECONDS
    by_seed = [payments.chosen_per_h, *payments_by_seed(problem, _SEEDS)] if quick else []
    objective = simplex.objective_micro_per_h
    return CentralRow(
        case=market.name,
        buses=problem.network.bus_count,
        steps=problem.steps.count,
        objective_micro_per_h=objective,
        spread=abs(interior.objective_micro_per_h - objective) / abs(objective),
        simplex_seconds=simplex_seconds,
        ipm_seconds=ipm_seconds,
        flowgate_seconds=flowgate_seconds,
        flowgate_rounds=flowgates.rounds,
        payment_per_h=payments.chosen_per_h,
        least_payment_per_h=payments.least_per_h,
        most_payment_per_h=payments.most_per_h,
        seeds_moved_per_h=max(by_seed) - min(by_seed) if by_seed else None,
    )


def couple(market: MarketCase, central: Row, regions: int) -> CoupledRow:
    """Couple cold and then once more, and check the whole in integers."""
    problem = market.problem
    cut = cut_network(problem.network, regions_automatic(problem.network, regions))
    steps = split_book(cut, market.tabulated.book, problem.rules)
    runs: list[tuple[CouplingSession, Outcome]] = []
    setup = []
    for _ in range(_repeats(market)):
        session, seconds = timed(lambda: CouplingSession(cut, problem.rules))
        setup.append(seconds)
        runs.append((session, session.couple(_interval(0), steps)))
    session, cold = sorted(runs, key=lambda run: run[1].seconds)[len(runs) // 2]
    warm = sorted((session.couple(_interval(1 + i), steps) for i in range(3)), key=lambda run: run.seconds)[1]
    whole, clearing = assembled(cut, cold, steps)
    certificate, verify_seconds = timed(lambda: verify(Problem(problem.network, whole, problem.rules), clearing), 5)
    sent = [cold.traffic.by_sender[name] / cold.rounds for name in cut.interconnection.region_names]
    objective = cold.agreement.objective.per_h * MICRO
    reference = _number(central, "objective_micro_per_h")
    return CoupledRow(
        case=market.name,
        regions=regions,
        buses=problem.network.bus_count,
        boundary_buses=len(cut.interconnection.boundary_ids),
        rounds=cold.rounds,
        difference=abs(objective - reference) / abs(reference),
        gap=cold.agreement.gap_micro_per_h / abs(objective),
        bytes=cold.traffic.total,
        region_bytes=sum(sent) / len(sent),
        busiest_region_bytes=max(sent),
        seconds=cold.seconds,
        closure_seconds=cold.gate_closure_seconds,
        btheta_seconds=min(_number(central, "simplex_seconds"), _number(central, "ipm_seconds")),
        flowgate_seconds=_number(central, "flowgate_seconds"),
        verify_seconds=verify_seconds,
        setup_seconds=min(setup),
        flowgates=cold.active_flowgates,
        binding=len(cold.congested),
        shed_mw=sum(certificate.shed_w.values()) / W_PER_MW,
        warm_rounds=warm.rounds,
        warm_seconds=warm.seconds,
        warm_closure_seconds=warm.gate_closure_seconds,
        warm_bytes=warm.traffic.total,
    )


def _repeats(market: MarketCase) -> int:
    return 3 if market.problem.network.bus_count < _SMALL_BUSES else 1


def _interval(number: int) -> pb.Interval:
    return pb.Interval(start_s=number * _HOUR_S, duration_s=_HOUR_S, run=pb.MARKET_RUN_DAY_AHEAD)


def table(cases: Iterable[Baseline], region_counts: Sequence[int], segments: int, log: RowFile) -> list[Row]:
    """Run what the log lacks; all rows. A case that the reader refuses becomes a central row that says why."""
    for baseline in cases:
        todo = [r for r in region_counts if r <= baseline.buses / 10 and not log.has(COUPLED, baseline.name, r)]
        if todo or not log.has(CENTRAL, baseline.name, 0):
            _run_case(baseline, todo, segments, log)
    return log.rows


def _run_case(baseline: Baseline, region_counts: Sequence[int], segments: int, log: RowFile) -> None:
    """One failing run must not end the others, whatever its error: it becomes a row, and exit code 1."""
    name, buses = baseline.name, baseline.buses
    try:
        market = load_case(name, segments=segments)
    except GridError as error:
        progress(f"{name}: refused, {error}")
        refused = f"{error.where}: {error.problem}"
        log.add({"kind": CENTRAL, "case": name, "regions": 0, "buses": buses, "refused": refused, "error": None})
        return
    central = next((row for row in log.rows if row["kind"] == CENTRAL and row["case"] == name), None)
    if central is None:
        try:
            central = asdict(clear_centrally(market))
        except Exception as error:
            central = failed_row(CENTRAL, name, 0, buses, error)
        progress(f"{name}: central {_outcome(central)}")
        log.add(central)
    for regions in region_counts if not central["error"] else ():
        try:
            row = asdict(couple(market, central, regions))
        except Exception as error:
            row = failed_row(COUPLED, name, regions, buses, error)
        progress(f"{name}: {regions} regions {_outcome(row)}")
        log.add(row)


def _outcome(row: Row) -> str:
    if row["error"]:
        return f"failed, {row['error']}"
    if row["kind"] == CENTRAL:
        return (
            f"simplex {row['simplex_seconds']:.3f} s, interior point {row['ipm_seconds']:.3f} s, "
            f"flowgates {row['flowgate_seconds']:.3f} s"
        )
    return (
        f"{row['rounds']} rounds, difference {row['difference']:.1e}, gap {row['gap']:.1e}, {row['seconds']:.3f} s; "
        f"warm {row['warm_rounds']} rounds, {row['warm_seconds']:.3f} s"
    )


def verdicts(rows: Sequence[Row]) -> list[Criterion]:
    """What the rows prove."""
    coupled = [row for row in rows if row["kind"] == COUPLED and not row["error"]]
    failed = [_label(row) for row in rows if row.get("error")]
    return [
        Criterion("every case ends", not failed and bool(coupled), f"{len(coupled)} runs ended" + _named(failed)),
        _within("objective equals the central one", coupled, "difference", OBJECTIVE_LIMIT),
        *_rounds(coupled),
        _within("certified gap", coupled, "gap", GAP_LIMIT),
        *_verification(coupled),
        *_speed(coupled),
    ]


def _label(row: Row) -> str:
    return f"{row['case']}/{row['regions']}"


def _named(labels: Sequence[str]) -> str:
    return f"; not: {', '.join(labels)}" if labels else ""


def _number(row: Row, field: str) -> float:
    return next(values([row], field))


def _within(name: str, rows: Sequence[Row], field: str, limit: float) -> Criterion:
    beyond = [f"{_label(row)} {row[field]:.1e}" for row in rows if _number(row, field) > limit]
    worst = max(values(rows, field), default=0.0)
    detail = f"limit {limit:g}, worst {worst:.1e} in {len(rows)} runs" + _named(beyond)
    return Criterion(name, bool(rows) and not beyond, detail)


def _rounds(coupled: Sequence[Row]) -> list[Criterion]:
    counted = [row for row in coupled if not str(row["case"]).startswith(APART)]
    apart = [f"{_label(row)} {row['rounds']}" for row in coupled if row not in counted]
    slow = [f"{_label(row)} {row['rounds']}" for row in counted if _number(row, "rounds") > ROUND_LIMIT]
    usual = sum(_number(row, "rounds") <= USUAL_ROUNDS for row in counted)
    share = usual / max(1, len(counted))
    most = int(max(values(counted, "rounds"), default=0))
    spread = ", ".join(f"{n}: {sum(row['rounds'] == n for row in counted)}" for n in range(1, most + 1))
    aside = f"; apart: {', '.join(apart)}" if apart else ""
    return [
        Criterion(
            f"at most {ROUND_LIMIT} rounds",
            bool(counted) and not slow,
            f"runs by rounds {spread}{aside}" + _named(slow),
        ),
        Criterion(
            f"at most {USUAL_ROUNDS} rounds in {USUAL_SHARE:.0%}",
            share >= USUAL_SHARE,
            f"{usual} of {len(counted)} runs ({share:.1%})",
        ),
    ]


def _verification(coupled: Sequence[Row]) -> list[Criterion]:
    """The share on larger cases, and the absolute time on PEGASE 9241."""
    large = [row for row in coupled if _number(row, "buses") >= VERIFY_BUSES]
    shares = {_label(row): _number(row, "verify_seconds") / _number(row, "btheta_seconds") for row in large}
    slow = [f"{label} {share:.1%}" for label, share in shares.items() if share > VERIFY_SHARE]
    biggest = [row for row in coupled if str(row["case"]).startswith("9241_pegase")]
    late = [f"{_label(r)} {_milli(r)}" for r in biggest if _number(r, "verify_seconds") > VERIFY_SECONDS_9241]
    criteria = []
    if shares:
        detail = f"worst {max(shares.values()):.1%} of B-theta from {VERIFY_BUSES:,} buses" + _named(slow)
        criteria.append(Criterion(f"verification within {VERIFY_SHARE:.0%}", not slow, detail))
    if biggest:
        detail = f"{', '.join(_milli(row) for row in biggest)}" + _named(late)
        criteria.append(Criterion(f"verification within {VERIFY_SECONDS_9241 * 1e3:.0f} ms at 9,241", not late, detail))
    return criteria


def _milli(row: Row) -> str:
    return f"{_number(row, 'verify_seconds') * 1e3:.1f} ms"


def _speed(coupled: Sequence[Row]) -> list[Criterion]:
    criteria = []
    large = [row for row in coupled if _number(row, "buses") >= _SMALL_BUSES]
    small = [row for row in coupled if _number(row, "buses") < _SMALL_BUSES]
    for rows, sizes in ((large, f"from {_SMALL_BUSES:,} buses"), (small, f"below {_SMALL_BUSES:,} buses")):
        ratios = sorted(_number(row, "seconds") / _number(row, "flowgate_seconds") for row in rows)
        if ratios:
            met = sum(ratio <= FLOWGATE_RATIO_AIM for ratio in ratios)
            detail = (
                f"median {ratios[len(ratios) // 2]:.2f}, met in {met} of {len(ratios)} runs, worst {ratios[-1]:.2f}"
            )
            name = f"cold critical path within {FLOWGATE_RATIO_AIM} times central flowgates, {sizes}"
            criteria.append(Criterion(name, ratios[len(ratios) // 2] <= FLOWGATE_RATIO_AIM, detail, aim=True))
    for row in coupled:
        if (row["case"], row["regions"]) == (WARM_CASE, WARM_REGIONS):
            warm_round = _number(row, "warm_seconds") / _number(row, "warm_rounds")
            ratio = _number(row, "btheta_seconds") / warm_round
            detail = f"B-theta {row['btheta_seconds']:.2f} s, a warm round {warm_round * 1e3:.1f} ms: 1/{ratio:.1f}"
            name = f"a warm round on {WARM_CASE}, R = {WARM_REGIONS}, at most 1/{WARM_RATIO:.0f} of B-theta"
            criteria.append(Criterion(name, ratio >= WARM_RATIO, detail))
    return criteria


CENTRAL_COLUMNS = (
    Column("case", "case"),
    Column("buses", "buses", ","),
    Column("steps", "steps", ","),
    Column("simplex s", "simplex_seconds", ".3f"),
    Column("interior point s", "ipm_seconds", ".3f"),
    Column("they differ", "spread", ".1e"),
    Column("flowgates s", "flowgate_seconds", ".3f"),
    Column("rounds", "flowgate_rounds"),
    Column("error", "error"),
)
COUPLED_COLUMNS = (
    Column("case", "case"),
    Column("R", "regions"),
    Column("boundary", "boundary_buses", ","),
    Column("rounds", "rounds"),
    Column("difference", "difference", ".1e"),
    Column("gap", "gap", ".1e"),
    Column("KB", "bytes", ".1f", 1e-3),
    Column("KB/region/round", "region_bytes", ".2f", 1e-3),
    Column("busiest", "busiest_region_bytes", ".2f", 1e-3),
    Column("path s", "seconds", ".3f"),
    Column("B-theta s", "btheta_seconds", ".3f"),
    Column("/flowgates", "flowgate_ratio", ".2f"),
    Column("verify ms", "verify_seconds", ".1f", 1e3),
    Column("setup s", "setup_seconds", ".2f"),
    Column("gates", "flowgates"),
    Column("binding", "binding"),
    Column("warm", "warm_rounds"),
    Column("warm s", "warm_seconds", ".3f"),
    Column("closure s", "warm_closure_seconds", ".3f"),
    Column("KB", "warm_bytes", ".1f", 1e-3),
    Column("/B-theta", "warm_ratio", ".3f"),
    Column("error", "error"),
)
PAYMENT_COLUMNS = (
    Column("case", "case"),
    Column("consumers pay per h", "payment_per_h", ",.0f"),
    Column("least", "least_payment_per_h", ",.0f"),
    Column("most", "most_payment_per_h", ",.0f"),
    Column("choice moves", "moves", ",.2f"),
    Column("of payment", "moves_share", ".1e"),
    Column(f"{_SEEDS} seeds moved", "seeds_moved_per_h", ",.2f"),
)


def _with_ratios(row: Row) -> Row:
    if row["error"]:
        return row
    if row["kind"] == CENTRAL:
        moves = _number(row, "most_payment_per_h") - _number(row, "least_payment_per_h")
        return {**row, "moves": moves, "moves_share": moves / max(1e-9, abs(_number(row, "payment_per_h")))}
    return {
        **row,
        "flowgate_ratio": _number(row, "seconds") / _number(row, "flowgate_seconds"),
        "warm_ratio": _number(row, "warm_seconds") / _number(row, "btheta_seconds"),
    }


def print_rows(rows: Sequence[Row]) -> None:
    """The three tables and what was refused."""
    central = [_with_ratios(row) for row in rows if row["kind"] == CENTRAL and not row.get("refused")]
    print_table("Central clearing", CENTRAL_COLUMNS, central)
    coupled = [_with_ratios(row) for row in rows if row["kind"] == COUPLED]
    print_table("Coupling, cold and warm (critical path)", COUPLED_COLUMNS, coupled)
    print_table("Money that the choice among optimal prices could move", PAYMENT_COLUMNS, central)
    for row in rows:
        if row.get("refused"):
            print(f"refused by the reader, not counted: {row['case']} ({row['refused']})")


def main(
    quick: QuickOption = False,
    cases: CasesOption = "",
    regions: RegionsOption = "2,4,8,16",
    segments: SegmentsOption = DEFAULT_SEGMENTS,
    json_file: JsonOption = None,
    resume: ResumeOption = None,
) -> None:
    """Coupling across regions against the central optimum of the same curves, and ADMM beside it."""
    started = time.perf_counter()
    chosen = chosen_cases(cases, quick)
    log = RowFile(["kind", "case", "regions"], json_file, resume)
    counts = [int(count) for count in regions.split(",")]
    rows = table(chosen, counts, segments, log)
    print_rows(rows)
    compared = QUICK_ADMM_CASES if quick else [baseline.name for baseline in chosen]
    admm.print_rows(admm.table(compared, segments, log))
    print(f"elapsed {time.perf_counter() - started:.0f} s")
    conclude(verdicts(rows))


if __name__ == "__main__":
    typer.run(main)
