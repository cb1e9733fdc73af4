"""What stands in the folder of a run, and what a later run needs to go on.

scenario.yaml    the scenario with every default written out
manifest.json    versions, hash of the scenario, seed, state: running or complete, times
consortium/      the folder of each organization, with its ledgers: what everything else follows from
events.jsonl     what happened, as it happened
progress.json    which interval comes next, and from which heights on
fleets/          the devices of each region after the last interval
logs/            of each organization's node
tables/, report.html
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from actors.scenario import Scenario
from actors.whole_files import now_iso, replace_file
from coordinator.service.errors import ConfigurationError

RUNNING, COMPLETE = "running", "complete"


@dataclass(frozen=True, slots=True)
class Progress:
    """`next_interval` is a number; heights are those of regions' chains from which on an interval's blocks come."""

    next_interval: int = 0
    heights: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Of one run."""

    path: Path

    @property
    def consortium(self) -> Path:
        """The organizations' folders."""
        return self.path / "consortium"

    @property
    def logs(self) -> Path:
        """Of the nodes."""
        return self.path / "logs"

    @property
    def events(self) -> Path:
        """What happened."""
        return self.path / "events.jsonl"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.path / "report.html"

    def home(self, organization: str) -> Path:
        """An organization's folder."""
        return self.consortium / organization

    # The scenario.

    def begin(self, scenario: Scenario) -> None:
        """Make the folder. Raises FileExistsError where it holds anything."""
        self.path.mkdir(parents=True, exist_ok=True)
        if any(self.path.iterdir()):
            raise FileExistsError(f"{self.path}: not empty; give a new folder, or --resume to go on with the run in it")
        for folder in (self.logs, self.path / "fleets"):
            folder.mkdir()
        (self.path / "scenario.yaml").write_text(scenario.resolved, encoding="utf-8")
        self.write_manifest(scenario, RUNNING, started=now_iso())

    def check(self, scenario: Scenario) -> None:
        """Raise ConfigurationError unless the run in the folder is of this scenario and can go on."""
        manifest = self.manifest()
        if manifest.get("config_hash") != scenario.config_hash:
            raise ConfigurationError(f"{self.path}: the run in it is of another scenario; resume it with its own")
        if not self.consortium.is_dir():
            raise ConfigurationError(f"{self.path}: the run in it ended before its chains began; start a new one")

    def manifest(self) -> dict[str, object]:
        """What the run says of itself. Raises ConfigurationError where there is none."""
        path = self.path / "manifest.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: {error}; is this the folder of a run?") from None
        assert isinstance(content, dict)
        return content

    def complete(self, scenario: Scenario) -> None:
        """The run is through."""
        self.write_manifest(scenario, COMPLETE, ended=now_iso())

    def write_manifest(self, scenario: Scenario, state: str, **more: object) -> None:
        """Replace it, keeping what it says already."""
        before = self.manifest() if (self.path / "manifest.json").exists() else {}
        content = {
            **before,
            "gridaccord": version("gridaccord"),
            "python": platform.python_version(),
            "solver": f"highspy {version('highspy')}",
            "ray": version("ray"),
            "scenario": scenario.name,
            "config_hash": scenario.config_hash,
            "seed": scenario.seed,
            "state": state,
            **more,
        }
        replace_file(self.path / "manifest.json", json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")

    # Going on later.

    def progress(self) -> Progress:
        """Where the run stands; at its beginning where nothing is written."""
        path = self.path / "progress.json"
        return Progress(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Progress()

    def snapshots(self, region: str, count: int) -> tuple[bytes, ...]:
        """Of a region's fleets, of the interval before the next one; empty ones at the beginning."""
        number = self.progress().next_interval
        if number == 0:
            return (b"",) * count
        return tuple(self._snapshot(number, region, shard).read_bytes() for shard in range(count))

    def keep(self, number: int, heights: Mapping[str, int], snapshots: Mapping[str, tuple[bytes, ...]]) -> None:
        """An interval is done. What is written last decides: a crash before leaves the interval to be done again."""
        for region, of_region in snapshots.items():
            for shard, data in enumerate(of_region):
                replace_file(self._snapshot(number + 1, region, shard), data)
        replace_file(self.path / "progress.json", json.dumps(asdict(Progress(number + 1, dict(heights)))).encode())
        for path in (self.path / "fleets").glob(f"{number}-*"):
            path.unlink()

    def _snapshot(self, number: int, region: str, shard: int) -> Path:
        name = hashlib.sha256(region.encode()).hexdigest()[:16]
        return self.path / "fleets" / f"{number}-{name}-{shard}"
