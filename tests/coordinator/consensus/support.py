"""A small deterministic network of cores: virtual time, seeded faults, crashes between any two effects, liars."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.consensus import messages
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.config import Config
from coordinator.consensus.core import Core
from coordinator.consensus.effects import (
    Broadcast,
    Build,
    Certify,
    Deliver,
    Effect,
    EpochBegun,
    PeerFault,
    Persist,
    Send,
    SendPayload,
    ServeBlock,
    ServePayload,
    ServeRange,
    SetTimer,
    StorePayload,
)
from coordinator.consensus.epochs import EpochConfig
from coordinator.consensus.header import Header, payload_digest
from coordinator.consensus.host import DurabilityCheck
from coordinator.consensus.inputs import (
    Built,
    Certified,
    EpochKnown,
    Input,
    PayloadStored,
    Received,
    Recovered,
    Start,
    TimerFired,
)
from coordinator.consensus.journal import Record
from coordinator.consensus.messages import Blocks, Message, Payload, Proposal, Vote
from coordinator.consensus.signing import Scheme, Signer, SimulatedScheme, SimulatedSigner, VoteKind, vote_bytes
from coordinator.consensus.state import Anchor
from coordinator.consensus.validators import ValidatorSet

SECOND = 1_000_000_000
CHAIN = hashlib.sha256(b"test chain").digest()
ZERO = bytes(32)
NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def sha(*parts: bytes) -> bytes:
    """SHA-256 of the parts."""
    return hashlib.sha256(b"".join(parts)).digest()


@dataclass
class Chain:
    """The genesis of a test chain and the validators of each epoch: the same keys, rotated by one each epoch."""

    signers: list[Signer]
    epoch_length: int = 1_000_000
    sets: dict[int, ValidatorSet] = field(default_factory=dict)

    def validators(self, epoch: int) -> ValidatorSet:
        """The validators of an epoch."""
        if epoch not in self.sets:
            keys = [signer.public_key for signer in self.signers]
            shift = epoch % len(keys)
            self.sets[epoch] = ValidatorSet(CHAIN, epoch, tuple(keys[shift:] + keys[:shift]))
        return self.sets[epoch]

    def epoch_config(self, epoch: int) -> EpochConfig:
        """Validators and version of an epoch."""
        return EpochConfig(self.validators(epoch), 1)

    def genesis(self) -> Header:
        """Height 0."""
        roots = self.validators(0).root, self.validators(0).root
        return Header(1, CHAIN, 0, 0, 0, ZERO, ZERO, sha(b"genesis"), ZERO, ZERO, *roots, payload_digest(b""))

    def block(self, parent: Header, payload: bytes, time_ms: int | None = None) -> Header:
        """A valid block on a parent."""
        epoch = parent.height // self.epoch_length
        return Header(
            version=1,
            chain_id=CHAIN,
            epoch=epoch,
            height=parent.height + 1,
            time_ms=parent.time_ms + 1 if time_ms is None else time_ms,
            parent_digest=parent.digest,
            transactions_root=ZERO,
            state_root=sha(parent.state_root, payload_digest(payload)),
            receipts_root=ZERO,
            history_root=ZERO,
            validators_root=self.validators(epoch).root,
            next_validators_root=self.validators(epoch + 1).root,
            payload_digest=payload_digest(payload),
        )

    def anchor(self, header: Header | None = None, certificate: Certificate | None = None) -> Anchor:
        """Where a node begins."""
        header = self.genesis() if header is None else header
        epoch = header.height // self.epoch_length
        return Anchor(header, certificate, (self.epoch_config(epoch), self.epoch_config(epoch + 1)))


def simulated_chain(size: int, epoch_length: int = 1_000_000) -> Chain:
    """A chain of validators with simulated keys."""
    return Chain([SimulatedSigner(bytes([i])) for i in range(size)], epoch_length)


@dataclass
class Disk:
    """What survives a crash: the journal, delivered blocks with their finalizations, payloads."""

    records: list[Record] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    finalizations: dict[int, Certificate] = field(default_factory=dict)
    payloads: dict[bytes, bytes] = field(default_factory=dict)


class Node:
    """A host in memory: carries effects out, runs a small application, crashes when told to."""

    def __init__(self, network: Network, index: int) -> None:
        self.network = network
        self.index = index
        self.signer = network.chain.signers[index]
        self.key = self.signer.public_key
        self.disk = Disk(headers=[network.chain.genesis()])
        self.incarnation = 0
        self.up = True
        self.lost_records = False
        self.faults: list[PeerFault] = []
        self.boot()

    def boot(self) -> None:
        """A fresh process over the disk."""
        newest = max(self.disk.finalizations, default=None)
        certificate = None if newest is None else self.disk.finalizations[newest]
        anchor = self.network.chain.anchor(self.disk.headers[-1], certificate)
        self.core = Core(self.network.config, self.signer, self.network.scheme, anchor)
        self.executed = {self.disk.headers[-1].digest: self.disk.headers[-1]}
        self.check = DurabilityCheck()
        self.inbox: deque[Input] = deque()
        self.synced = (len(self.disk.records), len(self.disk.headers))

    def start(self, rejoin_nonce: int | None = None) -> None:
        """Replay the journal and start."""
        self.run(Recovered(tuple(self.disk.records)))
        self.run(Start(rejoin_nonce))

    def run(self, event: Input) -> None:
        """Step with an input and with the answers that the host gives at once."""
        self.inbox.append(event)
        while self.inbox and self.up:
            effects = self.core.step(self.network.now_ns, self.inbox.popleft())
            self.network.events += 1
            self.network.trace(self, effects)
            self.carry_out(effects)

    def carry_out(self, effects: tuple[Effect, ...]) -> None:
        """Effects in order, or only the first of them and then a crash."""
        cut = self.network.crash_cut(self, len(effects))
        for number, effect in enumerate(effects):
            if number == cut:
                break
            if self.check.needs_sync(effect):
                self.sync()
            self.check.before(effect)
            self.network.carry_out(self, effect)
        if cut is not None:
            self.network.crash(self)
            return
        self.sync()
        self.check.end_of_step()
        if self.network.random.random() < self.network.faults.compaction:
            self.disk.records = list(self.core.checkpoint())

    def sync(self) -> None:
        """Everything written so far is durable."""
        self.check.synced()
        self.synced = (len(self.disk.records), len(self.disk.headers))

    def lose_unsynced(self) -> None:
        """A crash may lose what was written after the last sync."""
        records, headers = self.synced
        del self.disk.records[records:]
        for header in self.disk.headers[headers:]:
            self.disk.finalizations.pop(header.height, None)
        del self.disk.headers[headers:]

    def local(self, effect: Effect) -> None:
        """Effects that concern this node alone."""
        disk = self.disk
        if isinstance(effect, Persist):
            disk.records.append(effect.record)
        elif isinstance(effect, StorePayload):
            disk.payloads[effect.digest] = effect.payload
            self.inbox.append(PayloadStored(effect.digest))
        elif isinstance(effect, Certify):
            header = effect.header
            assert header.payload_digest in disk.payloads, "certified before the payload was stored"
            parent = self.executed[header.parent_digest]
            ok = header.state_root == sha(parent.state_root, header.payload_digest)
            if ok:
                self.executed[header.digest] = header
            self.inbox.append(Certified(header.digest, ok))
        elif isinstance(effect, Build):
            self.inbox.append(self.network.build(self, effect))
        elif isinstance(effect, Deliver):
            self.deliver(effect)
        elif isinstance(effect, EpochBegun):
            self.inbox.append(EpochKnown(self.network.chain.epoch_config(effect.epoch + 1)))
        elif isinstance(effect, PeerFault):
            self.faults.append(effect)

    def deliver(self, effect: Deliver) -> None:
        """Append to the block store."""
        header = effect.header
        assert header.parent_digest == self.disk.headers[-1].digest, "delivered out of order"
        assert header.payload_digest in self.disk.payloads, "delivered without its payload"
        self.disk.headers.append(header)
        if effect.certificate is not None:
            self.disk.finalizations[header.height] = effect.certificate
        self.executed[header.digest] = header
        self.network.delivered(self, header)

    def serve(self, effect: ServeBlock | ServePayload | ServeRange) -> Message | None:
        """Answers from the store."""
        disk = self.disk
        if isinstance(effect, ServeBlock):
            found = [header for header in disk.headers if header.digest == effect.digest]
            return Blocks((found[0],), None) if found else None
        if isinstance(effect, ServePayload):
            payload = disk.payloads.get(effect.digest)
            return None if payload is None else Payload(payload)
        end = effect.from_height + effect.limit - 1
        heights = [h for h in disk.finalizations if effect.from_height <= h <= end]
        if not heights:
            return None
        top = max(heights)
        return Blocks(tuple(disk.headers[effect.from_height : top + 1]), disk.finalizations[top])


@dataclass
class Faults:
    """What may go wrong before the network becomes stable at `stable_at` delays."""

    loss: float = 0.0
    duplication: float = 0.0
    mean_delay: float = 0.25
    crash: float = 0.0
    partition: float = 0.0
    compaction: float = 0.0
    stable_at: float = 0.0
    liars: int = 0
    style: str = "none"


class Network:
    """All nodes, one clock, one event queue."""

    def __init__(
        self,
        seed: int,
        size: int = 4,
        faults: Faults | None = None,
        epoch_length: int = 1_000_000,
        fixed_delay_ns: int | None = None,
        config: Config | None = None,
        scheme: Scheme | None = None,
        chain: Chain | None = None,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.fixed_delay_ns = fixed_delay_ns
        self.delta_ns = SECOND
        self.chain = chain or simulated_chain(size, epoch_length)
        self.config = config or Config(self.delta_ns, self.chain.epoch_length, delta_cap_ns=4 * self.delta_ns)
        self.scheme = scheme or SimulatedScheme()
        self.now_ns = 0
        self.events = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.sequence = 0
        self.cut_off: list[int] | None = None
        self.oracle = Oracle(self.chain)
        self.digest = hashlib.sha256()
        self.bytes_sent = 0
        self.messages_sent = 0
        self.observers: list[Callable[[Node, Effect], None]] = []
        self.filter: Callable[[int, int, Message], bool] | None = None
        self.liars: dict[int, Liar] = {}
        self.nodes: list[Node] = []
        self.index_of = {signer.public_key: i for i, signer in enumerate(self.chain.signers)}
        liars = self.random.sample(range(size), self.faults.liars)
        self.nodes = [Node(self, i) for i in range(len(self.chain.signers))]
        self.liars = {i: Liar(self, self.nodes[i], self.faults.style) for i in sorted(liars)}

    @property
    def honest(self) -> list[Node]:
        """Nodes that keep to the protocol."""
        return [node for node in self.nodes if node.index not in self.liars]

    @property
    def is_stable(self) -> bool:
        """Whether messages arrive in time from now on."""
        return self.now_ns >= self.faults.stable_at * self.delta_ns

    def start(self) -> Network:
        """Start all nodes."""
        for node in self.nodes:
            node.start()
        self.at(self.delta_ns, self.disturb)
        return self

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Do something at a time."""
        self.sequence += 1
        heapq.heappush(self.queue, (time_ns, self.sequence, action))

    def run(self, until: float) -> None:
        """Run up to a time in network delays."""
        limit_ns = int(until * self.delta_ns)
        while self.queue and self.queue[0][0] <= limit_ns:
            self.now_ns, _, action = heapq.heappop(self.queue)
            action()
        self.now_ns = limit_ns

    def disturb(self) -> None:
        """Partitions come and go, all or one crash; healed for good once the network is stable."""
        if self.is_stable:
            self.cut_off = None
            return
        draw, faults = self.random, self.faults
        if draw.random() < faults.partition:
            members = draw.sample(range(len(self.nodes)), draw.randint(1, len(self.nodes) - 1))
            self.cut_off = None if self.cut_off else sorted(members)
        if draw.random() < faults.crash:
            for node in self.nodes:
                self.crash(node)
        self.at(self.now_ns + self.delta_ns, self.disturb)

    def crash_cut(self, node: Node, effects: int) -> int | None:
        """Before which effect the node crashes, if it does."""
        if self.is_stable or node.index in self.liars or self.random.random() >= self.faults.crash:
            return None
        return self.random.randint(0, effects)

    def crash(self, node: Node, down: float | None = None) -> None:
        """Lose everything but the disk; restart after a while."""
        if not node.up or node.index in self.liars:
            return
        node.up = False
        node.incarnation += 1
        if self.random.random() < 0.5:
            node.lose_unsynced()
        pause = self.random.uniform(0.5, 20.0) if down is None else down
        self.at(self.now_ns + int(pause * self.delta_ns), lambda: self.restart(node))

    def restart(self, node: Node, rejoin_nonce: int | None = None) -> None:
        """Boot over the disk."""
        node.up = True
        node.boot()
        node.start(rejoin_nonce)

    def carry_out(self, node: Node, effect: Effect) -> None:
        """One effect of a node, by itself or as its liar twists it."""
        for observer in self.observers:
            observer(node, effect)
        if isinstance(effect, Broadcast | Send | SendPayload | ServeBlock | ServePayload | ServeRange):
            for to, message in self.outgoing(node, effect):
                liar = self.liars.get(node.index)
                if liar is None:
                    self.oracle.sent(node.index, message)
                    self.transmit(node.index, to, message)
                else:
                    liar.send(to, message)
        elif isinstance(effect, SetTimer):
            incarnation = node.incarnation
            self.at(effect.at_ns, lambda: self.fire(node, incarnation, TimerFired(effect.timer)))
        else:
            node.local(effect)

    def outgoing(self, node: Node, effect: Effect) -> list[tuple[int, Message]]:
        """Who gets what."""
        if isinstance(effect, Broadcast):
            return [(self.index_of[key], effect.message) for key in effect.recipients]
        if isinstance(effect, SendPayload):
            return [(self.index_of[key], Payload(effect.payload)) for key in effect.recipients]
        if isinstance(effect, Send):
            return [(self.index_of[effect.to], effect.message)]
        assert isinstance(effect, ServeBlock | ServePayload | ServeRange)
        answer = node.serve(effect)
        return [] if answer is None else [(self.index_of[effect.to], answer)]

    def fire(self, node: Node, incarnation: int, event: TimerFired) -> None:
        """A timer of this incarnation."""
        if node.up and node.incarnation == incarnation:
            node.run(event)

    def transmit(self, source: int, to: int, message: Message) -> None:
        """The network's whims."""
        self.messages_sent += 1
        if self.filter is not None and not self.filter(source, to, message):
            return
        draw, faults = self.random, self.faults
        if self.fixed_delay_ns is not None:
            delay_ns = self.fixed_delay_ns
        elif self.is_stable:
            delay_ns = int(draw.uniform(0.02, 0.4) * self.delta_ns)
        else:
            if draw.random() < faults.loss:
                return
            if self.cut_off is not None and (source in self.cut_off) != (to in self.cut_off):
                return
            delay_ns = int((draw.expovariate(1 / faults.mean_delay) + 0.02) * self.delta_ns)
            if draw.random() < faults.duplication:
                later_ns = delay_ns + int(draw.uniform(0, 5) * self.delta_ns)
                self.at(self.now_ns + later_ns, lambda: self.arrive(source, to, message))
        self.at(self.now_ns + delay_ns, lambda: self.arrive(source, to, message))

    def arrive(self, source: int, to: int, message: Message) -> None:
        """A message reaches a node that is up."""
        node = self.nodes[to]
        if node.up:
            liar = self.liars.get(to)
            if liar is not None:
                liar.see(message)
            node.run(Received(self.nodes[source].key, message))

    def build(self, node: Node, effect: Build) -> Input:
        """The application's block."""
        payload = f"{node.index}.{effect.view}.{effect.height}".encode()
        header = self.chain.block(effect.parent, payload, effect.time_ms)
        node.executed[header.digest] = header
        return Built(effect.view, header, payload)

    def delivered(self, node: Node, header: Header) -> None:
        """Agreement."""
        if node.index not in self.liars:
            self.oracle.delivered(node.index, header)

    def trace(self, node: Node, effects: tuple[Effect, ...]) -> None:
        """Fingerprint of everything that happened."""
        self.digest.update(repr((self.now_ns, node.index, [type(e).__name__ for e in effects])).encode())
        for effect in effects:
            if isinstance(effect, Broadcast | Send):
                self.digest.update(messages.encode(effect.message))


class Oracle:
    """What honest nodes must never do, restated independently of the core; across restarts."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.votes: dict[tuple[int, int, int], dict[VoteKind, tuple[int, bytes]]] = {}
        self.certificates: dict[tuple[int, int], dict[VoteKind, tuple[int, bytes]]] = {}
        self.blocks: dict[int, bytes] = {}
        self.heights: dict[int, int] = {}

    def sent(self, index: int, message: Message) -> None:
        """A message of an honest node."""
        if isinstance(message, Proposal):
            self.vote(index, VoteKind.NOTARIZE, message.epoch, message.view, message.value)
            for certificate in message.justification:
                self.certificate(certificate)
        elif isinstance(message, Vote):
            self.vote(index, message.kind, message.epoch, message.view, message.value)
        elif isinstance(message, Certificate):
            self.certificate(message)

    def vote(self, index: int, kind: VoteKind, epoch: int, view: int, value: tuple[int, bytes]) -> None:
        """One vote of a kind a view; finalize excludes nullify."""
        cast = self.votes.setdefault((index, epoch, view), {})
        known = cast.setdefault(kind, value)
        assert known == value, f"SAFETY node {index} voted {kind.name} twice in view {epoch}.{view}"
        both = VoteKind.NULLIFY in cast and VoteKind.FINALIZE in cast
        assert not both, f"SAFETY node {index} voted nullify and finalize in view {epoch}.{view}"

    def certificate(self, certificate: Certificate) -> None:
        """One value a view; finalization excludes nullification; honest arithmetic of the quorum."""
        n = len(self.chain.signers)
        assert 3 * len(certificate.signers) > 2 * (n - 1), "SAFETY a certificate of too few"
        cast = self.certificates.setdefault((certificate.epoch, certificate.view), {})
        known = cast.setdefault(certificate.kind, certificate.value)
        assert known == certificate.value, f"SAFETY two {certificate.kind.name} in view {certificate.view}"
        both = VoteKind.NULLIFY in cast and VoteKind.FINALIZE in cast
        assert not both, f"SAFETY view {certificate.view} is nullified and finalized"

    def delivered(self, index: int, header: Header) -> None:
        """All deliver the same block at a height."""
        known = self.blocks.setdefault(header.height, header.digest)
        assert known == header.digest, f"SAFETY node {index} delivered another block at height {header.height}"
        self.heights[index] = max(header.height, self.heights.get(index, 0))


class Liar:
    """Twists what an otherwise running node sends."""

    def __init__(self, network: Network, node: Node, style: str) -> None:
        self.network = network
        self.node = node
        self.style = style
        self.seen: dict[int, dict[tuple[int, bytes], None]] = {}
        self.headers: deque[tuple[int, Header]] = deque(maxlen=64)
        self.twins: dict[tuple[int, int], Proposal] = {}

    def see(self, message: Message) -> None:
        """Remember what is voted for, to vote for it as well."""
        if isinstance(message, Proposal):
            self.seen.setdefault(message.view, {})[message.value] = None
            self.headers.append((message.view, message.header))

    def send(self, to: int, message: Message) -> None:
        """Send something, to somebody, or nothing."""
        network, draw = self.network, self.network.random
        if self.style == "silent":
            return
        if self.style == "late":
            delay_ns = int(draw.uniform(0, 6) * network.delta_ns)
            network.at(network.now_ns + delay_ns, lambda: network.transmit(self.node.index, to, message))
            return
        if self.style == "minority" and to % 3:
            return
        if draw.random() < 0.3:
            return
        if isinstance(message, Proposal):
            self.see(message)
            network.transmit(self.node.index, to, self.twin(message) if draw.random() < 0.5 else message)
        elif isinstance(message, Vote):
            self.vote_for_all(to, message)
        else:
            network.transmit(self.node.index, to, message)

    def twin(self, proposal: Proposal) -> Proposal:
        """Another block in the same view, now and then on a stale parent."""
        draw = self.network.random
        which = draw.randrange(2)
        key = (proposal.view, which)
        if key not in self.twins:
            parent_view, parent = proposal.parent_view, None
            older = [(view, header) for view, header in self.headers if view < proposal.view]
            if self.style == "stale" and older:
                parent_view, parent = draw.choice(older)
            if parent is None:
                known = [h for h in self.node.disk.headers if h.digest == proposal.header.parent_digest]
                known += [h for _, h in self.headers if h.digest == proposal.header.parent_digest]
                parent = known[0] if known else None
            if parent is None or parent.height + 1 > (proposal.epoch + 1) * self.network.chain.epoch_length:
                return proposal
            payload = f"twin {which} {proposal.view}".encode()
            header = self.network.chain.block(parent, payload, max(parent.time_ms + 1, proposal.header.time_ms))
            value = (parent_view, header.digest)
            signature = self.sign(VoteKind.NOTARIZE, proposal.epoch, proposal.view, value)
            self.node.disk.payloads[header.payload_digest] = payload
            self.headers.append((proposal.view, header))
            self.seen.setdefault(proposal.view, {})[value] = None
            self.twins[key] = Proposal(
                proposal.epoch, proposal.view, parent_view, header, signature, proposal.justification
            )
        return self.twins[key]

    def vote_for_all(self, to: int, vote: Vote) -> None:
        """Votes of every kind for everything seen in the view."""
        network, draw = self.network, self.network.random
        values = list(self.seen.get(vote.view, {}))
        for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
            draw.shuffle(values)
            for value in values:
                signature = self.sign(kind, vote.epoch, vote.view, value)
                network.transmit(self.node.index, to, Vote(kind, vote.epoch, vote.view, *value, signature))
        if draw.random() < 0.7:
            signature = self.sign(VoteKind.NULLIFY, vote.epoch, vote.view, (0, ZERO))
            network.transmit(self.node.index, to, Vote(VoteKind.NULLIFY, vote.epoch, vote.view, 0, ZERO, signature))

    def sign(self, kind: VoteKind, epoch: int, view: int, value: tuple[int, bytes]) -> bytes:
        """A valid signature on anything."""
        return self.node.signer.sign(vote_bytes(kind, CHAIN, epoch, view, *value))


STYLES = ("none", "equivocate", "stale", "silent", "late", "minority")


def swarm(seed: int) -> Network:
    """A network whose faults are drawn from its seed: a helpful liar hides stalls, a silent one hides forks."""
    draw = random.Random(f"swarm {seed}")
    size = draw.choice([4, 4, 5, 7])
    style = draw.choice(STYLES)
    faults = Faults(
        loss=draw.choice([0, 0.05, 0.2, 0.4]),
        duplication=draw.choice([0, 0.2]),
        mean_delay=draw.choice([0.1, 0.5, 3.0]),
        crash=draw.choice([0, 0.002, 0.01]),
        partition=draw.choice([0, 0.05, 0.2]),
        compaction=draw.choice([0, 0.02]),
        stable_at=250.0,
        liars=0 if style == "none" else (size - 1) // 3,
        style=style,
    )
    return Network(seed, size, faults, epoch_length=draw.choice([3, 10, 1_000_000]))


def run_swarm(seed: int) -> Network:
    """Safety while everything fails, then progress of every honest node once the network is stable."""
    network = swarm(seed)
    try:
        network.start()
        network.run(250)
        before = {node.index: node.core.status.delivered.height for node in network.honest}
        network.run(400)
        for node in network.honest:
            height = node.core.status.delivered.height
            assert node.up, f"LIVENESS node {node.index} is still down"
            assert height > before[node.index] + 5, (
                f"LIVENESS node {node.index} height {before[node.index]} -> {height} {node.core.status}"
            )
    except Exception as error:
        error.add_note(
            f"seed {seed}: {network.faults}, n = {len(network.nodes)}, epochs of {network.chain.epoch_length}"
        )
        raise
    return network
