"""From a run's ledgers to its tables: `collect`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.results.events import PHASES, Event, fault_rows, phase_seconds, read_events
from actors.results.hub_record import EndedInterval, HubRecord, read_hub_record
from actors.results.interval_outcome import GridStudy, IntervalOutcome, per_mwh
from actors.results.ledger_blocks import read_blocks, validator_names
from actors.results.region_record import Bill, RegionRecord, read_region_record
from actors.results.run_folder import ChainFile, RunError, RunFolder, open_run
from actors.results.settlement_rows import settlement_rows, tie_rents
from actors.results.tables import FOLDER, TABLES, Row, write_tables
from actors.results.whole_grid import join
from coordinator.ledger.block import decode_payload
from coordinator.ledger.receipt import DONE
from coordinator.market.offers import MICRO
from coordinator.settlement.escrow.netting import WATT_SECONDS_PER_MWH
from coordinator.settlement.interval.schedules import credit
from coordinator.settlement.interval.topics import Interval
from topology.dc import UNLIMITED_W, W_PER_MW

MANIFEST = "manifest.json"
_BINDING_EUR_PER_MWH = 1e-6
_WH_PER_MWH = 10**6
_TYPE = re.compile(r"unit-.*_([A-Za-z]+)_\w+")


def kind_of(resource: str) -> str:
    """What a resource is, as far as its name tells: load, battery, the type in a unit's id, else unit."""
    for kind in ("load", "battery"):
        if resource.startswith(f"{kind}-"):
            return kind
    found = _TYPE.fullmatch(resource)
    return "unit" if found is None else found[1].lower()


@dataclass(frozen=True)
class RunRecord:
    """Everything that was read of a run. `outcomes` are of the intervals that every region has a schedule of."""

    folder: RunFolder
    study: GridStudy
    hub: HubRecord
    regions: tuple[RegionRecord, ...]
    outcomes: dict[Interval, IntervalOutcome]
    events: list[Event]


def read_run(run: Path) -> RunRecord:
    """Read a run's ledgers as they are now, of a run that goes on as well as of one that has ended. Raises RunError."""
    folder = open_run(run)
    study = GridStudy(join(folder.public.interconnection, folder.grids))
    # Regions first: what the hub says of an interval may be newer than they are, never what it does not know.
    regions = tuple(read_region_record(chain) for chain in folder.regions)
    hub = read_hub_record(folder)
    found = ((ended.interval, study.outcome(ended, regions)) for ended in hub.ended)
    outcomes = {interval: outcome for interval, outcome in found if outcome is not None}
    return RunRecord(folder, study, hub, regions, outcomes, read_events(run))


def collect(run: Path) -> dict[str, int]:
    """Write RUN/tables/*.parquet from the run's ledgers; how many rows each table has, which also go to the manifest.

    Raises RunError where there is nothing to read.
    """
    return write_record(read_run(run))


def write_record(record: RunRecord) -> dict[str, int]:
    """Write the tables of what was read."""
    run = record.folder.path
    counts = write_tables(run / FOLDER, TABLES, table_rows(record))
    complete_manifest(run, counts)
    return counts


def complete_manifest(run: Path, counts: dict[str, int]) -> None:
    """Put numbers of rows into manifest.json, under `tables`. Raises RunError where that is no JSON object."""
    path = run / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}); restore it or remove it") from None
    manifest["tables"] = {**manifest.get("tables", {}), **counts}
    partial = path.with_name(f"{MANIFEST}.partial")
    partial.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def table_rows(record: RunRecord) -> dict[str, list[Row]]:
    """The rows of every table, by its name."""
    rows: dict[str, list[Row]] = {
        "blocks": [row for chain in record.folder.chains for row in _block_rows(chain)],
        "rounds": list(_round_rows(record.hub)),
        "offers": [row for region in record.regions for row in _offer_rows(region)],
        "bills": [row for region in record.regions for row in _bill_rows(region)],
        "settlements": list(settlement_rows(record.folder.public, record.hub, record.regions)),
        "faults": list(fault_rows(record.events)),
        "intervals": list(_interval_rows(record)),
    }
    rows |= {name: [] for name in ("prices", "dispatch", "flows", "tie_lines")}
    for ended in record.hub.ended:
        rows["dispatch"] += (row for region in record.regions for row in _dispatch_rows(region, ended.interval))
        outcome = record.outcomes.get(ended.interval)
        if outcome is not None:
            rows["prices"] += _price_rows(record, outcome)
            rows["flows"] += _flow_rows(record, outcome)
            rows["tie_lines"] += _tie_rows(record, ended, outcome)
    return rows


def _start_ms(interval: Interval) -> int:
    return interval.start_s * 1000


def _mw(power_w: float) -> float:
    return power_w / W_PER_MW


# Chains.


def _block_rows(chain: ChainFile) -> Iterator[Row]:
    names = validator_names(chain)
    for found in read_blocks(chain):
        header, certificate = found.header, found.certificate
        count = len(decode_payload(found.block.payload))
        rejected = sum(receipt.code != DONE for receipt in found.receipts)
        yield (
            chain.name,
            header.height,
            None if certificate is None else certificate.view,
            header.epoch,
            header.time_ms,
            count,
            rejected,
            len(found.block.payload),
            None if certificate is None else [names[header.epoch][signer] for signer in certificate.signers],
            header.digest.hex(),
        )


def _round_rows(hub: HubRecord) -> Iterator[Row]:
    for said in hub.messages:
        topic = said.topic
        place = (_start_ms(topic.interval), topic.attempt, topic.round, topic.step.name.lower())
        yield (*place, said.sender, said.size_bytes, said.time_ms, said.height)


# Market.


def _offer_rows(region: RegionRecord) -> Iterator[Row]:
    for interval in sorted(region.offers):
        for name, curve in region.standing(interval).items():
            place = (_start_ms(interval), region.name, name, region.resources[name].bus, kind_of(name))
            yield (*place, 0, _mw(curve.fixed_w), None)
            for number, step in enumerate(curve.steps, 1):
                yield (*place, number, _mw(step.width_w), step.price_micro_per_mwh / MICRO)


def _dispatch_rows(region: RegionRecord, interval: Interval) -> Iterator[Row]:
    found = region.schedules.get(interval)
    if found is None:
        return
    offers = region.offers[interval]
    for row in found.schedule.rows:
        resource, curve = region.resources[row.resource], offers[row.resource]
        powers = (_mw(row.power_w), _mw(curve.lowest_w), _mw(curve.highest_w))
        who = (row.resource, resource.bus, kind_of(row.resource), resource.owner)
        yield (_start_ms(interval), region.name, *who, *powers, per_mwh(row.price), found.is_alone)


def _price_rows(record: RunRecord, outcome: IntervalOutcome) -> Iterator[Row]:
    network, start = record.study.grid.network, _start_ms(outcome.interval)
    for place, bus in enumerate(network.bus_ids):
        region = record.regions[int(record.study.grid.region_of_bus[place])].name
        price, energy = float(outcome.price[place]), float(outcome.energy[place])
        yield (start, region, bus, price, energy, price - energy, 0.0)


def _limit_mw(record: RunRecord, branch: int, flow_w: float) -> float | None:
    network = record.study.grid.network
    limit = int(network.flow_max_w[branch] if flow_w >= 0 else -network.flow_min_w[branch])
    return None if abs(limit) >= UNLIMITED_W else _mw(limit)


def _flow(record: RunRecord, outcome: IntervalOutcome, branch: int) -> Row:
    """From the branch's id to its shadow price, without its region."""
    flow, shadow = float(outcome.flow_w[branch]), float(outcome.shadow_price[branch])
    return (_mw(flow), _limit_mw(record, branch, flow), shadow >= _BINDING_EUR_PER_MWH, shadow)


def _ends(record: RunRecord, branch: int) -> tuple[str, str, str]:
    network = record.study.grid.network
    ends = (network.bus_ids[network.from_bus[branch]], network.bus_ids[network.to_bus[branch]])
    return network.branch_ids[branch], *ends


def _flow_rows(record: RunRecord, outcome: IntervalOutcome) -> Iterator[Row]:
    start, grid = _start_ms(outcome.interval), record.study.grid
    for branch in range(grid.network.branch_count):
        owner = int(grid.region_of_branch[branch])
        region = None if record.study.is_tie(branch) else record.regions[owner].name
        yield (start, *_ends(record, branch), region, *_flow(record, outcome, branch))


def _tie_rows(record: RunRecord, ended: EndedInterval, outcome: IntervalOutcome) -> Iterator[Row]:
    grid, start = record.study.grid, _start_ms(outcome.interval)
    rents = tie_rents(record.folder.public, ended)
    for branch in grid.tie_branches.tolist():
        head, tail = (grid.region_of_bus[ends[branch]] for ends in (grid.network.from_bus, grid.network.to_bus))
        names = (record.regions[int(head)].name, record.regions[int(tail)].name)
        rent = rents.get(grid.network.branch_ids[branch])
        money = (rent, None if rent is None else rent / MICRO)
        yield (start, *_ends(record, branch), *names, *_flow(record, outcome, branch), *money)


# Bills and intervals.


def _bill_rows(region: RegionRecord) -> Iterator[Row]:
    credited: dict[tuple[Interval, str], int] = {}
    for bill in region.bills:
        yield from _rows_of_bill(region, bill, credited)


def _rows_of_bill(region: RegionRecord, bill: Bill, credited: dict[tuple[Interval, str], int]) -> Iterator[Row]:
    interval = bill.interval
    scheduled = {row.resource: row for row in region.schedules[interval].schedule.rows}
    for row in bill.rows:
        plan, key = scheduled[row.resource], (interval, row.resource)
        spread = region.parameters.imbalance_spread
        amount = credit(plan.power_w, plan.price, row.energy_wh, interval.duration_s, spread)
        paid, credited[key] = amount - credited.get(key, 0), amount
        who = (row.resource, kind_of(row.resource), region.resources[row.resource].owner, bill.version)
        energy = (plan.power_w * interval.duration_s / WATT_SECONDS_PER_MWH, row.energy_wh / _WH_PER_MWH)
        money = (per_mwh(plan.price), amount, amount / MICRO, paid)
        yield (
            _start_ms(interval), region.name, *who, *energy, row.substituted, *money, bill.time_ms, bill.height,
        )  # fmt: skip


def _interval_rows(record: RunRecord) -> Iterator[Row]:
    phases, nothing = phase_seconds(record.events), (None,) * len(PHASES)
    for ended in record.hub.ended:
        interval, start = ended.interval, _start_ms(ended.interval)
        said = [message for message in record.hub.messages if message.topic.interval == interval]
        attempts = max(message.topic.attempt for message in said)
        rounds = max(message.topic.round for message in said if message.topic.attempt == attempts)
        counts = (attempts + 1, rounds, sum(message.size_bytes for message in said))
        excluded = [record.hub.parameters.regions[number] for number in ended.excluded]
        agreement = ended.agreement
        money: Row = (None, None)
        if agreement is not None:
            agreed = agreement.agreed
            money = (agreed.objective_micro_per_h / MICRO, agreed.gap_micro_per_h / MICRO)
        yield (
            start,
            interval.duration_s,
            ended.coupled,
            excluded,
            *counts,
            *money,
            *_times(record.regions, ended),
            *phases.get(start, nothing),
        )


def _times(regions: Sequence[RegionRecord], ended: EndedInterval) -> Row:
    interval = ended.interval
    gates = [region.gates[interval] for region in regions if interval in region.gates]
    schedules = [region.schedules[interval].time_ms for region in regions if interval in region.schedules]
    first_bills = [bills[0].time_ms for region in regions if (bills := region.bills_of(interval))]
    whole = len(regions)
    return (
        min(gates, default=None),
        None if ended.agreement is None else ended.agreement.time_ms,
        ended.time_ms,
        max(schedules) if len(schedules) == whole else None,
        max(first_bills) if len(first_bills) == whole else None,
    )
