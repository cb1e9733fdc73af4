"""One simulated chain: its nodes, network, disks, oracles, and the faults that its options allow."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.consensus.config import Config
from coordinator.consensus.core import Core
from coordinator.consensus.journal import Record, VoteRecord
from coordinator.consensus.messages import Blocks, Message, Proposal
from coordinator.simulation.application import (
    Application,
    Books,
    ChainState,
    Notes,
    Operations,
    draw_change,
)
from coordinator.simulation.disk import Entry
from coordinator.simulation.network import Network
from coordinator.simulation.node import Node
from coordinator.simulation.options import DELTA_NS, Options
from coordinator.simulation.oracle import Oracle
from coordinator.simulation.trace import describe
from coordinator.simulation.world import World

_DOWN_DELTAS = 20
_NEVER = -1
MakeNode = Callable[["Chain", int], Node]


class Chain:
    """All that runs on one chain. `make` makes the node of a number: honest ones by default."""

    def __init__(
        self,
        world: World,
        name: str,
        options: Options,
        seed: int,
        make: MakeNode = Node,
        books: Books | None = None,
        liars: tuple[int, ...] = (),
    ) -> None:
        self.world = world
        self.name = name
        self.options = options
        self.liars = liars
        self.application = Application(name, options, seed, Notes() if books is None else books)
        self.config = config_of(options)
        self.network = Network(options, self.application.nodes, world.rng)
        self.oracle = Oracle(self.application, liars)
        self.events = 0
        self.healed = False
        self._numbers: dict[bytes, tuple[int, ...]] = {}
        self._until_crash = self._steps_until(options.crash)
        self._until_full = self._steps_until(options.full_disk)
        self.crash_at: tuple[int, int] | None = None
        """For directed tests: this node crashes before its effect of this number."""
        self.effects_of: dict[int, int] = {}
        self.on_delivered: Callable[[Node, ChainState], None] | None = None
        self.operations: Callable[[Node, ChainState], Operations] | None = None
        self.nodes = [make(self, number) for number in range(self.application.nodes)]

    @property
    def honest(self) -> list[Node]:
        """Nodes that keep to the protocol."""
        return [node for node in self.nodes if node.is_honest]

    def begin_with(self, books: Books) -> None:
        """Other books at genesis, before anything has run."""
        self.application.begin_with(books)
        self.oracle = Oracle(self.application, self.liars)
        for node in self.nodes:
            node.state = self.application.genesis

    def start(self) -> None:
        """Boot all nodes, and let the environment begin."""
        for node in self.nodes:
            node.boot()
        self.world.after(DELTA_NS, self._disturb)

    # Messages.

    def numbers_of(self, key: bytes) -> tuple[int, ...]:
        """The nodes that hold a key, now or in another epoch."""
        if key not in self._numbers:
            application = self.application
            generations = max(state for node in self.nodes for state in node.state.registry.generations) + 1
            for node in self.nodes:
                for generation in range(generations + 1):
                    found = application.signer(node.seat, generation).public_key
                    others = self._numbers.get(found, ())
                    if node.number not in others:
                        self._numbers[found] = (*others, node.number)
        return self._numbers.get(key, ())

    def seat_of(self, number: int) -> int:
        """Whose keys a node has: its own."""
        return number

    def transmit(self, node: Node, recipients: tuple[bytes, ...], message: Message, extra_ns: int = 0) -> None:
        """Hand a message to the network."""
        if isinstance(message, Proposal):
            self.oracle.see_proposal(node.signer.public_key, message)
        elif isinstance(message, Blocks):
            for header in message.headers:
                self.oracle.see_header(header)
        label = f"{node.number}>{describe(message)}"
        key, number, after = node.signer.public_key, node.number, self.world.after
        for recipient in recipients:
            for target in self._numbers.get(recipient) or self.numbers_of(recipient):
                if target == number or not self.passes(node, target, message):
                    continue
                for delay_ns in self.network.delays_ns(number, target, self.world.now_ns):
                    after(delay_ns + extra_ns, self.nodes[target].receive, key, message, label)

    def passes(self, node: Node, target: int, message: Message) -> bool:
        """For directed tests: whether a message may pass at all."""
        return True

    # What nodes report.

    def stepped(self, node: Node, core: Core, label: str, effects: int) -> None:
        """A step is done: count it, write its line, ask the oracles."""
        self.events += 1
        self.world.events += 1
        state = core._state
        epoch, view = state.epoch, state.view
        self.world.trace.write(
            f"{self.world.now_ns} {self.name} {node.number} {label} {epoch} {view} "
            f"{state.final_view} {state.delivered.height} {effects}"
        )
        if node.is_honest:
            self.oracle.after_step(node, epoch, view)

    def note(self, node: Node, what: str) -> None:
        """A line of the trace that is no step."""
        self.world.trace.write(f"{self.world.now_ns} {self.name} {node.number} {what.replace(' ', '-')} - - - - -")

    def synced(self, node: Node, entry: Entry) -> None:
        """A journal entry is durable."""
        if isinstance(entry, VoteRecord) and node.is_honest:
            self.oracle.on_cast(node, entry)

    def recovered(self, node: Node, records: tuple[Record, ...]) -> None:
        """A node found these in its journal, and will count its votes among them."""
        if node.is_honest:
            for record in records:
                if isinstance(record, VoteRecord):
                    self.oracle.on_record(node, record)
                    self.oracle.on_cast(node, record)

    def delivered(self, node: Node, state: ChainState) -> None:
        """A node delivered a block."""
        if self.on_delivered is not None:
            self.on_delivered(node, state)

    # Application.

    def application_delay_ns(self) -> int:
        """How long the disk or the application takes for an answer."""
        if not self.options.slow_application:
            return DELTA_NS // 1000
        return int(self.world.rng.random() * DELTA_NS) if not self.healed else DELTA_NS // 20

    def operations_for(self, node: Node, parent: ChainState) -> Operations:
        """What a leader puts into its block."""
        rng = self.world.rng
        business = (b"note",) if self.operations is None else self.operations(node, parent)
        if self.options.membership and rng.random() < self.options.membership:
            return (*business, draw_change(rng, parent.registry))
        return business

    # Faults.

    def _steps_until(self, rate: float) -> int:
        """Steps until the next fault of a kind, drawn once instead of a draw a step."""
        return self.world.rng.randint(1, max(1, int(2 / rate))) if rate else _NEVER

    def crash_cut(self, node: Node, effects: int) -> int:
        """Before which effect of a step a node crashes; negative if it does not."""
        if self.crash_at is not None:
            return self._directed_cut(node, effects)
        if self.healed or not node.is_honest:
            return _NEVER
        self._until_full -= 1
        if self._until_full == 0:
            self._until_full = self._steps_until(self.options.full_disk)
            node.disk.full = True
        self._until_crash -= 1
        if self._until_crash:
            return _NEVER
        self._until_crash = self._steps_until(self.options.crash)
        return self.world.rng.randint(0, effects)

    def _directed_cut(self, node: Node, effects: int) -> int:
        before = self.effects_of.get(node.number, 0)
        self.effects_of[node.number] = before + effects
        assert self.crash_at is not None, "asked for by the caller"
        number, at = self.crash_at
        return at - before if node.number == number and before <= at < before + effects else _NEVER

    def crashed(self, node: Node) -> None:
        """What the crash does to the disk, and when the node comes back."""
        self.note(node, "crash")
        rng, options, disk = self.world.rng, self.options, node.disk
        lot = rng.random()
        is_torn = lot < options.torn
        disk.crash(rng, is_torn, ledger_ahead=not is_torn and lot < options.torn + options.ledger_ahead)
        if self.may_damage(node):
            self._damage_disk(node)
        pause_ns = DELTA_NS // 2 + int(rng.random() * _DOWN_DELTAS * DELTA_NS)
        self.world.after(pause_ns, self._restart, node)

    def _restart(self, node: Node) -> None:
        if node.core is None:
            node.boot()

    def may_damage(self, node: Node) -> bool:
        """Byzantine and damaged nodes together are never more than f."""
        if self.healed or node.damaged:
            return False
        for other in self.nodes:
            if other.damaged and other.is_recovered():
                other.damaged = False
        damaged = sum(other.damaged for other in self.nodes)
        return len(self.liars) + damaged < self.options.max_faulty

    def _damage_disk(self, node: Node) -> None:
        rng, options, disk = self.world.rng, self.options, node.disk
        if rng.random() < options.lost_disk:
            disk.lose_everything()
            self.note(node, "disk-lost")
        elif rng.random() < options.lost_sync:
            disk.lose_syncs(rng)
            self.note(node, "syncs-lost")
        elif rng.random() < options.bit_flip:
            disk.flip_bit(rng)
            self.note(node, "bit-flipped")
        else:
            return
        self.damage(node)

    def damage(self, node: Node) -> None:
        """From now on the node counts as damaged, until it has caught up and may vote."""
        node.damaged = True
        node.recover_height = len(self.oracle.finalized) - 1

    def _disturb(self) -> None:
        """The environment, once a delta until the network heals."""
        if self.healed:
            return
        rng, options = self.world.rng, self.options
        for source, target in self.network.disturb(self.world.now_ns):
            if rng.random() < 0.5:
                self.nodes[target].connected(self.nodes[source].signer.public_key)
        if options.crash_all and rng.random() < options.crash_all:
            for node in self.honest:
                if node.core is not None:
                    node.crash()
        if options.heartbeat_ns and rng.random() < 0.2:
            node = self.nodes[rng.randrange(len(self.nodes))]
            node.work(rng.random() < 0.5)
        self.world.after(DELTA_NS, self._disturb)

    def heal(self) -> list[Node]:
        """End the faults; gives the nodes that must make progress from now on.

        With `core_only` exactly f nodes are frozen: they neither send nor receive nor run. Byzantine nodes are frozen
        first, then damaged ones, then others by lot. Whoever sits in an epoch, n - f of them, a quorum, are awake.
        Without it every honest node is healed, and the Byzantine ones go on.
        """
        self.healed = True
        rng = self.world.rng
        for node in self.nodes:
            if node.damaged and node.is_recovered():
                node.damaged = False
        frozen: list[Node] = []
        if self.options.core_only:
            order = list(self.nodes)
            rng.shuffle(order)
            order.sort(key=lambda node: 0 if not node.is_honest else 1 if node.damaged else 2)
            frozen = order[: self.options.max_faulty]
        for node in frozen:
            node.frozen = True
            self.note(node, "frozen")
        self.network.heal([node.number for node in frozen])
        awake = [node for node in self.honest if not node.frozen]
        for node in awake:
            node.disk.full = False
            if node.core is None:
                node.boot()
        return awake

    def seated(self, nodes: list[Node]) -> list[Node]:
        """Those with a seat in the newest epoch that has begun."""
        registry = self.oracle.states[-1].registry
        seats = [node for node, _ in registry.current]
        return [node for node in nodes if node.seat in seats]


def config_of(options: Options) -> Config:
    """The core's configuration."""
    return Config(
        delta_ns=DELTA_NS,
        epoch_length=options.epoch_length,
        heartbeat_ns=options.heartbeat_ns,
        minimum_interval_ns=options.minimum_interval_ns,
        delta_cap_ns=options.delta_cap_ns,
        repair_cap_ns=8 * DELTA_NS,
    )
