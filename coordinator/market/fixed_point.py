"""Exact arithmetic on 64-bit integer arrays whose products need more than 64 bits.

A `WideArray` holds value = high * 2**40 + low with 0 <= low < 2**40, so the limbs are unique and sums do not
depend on their order. No operation can overflow in silence: `multiply` checks the range of its factors first.

Scales of everything that is agreed: power in W, angles in 2**-40 rad, factors (sensitivities) in 2**-40,
prices in 2**-20 micro-units per MWh, so that an offer price in micro-units converts by a shift, exactly.
Rounding is half up unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topology.arrays import FloatArray, IntArray

ANGLE_BITS = 40
FACTOR_BITS = 40
PRICE_BITS = 20

PRICE_LIMIT = 1 << 61
"""Prices at or beyond this, in 2**-20 micro-units per MWh, cannot be computed with."""
PRICE_BEYOND_RANGE = (
    f"a price is beyond {PRICE_LIMIT // (1_000_000 << PRICE_BITS)} per MWh, what fixed point can hold; "
    "where limits are violated in a row, lower the line violation price of the market rules"
)

_LIMB_BITS = 40
_LIMB_MASK = (1 << _LIMB_BITS) - 1
_HALF_BITS = 20
_HALF_MASK = (1 << _HALF_BITS) - 1
_FACTOR_LIMIT = 1 << 61
_SUM_LIMIT = 1 << 62
_PRODUCT_LIMIT = 1 << 101


class FixedPointRangeError(ArithmeticError):
    """A value is too large for the agreed integer format; the message names it and the bound."""


@dataclass(frozen=True, slots=True)
class WideArray:
    """Exact integers high * 2**40 + low, elementwise; see the module's docstring."""

    high: IntArray
    low: IntArray

    def __add__(self, other: WideArray) -> WideArray:
        _check_sum(self, other)
        return _normalized(self.high + other.high, self.low + other.low)

    def __neg__(self) -> WideArray:
        return _normalized(-self.high, -self.low)

    def __sub__(self, other: WideArray) -> WideArray:
        _check_sum(self, other)
        return _normalized(self.high - other.high, self.low - other.low)

    def rounded(self) -> IntArray:
        """The nearest integers to value / 2**40, half up."""
        return self.high + (self.low >> (_LIMB_BITS - 1))

    def absolute(self) -> WideArray:
        """Elementwise magnitude."""
        negative = self.high < 0
        flipped = -self
        return WideArray(np.where(negative, flipped.high, self.high), np.where(negative, flipped.low, self.low))

    def total(self) -> int:
        """The exact sum as a Python integer."""
        return (exact_sum(self.high) << _LIMB_BITS) + exact_sum(self.low)

    def at(self, position: int) -> int:
        """One element as a Python integer."""
        return (int(self.high[position]) << _LIMB_BITS) + int(self.low[position])

    def scattered(self, index: IntArray, size: int) -> WideArray:
        """Sums of the elements by index; shape (size,). Raises FixedPointRangeError when a sum could overflow."""
        most = int(np.bincount(index, minlength=1).max())
        if most * _magnitude(self.high) >= _FACTOR_LIMIT:
            raise FixedPointRangeError(
                f"a sum of {most} products exceeds 2**101; a price or a susceptance is too large"
            )
        high = np.zeros(size, dtype=np.int64)
        low = np.zeros(size, dtype=np.int64)
        np.add.at(high, index, self.high)
        np.add.at(low, index, self.low)
        return _normalized(high, low)


def _check_sum(left: WideArray, right: WideArray) -> None:
    if _magnitude(left.high) + _magnitude(right.high) > _SUM_LIMIT:
        raise FixedPointRangeError("a sum exceeds 2**101; an angle, a price or a susceptance is out of range")


def _normalized(high: IntArray, low: IntArray) -> WideArray:
    return WideArray(high + (low >> _LIMB_BITS), low & _LIMB_MASK)


def multiply(left: IntArray, right: IntArray) -> WideArray:
    """Exact elementwise products. Raises FixedPointRangeError when the magnitudes multiply to 2**101 or more."""
    largest_left, largest_right = _magnitude(left), _magnitude(right)
    if max(largest_left, largest_right) >= _FACTOR_LIMIT or largest_left * largest_right >= _PRODUCT_LIMIT:
        raise FixedPointRangeError(
            f"a product of {largest_left} and {largest_right} exceeds 2**101; an angle, a price or a susceptance "
            "is out of the range of the integer certificate"
        )
    left_high, left_low = left >> _HALF_BITS, left & _HALF_MASK
    right_high, right_low = right >> _HALF_BITS, right & _HALF_MASK
    bottom = left_low * right_low
    middle = left_high * right_low + left_low * right_high + (bottom >> _HALF_BITS)
    high = left_high * right_high + (middle >> _HALF_BITS)
    low = ((middle & _HALF_MASK) << _HALF_BITS) | (bottom & _HALF_MASK)
    return WideArray(high, low)


def widened(values: IntArray, bits: int) -> WideArray:
    """values * 2**bits, exactly."""
    return multiply(values, np.full_like(values, 1 << bits))


def dot(left: IntArray, right: IntArray) -> int:
    """The exact inner product as a Python integer."""
    return multiply(left, right).total()


def row_dots(factors: IntArray, values: IntArray) -> IntArray:
    """The inner product of each row of factors in 2**-40 with `values`, rounded half up to the unit of `values`.

    Exact before the rounding. Raises FixedPointRangeError when a row's products could sum to 2**102 or more.
    """
    product = multiply(factors, values[None, :])
    if _magnitude(product.high) * max(1, len(values)) > _SUM_LIMIT:
        raise FixedPointRangeError("a flow or a price exceeds 2**102; a factor or a quantity is out of range")
    return _normalized(product.high.sum(axis=1), product.low.sum(axis=1)).rounded()


def exact_sum(values: IntArray) -> int:
    """The exact sum of 64-bit integers as a Python integer, up to 2**31 elements."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def to_fixed(values: FloatArray, bits: int) -> IntArray:
    """Floats of a solver as integers of scale 2**-bits, half to even. Raises FixedPointRangeError beyond 62 bits."""
    with np.errstate(over="ignore"):
        scaled = np.rint(np.ldexp(values, bits))
    if not np.all(np.abs(scaled) < float(1 << 62)):
        raise FixedPointRangeError(f"a value does not fit 62 bits at scale 2**-{bits}, or is not a number")
    return np.asarray(scaled, dtype=np.int64)


def to_fixed_price(micro_per_mwh: FloatArray) -> IntArray:
    """Prices in 2**-20 micro-units per MWh. Raises FixedPointRangeError where even their differences would not fit."""
    try:
        fixed = to_fixed(micro_per_mwh, PRICE_BITS)
    except FixedPointRangeError:
        raise FixedPointRangeError(PRICE_BEYOND_RANGE) from None
    if _magnitude(fixed) >= PRICE_LIMIT:
        raise FixedPointRangeError(PRICE_BEYOND_RANGE)
    return fixed


def from_fixed(values: IntArray, bits: int) -> FloatArray:
    """Integers of scale 2**-bits as floats."""
    return np.ldexp(values.astype(np.float64), -bits)


def divide_half_even(numerator: int, denominator: int) -> int:
    """numerator / denominator rounded to the nearest integer, half to even; denominator positive."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    return quotient + (twice > denominator or (twice == denominator and quotient % 2 == 1))


def _magnitude(values: IntArray) -> int:
    return max(abs(int(values.max())), abs(int(values.min()))) if values.size else 0
