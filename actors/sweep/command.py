"""`gridaccord sweep`: the market of a scenario over a grid of parameters, as Ray tasks; docs/cluster.md explains it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from actors.sweep.combinations import Sweep
    from actors.sweep.sweeping import Finished

_INTERRUPTED = 130
GAP_MOST = 1e-6
"""A coupled interval further from the central optimum is an error."""


def sweep_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file; see docs/cluster.md.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="A new folder; below results/ where it is left out."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --output.")] = False,
    address: Annotated[
        str,
        typer.Option(help="Of a Ray cluster; local starts one on this machine, auto takes the one that is running."),
    ] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the market of a scenario for every combination of parameters and seeds: one table of results."""
    if resume and output is None:
        raise typer.BadParameter("--resume needs --output, the folder of the sweep to go on with")
    from actors.sweep.combinations import read_sweep
    from actors.sweep.sweeping import sweep

    plan = read_sweep(file)
    folder = output or Path("results") / f"{file.stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    progress = _Progress(plan, quiet)
    started = time.monotonic()
    try:
        table = sweep(plan, folder, address=address, resume=resume, listener=progress.finished)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; go on with: gridaccord sweep {file} --resume -o {folder}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    summary = {
        "sweep": plan.name,
        "combinations": len(plan.combinations),
        "kept": progress.kept,
        "failed": progress.failed,
        "worst_coupled_gap": progress.worst_gap,
        "seconds": round(time.monotonic() - started, 1),
        "columns": table.column_names,
        "table": str(folder / "results.parquet"),
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=2, allow_nan=False))
    else:
        _show(summary)
    if progress.failed or progress.worst_gap > GAP_MOST:
        typer.echo("error: " + _problem(progress), err=True)
        raise typer.Exit(1)


def _show(summary: dict[str, object]) -> None:
    for name in ("sweep", "combinations", "kept", "failed", "worst_coupled_gap", "seconds", "table"):
        typer.echo(f"{name.replace('_', ' '):<18} {summary[name]}")


def _problem(progress: _Progress) -> str:
    if progress.failed:
        return f"{progress.failed} combinations have no figures; column error says why, --resume tries them again"
    return f"an interval is {progress.worst_gap:.1e} from the central optimum, more than {GAP_MOST:.0e}; see worst_gap"


class _Progress:
    """A line on standard error for each combination, and what is counted over all."""

    def __init__(self, plan: Sweep, quiet: bool) -> None:
        self._plan = plan
        self._quiet = quiet
        self.kept = self.failed = 0
        self.worst_gap = 0.0

    def finished(self, one: Finished) -> None:
        """Another one."""
        from actors.sweep.exchange import ExchangeKind

        combination = self._plan.combinations[one.number]
        self.kept += one.kept
        self.failed += bool(one.error)
        gap = one.row.get("worst_gap")
        if isinstance(gap, float) and combination.study.exchange is ExchangeKind.COUPLED:
            self.worst_gap = max(self.worst_gap, gap)
        if not self._quiet:
            point = ", ".join(f"{key}={value}" for key, value in combination.parameters.items())
            said = one.error or (
                "kept" if one.kept else f"{one.row['seconds']:.1f} s, objective {one.row['objective']:,.2f}"
            )
            typer.echo(f"{one.number:>6}  {point}: {said}", err=True)
