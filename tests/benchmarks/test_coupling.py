import pytest

from benchmarks import coupling
from benchmarks.cases import RowFile, chosen_cases, load_case
from benchmarks.coupling import CENTRAL, COUPLED, GAP_LIMIT, OBJECTIVE_LIMIT, clear_centrally, table, verdicts
from benchmarks.price_range import payment_range
from coordinator.market.central import solve_central_flowgates
from coordinator.market.clearing import Problem
from coordinator.market.offers import MICRO, MarketRules, Offer, Step, build_book, tabulate
from topology.dc import W_PER_MW, build_dc_network
from topology.grid import Branch, Bus, Grid

_KEY = ["kind", "case", "regions"]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return table(chosen_cases("14_ieee,57_ieee__api", quick=False), [1, 2, 4], 10, RowFile(_KEY, None, None))


def test_every_case_and_number_of_regions_that_fits_has_a_row(rows: list[dict[str, object]]) -> None:
    keys = [(row["kind"], row["case"], row["regions"]) for row in rows]
    assert keys == [
        (CENTRAL, "14_ieee", 0),
        (COUPLED, "14_ieee", 1),
        (CENTRAL, "57_ieee__api", 0),
        (COUPLED, "57_ieee__api", 1),
        (COUPLED, "57_ieee__api", 2),
        (COUPLED, "57_ieee__api", 4),
    ]
    assert all(row["error"] is None for row in rows)


def test_coupling_finds_the_central_optimum_and_says_what_it_took(rows: list[dict[str, object]]) -> None:
    for row in (row for row in rows if row["kind"] == COUPLED):
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        assert numbers["difference"] <= OBJECTIVE_LIMIT
        assert numbers["gap"] <= GAP_LIMIT
        assert 1 <= numbers["rounds"] <= 6
        assert 0 < numbers["region_bytes"] <= numbers["busiest_region_bytes"] <= numbers["bytes"]
        assert min(numbers["seconds"], numbers["verify_seconds"], numbers["btheta_seconds"]) > 0
        assert numbers["warm_rounds"] == 1


def test_a_failing_run_is_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    couple = coupling.couple

    def failing(market: object, central: object, regions: int) -> object:
        if regions == 1:
            raise ArithmeticError("no luck")
        return couple(market, central, regions)  # type: ignore[arg-type]

    monkeypatch.setattr(coupling, "couple", failing)
    rows = table(chosen_cases("24_ieee_rts", quick=False), [1, 2], 10, RowFile(_KEY, None, None))
    assert [row["error"] for row in rows] == [None, "ArithmeticError: no luck", None]
    assert not verdicts(rows)[0].passed
    assert "24_ieee_rts/1" in verdicts(rows)[0].detail


def test_an_objective_that_differs_is_named(rows: list[dict[str, object]]) -> None:
    off = [{**row, "difference": 2 * OBJECTIVE_LIMIT} for row in rows]
    verdict = next(c for c in verdicts(off) if c.name.startswith("objective"))
    assert not verdict.passed
    assert "57_ieee__api/4" in verdict.detail


def test_central_figures_agree_with_each_other() -> None:
    market = load_case("5_pjm")
    row = clear_centrally(market)
    assert row.objective_micro_per_h / MICRO == pytest.approx(17479.9, abs=0.1)
    assert row.spread <= 1e-9
    assert row.least_payment_per_h <= row.payment_per_h + 1e-3
    assert row.payment_per_h <= row.most_payment_per_h + 1e-3


def _two_steps(demand_mw: int) -> Problem:
    """One unit of 100 MW at 10 and one of 100 MW at 30 per MWh against a demand, on one line."""
    grid = Grid("two", 100.0, (Bus("a"), Bus("b")), (Branch("1", "a", "b", 0.0, 0.1),))
    rules = MarketRules()
    width = 100 * W_PER_MW
    offers = [Offer(str(price), "a", 0, (Step(width, price * MICRO),)) for price in (10, 30)]
    book = build_book(offers, {"b": demand_mw * W_PER_MW}, grid.bus_position, rules)
    return Problem(build_dc_network(grid), tabulate(book, rules).steps, rules)


def test_the_price_may_lie_anywhere_between_two_steps_where_demand_ends_at_a_corner() -> None:
    at_corner, inside = _two_steps(100), _two_steps(150)
    found = payment_range(at_corner, solve_central_flowgates(at_corner))
    assert found.least_per_h == pytest.approx(100 * 10, abs=0.01)
    assert found.most_per_h == pytest.approx(100 * 30, abs=0.01)
    assert found.least_per_h - 0.01 <= found.chosen_per_h <= found.most_per_h + 0.01
    fixed = payment_range(inside, solve_central_flowgates(inside))
    assert fixed.least_per_h == pytest.approx(fixed.most_per_h, abs=0.01)
    assert fixed.chosen_per_h == pytest.approx(150 * 30, abs=0.01)
