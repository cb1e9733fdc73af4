"""Shows results: as tables and lines for people, as one JSON object for programs.

Names, units and signs are those of docs/output.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

from actors.coupled import BranchFlow, CentralReference, IntervalResult, NamedPower
from actors.study import Settings
from actors.summary import COMMITMENT_NOTE, RunSummary
from topology.grid import Case, Grid

_WIDTH_OF_FILES = 140
_TIME_WIDTH = 25

Json = dict[str, object]


@dataclass(frozen=True)
class ClearReport:
    """All that `gridaccord clear` shows."""

    settings: Settings
    relaxed_minimum: bool
    result: IntervalResult
    bytes_setup: int
    warnings: Sequence[str]
    central: CentralReference | None = None
    with_prices: bool = False

    @property
    def relative_difference(self) -> float | None:
        """Coupled less central objective, by the central one; None where there is none, or it is zero."""
        if self.central is None or not self.central.objective:
            return None
        return (self.result.objective - self.central.objective) / abs(self.central.objective)


def clear_json(report: ClearReport, case: str) -> Json:
    """The object that `gridaccord clear --json` prints."""
    result = report.result
    document = _heading(report.settings) | {
        "case": case,
        "time": result.interval.time or None,
        "convention": report.settings.convention,
        "relaxed_minimum": report.relaxed_minimum,
        "objective": result.objective,
        "rounds": result.rounds,
        "regions": len(result.regions),
        "bytes": report.bytes_setup + result.bytes_sent,
        "bytes_setup": report.bytes_setup,
        "bytes_by_sender": dict(result.bytes_by_sender),
        "gap": result.gap,
        "gap_relative": result.gap_relative,
        "seconds": result.seconds,
        "gate_closure_seconds": result.gate_closure_seconds,
        "disclosed_share": result.disclosed_share,
        "lmp_min": result.lmp_min,
        "lmp_mean": result.lmp_mean,
        "lmp_max": result.lmp_max,
        "by_region": [asdict(region) for region in result.regions],
        "links": [{"name": link.name, "flow_mw": link.flow_mw} for link in result.links],
        **_constraints_json(result),
        "warnings": list(report.warnings),
    }
    if report.central is not None:
        document["central"] = asdict(report.central) | {"relative_difference": report.relative_difference}
    if report.with_prices:
        document["prices"] = [asdict(price) for price in result.prices]
    return document


def interval_json(result: IntervalResult) -> Json:
    """One interval of a run."""
    return {
        "time": result.interval.time,
        "duration_s": result.interval.duration_s,
        "objective": result.objective,
        "rounds": result.rounds,
        "bytes": result.bytes_sent,
        "gap": result.gap,
        "seconds": result.seconds,
        "disclosed_share": result.disclosed_share,
        "lmp_min": result.lmp_min,
        "lmp_mean": result.lmp_mean,
        "lmp_max": result.lmp_max,
        "by_region": [asdict(region) for region in result.regions],
        **_constraints_json(result),
    }


def scenario_json(folder: str, name: str, warnings: Sequence[str], summary: RunSummary, intervals: list[Json]) -> Json:
    """One scenario of a run."""
    return {
        "folder": folder,
        "case": name,
        **asdict(summary),
        "warnings": list(warnings),
        "interval_results": intervals,
    }


def run_json(settings: Settings, scenarios: Sequence[Json]) -> Json:
    """The object that `gridaccord couple --json` prints."""
    return _heading(settings) | {"convention": settings.convention, "scenarios": list(scenarios)}


def _heading(settings: Settings) -> Json:
    return {"version": version("gridaccord"), "seed": settings.seed, "asset": settings.asset}


def _constraints_json(result: IntervalResult) -> Json:
    return {
        "congested": [
            {
                "name": branch.name,
                "tie": branch.tie,
                "shadow_price": branch.shadow_price,
                "flow_mw": branch.flow_mw,
                "limit_mw": branch.limit_mw,
            }
            for branch in _dearest_first(result.congested)
        ],
        "shed": [asdict(power) for power in result.shed],
        "curtailed": [asdict(power) for power in result.curtailed],
        "violations": [asdict(power) for power in result.violations],
    }


def _dearest_first(branches: Iterable[BranchFlow]) -> list[BranchFlow]:
    return sorted(branches, key=lambda branch: -branch.shadow_price)


def case_facts(case: Case, intervals: int) -> Json:
    """What there is in a case, in the order it is shown."""
    grid = case.grid
    return {
        "case": grid.name,
        "buses": len(grid.buses),
        "branches": len(grid.branches),
        "branches_in_service": sum(branch.in_service for branch in grid.branches),
        "links": len(grid.links),
        "units": len(grid.resources),
        "units_in_service": sum(unit.in_service for unit in grid.resources),
        "units_with_costs": len(case.costs),
        "areas": len({bus.area for bus in grid.buses}),
        "islands": [len(island) for island in grid.islands],
        "demand_mw": _demand_mw(grid),
        "capacity_mw": round(sum(max(0.0, unit.max_mw) for unit in grid.resources if unit.in_service), 6),
        "intervals": intervals,
    }


def _demand_mw(grid: Grid) -> float:
    return round(sum(bus.demand_mw + bus.shunt_mw for bus in grid.buses), 6)


def show_case(facts: Json, warnings: Sequence[str]) -> None:
    """The facts of a case, and its warnings."""
    console = _console()
    shown = dict(facts)
    sizes = shown["islands"] if isinstance(shown["islands"], list) else []
    shown["islands"] = f"{len(sizes)} (buses: {', '.join(map(str, sizes[:8]))}{', ...' if len(sizes) > 8 else ''})"
    _show_pairs(console, {key.replace("_", " "): str(value) for key, value in shown.items()})
    _show_warnings(console, warnings)


def show_clear(report: ClearReport, case: str) -> None:
    """One interval as tables."""
    console, result, asset = _console(), report.result, report.settings.asset
    pairs = {
        "case": f"{case} {result.interval.time}".rstrip(),
        "objective": f"{result.objective:,.2f} {asset}/h",
        "certified gap": f"{result.gap:.6f} {asset}/h ({_relative(result.gap_relative)} of the objective)",
    }
    if report.central is not None:
        central, difference = report.central, _relative(report.relative_difference)
        pairs["central"] = (
            f"{central.objective:,.2f} {asset}/h in {central.seconds:.3f} s, relative difference {difference}"
        )
    total = report.bytes_setup + result.bytes_sent
    pairs |= {
        "rounds": str(result.rounds),
        "regions": str(len(result.regions)),
        "bytes": f"{total:,} ({report.bytes_setup:,} before the first round, hub {result.bytes_by_sender['hub']:,})",
        "seconds": f"{result.seconds:.3f} on the critical path",
        "LMP": f"{_money(result.lmp_min)} to {_money(result.lmp_max)}, mean {_money(result.lmp_mean)} {asset}/MWh",
    }
    if report.relaxed_minimum:
        pairs["commitment"] = f"{COMMITMENT_NOTE}, units may run below their published minimum"
    _show_pairs(console, pairs)
    _show_regions(console, result, asset)
    _show_congested(console, result, asset)
    console.print()
    for link in result.links:
        _line(console, f"{link.name}: {link.flow_mw:.1f} MW")
    for what, powers in (("shed", result.shed), ("curtailed", result.curtailed), ("violated", result.violations)):
        _line(console, f"{what}: {_powers(powers)}")
    if report.with_prices:
        _show_prices(console, result, asset)
    _show_warnings(console, report.warnings)


def _show_regions(console: Console, result: IntervalResult, asset: str) -> None:
    lmps = (f"LMP {asset}/MWh min", "mean", "max")
    table = _table("region", "buses", "bytes", *lmps, "supply MW", "demand MW", "net export MW")
    for region in result.regions:
        prices = (_money(price) for price in (region.lmp_min, region.lmp_mean, region.lmp_max))
        powers = (f"{power:.1f}" for power in (region.supply_mw, region.demand_mw, region.net_position_mw))
        table.add_row(region.name, str(region.buses), f"{region.bytes_sent:,}", *prices, *powers)
    console.print()
    console.print(table)


def _show_congested(console: Console, result: IntervalResult, asset: str) -> None:
    if not result.congested:
        _line(console, "\ncongested: none")
        return
    table = _table("congested", "flow MW", "limit MW", f"shadow price {asset}/MWh")
    for branch in _dearest_first(result.congested):
        limit = "none" if branch.limit_mw is None else f"{branch.limit_mw:.1f}"
        table.add_row(branch.name, f"{branch.flow_mw:.1f}", limit, f"{branch.shadow_price:.4f}")
    console.print()
    console.print(table)


def _show_prices(console: Console, result: IntervalResult, asset: str) -> None:
    table = _table("bus", f"LMP {asset}/MWh", "energy", "congestion", "loss")
    for price in result.prices:
        parts = (price.lmp, price.energy, price.congestion, price.loss)
        table.add_row(price.bus, *(_money(part, 4) for part in parts))
    console.print()
    console.print(table)


def interval_heading(regions: Sequence[str], asset: str) -> str:
    """The line above those of `interval_line`."""
    names = "  ".join(f"{name + ' min/mean/max':>24}" for name in (f"region {region}" for region in regions))
    return f"{'time':<{_TIME_WIDTH}} {'rounds':>6} {'KB':>7} {'s':>6}  {names}  congested ties, {asset}/MWh"


def interval_line(result: IntervalResult) -> str:
    """One interval of a run in one line."""
    prices = "  ".join(
        "".join(f"{_money(price):>8}" for price in (region.lmp_min, region.lmp_mean, region.lmp_max))
        for region in result.regions
    )
    ties = ", ".join(
        f"{tie.from_bus}-{tie.to_bus} {tie.shadow_price:.2f}" for tie in _dearest_first(result.congested_ties)
    )
    unserved = sum(power.mw for power in result.shed)
    note = f"  SHED {unserved:.1f} MW" if unserved else ""
    start = f"{result.interval.time:<{_TIME_WIDTH}} {result.rounds:>6} {result.bytes_sent / 1e3:>7.1f}"
    return f"{start} {result.seconds:>6.3f}  {prices}  {ties or '-'}{note}"


def show_summary(name: str, summary: RunSummary, asset: str, warnings: Sequence[str]) -> None:
    """The totals of a scenario."""
    console = _console()
    _line(console, f"\n{name}")
    means = ", ".join(f"{name} {_money(mean)}" for name, mean in summary.region_lmp_mean.items())
    ties = _energies(summary.tie_hours, "h")
    commitment = summary.commitment
    _show_pairs(
        console,
        {
            "objective": f"{summary.objective:,.2f} {asset} in {summary.hours:g} hours",
            "certified gap": f"at most {summary.gap_max:.6f} {asset}/h, "
            f"{_relative(summary.gap_relative_max)} of the objective",
            "rounds": f"mean {summary.rounds_mean:.2f}, max {summary.rounds_max}, "
            f"{summary.one_round_share:.1%} of the intervals in one",
            "bytes": f"{summary.bytes:,} in the rounds, {summary.bytes_setup:,} before the first",
            "disclosed": f"{summary.disclosed_share:.1%} of the offers in the mean",
            "seconds": f"{summary.seconds:.2f} on the critical path",
            "LMP": f"{_money(summary.lmp_min)} to {_money(summary.lmp_max)} {asset}/MWh, mean by region: {means}",
            "ties bind": f"in {summary.tie_bound_hours:g} of {summary.hours:g} hours" + (f": {ties}" if ties else ""),
            "curtailed": _total(summary.curtailed_mwh),
            "shed": _total(summary.shed_mwh),
            "violated": _total(summary.violation_mwh),
            "commitment": f"{commitment.note}; {commitment.below_minimum_unit_hours:g} of "
            f"{commitment.running_unit_hours:g} running unit-hours below the published minimum, "
            f"{commitment.ramp_breaches} ramp breaches",
        },
    )
    _show_warnings(console, warnings)


def _total(energy_mwh: Mapping[str, float]) -> str:
    if not energy_mwh:
        return "nothing"
    return f"{sum(energy_mwh.values()) / 1e3:,.2f} GWh: {_energies(energy_mwh, 'MWh')}"


def _energies(by_name: Mapping[str, float], unit: str) -> str:
    largest_first = sorted(by_name.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:,.1f} {unit}" for name, value in largest_first)


def _powers(powers: Sequence[NamedPower]) -> str:
    if not powers:
        return "nothing"
    total = sum(power.mw for power in powers)
    return f"{total:.3f} MW: " + ", ".join(f"{power.name} {power.mw:.3f} MW" for power in powers)


def _relative(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.1e}"


def _money(value: float, digits: int = 2) -> str:
    """A price without a minus before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _console() -> Console:
    """Standard output; a file or a pipe has no width of its own to fit tables into."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    return table


def _show_pairs(console: Console, pairs: Mapping[str, str]) -> None:
    width = max(map(len, pairs))
    for key, value in pairs.items():
        _line(console, f"{key:<{width}}  {value}")


def _show_warnings(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        _line(console, f"warning: {warning}")


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
