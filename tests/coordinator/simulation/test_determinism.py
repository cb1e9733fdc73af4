"""A seed is one run: in every process, under every PYTHONHASHSEED."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coordinator.simulation.options import ALL_FAULTS
from coordinator.simulation.simulation import run_seed
from coordinator.simulation.trace import LEGEND

ROOT = Path(__file__).resolve().parents[3]
HASHES = """
from coordinator.simulation.interchain import run_interchain_seed
from coordinator.simulation.options import ALL_FAULTS
from coordinator.simulation.simulation import run_seed
for seed in (1, 5, 7, 12, 49):
    print(seed, run_seed(seed, ALL_FAULTS).trace_hash)
print(run_interchain_seed(3, 2, 4, ALL_FAULTS).trace_hash)
"""


def hashes(hash_seed: int) -> str:
    """Trace hashes of five seeds of one chain and one of three, from a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HASHES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_two_hash_seeds_give_the_same_traces() -> None:
    first = hashes(1)
    assert len(first.splitlines()) == 6
    assert hashes(4242) == first


def test_a_trace_is_replayed_line_by_line() -> None:
    first: list[str] = []
    again: list[str] = []
    outcome = run_seed(3, ALL_FAULTS, sink=first.append)
    assert run_seed(3, ALL_FAULTS, sink=again.append).trace_hash == outcome.trace_hash
    assert again == first
    assert run_seed(4, ALL_FAULTS).trace_hash != outcome.trace_hash


def test_a_line_has_the_columns_of_the_legend() -> None:
    lines: list[str] = []
    run_seed(3, ALL_FAULTS, sink=lines.append)
    columns = [line.split()[0] for line in LEGEND.splitlines()]
    assert columns == ["time", "chain", "node", "event", "epoch", "view", "final", "height", "effects"]
    assert lines[0].startswith("# seed 3 validators=")
    assert {len(line.split()) for line in lines[1:]} == {len(columns)}
