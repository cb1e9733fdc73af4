"""Small runs: the same in one process and on Ray, through faults, and after an interruption."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors.results.collect import RunRecord, read_run
from actors.results.market_checks import MarketChecks
from actors.results.run_folder import ChainFile
from tests.actors.ray_nodes import descendants, end, title, wait
from tests.actors.runner.support import METERS, WITHIN_S, events, of_kind, run, scenario_file, start_run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a run in /proc"),
]
Readings = list[tuple[str, int, int, int, int, int]]


def readings(chain: ChainFile) -> Readings:
    """All that are kept beside a chain, in one order."""
    with chain.reading() as connection:
        columns = "device, start_s, version, duration_s, clock_ms, register_wh"
        return connection.execute(f"SELECT {columns} FROM readings ORDER BY device, start_s, version").fetchall()


def objectives(record: RunRecord) -> list[int]:
    """Of the couplings that were agreed on, in micro-units per hour."""
    return [one.agreement.agreed.objective_micro_per_h for one in record.hub.ended if one.agreement is not None]


def state(folder: Path) -> str:
    """What the manifest says."""
    found: str = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["state"]
    return found


def test_on_ray_regions_offer_and_meter_what_they_do_in_one_process(tmp_path: Path) -> None:
    scenario = scenario_file(tmp_path, intervals=2)
    for name, options in (("one", ["--in-process"]), ("ray", [])):
        assert len(of_kind(run(scenario, tmp_path / name, *options), "interval_ended")) == 2
    here, there = read_run(tmp_path / "one"), read_run(tmp_path / "ray")
    for mine, theirs in zip(here.regions, there.regions, strict=True):
        assert mine.name == theirs.name
        assert len(mine.offers) == 2
        assert mine.offers == theirs.offers
    for mine_chain, their_chain in zip(here.folder.regions, there.folder.regions, strict=True):
        assert readings(mine_chain) == readings(their_chain)
    assert sum(len(readings(chain)) for chain in here.folder.regions) == METERS * 3
    assert len(objectives(here)) == 2
    assert objectives(here) == pytest.approx(objectives(there), rel=1e-6)


def test_a_run_goes_on_while_actors_are_killed_and_a_region_is_silent(tmp_path: Path) -> None:
    faults = [
        {"kind": "kill_validators", "interval": 0, "validators": "bravo"},
        {"kind": "silent", "interval": 1, "region": "south"},
        {"kind": "kill_fleet", "interval": 2, "region": "south"},
    ]
    scenario = scenario_file(tmp_path, intervals=4, west=True, faults=faults)
    said = run(scenario, tmp_path / "run", "--json")
    assert isinstance(json.loads((tmp_path / "run.out").read_text(encoding="utf-8")), dict), "nothing else stands there"
    through = of_kind(said, "interval_ended")
    assert [one["number"] for one in through] == [0, 1, 2, 3]
    assert [one["alone"] for one in through][:2] == [[], ["south"]]
    assert through[-1]["alone"] == [], "the region is back"
    assert [(one["fault"], one["target"], one["number"]) for one in of_kind(said, "fault")] == [
        ("kill_validators", "bravo", 0),
        ("silent", "south", 1),
        ("kill_fleet", "south", 2),
    ]
    assert [one["number"] for one in of_kind(said, "recovered", fault="silent")] == [2]
    assert not of_kind(said, "refused_readings")
    assert sum(one["readings"] for one in through) == METERS * 5, "registers at the beginning and after each interval"
    opened = Counter(json.loads(line)["event"] for line in (tmp_path / "run/logs/bravo.log").read_text().splitlines())
    assert opened["opened"] == 2 * 4, "each of its chains once more"
    assert state(tmp_path / "run") == "complete"


def test_a_region_is_an_island_for_an_interval_and_coupled_all_the_same(tmp_path: Path) -> None:
    faults = [{"kind": "islanded", "interval": 1, "region": "south"}]
    said = run(scenario_file(tmp_path, intervals=3, faults=faults), tmp_path / "run", "--in-process")
    assert [one["alone"] for one in of_kind(said, "interval_ended")] == [[], [], []]
    assert [one["number"] for one in of_kind(said, "fault", fault="islanded")] == [1]
    assert [one["number"] for one in of_kind(said, "recovered", fault="islanded")] == [2]
    record = read_run(tmp_path / "run")
    assert [len(ended.ties_out) for ended in record.hub.ended] == [0, 1, 0]
    checks = MarketChecks(record)
    checks.run()
    assert [failure for check in checks.checks for failure in check.failures] == []
    agreed = [one.agreement.agreed for one in record.hub.ended if one.agreement is not None]
    assert [any(item.amount for item in one.regions) for one in agreed] == [True, False, True]


def test_on_ray_a_region_is_silent_then_an_island_and_back_each_time_while_meters_lie(tmp_path: Path) -> None:
    faults = [
        {"kind": "silent", "interval": 1, "intervals": 3, "region": "south"},
        {"kind": "islanded", "interval": 5, "intervals": 3, "region": "south"},
        {"kind": "lying_meters", "interval": 1, "intervals": 7, "share": 0.01},
    ]
    scenario = scenario_file(
        tmp_path, intervals=9, west=True, faults=faults, devices={"meters": 400}, market={"step_blocks": 20}
    )
    said = run(scenario, tmp_path / "run", "--json")
    through = of_kind(said, "interval_ended")
    assert [one["alone"] for one in through] == [[], *[["south"]] * 3, *[[]] * 5]
    record = read_run(tmp_path / "run")
    assert [len(ended.ties_out) for ended in record.hub.ended] == [*[0] * 5, *[2] * 3, 0]
    recovered = {(one["fault"], one["number"]) for one in of_kind(said, "recovered")}
    assert recovered == {("silent", 4), ("islanded", 8), ("lying_meters", 8)}
    liars = {one["device"] for one in of_kind(said, "refused_readings")}
    assert 1 <= len(liars) <= 8, "one in a hundred"
    printed = json.loads((tmp_path / "run.out").read_text(encoding="utf-8"))
    assert printed["verified"], "nothing that was settled is lost, bills and all"
    assert printed["failures"] == []


def test_a_tie_line_is_out_for_an_interval_and_the_other_one_carries_what_it_can(tmp_path: Path) -> None:
    faults = [{"kind": "line_outage", "interval": 1, "region": "south", "line": "3"}]
    scenario = scenario_file(tmp_path, intervals=3, parallel=True, faults=faults)
    said = run(scenario, tmp_path / "run", "--in-process")
    assert [one["alone"] for one in of_kind(said, "interval_ended")] == [[], [], []]
    assert [(one["target"], one["number"]) for one in of_kind(said, "fault")] == [("3", 1)]
    assert [one["number"] for one in of_kind(said, "recovered", fault="line_outage")] == [2]
    record = read_run(tmp_path / "run")
    assert [tuple(ended.ties_out) for ended in record.hub.ended] == [(), ("tie-3",), ()]
    checks = MarketChecks(record)
    checks.run()
    assert [failure for check in checks.checks for failure in check.failures] == []
    agreed = [one.agreement.agreed for one in record.hub.ended if one.agreement is not None]
    assert all(any(item.amount for item in one.regions) for one in agreed), "they trade over the line that is left"


def test_a_line_that_is_no_tie_line_of_the_region_is_refused_before_anything_starts(tmp_path: Path) -> None:
    faults = [{"kind": "line_outage", "interval": 1, "region": "north", "line": "2"}]
    process = start_run(scenario_file(tmp_path, intervals=2, west=True, faults=faults), tmp_path / "run")
    assert process.wait(WITHIN_S) != 0
    problem = (tmp_path / "run").with_suffix(".err").read_text(encoding="utf-8")
    assert "2 is no tie-line of region north; it has 1" in " ".join(problem.split())
    assert not (tmp_path / "run").exists()


def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    scenario, folder = scenario_file(tmp_path, intervals=3), tmp_path / "run"
    first = start_run(scenario, folder)
    started: list[int] = []
    try:
        wait(lambda: of_kind(events(folder), "interval_ended") or first.poll() is not None, "an interval", WITHIN_S)
        assert first.poll() is None, folder.with_suffix(".err").read_text()
        started = descendants(first.pid)
        assert any("ValidatorHost" in title(one) for one in started)
        end(first.pid)
        first.wait()
    finally:
        # Not all that Ray has started ends with a driver that was killed.
        for one in (*started, first.pid):
            end(one)
    assert state(folder) == "running"
    said = run(scenario, folder, "--resume")
    _check_resumed(said)
    record = read_run(folder)
    assert len(record.outcomes) == 3
    assert sum(len(readings(chain)) for chain in record.folder.regions) == METERS * 4
    assert state(folder) == "complete"


def _check_resumed(said: list[dict[str, Any]]) -> None:
    assert len(of_kind(said, "run_started")) == 2
    numbers = [one["number"] for one in of_kind(said, "interval_ended")]
    assert sorted(set(numbers)) == [0, 1, 2]
    assert numbers == sorted(numbers)
    assert numbers.count(0) == 1, "what was done is not done again"
    assert len(of_kind(said, "run_ended")) == 1
