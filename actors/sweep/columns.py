"""The table of a sweep: its columns with units and meanings, which go into the file and into docs/cluster.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import pyarrow as pa
from pydantic import JsonValue

from actors.results.tables import Column
from actors.sweep.market_day import MarketDay

Row = Mapping[str, JsonValue]
_TEXT, _WHOLE, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_MONEY, _ENERGY, _PRICE = "money", "MWh", "money/MWh"
LMP_PREFIX = "lmp_mean_"
_POWERS = ("demand_mw", "curtailed_mw", "flexed_mw", "shed_mw", "charged_mw", "discharged_mw")

COMBINATION = Column("combination", _WHOLE, "", "number in the sweep, from 0; after it a column for each parameter")
SEED = Column("seed", _WHOLE, "", "of the scenario")
FIGURES = (
    Column("intervals_run", _WHOLE, "", "how many were gone through"),
    Column(
        "objective", _REAL, _MONEY, "cost of all intervals, by what was offered; unserved at the value of lost load"
    ),
    Column("central_objective", _REAL, _MONEY, "the same by one program that knows everything, from the same offers"),
    Column("worst_gap", _REAL, "", "largest distance of an interval's objective from the central one, relative to it"),
    Column("demand_mwh", _REAL, _ENERGY, "of loads, before anything is given up or shed"),
    Column("curtailed_mwh", _REAL, _ENERGY, "offered at a price of zero or less, or for any price, and not taken"),
    Column("flexed_mwh", _REAL, _ENERGY, "demand given up at its price"),
    Column("shed_mwh", _REAL, _ENERGY, "demand that was not served"),
    Column("charged_mwh", _REAL, _ENERGY, "withdrawn by batteries"),
    Column("discharged_mwh", _REAL, _ENERGY, "injected by batteries"),
    Column("stored_mwh", _REAL, _ENERGY, "in all batteries at the end"),
    Column("rounds", _WHOLE, "", "of all couplings together; 0 without coupling"),
    Column("rounds_most", _WHOLE, "", "of the coupling with the most"),
    Column("bytes_sent", _WHOLE, "bytes", "between regions, in rounds"),
    Column("disclosed_share", _REAL, "", "published steps by all steps offered, mean over intervals"),
    Column("lmp_mean", _REAL, _PRICE, "mean over regions and intervals"),
    Column("seconds", _REAL, "s", "wall time of the task, central programs included"),
)
ERROR = Column("error", _TEXT, "", "why there are no figures; null where there are")
LMP = Column(f"{LMP_PREFIX}<region>", _REAL, _PRICE, "plain mean of LMPs over the region's buses and intervals")


def row_of(day: MarketDay) -> dict[str, JsonValue]:
    """The figures of a day, by column."""
    all_of = day.intervals
    energy = {f"{name}h": sum(getattr(one, name) * one.hours for one in all_of) for name in _POWERS}
    prices = {LMP_PREFIX + region: _mean([one.prices[region] for one in all_of]) for region in all_of[0].prices}
    return {
        "intervals_run": len(all_of),
        "objective": sum(one.objective * one.hours for one in all_of),
        "central_objective": sum(one.central * one.hours for one in all_of),
        "worst_gap": max(one.gap for one in all_of),
        **energy,
        "stored_mwh": day.stored_mwh,
        "rounds": sum(one.rounds for one in all_of),
        "rounds_most": max(one.rounds for one in all_of),
        "bytes_sent": sum(one.bytes_sent for one in all_of),
        "disclosed_share": _mean([one.disclosed_share for one in all_of]),
        "lmp_mean": _mean(list(prices.values())),
        "seconds": day.seconds,
        **prices,
    }


def table_of(name: str, keys: Sequence[str], rows: Sequence[Row]) -> pa.Table:
    """Rows in the order of combinations; what a row does not say is null."""
    parameters = [_parameter(key, [row[key] for row in rows]) for key in keys]
    regions = dict.fromkeys(key for row in rows for key in row if key.startswith(LMP_PREFIX))
    prices = [Column(key, LMP.type, LMP.unit, LMP.meaning) for key in regions]
    columns = (COMBINATION, *parameters, SEED, *FIGURES, *prices, ERROR)
    fields = [pa.field(one.name, one.type, metadata={"unit": one.unit, "description": one.meaning}) for one in columns]
    schema = pa.schema(fields, metadata={"sweep": name, "gridaccord": version("gridaccord")})
    found = {one.name: [_cell(one, row.get(one.name)) for row in rows] for one in columns}
    return pa.table(found, schema=schema)


def _parameter(key: str, values: Sequence[JsonValue]) -> Column:
    kinds = {type(value) for value in values}
    types = ((_FLAG, {bool}), (_WHOLE, {int}), (_REAL, {int, float}), (_TEXT, {str}))
    kind = next((kind for kind, wanted in types if kinds <= wanted), _TEXT)
    return Column(key, kind, "", "the parameter's value, as the sweep's file has it")


def _cell(column: Column, value: JsonValue) -> JsonValue:
    if column.type == _TEXT and value is not None and not isinstance(value, str):
        return json.dumps(value)
    return value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
