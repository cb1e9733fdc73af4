"""Tables of a run: they follow from its ledgers, say their units, and add up."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given

from actors.results.collect import collect, kind_of
from actors.results.run_folder import RunError
from actors.results.tables import FOLDER, PROOFS, TABLES, read_tables
from actors.results.verification import verify, write_verification
from actors.results.whole_grid import join
from tests.actors.run_folders import ENERGY_WH, LOAD, RunMaker
from tests.coordinator.settlement.test_intervals import offer_all, rts_day
from tests.support.random_grids import Recipe, cook, recipes
from topology.dc import DcNetwork

DOCS = Path(__file__).parents[2] / "docs" / "output.md"


@pytest.fixture(scope="module")
def run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its tables."""
    copy = tmp_path_factory.mktemp("results") / "run"
    shutil.copytree(small_run, copy)
    collect(copy)
    write_verification(copy, verify(copy))
    return copy


@pytest.fixture(scope="module")
def tables(run: Path) -> dict[str, pa.Table]:
    return read_tables(run / FOLDER)


def rows(table: pa.Table) -> list[dict[str, object]]:
    found: list[dict[str, object]] = table.to_pylist()
    return found


def sums(table: pa.Table, by: str, value: str) -> dict[object, float]:
    totals: dict[object, float] = defaultdict(float)
    for row in table.to_pylist():
        totals[row[by]] += row[value]
    return dict(totals)


def test_every_column_says_its_unit_and_stands_in_the_documentation(tables: dict[str, pa.Table]) -> None:
    text = DOCS.read_text(encoding="utf-8")
    for table in (*TABLES, *PROOFS):
        section = text.partition(f"| `{table.name}` | {table.row} |")[2].partition("\n")[0]
        schema = tables[table.name].schema
        assert schema.names == [column.name for column in table.columns]
        for column, field in zip(table.columns, schema, strict=True):
            assert field.metadata == {b"unit": column.unit.encode(), b"description": column.meaning.encode()}
            assert f"`{column.name}`" in section, f"docs/output.md: {table.name} lacks {column.name}"
            assert column.meaning


def test_a_row_for_each_interval_says_how_it_was_agreed(tables: dict[str, pa.Table], optima: list[float]) -> None:
    intervals = rows(tables["intervals"])
    assert [row["coupled"] for row in intervals] == [True] * 3
    assert [row["excluded"] for row in intervals] == [[], ["2"], []]
    for number in (0, 2):
        assert intervals[number]["objective_eur_per_h"] == pytest.approx(optima[number] / 1e6, rel=1e-6)
    assert intervals[1]["attempts"] == 2, "the hub went on without a region"
    assert sums(tables["rounds"], "interval", "size_bytes") == {
        row["interval"]: row["message_bytes"] for row in intervals
    }
    assert all(row["scheduled_at"] is not None and row["billed_at"] is not None for row in intervals)
    assert [row["coupling_s"] for row in intervals] == [2.0, None, None]


def test_prices_split_into_energy_and_congestion(tables: dict[str, pa.Table]) -> None:
    prices = rows(tables["prices"])
    assert len(prices) == 3 * 73
    for row in prices:
        parts = [row[f"{part}_eur_per_mwh"] for part in ("energy", "congestion", "loss")]
        assert sum(parts) == pytest.approx(row["lmp_eur_per_mwh"], abs=1e-9)  # type: ignore[arg-type]
    scheduled = {(row["interval"], row["bus"]): row["lmp_eur_per_mwh"] for row in rows(tables["dispatch"])}
    by_bus = {(row["interval"], row["bus"]): row["lmp_eur_per_mwh"] for row in prices}
    assert scheduled.items() <= by_bus.items()


def test_schedules_balance_and_stay_within_offers(tables: dict[str, pa.Table]) -> None:
    dispatch = tables["dispatch"]
    assert all(abs(total) < 1e-3 for total in sums(dispatch, "interval", "power_mw").values())
    assert all(row["lowest_mw"] <= row["power_mw"] <= row["highest_mw"] for row in dispatch.to_pylist())
    alone = {(row["interval"], row["region"]) for row in dispatch.to_pylist() if row["alone"]}
    second = rows(tables["intervals"])[1]["interval"]
    assert alone == {(second, "2")}
    offered = {(row["interval"], row["resource"]) for row in rows(tables["offers"])}
    assert {(row["interval"], row["resource"]) for row in rows(dispatch)} == offered


def test_flows_leave_each_region_as_its_net_position(tables: dict[str, pa.Table]) -> None:
    exported: dict[object, float] = defaultdict(float)
    for row in tables["tie_lines"].to_pylist():
        exported[row["interval"], row["from_region"]] += row["flow_mw"]
        exported[row["interval"], row["to_region"]] -= row["flow_mw"]
    made: dict[object, float] = defaultdict(float)
    for row in tables["dispatch"].to_pylist():
        made[row["interval"], row["region"]] += row["power_mw"]
    assert exported == pytest.approx(made, abs=1e-3)
    ties = {(row["interval"], row["branch"]): row["flow_mw"] for row in rows(tables["tie_lines"])}
    flows = {(r["interval"], r["branch"]): r["flow_mw"] for r in rows(tables["flows"]) if r["region"] is None}
    assert ties == flows
    assert len(tables["flows"]) == 3 * 120


def test_what_regions_receive_sums_to_zero_and_is_what_nettings_moved(tables: dict[str, pa.Table]) -> None:
    between: dict[object, int] = defaultdict(int)
    legs: dict[object, int] = defaultdict(int)
    for row in tables["settlements"].to_pylist():
        if row["settlement"] is not None:
            legs[row["interval"], row["party"]] += row["amount_micro"]
            assert row["outcome"] == "commit"
        elif row["reason"] != "bills":
            between[row["interval"], row["party"]] += row["amount_micro"]
    assert sum(between.values()) == 0
    assert {key: amount for key, amount in legs.items() if amount} == {k: a for k, a in between.items() if a}
    reasons = {row["reason"] for row in tables["settlements"].to_pylist()}
    assert {"energy", "exchange", "netting_leg", "exchange_leg"} <= reasons
    rents = [row["rent_micro"] for row in tables["tie_lines"].to_pylist()]
    assert all(isinstance(rent, int) and rent >= 0 for rent in rents)


def test_bills_have_versions_and_pay_the_difference(tables: dict[str, pa.Table]) -> None:
    bills = rows(tables["bills"])
    corrected = [row for row in bills if row["version"] == 2]
    assert [(row["resource"], row["metered_mwh"]) for row in corrected] == [(LOAD, -ENERGY_WH / 1e6)]
    first = next(row for row in bills if row["resource"] == LOAD and row["version"] == 1)
    assert first["substituted"]
    assert not corrected[0]["substituted"]
    assert corrected[0]["paid_micro"] == corrected[0]["credit_micro"] - first["credit_micro"]  # type: ignore[operator]
    owners = [row["amount_micro"] for row in rows(tables["settlements"]) if row["reason"] == "bills"]
    assert sum(owners) == sum(row["paid_micro"] for row in bills)  # type: ignore[arg-type,misc]


def test_blocks_name_who_signed(tables: dict[str, pa.Table]) -> None:
    blocks = rows(tables["blocks"])
    heights = {row["chain"]: row["height"] for row in rows(tables["chains"])}
    assert {row["chain"]: row["height"] for row in blocks} == heights
    assert all(row["signers"] == ["v0", "v1", "v2"] for row in blocks)
    assert len(blocks) == sum(heights.values())  # type: ignore[arg-type,misc]


def test_faults_come_from_the_events(tables: dict[str, pa.Table]) -> None:
    first = rows(tables["intervals"])[0]["interval"]
    columns = ("kind", "fault", "interval", "target", "detail")
    backwards = '{{"reason": "register of {} Wh runs backwards", "region": "1"}}'
    assert [tuple(row[name] for name in columns) for row in rows(tables["faults"])] == [
        ("refused_readings", None, None, "m-7", backwards.format(5)),
        ("refused_readings", None, None, "m-8", backwards.format(77)),
        ("fault", "region silent", first, "2", '{"intervals": 1}'),
        ("recovered", "region silent", None, "2", None),
    ]


def test_the_manifest_keeps_what_it_had_and_counts_rows(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / "manifest.json").write_text('{"seed": 7, "state": "running"}', encoding="utf-8")
    counts = collect(run)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["seed"], manifest["state"], manifest["tables"]) == (7, "running", counts)
    assert counts["intervals"] == 3


def test_an_interrupted_run_has_the_tables_of_what_is_there(tmp_path: Path) -> None:
    maker = RunMaker.of(1)
    offer_all(maker.net, maker.day[0])
    maker.net.target = maker.day[0][0]
    for _ in range(7):
        maker.net.step()
    run = maker.write(tmp_path / "run")
    (run / "events.jsonl").write_text('{"at": "2030-01-01T00:00:00+00:00", "kind": "run_started"}\n{"at": "20')
    counts = collect(run)
    assert counts["intervals"] == counts["prices"] == 0
    assert counts["offers"] > 0
    assert counts["rounds"] > 0
    assert verify(run).passed


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="give the folder of a run"):
        collect(tmp_path)


def test_a_line_that_is_no_event_is_named(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    with (run / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("not an event\n")
    with pytest.raises(RunError, match=r"events\.jsonl, line 8"):
        collect(run)


@pytest.mark.parametrize(
    ("resource", "kind"),
    [("load-101", "load"), ("battery-a", "battery"), ("unit-101_CT_1", "ct"), ("unit-7", "unit"), ("other", "unit")],
)
def test_what_a_resource_is_stands_in_its_name(resource: str, kind: str) -> None:
    assert kind_of(resource) == kind


def test_the_grid_put_together_again_is_the_one_that_was_cut() -> None:
    cut, _ = rts_day(1)
    assert_same(join(cut.interconnection, cut.regions).network, cut.network)


@given(recipes())
def test_random_grids_are_put_together_again(recipe: Recipe) -> None:
    cut = cook(recipe).cut()
    assert_same(join(cut.interconnection, cut.regions).network, cut.network)


def assert_same(joined: DcNetwork, network: DcNetwork) -> None:
    """But for what the two are called, and that tie-lines are called so."""
    for name in (field.name for field in fields(DcNetwork) if field.name not in ("name", "branch_labels")):
        assert list(getattr(joined, name)) == list(getattr(network, name)), name
    labels = [label.removeprefix("tie-line ") for label in joined.branch_labels]
    assert labels == list(network.branch_labels)
