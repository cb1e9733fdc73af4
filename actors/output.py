"""Writes the results of a run to a folder of CSV files and a manifest; docs/output.md describes the columns."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from actors.coupled import IntervalResult
from topology.case_files import regions_file

_COLUMNS: Mapping[str, str] = {
    "intervals": "time duration_s objective gap rounds bytes seconds disclosed_share flowgates lmp_min lmp_mean lmp_max"
    " shed_mw curtailed_mw violated_mw",
    "prices": "time bus region lmp energy congestion loss",
    "dispatch": "time unit bus dispatched_mw offered_mw curtailed_mw",
    "flows": "time kind id from_bus to_bus flow_mw limit_mw shadow_price",
    "events": "time event name mw",
}

_Cell = str | int | float | None


def claim_folder(path: Path) -> None:
    """Make the folder of results; raises FileExistsError if it holds anything, so that nothing is overwritten."""
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileExistsError(f"{path}: the folder is not empty; give a new one, results are never overwritten")


class ResultFolder:
    """The open files of one scenario's results. The manifest comes last: a folder without one is unfinished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = ExitStack()
        self._started = _now()

    def __enter__(self) -> Self:
        self._path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            streams = {
                name: opened.enter_context((self._path / f"{name}.csv").open("x", encoding="utf-8", newline=""))
                for name in _COLUMNS
            }
            self._files = opened.pop_all()
        self._writers = {name: csv.writer(stream, lineterminator="\n") for name, stream in streams.items()}
        for name, columns in _COLUMNS.items():
            self._writers[name].writerow(columns.split())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, result: IntervalResult) -> None:
        """Write one interval."""
        for name, rows in _rows(result).items():
            self._writers[name].writerows([result.interval.time, *map(_text, row)] for row in rows)

    def finish(self, options: Mapping[str, str | int | float | None], inputs: Sequence[Path]) -> None:
        """Write the manifest: what was run on which input, so that it can be run again."""
        manifest = {
            "gridaccord": version("gridaccord"),
            "solver": f"highspy {version('highspy')}",
            "seed": options["seed"],
            "options": dict(options),
            "inputs": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs},
            "outputs": [f"{name}.csv" for name in _COLUMNS],
            "started": self._started,
            "finished": _now(),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (self._path / "manifest.json").write_text(text + "\n", encoding="utf-8")


def input_files(folder: Path, regions: str) -> list[Path]:
    """The files that a scenario was read from, the file of regions among them."""
    file = regions_file(regions)
    return sorted(folder.glob("*.csv")) + ([] if file is None else [file])


def _rows(result: IntervalResult) -> Mapping[str, Iterator[Sequence[_Cell]]]:
    return {
        "intervals": iter([_interval_row(result)]),
        "prices": ((p.bus, p.region, p.lmp, p.energy, p.congestion, p.loss) for p in result.prices),
        "dispatch": ((unit.unit, unit.bus, unit.mw, unit.offered_mw, unit.curtailed_mw) for unit in result.dispatch),
        "flows": _flow_rows(result),
        "events": _event_rows(result),
    }


def _interval_row(result: IntervalResult) -> Sequence[_Cell]:
    unserved = (sum(power.mw for power in powers) for powers in (result.shed, result.curtailed, result.violations))
    counts = (result.rounds, result.bytes_sent, result.seconds, result.disclosed_share, result.flowgates)
    prices = (result.lmp_min, result.lmp_mean, result.lmp_max)
    return (result.interval.duration_s, result.objective, result.gap, *counts, *prices, *unserved)


def _flow_rows(result: IntervalResult) -> Iterator[Sequence[_Cell]]:
    """Every tie-line and link, and of the other branches those that bind."""
    for flow in (*result.ties, *(branch for branch in result.congested if not branch.tie)):
        ends = (flow.id, flow.from_bus, flow.to_bus)
        yield ("tie-line" if flow.tie else "branch", *ends, flow.flow_mw, flow.limit_mw, flow.shadow_price)
    for link in result.links:
        yield ("link", link.id, link.from_bus, link.to_bus, link.flow_mw, None, None)


def _event_rows(result: IntervalResult) -> Iterator[Sequence[_Cell]]:
    kinds = (("shed", result.shed), ("curtailed", result.curtailed), ("violated", result.violations))
    return ((event, power.name, power.mw) for event, powers in kinds for power in powers)


def _text(cell: _Cell) -> str:
    """Six decimals are watts and micro-units, which is all there is."""
    if cell is None:
        return ""
    # Adding zero makes minus zero plain.
    return f"{round(cell, 6) + 0.0:.6f}" if isinstance(cell, float) else str(cell)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
