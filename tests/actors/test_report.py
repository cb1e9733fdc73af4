"""The report: what it shows equals the tables, it reaches no network, and a browser opens it without a complaint."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from actors.report.figures import figures
from actors.report.page import page
from actors.results.tables import FOLDER, read_tables
from tests.actors.support import gridaccord

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for found in map(shutil.which, BROWSERS) if found), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
_WITHIN_S = 120


@pytest.fixture(scope="module")
def run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its report."""
    copy = tmp_path_factory.mktemp("reports") / small_run.name
    shutil.copytree(small_run, copy)
    assert gridaccord("report", copy, "--quiet").code == 0
    return copy


@pytest.fixture(scope="module")
def tables(run: Path) -> dict[str, pa.Table]:
    return read_tables(run / FOLDER)


def embedded(run: Path) -> dict[str, object]:
    text = (run / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    document: dict[str, object] = json.loads(found[1])
    return document


def test_report_says_what_was_verified(run: Path) -> None:
    document = gridaccord("report", run, "--json", "--quiet").json
    assert document["verified"] is True
    assert document["failures"] == []
    assert document["checks"]["optimum"]["checked"] == 3
    assert document["tables"]["intervals"] == 3
    assert document["report"] == str(run / "report.html")
    ran = gridaccord("report", run)
    assert ran.out.startswith("optimum")
    assert "reading the ledgers" in ran.err


def test_what_does_not_hold_is_an_error_and_stands_in_the_report(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    ledger = broken / "consortium" / "beta" / "chains" / "1" / "ledger.sqlite"
    shutil.copy(broken / "consortium" / "beta" / "chains" / "3" / "ledger.sqlite", ledger)
    ran = gridaccord("report", broken, "--quiet")
    assert ran.code == 1
    assert "tips: 1 of beta" in ran.err
    assert [failure["element"] for failure in embedded(broken)["failures"]] == ["1 of beta"]  # type: ignore[attr-defined]


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    ran = gridaccord("report", tmp_path, "--quiet")
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_the_page_embeds_the_figures_of_the_tables_and_reaches_no_network(
    run: Path, tables: dict[str, pa.Table]
) -> None:
    document = embedded(run)
    expected = json.loads(json.dumps(figures(tables)))
    assert {key: document[key] for key in expected} == expected
    assert document["title"] == run.name
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "{{" not in text


def test_what_was_refused_is_counted_by_reason(tables: dict[str, pa.Table]) -> None:
    refused = figures(tables)["refused"]
    assert refused == [{"kind": "refused_readings", "reason": "register of … Wh runs backwards", "count": 2}]


def test_a_fault_says_how_long_certificates_lacked_whom_it_struck(tables: dict[str, pa.Table]) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    both, one = ["alpha-validator", "beta-validator"], ["alpha-validator"]
    blocks = [("center", number, both if number < 3 or number > 9 else one) for number in range(20)]
    first = tables["blocks"].to_pylist()[0]
    fault = {"time": start + timedelta(seconds=2.5), "kind": "fault", "fault": "kill_validators", "elapsed_s": 2.5}
    changed = {
        **tables,
        "faults": pa.Table.from_pylist(
            [fault | {"target": name} for name in ("beta", "alpha", "gamma")], schema=tables["faults"].schema
        ),
        "blocks": pa.Table.from_pylist(
            [
                first
                | {"chain": chain, "height": number, "signers": signers, "time": start + timedelta(seconds=number)}
                for chain, number, signers in blocks
            ],
            schema=tables["blocks"].schema,
        ),
    }
    absent = [row["absent_s"] for row in figures(changed)["faults"]]  # type: ignore[index,union-attr,attr-defined]
    assert absent == [8.0, 1.0, None]


def test_text_cannot_leave_the_element_it_is_embedded_in() -> None:
    text = page({}, "</script><script>alert(1)</script>", {})
    assert "alert(1)</script>" not in text
    assert "\\u003cscript>alert(1)" in text


class Shown(HTMLParser):
    """The figures of a page as a browser left it: by name, the value that a figure was made from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, str] = {}
        self.ties: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if "data-figure" in named:
            self.figures[named["data-figure"]] = named["data-value"]
        if "data-tie" in named:
            self.ties[named["data-tie"]] = named["data-flow"]


def opened(file: Path, folder: Path) -> tuple[str, list[str]]:
    """The page's elements after its program ran, and what the browser's console said."""
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}",
        "--enable-logging=stderr",
        "--virtual-time-budget=2000",
        "--dump-dom",
        file.resolve().as_uri(),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=True)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


@in_a_browser
def test_a_browser_shows_the_figures_of_the_tables(run: Path, tables: dict[str, pa.Table], tmp_path: Path) -> None:
    text, complaints = opened(run / "report.html", tmp_path)
    assert complaints == []
    shown = Shown(text).figures
    intervals = tables["intervals"].to_pylist()
    cost = sum(row["objective_eur_per_h"] * row["duration_s"] / 3600 for row in intervals)
    prices = tables["prices"]["lmp_eur_per_mwh"].to_pylist()
    assert float(shown["cost_eur"]) == pytest.approx(cost, rel=1e-12)
    assert int(shown["coupled"]) == sum(row["coupled"] for row in intervals)
    assert [float(value) for value in shown["price_range"].split()] == [min(prices), max(prices)]
    assert float(shown["rounds_mean"]) == pytest.approx(sum(row["rounds"] for row in intervals) / 3)
    legs = [row for row in tables["settlements"].to_pylist() if row["settlement"] is not None]
    by_region = {name: sum(r["amount_micro"] for r in legs if r["party"] == name) for name in ("1", "2", "3")}
    assert {name: int(shown[f"settled/{name}"]) for name in by_region} == by_region
    assert int(shown["moved_micro"]) == sum(max(0, amount) for amount in by_region.values())
    bills = tables["bills"].to_pylist()
    assert int(shown["bills"]) == len({(row["interval"], row["resource"]) for row in bills})
    credited = {name: sum(row["paid_micro"] for row in bills if row["region"] == name) for name in by_region}
    assert {name: int(shown[f"credit_micro/{name}"]) for name in credited} == credited
    assert int(shown["credit_micro/"]) == sum(credited.values())
    for check in tables["checks"].to_pylist():
        assert int(shown[f"checked/{check['check']}"]) == check["checked"]
    assert f"{sum(tables['checks']['checked'].to_pylist()):,} conditions hold" in text


@in_a_browser
def test_a_browser_draws_the_flows_of_the_interval_that_is_chosen(
    run: Path, tables: dict[str, pa.Table], tmp_path: Path
) -> None:
    text, _ = opened(run / "report.html", tmp_path)
    by_interval: dict[object, dict[str, float]] = {}
    for row in tables["tie_lines"].to_pylist():
        by_interval.setdefault(row["interval"], {})[row["branch"]] = row["flow_mw"]
    drawn = {branch: float(flow) for branch, flow in Shown(text).ties.items()}
    assert drawn in list(by_interval.values())


@in_a_browser
def test_a_run_without_an_interval_yet_has_a_page(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    there = ("offers", "blocks", "chains", "checks", "rounds")
    early = {name: table if name in there else table.slice(0, 0) for name, table in tables.items()}
    file = tmp_path / "early.html"
    file.write_text(page(figures(early), "early", {}), encoding="utf-8")
    text, complaints = opened(file, tmp_path / "profile")
    assert complaints == []
    assert "No interval has ended yet" in text


@in_a_browser
def test_an_error_on_the_page_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "wrong.html"
    file.write_text(page({}, "nothing to draw", {}), encoding="utf-8")
    _, complaints = opened(file, tmp_path / "profile")
    assert complaints
