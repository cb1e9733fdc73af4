"""A sweep on a Ray cluster of two nodes, of which one is killed; what is finished is not run again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.sweep.combinations import read_sweep
from actors.sweep.sweeping import run_combination
from tests.actors.ray_nodes import WITHIN_S, descendants, environment, ray_nodes, title, wait
from tests.actors.support import ROOT
from tests.actors.sweep.support import sweep_file
from topology.case_files import read_case

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a node in /proc"),
]
GRIDACCORD = Path(sys.executable).with_name("gridaccord")
HOURS = 12


def start_sweep(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [str(GRIDACCORD), "sweep", *map(str, arguments), "--json", "--quiet"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(process: subprocess.Popen[str]) -> dict[str, object]:
    """What it printed, when it is through without an error."""
    out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0, err
    document = json.loads(out)
    assert isinstance(document, dict)
    return document


def test_a_sweep_goes_on_without_a_node_that_is_killed_and_then_with_new_seeds(tmp_path: Path) -> None:
    file, results = sweep_file(tmp_path, intervals=HOURS), tmp_path / "results"
    with ray_nodes() as nodes:
        second = nodes.add()
        running = start_sweep(file, "-o", results, "--address", nodes.address)
        wait(lambda: any("run_combination" in title(one) for one in descendants(second)), "a task on the second node")
        nodes.kill(second)
        said = ended(running)
        assert (said["combinations"], said["kept"], said["failed"]) == (6, 0, 0)
        table = pq.read_table(results / "results.parquet")
        longer = sweep_file(tmp_path, intervals=HOURS, seeds=[1, 2, 3, 4, 5])
        stopped = start_sweep(longer, "-o", results, "--address", nodes.address, "--resume")
        wait(
            lambda: len(list((results / "done").glob("*.json"))) > 6 or stopped.poll() is not None, "a new combination"
        )
        stopped.send_signal(signal.SIGINT)
        assert "interrupted; go on with: gridaccord sweep" in stopped.communicate(timeout=WITHIN_S)[1]
        assert stopped.returncode == 130
        said = ended(start_sweep(longer, "-o", results, "--address", nodes.address, "--resume"))
        assert said["combinations"] == 10
        assert 7 <= int(str(said["kept"])) < 10
    plan = read_sweep(longer)
    extended = {tuple(row[key] for key in ("batteries.west.energy_mwh", "seed")): row for row in rows(results)}
    for row in table.to_pylist():
        assert row["worst_gap"] <= 1e-6
        mine = extended[row["batteries.west.energy_mwh"], row["seed"]]
        assert {**mine, "combination": None} == {**row, "combination": None}, "kept as it was, seconds and all"
    for number in (0, len(plan.combinations) - 1):
        combination = plan.combinations[number]
        here = run_combination(combination, read_case(combination.scenario.case))
        there = rows(results)[number]
        assert {key: there[key] for key in here if key != "seconds"} == {k: here[k] for k in here if k != "seconds"}


def rows(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(folder / "results.parquet").to_pylist()
    return found
