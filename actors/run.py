"""`gridaccord run`: a scenario from signed offers and readings to settled money, on Ray actors or in this process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.scenario import Scenario, read_scenario

if TYPE_CHECKING:
    from actors.cluster.backend import Backend
    from actors.runner.driver import Run
    from actors.runner.events import Value
    from actors.runner.run_folder import RunFolder

_INTERRUPTED = 130


def run(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="A YAML file; see docs/scenario.md.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="A new folder; below results/ where it is left out."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Without Ray, all in this process: for small runs, and to compare.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run a scenario: regions, devices and validators as actors, every interval offered, coupled, metered and paid."""
    given = read_scenario(scenario)
    if resume and output is None:
        raise typer.BadParameter("--resume needs --output, the folder of the run to go on with")
    from actors.runner.prepare import prepare
    from actors.runner.run_folder import RunFolder

    folder = RunFolder(output or _new_folder(scenario.stem))
    progress = _Progress(quiet)
    progress.say(f"{given.name}: founding the consortium in {folder.path}")
    prepared = prepare(given, folder, resume=resume)
    progress.heading(prepared)
    try:
        _drive(prepared, _backend(given, folder, in_process), progress)
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo(f"interrupted; go on with: gridaccord run {scenario} --resume -o {folder.path}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    _finish(prepared, progress, as_json)


def _new_folder(stem: str) -> Path:
    return Path("results") / f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _backend(scenario: Scenario, folder: RunFolder, in_process: bool) -> Backend:
    if in_process:
        from actors.cluster.local_backend import LocalBackend

        return LocalBackend(folder.logs)
    from actors.cluster.ray_backend import RayBackend

    return RayBackend(scenario.cluster, folder.logs)


def _drive(prepared: Run, backend: Backend, progress: _Progress) -> None:
    from actors.runner.driver import Driver
    from actors.runner.events import Events

    async def go() -> None:
        task = asyncio.ensure_future(Driver(prepared, backend, events).go())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    # Ray tells of what was killed on standard output, where the result will stand.
    with Events(prepared.folder.events, progress.event) as events, redirect_stdout(sys.stderr):
        events.add("run_started", scenario=prepared.scenario.name, config_hash=prepared.scenario.config_hash)
        asyncio.run(go())
        events.add("run_ended", seconds=round(events.elapsed_s, 1))


def _finish(prepared: Run, progress: _Progress, as_json: bool) -> None:
    """Tables, independent verification and the report; exit code 1 where something does not hold."""
    from actors.report.command import REPORT, examine, show, verdict

    folder = prepared.folder
    folder.complete(prepared.scenario)
    verification, _ = examine(folder.path, progress.say)
    report = folder.path / REPORT
    if as_json:
        document = {"run": str(folder.path), "report": str(report), **verdict(verification)}
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        show(verification, report)
    if not verification.passed:
        raise typer.Exit(1)


class _Progress:
    """Lines on standard error as the run goes on."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, line: str) -> None:
        """A line, unless nobody wants any."""
        if not self._quiet:
            typer.echo(line, err=True)

    def heading(self, prepared: Run) -> None:
        """What is about to run, and the columns of the lines to come."""
        regions = [part.region for part in prepared.parts]
        meters = sum(len(part.meter_keys) for part in prepared.parts)
        seats, intervals = len(prepared.scenario.organizations), len(prepared.intervals)
        parties = f"{len(regions)} regions x {seats} validators, {seats} hub seats"
        self.say(f"{parties}, {meters:,} signing meters, {intervals} intervals")
        prices = "".join(f"{'price ' + region:>10}" for region in regions)
        self.say(f"{'interval':<26}{'seconds':>8}{'rounds':>8}{prices}  readings")

    def event(self, kind: str, fields: Mapping[str, Value]) -> None:
        """Something that happened; a warning is for everybody."""
        if kind == "validators_absent":
            text = f"warning: the validators of {fields['organization']} are not there; {fields['log']} says why"
            typer.echo(text, err=True)
        show = {
            "chains_ready": lambda: f"chains finalize after {fields['seconds']} s",
            "interval_ended": lambda: _interval_line(fields),
            "fault": lambda: f"  fault: {fields['fault']} {fields['target']}",
            "recovered": lambda: f"  over: {fields['fault']} {fields['target']}",
            "bills_open": lambda: f"  region {fields['region']}: {fields['reason']}; its last bills stay open",
        }.get(kind)
        if show is not None:
            self.say(show())


def _interval_line(fields: Mapping[str, Value]) -> str:
    prices, alone = fields["prices_per_mwh"], fields["alone"]
    assert isinstance(prices, Mapping)
    assert isinstance(alone, list)
    shown = "".join(f"{'-':>10}" if price is None else f"{price:>10.2f}" for price in prices.values())
    apart = f"  alone: {', '.join(map(str, alone))}" if alone else ""
    times = f"{fields['interval']:<26}{fields['seconds']:>8.1f}{fields['rounds']:>8}"
    return f"{times}{shown}  {fields['readings']:>8,}{apart}"
