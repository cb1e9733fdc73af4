"""Interval after interval: opens them in all regions, injects faults, keeps what a later run goes on from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from actors.cluster.backend import Backend, Part, RegionHandle
from actors.cluster.region_gateway import RegionInterval
from actors.runner.events import Events
from actors.runner.run_folder import RunFolder
from actors.scenario import LASTING, OUTAGES, Fault, FaultKind, Scenario, faults_at
from coordinator.settlement.interval.topics import Interval
from topology.regions import tie_name

_BILLS_S = 15.0
"""How long the bills of the last interval may take; readings that never come keep them open for ever."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is to be run. `times` are ISO 8601 starts of the intervals, for people."""

    scenario: Scenario
    folder: RunFolder
    intervals: tuple[Interval, ...]
    times: tuple[str, ...]
    parts: tuple[Part, ...]


class Driver:
    """Of one run on one backend."""

    def __init__(self, run: Run, backend: Backend, events: Events) -> None:
        self._run = run
        self._backend = backend
        self._events = events
        self._regions: Mapping[str, RegionHandle] = {}

    async def go(self) -> None:
        """To the end of the last interval. Whatever stops it, everything that was started is ended."""
        run, progress = self._run, self._run.folder.progress()
        heights = dict(progress.heights) or {part.region: 1 for part in run.parts}
        try:
            await self._start()
            opens = time.monotonic()
            for number in range(progress.next_interval, len(run.intervals)):
                await asyncio.sleep(max(0.0, opens - time.monotonic()))
                opens += self._pace_s()
                heights = await self._interval(number, heights)
            await self._bills(heights)
        finally:
            await self._backend.stop()

    def _pace_s(self) -> float:
        """From the opening of an interval to that of the next one, at least."""
        scenario = self._run.scenario
        return 0.0 if scenario.clock == "simulated" else scenario.interval_s or self._run.intervals[0].duration_s

    async def _start(self) -> None:
        run, started = self._run, time.monotonic()
        homes = {name: run.folder.home(name) for name in run.scenario.organizations}
        self._regions = await self._backend.start(homes, run.parts)
        absent = await asyncio.gather(*(region.ready() for region in self._regions.values()))
        self._events.add("chains_ready", seconds=round(time.monotonic() - started, 3))
        for name in sorted({name for names in absent for name in names}):
            self._events.add("validators_absent", organization=name, log=str(run.folder.logs / f"{name}.log"))

    async def _interval(self, number: int, heights: Mapping[str, int]) -> dict[str, int]:
        run, started = self._run, time.monotonic()
        interval, silent = run.intervals[number], self._silent(number)
        self._events.add("interval_opened", interval=run.times[number], number=number)
        self._tell_lasting(number)
        await self._announce_outages(number + 1)
        speaking = [region for region in self._regions if region not in silent]
        work = [asyncio.ensure_future(self._regions[name].run_interval(interval, heights[name])) for name in speaking]
        try:
            await self._inject(faults_at(run.scenario.faults, number))
            done = list(await asyncio.gather(*work))
        finally:
            for task in work:
                task.cancel()
        for name in silent:
            done.append(await self._regions[name].run_interval(interval, heights[name]))
        reached = {one.region: one.height for one in done}
        run.folder.keep(number, reached, {one.region: one.snapshots for one in done})
        self._tell(number, done, time.monotonic() - started)
        return reached

    def _silent(self, number: int) -> list[str]:
        """Regions that say nothing to the hub: their gates close when the others are through, so they clear alone."""
        named = {
            fault.region
            for fault in self._run.scenario.faults
            if fault.kind is FaultKind.SILENT and fault.lasts(number)
        }
        return [region for region in self._regions if region in named]

    async def _announce_outages(self, number: int) -> None:
        """Of tie-lines that are open from this interval on: one, or all of a region."""
        starts = dict(enumerate(interval.start_s for interval in self._run.intervals))
        for fault in faults_at(self._run.scenario.faults, number):
            if fault.kind in OUTAGES and fault.region is not None and number in starts:
                until_s = starts.get(number + fault.intervals)
                only = None if fault.line is None else tie_name(fault.line)
                await self._regions[fault.region].open_ties(starts[number], until_s, only)

    def _tell_lasting(self, number: int) -> None:
        for fault in self._run.scenario.faults:
            if fault.kind in LASTING and number in (fault.interval, fault.interval + fault.intervals):
                kind = "fault" if number == fault.interval else "recovered"
                self._events.add(kind, fault=fault.kind, target=fault.target, number=number)

    async def _inject(self, faults: Sequence[Fault]) -> None:
        backend = self._backend
        of_validators = {
            FaultKind.KILL_VALIDATORS: backend.kill_validators,
            FaultKind.BYZANTINE: backend.turn_byzantine,
        }
        for fault in faults:
            if fault.kind in of_validators and fault.validators is not None:
                self._events.add("fault", fault=fault.kind, target=fault.target, number=fault.interval)
                await of_validators[fault.kind](fault.validators)
            elif fault.kind is FaultKind.KILL_FLEET and fault.region is not None:
                self._events.add("fault", fault=fault.kind, target=fault.target, number=fault.interval)
                await backend.kill_fleet(fault.region)

    def _tell(self, number: int, done: Sequence[RegionInterval], seconds: float) -> None:
        run = self._run
        for one in done:
            for refused in one.refused:
                self._events.add("refused_readings", region=one.region, device=refused.device, reason=refused.reason)
            for refusal in one.not_obeyed:
                fields = {"resource": refusal.resource, "reason": refusal.reason.value, "detail": refusal.detail}
                self._events.add("refused_dispatch", region=one.region, number=number, **fields)
        phases = [asdict(one.phases) for one in done]
        slowest = {name: round(max(phase[name] for phase in phases), 3) for name in phases[0]}
        coupled = [one for one in done if one.is_coupled]
        self._events.add(
            "interval_ended",
            interval=run.times[number],
            number=number,
            seconds=round(seconds, 3),
            phases=slowest,
            rounds=max((one.rounds for one in coupled), default=0),
            attempts=max((one.attempts for one in coupled), default=0),
            alone=[one.region for one in done if not one.is_coupled],
            prices_per_mwh={one.region: None if one.price is None else one.price / 1e6 for one in done},
            readings=sum(one.readings for one in done),
        )

    async def _bills(self, heights: Mapping[str, int]) -> None:
        """Until the last interval is billed in every region, within reason."""
        last, started = self._run.intervals[-1], time.monotonic()
        waiting = {name: region.billed(last, heights[name]) for name, region in self._regions.items()}
        tasks = {name: asyncio.ensure_future(one) for name, one in waiting.items()}
        _, late = await asyncio.wait(tasks.values(), timeout=_BILLS_S)
        for task in late:
            task.cancel()
        for name, task in tasks.items():
            if task in late:
                self._events.add("bills_open", region=name, reason="readings of its meters are missing")
            else:
                task.result()
        self._events.add("bills_made", seconds=round(time.monotonic() - started, 3))
