"""A region that is silent for an interval: the others couple without it, exactly, and it comes back by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from actors.cases import interval_demand_w, interval_offers, market_intervals
from coordinator.market.central import solve_central
from coordinator.market.certificate import CertificateError, verify
from coordinator.market.clearing import Problem
from coordinator.market.coupling.alone import clear_alone
from coordinator.market.coupling.hub import Hub
from coordinator.market.coupling.public import PublicNetwork
from coordinator.market.coupling.region import RegionAgent
from coordinator.market.coupling.session import split_book
from coordinator.market.coupling.silent_region import SilentRegion
from coordinator.market.coupling.wire import ProtocolError
from coordinator.market.linear_program import InfeasibleError
from coordinator.market.offers import MICRO, MarketRules
from coordinator.settlement.congestion_rent import settle
from protos.gridaccord.v1 import coupling_pb2 as pb
from tests.actors.support import EXAMPLE
from tests.support.coupling import MW, STANDARD_WINDOW, generator, interval, small_market
from tests.support.random_grids import Market, Recipe, cook
from topology.arrays import IntArray
from topology.case_files import choose_regions, read_case
from topology.dc import PowerTransferFactors, build_dc_network

ZERO = np.zeros(0, dtype=np.int64)


class Consortium:
    """Regions and a hub over a market's regions; any of them may be silent in an interval."""

    def __init__(self, market: Market) -> None:
        self.cut = market.cut()
        secret = hashlib.sha256(b"consortium").digest()
        self.agents = [RegionAgent(region, market.rules, secret) for region in self.cut.regions]
        self.public = PublicNetwork(self.cut.interconnection, [agent.boundary_equivalent() for agent in self.agents])
        for agent in self.agents:
            agent.join(self.public)
        self.hub = Hub(self.public, market.rules)
        self.missed: dict[int, list[bytes]] = {}
        self.injection: dict[int, IntArray] = {}

    def couple(self, market: Market, number: int = 0, silent: Mapping[int, IntArray] | None = None) -> int:
        """One interval; `silent` are regions with the injection they are held at. The objective of the others."""
        silent = silent or {}
        stand_ins = {index: SilentRegion(index, self.public, held_fine=held) for index, held in silent.items()}
        agents = {agent.index: agent for agent in self.agents if agent.index not in silent}
        for index in agents:
            for opening in self.missed.pop(index, []):
                self.agents[index].catch_up(opening)
        hour, tables = interval(number), split_book(self.cut, market.tabulated().book, market.rules)
        commits = {k: agent.commit(hour, tables[k], STANDARD_WINDOW) for k, agent in agents.items()}
        commits |= {k: region.commit(hour) for k, region in stand_ins.items()}
        self.hub.start(hour, _ordered(commits), silent=silent)
        for round_number in range(1, 30):
            gates = self.hub.gates
            submissions = {k: agent.submit() for k, agent in agents.items()}
            submissions |= {k: region.submit(hour, round_number, gates) for k, region in stand_ins.items()}
            follower = self.hub.copy()
            result = self.hub.clear(_ordered(submissions))
            follower.adopt(_ordered(submissions), result)
            injections = {k: agent.inject(result) for k, agent in agents.items()}
            injections |= {k: region.inject(hour) for k, region in stand_ins.items()}
            state = self.hub.boundary_state(_ordered(injections))
            follower.adopt_state(_ordered(injections), state)
            votes = {k: agent.vote(state) for k, agent in agents.items()}
            votes |= {k: region.vote(result) for k, region in stand_ins.items()}
            decision = self.hub.tally(_ordered(votes))
            assert follower.tally(_ordered(votes)) == decision
            for agent in agents.values():
                agent.open_round(decision.opening)
            for k in silent:
                self.missed.setdefault(k, []).append(decision.opening)
            if decision.agreement:
                for k, agent in agents.items():
                    agent.close()
                    message = pb.BoundaryInjection.FromString(injections[k]).intervals[0]
                    self.injection[k] = np.array(message.injection_fine, dtype=np.int64)
                return decision.agreement.objective_micro_per_h
        pytest.fail("no agreement in 30 rounds")

    def nodal_injection_w(self, market: Market, live: Sequence[int]) -> IntArray:
        """What the regions that take part inject at each bus of the uncut network."""
        tables = split_book(self.cut, market.tabulated().book, market.rules)
        outcome, injection = self.hub.public_outcome(), np.zeros(market.network.bus_count, dtype=np.int64)
        for k in live:
            region = self.cut.regions[k]
            injection[region.buses] = tables[k].injection_w(self.agents[k].clearing.accepted_w)
        np.subtract.at(injection, market.network.link_from, outcome.link_w)
        np.add.at(injection, market.network.link_to, outcome.link_w)
        return injection

    def tie_flow_w(self) -> IntArray:
        """As agreed in public."""
        return self.public.tie_flow_w(self.hub.public_outcome().boundary_angle)


def _ordered(by_region: Mapping[int, bytes]) -> list[bytes]:
    return [by_region[index] for index in sorted(by_region)]


def rts() -> Market:
    """The first hour of the RTS-GMLC example, by area: three regions, five ties and a DC link."""
    case = read_case(EXAMPLE / "2020-07-06-ties-0.4")
    first = market_intervals(case, "rts")[0]
    network = build_dc_network(case.grid)
    regions = choose_regions(case.grid, network, "area")
    offers = interval_offers(case, first, segments=3, relax_minimum=True, asset="EUR")
    demand = interval_demand_w(case.grid, first)
    return Market(None, case.grid, network, regions, tuple(offers), demand, MarketRules())


def ring(regions: int) -> Market:
    """Regions of two buses in a ring, cheap in the first and dearer one by one; a link from the last to the first."""
    size = 2 * regions
    lines = [(bus, (bus + 1) % size, 0.1) for bus in range(size)]
    offers = [generator(f"g{bus}", bus, (90 * MW, 20 + 7 * bus), (90 * MW, 24 + 7 * bus)) for bus in range(0, size, 2)]
    names = "".join(letter * 2 for letter in "ABCDEF"[:regions])
    demand = dict.fromkeys(range(1, size, 2), 40 * MW)
    return small_market(
        lines,
        names,
        offers,
        demand,
        limits_mw={1: 30.0, 2: 35.0},
        links=[(size - 1, 0, -15.0, 15.0), (0, 3, -5.0, 5.0)],
    )


def meshed(regions: int) -> Market:
    return cook(Recipe(seed=11 + regions, buses=24, extra_lines=16, regions=regions, shifters=1, generators=8, links=1))


MARKETS = {
    "ring of 3": lambda: ring(3),
    "ring of 4": lambda: ring(4),
    "meshed 3": lambda: meshed(3),
    "meshed 4": lambda: meshed(4),
    "RTS-GMLC": rts,
}


def check_money(consortium: Consortium) -> None:
    """Transfers sum to zero, and what rounding leaves over is cents: prices and angles at every boundary fit together,
    those of a silent region too."""
    settlement = settle(consortium.public, consortium.hub.public_outcome(), 3600)
    assert settlement.total == 0
    assert abs(settlement.rounding) <= MICRO // 10


@pytest.mark.parametrize("name", MARKETS)
@pytest.mark.parametrize("silent", [0, 2])
def test_the_others_agree_with_a_silent_region_at_zero_exchange(name: str, silent: int) -> None:
    market = MARKETS[name]()
    consortium = Consortium(market)
    together = consortium.couple(market, 0)
    check_money(consortium)
    alone_table = split_book(consortium.cut, market.tabulated().book, market.rules)[silent]
    alone = clear_alone(consortium.cut.regions[silent], alone_table, market.rules)
    later = market.next_interval(1) if market.recipe else market
    others = consortium.couple(market, 1, {silent: ZERO})
    check_money(consortium)
    assert others + alone.certificate.objective_micro_per_h >= together - MICRO
    live = [k for k in range(len(consortium.agents)) if k != silent]
    blocked = consortium.public.links_into([silent])
    assert not consortium.hub.public_outcome().link_w[blocked].any()
    shift = market.network.shift_flow_w.copy()
    shift[consortium.cut.regions[silent].branches] = 0
    unshifted = replace(market, network=replace(market.network, shift_flow_w=shift))
    expected = flows_w(unshifted, consortium.nodal_injection_w(market, live))[consortium.cut.tie_branches]
    assert np.abs(expected - consortium.tie_flow_w()).max() <= 2
    assert_exact_again(consortium, later, 2)


@pytest.mark.parametrize("name", MARKETS)
def test_the_others_agree_with_a_silent_region_held_at_its_last_exchange(name: str) -> None:
    market, silent = MARKETS[name](), 1
    consortium = Consortium(market)
    consortium.couple(market, 0)
    last_w = consortium.nodal_injection_w(market, range(len(consortium.agents)))
    held = consortium.injection[silent]
    consortium.couple(market, 1, {silent: held})
    check_money(consortium)
    live = [k for k in range(len(consortium.agents)) if k != silent]
    injection = consortium.nodal_injection_w(market, live)
    buses = consortium.cut.regions[silent].buses
    injection[buses] = last_w[buses]
    expected = flows_w(market, injection)[consortium.cut.tie_branches]
    assert np.abs(expected - consortium.tie_flow_w()).max() <= 2
    assert_exact_again(consortium, market, 2)


def flows_w(market: Market, injection_w: IntArray) -> IntArray:
    """Flows of the uncut network by its own factors: what physics makes of these injections."""
    network = market.network
    angle = PowerTransferFactors(network).angles_rad(injection_w.astype(np.float64))
    drop = angle[network.from_bus] - angle[network.to_bus]
    return np.rint(network.susceptance_w_per_rad * drop + network.shift_flow_w).astype(np.int64)


def assert_exact_again(consortium: Consortium, market: Market, number: int) -> None:
    """Everybody is back: the interval is the optimum of the whole."""
    objective = consortium.couple(market, number)
    check_money(consortium)
    central = solve_central(market.problem()).objective_micro_per_h
    assert abs(objective - central) <= 1e-6 * abs(central) + MICRO


def test_two_silent_regions_and_the_rest_still_couple() -> None:
    market = ring(4)
    consortium = Consortium(market)
    consortium.couple(market, 0, {1: ZERO, 3: ZERO})
    check_money(consortium)
    assert_exact_again(consortium, market, 1)


def test_a_silent_region_that_is_an_island_fed_by_a_link_gets_nothing() -> None:
    offers = [generator("cheap", 0, (100 * MW, 20)), generator("dear", 1, (100 * MW, 50))]
    market = small_market([], "AB", offers, {1: 60 * MW}, links=[(0, 1, -30, 30)])
    consortium = Consortium(market)
    consortium.couple(market, 0)
    assert consortium.hub.public_outcome().link_w.tolist() == [30 * MW]
    consortium.couple(market, 1, {1: consortium.injection[1]})
    assert consortium.hub.public_outcome().link_w.tolist() == [0]
    check_money(consortium)


def test_a_result_that_lets_a_blocked_link_flow_is_refused() -> None:
    market = ring(3)
    consortium = Consortium(market)
    hour = interval(0)
    stand_in = SilentRegion(2, consortium.public)
    tables = split_book(consortium.cut, market.tabulated().book, market.rules)
    live = consortium.agents[:2]
    commits = [agent.commit(hour, tables[agent.index], STANDARD_WINDOW) for agent in live]
    consortium.hub.start(hour, [*commits, stand_in.commit(hour)], silent={2})
    follower = consortium.hub.copy()
    submissions = [*(agent.submit() for agent in live), stand_in.submit(hour, 1, ())]
    message = pb.CouplingResult.FromString(consortium.hub.clear(submissions))
    message.intervals[0].link_w[0] += MW
    with pytest.raises(CertificateError, match="controllable link 0"):
        follower.adopt(submissions, message.SerializeToString(deterministic=True))


def test_a_held_injection_of_the_wrong_size_is_refused() -> None:
    consortium = Consortium(ring(3))
    with pytest.raises(ProtocolError, match="held boundary injections"):
        SilentRegion(0, consortium.public, held_fine=np.zeros(9, dtype=np.int64))


@pytest.mark.parametrize("name", MARKETS)
def test_a_region_that_is_cut_off_clears_alone_to_a_certified_optimum(name: str) -> None:
    market = MARKETS[name]()
    cut = market.cut()
    for region, table in zip(cut.regions, split_book(cut, market.tabulated().book, market.rules), strict=True):
        alone = clear_alone(region, table, market.rules)
        assert verify(Problem(region.network, table, market.rules), alone.clearing) == alone.certificate
        optimum = solve_central(Problem(region.network, table, market.rules)).objective_micro_per_h
        assert abs(alone.certificate.objective_micro_per_h - optimum) <= 1e-6 * abs(optimum) + MICRO


def test_held_exchange_is_delivered_whatever_it_costs() -> None:
    """10 MW more to deliver than its own load: the last 10 MW come from the dearer step."""
    market = ring(3)
    cut = market.cut()
    table = split_book(cut, market.tabulated().book, market.rules)[0]
    region, delivered = cut.regions[0], np.array([60 * MW, 0])
    free = clear_alone(region, table, market.rules).clearing
    held = clear_alone(region, table, market.rules, delivered).clearing
    assert int(held.accepted_w.sum()) == int(free.accepted_w.sum()) + 60 * MW
    assert (held.price > free.price).all()


def test_an_exchange_that_no_dispatch_can_hold_is_refused_with_the_remedy() -> None:
    market = ring(3)
    cut = market.cut()
    table = split_book(cut, market.tabulated().book, market.rules)[0]
    with pytest.raises(InfeasibleError, match="zero exchange"):
        clear_alone(cut.regions[0], table, market.rules, np.array([900 * MW, 0]))
    with pytest.raises(ValueError, match="boundary buses"):
        clear_alone(cut.regions[0], table, market.rules, np.array([1]))
