"""One run of a scenario on Ray, measured from outside: wall seconds by phase, CPU seconds by process and thread.

Wall seconds are those of `events.jsonl`. CPU seconds are sampled as each interval opens, so an interval is charged
with what happens until the next one opens; after the last, until its bills are made. The scenario goes through
`prepare`, `Driver` and `RayBackend` as with `gridaccord run`; validators are asked once, at the end, which of
their threads has which name.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray

from actors.cluster.ray_backend import RayBackend
from actors.runner.driver import Driver, Run
from actors.runner.events import Events, Value
from actors.runner.prepare import prepare
from actors.runner.run_folder import RunFolder
from actors.scenario import Devices, Market, Scenario
from benchmarks.cases import Row
from benchmarks.process_clocks import Clocks, Role, clocks, grown, peak_mb, processes
from benchmarks.run_parts import RayParts, encoded_bytes, measure_parts, measure_ray
from coordinator.service.home import Pace

KIND = "run"
CASE = Path(__file__).resolve().parent.parent / "examples" / "rts_gmlc" / "2020-01-27"
PHASES = ("offers", "coupling", "dispatch", "readings")
_HEARTBEAT_MS = 500
"""Between empty blocks of a chain among three; among more, so many times longer: they share four processes."""
_PATIENT_BLOCKS = 100_000
"""No region is gone on without: a slow machine must not change what is computed."""

VERIFY, INTERVALS, CONSENSUS, LEDGER, NATIVE = "verify", "intervals", "consensus", "ledger", "native"
WORK = (VERIFY, INTERVALS, CONSENSUS, LEDGER, NATIVE, Role.GATEWAY, Role.FLEET, Role.RUNNER, Role.RAY)
"""What CPU seconds are summed up by: threads of validators, then the other processes."""
_THREADS = (
    ("check-readings", VERIFY),
    ("serve-readings", VERIFY),
    ("intervals", INTERVALS),
    ("node-", CONSENSUS),
    ("execute", LEDGER),
    ("disk-", LEDGER),
    ("guard-", LEDGER),
    ("prove", LEDGER),
    ("read", LEDGER),
    ("Thread-", NATIVE),
    ("MainThread", NATIVE),
    ("PythonGCThread", NATIVE),
)
"""How threads in a process of validators begin their names; others are of the node's loop. Whatever has no name in
Python is gRPC's or Ray's, native; so are gRPC's poller, a numbered thread, and the main one, in which Ray calls."""


@dataclass(frozen=True, slots=True)
class Config:
    """What is run: devices in all regions together, as many regions as the automatic cut makes of so many."""

    devices: int
    regions: int
    intervals: int

    @property
    def name(self) -> str:
        """What tells it apart."""
        return f"{self.devices:,} devices, {self.regions} regions, {self.intervals} intervals"

    @property
    def scenario(self) -> Scenario:
        """No faults, no batteries, nobody lies."""
        return Scenario(
            name=self.name,
            case=CASE,
            regions=str(self.regions),
            intervals=self.intervals,
            devices=Devices(meters=self.devices),
            pace=Pace(delay_ms=200, heartbeat_ms=_HEARTBEAT_MS * max(3, self.regions) // 3),
            market=Market(step_blocks=_PATIENT_BLOCKS, absent_blocks=_PATIENT_BLOCKS),
        )


@dataclass(slots=True)
class Observed:
    """What was seen from outside as a run went on."""

    found_s: float = 0.0
    start_s: float = 0.0
    bills_s: float = 0.0
    wall: list[Mapping[str, Value]] = field(default_factory=list)
    opened: list[Clocks] = field(default_factory=list)
    ended: Clocks = field(default_factory=dict)
    billed: Clocks = field(default_factory=dict)
    names: dict[tuple[int, int], str] = field(default_factory=dict)
    peaks_mb: dict[Role, float] = field(default_factory=dict)
    ray: RayParts | None = None


class _Observer:
    """Listens to the events of a run."""

    def __init__(self, scenario: Scenario, devices_a_fleet: int) -> None:
        self.observed = Observed()
        self._scenario = scenario
        self._batch_bytes = encoded_bytes(devices_a_fleet)

    def hear(self, kind: str, fields: Mapping[str, Value]) -> None:
        """An event."""
        seen = self.observed
        if kind == "chains_ready":
            seen.start_s = float(str(fields["seconds"]))
        elif kind == "interval_opened":
            seen.opened.append(clocks(os.getpid()))
        elif kind == "interval_ended":
            seen.wall.append(dict(fields))
            seen.ended = clocks(os.getpid())
        elif kind == "bills_made":
            seen.bills_s = float(str(fields["seconds"]))
            seen.billed = clocks(os.getpid())
            self._finish()

    def _finish(self) -> None:
        """While everything is still there."""
        hosts = [ray.get_actor(f"validators-{name}") for name in self._scenario.organizations]
        said: list[tuple[int, dict[int, str]]] = ray.get([host.__ray_call__.remote(_thread_names) for host in hosts])
        for validators, names in said:
            self.observed.names.update({(validators, thread): name for thread, name in names.items()})
        for process, role in processes(os.getpid()).items():
            peaks = self.observed.peaks_mb
            peaks[role] = max(peaks.get(role, 0.0), peak_mb(process))
        self.observed.ray = measure_ray(hosts[0], self._batch_bytes)


def _thread_names(actor: object) -> tuple[int, dict[int, str]]:
    """Runs in the process of an actor."""
    found = {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id is not None}
    return os.getpid(), found


def measured(config: Config, folder: Path) -> Row:
    """Run it in a new folder and say what it took. Raises what the run raises."""
    scenario, started = config.scenario, time.perf_counter()
    run = prepare(scenario, RunFolder(folder), resume=False)
    found_s = time.perf_counter() - started
    observed = _observe(run)
    observed.found_s = found_s
    parts = measure_parts(CASE, scenario.regions, config.intervals)
    assert observed.ray is not None, "every run ends with its bills"
    row = {**row_of(config, observed), "region_count": len(run.parts)}
    return row | {f"part_{name}": value for name, value in {**asdict(parts), **asdict(observed.ray)}.items()}


def _observe(run: Run) -> Observed:
    backend = RayBackend(run.scenario.cluster, run.folder.logs)
    observer = _Observer(run.scenario, max(plan.meters for part in run.parts for plan in part.fleets))
    with Events(run.folder.events, observer.hear) as events:
        asyncio.run(Driver(run, backend, events).go())
    return observer.observed


def row_of(config: Config, seen: Observed) -> Row:
    """Medians over intervals, wall and CPU seconds of one; the bills' are those of the last interval."""
    ends = [*seen.opened[1:], seen.billed]
    work = [work_of(grown(*pair), seen.names) for pair in zip(seen.opened, ends, strict=True)]
    cpu = {f"cpu_{name}": statistics.median(one[name] for one in work) for name in WORK}
    phases = {f"{name}_s": statistics.median(_phase(one, name) for one in seen.wall) for name in PHASES}
    bills_cpu = sum(work_of(grown(seen.ended, seen.billed), seen.names).values())
    return {
        "kind": KIND,
        "name": config.name,
        "devices": config.devices,
        "regions": config.regions,
        "intervals": config.intervals,
        "interval_s": statistics.median(float(str(one["seconds"])) for one in seen.wall),
        **phases,
        "bills_s": seen.bills_s,
        "bills_cpu_s": bills_cpu,
        **cpu,
        "cpu_s": statistics.median(sum(one.values()) for one in work),
        "readings": statistics.median_low(int(str(one["readings"])) for one in seen.wall),
        "alone": sum(len(_listed(one["alone"])) for one in seen.wall),
        "found_s": seen.found_s,
        "start_s": seen.start_s,
        **{f"peak_{role}_mb": peak for role, peak in seen.peaks_mb.items()},
        "error": None,
    }


def work_of(clocks: Clocks, names: Mapping[tuple[int, int], str]) -> dict[str, float]:
    """CPU seconds by what for; every thread counts once."""
    found = dict.fromkeys(map(str, WORK), 0.0)
    for thread, seconds in clocks.items():
        name = names.get((thread.process, thread.thread))
        found[work_name(thread.role, name)] += seconds
    return found


def work_name(role: Role, name: str | None) -> str:
    """What a thread is for: by its name in Python, None where it has none, in a process of validators."""
    if role is not Role.VALIDATORS:
        return str(role)
    if name is None:
        return NATIVE
    return next((work for head, work in _THREADS if name.startswith(head)), CONSENSUS)


def _phase(ended: Mapping[str, Value], name: str) -> float:
    phases: Any = ended["phases"]
    return float(phases[name])


def _listed(value: Value) -> list[object]:
    return value if isinstance(value, list) else []
