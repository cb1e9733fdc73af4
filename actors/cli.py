"""The command `gridaccord`: reads the options, calls the study, shows what came out.

Results go to standard output, progress and errors to standard error. An error is one line and exit code 1; a
wrong option is exit code 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from actors import display
from actors.audit import audit_command
from actors.cases import interval_at, market_intervals, run_intervals
from actors.coupled import IntervalResult
from actors.fleet.plan import FleetError
from actors.output import ResultFolder, claim_folder, input_files
from actors.pay import pay
from actors.report.command import report
from actors.results.run_folder import RunError
from actors.run import run
from actors.serve import COMMANDS, FAILURES
from actors.simulate import simulate
from actors.study import DEFAULT_WINDOW_PER_MWH, Settings, Study, check_case, relaxes_minimum
from actors.summary import summarize
from actors.sweep.command import sweep_command
from coordinator.ledger.merkle import OpeningError
from coordinator.market.certificate import CertificateError
from coordinator.market.costs import DEFAULT_SEGMENTS
from coordinator.market.coupling.session import DEFAULT_ROUND_LIMIT, RoundLimitError
from coordinator.market.coupling.wire import ProtocolError
from coordinator.market.fixed_point import FixedPointRangeError
from coordinator.market.linear_program import SolverError
from coordinator.market.offers import OfferError
from topology.case_files import BY_AREA, read_case, scenario_folders
from topology.errors import GridError

_FAILURES = (
    GridError,
    OfferError,
    CertificateError,
    SolverError,
    RoundLimitError,
    ProtocolError,
    OpeningError,
    FixedPointRangeError,
    OSError,
    FleetError,
    RunError,
    *FAILURES,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Regions that do not trust each other clear one electricity market.",
)


class ConventionName(StrEnum):
    """How impedances become susceptances; see docs/input.md."""

    PGLIB = "pglib"
    MATPOWER = "matpower"


CasePath = Annotated[Path, typer.Argument(metavar="CASE", help="A MATPOWER .m file or a folder of CSV files.")]
Regions = Annotated[
    str, typer.Option(metavar="N|area|FILE", help="So many automatic regions, the areas, or a CSV file bus,region.")
]
ConventionOption = Annotated[ConventionName, typer.Option(help="DC model: of PGLib-OPF or of MATPOWER.")]
Window = Annotated[float, typer.Option(min=0.0, max=1e6, help="Publish offers this near the last price, per MWh.")]
RoundLimit = Annotated[int, typer.Option(min=1, help="Give up after so many rounds.")]
Seed = Annotated[int, typer.Option(help="Seed of pseudonyms and salts; results do not depend on it.")]
Asset = Annotated[str, typer.Option(help="What money is counted in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what can go wrong into one line on standard error and exit code 1."""
    try:
        yield
    except _FAILURES as error:
        typer.echo(f"error: {_one_line(error)}", err=True)
        raise typer.Exit(1) from None


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}; check the path and its permissions"
    return " ".join(str(error).split())


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gridaccord {version('gridaccord')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Regions that do not trust each other clear one electricity market."""


@app.command()
@readable_errors()
def validate(case: CasePath, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Check a case, and say what is in it and what is worth knowing."""
    documents: list[display.Json] = []
    for path in scenario_folders(case) if case.is_dir() else (case,):
        if documents and not as_json:
            typer.echo()
        _progress(f"reading {path}", quiet)
        content = read_case(path)
        intervals = market_intervals(content, str(path))
        check_case(content, intervals)
        facts = display.case_facts(content, len(intervals) if content.series else 0)
        if not as_json:
            display.show_case(facts, content.warnings)
        documents.append({"valid": True, **facts, "warnings": list(content.warnings)})
    if as_json:
        _print_json(documents[0] if len(documents) == 1 else {"valid": True, "scenarios": documents})


@app.command()
@readable_errors()
def clear(
    case: CasePath,
    regions: Regions = BY_AREA,
    convention: ConventionOption = ConventionName.PGLIB,
    segments: Annotated[int, typer.Option(min=1, help="Steps that a quadratic cost is cut into.")] = DEFAULT_SEGMENTS,
    relax_minimum: Annotated[
        bool | None,
        typer.Option(
            "--relax-minimum/--keep-minimum",
            show_default=False,
            help="Units may run below their minimum (relaxed commitment), or not. Default: relaxed with a series.",
        ),
    ] = None,
    time: Annotated[str | None, typer.Option(help="Which interval of a series, ISO 8601; default: the first.")] = None,
    window: Window = DEFAULT_WINDOW_PER_MWH,
    round_limit: RoundLimit = DEFAULT_ROUND_LIMIT,
    seed: Seed = 0,
    asset: Asset = "EUR",
    check: Annotated[bool, typer.Option("--check", help="Compare with the central optimum.")] = False,
    prices: Annotated[bool, typer.Option("--prices", help="Show the price of every bus.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Couple one interval of a case."""
    settings = Settings(regions, convention.value, segments, relax_minimum, window, round_limit, seed, asset)
    _progress(f"reading {case}", quiet)
    content = read_case(case)
    interval = interval_at(market_intervals(content, str(case)), time, str(case))
    study = Study(content, settings)
    _progress(f"coupling {len(study.region_names)} regions", quiet)
    result = study.couple(interval)
    report = display.ClearReport(
        settings=settings,
        relaxed_minimum=relaxes_minimum(content, settings),
        result=result,
        bytes_setup=study.setup_bytes,
        warnings=study.warnings,
        central=study.central(interval) if check else None,
        with_prices=prices,
    )
    if as_json:
        _print_json(display.clear_json(report, content.grid.name))
    else:
        display.show_clear(report, content.grid.name)


@app.command()
@readable_errors()
def couple(
    folder: Annotated[Path, typer.Argument(help="A folder of CSV files with series, or a folder of such folders.")],
    hours: Annotated[int | None, typer.Option(min=1, help="Only the first so many hours.")] = None,
    regions: Regions = BY_AREA,
    convention: ConventionOption = ConventionName.PGLIB,
    window: Window = DEFAULT_WINDOW_PER_MWH,
    round_limit: RoundLimit = DEFAULT_ROUND_LIMIT,
    seed: Seed = 0,
    asset: Asset = "EUR",
    output: Annotated[Path | None, typer.Option(help="Write CSV files and a manifest to this new folder.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Couple all intervals of a case, one after another, with relaxed commitment: the market alone, no chains."""
    settings = Settings(
        regions,
        convention.value,
        relax_minimum=True,
        window_per_mwh=window,
        round_limit=round_limit,
        seed=seed,
        asset=asset,
    )
    scenarios = scenario_folders(folder)
    if output is not None:
        claim_folder(output)
    documents = []
    for scenario in scenarios:
        target = output / scenario.name if output is not None and len(scenarios) > 1 else output
        documents.append(_run_scenario(scenario, settings, hours, target, as_json, quiet))
    if as_json:
        _print_json(display.run_json(settings, documents))


def _run_scenario(
    folder: Path, settings: Settings, hours: int | None, target: Path | None, as_json: bool, quiet: bool
) -> display.Json:
    """Couple the intervals of one folder: show and write each as it is done, and the totals at the end."""
    case = read_case(folder)
    intervals = run_intervals(case, str(folder), hours)
    study = Study(case, settings)

    def tell(line: str) -> None:
        # With --json the lines are progress, which goes elsewhere.
        if not quiet:
            typer.echo(line, err=as_json)

    tell(
        f"{case.grid.name}: {len(case.grid.buses)} buses, {len(case.grid.resources)} units, {len(intervals)} intervals"
    )
    tell(display.interval_heading(study.region_names, settings.asset))
    documents: list[display.Json] = []
    with ResultFolder(target) if target is not None else nullcontext() as written:

        def coupled() -> Iterator[IntervalResult]:
            for result in map(study.couple, intervals):
                tell(display.interval_line(result))
                if as_json:
                    documents.append(display.interval_json(result))
                if written is not None:
                    written.add(result)
                yield result

        summary = summarize(coupled(), case.grid.resources, study.setup_bytes)
        if written is not None:
            written.finish(asdict(settings) | {"hours": hours}, input_files(folder, settings.regions))
    if not as_json:
        display.show_summary(case.grid.name, summary, settings.asset, study.warnings)
    return display.scenario_json(str(folder), case.grid.name, study.warnings, summary, documents)


app.command()(readable_errors()(run))

app.command("sweep")(readable_errors()(sweep_command))

app.command("audit")(audit_command)


app.command()(readable_errors()(simulate))

for _command in (*COMMANDS, pay):
    app.command()(readable_errors()(_command))

app.command()(readable_errors()(report))


def _progress(line: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(line, err=True)


def _print_json(document: display.Json) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def main() -> None:
    """Run the command line."""
    app(prog_name="gridaccord")
