"""What is made of a scenario before anything runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors.runner.market import market_of
from actors.runner.prepare import prepare
from actors.runner.run_folder import RunFolder
from actors.scenario import Battery, Cluster, Fault, FaultKind, Scenario
from coordinator.service.errors import ConfigurationError
from tests.actors.support import two_buses
from topology.case_files import read_case
from topology.grid import CostRow, Resource, SeriesRow

UNIT, COST = Resource("G", "a", 0.0, 90.0), CostRow("G", polynomial=(0.0, 10.0))


def case(folder: Path, begins: datetime, minutes: int, count: int) -> Path:
    """Two regions, and as many intervals of so many minutes."""
    times = [(begins + timedelta(minutes=minutes * number)).isoformat() for number in range(count)]
    series = [SeriesRow(time, "demand", "b", 50.0) for time in times]
    return two_buses(folder, units=[UNIT], costs=[COST], demand_mw=50.0, series=series)


def test_intervals_need_not_make_whole_hours(tmp_path: Path) -> None:
    path = case(tmp_path, datetime(2020, 5, 1, tzinfo=UTC), minutes=15, count=6)
    market = market_of(Scenario(name="quarters", case=path, intervals=5), read_case(path))
    assert [interval.duration_s for interval in market.intervals] == [900] * 5
    assert {name: len(plan.intervals) for name, plan in market.plans.items()} == {"north": 5, "south": 5}


def test_a_case_of_the_future_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = case(tmp_path / "case", datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1), minutes=60, count=2)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="is not over yet; give a case of the past, or fewer intervals"):
        prepare(Scenario(name="soon", case=path), folder, resume=False)
    assert not folder.path.exists()


def test_silence_that_leaves_nobody_to_begin_an_interval_is_refused(tmp_path: Path) -> None:
    path = case(tmp_path / "case", datetime(2020, 5, 1, tzinfo=UTC), minutes=60, count=3)
    silent = Fault(kind=FaultKind.SILENT, interval=1, region="south")
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="in interval 1 1 of 2 regions speak"):
        prepare(Scenario(name="silence", case=path, faults=(silent,)), folder, resume=False)
    assert not folder.path.exists()


def test_an_address_of_another_machine_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Regression: it was an error of the system without a name, and left a folder that could not be used again."""
    path = case(tmp_path / "case", datetime(2020, 5, 1, tzinfo=UTC), minutes=60, count=1)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"cluster.host 192.0.2.1: .*; give an address of this machine"):
        prepare(Scenario(name="far", case=path, cluster=Cluster(host="192.0.2.1")), folder, resume=False)
    assert not folder.path.exists()


def test_a_battery_at_a_bus_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = case(tmp_path, datetime(2020, 5, 1, tzinfo=UTC), minutes=60, count=1)
    battery = Battery(name="lake", bus="c", power_mw=1, energy_mwh=1)
    with pytest.raises(ConfigurationError, match="battery lake: bus c"):
        market_of(Scenario(name="lake", case=path, batteries=(battery,)), read_case(path))
