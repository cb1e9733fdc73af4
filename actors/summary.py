"""Adds up the intervals of a run as they come, so that the results themselves need not be kept.

Besides totals it counts what the relaxed commitment lets units do: run below their published minimum, and change
faster than their ramp rate. Nothing in the market forbids either; whoever reads the result should know how often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from actors.coupled import IntervalResult, NamedPower, UnitDispatch
from topology.grid import Resource

COMMITMENT_NOTE = "relaxed commitment: no start-up costs"
_TOLERANCE_MW = 1e-6
"""A watt: quantities are whole watts."""


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What units did that a unit commitment would not let them do.

    Unit-hours are of units with a published minimum above zero that run; a breach is a change from one interval
    to the next, without a gap between them, that is faster than the unit's ramp rate.
    """

    running_unit_hours: float
    below_minimum_unit_hours: float
    ramp_breaches: int
    note: str = COMMITMENT_NOTE


@dataclass(frozen=True)
class RunSummary:
    """A run in totals. Money in units of the asset, energy in MWh by name, LMPs over all buses and intervals.

    `bytes` are those of the rounds, `bytes_setup` those of the boundary equivalents before them; `disclosed_share`
    is the mean share of offers that were published; `tie_bound_hours` counts the hours in which a tie-line binds,
    `tie_hours` the same for each of them; `region_lmp_mean` is the plain mean over a region's buses and intervals.
    """

    intervals: int
    hours: float
    objective: float
    rounds_mean: float
    rounds_max: int
    one_round_share: float
    bytes: int
    bytes_setup: int
    seconds: float
    disclosed_share: float
    gap_max: float
    gap_relative_max: float
    lmp_min: float
    lmp_max: float
    region_lmp_mean: dict[str, float]
    tie_bound_hours: float
    tie_hours: dict[str, float]
    curtailed_mwh: dict[str, float]
    shed_mwh: dict[str, float]
    violation_mwh: dict[str, float]
    commitment: CommitmentReport


@dataclass(frozen=True, slots=True)
class _Digest:
    """What the totals need of one interval, beside energies by name."""

    hours: float
    objective: float
    rounds: int
    bytes_sent: int
    seconds: float
    disclosed_share: float
    gap: float
    gap_relative: float
    lmp_min: float
    lmp_max: float
    region_lmp_mean: tuple[float, ...]
    tie_bound: bool
    commitment: CommitmentReport


def summarize(results: Iterable[IntervalResult], units: Sequence[Resource], bytes_setup: int) -> RunSummary:
    """The totals of at least one interval, taken one after another in order of time."""
    digests: list[_Digest] = []
    tie_hours, curtailed, shed, violations = (defaultdict[str, float](float) for _ in range(4))
    unit_of = {unit.id: unit for unit in units}
    previous: IntervalResult | None = None
    names: tuple[str, ...] = ()
    for result in results:
        hours = result.interval.hours
        names = tuple(region.name for region in result.regions)
        digests.append(_digest(result, _commitment(unit_of, previous, result)))
        for tie in result.congested_ties:
            tie_hours[tie.name] += hours
        for energy, powers in ((curtailed, result.curtailed), (shed, result.shed), (violations, result.violations)):
            _add_energy(energy, powers, hours)
        previous = result
    means = zip(*(digest.region_lmp_mean for digest in digests), strict=True)
    return RunSummary(
        intervals=len(digests),
        hours=sum(digest.hours for digest in digests),
        objective=sum(digest.objective * digest.hours for digest in digests),
        rounds_mean=fmean(digest.rounds for digest in digests),
        rounds_max=max(digest.rounds for digest in digests),
        one_round_share=fmean(digest.rounds == 1 for digest in digests),
        bytes=sum(digest.bytes_sent for digest in digests),
        bytes_setup=bytes_setup,
        seconds=sum(digest.seconds for digest in digests),
        disclosed_share=fmean(digest.disclosed_share for digest in digests),
        gap_max=max(digest.gap for digest in digests),
        gap_relative_max=max(digest.gap_relative for digest in digests),
        lmp_min=min(digest.lmp_min for digest in digests),
        lmp_max=max(digest.lmp_max for digest in digests),
        region_lmp_mean=dict(zip(names, map(fmean, means), strict=True)),
        tie_bound_hours=sum(digest.hours for digest in digests if digest.tie_bound),
        tie_hours=dict(tie_hours),
        curtailed_mwh=dict(curtailed),
        shed_mwh=dict(shed),
        violation_mwh=dict(violations),
        commitment=CommitmentReport(
            running_unit_hours=sum(digest.commitment.running_unit_hours for digest in digests),
            below_minimum_unit_hours=sum(digest.commitment.below_minimum_unit_hours for digest in digests),
            ramp_breaches=sum(digest.commitment.ramp_breaches for digest in digests),
        ),
    )


def _digest(result: IntervalResult, commitment: CommitmentReport) -> _Digest:
    return _Digest(
        hours=result.interval.hours,
        objective=result.objective,
        rounds=result.rounds,
        bytes_sent=result.bytes_sent,
        seconds=result.seconds,
        disclosed_share=result.disclosed_share,
        gap=result.gap,
        gap_relative=result.gap_relative or 0.0,
        lmp_min=result.lmp_min,
        lmp_max=result.lmp_max,
        region_lmp_mean=tuple(region.lmp_mean for region in result.regions),
        tie_bound=bool(result.congested_ties),
        commitment=commitment,
    )


def _add_energy(energy_mwh: defaultdict[str, float], powers: Iterable[NamedPower], hours: float) -> None:
    for power in powers:
        energy_mwh[power.name] += power.mw * hours


def _commitment(
    unit_of: Mapping[str, Resource], previous: IntervalResult | None, result: IntervalResult
) -> CommitmentReport:
    hours = result.interval.hours
    running = [unit for unit in result.dispatch if unit.mw > 0 and unit_of[unit.unit].min_mw > 0]
    below = [unit for unit in running if unit.mw < unit_of[unit.unit].min_mw - _TOLERANCE_MW]
    gapless = previous is not None and previous.interval.end_s == result.interval.start_s
    before = {unit.unit: unit.mw for unit in previous.dispatch} if previous is not None and gapless else {}
    breaches = [unit for unit in result.dispatch if _breaches(unit_of[unit.unit], before, unit, hours)]
    return CommitmentReport(len(running) * hours, len(below) * hours, len(breaches))


def _breaches(unit: Resource, before_mw: Mapping[str, float], now: UnitDispatch, hours: float) -> bool:
    if unit.ramp_mw_per_h is None or unit.id not in before_mw:
        return False
    return abs(now.mw - before_mw[unit.id]) > unit.ramp_mw_per_h * hours + _TOLERANCE_MW
