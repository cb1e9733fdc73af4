"""Verification finds what does not hold, and says where: each check is shown something that it must refuse."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.results.collect import RunRecord, read_run
from actors.results.hub_record import EndedInterval, Purpose
from actors.results.market_checks import MarketChecks, cost_exact, regret_eur_per_h
from actors.results.money_checks import MoneyChecks
from actors.results.region_record import RegionRecord
from actors.results.run_folder import open_run
from actors.results.verdict import Check, Failure
from actors.results.verification import verify, verify_record
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.market.offers import MICRO, Step
from coordinator.settlement.interval.schedules import Curve
from tests.actors.run_folders import LOAD, RunMaker

Tamper = Callable[[RegionRecord, EndedInterval], None]


@pytest.fixture(scope="module")
def record(small_run: Path) -> RunRecord:
    return read_run(small_run)


def tampered(record: RunRecord, change: Tamper) -> RunRecord:
    """The record with something else in region 1 in the first hour; what follows from it is computed again."""
    first = record.hub.ended[0]
    regions = [
        replace(
            region,
            offers={interval: dict(curves) for interval, curves in region.offers.items()},
            schedules=dict(region.schedules),
            bills=list(region.bills),
        )
        for region in record.regions
    ]
    change(regions[0], first)
    return with_outcomes(replace(record, regions=tuple(regions)))


def with_outcomes(record: RunRecord) -> RunRecord:
    found = {ended.interval: record.study.outcome(ended, record.regions) for ended in record.hub.ended}
    return replace(record, outcomes={interval: outcome for interval, outcome in found.items() if outcome is not None})


def change_row(region: RegionRecord, ended: EndedInterval, resource: str, **values: int) -> None:
    found = region.schedules[ended.interval]
    rows = tuple(replace(row, **values) if row.resource == resource else row for row in found.schedule.rows)
    region.schedules[ended.interval] = replace(found, schedule=replace(found.schedule, rows=rows))


def failures(record: RunRecord) -> dict[str, list[Failure]]:
    """Of the checks that go by what was read, without audits."""
    market, money = MarketChecks(record), MoneyChecks(record)
    market.run()
    money.run()
    return {check.name: check.failures for check in (*market.checks, *money.checks) if check.failures}


def test_a_run_passes_every_check_and_every_check_looked_at_something(small_run: Path) -> None:
    found = verify(small_run)
    assert found.passed, [str(failure) for failure in found.failures]
    assert {check.name: check.checked for check in found.checks if not check.checked} == {}
    assert found.check("optimum").worst < 1e-6
    assert found.check("bills").worst == 0
    assert found.check("optimum").checked == 3
    assert found.check("schedule_cost").checked == 4, "a region by itself is judged apart"
    assert [proof.agreeing for proof in found.chains] == [("alpha", "beta")] * 4


def test_a_region_that_is_held_at_its_exchange_is_judged_with_it(tmp_path: Path) -> None:
    maker = RunMaker.of(3, fallback="held")
    maker.couple(0)
    maker.couple(1, without=1)
    maker.couple(2)
    record = read_run(maker.write(tmp_path / "run"))
    assert [ended.excluded for ended in record.hub.ended] == [(), (1,), ()]
    assert Purpose.REPAYMENT in {netting.purpose for netting in record.hub.nettings.values()}
    delivered = record.outcomes[record.hub.ended[1].interval].alone[1]
    assert abs(int(delivered.sum())) > 10**7
    assert failures(record) == {}


def test_a_schedule_that_another_offer_beats(record: RunRecord) -> None:
    def cheaper(region: RegionRecord, ended: EndedInterval) -> None:
        name, curve = next((n, c) for n, c in region.offers[ended.interval].items() if len(c.steps) > 2)
        steps = tuple(Step(step.width_w, 1) for step in curve.steps)
        region.offers[ended.interval][name] = replace(curve, steps=steps)

    found = failures(tampered(record, cheaper))
    assert {"optimum", "schedule_cost", "acceptance"} <= set(found)
    assert found["acceptance"][0].region == "1"
    assert found["acceptance"][0].element.startswith("unit-")
    assert "2020-01-27T07:00:00+00:00" in str(found["optimum"][0])


def test_a_schedule_that_does_not_balance(record: RunRecord) -> None:
    def more(region: RegionRecord, ended: EndedInterval) -> None:
        row = next(row for row in region.schedules[ended.interval].schedule.rows if row.resource == LOAD)
        change_row(region, ended, LOAD, power_w=row.power_w + 1_000_000)

    found = failures(tampered(record, more))
    assert "off by 1000000 W" in found["balance"][0].problem


def test_a_price_that_follows_from_nothing(record: RunRecord) -> None:
    def dearer(region: RegionRecord, ended: EndedInterval) -> None:
        row = next(row for row in region.schedules[ended.interval].schedule.rows if row.resource == LOAD)
        change_row(region, ended, LOAD, price=row.price + (MICRO << PRICE_BITS))

    found = failures(tampered(record, dearer))
    for name in ("prices", "bills"):
        assert [(failure.region, failure.element) for failure in found[name]] == [("1", LOAD)]


def test_a_line_that_carries_more_than_it_may(record: RunRecord) -> None:
    network = record.study.grid.network
    outcome = record.outcomes[record.hub.ended[0].interval]
    busy = int(abs(outcome.flow_w).argmax())
    lowered = network.flow_max_w.copy(), network.flow_min_w.copy()
    lowered[0][busy], lowered[1][busy] = 1_000_000, -1_000_000
    grid = replace(record.study.grid, network=network.with_flow_limits(lowered[1], lowered[0]))
    found = failures(with_outcomes(replace(record, study=type(record.study)(grid))))
    assert network.branch_labels[busy] in {failure.element for failure in found["limits"]}
    assert "optimum" in found


def test_a_price_of_a_limit_that_is_not_reached(record: RunRecord) -> None:
    interval = record.hub.ended[0].interval
    outcome = record.outcomes[interval]
    shadow = outcome.shadow_price.copy()
    idle = int(abs(outcome.flow_w).argmin())
    shadow[idle] = 1.0
    found = failures(replace(record, outcomes={**record.outcomes, interval: replace(outcome, shadow_price=shadow)}))
    assert [failure.element for failure in found["shadow_prices"]] == [record.study.grid.network.branch_labels[idle]]


def test_a_bill_about_other_energy(record: RunRecord) -> None:
    def other(region: RegionRecord, ended: EndedInterval) -> None:
        place, bill = next((n, bill) for n, bill in enumerate(region.bills) if bill.version == 2)
        region.bills[place] = replace(bill, rows=tuple(replace(row, energy_wh=row.energy_wh - 1) for row in bill.rows))

    found = failures(tampered(record, other))
    assert [failure.element for failure in found["metered_energy"]] == [LOAD]
    assert [failure.element for failure in found["bills"]] == [LOAD]
    assert found["bills_paid"][0].element == "bill, version 2"


def test_a_bill_that_moved_a_micro_unit_more(record: RunRecord) -> None:
    def more(region: RegionRecord, ended: EndedInterval) -> None:
        region.bills[0] = replace(region.bills[0], paid_micro=region.bills[0].paid_micro + 1)

    found = failures(tampered(record, more))
    assert [failure.region for failure in found["bills_paid"]] == ["1"]
    assert "off by 1 micro-units" in found["neutral_accounts"][0].problem


def test_a_transfer_that_was_not_agreed(record: RunRecord) -> None:
    ended = record.hub.ended[0]
    assert ended.agreement is not None
    agreed = ended.agreement.agreed
    wrong = (replace(agreed.regions[0], amount=agreed.regions[0].amount + 1), *agreed.regions[1:])
    agreement = replace(ended.agreement, agreed=replace(agreed, regions=wrong))
    hub = replace(record.hub, ended=[replace(ended, agreement=agreement), *record.hub.ended[1:]])
    checks = MoneyChecks(replace(record, hub=hub))
    checks.run()
    assert [failure.region for failure in checks.transfers.failures] == ["1", "1"], "the agreement, and its leg"


def test_metered_exchange_that_meters_do_not_show(record: RunRecord) -> None:
    exchanges = list(record.hub.exchanges)
    amounts = exchanges[0].amounts
    exchanges[0] = replace(exchanges[0], amounts=(amounts[0] + 1, *amounts[1:]))
    checks = MoneyChecks(replace(record, hub=replace(record.hub, exchanges=exchanges)))
    checks.run()
    assert [failure.region for failure in checks.exchange.failures] == ["1"]
    assert [failure.element for failure in checks.zero_sum.failures] == ["metered exchange"]
    assert [failure.region for failure in checks.transfers.failures] == ["1"], "its leg is another"


def test_legs_that_do_not_sum_to_zero(record: RunRecord) -> None:
    sid, netting = next(iter(record.hub.nettings.items()))
    legs = (replace(netting.legs[0], amount=netting.legs[0].amount + 1), *netting.legs[1:])
    hub = replace(record.hub, nettings={**record.hub.nettings, sid: replace(netting, legs=legs)})
    checks = MoneyChecks(replace(record, hub=hub))
    checks.run()
    assert [failure.element for failure in checks.zero_sum.failures] == [f"legs of settlement {sid}"]


def test_a_ledger_that_was_changed_and_one_that_differs(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    record = read_run(run)
    for organization, chain in (("alpha", "3"), ("beta", "2")):
        with sqlite3.connect(run / "consortium" / organization / "chains" / chain / "ledger.sqlite") as ledger:
            height = ledger.execute("SELECT max(height) FROM blocks").fetchone()[0]
            ledger.execute("UPDATE blocks SET digest = zeroblob(32) WHERE height = ?", (height,))
        ledger.close()
    found = verify_record(record)
    assert [failure.element for failure in found.check("audits").failures] == ["3"]
    assert {failure.element for failure in found.check("tips").failures} == {"2 of beta", "3 of beta"}
    assert [proof.chain for proof in found.chains if proof.finding] == ["3"]
    assert not found.passed


def test_the_home_that_goes_furthest_is_read(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / "consortium" / "alpha" / "chains" / "2" / "ledger.sqlite").unlink()
    assert open_run(run).organization == "beta"


def test_what_is_not_a_number_does_not_pass() -> None:
    check = Check("some", 1.0, "W")
    check.deviation(float("nan"), None, "", "something")
    assert [failure.element for failure in check.failures] == ["something"]


widths = st.integers(1, 10**9)


@st.composite
def curves(draw: st.DrawFn) -> tuple[Curve, int]:
    """A curve and an injection along it."""
    prices = sorted(draw(st.lists(st.integers(-(10**9), 10**9), max_size=4)))
    curve = Curve(draw(st.integers(-(10**9), 10**9)), tuple(Step(draw(widths), price) for price in prices))
    return curve, draw(st.integers(curve.lowest_w, curve.highest_w))


@given(curves(), st.integers(-(10**9), 10**9))
def test_regret_is_what_the_best_injection_would_gain(drawn: tuple[Curve, int], price_micro: int) -> None:
    curve, power_w = drawn
    corners = {curve.lowest_w, curve.highest_w, curve.fixed_w}
    at = curve.fixed_w
    for step in curve.steps:
        at += step.width_w
        corners.add(min(at, curve.highest_w))
    gains = {corner: price_micro * corner - cost_exact(curve, corner) for corner in corners}
    missed = max(gains.values()) - (price_micro * power_w - cost_exact(curve, power_w))
    assert missed >= 0
    assert regret_eur_per_h(curve, power_w, price_micro / MICRO) == pytest.approx(missed / MICRO**2, abs=1e-6, rel=1e-9)
