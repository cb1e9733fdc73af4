"""Hours with tie-lines out of service are verified on the topology that was in force in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from actors.results.collect import RunRecord, read_run, table_rows
from actors.results.market_checks import MarketChecks
from actors.results.verification import verify
from tests.actors.run_folders import RunMaker

OF_REGION_2 = ("tie-119", "tie-12", "tie-24", "tie-41")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours; in the second one region 2 is an island."""
    made = RunMaker.of(2)
    made.couple(0)
    for tie in OF_REGION_2:
        assert made.net.switch(1, tie, made.day[1][0].start_s, out=True) == ""
    for _ in range(6):
        made.net.step()
    made.couple(1)
    return made.write(tmp_path_factory.mktemp("island"))


@pytest.fixture(scope="module")
def record(run: Path) -> RunRecord:
    return read_run(run)


def test_every_check_passes(run: Path) -> None:
    found = verify(run)
    assert found.passed, [str(failure) for failure in found.failures]
    assert found.check("optimum").worst < 1e-6


def test_what_is_out_carries_nothing_and_earns_nothing(record: RunRecord) -> None:
    first, second = record.hub.ended
    assert (first.ties_out, second.ties_out) == ((), OF_REGION_2)
    for start_ms, tie, *_, flow_mw, _limit, _is_binding, _shadow, rent_micro, _rent in table_rows(record)["tie_lines"]:
        is_out = start_ms == second.interval.start_s * 1000 and f"tie-{tie}" in OF_REGION_2
        assert (flow_mw == 0) == is_out
        assert (rent_micro is None) == is_out


def test_an_agreement_is_no_optimum_of_another_topology(record: RunRecord) -> None:
    """The check of the optimum does fail where an hour is said to have had all its ties."""
    ended = [replace(one, ties_out=()) for one in record.hub.ended]
    checks = MarketChecks(replace(record, hub=replace(record.hub, ended=ended)))
    checks.run()
    assert {failure.interval for failure in checks.optimum.failures} == {ended[1].interval}
