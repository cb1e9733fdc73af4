"""Exhaustive search of the protocol: every order, loss and duplication of messages, every crash, in small worlds.

    python -m coordinator.settlement.escrow.model [--in-flight K] [--window BLOCKS] [--scenario NAME] [--large]

The transition functions are the product's. A state is a world (all chains) and the set of messages in flight, at
most K: a proof of any final event, sent by anybody at any time. A message may be delivered, delivered and kept (a
duplicate), or lost; a crash of a node loses all that is on its way to it. Since final events can be sent again for
ever, K = 1 already reaches every order in which chains can see each other's events; a larger K
adds crashes that lose more at once.

In every world I1 to I9 are checked, and of I10 that decisions are in time. Liveness is then a property of the graph
of worlds: (a) no step leads back, so a run has finitely many; (b) where nothing that honest relays do changes the
world, all is settled; (c) each such step stays possible until the world changes. So fair delivery ends every run in
a settled world, and from each reachable world one is reachable.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

from coordinator.settlement.escrow import guards
from coordinator.settlement.escrow.errors import InvariantViolated, RegionHalted
from coordinator.settlement.escrow.invariants import check, check_settled
from coordinator.settlement.escrow.memory import RegionMemory
from coordinator.settlement.escrow.proofs import ProvenEvent
from coordinator.settlement.escrow.scenarios import ASSET, LARGE_SCENARIOS, SCENARIOS, SHOP, Scenario, build, names
from coordinator.settlement.escrow.world import HubChain, RegionChain, World, chain_id

TO_HUB = -1
Chain = HubChain | RegionChain
Message = tuple[int, ProvenEvent]
Extra = Callable[[World], Iterator[World]]


def no_extra(_world: World) -> Iterator[World]:
    """The steps of the protocol and nothing else."""
    return iter(())


@dataclass
class Graph:
    """What a search found. `states` counts worlds with messages in flight, `steps` per world what changes it."""

    scenario: Scenario
    worlds: list[World] = field(default_factory=list)
    helpful: list[tuple[int, ...]] = field(default_factory=list)
    steps: list[tuple[int, ...]] = field(default_factory=list)
    states: int = 0
    transitions: int = 0
    settled: int = 0


class Explorer:
    """Breadth first over (world, messages in flight); worlds are numbered in the order in which they are found.

    Equal chains are made one object, so that a message is taken in once by each, and worlds compare by identity.
    """

    def __init__(self, scenario: Scenario, in_flight: int, extra: Extra = no_extra) -> None:
        self._scenario, self._in_flight, self._extra = scenario, in_flight, extra
        self._chains: dict[Hashable, Chain] = {}
        self._known: set[int] = set()
        self._took: dict[tuple[int, int], Chain] = {}
        self._numbers: dict[tuple[int, ...], int] = {}
        self._bits: dict[Message, int] = {}
        self._messages: list[Message] = []
        self._sendable: list[tuple[int, ...]] = []
        self._helpful: list[tuple[int, ...]] = []
        self._moves: list[tuple[int, ...]] = []
        self._delivered: dict[tuple[int, int], int] = {}
        self.graph = Graph(scenario)
        start = build(scenario)
        self._supply = start.supply()
        self._number(start)

    def run(self) -> Graph:
        """Visit every reachable state, checking each world once."""
        frontier: list[tuple[int, int]] = [(0, 0)]
        seen = {(0, 0)}
        while frontier:
            following: list[tuple[int, int]] = []
            for world, flying in frontier:
                for state in self._successors(world, flying):
                    self.graph.transitions += 1
                    if state not in seen:
                        seen.add(state)
                        following.append(state)
            frontier = following
        self.graph.states = len(seen)
        self._close_graph()
        return self.graph

    def _successors(self, world: int, flying: int) -> Iterator[tuple[int, int]]:
        for moved in self._moves[world]:
            yield moved, flying
        if flying.bit_count() < self._in_flight:
            for bit in self._sendable[world]:
                if not flying >> bit & 1:
                    yield world, flying | 1 << bit
        hit: dict[int, int] = {}
        for bit in _bits(flying):
            after = self._deliver(world, bit)
            lost = flying & ~(1 << bit)
            yield after, lost
            yield after, flying
            yield world, lost
            target = self._messages[bit][0]
            hit[target] = hit.get(target, 0) | 1 << bit
        for mask in hit.values():
            yield world, flying & ~mask

    def _one(self, chain: Chain) -> Chain:
        """The object that stands for all chains equal to this one."""
        if id(chain) in self._known:
            return chain
        one = self._chains.setdefault(chain.snapshot(), chain)
        self._known.add(id(one))
        return one

    def _number(self, world: World) -> int:
        regions = tuple(cast(RegionChain, self._one(region)) for region in world.regions)
        world = World(cast(HubChain, self._one(world.hub)), regions)
        key = (id(world.hub), *(id(region) for region in world.regions))
        if key in self._numbers:
            return self._numbers[key]
        number = self._numbers[key] = len(self._numbers)
        check(world.observation(self._supply))
        self.graph.worlds.append(world)
        self._sendable.append(tuple(self._bit(message) for message in _messages(world)))
        self._helpful.append(())
        self._moves.append(())
        self._helpful[number] = tuple(self._number(moved) for moved in _helpful_moves(self._scenario, world))
        others = (*_other_moves(self._scenario, world), *self._extra(world))
        self._moves[number] = (*self._helpful[number], *(self._number(moved) for moved in others))
        return number

    def _bit(self, message: Message) -> int:
        if message not in self._bits:
            self._bits[message] = len(self._messages)
            self._messages.append(message)
        return self._bits[message]

    def _deliver(self, number: int, bit: int) -> int:
        key = (number, bit)
        if key not in self._delivered:
            self._delivered[key] = self._number(self._after(self.graph.worlds[number], bit))
        return self._delivered[key]

    def _after(self, world: World, bit: int) -> World:
        target, proven = self._messages[bit]
        chain: Chain = world.hub if target == TO_HUB else world.regions[target]
        key = (id(chain), bit)
        if key not in self._took:
            blocked = isinstance(chain, HubChain) and _censored(self._scenario, chain, proven)
            self._took[key] = chain if blocked else self._one(chain.took(proven))
        after = self._took[key]
        if after is chain:
            return world
        return world.with_hub(after) if isinstance(after, HubChain) else world.with_region(target, after)

    def _close_graph(self) -> None:
        """The steps between worlds: all, and those that honest relays and hub leaders keep possible."""
        moves: dict[int, set[int]] = {number: set(moved) for number, moved in enumerate(self._moves)}
        for (number, _), after in self._delivered.items():
            moves[number].add(after)
        for number in range(len(self.graph.worlds)):
            self.graph.steps.append(tuple(sorted(moves[number] - {number})))
            helpful = {*self._helpful[number], *(self._deliver(number, bit) for bit in self._sendable[number])}
            self.graph.helpful.append(tuple(sorted(helpful - {number})))


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _messages(world: World) -> Iterator[Message]:
    """Everything that somebody could send now."""
    for place, region in enumerate(world.regions):
        for proven in world.hub.proofs():
            yield place, proven
        for proven in region.proofs():
            yield TO_HUB, proven


def _censored(scenario: Scenario, hub: HubChain, proven: ProvenEvent) -> bool:
    """Whether the leader of this height leaves the receipt out."""
    if scenario.censored < 0 or hub.height % 2:
        return False
    return proven.chain_id == chain_id(names(scenario)[scenario.censored])


def _helpful_moves(scenario: Scenario, world: World) -> Iterator[World]:
    """What happens without messages: the hub ends its block, unless only its height changed; it hears of epochs."""
    if _block_matters(scenario, world.hub):
        yield world.finished()
    for region in world.regions:
        name = region.books.region
        if world.hub.books.regions[name].epoch < region.epoch:
            books = world.hub.books.reached(name, region.epoch)
            yield world.with_hub(replace(world.hub, observed=replace(world.hub.observed, books=books)))


def _block_matters(scenario: Scenario, hub: HubChain) -> bool:
    records = hub.books.records.values()
    undecided = [record for record in records if record.outcome is None]
    if scenario.short:
        last_chance = any(record.opening.open.replaces and hub.height >= record.deadline_height for record in undecided)
        return not last_chance and bool(hub.pending or undecided)
    waiting = any(hub.height <= record.deadline_height or guards.closable(record, hub.height) for record in records)
    next_leader = scenario.censored >= 0 and hub.height % 2 == 0
    return bool(hub.pending or undecided or waiting or next_leader)


def _other_moves(scenario: Scenario, world: World) -> Iterator[World]:
    """What may also happen: money is spent locally, an epoch ends."""
    if scenario.spender >= 0 and not world.regions[scenario.spender].books.free(SHOP, ASSET):
        region = world.regions[scenario.spender]
        account = next(account for account, _ in region.books.balances if account != SHOP)
        if region.books.free(account, ASSET) >= 10:
            yield world.with_region(scenario.spender, region.wrote(lambda books: _spend(books, account)))
    if scenario.mover >= 0 and world.regions[scenario.mover].epoch == 0:
        region = world.regions[scenario.mover]
        yield world.with_region(scenario.mover, replace(region, epoch=1))


def _spend(books: RegionMemory, account: bytes) -> RegionMemory:
    return books.transferred(account, SHOP, ASSET, 10)


def check_liveness(graph: Graph) -> None:
    """I10, as the module's docstring says: no step leads back, and helpful steps end only where all is settled."""
    _check_acyclic(graph)
    supply = graph.worlds[0].supply()
    for number, world in enumerate(graph.worlds):
        if not graph.helpful[number]:
            check_settled(world.observation(supply))
            graph.settled += 1


def _check_acyclic(graph: Graph) -> None:
    """Kahn's order exists."""
    indegree = [0] * len(graph.worlds)
    for following in graph.steps:
        for number in following:
            indegree[number] += 1
    ready = [number for number, count in enumerate(indegree) if count == 0]
    done = 0
    while ready:
        done += 1
        for number in graph.steps[ready.pop()]:
            indegree[number] -= 1
            if indegree[number] == 0:
                ready.append(number)
    if done != len(graph.worlds):
        raise InvariantViolated("I10", f"{len(graph.worlds) - done} worlds of '{graph.scenario.name}' lie on a cycle")


def explore(scenario: Scenario, in_flight: int, extra: Extra = no_extra) -> Graph:
    """Search one scenario. Raises InvariantViolated or RegionHalted where the protocol fails."""
    graph = Explorer(scenario, in_flight, extra).run()
    check_liveness(graph)
    return graph


def main(arguments: list[str] | None = None) -> int:
    """Search the scenarios and print what was explored."""
    every = (*SCENARIOS, *LARGE_SCENARIOS)
    parser = argparse.ArgumentParser(description="Exhaustive search of the escrow protocol with three regions.")
    parser.add_argument("--in-flight", type=int, default=1, metavar="K", help="messages in flight at once (default 1)")
    parser.add_argument("--window", type=int, metavar="BLOCKS", help="blocks from OPEN to D (default: per scenario)")
    parser.add_argument("--scenario", choices=[scenario.name for scenario in every], help="only this one")
    parser.add_argument("--large", action="store_true", help="also the worlds that take minutes")
    options = parser.parse_args(arguments)
    chosen = [scenario for scenario in every if options.scenario in (None, scenario.name)]
    if not options.large and options.scenario is None:
        chosen = list(SCENARIOS)
    print(f"{'scenario':<15}{'worlds':>9}{'settled':>9}{'states':>10}{'transitions':>13}{'seconds':>9}  result")
    for scenario in chosen:
        bounded = scenario if options.window is None else replace(scenario, window_blocks=options.window)
        started = time.perf_counter()
        try:
            graph = explore(bounded, options.in_flight)
        except (InvariantViolated, RegionHalted) as error:
            print(f"{scenario.name:<15} violated: {error}")
            return 1
        figures = f"{len(graph.worlds):>9}{graph.settled:>9}{graph.states:>10}{graph.transitions:>13}"
        print(f"{scenario.name:<15}{figures}{time.perf_counter() - started:>9.1f}  no violation", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
