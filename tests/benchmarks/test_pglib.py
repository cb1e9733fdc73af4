import json
from pathlib import Path

import pytest
import typer

from benchmarks.cases import RowFile, baselines, chosen_cases, read_case
from benchmarks.pglib import LIMIT, compare, quadratic_offers, table, verdicts
from coordinator.market.costs import offers_from_costs


def test_the_baseline_has_base_and_congested_cases_but_no_small_angle_ones() -> None:
    known = baselines()
    assert known["5_pjm"].dc_per_h == 17480.0
    assert known["5_pjm__api"].dc_per_h == 78025.0
    assert known["118_ieee"].buses == 118
    assert not any(name.endswith("__sad") for name in known)


def test_an_unknown_case_is_refused_by_name() -> None:
    with pytest.raises(typer.BadParameter, match="7_nowhere"):
        chosen_cases("7_nowhere", quick=False)


@pytest.mark.parametrize("name", ["5_pjm", "14_ieee", "5_pjm__api", "24_ieee_rts"])
def test_clearing_reproduces_the_published_optimum(name: str) -> None:
    row = compare(baselines()[name])
    assert row.error is None
    assert row.difference is not None
    assert row.difference <= LIMIT
    assert row.shed_mw == row.curtailed_mw == row.violation_mw == 0.0


def test_quadratic_costs_get_the_segments_that_their_error_bound_needs() -> None:
    case = read_case("24_ieee_rts")
    offers, counts = quadratic_offers(case, error_per_h=1.0)
    coarse = sum(len(offer.steps) for offer in offers_from_costs(case.grid.resources, case.costs, segments=1))
    fine = sum(len(offer.steps) for offer in offers)
    assert min(counts) >= 1
    assert fine - coarse == sum(count - 1 for count in counts)
    _, finer = quadratic_offers(case, error_per_h=0.01)
    assert all(more >= 9 * few or few == 1 for few, more in zip(counts, finer, strict=True))


def test_a_case_that_the_reader_refuses_is_listed_and_not_counted() -> None:
    row = compare(baselines()["1803_snem"])
    assert row.refused is not None
    assert "reactance is zero" in row.refused
    assert row.difference is None


def test_a_run_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    cases = chosen_cases("5_pjm,14_ieee", quick=False)
    first = table(cases[:1], RowFile(["case"], path, None))
    path.write_text(path.read_text() + json.dumps({**first[0], "case": "14_ieee", "error": "interrupted"}) + "\n")
    log = RowFile(["case"], None, path)
    assert log.has("5_pjm")
    assert not log.has("14_ieee")
    rows = table(cases, log)
    assert [row["case"] for row in rows] == ["5_pjm", "14_ieee"]
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows
    assert all(criterion.passed for criterion in verdicts(rows))


def test_a_case_beyond_the_limit_fails_by_name() -> None:
    rows = table(chosen_cases("5_pjm", quick=False), RowFile(["case"], None, None))
    (verdict,) = verdicts([{**rows[0], "difference": 2 * LIMIT}])
    assert not verdict.passed
    assert "5_pjm" in verdict.detail
