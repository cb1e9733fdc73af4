"""From a solver's quantities to whole watts that balance in every component, with controllable links helping out."""

from __future__ import annotations

import numpy as np

from coordinator.market.clearing import RoundingError, rounded_balanced
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.linear_program import SolverError
from topology.arrays import FloatArray, IntArray


def rounded_with_links(
    public: PublicNetwork,
    quantity_w: FloatArray,
    width_w: IntArray,
    component: IntArray,
    links: tuple[IntArray, IntArray, IntArray],
    total_w: IntArray,
) -> tuple[IntArray, IntArray]:
    """Steps and links in whole watts, so that they bring `total_w` into each component.

    `links` are the flows to stay near, and their limits. Where steps have no room for the watts that rounding leaves,
    a link takes them. Raises SolverError when none can.
    """
    link_w, moved = links[0].copy(), set[int]()
    nothing = np.zeros_like(width_w)
    supply = np.bincount(component, weights=width_w, minlength=public.component_count).astype(np.float64)
    for _ in range(public.component_count + 1):
        target = total_w.copy()
        for end in public.link_ends:
            target[end.component] -= end.sign * link_w[end.link]
        try:
            return rounded_balanced(quantity_w, nothing, width_w, component, target), link_w
        except RoundingError as error:
            _move_link(public, supply, error, (link_w, *links[1:]), moved)
    raise SolverError("published steps and links cannot be rounded to whole watts that balance; publish more steps")


def _move_link(
    public: PublicNetwork,
    supply_w: FloatArray,
    error: RoundingError,
    links: tuple[IntArray, IntArray, IntArray],
    moved: set[int],
) -> None:
    """Let a link that ends in the component, and was not `moved` before, make up for what its steps cannot:
    the one whose other end has most steps published."""
    link_w, link_min_w, link_max_w = links
    other = {(end.link, -end.sign): end.component for end in public.link_ends}
    ends = [end for end in public.link_ends if end.component == error.group and end.link not in moved]
    for end in sorted(ends, key=lambda end: -supply_w[other[end.link, end.sign]]):
        carried = int(link_w[end.link]) + end.sign * error.missing_w
        if link_min_w[end.link] <= carried <= link_max_w[end.link]:
            link_w[end.link] = carried
            moved.add(end.link)
            return
    raise SolverError(f"{error}; publish more steps") from error
