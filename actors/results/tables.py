"""The tables of a run: their columns with units and meanings, which go into the files and into docs/output.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = "tables"
Cell = str | int | float | bool | list[str] | None
Row = Sequence[Cell]

_TEXT, _WHOLE, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME, _NAMES = pa.timestamp("ms", tz="UTC"), pa.list_(pa.string())


@dataclass(frozen=True, slots=True)
class Column:
    """`unit` is empty for names, counts and flags. Times are given as milliseconds since 1970 and stored as UTC."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """What a row is of, and its columns in their order."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """With units and meanings as metadata."""
        fields = [
            pa.field(column.name, column.type, metadata={"unit": column.unit, "description": column.meaning})
            for column in self.columns
        ]
        return pa.schema(fields, metadata={"description": f"a row for {self.row}", "gridaccord": version("gridaccord")})


_INTERVAL = Column("interval", _TIME, "UTC", "start of the market interval")
_REGION = Column("region", _TEXT, "", "name of the region")
_RESOURCE = Column("resource", _TEXT, "", "unit, load or battery as registered on the region's chain")
_KIND = Column("kind", _TEXT, "", "load, battery, or the type in a unit's id (ct, nuclear, wind, ...; unit where none)")
_BUS = Column("bus", _TEXT, "", "bus of the grid")
_OWNER = Column("owner", _TEXT, "", "who is paid and pays for the resource")
_BRANCH = (
    Column("branch", _TEXT, "", "id of the branch"),
    Column("from_bus", _TEXT, "", "where positive flow starts"),
    Column("to_bus", _TEXT, "", "where positive flow ends"),
)
_FLOW = (
    Column("flow_mw", _REAL, "MW", "DC power flow of all schedules, positive from from_bus"),
    Column("limit_mw", _REAL, "MW", "limit in the direction of the flow; null where there is none"),
    Column("binding", _FLAG, "", "whether one more MW of limit would save something"),
    Column("shadow_price_eur_per_mwh", _REAL, "EUR/MWh", "what one more MW of limit would save, never negative"),
)
_LMP = Column("lmp_eur_per_mwh", _REAL, "EUR/MWh", "locational marginal price at the bus; positive: consumers pay")
_MICRO = "micro-units"

PRICES = Table(
    "prices",
    "interval and bus",
    (
        _INTERVAL,
        _REGION,
        _BUS,
        _LMP,
        Column("energy_eur_per_mwh", _REAL, "EUR/MWh", "price at the first bus of the bus's AC component"),
        Column("congestion_eur_per_mwh", _REAL, "EUR/MWh", "what binding limits between there and here add"),
        Column("loss_eur_per_mwh", _REAL, "EUR/MWh", "zero: the model is lossless"),
    ),
)
OFFERS = Table(
    "offers",
    "interval, resource and step of its offer",
    (
        _INTERVAL,
        _REGION,
        _RESOURCE,
        _BUS,
        _KIND,
        Column("step", _WHOLE, "", "0 is the fixed injection (negative: withdrawal), then steps of rising price"),
        Column("power_mw", _REAL, "MW", "fixed injection, or width of the step"),
        Column("price_eur_per_mwh", _REAL, "EUR/MWh", "of the step; null for the fixed injection"),
    ),
)
DISPATCH = Table(
    "dispatch",
    "interval and scheduled resource",
    (
        _INTERVAL,
        _REGION,
        _RESOURCE,
        _BUS,
        _KIND,
        _OWNER,
        Column("power_mw", _REAL, "MW", "scheduled injection; negative: withdrawal"),
        Column("lowest_mw", _REAL, "MW", "least injection that was offered, with a fixed one curtailed"),
        Column("highest_mw", _REAL, "MW", "most injection that was offered"),
        _LMP,
        Column("alone", _FLAG, "", "whether the region cleared by itself"),
    ),
)
FLOWS = Table(
    "flows",
    "interval and branch",
    (_INTERVAL, *_BRANCH, Column("region", _TEXT, "", "whose branch it is; null for a tie-line"), *_FLOW),
)
TIE_LINES = Table(
    "tie_lines",
    "interval and tie-line",
    (
        _INTERVAL,
        *_BRANCH,
        Column("from_region", _TEXT, "", "region of from_bus"),
        Column("to_region", _TEXT, "", "region of to_bus"),
        *_FLOW,
        Column(
            "rent_micro",
            _WHOLE,
            _MICRO,
            "congestion rent of the interval; null where it was not coupled, or out of service",
        ),
        Column("rent_eur", _REAL, "EUR", "the same"),
    ),
)
SETTLEMENTS = Table(
    "settlements",
    "interval and reason for which somebody receives or pays",
    (
        _INTERVAL,
        Column("reason", _TEXT, "", "energy, loop_flow, interface_share, links, rounding, exchange, a leg, or bills"),
        Column("party", _TEXT, "", "who receives (pays where negative): a region, or an owner"),
        Column("region", _TEXT, "", "on whose chain the money moves; hub for the hub's own accounts"),
        Column(
            "counterparty", _TEXT, "", "interconnection: all regions together; netting; neutral: the region's account"
        ),
        Column("amount_micro", _WHOLE, _MICRO, "received by the party; negative is paid"),
        Column("amount_eur", _REAL, "EUR", "the same"),
        Column("settlement", _TEXT, "", "hub height/index of the netting; null for other reasons"),
        Column("outcome", _TEXT, "", "commit, abort or open for a netting leg; null for other reasons"),
    ),
)
BILLS = Table(
    "bills",
    "interval, resource and version of its bill",
    (
        _INTERVAL,
        _REGION,
        _RESOURCE,
        _KIND,
        _OWNER,
        Column("version", _WHOLE, "", "1, then one more for each correction"),
        Column("scheduled_mwh", _REAL, "MWh", "scheduled injection; negative: withdrawal"),
        Column("metered_mwh", _REAL, "MWh", "metered injection; negative: withdrawal"),
        Column("substituted", _FLAG, "", "whether the schedule stands in for a reading that did not come"),
        _LMP,
        Column("credit_micro", _WHOLE, _MICRO, "what the resource receives for the interval by this version"),
        Column("credit_eur", _REAL, "EUR", "the same"),
        Column("paid_micro", _WHOLE, _MICRO, "difference to the version before, which this one moves"),
        Column("billed_at", _TIME, "UTC", "time of the block"),
        Column("height", _WHOLE, "", "of the block on the region's chain"),
    ),
)
BLOCKS = Table(
    "blocks",
    "final block after genesis",
    (
        Column("chain", _TEXT, "", "name of the chain"),
        Column("height", _WHOLE, "", "of the block"),
        Column("view", _WHOLE, "", "in which it was finalized; null where a later block finalized it"),
        Column("epoch", _WHOLE, "", "of the block"),
        Column("time", _TIME, "UTC", "of the block's header"),
        Column("transactions", _WHOLE, "", "in the block"),
        Column("rejected", _WHOLE, "", "of these, not carried out"),
        Column("payload_bytes", _WHOLE, "bytes", "of its transactions"),
        Column("signers", _NAMES, "", "validators in the certificate; null where a later block finalized it"),
        Column("digest", _TEXT, "", "of the header, hexadecimal"),
    ),
)
ROUNDS = Table(
    "rounds",
    "message about an interval on the hub's chain",
    (
        _INTERVAL,
        Column("attempt", _WHOLE, "", "from 0; a later one goes on without a region or begins anew"),
        Column("round", _WHOLE, "", "of the attempt; 0 before the first"),
        Column("step", _TEXT, "", "commit, submit, result, inject, state, vote, decision, schedule, ties, ..."),
        Column("sender", _TEXT, "", "a region, or hub"),
        Column("size_bytes", _WHOLE, "bytes", "of the message, without its proof"),
        Column("time", _TIME, "UTC", "of the hub's block"),
        Column("height", _WHOLE, "", "of the hub's block"),
    ),
)
FAULTS = Table(
    "faults",
    "event of the run about faults and recovery",
    (
        Column("time", _TIME, "UTC", "when it happened"),
        Column("elapsed_s", _REAL, "s", "since the run started"),
        Column("kind", _TEXT, "", "fault, recovered, refused_readings, refused_dispatch or bills_open"),
        Column("fault", _TEXT, "", "name of the fault; null where it has none"),
        Column("interval", _TIME, "UTC", "in which it happened; null where the event names none"),
        Column("target", _TEXT, "", "what it is about: organization, region, device or resource"),
        Column("detail", _TEXT, "", "everything else that was said, as JSON"),
    ),
)
INTERVALS = Table(
    "intervals",
    "interval that the hub has ended",
    (
        _INTERVAL,
        Column("duration_s", _WHOLE, "s", "length"),
        Column("coupled", _FLAG, "", "whether regions were cleared together"),
        Column("excluded", _NAMES, "", "regions that it went on without; they cleared by themselves"),
        Column("attempts", _WHOLE, "", "begun"),
        Column("rounds", _WHOLE, "", "of the last attempt"),
        Column("message_bytes", _WHOLE, "bytes", "of all messages on the hub's chain"),
        Column("objective_eur_per_h", _REAL, "EUR/h", "cost of what was agreed; null where nothing was coupled"),
        Column("gap_eur_per_h", _REAL, "EUR/h", "how far that can be from the optimum at most, as certified"),
        Column("gate_closed_at", _TIME, "UTC", "first region's gate"),
        Column("agreed_at", _TIME, "UTC", "the hub's decision; null where nothing was coupled"),
        Column("ended_at", _TIME, "UTC", "on the hub"),
        Column("scheduled_at", _TIME, "UTC", "last region's schedule; null while one is missing"),
        Column("billed_at", _TIME, "UTC", "last region's first bill; null while one is missing"),
        Column("offers_s", _REAL, "s", "for offers, in the slowest region; of the run's events, null without them"),
        Column("coupling_s", _REAL, "s", "likewise, until schedules were set"),
        Column("dispatch_s", _REAL, "s", "likewise, until devices were instructed and had worked"),
        Column("readings_s", _REAL, "s", "likewise, until readings were on the chain"),
    ),
)
CHAINS = Table(
    "chains",
    "chain of the home that was read",
    (
        Column("chain", _TEXT, "", "name of the chain"),
        Column("role", _TEXT, "", "hub or region"),
        Column("chain_id", _TEXT, "", "SHA-256 of its genesis document, hexadecimal"),
        Column("organization", _TEXT, "", "whose ledger was read"),
        Column("height", _WHOLE, "", "of its last block"),
        Column("tip", _TEXT, "", "digest of the last block's header, hexadecimal"),
        Column("valid", _FLAG, "", "whether the audit from genesis passed"),
        Column("finding", _TEXT, "", "the first thing that is wrong; null where nothing is"),
        Column("blocks", _WHOLE, "", "verified by the audit"),
        Column("transactions", _WHOLE, "", "verified by the audit"),
        Column("certificates", _WHOLE, "", "verified by the audit"),
        Column("readings", _WHOLE, "", "verified by the audit, with their devices' signatures"),
        Column("agreeing", _NAMES, "", "organizations whose ledgers agree at the height all of them have"),
        Column("common_height", _WHOLE, "", "that height"),
    ),
)
CHECKS = Table(
    "checks",
    "check of the independent verification",
    (
        Column("check", _TEXT, "", "name of the check; see docs/output.md"),
        Column("checked", _WHOLE, "", "how many things were checked"),
        Column("failures", _WHOLE, "", "how many of them do not hold"),
        Column("worst", _REAL, "as unit says", "the largest deviation that was seen"),
        Column("tolerance", _REAL, "as unit says", "the largest that is accepted"),
        Column("unit", _TEXT, "", "of worst and tolerance"),
    ),
)
FAILURES = Table(
    "failures",
    "thing that does not hold",
    (
        Column("check", _TEXT, "", "name of the check"),
        _INTERVAL,
        _REGION,
        Column("element", _TEXT, "", "resource, branch, bus, chain or organization"),
        Column("problem", _TEXT, "", "what is wrong"),
    ),
)
TABLES = (INTERVALS, PRICES, OFFERS, DISPATCH, FLOWS, TIE_LINES, SETTLEMENTS, BILLS, BLOCKS, ROUNDS, FAULTS)
"""Of a run's ledgers and events."""
PROOFS = (CHAINS, CHECKS, FAILURES)
"""Of their verification."""


def write_tables(folder: Path, tables: Sequence[Table], rows: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    """Write these tables, also those without rows; how many rows each has. Earlier files are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        partial = folder / f"{table.name}.parquet.partial"
        pq.write_table(_data(table, rows.get(table.name, ())), partial, compression="zstd")
        partial.replace(folder / f"{table.name}.parquet")
    return {table.name: len(rows.get(table.name, ())) for table in tables}


def _data(table: Table, rows: Sequence[Row]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in table.columns)
    pairs = zip(columns, table.columns, strict=True)
    arrays = [pa.array(list(values), type=column.type) for values, column in pairs]
    return pa.Table.from_arrays(arrays, schema=table.schema)


def read_tables(folder: Path) -> dict[str, pa.Table]:
    """Every table of a run by its name. Raises OSError where one is missing."""
    return {table.name: pq.read_table(folder / f"{table.name}.parquet") for table in (*TABLES, *PROOFS)}
