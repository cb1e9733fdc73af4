"""Random markets on random grids: everything that may stand in an input, small enough to solve by the hundred.

A `Recipe` says what a market contains; `cook` makes it from a seed, the same on every machine. Hypothesis draws
and shrinks recipes, so a failure prints the recipe that reproduces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from hypothesis import strategies as st

from coordinator.market.clearing import Problem
from coordinator.market.offers import MICRO, MarketRules, Offer, Step, TabulatedBook, build_book, tabulate
from topology.arrays import FloatArray, IntArray
from topology.dc import DcNetwork, build_dc_network
from topology.grid import Branch, Bus, ControllableLink, Grid, Ratings
from topology.regions import RegionCut, cut_network

BASE_MVA = 100.0
SHARE_OF_FLOW = (0.4, 0.7, 0.9, 1.1, 2.0)
"""Ratings relative to the flow of an unconstrained dispatch: most of them bind."""


@dataclass(frozen=True)
class Recipe:
    """What a random market contains. `regions` is how many are asked for, `cut` how buses are given to them."""

    seed: int = 0
    buses: int = 12
    extra_lines: int = 6
    parallel: int = 0
    negative_reactances: int = 0
    shifters: int = 0
    islands: int = 1
    links: int = 0
    must_flow_links: int = 0
    zero_capacity_lines: int = 0
    regions: int = 3
    cut: str = "connected"
    generators: int = 6
    generating_buses: int = 6
    supply_over_demand: float = 1.8
    demand_bids: int = 0
    fixed_injections: int = 0
    equal_prices: bool = False
    negative_prices: bool = False
    rated_share: float = 0.6


@dataclass(frozen=True)
class Market:
    """A cooked recipe: the grid, who owns which bus, what is for sale."""

    recipe: Recipe | None
    grid: Grid
    network: DcNetwork
    region_of_bus: tuple[str, ...]
    offers: tuple[Offer, ...]
    demand_w: Mapping[str, int]
    rules: MarketRules

    def tabulated(self) -> TabulatedBook:
        """The book of the whole."""
        book = build_book(self.offers, self.demand_w, self.grid.bus_position, self.rules)
        return tabulate(book, self.rules)

    def problem(self) -> Problem:
        """The clearing problem of the whole."""
        return Problem(self.network, self.tabulated().steps, self.rules)

    def cut(self) -> RegionCut:
        """The network cut into the market's regions."""
        return cut_network(self.network, self.region_of_bus)

    def next_interval(self, seed: int) -> Market:
        """The same grid with other demands and rebid prices."""
        random = Random(f"next {self.recipe} {seed}")
        demand = {bus: round(power_w * random.uniform(0.85, 1.15)) for bus, power_w in self.demand_w.items()}
        offers = tuple(replace(offer, steps=_rebid(random, offer.steps, self.rules)) for offer in self.offers)
        return replace(self, offers=offers, demand_w=demand)


def _rebid(random: Random, steps: Sequence[Step], rules: MarketRules) -> tuple[Step, ...]:
    move = random.randint(-2 * MICRO, 2 * MICRO)
    low, high = rules.price_floor_micro_per_mwh, rules.price_cap_micro_per_mwh
    return tuple(
        step._replace(price_micro_per_mwh=min(high, max(low, step.price_micro_per_mwh + move))) for step in steps
    )


def cook(recipe: Recipe, rules: MarketRules | None = None) -> Market:
    """The market of a recipe."""
    random = Random(f"{recipe}")
    rules = rules or MarketRules()
    ids = [str(100 + number) for number in range(recipe.buses)]
    island_of = [number % recipe.islands for number in range(recipe.buses)]
    edges = _edges(random, recipe, island_of)
    demand_w = _demand(random, recipe, ids)
    offers = _offers(random, recipe, ids, demand_w)
    unrated = [_branch(random, recipe, number, ids, edge) for number, edge in enumerate(edges)]
    branches = _with_negative_reactances(random, recipe, unrated)
    grid = Grid("random", BASE_MVA, tuple(Bus(bus) for bus in ids), tuple(branches), (), ())
    branches = _rated(random, recipe, grid, _balanced_guess(grid, offers, demand_w))
    links = _links(random, recipe, ids, island_of, offers)
    grid = replace(grid, branches=tuple(branches), links=tuple(links))
    network = build_dc_network(grid, "matpower")
    region_of_bus = _regions(random, recipe, network)
    return Market(recipe, grid, network, region_of_bus, tuple(offers), demand_w, rules)


def _edges(random: Random, recipe: Recipe, island_of: Sequence[int]) -> list[tuple[int, int]]:
    """A random tree in every island, then extra lines, then copies of some."""
    members = [[bus for bus in range(recipe.buses) if island_of[bus] == island] for island in range(recipe.islands)]
    edges = []
    for island in members:
        for place in range(1, len(island)):
            edges.append((island[random.randrange(place)], island[place]))
    for _ in range(recipe.extra_lines):
        island = random.choice(members)
        if len(island) > 2:
            head, tail = random.sample(island, 2)
            edges.append((head, tail))
    for _ in range(recipe.parallel if edges else 0):
        edges.append(random.choice(edges))
    return edges


def _branch(random: Random, recipe: Recipe, number: int, ids: Sequence[str], edge: tuple[int, int]) -> Branch:
    reactance = round(random.uniform(0.02, 0.3), 4)
    return Branch(f"L{number}", ids[edge[0]], ids[edge[1]], round(reactance / 4, 4), reactance)


def _with_negative_reactances(random: Random, recipe: Recipe, branches: list[Branch]) -> list[Branch]:
    """Some series reactances become negative, shifters get an angle; all Laplacian blocks stay well conditioned.

    A negative line is kept only where it is the stronger or the weaker of what it meets by a clear margin.
    """
    changed = list(branches)
    for place in random.sample(range(len(branches)), min(recipe.negative_reactances, len(branches))):
        trial = list(changed)
        trial[place] = replace(trial[place], reactance_pu=-round(random.uniform(0.5, 2.0), 4))
        if _well_conditioned(trial):
            changed = trial
    for place in random.sample(range(len(branches)), min(recipe.shifters, len(branches))):
        tap, shift = round(random.uniform(0.95, 1.05), 3), round(random.uniform(-4.0, 4.0), 2)
        changed[place] = replace(changed[place], tap=tap, shift_deg=shift, transformer=True)
    return changed


def _well_conditioned(branches: Sequence[Branch]) -> bool:
    """Every bus keeps a clearly positive sum of susceptances that dominates its negative ones.

    Then every principal block of the Laplacian is diagonally close to one with positive lines only.
    """
    positive: dict[str, float] = {}
    negative: dict[str, float] = {}
    for branch in branches:
        side = positive if branch.reactance_pu > 0 else negative
        for bus in (branch.from_bus, branch.to_bus):
            side[bus] = side.get(bus, 0.0) + abs(1.0 / branch.reactance_pu)
    return all(positive.get(bus, 0.0) > 5.0 * value for bus, value in negative.items())


def _demand(random: Random, recipe: Recipe, ids: Sequence[str]) -> dict[str, int]:
    demand = {bus: random.randint(5_000_000, 120_000_000) for bus in ids if random.random() < 0.75}
    for bus in random.sample(ids, min(recipe.fixed_injections, len(ids))):
        demand[bus] = -random.randint(1_000_000, 60_000_000)
    return demand


def _offers(random: Random, recipe: Recipe, ids: Sequence[str], demand_w: Mapping[str, int]) -> list[Offer]:
    buses = random.sample(ids, min(recipe.generating_buses, len(ids)))
    total_w = max(10_000_000, sum(power for power in demand_w.values() if power > 0))
    offers = []
    for number in range(recipe.generators):
        size_w = round(total_w * recipe.supply_over_demand / recipe.generators * random.uniform(0.5, 1.5))
        fixed_w = round(size_w * random.choice([0.0, 0.0, 0.2]))
        steps = _curve(random, recipe, size_w - fixed_w)
        offers.append(Offer(f"G{number}", random.choice(buses), fixed_w, steps))
    for number in range(recipe.demand_bids):
        size_w = random.randint(1_000_000, 50_000_000)
        bid = Step(size_w, random.randint(5, 80) * MICRO)
        offers.append(Offer(f"D{number}", random.choice(ids), -size_w, (bid,)))
    return offers


def _curve(random: Random, recipe: Recipe, size_w: int) -> tuple[Step, ...]:
    count = random.randint(1, 4)
    low = -40 if recipe.negative_prices else 1
    if recipe.equal_prices:
        prices = [random.choice([20, 20, 35]) * MICRO for _ in range(count)]
    else:
        prices = [random.randint(low * 1000, 90_000) * 1000 + random.randint(0, 999) for _ in range(count)]
    width = max(1, size_w // count)
    return tuple(Step(width, price) for price in sorted(prices))


def _balanced_guess(grid: Grid, offers: Sequence[Offer], demand_w: Mapping[str, int]) -> FloatArray:
    """Every island's generation scaled to its demand: flows to size ratings by."""
    position = grid.bus_position
    supply, demand = np.zeros((2, len(grid.buses)))
    for bus, power in demand_w.items():
        demand[position[bus]] += power
    for offer in offers:
        supply[position[offer.bus]] += offer.fixed_w + sum(step.width_w for step in offer.steps)
    injection = np.zeros(len(grid.buses))
    for island in grid.islands:
        members = [position[bus] for bus in island]
        available, wanted = supply[members].sum(), demand[members].sum()
        if abs(available) > 1.0:
            injection[members] = supply[members] * (wanted / available) - demand[members]
    return injection


def _rated(random: Random, recipe: Recipe, grid: Grid, injection_w: FloatArray) -> list[Branch]:
    network = build_dc_network(grid, "matpower")
    angles = np.linalg.lstsq(network.laplacian.toarray(), injection_w, rcond=None)[0]
    flow = network.susceptance_w_per_rad * (network.incidence @ angles)
    branches = []
    for branch, power_w in zip(grid.branches, flow.tolist(), strict=True):
        if random.random() < recipe.rated_share:
            limit_mw = round(abs(power_w) * random.choice(SHARE_OF_FLOW) / 1e6 + random.uniform(1.0, 5.0), 6)
            limit_mw += 15.0 * abs(branch.shift_deg)
            reverse = Ratings(round(limit_mw * 0.8, 6)) if random.random() < 0.2 else None
            branch = replace(branch, ratings=Ratings(limit_mw), reverse=reverse)
        branches.append(branch)
    for place in random.sample(range(len(branches)), min(recipe.zero_capacity_lines, len(branches))):
        branches[place] = replace(branches[place], ratings=Ratings(0.0), reverse=None)
    return branches


def _links(
    random: Random, recipe: Recipe, ids: Sequence[str], island_of: Sequence[int], offers: Sequence[Offer]
) -> list[ControllableLink]:
    """Links anywhere; a link that must flow starts where there is always something to draw and to curtail."""
    links = []
    for number in range(recipe.links if len(ids) > 1 else 0):
        head, tail = random.sample(ids, 2)
        size = round(random.uniform(2.0, 60.0), 6)
        links.append(ControllableLink(f"H{number}", head, tail, -size if random.random() < 0.5 else 0.0, size))
    for number in range(recipe.must_flow_links if len(ids) > 1 else 0):
        head, tail = random.sample(ids, 2)
        least = round(random.uniform(0.1, 1.0), 6)
        links.append(ControllableLink(f"M{number}", head, tail, least, least + 20.0))
    return links


def _regions(random: Random, recipe: Recipe, network: DcNetwork) -> tuple[str, ...]:
    """`each`: one bus a region; `scattered`: anyhow, so that regions fall apart; `connected`: grown from seeds."""
    count = min(recipe.regions, network.bus_count)
    if recipe.cut == "each":
        return tuple(f"R{bus}" for bus in range(network.bus_count))
    if recipe.cut == "scattered":
        return tuple(f"R{random.randrange(count)}" for _ in range(network.bus_count))
    return _grown(random, network, count)


def _grown(random: Random, network: DcNetwork, count: int) -> tuple[str, ...]:
    owner: list[str | None] = [None] * network.bus_count
    for region, bus in enumerate(random.sample(range(network.bus_count), count)):
        owner[bus] = f"R{region}"
    pairs = list(zip(network.from_bus.tolist(), network.to_bus.tolist(), strict=True))
    while True:
        open_pairs = [(a, b) for a, b in pairs if (owner[a] is None) != (owner[b] is None)]
        if not open_pairs:
            break
        head, tail = random.choice(open_pairs)
        owner[head], owner[tail] = owner[head] or owner[tail], owner[tail] or owner[head]
    return tuple(name or "R0" for name in owner)


def integers(values: Sequence[int]) -> IntArray:
    """A 64-bit array."""
    return np.array(values, dtype=np.int64)


@st.composite
def recipes(draw: st.DrawFn, *, most_buses: int = 30, gentle: bool = False) -> Recipe:
    """Recipes of all kinds; `gentle` leaves out what may force demand to be shed or limits to be violated."""
    buses = draw(st.integers(3, most_buses))
    few = st.integers(0, 2)
    return Recipe(
        seed=draw(st.integers(0, 2**32 - 1)),
        buses=buses,
        extra_lines=draw(st.integers(0, buses)),
        parallel=draw(few),
        negative_reactances=draw(few),
        shifters=draw(few),
        islands=draw(st.sampled_from([1, 1, 1, 2, 3])),
        links=draw(few),
        must_flow_links=0 if gentle else draw(st.sampled_from([0, 0, 1])),
        zero_capacity_lines=0 if gentle else draw(st.sampled_from([0, 0, 1, 2])),
        regions=draw(st.integers(1, min(6, buses))),
        cut=draw(st.sampled_from(["connected", "connected", "scattered", "each"])),
        generators=draw(st.integers(1, 8)),
        generating_buses=draw(st.integers(1, min(5, buses))),
        supply_over_demand=draw(st.sampled_from([1.2, 1.8, 3.0] if gentle else [0.5, 1.0, 1.8, 3.0])),
        demand_bids=draw(few),
        fixed_injections=draw(few),
        equal_prices=draw(st.booleans()),
        negative_prices=draw(st.booleans()),
    )
