"""The same hours solved by PyPSA, in a Python environment of its own: does it find the same optimum, and in what time?

Both get the same step offers, demand, susceptances and limits. PyPSA solves all hours as one program, as its users do;
beside it stand the hours solved one after the other by the central B-theta program, and coupled by regions in memory.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.cases import interval_demand_w, interval_offers, run_intervals
from actors.study import Settings, Study
from benchmarks.cases import Criterion, Row
from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.costs import DEFAULT_SEGMENTS
from coordinator.market.offers import MICRO, MarketRules, StepTable, build_book, tabulate
from topology.arrays import FloatArray, IntArray
from topology.case_files import read_case
from topology.dc import W_PER_MW, DcNetwork, build_dc_network

KIND = "pypsa"
OBJECTIVE_LIMIT = 1e-6
_SCRIPT = Path(__file__).resolve().parent / "pypsa" / "solve.py"
_TIMEOUT_S = 1_800


@dataclass(frozen=True, slots=True)
class PypsaRow:
    """Wall seconds of all hours together; `worst` is the largest relative difference of an hour's objectives."""

    hours: int
    worst: float
    make_s: float
    optimize_s: float
    central_s: float
    coupled_s: float
    versions: str
    kind: str = KIND


def compare(python: Path, case: Path, regions: str, hours: int) -> PypsaRow:
    """Raises RuntimeError with what PyPSA said, where it did not end well."""
    problems = problems_of(case, hours)
    started = time.perf_counter()
    central = [solve_central(problem).objective_micro_per_h / MICRO for problem in problems]
    central_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hours.npz"
        np.savez(path, allow_pickle=False, **arrays_of(problems))
        done = subprocess.run([python, _SCRIPT, path], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{python}: {done.stderr.strip()[-1000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    offsets = [problem.steps.offset_micro_per_h / MICRO for problem in problems]
    theirs = [objective + offset for objective, offset in zip(found["objective_per_h"], offsets, strict=True)]
    return PypsaRow(
        hours=hours,
        worst=max(abs(one - other) / max(1.0, abs(one)) for one, other in zip(central, theirs, strict=True)),
        make_s=found["make_s"],
        optimize_s=found["optimize_s"],
        central_s=central_s,
        coupled_s=_coupled_s(case, regions, hours),
        versions=", ".join(f"{name} {number}" for name, number in found["versions"].items()),
    )


def problems_of(case_path: Path, hours: int) -> list[Problem]:
    """The first hours of a case with series, as `gridaccord couple` clears them."""
    case, rules = read_case(case_path), MarketRules()
    network = build_dc_network(case.grid)
    problems = []
    for market in run_intervals(case, str(case_path), hours):
        offers = interval_offers(case, market, segments=DEFAULT_SEGMENTS, relax_minimum=True, asset="EUR")
        book = build_book(offers, interval_demand_w(case.grid, market), case.grid.bus_position, rules)
        problems.append(Problem(network, tabulate(book, rules).steps, rules))
    return problems


def arrays_of(problems: Sequence[Problem]) -> dict[str, FloatArray | IntArray]:
    """What `pypsa/solve.py` reads: the network once, and widths and prices by hour and step, in MW and per MWh.

    The steps of a bus are numbered within each hour; one that an hour has not has no width there.
    """
    network = problems[0].network
    assert not network.shift_flow_w.any(), "phase shifters are not modelled in the comparison"
    assert (network.flow_max_w == -network.flow_min_w).all(), "limits are the same both ways"
    places = [_places(problem.steps) for problem in problems]
    columns = {place: number for number, place in enumerate(sorted(set().union(*places)))}
    width, price = np.zeros((len(problems), len(columns))), np.zeros((len(problems), len(columns)))
    for hour, (problem, of_hour) in enumerate(zip(problems, places, strict=True)):
        chosen = [columns[place] for place in of_hour]
        width[hour, chosen] = problem.steps.width_w / W_PER_MW
        price[hour, chosen] = problem.steps.price_micro_per_mwh / MICRO
    withdrawal = np.array([problem.steps.withdrawal_w for problem in problems]) / W_PER_MW
    step_bus = np.array([bus for bus, _ in columns], dtype=np.int64)
    hourly: dict[str, FloatArray | IntArray] = {
        "width_mw": width,
        "price_per_mwh": price,
        "withdrawal_mw": withdrawal,
        "step_bus": step_bus,
    }
    return {**_network_arrays(network), **hourly, "withdrawal_mw": withdrawal}


def _places(steps: StepTable) -> list[tuple[int, int]]:
    """Of each step its bus, and its number among those of the bus."""
    seen: dict[int, int] = {}
    found = []
    for bus in steps.bus.tolist():
        found.append((bus, seen.get(bus, 0)))
        seen[bus] = seen.get(bus, 0) + 1
    return found


def _network_arrays(network: DcNetwork) -> dict[str, FloatArray | IntArray]:
    return {
        "from_bus": network.from_bus,
        "to_bus": network.to_bus,
        "susceptance_mw": network.susceptance_w_per_rad / W_PER_MW,
        "limit_mw": network.flow_max_w / W_PER_MW,
        "link_from": network.link_from,
        "link_to": network.link_to,
        "link_min_mw": network.link_min_w / W_PER_MW,
        "link_max_mw": network.link_max_w / W_PER_MW,
    }


def _coupled_s(case_path: Path, regions: str, hours: int) -> float:
    case = read_case(case_path)
    study = Study(case, Settings(regions=regions))
    markets = run_intervals(case, str(case_path), hours)
    started = time.perf_counter()
    for market in markets:
        study.couple(market)
    return time.perf_counter() - started


def verdict(row: Row) -> Criterion:
    """Whether both found the same."""
    worst = float(str(row["worst"]))
    detail = f"worst of {row['hours']} hours {worst:.1e}, limit {OBJECTIVE_LIMIT:g}; {row['versions']}"
    return Criterion("PyPSA finds the same optimum", worst <= OBJECTIVE_LIMIT, detail)
