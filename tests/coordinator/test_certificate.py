"""The certificate refuses what is wrong by its name, and accepts only what an exact restatement accepts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.market.central import rounded_clearing, solve_central
from coordinator.market.certificate import CertificateError, verify
from coordinator.market.clearing import Clearing, Problem
from coordinator.market.fixed_point import PRICE_BITS, FixedPointRangeError
from coordinator.market.offers import MICRO, MarketRules, StepTable
from tests.support.coupling import MW, generator, small_market
from tests.support.exact_certificate import ANGLE_ONE, exact_check, price_tolerance
from tests.support.random_grids import Recipe, cook, integers
from topology.arrays import IntArray
from topology.dc import DcNetwork

CONDITIONS = {"range", "balance", "bus", "limit", "price", "gap"}
MICRO_PRICE = 1 << PRICE_BITS
ROUNDING_MICRO_PER_H = 1_000
"""What the certificate may charge for its own rounding of flows and residuals, at the prices of these seeds."""
ANY_GAP = MarketRules(gap_parts_per_million=10**12)
SEEDS = (0, 2, 4, 5, 10, 13, 16, 17, 25, 28, 33, 39)
"""Of these two and more lines are congested, and two and more steps at different buses are partial."""


@cache
def cleared(recipe: Recipe, rules: MarketRules | None = None) -> tuple[Problem, Clearing]:
    problem = cook(recipe, rules).problem()
    clearing = rounded_clearing(problem, solve_central(problem))
    verify(problem, clearing)
    return problem, clearing


def recipe_of(seed: int) -> Recipe:
    """Congested, non-degenerate, with everything that has a field of its own in a clearing."""
    return Recipe(
        seed=seed, buses=10, extra_lines=6, parallel=1, shifters=1, links=2, fixed_injections=1, demand_bids=1
    )


def gap_tolerance(problem: Problem, clearing: Clearing, objective_micro_per_h: int) -> int:
    """What the rules allow at this objective and these prices, in micro-units per hour."""
    steps = problem.steps
    announced = [*clearing.price.tolist(), *clearing.shadow_price.tolist()]
    dearest = -(-max(abs(price) for price in announced) // (1 << PRICE_BITS))
    for price, width, taken in zip(steps.price_micro_per_mwh, steps.width_w, clearing.accepted_w, strict=True):
        in_use = taken > 0 if price > 0 else taken < width
        dearest = max(dearest, abs(int(price))) if in_use else dearest
    return problem.rules.gap_tolerance_micro_per_h(objective_micro_per_h, dearest)


def beyond_price_tolerance(clearing: Clearing) -> int:
    """A change of a committed price that the stated tolerance does not cover."""
    highest = max(int(np.abs(prices).max()) for prices in (clearing.price, clearing.shadow_price))
    return 2 * int(price_tolerance(Fraction(highest, MICRO_PRICE)) * MICRO_PRICE)


def half_watts(clearing: Clearing) -> int:
    """What half a watt on every congested line is worth: the certificate may charge it, since it rounds flows."""
    return int(np.abs(clearing.shadow_price).sum()) // MICRO_PRICE // MICRO + 1


def added(values: IntArray, place: int, change: int) -> IntArray:
    result = values.copy()
    result[place] += change
    return result


def refused(problem: Problem, clearing: Clearing) -> CertificateError:
    with pytest.raises(CertificateError) as caught:
        verify(problem, clearing)
    return caught.value


class Change(NamedTuple):
    """One thing to change in a clearing or in its problem; numbers are taken modulo what there is."""

    what: str
    place: int
    size: int
    other: int
    binding: bool


class Mutant(NamedTuple):
    """A seed's clearing and what is changed in it."""

    seed: int
    changes: tuple[Change, ...]

    def build(self) -> tuple[Problem, Clearing]:
        problem, clearing = cleared(recipe_of(self.seed))
        for change in self.changes:
            problem, clearing = mutated(problem, clearing, change)
        return problem, clearing


SIZES = (1, 2, 10, 63, 64, 65, 100, 1_000, 10_000, 1_000_000, 30_000_000)
KINDS = ("step", "swap", "angle", "price", "shadow", "sign", "limit", "link", "violation", "offer")
mutants = st.builds(
    Mutant,
    st.sampled_from(SEEDS),
    st.lists(
        st.builds(
            Change,
            st.sampled_from(KINDS),
            st.integers(0, 100),
            st.sampled_from([sign * size for size in SIZES for sign in (1, -1)]),
            st.integers(0, 100),
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)


def mutated(problem: Problem, clearing: Clearing, change: Change) -> tuple[Problem, Clearing]:
    network, steps = problem.network, problem.steps
    step, other = change.place % steps.count, change.other % steps.count
    bus, branch = change.place % network.bus_count, change.place % network.branch_count
    congested = np.flatnonzero(clearing.shadow_price)
    if change.binding and congested.size:
        branch = int(congested[change.place % len(congested)])
    size = change.size
    match change.what:
        case "step":
            return problem, replace(clearing, accepted_w=added(clearing.accepted_w, step, size))
        case "swap":
            accepted = added(added(clearing.accepted_w, step, size), other, -size)
            return problem, replace(clearing, accepted_w=accepted)
        case "angle":
            return problem, replace(clearing, angle=added(clearing.angle, bus, size * (1 + change.other * 10)))
        case "price":
            return problem, replace(clearing, price=added(clearing.price, bus, size * 1000))
        case "shadow":
            return problem, replace(clearing, shadow_price=added(clearing.shadow_price, branch, size * 1000))
        case "sign":
            flip = np.where(np.arange(network.branch_count) == branch, -1, 1)
            return problem, replace(clearing, shadow_price=clearing.shadow_price * flip)
        case "limit":
            low, high = network.flow_min_w, network.flow_max_w
            if change.other % 2:
                low = added(low, branch, size)
            else:
                high = added(high, branch, size)
            return replace(problem, network=network.with_flow_limits(low, high)), clearing
        case "link":
            link = change.place % len(network.link_ids)
            return problem, replace(clearing, link_w=added(clearing.link_w, link, size))
        case "violation":
            return problem, replace(clearing, violation_w=added(clearing.violation_w, branch, size))
        case _:
            price = added(steps.price_micro_per_mwh, step, size)
            return replace(problem, steps=replace(steps, price_micro_per_mwh=price)), clearing


@given(mutants)
@settings(max_examples=400)
def test_a_mutant_is_refused_by_the_right_name_or_is_exactly_as_good(mutant: Mutant) -> None:
    problem, clearing = mutant.build()
    try:
        certificate = verify(problem, clearing)
    except CertificateError as error:
        assert error.condition in CONDITIONS
        assert error.element
        strict = exact_check(problem, clearing, slack_w=-1)
        if error.condition != "gap":
            assert error.condition in strict.broken
        elif strict.charged_gap is not None:
            objective = problem.steps.offset_micro_per_h + round(strict.cost / MICRO)
            tolerance = gap_tolerance(problem, clearing, objective)
            assert strict.charged_gap > (tolerance - ROUNDING_MICRO_PER_H - half_watts(clearing)) * MICRO
        return
    tolerance = gap_tolerance(problem, clearing, certificate.objective_micro_per_h)
    assert exact_check(problem, clearing, slack_w=1).holds(tolerance)


@given(mutants)
@settings(max_examples=150)
def test_an_accepted_mutant_has_a_gap_that_is_an_exact_bound(mutant: Mutant) -> None:
    problem, clearing = mutant.build()
    try:
        certificate = verify(problem, clearing)
    except CertificateError:
        return
    exact = exact_check(problem, clearing)
    assert exact.gap is not None
    assert certificate.gap_micro_per_h * MICRO >= exact.gap


class TestEveryBindingDatumCounts:
    """On seeded non-degenerate clearings each single change of what binds, beyond the stated tolerances, is refused."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_accepted_quantities(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        for step in range(problem.steps.count):
            for change in (-1, 1):
                mutant = replace(clearing, accepted_w=added(clearing.accepted_w, step, change))
                assert refused(problem, mutant).condition in {"range", "balance"}

    @pytest.mark.parametrize("seed", SEEDS)
    def test_quantities_moved_from_bus_to_bus(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        steps = problem.steps
        inside = np.flatnonzero((clearing.accepted_w > 65) & (clearing.accepted_w < steps.width_w - 65))
        pairs = [(a, b) for a in inside.tolist() for b in inside.tolist() if steps.bus[a] != steps.bus[b]]
        assert pairs, "the seed has no two partial steps"
        for first, second in pairs:
            accepted = added(added(clearing.accepted_w, first, 66), second, -66)
            assert refused(problem, replace(clearing, accepted_w=accepted)).condition == "bus"

    @pytest.mark.parametrize("seed", SEEDS)
    def test_angles(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        network = problem.network
        strength = np.zeros(network.bus_count, dtype=np.int64)
        np.add.at(strength, network.from_bus, np.abs(network.susceptance_w_per_rad))
        np.add.at(strength, network.to_bus, np.abs(network.susceptance_w_per_rad))
        for bus in range(network.bus_count):
            change = (70 * ANGLE_ONE) // int(strength[bus]) + 1
            condition = refused(problem, replace(clearing, angle=added(clearing.angle, bus, change))).condition
            assert condition in {"bus", "limit"}

    @pytest.mark.parametrize("seed", SEEDS)
    def test_prices(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        beyond = beyond_price_tolerance(clearing)
        for bus in range(problem.network.bus_count):
            for change in (-beyond, beyond):
                mutant = replace(clearing, price=added(clearing.price, bus, change))
                assert refused(problem, mutant).condition == "price"

    @pytest.mark.parametrize("seed", SEEDS)
    def test_all_prices_moved_together(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        for change in (-MICRO, MICRO):
            assert refused(problem, replace(clearing, price=clearing.price + (change << PRICE_BITS))).condition == "gap"

    @pytest.mark.parametrize("seed", SEEDS)
    def test_shadow_prices_and_their_signs(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        for branch in np.flatnonzero(clearing.shadow_price).tolist():
            shadow = int(clearing.shadow_price[branch])
            wrong = problem.network.branch_count * beyond_price_tolerance(clearing)
            for change in (-2 * shadow, -shadow, wrong, -wrong):
                mutant = replace(clearing, shadow_price=added(clearing.shadow_price, branch, change))
                assert refused(problem, mutant).condition in {"price", "gap"}

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_consistent_wrong_sign(self, seed: int) -> None:
        """All prices mirrored keep the price formula, but every congested line then bears the wrong sign."""
        problem, clearing = cleared(recipe_of(seed))
        mutant = replace(clearing, shadow_price=-clearing.shadow_price, price=-clearing.price)
        assert refused(problem, mutant).condition == "gap"

    @pytest.mark.parametrize("seed", SEEDS)
    def test_limits_of_congested_lines(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        network = problem.network
        tolerance = gap_tolerance(problem, clearing, verify(problem, clearing).objective_micro_per_h)
        for branch in np.flatnonzero(clearing.shadow_price).tolist():
            shadow = int(clearing.shadow_price[branch])
            wider = 2 * tolerance * MICRO * MICRO_PRICE // abs(shadow) + 100
            for change, condition in ((-100, "limit"), (wider, "gap")):
                low, high = network.flow_min_w, network.flow_max_w
                if shadow > 0:
                    low = added(low, branch, -change)
                else:
                    high = added(high, branch, change)
                error = refused(replace(problem, network=network.with_flow_limits(low, high)), clearing)
                assert error.condition == condition
                assert error.element == network.branch_labels[branch]

    @pytest.mark.parametrize("seed", SEEDS)
    def test_links(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        network = problem.network
        for link in range(len(network.link_ids)):
            for change in (-100, 100):
                mutant = replace(clearing, link_w=added(clearing.link_w, link, change))
                outside = not network.link_min_w[link] <= mutant.link_w[link] <= network.link_max_w[link]
                assert refused(problem, mutant).condition == ("range" if outside else "bus")

    @pytest.mark.parametrize("seed", SEEDS)
    def test_violations(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        for branch in range(problem.network.branch_count):
            error = refused(problem, replace(clearing, violation_w=added(clearing.violation_w, branch, 1_000_000)))
            assert (error.condition, error.element) == ("gap", problem.network.branch_labels[branch])
            error = refused(problem, replace(clearing, violation_w=added(clearing.violation_w, branch, -1)))
            assert (error.condition, error.element) == ("range", problem.network.branch_labels[branch])

    @pytest.mark.parametrize("seed", SEEDS)
    def test_offers_that_were_passed_over_or_paid_too_much(self, seed: int) -> None:
        problem, clearing = cleared(recipe_of(seed))
        steps, price = problem.steps, clearing.price[problem.steps.bus] // MICRO_PRICE
        for step in range(steps.count):
            accepted, width = int(clearing.accepted_w[step]), int(steps.width_w[step])
            if accepted > MW:
                dear = price[step] + 10 * MICRO
            elif width - accepted > MW:
                dear = price[step] - 10 * MICRO
            else:
                continue
            prices = steps.price_micro_per_mwh.copy()
            prices[step] = dear
            assert (
                refused(replace(problem, steps=replace(steps, price_micro_per_mwh=prices)), clearing).condition == "gap"
            )


def test_prices_where_nothing_is_for_sale_do_not_buy_a_larger_gap() -> None:
    """The LMP of an empty island is anything; announcing an absurd one must not hide 10 EUR per hour elsewhere."""
    market = small_market(
        [(0, 1, 0.1)], "AAA", [generator("g", 0, (50 * MW, 20)), generator("h", 1, (50 * MW, 21))], {1: 40 * MW}
    )
    problem = market.problem()
    wasteful = replace(problem, steps=replace(problem.steps, width_w=problem.steps.width_w - integers([11 * MW, 0, 0])))
    clearing = rounded_clearing(wasteful, solve_central(wasteful))
    assert refused(problem, clearing).condition == "gap"
    for exponent in range(30, 61):
        price = clearing.price.copy()
        price[2] = 1 << exponent
        with pytest.raises((CertificateError, FixedPointRangeError)):
            verify(problem, replace(clearing, price=price))


def test_a_link_that_could_still_earn_is_named() -> None:
    market = small_market(
        [(0, 1, 0.1)],
        "AA",
        [generator("cheap", 0, (100 * MW, 20)), generator("dear", 1, (100 * MW, 50))],
        {1: 80 * MW},
        limits_mw={0: 20.0},
        links=[(0, 1, 0.0, 30.0)],
    )
    problem = market.problem()
    less = replace(market.grid.links[0], max_mw=10.0)
    narrow = replace(problem, network=replace(problem.network, link_max_w=integers([watts_of(less.max_mw)])))
    clearing = rounded_clearing(narrow, solve_central(narrow))
    error = refused(problem, clearing)
    assert error.condition == "gap"
    assert error.element == "link H0"


def watts_of(power_mw: float) -> int:
    return round(power_mw * MW)


@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_gap_bounds_what_a_feasible_clearing_misses(seed: int, random: Random) -> None:
    """Clear under other offer prices: feasible under the true ones, and its gap covers what it costs too much."""
    problem = replace(cook(recipe_of(seed)).problem(), rules=ANY_GAP)
    steps = problem.steps
    move = integers([random.randint(-10 * MICRO, 10 * MICRO) for _ in range(steps.count)])
    other = replace(problem, steps=replace(steps, price_micro_per_mwh=steps.price_micro_per_mwh + move))
    clearing = rounded_clearing(other, solve_central(other))
    certificate = verify(problem, clearing)
    optimum = solve_central(problem).objective_micro_per_h
    assert certificate.gap_micro_per_h >= certificate.objective_micro_per_h - optimum - 1e-9 * abs(optimum)
    exact = exact_check(problem, clearing)
    assert exact.gap is not None
    assert certificate.gap_micro_per_h * MICRO >= exact.gap


EXTREMES = [2**40, 2**50, 2**60, 2**61, 2**62, 2**63 - 1, -(2**61), -(2**62), -(2**63)]


@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("field", ["accepted_w", "angle", "price", "shadow_price", "link_w", "violation_w"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_huge_values_never_wrap_into_a_valid_clearing(field: str, value: int, everywhere: bool) -> None:
    problem, clearing = cleared(recipe_of(0))
    values = getattr(clearing, field).copy()
    values[slice(None) if everywhere else 0] = value
    with pytest.raises((CertificateError, FixedPointRangeError)):
        verify(problem, replace(clearing, **{field: values}))


def test_alternating_huge_angles_do_not_wrap_to_equal_ones() -> None:
    problem, clearing = cleared(recipe_of(0))
    angle = clearing.angle.copy()
    angle[::2] = 2**63 - 1
    angle[1::2] = -(2**63)
    with pytest.raises((CertificateError, FixedPointRangeError)):
        verify(problem, replace(clearing, angle=angle))


def lone_bus(width_w: int, count: int) -> tuple[Problem, Clearing]:
    """One bus without demand where `count` steps of `width_w` are all accepted: never balanced."""
    empty, texts = integers([]), ()
    zero = integers([0])
    network = DcNetwork("bus", ("1",), texts, texts, *([empty] * 6), texts, texts, *([empty] * 4))
    steps = StepTable(
        bus=integers([0] * count),
        width_w=integers([width_w] * count),
        price_micro_per_mwh=integers([-1] * count),
        kind=integers([0] * count),
        withdrawal_w=zero,
        offset_micro_per_h=0,
    )
    return Problem(network, steps, MarketRules()), Clearing(steps.width_w, zero, zero, empty, empty, empty)


WRAPS = "_check_balance sums injections in 64 bits: widths that sum to 2**64 W balance"


@pytest.mark.parametrize("exponent", [*(exponent for exponent in range(55, 61)), 61, 62])
def test_injections_that_sum_to_a_multiple_of_two_to_the_64_do_not_balance(exponent: int) -> None:
    problem, clearing = lone_bus(1 << exponent, 1 << (64 - exponent))
    with pytest.raises((CertificateError, FixedPointRangeError)):
        verify(problem, clearing)


@pytest.mark.parametrize("field", ["accepted_w", "angle", "price", "shadow_price", "link_w", "violation_w"])
def test_a_wrong_number_of_entries_is_named(field: str) -> None:
    problem, clearing = cleared(recipe_of(0))
    for values in (getattr(clearing, field)[:-1], np.append(getattr(clearing, field), 0)):
        error = refused(problem, replace(clearing, **{field: values}))
        assert (error.condition, error.element) == ("shape", field)


@pytest.mark.parametrize("seed", SEEDS)
def test_verifying_is_the_same_under_any_order_of_branches_and_steps(seed: int) -> None:
    problem, clearing = cleared(recipe_of(seed))
    network, steps = problem.network, problem.steps
    random = np.random.default_rng(seed)
    lines, rows = random.permutation(network.branch_count), random.permutation(steps.count)
    shuffled = replace(
        network,
        branch_ids=tuple(network.branch_ids[i] for i in lines),
        branch_labels=tuple(network.branch_labels[i] for i in lines),
        **{
            name: getattr(network, name)[lines]
            for name in ("from_bus", "to_bus", "susceptance_w_per_rad", "shift_flow_w", "flow_min_w", "flow_max_w")
        },
    )
    columns = {name: getattr(steps, name)[rows] for name in ("bus", "width_w", "price_micro_per_mwh", "kind")}
    other = Problem(shuffled, replace(steps, **columns), problem.rules)
    moved = replace(
        clearing,
        accepted_w=clearing.accepted_w[rows],
        shadow_price=clearing.shadow_price[lines],
        violation_w=clearing.violation_w[lines],
    )
    assert verify(other, moved).gap_exact == verify(problem, clearing).gap_exact
    assert verify(other, moved).objective_micro_per_h == verify(problem, clearing).objective_micro_per_h
