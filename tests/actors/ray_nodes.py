"""A Ray cluster of several nodes on this machine, started by `ray start` and ended by process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.ports import free_ports

RAY = Path(sys.executable).with_name("ray")
WITHIN_S = 240.0
"""Suits a machine several times slower than one left alone."""
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "5",
}


def environment() -> dict[str, str]:
    """For every process that belongs to a cluster, or talks to one."""
    return {**os.environ, **ENVIRONMENT}


class RayNodes:
    """A head, and further nodes. `address` is what drivers give."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._log = (self._folder / "start.log").open("wb")
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        head = (
            "--head",
            f"--port={port}",
            "--node-ip-address=127.0.0.1",
            "--include-dashboard=false",
            f"--temp-dir={self._folder}",
        )
        self._nodes = [self._start(*head)]
        wait(self._answers, "the head of the Ray cluster")

    def add(self, host: str = "127.0.0.1") -> int:
        """Another node with one CPU, at an address of this machine: the id of its process."""
        before = self._started()
        node = self._start(f"--address={self.address}", f"--node-ip-address={host}")
        self._nodes.append(node)
        wait(lambda: self._started() > before, "another node of the Ray cluster")
        return node.pid

    def kill(self, node: int) -> None:
        """End a node at once with all that it runs, without a word."""
        for process in (*descendants(node), node):
            end(process)

    def close(self) -> None:
        """End whatever runs."""
        for node in self._nodes:
            self.kill(node.pid)
            node.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [str(RAY), "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", *options]
        return subprocess.Popen(command, env=environment(), stdout=self._log, stderr=self._log)

    def _started(self) -> int:
        """How many nodes have said that they run."""
        return (self._folder / "start.log").read_text(errors="replace").count("Ray runtime started")

    def _answers(self) -> bool:
        if self._nodes[0].poll() is not None:
            raise AssertionError((self._folder / "start.log").read_text(errors="replace"))
        command = [str(RAY), "health-check", f"--address={self.address}"]
        return subprocess.run(command, env=environment(), capture_output=True, check=False).returncode == 0


@contextmanager
def ray_nodes() -> Iterator[RayNodes]:
    """Nothing of it is left after."""
    nodes = RayNodes()
    try:
        yield nodes
    finally:
        nodes.close()


def wait(condition: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
    """Until it holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.05)


def end(process: int) -> None:
    """At once; a process that is gone is as good."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants(process: int) -> list[int]:
    """Ids of the processes that a process has started, with theirs, the last ones first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [process]
    for one in found:
        found.extend(children.get(one, ()))
    return found[:0:-1]


def title(process: int) -> str:
    """What a process calls itself; a Ray worker says what it is doing. Empty where it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
