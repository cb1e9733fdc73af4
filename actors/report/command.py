"""`gridaccord report`: tables, verification and one page of a run.

Exit code 0 where everything holds, 1 where something does not or there is nothing to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from actors.report.figures import figures
from actors.report.page import page
from actors.results.collect import MANIFEST, read_run, write_record
from actors.results.tables import FOLDER, read_tables
from actors.results.verdict import Verification
from actors.results.verification import verify_record, write_verification

REPORT = "report.html"
_FAILURES_SHOWN = 20

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, finished or interrupted.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def report(run: RunPath, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Write a run's tables from its ledgers, verify it independently, and show it as one HTML page."""

    def tell(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    verification, counts = examine(run, tell)
    if as_json:
        document = {"report": str(run / REPORT), "tables": counts, **verdict(verification)}
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        show(verification, run / REPORT)
    if not verification.passed:
        raise typer.Exit(1)


def examine(run: Path, tell: Callable[[str], None]) -> tuple[Verification, dict[str, int]]:
    """Tables, verification and page of a run; what was found, and how many rows each table has. Raises RunError."""
    tell(f"reading the ledgers of {run}")
    record = read_run(run)
    counts = write_record(record)
    tell(f"verifying {len(record.outcomes)} intervals on {len(record.folder.chains)} chains")
    verification = verify_record(record)
    counts |= write_verification(run, verification)
    write_report(run)
    return verification, counts


def write_report(run: Path) -> Path:
    """RUN/report.html from the tables that `collect` and `write_verification` have left; its path."""
    file = run / REPORT
    found = figures(read_tables(run / FOLDER))
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    title = str(manifest.get("scenario", run.resolve().name))
    file.write_text(page(found, title, _facts(manifest)), encoding="utf-8")
    return file


def _facts(manifest: Mapping[str, object]) -> dict[str, str]:
    """What the manifest says about the run, as far as it does."""
    names = {"version": "gridaccord", "state": "state", "seed": "seed", "solver": "solver"}
    return {shown: str(manifest[name]) for name, shown in names.items() if name in manifest}


def verdict(verification: Verification) -> dict[str, object]:
    """What was found, for programs."""
    checks = {
        check.name: {
            "checked": check.checked,
            "failures": len(check.failures),
            "worst": check.worst,
            "tolerance": check.tolerance,
            "unit": check.unit,
        }
        for check in verification.checks
    }
    failures = [str(failure) for failure in verification.failures]
    return {"verified": verification.passed, "checks": checks, "failures": failures}


def show(verification: Verification, file: Path) -> None:
    """What was found, for people."""
    for check in verification.checks:
        worst = f", worst {check.worst:.3g} {check.unit}" if check.unit else ""
        mark = "ok" if not check.failures else f"{len(check.failures)} do not hold"
        typer.echo(f"{check.name:<17} {check.checked:>9,} {mark}{worst}")
    failures = list(verification.failures)
    for failure in failures[:_FAILURES_SHOWN]:
        typer.echo(f"error: {failure}", err=True)
    if len(failures) > _FAILURES_SHOWN:
        typer.echo(f"error: and {len(failures) - _FAILURES_SHOWN} more, in {FOLDER}/failures.parquet", err=True)
    typer.echo(f"report            {file}")
