"""Offers: what cannot enter the market is refused in one line that names it; equal offers share to the watt."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.market.fixed_point import PRICE_BITS, FixedPointRangeError
from coordinator.market.offers import (
    MICRO,
    MarketRules,
    Offer,
    OfferError,
    Step,
    StepKind,
    TabulatedBook,
    build_book,
    check_offer,
    tabulate,
)
from tests.support.random_grids import integers

RULES = MarketRules()
BUSES = {"101": 0, "102": 1}
OFFER = Offer("wind", "101", 0, (Step(100, 5 * MICRO), Step(50, 7 * MICRO)))


def book_of(*offers: Offer, demand: dict[str, int] | None = None) -> TabulatedBook:
    return tabulate(build_book(offers, demand or {}, BUSES, RULES), RULES)


@pytest.mark.parametrize(
    ("offer", "problem", "remedy"),
    [
        (replace(OFFER, steps=(Step(1, 7), Step(1, 5))), "not convex", "sort the steps"),
        (replace(OFFER, steps=(Step(0, 5),)), "width 0 W is not positive", "remove the step"),
        (replace(OFFER, steps=(Step(-3, 5),)), "width -3 W is not positive", "remove the step"),
        (replace(OFFER, steps=(Step(1, 9_000 * MICRO + 1),)), "outside", "floor and cap"),
        (replace(OFFER, steps=(Step(1, -9_000 * MICRO - 1),)), "outside", "floor and cap"),
    ],
)
def test_a_curve_that_is_refused(offer: Offer, problem: str, remedy: str) -> None:
    for call in (lambda: check_offer(offer, RULES), lambda: book_of(offer)):
        with pytest.raises(OfferError) as caught:
            call()
        assert_one_line(caught.value, "offer wind at bus 101", "step", problem, remedy)


def assert_one_line(error: Exception, *parts: str) -> None:
    message = str(error)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("others", "problem", "remedy"),
    [
        ([replace(OFFER, id="lost", bus="999")], "bus 999 is not in the grid", "correct the bus"),
        ([OFFER], "given twice", "keep one offer"),
        ([replace(OFFER, id="heat", carrier="heat")], "heat in EUR cannot clear", "its own market"),
        ([replace(OFFER, id="usd", asset="USD")], "electricity in USD cannot clear", "its own market"),
    ],
)
def test_an_offer_that_does_not_belong(others: list[Offer], problem: str, remedy: str) -> None:
    with pytest.raises(OfferError) as caught:
        book_of(OFFER, *others)
    assert_one_line(caught.value, f"offer {others[0].id}", problem, remedy)


def test_demand_at_an_unknown_bus() -> None:
    with pytest.raises(OfferError) as caught:
        book_of(demand={"999": 5})
    assert_one_line(caught.value, "demand", "bus 999 is not in the grid", "add it")


def test_the_cap_and_the_floor_themselves_are_allowed() -> None:
    book_of(replace(OFFER, steps=(Step(1, -9_000 * MICRO), Step(1, 9_000 * MICRO))))


def test_equal_prices_are_convex() -> None:
    book_of(replace(OFFER, steps=(Step(1, 5), Step(1, 5))))


@pytest.mark.parametrize(
    "change",
    [
        {"price_cap_micro_per_mwh": 10_000 * MICRO},
        {"price_floor_micro_per_mwh": -10_000 * MICRO},
        {"price_floor_micro_per_mwh": 9_001 * MICRO},
        {"line_violation_micro_per_mwh": 9_999 * MICRO},
        {"tolerance_w": -1},
        {"gap_parts_per_million": -1},
        {"gap_floor_micro_per_h": -1},
        {"value_of_lost_load_micro_per_mwh": 1 << 60, "line_violation_micro_per_mwh": 1 << 61},
    ],
    ids=lambda change: next(iter(change)),
)
def test_rules_that_contradict_themselves(change: dict[str, int]) -> None:
    with pytest.raises(OfferError, match="market rules"):
        MarketRules(**change)


@pytest.mark.parametrize("width_w", [1 << 62, 1 << 63, 1 << 70])
def test_a_width_no_grid_can_carry_is_refused_by_name(width_w: int) -> None:
    offers = [Offer(name, "101", 0, (Step(width_w, 5),)) for name in ("first", "second")]
    with pytest.raises(OfferError, match="offer first"):
        book_of(*offers)


@pytest.mark.parametrize("fixed_w", [1 << 62, 1 << 63, -(1 << 62), -(1 << 63)])
def test_a_fixed_quantity_no_grid_can_carry_is_refused_by_name(fixed_w: int) -> None:
    with pytest.raises(OfferError, match="offer first"):
        book_of(*[Offer(name, "101", fixed_w, ()) for name in ("first", "second")])


@pytest.mark.parametrize("power_w", [1 << 62, 1 << 63, -(1 << 63)])
def test_a_demand_no_grid_can_carry_is_refused_by_name(power_w: int) -> None:
    with pytest.raises(OfferError, match="demand"):
        book_of(demand={"101": power_w})


def test_widths_that_only_together_are_too_large() -> None:
    offers = [Offer(f"g{number}", "101", 0, (Step(1 << 49, 5),)) for number in range(1 << 6)]
    try:
        table = book_of(*offers).steps
    except (OfferError, FixedPointRangeError):
        return
    assert table.width_w.tolist() == [1 << 55]


@pytest.mark.parametrize("width", [2.5, float("nan")])
def test_a_width_that_is_no_whole_number_is_refused(width: float) -> None:
    with pytest.raises(OfferError):
        book_of(replace(OFFER, steps=(Step(width, 5),)))  # type: ignore[arg-type]


def test_the_table_has_a_step_for_everything_that_may_move() -> None:
    bid = Offer("load", "102", -40, (Step(40, 3 * MICRO),))
    steps = book_of(
        OFFER, replace(OFFER, id="must-run", fixed_w=30, steps=()), bid, demand={"102": 60, "101": -5}
    ).steps
    rows = sorted(zip(steps.bus.tolist(), steps.width_w.tolist(), steps.price_micro_per_mwh.tolist(), strict=True))
    lost = RULES.value_of_lost_load_micro_per_mwh
    assert rows == sorted([(0, 100, 5 * MICRO), (0, 50, 7 * MICRO), (1, 40, 3 * MICRO), (1, 60, lost), (0, 35, -lost)])
    assert [StepKind(int(kind)) for kind in steps.kind].count(StepKind.SHED) == 1
    assert steps.withdrawal_w.tolist() == [0, 100]
    assert steps.injection_w(np.zeros_like(steps.width_w)).tolist() == [0, -100], "zero of everything is what is fixed"
    assert (steps.price >> PRICE_BITS).tolist() == steps.price_micro_per_mwh.tolist()


def test_equal_offers_become_one_step_and_others_do_not() -> None:
    twins = [replace(OFFER, id=f"twin{number}") for number in range(3)]
    steps = book_of(*twins, replace(OFFER, id="elsewhere", bus="102")).steps
    assert sorted(steps.width_w.tolist()) == [50, 100, 150, 300]


@st.composite
def shared_steps(draw: st.DrawFn) -> tuple[TabulatedBook, list[int]]:
    """Many equal offers at few buses and prices, and how much of every merged step is accepted."""
    offers = [
        Offer(
            f"o{number}", draw(st.sampled_from(sorted(BUSES))), 0, tuple(Step(width, price) for price, width in curve)
        )
        for number, curve in enumerate(
            draw(
                st.lists(
                    st.lists(st.tuples(st.sampled_from([5, 7]), st.integers(1, 10**9)), min_size=1, max_size=3).map(
                        sorted
                    ),
                    min_size=1,
                    max_size=8,
                )
            )
        )
    ]
    book = book_of(*offers)
    return book, [draw(st.integers(0, width)) for width in book.steps.width_w.tolist()]


@given(shared_steps())
def test_equal_offers_share_pro_rata_to_the_watt(case: tuple[TabulatedBook, list[int]]) -> None:
    book, accepted = case
    rows = book.accepted_by_row(integers(accepted)).tolist()
    total = [0] * len(accepted)
    for row, step, width in zip(rows, book.step_of_row.tolist(), book.book.width_w.tolist(), strict=True):
        total[step] += row
        exact = Fraction(width * accepted[step], int(book.steps.width_w[step]))
        assert 0 <= row <= width
        assert abs(row - exact) < 1, "proportional within a watt"
    assert total == accepted


def test_thousands_of_equal_devices_share() -> None:
    book = book_of(*[Offer(f"ev{number}", "101", 0, (Step(11_000, 5 * MICRO),)) for number in range(3000)])
    rows = book.accepted_by_row(integers([10_000_001]))
    assert rows.sum() == 10_000_001
    assert set(rows.tolist()) == {3333, 3334}


def test_an_empty_book() -> None:
    steps = book_of().steps
    assert steps.count == 0
    assert steps.offset_micro_per_h == 0
