"""The market of one combination: optimal, the same each time, and moved by parameters the way economics says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from actors.cases import run_intervals
from actors.scenario import Battery, Scenario
from actors.study import Settings
from actors.study import Study as CaseStudy
from actors.sweep.combinations import Study
from actors.sweep.exchange import ExchangeKind
from actors.sweep.market_day import MarketDay, run_day
from tests.actors.support import JANUARY, hour, two_buses
from topology.case_files import read_case
from topology.grid import CostRow, Resource, SeriesRow

HOURS = 4
SITES = (Battery(name="west", bus="309", power_mw=200, energy_mwh=800),)
COUPLED = Study()


@cache
def day(study: Study = COUPLED, *, stored: bool = True, share: float = 0.0, seed: int = 1) -> MarketDay:
    batteries = SITES if stored else ()
    scenario = Scenario(name="test", case=JANUARY, intervals=HOURS, seed=seed, batteries=batteries)
    devices = scenario.devices.model_copy(update={"flexible_share": share})
    return run_day(scenario.model_copy(update={"devices": devices}), study, read_case(JANUARY))


def test_every_interval_is_the_central_optimum() -> None:
    assert max(one.gap for one in day().intervals) <= 1e-6
    assert [one.hours for one in day().intervals] == [1.0] * HOURS


def test_without_devices_of_its_own_it_is_what_the_case_is_coupled_to() -> None:
    case = read_case(JANUARY)
    study = CaseStudy(case, Settings(relax_minimum=True))
    results = [study.couple(interval) for interval in run_intervals(case, "", HOURS)]
    found = day(stored=False).intervals
    for ours, theirs in zip(found, results, strict=True):
        fixed = theirs.objective - ours.objective
        assert fixed >= -1e-6, "offers of a run carry no fixed costs"
        assert {name: ours.prices[name] for name in ours.prices} == pytest.approx(
            {region.name: region.lmp_mean for region in theirs.regions}
        )
        assert ours.curtailed_mw == pytest.approx(sum(power.mw for power in theirs.curtailed))


def test_it_is_the_same_each_time_and_the_seed_moves_what_batteries_expect() -> None:
    again = run_day(
        Scenario(name="other", case=JANUARY, intervals=HOURS, seed=1, batteries=SITES).model_copy(
            update={"devices": Scenario(name="x", case=JANUARY).devices.model_copy(update={"flexible_share": 0.0})}
        ),
        Study(),
        read_case(JANUARY),
    )
    assert again.intervals == day().intervals
    assert day(seed=2).intervals != day().intervals


def test_state_of_charge_follows_from_what_batteries_did() -> None:
    found = day()
    moved = sum(one.charged_mw * 0.9**0.5 - one.discharged_mw / 0.9**0.5 for one in found.intervals)
    assert found.stored_mwh == pytest.approx(400 + moved, rel=1e-2)
    assert any(one.charged_mw + one.discharged_mw for one in found.intervals)


def test_trade_never_costs_and_weak_ties_do() -> None:
    coupled, weak = day(stored=False), day(Study(tie_line_scale=0.4), stored=False)
    alone = day(Study(exchange=ExchangeKind.NONE), stored=False)
    triples = zip(coupled.intervals, weak.intervals, alone.intervals, strict=True)
    assert all(one.objective <= two.objective + 1e-6 <= three.objective + 2e-6 for one, two, three in triples)
    assert [one.central for one in alone.intervals] == pytest.approx([one.objective for one in coupled.intervals])
    assert all(one.rounds == 0 and one.gap > 0 for one in alone.intervals)


def test_customers_give_up_demand_at_their_price_and_what_nobody_serves_is_shed(tmp_path: Path) -> None:
    series = [SeriesRow(hour(number), "demand", "b", demand) for number, demand in ((0, 100.0), (1, 130.0))]
    case = two_buses(
        tmp_path,
        units=(Resource("G", "a", 0.0, 200.0),),
        demand_mw=100.0,
        rating_mw=110.0,
        costs=(CostRow("G", polynomial=(0.0, 70.0)),),
        series=series,
    )
    scenario = Scenario(name="short", case=case)
    quiet, short = run_day(scenario, Study(), read_case(case)).intervals
    assert (quiet.flexed_mw, quiet.shed_mw) == pytest.approx((100 * 0.05 * 2 / 3, 0.0), rel=1e-3)
    assert short.flexed_mw == pytest.approx(130 * 0.05, rel=1e-3)
    assert short.shed_mw == pytest.approx(130 - 6.5 - 110, rel=1e-3)
