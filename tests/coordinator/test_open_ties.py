"""With any tie-lines out of service, coupling finds the optimum of the grid without them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from coordinator.market.central import solve_central
from coordinator.market.clearing import Problem
from coordinator.market.coupling.hub import Hub
from coordinator.market.coupling.session import CouplingSession, split_book
from coordinator.market.fixed_point import PRICE_BITS
from coordinator.market.offers import MICRO
from coordinator.settlement.congestion_rent import settle
from tests.coordinator.test_coupling_equals_central import feasible
from tests.support.coupling import STANDARD_WINDOW, interval, open_session
from tests.support.random_grids import Recipe, cook, recipes


def switch(session: CouplingSession, names: list[str]) -> None:
    """Hub and regions go on with these tie-lines open."""
    public = session.public.without_ties(names)
    for region in session.regions:
        region.join(public)
    session.public, session.hub = public, Hub(public, session.rules, "EUR")


@given(recipes(gentle=True, most_buses=20), st.integers(0, 2**32), st.sampled_from([0.3, 1.0]))
@settings(max_examples=60, phases=(Phase.explicit, Phase.generate))
def test_any_ties_may_be_out(recipe: Recipe, seed: int, share: float) -> None:
    # A grid with negative reactances is well conditioned as it was cooked, not with any of its branches open.
    market, random = cook(replace(recipe, negative_reactances=0)), Random(seed)
    session = open_session(market)
    ties = session.cut.interconnection.tie_names
    chosen = [tie for tie in range(len(ties)) if random.random() < share]
    network = market.network.without_branches(session.cut.tie_branches[chosen])
    problem = Problem(network, market.tabulated().steps, market.rules)
    assume(feasible(replace(market, network=network)))
    switch(session, [ties[tie] for tie in chosen])

    tables = split_book(session.cut, market.tabulated().book, market.rules)
    outcome = session.couple(interval(), tables, window=STANDARD_WINDOW)
    central = solve_central(problem).objective_micro_per_h
    prices = [int(abs(clearing.price).max(initial=0)) for clearing in outcome.clearings]
    rows = int(network.components.max()) + 1 + outcome.active_flowgates + len(network.link_ids)
    watt = max(prices) / (1 << PRICE_BITS) / MICRO
    assert abs(outcome.agreement.objective_micro_per_h - central) <= 1e-8 * abs(central) + rows * watt

    money = settle(session.public, outcome.public, 3600)
    assert money.total == 0
    assert session.public.component_count == int(network.components.max()) + 1
    if len(chosen) == len(ties) and not network.link_ids:
        assert not any(transfer.total for transfer in money.transfers), "no ties, no exchange"
