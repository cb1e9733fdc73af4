"""What an interval of a whole run on Ray takes, and where the time goes, as devices and regions grow.

    python -m benchmarks.run [--quick] [--devices 1000,10000,100000] [--regions 3,10,30] [--intervals 4]
                             [--pypsa PYTHON] [--json FILE | --resume FILE]

The first intervals of the RTS-GMLC day through the real runner: four organizations, validators of every region and the
hub on Ray, fleets that sign, gateways that deliver. Devices grow with the first number of regions, regions with the
first number of devices, which is that of all regions together. Each run is a process of its own. With --pypsa
the day's hours are solved by PyPSA too, by the Python of an environment that has it (`benchmarks/pypsa`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from actors.cluster.connection import what_ray_says_is_progress
from benchmarks import pypsa_peer
from benchmarks.cases import (
    Column,
    Criterion,
    JsonOption,
    ResumeOption,
    Row,
    RowFile,
    conclude,
    print_table,
    progress,
)
from benchmarks.measured_run import CASE, KIND, Config, measured

GROWTH_LIMIT = 1.2
VALIDATORS = 4
_ROOT = Path(__file__).resolve().parent.parent
_QUICK_HOURS, _HOURS = 6, 48
_TIMEOUT_S = 3_600
_ERROR_CHARACTERS = 600

QuickOption = Annotated[bool, typer.Option("--quick", help="1,000 devices, 3 regions, 2 intervals; PyPSA: 6 hours.")]
PypsaOption = Annotated[Path | None, typer.Option("--pypsa", metavar="PYTHON", help="A Python that has PyPSA.")]


def configurations(devices: Sequence[int], regions: Sequence[int], intervals: int) -> list[Config]:
    """Devices grow with the first number of regions, then regions with the first number of devices."""
    grown = [Config(number, regions[0], intervals) for number in devices]
    return grown + [Config(devices[0], number, intervals) for number in regions[1:]]


def in_process(config: Config) -> Row:
    """Run a configuration in a process of its own: its row, or a row with the error."""
    arguments = ["--one", f"{config.devices},{config.regions},{config.intervals}"]
    command = [sys.executable, "-m", "benchmarks.run", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return _failed(config, f"not within {_TIMEOUT_S} s")
    if done.returncode:
        return _failed(config, done.stderr.strip()[-_ERROR_CHARACTERS:])
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def _failed(config: Config, error: str) -> Row:
    return {"kind": KIND, "name": config.name, **asdict(config), "error": error or "it said nothing"}


def derived(row: Row) -> Row:
    """With what follows from a row's measurements. Inferred: the time that signatures take, from one alone."""
    if row.get("error"):
        return row
    number = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
    readings, cpu_s = number["readings"], number["cpu_s"]
    return row | {
        "device_us": number["interval_s"] / number["devices"] * 1e6,
        "device_cpu_us": cpu_s / number["devices"] * 1e6,
        "sign_s": readings * number["part_sign_us"] / 1e6,
        "signatures_s": VALIDATORS * readings * number["part_verify_us"] / 1e6,
        "readings_per_core_s": readings / cpu_s,
        "cpu_ray_all": number["cpu_ray"] + number["cpu_runner"],
    }


WALL = (
    Column("devices", "devices", ",.0f"),
    Column("regions", "region_count"),
    Column("s/interval", "interval_s", ".2f"),
    Column("offers", "offers_s", ".2f"),
    Column("coupling", "coupling_s", ".2f"),
    Column("dispatch, sign", "dispatch_s", ".2f"),
    Column("readings", "readings_s", ".2f"),
    Column("bills*", "bills_s", ".2f"),
    Column("us/device", "device_us", ",.0f"),
    Column("alone", "alone"),
    Column("founding", "found_s", ",.1f"),
    Column("start", "start_s", ",.1f"),
    Column("error", "error"),
)
CPU = (
    Column("devices", "devices", ",.0f"),
    Column("regions", "region_count"),
    Column("total", "cpu_s", ".2f"),
    Column("fleets", "cpu_fleet", ".2f"),
    Column("(sign)", "sign_s", ".2f"),
    Column("gateways", "cpu_gateway", ".2f"),
    Column("verify", "cpu_verify", ".2f"),
    Column("(signatures)", "signatures_s", ".2f"),
    Column("coupling, bills", "cpu_intervals", ".2f"),
    Column("(bills, all threads)", "bills_cpu_s", ".2f"),
    Column("consensus", "cpu_consensus", ".2f"),
    Column("ledger", "cpu_ledger", ".2f"),
    Column("gRPC", "cpu_native", ".2f"),
    Column("Ray, runner", "cpu_ray_all", ".2f"),
    Column("us/device", "device_cpu_us", ",.0f"),
)
PARTS = (
    Column("devices", "devices", ",.0f"),
    Column("regions", "region_count"),
    Column("readings/core-s", "readings_per_core_s", ",.0f"),
    Column("raw Ed25519/core-s", "part_raw_per_s", ",.0f"),
    Column("sign us", "part_sign_us", ".0f"),
    Column("check us", "part_verify_us", ".0f"),
    Column("decode, root us", "part_take_in_us", ".0f"),
    Column("coupling in memory ms", "part_coupling_ms", ",.1f"),
    Column("Ray call us", "part_call_us", ",.0f"),
    Column("batch by Ray ms", "part_batch_ms", ",.1f"),
    Column("batch MB", "part_batch_bytes", ".2f", 1e-6),
    Column("peak MB validators", "peak_validators_mb", ",.0f"),
    Column("fleet", "peak_fleet_mb", ",.0f"),
    Column("gateway", "peak_gateway_mb", ",.0f"),
    Column("runner", "peak_runner_mb", ",.0f"),
)
PYPSA = (
    Column("hours", "hours"),
    Column("worst difference", "worst", ".1e"),
    Column("PyPSA: network s", "make_s", ".2f"),
    Column("optimize s", "optimize_s", ".2f"),
    Column("central B-theta s", "central_s", ".2f"),
    Column("coupled in memory s", "coupled_s", ".2f"),
    Column("with", "versions"),
    Column("error", "error"),
)


def verdicts(rows: Sequence[Row]) -> Iterator[Criterion]:
    """What the rows prove. `rows` are derived."""
    for row in rows:
        name = str(row["name"])
        if row.get("error"):
            yield Criterion(name, False, str(row["error"]).splitlines()[-1])
        elif row["kind"] == pypsa_peer.KIND:
            yield pypsa_peer.verdict(row)
        else:
            whole = row["alone"] == 0 and row["readings"] == row["devices"]
            yield Criterion(name, whole, f"{row['readings']:,} readings an interval, {row['alone']} cleared alone")
    yield from _growth([row for row in rows if row["kind"] == KIND and not row.get("error")])


def _growth(rows: Sequence[Row]) -> Iterator[Criterion]:
    """The two largest numbers of devices in as many regions. Wall time of a shared machine is only aimed at."""
    times = Counter(row["regions"] for row in rows)
    grown = max(times, key=lambda regions: times[regions], default=0)
    found = sorted((row for row in rows if row["regions"] == grown), key=lambda row: float(str(row["devices"])))
    if len(found) < 2:
        return
    small, large = found[-2:]
    for field, name, aim in (("device_cpu_us", "CPU", False), ("device_us", "wall", True)):
        before, after = float(str(small[field])), float(str(large[field]))
        detail = f"{before:,.0f} us with {small['devices']:,}, {after:,.0f} us with {large['devices']:,} devices"
        passed = after <= GROWTH_LIMIT * before
        yield Criterion(f"{name} seconds a device grow at most by 20 %", passed, detail, aim)


def compare_pypsa(python: Path | None, hours: int, log: RowFile) -> None:
    """Add the row of PyPSA, unless the log has it or there is no PyPSA."""
    name = f"{hours} hours"
    if log.has(pypsa_peer.KIND, name):
        return
    if python is None:
        progress("PyPSA: skipped; give --pypsa the Python of an environment by benchmarks/pypsa/requirements.txt")
        return
    try:
        row = {"name": name, **asdict(pypsa_peer.compare(python, CASE, "area", hours)), "error": None}
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        row = {"kind": pypsa_peer.KIND, "name": name, "hours": hours, "error": str(error)[-_ERROR_CHARACTERS:]}
    log.add(row)


def show(rows: Sequence[Row]) -> None:
    """All tables."""
    runs = [row for row in rows if row["kind"] == KIND]
    print_table("Wall seconds of an interval (median), by phase of the slowest region; *: of the last one", WALL, runs)
    print_table("CPU seconds of an interval (median); in brackets a part of it, signatures inferred", CPU, runs)
    print_table("Rates, parts alone in the same process, memory of the largest process of a kind", PARTS, runs)
    peers = [row for row in rows if row["kind"] == pypsa_peer.KIND]
    if peers:
        print_table("The same hours by PyPSA, wall seconds of all of them", PYPSA, peers)


def main(
    quick: QuickOption = False,
    devices: Annotated[str, typer.Option(help="In all regions together.")] = "1000,10000,100000",
    regions: Annotated[str, typer.Option(help="By automatic cut.")] = "3,10,30",
    intervals: Annotated[int, typer.Option(min=1, max=48)] = 4,
    pypsa: PypsaOption = None,
    json_file: JsonOption = None,
    resume: ResumeOption = None,
    one: Annotated[str, typer.Option("--one", hidden=True)] = "",
) -> None:
    """Measure whole runs, and where their seconds go."""
    if one:
        with tempfile.TemporaryDirectory(dir=os.environ.get("GRIDACCORD_BENCH_DIR")) as folder:
            with what_ray_says_is_progress():
                row = measured(Config(*_numbers(one)), Path(folder) / "run")
            print(json.dumps(row))
        return
    chosen = [Config(1_000, 3, 2)] if quick else configurations(_numbers(devices), _numbers(regions), intervals)
    log = RowFile(("kind", "name"), json_file, resume)
    for config in chosen:
        if not log.has(KIND, config.name):
            progress(f"{config.name}: running")
            log.add(in_process(config))
    compare_pypsa(pypsa, _QUICK_HOURS if quick else _HOURS, log)
    rows = [derived(row) if row["kind"] == KIND else row for row in log.rows]
    show(rows)
    conclude(list(verdicts(rows)))


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text}: give whole numbers with commas between") from None


if __name__ == "__main__":
    typer.run(main)
