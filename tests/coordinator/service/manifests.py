"""End-to-end tests with real processes, each drawn from a seed.

    python -m tests.coordinator.service.manifests --seeds 24 --resume FILE.jsonl

With `--intervals` the same seeds couple their regions as well; use another file. One JSON line a seed; seeds in the
file are not run again. Exit code 1 where any of them failed. The folders of seeds
that failed stay below `--keep`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.coordinator.service.consortium_harness import HUB, LIMIT, ORGANIZATIONS, Consortium
from tests.coordinator.service.gated_network import GatedNetwork, redirected
from tests.coordinator.service.manifest_checks import check_all
from tests.coordinator.service.manifest_plan import PHASES, Manifest, generate
from tests.coordinator.service.manifest_run import STEPPER, Done, Run
from tests.coordinator.service.small_market import write_grid
from tests.coordinator.service.statements import ends

_WINDOWS = {"window_min": 4, "window_max": 1_000, "netting_window": 1_000}
"""Hub blocks a payment has to be agreed to: more than pass while a process is faulty, so that none is in vain."""
_INTERVALS = {"stepper": STEPPER, "collateral": LIMIT // 10, "step_blocks": 200, "absent_blocks": 50}
_DELAY_MS = 100


@dataclass(frozen=True, slots=True)
class Result:
    """Of one seed. `error` is empty where everything held."""

    seed: int
    phases: int
    seconds: float
    faults: list[str]
    phases_s: list[float] = field(default_factory=list)
    operations: dict[str, int] = field(default_factory=dict)
    settlements: int = 0
    coupled: str = ""
    heights: dict[str, int] = field(default_factory=dict)
    error: str = ""


def run(manifest: Manifest, folder: Path) -> Result:
    """Carry a manifest out and check what it leaves. Raises AssertionError with the manifest in full."""
    started = time.monotonic()
    try:
        consortium, done = carry_out(manifest, folder)
        heights = check_all(manifest, consortium, done)
    except Exception as error:
        found = "\n".join(traceback.format_exception(error))
        raise AssertionError(f"{manifest}\n{found}") from None
    return Result(
        manifest.seed,
        len(manifest.phases),
        round(time.monotonic() - started, 1),
        _faults(manifest),
        done.phases_s,
        dict(done.counts),
        len(done.settlements),
        _coupled(consortium) if manifest.has_intervals else "",
        heights,
    )


def carry_out(manifest: Manifest, folder: Path) -> tuple[Consortium, Done]:
    """A consortium below a folder that has been through a manifest and does not run any more."""
    parameters = {"late_limit_s": str(10**9)} if manifest.has_intervals else {}
    consortium = Consortium(
        folder,
        epoch_length=manifest.epoch_length,
        pace={"delay_ms": _DELAY_MS, "heartbeat_ms": manifest.heartbeat_ms},
        hub_pace={"delay_ms": _DELAY_MS, "heartbeat_ms": manifest.hub_heartbeat_ms},
        windows=_WINDOWS,
        intervals={**write_grid(folder), **_INTERVALS} if manifest.has_intervals else None,
        parameters=parameters,
    )
    with GatedNetwork(redirected(consortium)) as network, consortium:
        return consortium, asyncio.run(Run(manifest, consortium, network).carry_out())


def _coupled(consortium: Consortium) -> str:
    """How many intervals ended coupled, of how many."""
    ended = ends(consortium.ledger(ORGANIZATIONS[0], HUB))
    return f"{sum(coupled for _, coupled in ended)} of {len(ended)}"


def _faults(manifest: Manifest) -> list[str]:
    faults = [phase.fault for phase in manifest.phases]
    return [f"{fault.kind.name} {fault.mode}".strip() + f" {'+'.join(fault.nodes)}" for fault in faults]


def _attempt(seed: int, phases: int, intervals: bool, keep: Path | None) -> Result:
    manifest, started = generate(seed, phases, intervals=intervals), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"manifest-{seed}-"))
    try:
        return run(manifest, folder)
    except AssertionError as error:
        if keep is not None:
            shutil.copytree(folder, keep / f"seed-{seed}")
        seconds = round(time.monotonic() - started, 1)
        return Result(seed, phases, seconds, _faults(manifest), error=str(error))
    finally:
        shutil.rmtree(folder)


def _earlier(path: Path | None) -> dict[int, str]:
    """Errors by seed of what a file holds; a line that was cut short is dropped from it."""
    if path is None or not path.exists():
        return {}
    whole, errors = "", {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            document = json.loads(line)
            errors[int(document["seed"])] = str(document["error"])
            whole += line
    path.write_text(whole, encoding="utf-8")
    return errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds that the file does not have."""
    parser = argparse.ArgumentParser(description="End-to-end tests with real processes, each drawn from a seed.")
    parser.add_argument("--seeds", type=int, default=24, help="how many")
    parser.add_argument("--start-seed", type=int, default=0, help="from where")
    parser.add_argument("--phases", type=int, default=PHASES, help="faults a seed")
    parser.add_argument("--intervals", action="store_true", help="couple the regions in every phase, too")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="JSON lines, one a seed")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the folders of seeds that failed go")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # Which ends the nodes too.
    errors = _earlier(options.resume)
    wanted = range(options.start_seed, options.start_seed + options.seeds)
    for seed in (seed for seed in wanted if seed not in errors):
        result = _attempt(seed, options.phases, options.intervals, options.keep)
        errors[seed] = result.error
        line = json.dumps(asdict(result))
        print(line, flush=True)
        if result.error:
            print(result.error, file=sys.stderr, flush=True)
        if options.resume is not None:
            with options.resume.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    failed = [seed for seed in wanted if errors[seed]]
    print(f"{len(wanted) - len(failed)} of {len(wanted)} seeds passed; failed: {failed or 'none'}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
