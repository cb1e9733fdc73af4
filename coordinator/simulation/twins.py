"""Small scope, exhaustively: Twins (Bano et al. 2020), and a crash at every boundary between two effects.

A Twins scenario has four validators, one of which runs twice with one key, so that it equivocates, forgets and
contradicts itself as two honest processes do. In each of the first views the five processes are divided in two, and
messages of that view do not cross until DIVIDED_DELTAS after the first process entered it, which is longer than its
timeouts. Leaders take turns as in the product, so which seat has the twin stands for the
choice of leaders. A process and its twin are alike: of two scenarios that differ only in their exchange one is run.

    python -m coordinator.simulation.twins [--views 4] [--sample N] [--seed S] [--start I] [--stop J]
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.errors import LocalMisuse, SafetyViolation
from coordinator.consensus.messages import Message, Proposal, Vote
from coordinator.simulation.byzantine import UnwatchedNode
from coordinator.simulation.chain import Chain
from coordinator.simulation.errors import LivenessFailure, SafetyFailure
from coordinator.simulation.node import Node
from coordinator.simulation.options import DELTA_NS, Options
from coordinator.simulation.simulation import stuck
from coordinator.simulation.trace import Trace
from coordinator.simulation.world import World

SIZE = 4
SECOND = SIZE
"""Number of the second process of the twin's key."""
DIVISIONS = 1 << SIZE
"""Ways to divide five processes in two."""
DIVIDED_DELTAS = 6
_HEIGHT = 2
_BOUND_DELTAS = 400
_FAILURES = (SafetyFailure, LivenessFailure, SafetyViolation, LocalMisuse)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`seat` has the twin. In view v, bit i - 1 of `divisions[v - 1]` says that process i is not with process 0."""

    seat: int
    divisions: tuple[int, ...]

    def side(self, process: int, view: int) -> int:
        """On which side a process is in a view; all are together after the last division."""
        if process == 0 or not 1 <= view <= len(self.divisions):
            return 0
        return self.divisions[view - 1] >> (process - 1) & 1

    def exchanged(self) -> Scenario:
        """The same with the two processes of the twin's key exchanged."""
        return Scenario(self.seat, tuple(self._exchanged(view) for view in range(1, len(self.divisions) + 1)))

    def _exchanged(self, view: int) -> int:
        sides = [self.side(process, view) for process in range(SIZE + 1)]
        sides[self.seat], sides[SECOND] = sides[SECOND], sides[self.seat]
        if sides[0]:
            sides = [1 - side for side in sides]
        return sum(side << (process - 1) for process, side in enumerate(sides) if process)


def scenarios(views: int) -> Iterator[Scenario]:
    """All scenarios of so many views, one of each pair that is alike."""
    for seat in range(SIZE):
        for divisions in itertools.product(range(DIVISIONS), repeat=views):
            scenario = Scenario(seat, divisions)
            if divisions <= scenario.exchanged().divisions:
                yield scenario


def sampled(seed: int, count: int, views: int) -> list[Scenario]:
    """Some scenarios."""
    rng = random.Random(f"twins {seed}")
    drawn = []
    for _ in range(count):
        divisions = tuple(rng.randrange(DIVISIONS) for _ in range(views))
        drawn.append(Scenario(rng.randrange(SIZE), divisions))
    return drawn


class TwinsChain(Chain):
    """A chain of five processes and four keys, divided as a scenario says."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self._scenario = scenario
        self._entered_ns: dict[int, int] = {}
        liars = (scenario.seat, SECOND)
        options = Options(SIZE, spares=1, epoch_length=1000)
        super().__init__(world, "twins", options, 0, self._make, liars=liars)
        self.network.fixed_delay_ns = DELTA_NS // 10

    def _make(self, chain: Chain, number: int) -> Node:
        return UnwatchedNode(chain, number) if number in self.liars else Node(chain, number)

    def seat_of(self, number: int) -> int:
        """Two processes have the twin's key."""
        return self._scenario.seat if number == SECOND else number

    def passes(self, node: Node, target: int, message: Message) -> bool:
        """Messages of a view stay on their side; what has no view is of the view that its sender is in."""
        view = message.view if isinstance(message, Vote | Proposal | Certificate) else node.position[1]
        now_ns = self.world.now_ns
        if now_ns - self._entered_ns.setdefault(view, now_ns) >= DIVIDED_DELTAS * DELTA_NS:
            return True
        return self._scenario.side(node.number, view) == self._scenario.side(target, view)


def run_scenario(scenario: Scenario) -> int:
    """Run one; gives the number of events. Raises what an oracle or the core raises."""
    world = World(random.Random(0), Trace())
    chain = TwinsChain(world, scenario)
    chain.start()
    world.run(_BOUND_DELTAS * DELTA_NS, lambda: all(node.height >= _HEIGHT for node in chain.honest))
    behind = [node for node in chain.honest if node.height < _HEIGHT]
    if behind:
        raise LivenessFailure(stuck(behind, _HEIGHT))
    return world.events


# Crashes.

CRASH_VIEWS = 3


def crash_points() -> list[tuple[int, int]]:
    """Every node and every effect that it carries out in a run of three views."""
    chain = _crash_run((-1, 0))
    return [(node, at) for node in sorted(chain.effects_of) for at in range(chain.effects_of[node])]


def run_crash(point: tuple[int, int], *, ledger_ahead: bool = False) -> int:
    """The run with a crash before one effect of one node; gives the number of events.

    With `ledger_ahead` final blocks outlive it that came after the journal was last synchronised; else a torn record
    may.
    """
    chain = _crash_run(point, ledger_ahead)
    target = CRASH_VIEWS + 2
    chain.world.run(_BOUND_DELTAS * DELTA_NS, lambda: all(node.height >= target for node in chain.nodes))
    behind = [node for node in chain.nodes if node.height < target]
    if behind:
        raise LivenessFailure(f"crash of node {point[0]} before effect {point[1]}: {stuck(behind, target)}")
    if sum(node.restarts for node in chain.nodes) != 1:
        raise SafetyFailure(f"node {point[0]} did not crash before effect {point[1]}")
    return chain.world.events


def _crash_run(point: tuple[int, int], ledger_ahead: bool = False) -> Chain:
    world = World(random.Random(f"crash {point}"), Trace())
    torn = Options(SIZE, epoch_length=CRASH_VIEWS, torn=0.5)
    options = replace(torn, torn=0.0, ledger_ahead=1.0) if ledger_ahead else torn
    chain = Chain(world, "crash", options, 0)
    chain.network.fixed_delay_ns = DELTA_NS // 10
    chain.crash_at = point
    chain.start()
    world.run(_BOUND_DELTAS * DELTA_NS, lambda: min(node.height for node in chain.nodes) >= CRASH_VIEWS)
    return chain


def main(arguments: list[str] | None = None) -> int:
    """Run scenarios and all crash points, and say how many."""
    parser = argparse.ArgumentParser(description="Twins scenarios of four validators, and crashes at every boundary.")
    parser.add_argument("--views", type=int, default=4, help="views that are divided (default 4)")
    parser.add_argument("--sample", type=int, help="only so many, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the first scenario, to divide the work")
    parser.add_argument("--stop", type=int, help="the scenario to stop before")
    options = parser.parse_args(arguments)
    if options.sample is not None:
        chosen: Iterator[Scenario] = iter(sampled(options.seed, options.sample, options.views))
    else:
        chosen = itertools.islice(scenarios(options.views), options.start, options.stop)
    count = events = failures = 0
    for scenario in chosen:
        count += 1
        try:
            events += run_scenario(scenario)
        except _FAILURES as error:
            failures += 1
            print(f"{scenario}: {type(error).__name__}: {error}")
        if count % 1000 == 0:
            print(f"{count} scenarios, {events} events, {failures} failures", file=sys.stderr, flush=True)
    print(f"twins: {count} scenarios of {options.views} views, {events} events, {failures} failures")
    points = crash_points()
    for point, ledger_ahead in itertools.product(points, (False, True)):
        try:
            run_crash(point, ledger_ahead=ledger_ahead)
        except _FAILURES as error:
            failures += 1
            print(f"crash {point}, ledger ahead {ledger_ahead}: {type(error).__name__}: {error}")
    print(f"crashes: {len(points)} boundaries, each twice, {failures} failures in all")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
