"""One seed of a single chain: a safety phase with faults, then a liveness phase without.

Safety phase: faults as the options say, until SAFETY_DELTAS have passed or SAFETY_EVENTS have happened.

Liveness phase: the faults end. With `core_only` exactly f nodes are frozen, Byzantine and damaged ones first; every
other node is up and heals, and messages between them arrive within one delta. Without it every honest node heals and
the Byzantine ones go on. Then every healed node that holds a seat in the current epoch must deliver HEIGHTS_AFTER
blocks more than anybody had when the network healed, within `bound_ns`. A run lasts at least RUN_DELTAS or RUN_EVENTS.

The bound: when the network heals, timeouts may have grown to their cap, nodes sit in views that up to f + 1 silent
leaders spoil one after another, and a lost vote is repeated only by the retry timer, four assumed delays later: that
is (f + 3) * (pause + 7 * cap), once. The first finality resets the timeouts, and every block may then take f + 2 views
of pause + 7 deltas. To this come one standstill period and two intervals of the repair timer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from coordinator.simulation.byzantine import ByzantineNode, Cabal
from coordinator.simulation.chain import Chain
from coordinator.simulation.errors import LivenessFailure, SafetyFailure
from coordinator.simulation.node import Node
from coordinator.simulation.options import DELTA_NS, Fault, Options, draw
from coordinator.simulation.trace import Trace
from coordinator.simulation.world import World

SAFETY_DELTAS = 250
SAFETY_EVENTS = 8_000
RUN_DELTAS = 400
RUN_EVENTS = 10_000
HEIGHTS_AFTER = 5
_REAL_SIGNATURES_EVERY = 50


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to. `failure` is None, or one line with seed, time, chain and what broke."""

    seed: int
    events: int
    finalized: int
    crashes: int
    epochs: int
    healed_deltas: float
    """How long after the healing every node had made the progress demanded, in deltas."""
    trace_hash: str
    options: str
    failure_kind: str | None = None
    failure: str | None = None
    settlements: int = 0

    def line(self) -> str:
        """One line a seed."""
        result = "ok" if self.failure is None else f"{self.failure_kind}: {self.failure}"
        settled = f" settlements={self.settlements}" if self.settlements else ""
        return (
            f"seed={self.seed} events={self.events} finalized={self.finalized}{settled} epochs={self.epochs} "
            f"crashes={self.crashes} healed={self.healed_deltas:.0f} trace={self.trace_hash[:16]} {result}"
        )


def bound_ns(options: Options) -> int:
    """How long after the healing the progress may take; see the module's docstring."""
    pause_ns = max(options.heartbeat_ns, options.minimum_interval_ns)
    once_ns = (options.max_faulty + 3) * (pause_ns + 7 * options.delta_cap_ns)
    each_ns = (options.max_faulty + 2) * (pause_ns + 7 * DELTA_NS)
    return once_ns + HEIGHTS_AFTER * each_ns + pause_ns + 26 * DELTA_NS


def options_of(seed: int, faults: tuple[Fault, ...], validators: int | None) -> Options:
    """What a seed turns on."""
    options = draw(random.Random(f"options {seed}"), faults, validators)
    return replace(options, real_signatures=seed % _REAL_SIGNATURES_EVERY == _REAL_SIGNATURES_EVERY - 1)


def node_maker(options: Options, liars: tuple[int, ...]) -> Callable[[Chain, int], Node]:
    """Honest nodes, and one cabal of Byzantine ones."""
    cabal = Cabal()

    def make(chain: Chain, number: int) -> Node:
        if number in liars:
            return ByzantineNode(chain, number, options.byzantine[liars.index(number)], cabal)
        return Node(chain, number)

    return make


def make_chain(world: World, name: str, options: Options, seed: int) -> Chain:
    """A chain with its liars in place."""
    nodes = options.validators + options.spares
    liars = tuple(sorted(world.rng.sample(range(nodes), len(options.byzantine))))
    return Chain(world, name, options, seed, node_maker(options, liars), liars=liars)


class Simulation:
    """A run of one seed."""

    def __init__(
        self,
        seed: int,
        options: Options,
        sink: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.options = options
        self.world = World(random.Random(f"run {seed}"), Trace(sink))
        self.chain = make_chain(self.world, "chain", options, seed)
        self._healed_ns = 0
        self._done_ns = 0

    def run(self) -> Outcome:
        """Both phases; failures are part of the outcome."""
        return self._outcome(*failure_of(self._phases))

    def _phases(self) -> None:
        self.chain.start()
        self._safety_phase()
        self._liveness_phase()
        replay(self.chain)

    def _safety_phase(self) -> None:
        world = self.world
        world.run(SAFETY_DELTAS * DELTA_NS, lambda: world.events >= SAFETY_EVENTS)

    def _liveness_phase(self) -> None:
        world, chain = self.world, self.chain
        self._healed_ns = world.now_ns
        awake = chain.heal()
        target = max(node.height for node in chain.honest) + HEIGHTS_AFTER
        deadline_ns = world.now_ns + bound_ns(self.options)
        world.run(deadline_ns, lambda: all(node.height >= target for node in chain.seated(awake)))
        behind = [node for node in chain.seated(awake) if node.height < target]
        if behind:
            raise LivenessFailure(stuck(behind, target))
        self._done_ns = world.now_ns
        world.run(max(RUN_DELTAS * DELTA_NS, world.now_ns), lambda: world.events >= RUN_EVENTS)

    def _outcome(self, kind: str | None, failure: str | None) -> Outcome:
        world, chain = self.world, self.chain
        where = f"seed {self.seed}, t={world.now_ns / DELTA_NS:.1f} deltas, {world.trace.last}: {failure}"
        return Outcome(
            self.seed,
            world.events,
            len(chain.oracle.finalized) - 1,
            sum(node.restarts for node in chain.nodes),
            chain.oracle.finalized[-1].epoch + 1,
            max(0, self._done_ns - self._healed_ns) / DELTA_NS,
            world.trace.digest,
            self.options.line(),
            kind,
            None if failure is None else where,
        )


def failure_of(run: Callable[[], None]) -> tuple[str | None, str | None]:
    """What kind of failure a run ends in, and its words; None twice where it ends well."""
    try:
        run()
    except LivenessFailure as error:
        return "liveness", str(error)
    except Exception as error:
        # Also what the product raises: nothing but an oracle's verdict is expected here.
        return "safety", f"{type(error).__name__}: {error}"
    return None, None


def stuck(behind: list[Node], target: int) -> str:
    """Where the nodes stand that made no progress."""
    places = []
    for node in behind:
        position = "down" if node.core is None else f"epoch {node.position[0]} view {node.position[1]}"
        places.append(f"node {node.number} at height {node.height}, {position}")
    return f"healed, and height {target} is not reached in time by {'; '.join(places)}"


def replay(chain: Chain) -> None:
    """I11: executing the final blocks once more, from genesis and from their bytes alone, gives the same states."""
    application = chain.application
    best = max(chain.honest, key=lambda node: node.height)
    state = application.genesis
    for block in best.disk.all_blocks():
        payload = best.disk.payloads[block.header.payload_digest]
        after = application.execute_anew(state, block.header, payload)
        if after is None or after.header.state_root != block.header.state_root:
            raise SafetyFailure(f"I11: replaying block {block.header.height} gives another state")
        state = after


def run_seed(
    seed: int,
    faults: tuple[Fault, ...],
    validators: int | None = None,
    sink: Callable[[str], None] | None = None,
) -> Outcome:
    """One seed of a single chain."""
    options = options_of(seed, faults, validators)
    if sink is not None:
        sink(f"# seed {seed} {options.line()}")
    return Simulation(seed, options, sink).run()
