"""`gridaccord simulate`: many seeds of simulated chains under faults; docs/simulation.md explains it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import coordinator
from coordinator.simulation.interchain import run_interchain_seed
from coordinator.simulation.options import Fault, parse_faults
from coordinator.simulation.simulation import Outcome, run_seed
from coordinator.simulation.trace import LEGEND

_PROGRESS_S = 2.0
_ROOMS = ("consensus", "settlement/escrow", "simulation")
_REPORTED_FAILURES = 20
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is simulated. One region is a single chain without a hub; `validators` of None are drawn by the seed."""

    regions: int
    validators: int | None
    faults: tuple[Fault, ...]

    def run(self, seed: int) -> Outcome:
        """One seed."""
        if self.regions == 1:
            return run_seed(seed, self.faults, self.validators)
        return run_interchain_seed(seed, self.regions, self.validators or 4, self.faults)

    def trace(self, seed: int) -> Outcome:
        """One seed, line by line on standard output."""
        if self.regions == 1:
            return run_seed(seed, self.faults, self.validators, sink=typer.echo)
        return run_interchain_seed(seed, self.regions, self.validators or 4, self.faults, sink=typer.echo)

    def json(self) -> Json:
        """As it stands in results and in the first line of a file to resume from."""
        faults = [fault.value for fault in self.faults]
        return {"regions": self.regions, "validators": self.validators, "faults": faults}


@dataclass(slots=True)
class Totals:
    """Sums over seeds."""

    seeds: int = 0
    events: int = 0
    finalized: int = 0
    settlements: int = 0
    crashes: int = 0
    epochs: int = 0
    safety_failures: int = 0
    liveness_failures: int = 0
    first_failing_seed: int | None = None
    slowest_healing_deltas: float = 0.0
    failures: list[Json] = field(default_factory=list)
    code: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: Outcome, code: str) -> None:
        """One more seed, run by the code of this fingerprint."""
        self.seeds += 1
        self.events += outcome.events
        self.finalized += outcome.finalized
        self.settlements += outcome.settlements
        self.crashes += outcome.crashes
        self.epochs += outcome.epochs
        self.slowest_healing_deltas = max(self.slowest_healing_deltas, outcome.healed_deltas)
        self.code[code] = self.code.get(code, 0) + 1
        if outcome.failure is None:
            return
        self.safety_failures += outcome.failure_kind == "safety"
        self.liveness_failures += outcome.failure_kind == "liveness"
        if self.first_failing_seed is None or outcome.seed < self.first_failing_seed:
            self.first_failing_seed = outcome.seed
        if len(self.failures) < _REPORTED_FAILURES:
            self.failures.append({"seed": outcome.seed, "kind": outcome.failure_kind, "failure": outcome.failure})


def fingerprint() -> str:
    """Which code ran: a hash of the modules that a run's outcome depends on."""
    folder = Path(coordinator.__file__).parent
    paths = [path for room in _ROOMS for path in sorted((folder / room).glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


class ResultFile:
    """A file of JSON lines: the settings, then one outcome a line. A last line cut short by a crash is dropped."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.done: dict[int, tuple[Outcome, str]] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        head = (json.dumps(settings.json()) + "\n").encode()
        if lines and not lines[-1].endswith(b"\n") and (len(lines) > 1 or head.startswith(lines[0])):
            lines.pop()
        if lines and self._decoded(lines, 0) != settings.json():
            said = lines[0].decode(errors="replace").strip()[:200]
            raise typer.BadParameter(f"{path} holds seeds of other settings: {said}; give a new file")
        for number in range(1, len(lines)):
            document = self._decoded(lines, number)
            try:
                code = document.pop("code")
                self.done[document["seed"]] = Outcome(**document), code
            except (KeyError, TypeError):
                raise typer.BadParameter(f"{path} line {number + 1} is not the outcome of a seed; drop it") from None
        path.write_bytes(b"".join(lines) or head)

    def _decoded(self, lines: list[bytes], number: int) -> dict[str, Any]:
        try:
            document = json.loads(lines[number])
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise typer.BadParameter(f"{self.path} line {number + 1} is not a JSON object; name another file")
        return document

    def add(self, outcome: Outcome, code: str) -> None:
        """Append one, at once."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**asdict(outcome), "code": code}) + "\n")


def outcomes(settings: Settings, seeds: list[int], jobs: int) -> Iterator[Outcome]:
    """The seeds' outcomes, in order."""
    if jobs == 1:
        yield from map(settings.run, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(Settings.run, settings), seeds, chunksize=4)


def simulate(
    regions: Annotated[
        int, typer.Option(min=1, max=99, help="Region chains; from 2 on with a hub chain and settlements between them.")
    ] = 1,
    validators: Annotated[
        int | None,
        typer.Option(min=4, max=100, help="Of each chain. Default: drawn by the seed, 4 with several regions."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 100,
    start_seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    faults: Annotated[
        str, typer.Option(metavar="all|none|LIST", help="Of network, crash, disk, byzantine; divided by commas.")
    ] = "all",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    trace: Annotated[
        int | None, typer.Option(metavar="SEED", min=0, help="Run only this seed, and print a line an event.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep outcomes in this file (JSON lines), and skip those in it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, and of the seeds only those that fail.")] = False,
) -> None:
    """Attack simulated chains with seeded faults, and say whether anything broke."""
    try:
        settings = Settings(regions, validators, parse_faults(faults))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if trace is not None:
        _trace(settings, trace)
        return
    started = time.monotonic()
    totals = _run(settings, range(start_seed, start_seed + seeds), jobs, resume, as_json, quiet)
    seconds = time.monotonic() - started
    document = {"start_seed": start_seed, **settings.json(), **asdict(totals), "seconds": round(seconds, 3)}
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        _show(totals, seconds)
    if totals.first_failing_seed is not None:
        raise typer.Exit(1)


def _run(settings: Settings, seeds: range, jobs: int, resume: Path | None, as_json: bool, quiet: bool) -> Totals:
    """Run what is not in the file yet; tell each outcome, and how far it is."""
    file = None if resume is None else ResultFile(resume, settings)
    totals, code = Totals(), fingerprint()
    done = {} if file is None else file.done
    for seed in seeds:
        if seed in done:
            totals.add(*done[seed])
    left = [seed for seed in seeds if seed not in done]
    told = time.monotonic()
    for outcome in outcomes(settings, left, jobs):
        totals.add(outcome, code)
        if file is not None:
            file.add(outcome, code)
        if not as_json and (not quiet or outcome.failure is not None):
            typer.echo(outcome.line())
        if not quiet and time.monotonic() - told > _PROGRESS_S:
            told = time.monotonic()
            typer.echo(f"{totals.seeds} of {len(seeds)} seeds, {_failures(totals)}", err=True)
    return totals


def _failures(totals: Totals) -> str:
    return f"{totals.safety_failures} safety and {totals.liveness_failures} liveness failures"


def _show(totals: Totals, seconds: float) -> None:
    first = "" if totals.first_failing_seed is None else f", the first at seed {totals.first_failing_seed}"
    settled = f", {totals.settlements} settlements decided" if totals.settlements else ""
    typer.echo(
        f"{totals.seeds} seeds, {totals.events} events, {totals.finalized} finalized heights{settled}, "
        f"{totals.crashes} crashes: {_failures(totals)}{first} ({seconds:.1f} s)"
    )


def _trace(settings: Settings, seed: int) -> None:
    """Everything that is needed to run it again, the legend, and one line an event."""
    validators = "" if settings.validators is None else f" --validators {settings.validators}"
    faults = ",".join(fault.value for fault in settings.faults) or "none"
    typer.echo(f"# gridaccord simulate --regions {settings.regions}{validators} --faults {faults} --trace {seed}")
    for line in LEGEND.splitlines():
        typer.echo(f"# {line}")
    outcome = settings.trace(seed)
    typer.echo(f"# {outcome.line()}")
    typer.echo(f"# SHA-256 {outcome.trace_hash}")
    if outcome.failure is not None:
        raise typer.Exit(1)
