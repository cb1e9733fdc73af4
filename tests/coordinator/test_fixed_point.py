"""Wide arithmetic agrees with Python's integers, and what does not fit is refused, never wrapped."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.market.fixed_point import (
    FixedPointRangeError,
    WideArray,
    divide_half_even,
    dot,
    exact_sum,
    from_fixed,
    multiply,
    to_fixed,
    widened,
)
from tests.support.random_grids import integers

LIMB = 1 << 40
FACTOR_LIMIT = 1 << 61
PRODUCT_LIMIT = 1 << 101
ANY = st.integers(-(2**63), 2**63 - 1)
FACTORS = st.integers(-FACTOR_LIMIT + 1, FACTOR_LIMIT - 1)
EDGES = st.sampled_from(
    [0, 1, -1, 2**20 - 1, 2**20, -(2**20), 2**40, 2**50, -(2**50), 2**61 - 1, 1 - 2**61, 2**62, -(2**63)]
)


def values(wide: WideArray) -> list[int]:
    return [wide.at(place) for place in range(len(wide.high))]


@st.composite
def products(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Two lists of factors whose products fit."""
    left = draw(st.lists(FACTORS | EDGES.filter(lambda v: abs(v) < FACTOR_LIMIT), min_size=1, max_size=6))
    most = min(FACTOR_LIMIT - 1, (PRODUCT_LIMIT - 1) // max(1, *(abs(v) for v in left), 1))
    right = draw(st.lists(st.integers(-most, most), min_size=len(left), max_size=len(left)))
    return left, right


def either_exact_or_refused(left: list[int], right: list[int]) -> None:
    try:
        product = multiply(integers(left), integers(right))
    except FixedPointRangeError:
        largest = max(map(abs, left)), max(map(abs, right))
        assert max(largest) >= FACTOR_LIMIT or largest[0] * largest[1] >= PRODUCT_LIMIT
        return
    assert values(product) == [a * b for a, b in zip(left, right, strict=True)]


@given(products())
def test_products_are_those_of_python(pair: tuple[list[int], list[int]]) -> None:
    left, right = pair
    product = multiply(integers(left), integers(right))
    exact = [a * b for a, b in zip(left, right, strict=True)]
    assert values(product) == exact
    assert all(0 <= low < LIMB for low in product.low.tolist()), "limbs are unique"
    assert product.total() == sum(exact)
    assert values(-product) == [-v for v in exact]
    assert values(product.absolute()) == [abs(v) for v in exact]
    assert product.rounded().tolist() == [(2 * v + LIMB) // (2 * LIMB) for v in exact]
    assert dot(integers(left), integers(right)) == sum(exact)


@given(st.lists(st.tuples(ANY | EDGES, ANY | EDGES), min_size=1, max_size=5))
def test_any_factors_give_exact_products_or_an_error(pairs: list[tuple[int, int]]) -> None:
    either_exact_or_refused([a for a, _ in pairs], [b for _, b in pairs])


@given(products(), products())
def test_sums_and_differences_are_exact(
    first: tuple[list[int], list[int]], second: tuple[list[int], list[int]]
) -> None:
    size = min(len(first[0]), len(second[0]))
    a, b = (multiply(integers(left[:size]), integers(right[:size])) for left, right in (first, second))
    assert values(a + b) == [x + y for x, y in zip(values(a), values(b), strict=True)]
    assert values(a - b) == [x - y for x, y in zip(values(a), values(b), strict=True)]


@given(products(), st.data())
def test_scattered_sums_are_exact_in_any_order(pair: tuple[list[int], list[int]], data: st.DataObject) -> None:
    left, right = pair
    size = data.draw(st.integers(1, 4))
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=len(left), max_size=len(left)))
    product = multiply(integers(left), integers(right))
    expected = [0] * size
    for place, a, b in zip(index, left, right, strict=True):
        expected[place] += a * b
    try:
        sums = product.scattered(integers(index), size)
    except FixedPointRangeError:
        assert max(abs(v) for v in values(product)) * len(left) >= PRODUCT_LIMIT // 2
        return
    assert values(sums) == expected
    order = data.draw(st.permutations(range(len(left))))
    shuffled = multiply(integers([left[i] for i in order]), integers([right[i] for i in order]))
    again = shuffled.scattered(integers([index[i] for i in order]), size)
    assert again.high.tolist() == sums.high.tolist()
    assert again.low.tolist() == sums.low.tolist()


def test_adding_up_the_largest_products_never_wraps() -> None:
    product = multiply(integers([1 << 60]), integers([1 << 40]))
    total, expected = product, product.at(0)
    for _ in range(16):
        try:
            total = total + product
        except FixedPointRangeError:
            return
        expected += product.at(0)
        assert total.at(0) == expected


def test_empty_arrays_are_fine() -> None:
    empty = multiply(integers([]), integers([]))
    assert empty.total() == 0
    assert values(empty.scattered(integers([]), 3)) == [0, 0, 0]
    assert exact_sum(integers([])) == 0


@given(st.lists(ANY | EDGES, max_size=20))
def test_exact_sum_is_that_of_python(numbers: list[int]) -> None:
    assert exact_sum(integers(numbers)) == sum(numbers)


@given(st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=5), st.integers(0, 50))
def test_widened_is_a_shift(numbers: list[int], bits: int) -> None:
    assert values(widened(integers(numbers), bits)) == [n << bits for n in numbers]


@given(st.integers(), st.integers(1, 10**30))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize(
    ("numerator", "expected"), [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2), (-5, -2), (2, 1), (0, 0)]
)
def test_halves_go_to_even(numerator: int, expected: int) -> None:
    assert divide_half_even(numerator, 2) == expected


@given(st.lists(st.floats(-(2.0**20), 2.0**20), min_size=1, max_size=5), st.integers(0, 40))
def test_floats_become_the_nearest_integers_and_come_back(numbers: list[float], bits: int) -> None:
    fixed = to_fixed(np.array(numbers), bits)
    assert fixed.tolist() == [round(Fraction(value) * 2**bits) for value in numbers]
    assert np.all(np.abs(from_fixed(fixed, bits) - np.array(numbers)) <= 2.0 ** (-bits - 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**22, -(2.0**22), 1e300])
def test_what_does_not_fit_62_bits_is_refused(value: float) -> None:
    with pytest.raises(FixedPointRangeError, match="62 bits"):
        to_fixed(np.array([1.0, value]), 40)


def test_the_largest_that_fits() -> None:
    largest = np.nextafter(2.0**22, 0.0)
    assert to_fixed(np.array([largest, -largest]), 40).tolist() == [int(largest * 2**40), -int(largest * 2**40)]
