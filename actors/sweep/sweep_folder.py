"""What stands in the folder of a sweep.

manifest.json      versions, the sweep's name and parameters, state: running or complete, times
done/<key>.json    the row of each finished combination, as soon as it is finished
results.parquet    all rows, when the last one is there

A row is found again by all that it follows from: the combination, the files of its case, and the software. So a sweep
that goes on runs what is missing, and one whose file was extended runs what is new.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from actors.output import input_files
from actors.sweep.combinations import Combination, Sweep
from actors.whole_files import now_iso, replace_file
from coordinator.service.errors import ConfigurationError

_KIND = "sweep"
RUNNING, COMPLETE = "running", "complete"


class SweepFolder:
    """Of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done = path / "done"

    @property
    def results(self) -> Path:
        """The table."""
        return self.path / "results.parquet"

    def begin(self, sweep: Sweep, *, resume: bool) -> None:
        """Make the folder, or go on in it. Raises FileExistsError, ConfigurationError."""
        self.path.mkdir(parents=True, exist_ok=True)
        if resume and any(self.path.iterdir()):
            if self._manifest().get("kind") != _KIND:
                raise ConfigurationError(f"{self.path}: not the folder of a sweep; give that one, or a new folder")
        elif any(self.path.iterdir()):
            raise FileExistsError(f"{self.path}: not empty; give a new folder, or --resume to go on with its sweep")
        self._done.mkdir(exist_ok=True)
        self._write_manifest(sweep, RUNNING, started=now_iso())

    def row(self, combination: Combination) -> dict[str, JsonValue] | None:
        """Of a combination that was finished before."""
        path = self._path(combination)
        if not path.exists():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(content, dict)
        return content

    def keep(self, combination: Combination, row: dict[str, JsonValue]) -> None:
        """It is finished, and will not be run again."""
        replace_file(self._path(combination), json.dumps(row, allow_nan=False).encode() + b"\n")

    def finish(self, sweep: Sweep, table: pa.Table) -> None:
        """Write the table."""
        fresh = self.results.with_suffix(".new")
        pq.write_table(table, fresh)
        fresh.replace(self.results)
        self._write_manifest(sweep, COMPLETE, ended=now_iso())

    def _path(self, combination: Combination) -> Path:
        scenario = combination.scenario
        content = [combination.digest, _inputs_digest(scenario.case, scenario.regions), *_versions().values()]
        return self._done / f"{hashlib.sha256(' '.join(content).encode()).hexdigest()}.json"

    def _manifest(self) -> dict[str, JsonValue]:
        path = self.path / "manifest.json"
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        assert isinstance(content, dict)
        return content

    def _write_manifest(self, sweep: Sweep, state: str, **more: str) -> None:
        content = {
            **self._manifest(),
            "kind": _KIND,
            **_versions(),
            "sweep": sweep.name,
            "config_hash": sweep.digest,
            "parameters": list(sweep.keys),
            "combinations": len(sweep.combinations),
            "state": state,
            **more,
        }
        replace_file(self.path / "manifest.json", json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


@cache
def _versions() -> dict[str, str]:
    found = {name: version(name) for name in ("gridaccord", "highspy", "numpy")}
    return {**found, "python": platform.python_version()}


@cache
def _inputs_digest(case: Path, regions: str) -> str:
    paths: Sequence[Path] = input_files(case, regions) if case.is_dir() else [case]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
