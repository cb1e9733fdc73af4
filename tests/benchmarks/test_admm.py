import pytest

from benchmarks.admm import COPY_LIMIT_MW, COST_LIMIT, _shown, run_admm
from benchmarks.cases import load_case
from coordinator.market.central import solve_central
from coordinator.market.coupling.session import split_book
from coordinator.market.offers import MICRO
from topology.regions import cut_network, regions_automatic


@pytest.mark.parametrize(("name", "regions"), [("5_pjm", 2), ("14_ieee", 2)])
def test_admm_reaches_the_optimum_of_a_small_case(name: str, regions: int) -> None:
    market = load_case(name)
    problem = market.problem
    cut = cut_network(problem.network, regions_automatic(problem.network, regions))
    optimum = solve_central(problem).objective_micro_per_h / MICRO
    steps = split_book(cut, market.tabulated.book, problem.rules)
    run = run_admm(cut, steps, optimum, first_penalty=10.0, cap=500)
    assert run.rounds is not None
    assert 1 < run.rounds <= 500
    assert run.cost_error <= COST_LIMIT
    assert run.mismatch_mw <= COPY_LIMIT_MW
    short = run_admm(cut, steps, optimum, first_penalty=10.0, cap=3)
    assert short.rounds is None


def test_a_run_that_did_not_converge_says_so() -> None:
    shown = _shown({"rounds": None, "cap": 7, "ratio": 3.5, "error": None})
    assert shown["shown"] == "not within 7"
    assert shown["times"] == "> 4"
