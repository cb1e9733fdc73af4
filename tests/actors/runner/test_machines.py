"""A run whose validators are on several machines, played by addresses of this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ray

from actors.ports import free_ports
from tests.actors.ray_nodes import descendants, ray_nodes, title, wait
from tests.actors.runner.support import WITHIN_S, events, of_kind, scenario_file, start_run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="uses 127.0.0.2, and finds the processes of a node in /proc"),
]
HERE, THERE = ray.util.get_node_ip_address(), "127.0.0.2"
"""Ray gives a node at 127.0.0.1 the address that the machine has to others."""


def validators(node: int) -> int:
    """How many processes with validators a Ray node runs."""
    return sum("ValidatorHost" in title(one) for one in descendants(node))


def failed(process: subprocess.Popen[bytes], folder: Path) -> str:
    """What it says, once it has failed."""
    assert process.wait(timeout=WITHIN_S) == 1
    return folder.with_suffix(".err").read_text(encoding="utf-8")


def test_validators_are_where_the_scenario_says_or_nothing_starts(tmp_path: Path) -> None:
    with ray_nodes() as nodes:
        cluster: dict[str, object] = {"address": nodes.address, "port": min(free_ports(4))}
        cluster["hosts"] = {"alpha": HERE, "bravo": HERE, "charlie": THERE, "delta": THERE}
        scenario, folder = scenario_file(tmp_path, intervals=1, cluster=cluster), tmp_path / "run"
        early = tmp_path / "early"
        assert f"no Ray node is at {THERE}; there are {HERE}" in failed(start_run(scenario, early), early)
        second = nodes.add(THERE)
        running = start_run(scenario, folder)
        wait(lambda: of_kind(events(folder), "interval_opened") or running.poll() is not None, "an interval", WITHIN_S)
        assert validators(second) == 2
        assert running.wait(timeout=WITHIN_S) == 0, folder.with_suffix(".err").read_text(encoding="utf-8")
    assert len(of_kind(events(folder), "interval_ended")) == 1
