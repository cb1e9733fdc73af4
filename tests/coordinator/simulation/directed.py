"""Runs that are made for one danger each, where random seeds are poor at finding it. Each raises if it strikes."""

from __future__ import annotations

import random
from collections.abc import Callable

from coordinator.consensus import guards
from coordinator.consensus.certificate import Certificate
from coordinator.consensus.effects import Build
from coordinator.consensus.header import Header
from coordinator.consensus.journal import CertificateRecord
from coordinator.consensus.messages import Message, Proposal, Vote
from coordinator.consensus.signing import VoteKind, vote_bytes
from coordinator.consensus.state import State
from coordinator.simulation.chain import Chain
from coordinator.simulation.errors import LivenessFailure, SafetyFailure
from coordinator.simulation.node import Node
from coordinator.simulation.options import DELTA_NS, Options
from coordinator.simulation.simulation import stuck
from coordinator.simulation.trace import Trace
from coordinator.simulation.world import World

Filter = Callable[[Node, int, Message], bool]
_fault_of_child = guards.fault_of_child


class FilteredChain(Chain):
    """A chain in which a test decides what passes."""

    filter: Filter | None = None

    def passes(self, node: Node, target: int, message: Message) -> bool:
        """As the filter says."""
        return self.filter is None or self.filter(node, target, message)


def make(options: Options | None = None, delay_ns: int = DELTA_NS // 10) -> FilteredChain:
    """A chain of four without faults, every message taking the same time."""
    world = World(random.Random(0), Trace())
    chain = FilteredChain(world, "chain", options or Options(4), 0)
    chain.network.fixed_delay_ns = delay_ns
    return chain


def until(chain: Chain, height: int, deltas: int, but: tuple[int, ...] = ()) -> None:
    """Every node, except some, delivers so many blocks in time; LivenessFailure otherwise."""
    nodes = [node for node in chain.nodes if node.number not in but]
    deadline_ns = chain.world.now_ns + deltas * DELTA_NS
    chain.world.run(deadline_ns, lambda: min(node.height for node in nodes) >= height)
    behind = [node for node in nodes if node.height < height]
    if behind:
        raise LivenessFailure(stuck(behind, height))


def is_vote(message: Message, kind: VoteKind) -> bool:
    """Whether a message is a vote of a kind."""
    return isinstance(message, Vote) and message.kind is kind


def slow_network() -> None:
    """Messages take five times what the configuration assumes: only growing timeouts let a view succeed."""
    chain = make(delay_ns=5 * DELTA_NS)
    chain.start()
    until(chain, 3, 2000)


def lost_nullify_votes() -> None:
    """The leader is silent, and all nullify votes of the first 5 deltas are lost; standstill comes at 10."""
    chain = make()
    leader = 1
    chain.filter = lambda node, target, message: (
        leader not in (node.number, target)
        and (chain.world.now_ns > 5 * DELTA_NS or isinstance(message, Vote | Certificate) is False)
    )
    chain.start()
    chain.world.run(5 * DELTA_NS, lambda: False)
    _retry_within(chain, 2, but=leader)


def _retry_within(chain: Chain, deltas: int, but: int) -> None:
    """The nodes leave their view before the standstill timer, at 10 deltas, helps."""
    nodes = [node for node in chain.nodes if node.number != but]
    chain.world.run(int(9.9 * DELTA_NS), lambda: all(node.position[1] > 1 for node in nodes))
    behind = [node for node in nodes if node.position[1] == 1]
    if behind:
        raise LivenessFailure(f"node {behind[0].number} is still in view 1: its nullify vote was not repeated")


def lost_nullify_votes_and_standstill() -> None:
    """The same without retries: the standstill timer alone must bring the votes back."""
    chain = make()
    leader = 1
    chain.filter = lambda node, target, message: (
        leader not in (node.number, target)
        and (chain.world.now_ns > 8 * DELTA_NS or isinstance(message, Vote | Certificate) is False)
    )
    chain.start()
    until(chain, 2, 300, but=(leader,))


def all_restart_after_nullify() -> None:
    """P5: the leader is silent, the others vote nullify, lose all messages, and restart: every vote is needed again."""
    chain = make()
    leader = 1
    chain.filter = lambda node, target, _: leader not in (node.number, target) and chain.world.now_ns > 6 * DELTA_NS
    chain.start()
    chain.world.run(5 * DELTA_NS, lambda: False)
    for node in chain.nodes:
        if node.number != leader:
            node.crash()
    until(chain, 2, 300, but=(leader,))


def votes_of_another_epoch() -> None:
    """Votes of a validator in an epoch that the others have not begun must leave no trace in theirs."""
    chain = make()
    chain.start()
    until(chain, 2, 50)
    victim, liar = chain.nodes[0], chain.nodes[1]
    assert victim.core is not None
    view = victim.position[1]
    digest = b"\x07" * 32
    fields = (chain.application.chain_id, 1, view, view - 1, digest)
    signature = liar.signer.sign(vote_bytes(VoteKind.NOTARIZE, *fields))
    vote = Vote(VoteKind.NOTARIZE, 1, view, view - 1, digest, signature)
    victim.receive(liar.signer.public_key, vote, "1>vote")
    current = victim.core._state.rounds.get(view)
    tally = None if current is None else current.tallies.get(VoteKind.NOTARIZE)
    if tally is not None and tally.count((view - 1, digest)):
        raise SafetyFailure("a vote of epoch 1 was counted in epoch 0")


def laggard_is_helped() -> None:
    """R9: one node hears nothing but certificates: the one that ends its view comes in answer to its own vote."""
    chain = make()
    laggard = 0
    chain.filter = lambda node, target, message: target != laggard or isinstance(message, Certificate)
    chain.start()
    chain.world.run(8 * DELTA_NS, lambda: chain.nodes[laggard].position[1] > 1)
    if chain.nodes[laggard].position[1] == 1:
        raise LivenessFailure("the laggard is in view 1, and nobody has answered its vote")


def nullify_after_finalize() -> None:
    """R7: certificates are not needed for safety. Without them a restart leads back into the view of the last vote."""
    chain = make()
    chain.filter = lambda node, target, message: not is_vote(message, VoteKind.FINALIZE)
    chain.start()
    chain.world.run(50 * DELTA_NS, lambda: any(cast.finalize for cast in chain.oracle.votes.values()))
    node = chain.nodes[next(key[2] for key, cast in chain.oracle.votes.items() if cast.finalize)]
    node.crash()
    node.disk.entries = [entry for entry in node.disk.entries if not isinstance(entry, CertificateRecord)]
    node.disk.synced = len(node.disk.entries)
    chain.filter = lambda source, target, message: target != node.number
    node.boot()
    chain.world.run(chain.world.now_ns + 20 * DELTA_NS, lambda: False)


def parent_below_finality() -> None:
    """R3: a proposal on a parent below finality is wrong for ever; waiting for its ancestry would be in vain."""
    chain = make()
    chain.start()
    until(chain, 3, 50)
    victim, length = chain.nodes[0], len(chain.nodes)
    chain.filter = lambda node, target, message: not isinstance(message, Proposal)
    chain.world.run(chain.world.now_ns + 30 * DELTA_NS, lambda: victim.position[1] % length not in (0, 3))
    view = victim.position[1]
    leader = chain.nodes[view % length]
    genesis = chain.application.genesis
    current, _ = chain.application.epochs_after(genesis)
    template = Build(view, genesis.header, 1, 0, 1, genesis.header.time_ms + 1, current.validators.root)
    header, _ = chain.application.build(genesis, template, (b"late",))
    signed = vote_bytes(VoteKind.NOTARIZE, chain.application.chain_id, 0, view, 0, header.digest)
    proposal = Proposal(0, view, 0, header, leader.signer.sign(signed))
    victim.receive(leader.signer.public_key, proposal, f"{leader.number}>proposal")
    assert victim.core is not None
    if not victim.core._state.round(view).my_nullify:
        raise LivenessFailure(f"view {view} is not given up for a proposal that can never be notarized")


def fault_of_child_without_time(state: State, header: Header, parent: Header) -> str | None:
    """The guard without its look at the time."""
    fault = _fault_of_child(state, header, parent)
    return None if fault is not None and "time" in fault else fault


def lost_disk_at_the_end_of_an_epoch() -> None:
    """The victim alone knows that epoch 0 is over, votes in epoch 1, and loses its disk."""
    victim_number, quiet_views = 2, 6
    chain = make(Options(4, epoch_length=1))
    victim = chain.nodes[victim_number]

    def passes(node: Node, target: int, message: Message) -> bool:
        first_life = victim.restarts == 0
        if isinstance(message, Vote) and message.kind is VoteKind.FINALIZE and message.view <= quiet_views:
            return target == victim_number and message.view == 1 and first_life
        return not (node is victim and node.position[0] == 1 and first_life)

    chain.filter = passes
    chain.start()
    chain.world.run(100 * DELTA_NS, lambda: (1, 1, victim_number) in chain.oracle.votes)
    assert (1, 1, victim_number) in chain.oracle.votes, "the victim votes in the next epoch, alone"
    assert all(node.height == 0 for node in chain.nodes if node is not victim)
    victim.crash()
    victim.disk.lose_everything()
    victim.boot()
    until(chain, 5, 400)


DIRECTED = (
    slow_network,
    lost_nullify_votes,
    lost_nullify_votes_and_standstill,
    all_restart_after_nullify,
    votes_of_another_epoch,
    laggard_is_helped,
    nullify_after_finalize,
    parent_below_finality,
    lost_disk_at_the_end_of_an_epoch,
)
