"""The figures of the report, from the run's Parquet tables and nothing else: what the page embeds and draws.

Power in MW, prices in EUR/MWh, money in whole micro-units, times in ISO 8601. Lists by interval are in the order of
`intervals` and hold null where an interval has no row yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from actors.results.tables import PROOFS, TABLES

Json = dict[str, object]
Tables = Mapping[str, pa.Table]
Place = Mapping[datetime, int]

BETWEEN_REGIONS = ("energy", "loop_flow", "interface_share", "links", "exchange")
"""Reasons for which regions receive or pay; legs of settlements are what moves it."""


VALIDATOR = "-validator"
"""What a validator is called behind its organization's name."""
_STRIKES_WITHIN_S = 10.0
_NUMBER = re.compile(r"\d[\d.,]*")


def figures(tables: Tables) -> Json:
    """Everything that the page shows."""
    intervals = tables["intervals"].sort_by("interval")
    place = {start: number for number, start in enumerate(intervals["interval"].to_pylist())}
    regions = _distinct(tables["prices"], "region") or _distinct(tables["offers"], "region")
    return {
        "regions": regions,
        "intervals": [_interval(row) for row in intervals.to_pylist()],
        "prices": _prices(tables["prices"], regions, place),
        "mix": _mix(tables["dispatch"], regions, place),
        "ties": _ties(tables["tie_lines"], place),
        "congested": _congested(tables["flows"], place),
        "transfers": _transfers(tables["settlements"], regions),
        "nettings": _nettings(tables["settlements"]),
        "bills": _bills(tables["bills"]),
        "blocks": _blocks(tables["blocks"]),
        "faults": _faults(tables["faults"], tables["blocks"]),
        "refused": _refused(tables["faults"]),
        "chains": [_plain(row) for row in tables["chains"].to_pylist()],
        "checks": [_plain(row) for row in tables["checks"].to_pylist()],
        "failures": [_plain(row) for row in tables["failures"].to_pylist()],
        "columns": _columns(tables),
    }


def _plain(row: Mapping[str, object]) -> Json:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _distinct(table: pa.Table, column: str) -> list[str]:
    """Values in the order in which they come."""
    return list(dict.fromkeys(table[column].to_pylist()))


def _interval(row: Mapping[str, object]) -> Json:
    """With the time that its stages took on the chains."""
    names = ("gate_closed_at", "agreed_at", "scheduled_at", "billed_at")
    times = [cast("datetime | None", row[name]) for name in names]
    seconds = [_seconds(before, after) for before, after in pairwise(times)]
    return _plain(row) | {"stage_seconds": dict(zip(("agree", "schedule", "bill"), seconds, strict=True))}


def _seconds(before: datetime | None, after: datetime | None) -> float | None:
    """Not below zero: these are times of different chains, whose clocks differ a little."""
    return None if before is None or after is None else max(0.0, (after - before).total_seconds())


def _by_interval(rows: Sequence[Mapping[str, object]], place: Place, value: str) -> list[object]:
    """One column by interval."""
    found: list[object] = [None] * len(place)
    for row in rows:
        number = place.get(cast(datetime, row["interval"]))
        if number is not None:
            found[number] = row[value]
    return found


def _prices(table: pa.Table, regions: Sequence[str], place: Place) -> Json:
    """Least, mean and highest LMP over the buses of each region; the mean is plain."""
    grouped = table.group_by(["interval", "region"]).aggregate(
        [("lmp_eur_per_mwh", kind) for kind in ("min", "mean", "max")]
    )
    rows = grouped.to_pylist()
    return {
        region: {
            kind: _by_interval([r for r in rows if r["region"] == region], place, f"lmp_eur_per_mwh_{kind}")
            for kind in ("min", "mean", "max")
        }
        for region in regions
    }


def _mix(table: pa.Table, regions: Sequence[str], place: Place) -> Json:
    """Scheduled injection by region and kind; negative is withdrawal."""
    rows = table.group_by(["interval", "region", "kind"]).aggregate([("power_mw", "sum")]).to_pylist()
    kinds = sorted({row["kind"] for row in rows})
    found = {}
    for region in regions:
        own = [row for row in rows if row["region"] == region]
        present = [kind for kind in kinds if any(row["kind"] == kind for row in own)]
        found[region] = {
            kind: _by_interval([row for row in own if row["kind"] == kind], place, "power_mw_sum") for kind in present
        }
    return cast(Json, found)


def _ties(table: pa.Table, place: Place) -> list[Json]:
    """Each tie-line with its columns by interval."""
    found: dict[str, list[Mapping[str, object]]] = {}
    for row in table.to_pylist():
        found.setdefault(row["branch"], []).append(row)
    names = ("branch", "from_bus", "to_bus", "from_region", "to_region")
    series = ("flow_mw", "limit_mw", "binding", "shadow_price_eur_per_mwh", "rent_micro")
    return [
        {name: rows[0][name] for name in names} | {name: _by_interval(rows, place, name) for name in series}
        for rows in found.values()
    ]


def _congested(table: pa.Table, place: Place) -> list[list[Json]]:
    """By interval, the branches within regions whose limit binds, dearest first."""
    found: list[list[Json]] = [[] for _ in place]
    for row in table.filter(table["binding"]).to_pylist():
        if row["region"] is not None and row["interval"] in place:
            found[place[row["interval"]]].append(_plain(row))
    for rows in found:
        rows.sort(key=lambda row: -cast(float, row["shadow_price_eur_per_mwh"]))
    return found


def _transfers(table: pa.Table, regions: Sequence[str]) -> Json:
    """What each region receives from the others in all, by reason, and what was settled of it, in micro-units."""
    rows = table.group_by(["party", "region", "reason", "outcome"]).aggregate([("amount_micro", "sum")]).to_pylist()
    found: dict[str, dict[str, int]] = {region: dict.fromkeys((*BETWEEN_REGIONS, "settled"), 0) for region in regions}
    for row in rows:
        is_own = row["party"] == row["region"] and row["party"] in found
        reason = "settled" if row["outcome"] == "commit" else row["reason"]
        if is_own and reason in found[row["party"]]:
            found[row["party"]][reason] += row["amount_micro_sum"]
    return cast(Json, found)


def _nettings(table: pa.Table) -> Json:
    """How many settlements there were, by what became of them."""
    outcomes = {(row["settlement"], row["outcome"]) for row in table.to_pylist() if row["settlement"] is not None}
    return {name: sum(outcome == name for _, outcome in outcomes) for name in ("commit", "abort", "open")}


def _bills(table: pa.Table) -> list[Json]:
    """By region and kind: metered energy of the latest versions, what they receive, and versions beyond the first."""
    latest = (
        table.sort_by("version")
        .group_by(["interval", "region", "resource", "kind"], use_threads=False)
        .aggregate([("metered_mwh", "last"), ("paid_micro", "sum"), ("version", "max"), ("substituted", "last")])
    )
    sums: dict[tuple[str, str], Json] = {}
    for row in latest.to_pylist():
        entry = sums.setdefault(
            (row["region"], row["kind"]),
            {
                "region": row["region"],
                "kind": row["kind"],
                "bills": 0,
                "corrections": 0,
                "substituted": 0,
                "injected_mwh": 0.0,
                "withdrawn_mwh": 0.0,
                "credit_micro": 0,
            },
        )
        energy = row["metered_mwh_last"]
        amounts = {
            "bills": 1,
            "corrections": row["version_max"] - 1,
            "substituted": int(row["substituted_last"]),
            "injected_mwh": max(energy, 0.0),
            "withdrawn_mwh": max(-energy, 0.0),
            "credit_micro": row["paid_micro_sum"],
        }
        for name, amount in amounts.items():
            entry[name] = cast(float, entry[name]) + amount
    return sorted(sums.values(), key=lambda entry: (str(entry["region"]), str(entry["kind"])))


def _blocks(table: pa.Table) -> list[Json]:
    """By chain: how many, how fast, and in how many certificates each validator stands."""
    found = []
    for chain in _distinct(table, "chain"):
        rows = table.filter(pc.equal(table["chain"], chain)).sort_by("height").to_pylist()
        steps = [(after["time"] - before["time"]).total_seconds() for before, after in pairwise(rows)]
        signers = [row["signers"] for row in rows if row["signers"] is not None]
        names = sorted({name for members in signers for name in members})
        found.append(
            {
                "chain": chain,
                "blocks": len(rows),
                "transactions": sum(row["transactions"] for row in rows),
                "rejected": sum(row["rejected"] for row in rows),
                "payload_bytes": sum(row["payload_bytes"] for row in rows),
                "views": max((row["view"] for row in rows if row["view"] is not None), default=None),
                "median_step_s": median(steps) if steps else None,
                "longest_step_s": max(steps, default=None),
                "certificates": len(signers),
                "signed": {name: sum(name in members for members in signers) for name in names},
            }
        )
    return found


def _faults(table: pa.Table, blocks: pa.Table) -> list[Json]:
    """What was done to the run, with how long certificates then lacked the validators that it struck."""
    struck = ("fault", "recovered")
    rows = [row for row in table.to_pylist() if row["kind"] in struck]
    return [_plain(row) | {"absent_s": _absent_s(blocks, row) if row["kind"] == "fault" else None} for row in rows]


def _absent_s(blocks: pa.Table, fault: Mapping[str, object]) -> float | None:
    """The longest time between two blocks of a chain that the target's validator signed, from about the fault on.

    None where the target is no organization with a validator, or it has not signed since.
    """
    name, when = f"{fault['target']}{VALIDATOR}", cast(datetime, fault["time"])
    signed: dict[str, list[datetime]] = {}
    for row in blocks.to_pylist():
        if row["signers"] is not None and name in row["signers"]:
            signed.setdefault(row["chain"], []).append(row["time"])
    until = when + timedelta(seconds=_STRIKES_WITHIN_S)
    gaps = [
        (after - before).total_seconds()
        for times in signed.values()
        for before, after in pairwise(times)
        if after >= when and before <= until
    ]
    return max(gaps, default=None)


def _refused(table: pa.Table) -> list[Json]:
    """What was refused or stayed open, counted by kind and reason."""
    counts: dict[tuple[str, str], int] = {}
    for row in table.to_pylist():
        if row["kind"] not in ("fault", "recovered"):
            reason = str(json.loads(row["detail"] or "{}").get("reason", ""))
            key = (row["kind"], _NUMBER.sub("…", reason))
            counts[key] = counts.get(key, 0) + 1
    return [{"kind": kind, "reason": reason, "count": count} for (kind, reason), count in sorted(counts.items())]


def _columns(tables: Tables) -> list[Json]:
    """What every table holds, as its file says."""
    found = []
    for table in (*TABLES, *PROOFS):
        schema = tables[table.name].schema
        columns = [
            {
                "name": column.name,
                "unit": column.metadata[b"unit"].decode(),
                "meaning": column.metadata[b"description"].decode(),
            }
            for column in schema
        ]
        row = schema.metadata[b"description"].decode()
        found.append({"table": table.name, "row": row, "rows": tables[table.name].num_rows, "columns": columns})
    return found
