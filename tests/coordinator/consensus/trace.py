"""A whole network driven by a script, its votes, certificates and deliveries as one line an event."""

from __future__ import annotations

import shlex

from coordinator.consensus.certificate import Certificate
from coordinator.consensus.config import Config
from coordinator.consensus.effects import Broadcast, Deliver, Effect, EpochBegun, PeerFault, Send
from coordinator.consensus.messages import Hello, Message, Proposal, Vote
from tests.coordinator.consensus.script import Script
from tests.coordinator.consensus.support import NAMES, SECOND, Faults, Liar, Network, Node, simulated_chain

_KINDS = {"proposal": Proposal, "vote": Vote, "certificate": Certificate}


class TraceScript:
    """Runs the command lines of a golden trace."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.drops: list[dict[str, str]] = []
        self.groups: dict[int, int] = {}
        self.only: tuple[str, ...] = ()

    def run(self, commands: str) -> str:
        """Output of the commands."""
        self.lines = []
        for line in commands.strip().splitlines():
            words = shlex.split(line, comments=True)
            if words:
                flags = dict(word.split("=", 1) for word in words[1:] if "=" in word)
                getattr(self, f"do_{words[0]}")(*[word for word in words[1:] if "=" not in word], **flags)
        return "\n".join(self.lines) or "nothing"

    def do_network(self, **flags: str) -> None:
        """`network n=4 epoch=1000 delay=0.5 heartbeat=5`: starts all nodes but those `without`."""
        size, length = int(flags.pop("n", 4)), int(flags.pop("epoch", 1000))
        delay, without = float(flags.pop("delay", 0.5)), flags.pop("without", "")
        chain = simulated_chain(size, length)
        options = {f"{name}_ns": int(float(value) * SECOND) for name, value in flags.items()}
        config = Config(SECOND, length, delta_cap_ns=8 * SECOND, **options)
        self.network = Network(0, size, Faults(), chain=chain, config=config, fixed_delay_ns=int(delay * SECOND))
        self.script = Script(size=size, epoch_length=length)
        self.script.chain, self.script.blocks = chain, {"g": chain.genesis()}
        self.script.names = {chain.genesis().digest: "g"}
        self.network.observers.append(self.observe)
        self.network.filter = self.passes
        for node in self.network.nodes:
            if NAMES[node.index] in without:
                node.up = False
            else:
                node.start()

    def observe(self, node: Node, effect: Effect) -> None:
        """Write down what others can see."""
        if isinstance(effect, Broadcast | Send):
            if isinstance(effect.message, Hello):
                return
            self.learn(effect.message)
        elif not isinstance(effect, Deliver | EpochBegun | PeerFault):
            return
        time = self.network.now_ns / SECOND
        self.lines.append(f"{time:<5g} {NAMES[node.index]} {self.script.describe(effect)}")

    def learn(self, message: Message) -> None:
        """Name a block after its height and the view of its first proposal."""
        if isinstance(message, Proposal) and message.header.digest not in self.script.names:
            name = f"h{message.header.height}v{message.view}"
            self.script.names[message.header.digest] = name
            self.script.blocks[name] = message.header

    def passes(self, source: int, to: int, message: Message) -> bool:
        """Whether a message gets through the partition and the drops."""
        if self.groups and self.groups.get(source) != self.groups.get(to):
            return False
        return not any(self.matches(drop, source, to, message) for drop in self.drops)

    def matches(self, drop: dict[str, str], source: int, to: int, message: Message) -> bool:
        """Whether a drop applies."""
        if NAMES[source] not in drop.get("from", NAMES) or NAMES[to] not in drop.get("to", NAMES):
            return False
        if "kind" in drop and not isinstance(message, _KINDS[drop["kind"]]):
            return False
        if "vote" in drop:
            return isinstance(message, Vote) and message.kind.name.lower() == drop["vote"]
        return True

    def do_run(self, until: str) -> None:
        """Run up to a time in delays."""
        self.network.run(float(until))

    def do_quiet(self, until: str) -> None:
        """Run without writing down."""
        mark = len(self.lines)
        self.network.run(float(until))
        del self.lines[mark:]

    def do_drop(self, **flags: str) -> None:
        """Drop messages: from=, to=, kind=proposal|vote|certificate, vote=notarize|nullify|finalize."""
        self.drops.append(flags)

    def do_deliver(self) -> None:
        """Drop nothing any more."""
        self.drops = []

    def do_cut(self, *groups: str) -> None:
        """Partition: `cut AB CD`."""
        self.groups = {NAMES.index(name): number for number, group in enumerate(groups) for name in group}

    def do_heal(self) -> None:
        """No partition."""
        self.groups = {}

    def do_crash(self, names: str, down: str) -> None:
        """Crash nodes for a while."""
        for name in names:
            self.network.crash(self.network.nodes[NAMES.index(name)], float(down))

    def do_begin(self, name: str) -> None:
        """Start a node that was left out."""
        node = self.network.nodes[NAMES.index(name)]
        node.up = True
        node.start()

    def do_liar(self, name: str, style: str) -> None:
        """Make a node lie."""
        index = NAMES.index(name)
        self.network.liars[index] = Liar(self.network, self.network.nodes[index], style)

    def do_status(self) -> None:
        """Where everybody stands."""
        for node in self.network.nodes:
            status = node.core.status
            where = (
                f"epoch {status.epoch} view {status.view} final {status.final_view} height {status.delivered.height}"
            )
            self.lines.append(f"{NAMES[node.index]} {where if node.up else 'down'}")
