"""The combinations of a sweep as Ray tasks: each is kept as it is finished, and run again where its node was lost.

A task is sent the case it needs, so other machines need the software and no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from pydantic import JsonValue
from ray.exceptions import RayTaskError

from actors.cluster.connection import connected
from actors.fleet.plan import FleetError
from actors.sweep.columns import row_of, table_of
from actors.sweep.combinations import Combination, Sweep
from actors.sweep.market_day import run_day
from actors.sweep.sweep_folder import SweepFolder
from coordinator.market.certificate import CertificateError
from coordinator.market.coupling.session import RoundLimitError
from coordinator.market.linear_program import SolverError
from coordinator.market.offers import OfferError
from coordinator.service.errors import ConfigurationError
from topology.case_files import read_case
from topology.errors import GridError
from topology.grid import Case

_FAILURES = (
    ConfigurationError,
    GridError,
    OfferError,
    FleetError,
    SolverError,
    CertificateError,
    RoundLimitError,
)
"""What a combination may end with while the others go on."""
_UNTIL_DONE = -1
Row = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Finished:
    """A combination that came out. `error` is empty where it has figures; `kept` where they were there before."""

    number: int
    row: Row
    error: str = ""
    kept: bool = False


def run_combination(combination: Combination, case: Case) -> Row:
    """Its row but for the number; deterministic but for `seconds`, wherever it runs."""
    given: Row = {**combination.parameters}
    try:
        return {**given, **row_of(run_day(combination.scenario, combination.study, case))}
    except _FAILURES as error:
        return {**given, "error": " ".join(str(error).split())}


def sweep(
    plan: Sweep,
    folder: Path,
    *,
    address: str = "local",
    resume: bool = False,
    listener: Callable[[Finished], None] = lambda _: None,
) -> pa.Table:
    """Run what is not finished in the folder: a row for each combination, also in `results.parquet` there.

    `address` is of a Ray cluster: `local` starts one on this machine and ends it, `auto` takes the one that is running.
    Raises FileExistsError, ConfigurationError, GridError, ConnectionError.
    """
    kept = SweepFolder(folder)
    kept.begin(plan, resume=resume)
    rows: dict[int, Row] = {}
    waiting: dict[int, Combination] = {}
    for number, combination in enumerate(plan.combinations):
        row = kept.row(combination)
        if row is None:
            waiting[number] = combination
        else:
            rows[number] = {**row, **combination.parameters}
            listener(Finished(number, rows[number], kept=True))
    if waiting:
        with connected(address):
            _run(waiting, rows, kept, listener)
    ordered: list[Row] = [{"combination": number, **rows[number]} for number in range(len(plan.combinations))]
    table = table_of(plan.name, plan.keys, ordered)
    kept.finish(plan, table)
    return table


def _run(
    waiting: dict[int, Combination], rows: dict[int, Row], kept: SweepFolder, listener: Callable[[Finished], None]
) -> None:
    @cache
    def case_of(path: Path) -> Any:
        return ray.put(read_case(path))

    task = ray.remote(run_combination).options(num_cpus=1, max_retries=_UNTIL_DONE)
    running = {task.remote(one, case_of(one.scenario.case)): number for number, one in waiting.items()}
    while running:
        done, _ = ray.wait(list(running), num_returns=1)
        for reference in done:
            number = running.pop(reference)
            rows[number] = row = _result(reference)
            error = str(row.get("error") or "")
            if not error:
                kept.keep(waiting[number], row)
            listener(Finished(number, row, error))


def _result(reference: Any) -> Row:
    try:
        found: Row = ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None
    return found
