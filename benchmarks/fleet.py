"""How many devices does a fleet operate a second, and what would bare signing allow?

    python -m benchmarks.fleet [--quick] [--json FILE]

Households behind twenty buses and a battery, as shards of at most as many devices as a batch of readings has columns,
all in one process. Operating is all of it: physics, registers, and one signed column a device and interval. Bare
Ed25519 signing of as many messages of that length with the same keys runs after every interval, because absolute
figures of shared machines drift. Seconds are processor seconds, medians over the intervals; memory is what the
peak of the process grows by.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from actors.fleet.devices import signer_of
from actors.fleet.fleet import Fleet
from actors.fleet.plan import FleetPlan, PlannedBattery, PlannedResource, shards
from benchmarks.cases import Column, Criterion, JsonOption, Row, RowFile, conclude, print_table, progress
from coordinator.consensus.signing import Ed25519Signer
from coordinator.ledger.genesis import Genesis
from coordinator.ledger.readings import BATCH_COLUMNS_MAX
from coordinator.settlement.interval.schedules import Curve
from coordinator.settlement.interval.topics import Interval

QuickOption = Annotated[bool, typer.Option("--quick", help="Without 100,000 devices: under a minute.")]
_INTERVALS = 6
_BUSES = 20
_MESSAGE = bytes(52 + 44 + 16)
"""Envelope's head, and a column of one reading under a device's name of 24 letters."""
_SHARE_LEAST = 0.6
_GROWTH_LIMIT = 1.2


@dataclass(frozen=True)
class FleetRow:
    """One size. `make_s` and `operate_s` are processor seconds, of which `signing` is the share of bare signing."""

    devices: int
    make_s: float
    operate_s: float
    devices_per_s: float
    signatures_per_s: float
    signing: float
    kb_per_device: float


def plan_of(devices: int) -> FleetPlan:
    """So many devices, two of them a battery's."""
    intervals = tuple(Interval(3600 * (number + 1), 3600) for number in range(_INTERVALS))
    households = [(devices - 2) // _BUSES + (bus < (devices - 2) % _BUSES) for bus in range(_BUSES)]
    loads = tuple(
        PlannedResource(f"load-{bus:03}", (Curve(-100_000_000, ()),) * _INTERVALS, False, count)
        for bus, count in enumerate(households)
    )
    battery = PlannedBattery("battery", 10**8, 10**8, 4 * 10**8, 10**8)
    return FleetPlan("1", "alpha", 1, intervals, loads, (battery,), (30 * 10**6,) * _INTERVALS)


def measure(devices: int) -> FleetRow:
    """Make a fleet and take it through its intervals."""
    plan, genesis, before_kb = plan_of(devices), Genesis(b"{}", {}), peak_kb()
    parts = shards(plan, -(-devices // BATCH_COLUMNS_MAX))
    fleets: list[Fleet] = []
    make_s = processor_s(lambda: fleets.extend(Fleet.make(part, genesis) for part in parts))
    operate_s = [processor_s(lambda at=at: operate(fleets, at)) for at in plan.intervals[:2]]
    grown_kb = peak_kb() - before_kb
    keys = [signer_of(plan, f"{load.name}.withdrawn.{n:05}") for load in plan.resources for n in range(load.withdrawn)]
    signing_s = []
    for interval in plan.intervals[2:]:
        operate_s.append(processor_s(lambda at=interval: operate(fleets, at)))
        signing_s.append(processor_s(lambda: sign(keys)) * devices / len(keys))
    operate_median, signing_median = statistics.median(operate_s[2:]), statistics.median(signing_s)
    return FleetRow(
        devices,
        make_s,
        operate_median,
        devices / operate_median,
        devices / signing_median,
        signing_median / operate_median,
        grown_kb / devices,
    )


def operate(fleets: Sequence[Fleet], interval: Interval) -> None:
    """One interval of all devices."""
    for fleet in fleets:
        fleet.offers(interval)
        fleet.operate(interval)


def sign(keys: Sequence[Ed25519Signer]) -> None:
    """Bare signing, once with each key."""
    for key in keys:
        key.sign(_MESSAGE)


def processor_s(call: Callable[[], None]) -> float:
    """Processor seconds of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def peak_kb() -> float:
    """The resident set of this process at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform == "darwin" else 1)


def main(quick: QuickOption = False, json_file: JsonOption = None) -> None:
    """Measure fleets beside bare signing."""
    log = RowFile(("devices",), json_file, None)
    for devices in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
        row = measure(devices)
        progress(f"{devices:,} devices: {row.devices_per_s:,.0f} a second")
        log.add(asdict(row))
    columns = (
        Column("devices", "devices", ",.0f"),
        Column("make s", "make_s", ".2f"),
        Column("operate s", "operate_s", ".2f"),
        Column("devices/s", "devices_per_s", ",.0f"),
        Column("signatures/s", "signatures_per_s", ",.0f"),
        Column("signing", "signing", ".0%"),
        Column("kB/device", "kb_per_device", ".1f"),
    )
    print_table("Fleet: one process, one core, an interval", columns, log.rows)
    conclude(_criteria(log.rows))


def _criteria(rows: Sequence[Row]) -> list[Criterion]:
    share = float(str(rows[-1]["signing"]))
    rates = [float(str(row["devices_per_s"])) for row in rows]
    growth = max(rates) / min(rates)
    return [
        Criterion("signing dominates", share >= _SHARE_LEAST, f"{share:.0%} of operating; at least {_SHARE_LEAST:.0%}"),
        Criterion("time a device is flat", growth <= _GROWTH_LIMIT, f"x {growth:.2f}; limit x {_GROWTH_LIMIT}"),
    ]


if __name__ == "__main__":
    typer.run(main)
