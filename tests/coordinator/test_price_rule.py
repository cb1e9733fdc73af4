"""One price among the optimal ones: chosen by a public rule, and any other choice is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.market.certificate import CertificateError, price_tolerance
from coordinator.market.component_balance import ComponentBalance
from coordinator.market.coupling.price_rule import DisplacedProblem, check_price_rule
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.market.flowgate_program import FlowgateProgram, Optimum, displacements_w, solve_flowgates
from coordinator.market.offers import MICRO, Offer
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.support.coupling import HUB, MW, Theatre, couple, generator, open_session, small_market
from tests.support.random_grids import Market, Recipe, cook, integers, recipes

ONE = 1 << PRICE_BITS
"""A micro-unit per MWh in committed prices."""


def boundary_market(regions: str = "AABB", offers: tuple[Offer, ...] = ()) -> Market:
    """The load stands exactly where the step at 20 ends and the one at 30 begins: any price between is optimal."""
    lines = [(0, 1, 0.1), (1, 2, 0.1), (2, 3, 0.1)]
    limits = {0: 200.0, 1: 200.0, 2: 200.0}
    return small_market(lines, regions, offers or STEPS, {3: 50 * MW}, limits_mw=limits)


STEPS = (generator("g", 0, (50 * MW, 20), (50 * MW, 30)),)
EQUAL = tuple(generator(f"g{bus}{n}", bus, (10 * MW, 20)) for bus in range(4) for n in range(2))
"""Eight equal offers of which five are needed."""
TIED = (generator("a", 0, (50 * MW, 20)), generator("b", 1, (25 * MW, 30)), generator("c", 2, (25 * MW, 30)))


def prices(market: Market, number: int, seed: int = 0) -> list[int]:
    return couple(open_session(market, seed), market, number).clearing.price.tolist()


@pytest.mark.parametrize("offers", [EQUAL[:5], TIED], ids=["equal", "tied"])
@pytest.mark.parametrize("number", range(3))
def test_prices_do_not_depend_on_the_order_of_offers(offers: tuple[Offer, ...], number: int) -> None:
    expected = prices(boundary_market(offers=offers), number)
    for order in list(permutations(offers))[1::7]:
        assert prices(boundary_market(offers=order), number) == expected


def test_prices_do_not_depend_on_pseudonyms_and_salts() -> None:
    for number in range(4):
        expected = prices(boundary_market(), number)
        for seed in (1, 2, 3):
            assert prices(boundary_market(), number, seed) == pytest.approx(expected, abs=ONE // 16)


@pytest.mark.parametrize("number", range(4))
def test_prices_do_not_depend_on_where_the_regions_are_cut(number: int) -> None:
    expected = prices(boundary_market("AAAA"), number)
    for regions in ("AABB", "ABBB", "ABCD", "ABAB"):
        assert prices(boundary_market(regions), number) == pytest.approx(expected, abs=ONE // 16)


@pytest.mark.parametrize("number", range(8))
def test_the_rule_picks_an_end_of_the_interval(number: int) -> None:
    price = prices(boundary_market(), number)[0]
    assert price in (20 * MICRO * ONE, 30 * MICRO * ONE)


def test_both_ends_are_picked_over_many_intervals() -> None:
    assert {prices(boundary_market(), number)[0] // ONE // MICRO for number in range(16)} == {20, 30}


def test_prices_do_not_depend_on_what_was_published() -> None:
    """A warm interval publishes less; among the same optimal prices it must pick the same one as a cold interval."""
    session, market = open_session(boundary_market()), boundary_market()
    warm = [couple(session, market, number).clearing.price.tolist() for number in range(8)]
    assert warm == [prices(market, number) for number in range(8)]


def single_component(columns: int) -> ComponentBalance:
    nothing = np.zeros(0, dtype=np.int64)
    return ComponentBalance.of(1, np.zeros(columns, dtype=np.int64), nothing, nothing)


def degenerate_program(random: np.random.Generator) -> FlowgateProgram:
    """Equal offers, and two flowgates whose limits meet what the cheapest dispatch brings to the watt."""
    columns = 24
    factors = np.round(random.uniform(-1.0, 1.0, (2, columns)), 3)
    width = np.full(columns, 10.0 * MW)
    price = np.repeat([20.0, 30.0, 40.0], 8) * MICRO
    cheapest = np.where(price < 25 * MICRO, width, 0.0)
    flow = factors @ cheapest
    return FlowgateProgram(
        price_micro_per_mwh=price,
        lower_w=np.zeros(columns),
        upper_w=width,
        balance=single_component(columns),
        factors=factors,
        base_w=np.array([-80.0 * MW]),
        gate_base_w=np.zeros(2),
        gate_min_w=-np.abs(flow),
        gate_max_w=np.abs(flow),
        row_names=["balance/0", "0/a", "0/b"],
        line_violation_micro_per_mwh=100_000 * MICRO,
        unpublished_more_w=np.zeros(1, dtype=np.int64),
        unpublished_less_w=np.zeros(1, dtype=np.int64),
    )


def permuted(program: FlowgateProgram, order: np.ndarray) -> FlowgateProgram:
    return replace(
        program,
        price_micro_per_mwh=program.price_micro_per_mwh[order],
        lower_w=program.lower_w[order],
        upper_w=program.upper_w[order],
        factors=program.factors[:, order],
    )


@pytest.mark.parametrize("seed", range(10))
def test_duals_do_not_depend_on_where_the_solver_starts(seed: int) -> None:
    random = np.random.default_rng(seed)
    program = degenerate_program(random)
    first: Optimum = solve_flowgates(program, b"seed")
    for _ in range(4):
        other = solve_flowgates(permuted(program, random.permutation(24)), b"seed")
        assert other.energy_price == pytest.approx(first.energy_price, abs=1 / 16)
        assert other.shadow_price == pytest.approx(first.shadow_price, abs=1 / 16)


def test_displacements_are_public_small_and_let_limits_give_way() -> None:
    """Balances move either way; limits outwards and by more, so that what stands behind one can move as well."""
    names = [f"row {number}" for number in range(400)]
    amounts = displacements_w(b"seed", names, 200).tolist()
    balances, limits = amounts[:200], amounts[200:]
    assert all(16 <= abs(amount) <= 63 for amount in balances)
    assert {amount > 0 for amount in balances} == {True, False}
    assert all(63 < amount <= 111 for amount in limits)
    assert amounts == displacements_w(b"seed", names, 200).tolist()
    assert amounts != displacements_w(b"other", names, 200).tolist()


class Announced:
    """The public problem and the hub's result in the last round of an interval."""

    def __init__(self, market: Market, number: int = 0) -> None:
        theatre = Theatre(market)
        assert theatre.play(number)
        assert theatre.displaced
        self.problem: DisplacedProblem = theatre.displaced
        last = max(turn for kind, _, turn in theatre.sent if kind == "CouplingResult")
        self.result = pb.CouplingResult.FromString(theatre.sent["CouplingResult", HUB, last]).intervals[0]

    def with_change(self, change: Callable[[Any], None]) -> pb.IntervalResult:
        result = pb.IntervalResult()
        result.CopyFrom(self.result)
        change(result)
        return result

    def refuses(self, change: Callable[[Any], None]) -> None:
        with pytest.raises(CertificateError, match="price rule"):
            check_price_rule(self.problem, self.with_change(change))


def energy(price: float) -> Callable[[Any], None]:
    return lambda result: result.energy_price.__setitem__(0, round(price * MICRO * ONE))


@pytest.mark.parametrize("number", range(4))
def test_another_optimal_price_is_refused(number: int) -> None:
    announced = Announced(boundary_market(), number)
    check_price_rule(announced.problem, announced.result)
    chosen = announced.result.energy_price[0] / ONE / MICRO
    for price in (20.0, 20.001, 25.0, 29.999, 30.0):
        if abs(price - chosen) > 1e-6:
            announced.refuses(energy(price))
    announced.refuses(energy(chosen + 1e-6))
    announced.refuses(energy(chosen - 1e-6))


def congested_market() -> Market:
    return small_market(
        [(0, 1, 0.1), (1, 2, 0.1), (0, 2, 0.1)],
        "AAB",
        [
            generator("cheap", 0, (200 * MW, 20)),
            generator("mid", 1, (200 * MW, 33)),
            generator("dear", 2, (200 * MW, 50)),
        ],
        {1: 60 * MW, 2: 80 * MW},
        limits_mw={0: 20.0, 2: 40.0},
    )


def test_a_congested_market_has_provably_one_price() -> None:
    announced = Announced(congested_market())
    assert announced.result.priced_gate
    assert check_price_rule(announced.problem, announced.result)


RESULTS: dict[str, Callable[[Any], None]] = {
    "a shadow price": lambda r: r.shadow_price.__setitem__(0, r.shadow_price[0] + ONE),
    "the sign of a shadow price": lambda r: r.shadow_price.__setitem__(0, -r.shadow_price[0]),
    "a shadow price left out": lambda r: (r.priced_gate.pop(0), r.shadow_price.pop(0)),
    "a shadow price beyond the violation price": lambda r: r.shadow_price.__setitem__(0, -(10**11 + 1) * ONE),
    "the energy price": lambda r: r.energy_price.__setitem__(0, r.energy_price[0] + ONE),
}


@pytest.mark.parametrize("name", RESULTS)
def test_other_duals_are_refused(name: str) -> None:
    Announced(congested_market()).refuses(RESULTS[name])


def move_witness(change_fine: int) -> Callable[[Any], None]:
    def change(result: Any) -> None:
        acceptance = next(a for a in result.acceptances if a.moved)
        acceptance.witness_fine[0] += change_fine

    return change


def test_a_witness_within_its_tolerance_is_accepted() -> None:
    announced = Announced(congested_market())
    check_price_rule(announced.problem, announced.with_change(move_witness(1 << 10)))


@pytest.mark.parametrize("change_w", [-30 * MW, -100, -10, 10, 100, 10**12])
def test_a_moved_witness_is_refused(change_w: int) -> None:
    Announced(congested_market()).refuses(move_witness(change_w << 10))


def test_a_witness_that_is_the_dispatch_itself_is_refused() -> None:
    def undo(result: Any) -> None:
        for acceptance in result.acceptances:
            acceptance.ClearField("moved")
            acceptance.ClearField("witness_fine")

    Announced(congested_market()).refuses(undo)


def test_a_witness_of_another_interval_is_refused() -> None:
    """Displacements differ from interval to interval, so a proof does not carry over."""
    first, second = Announced(congested_market(), 0), Announced(congested_market(), 1)
    with pytest.raises(CertificateError, match="price rule"):
        check_price_rule(first.problem, second.result)


def test_another_displacement_of_a_binding_row_is_refused() -> None:
    announced = Announced(congested_market())
    binding = [0, *(1 + gate for gate in announced.result.priced_gate)]
    for row in binding:
        displaced = announced.problem.displacement_w.copy()
        displaced[row] += 40 if displaced[row] > 0 else -40
        with pytest.raises(CertificateError, match="price rule"):
            check_price_rule(replace(announced.problem, displacement_w=displaced), announced.result)


@given(recipes(gentle=True, most_buses=10), st.integers(1, 2**20))
@settings(max_examples=25)
def test_no_other_energy_price_passes_where_the_price_is_unique(recipe: Recipe, size: int) -> None:
    announced = Announced(cook(replace(recipe, islands=1)))
    if not check_price_rule(announced.problem, announced.result):
        return
    stated = price_tolerance(integers(announced.result.energy_price), integers(announced.result.shadow_price))
    beyond = size * ONE + 2 * stated
    for change in (beyond, -beyond):
        announced.refuses(
            lambda result, change=change: result.energy_price.__setitem__(0, result.energy_price[0] + change)
        )
